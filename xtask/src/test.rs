//! `cargo xtask test`: everything that is tested, and one line of counts at the end.
//!
//! Parts run in the order of their cost; a part that fails does not keep the others from running, except that nothing can be
//! tested without the built program.

use std::fs;
use std::io::{BufRead, BufReader};
use std::iter::Sum;
use std::ops::AddAssign;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::command::{command, output, run as run_command, text};
use crate::disk;
use crate::paths::{self, Staging};
use crate::{clients, elf, images, newer, registry, setup, tidy, vm};

/// Names of the parts, as `cargo xtask test PART...` takes them.
pub const PARTS: &[&str] = &["tidy", "fmt", "clippy", "unit", "native", "user", "vm"];

/// How many tests ended how.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Counts {
    passed: u64,
    failed: u64,
    skipped: u64,
}

impl AddAssign for Counts {
    fn add_assign(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.skipped += other.skipped;
    }
}

impl Sum for Counts {
    fn sum<I: Iterator<Item = Self>>(counts: I) -> Self {
        counts.fold(Self::default(), |mut all, each| {
            all += each;
            all
        })
    }
}

impl Counts {
    fn one(passed: bool) -> Self {
        Self { passed: u64::from(passed), failed: u64::from(!passed), skipped: 0 }
    }
}

/// Runs the parts named, or all; words after `--` choose black-box tests. Fails when a test fails.
pub fn run(words: &[&str]) -> Result<()> {
    let split = words.iter().position(|word| *word == "--").unwrap_or(words.len());
    let (parts, filters) = (&words[..split], words.get(split + 1..).unwrap_or_default());
    if let Some(unknown) = parts.iter().find(|part| !PARTS.contains(part)) {
        bail!("test: no part {unknown}; there are: {}", PARTS.join(" "));
    }
    let wanted = |part: &str| parts.is_empty() || parts.contains(&part);
    let started = Instant::now();
    let mut counts = Counts::default();
    let to_be_tested = ["native", "user", "vm"].into_iter().any(wanted);
    // Linking the release takes one processor for minutes, which checks and unit tests leave alone.
    let release = to_be_tested.then(|| thread::spawn(build_release));
    if wanted("tidy") {
        counts += part("tidy", tidy_checks);
    }
    if wanted("fmt") {
        counts += part("fmt", || passes(command("cargo", ["fmt", "--all", "--check"])));
    }
    if wanted("clippy") {
        let words = ["clippy", "--quiet", "--workspace", "--all-targets", "--", "--deny", "warnings"];
        counts += part("clippy", || passes(command("cargo", words)));
    }
    let prepared = prepare();
    if wanted("unit") {
        counts += part("unit tests", unit_tests);
    }
    if let Some(release) = release {
        let built = release.join().unwrap_or_else(|_| bail!("the thread that builds panicked"));
        counts += match prepared.and(built).and_then(|()| Stage::new(wanted("unit"))) {
            Ok(stage) => black_box(&stage, wanted, filters),
            Err(error) => part("black-box tests", || Err(error)),
        };
    }
    println!("\ntest: {:.0} s", started.elapsed().as_secs_f64());
    println!("{} passed, {} failed, {} skipped", counts.passed, counts.failed, counts.skipped);
    if counts.failed > 0 {
        bail!("tests failed");
    }
    Ok(())
}

fn part(name: &str, run: impl FnOnce() -> Result<Counts>) -> Counts {
    println!("\n== {name}");
    let began = Instant::now();
    let counts = run().unwrap_or_else(|error| {
        println!("{name}: FAILED: {error:#}");
        Counts::one(false)
    });
    println!("== {name}: {:.0} s", began.elapsed().as_secs_f64());
    counts
}

/// The black-box tests in the places wanted. Lanes of machines run beside each other: on two processors each is half as slow again as
/// alone, so all are done in four fifths of the time.
fn black_box(stage: &Stage, wanted: impl Fn(&str) -> bool, filters: &[&str]) -> Counts {
    let mut counts = Counts::default();
    let run = |name: &str, place: &Place| part(&format!("black-box tests: {name}"), || stage.run(place, filters));
    for (name, place) in HERE.iter().filter(|(name, _)| wanted(part_of(name))) {
        counts += run(name, place);
    }
    if wanted("vm") {
        if let Err(error) = vm::prepare() {
            counts += part("the machine", || Err(error));
            return counts;
        }
        thread::scope(|scope| {
            let lanes = MACHINES
                .map(|lane| scope.spawn(move || lane.iter().map(|(name, place)| run(name, place)).sum::<Counts>()));
            for lane in lanes {
                counts += lane.join().unwrap_or_else(|_| Counts::one(false));
            }
        });
    }
    counts
}

/// The part that a place belongs to: the first word of its name.
fn part_of(name: &str) -> &str {
    name.split(',').next().unwrap_or(name)
}

/// Packages, images and what the registry serves.
fn prepare() -> Result<()> {
    println!("\n== packages and images");
    setup::run(&[setup::Set::Test])?;
    images::run(None)?;
    registry::storage()?;
    clients::run()?;
    Ok(())
}

fn tidy_checks() -> Result<Counts> {
    let checks = tidy::checks()?;
    tidy::report(&checks);
    let mut counts = Counts::default();
    for check in checks {
        counts += Counts::one(check.broken.is_empty());
    }
    Ok(counts)
}

fn passes(mut command: Command) -> Result<Counts> {
    let result = run_command(command.current_dir(paths::workspace()));
    if let Err(error) = &result {
        println!("FAILED: {error:#}");
    }
    Ok(Counts::one(result.is_ok()))
}

/// Tests inside the crates. A test that cannot run prints `SKIP: reason`, which is shown and counted.
fn unit_tests() -> Result<Counts> {
    let mut cargo = command("cargo", ["test", "--quiet", "--workspace", "--no-fail-fast", "--", "--show-output"]);
    let mut child = cargo
        .current_dir(paths::workspace())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .with_context(|| format!("start {}", text(&cargo)))?;
    let mut counts = Counts::default();
    let mut failures = false;
    for line in BufReader::new(child.stdout.take().context("cargo has no output")?).lines() {
        let line = line?;
        if let Some(result) = line.strip_prefix("test result: ") {
            counts += summary(result);
            failures = false;
        } else if line == "failures:" {
            failures = true;
        } else if line.starts_with("SKIP: ") {
            counts.skipped += 1;
            counts.passed = counts.passed.saturating_sub(1);
        } else if line == "successes:" {
            failures = false;
        }
        if failures
            || line.starts_with("SKIP: ")
            || line.starts_with("test result: ") && !line.contains(" 0 passed; 0 failed")
        {
            println!("{line}");
        }
    }
    let status = child.wait()?;
    if !status.success() && counts.failed == 0 {
        bail!("{}: {status}", text(&cargo));
    }
    Ok(counts)
}

/// Counts of a line `ok. 3 passed; 0 failed; 1 ignored; …`.
fn summary(line: &str) -> Counts {
    let number = |name: &str| {
        let before = line.split(name).next().filter(|before| before.len() < line.len())?;
        before.split_whitespace().next_back()?.parse().ok()
    };
    Counts {
        passed: number(" passed").unwrap_or(0),
        failed: number(" failed").unwrap_or(0),
        skipped: number(" ignored").unwrap_or(0),
    }
}

/// Where black-box tests run.
enum Place {
    /// On this machine, as root or as an ordinary user.
    Here { user: Option<&'static str> },
    /// In a virtual machine with systemd, with AppArmor or with SELinux enforcing.
    Machine { selinux: bool, user: &'static str, chosen: &'static [&'static str], label: &'static str },
}

/// What differs most where cgroups are v2 alone, systemd has them and AppArmor is on, and what not every kernel has.
/// `cargo xtask test vm -- run:: storage::` runs others.
const KERNEL_FACING: &[&str] = &[
    "run::hello",
    "limits::",
    "security::",
    "services::",
    "oci_groups::",
    "oci_systemd::",
    "combinations::ipvlan",
    "combinations::sctp",
    "nfs::",
    "units::",
];

/// The same for an ordinary user.
const KERNEL_FACING_USER: &[&str] = &[
    "run::hello",
    "limits::",
    "rootless::",
    "services::",
    "oci_groups::",
    "oci_systemd::",
    "users_of_users::set_user_id_bits_stay",
    "units::",
];

/// What SELinux has a say in.
const LABELLED: &[&str] = &["run::hello", "run::init_reaps", "security::selinux"];

const HERE: &[(&str, Place)] =
    &[("native, root", Place::Here { user: None }), ("user, ordinary", Place::Here { user: Some(setup::USER) })];

/// Each lane is one machine after another.
const MACHINES: [&[(&str, Place)]; 2] = [
    &[(
        "vm with systemd, root",
        Place::Machine { selinux: false, user: "root", chosen: KERNEL_FACING, label: "vm, root: " },
    )],
    &[
        (
            "vm with systemd, ordinary user",
            Place::Machine { selinux: false, user: "tester", chosen: KERNEL_FACING_USER, label: "vm, user: " },
        ),
        (
            "vm with SELinux, root",
            Place::Machine { selinux: true, user: "root", chosen: LABELLED, label: "vm, SELinux: " },
        ),
    ],
];

impl Place {
    /// Each has its own file.
    fn report(&self) -> String {
        match self {
            Self::Here { user } => format!("{}.json", user.unwrap_or("root")),
            Self::Machine { selinux, user, .. } => format!("vm-{user}{}.json", if *selinux { "-selinux" } else { "" }),
        }
    }
}

/// The built programs, where an ordinary user and a virtual machine can read them.
struct Stage {
    directory: Staging,
}

/// Apart from what the debug profile builds: cargo locks each profile's directory for itself.
fn build_release() -> Result<()> {
    let words = ["build", "--quiet", "--release", "--package", "dhow"];
    run_command(command("cargo", words).current_dir(paths::workspace()))
}

impl Stage {
    fn new(with_unit_tests: bool) -> Result<Self> {
        // Beside unit tests, with the same set of packages: another has other features of the dependencies, and compiles them again.
        let set: &[&str] = if with_unit_tests { &["--workspace", "--tests", "--bin"] } else { &["--package"] };
        let words = [&["build", "--quiet"][..], set, &["blackbox"]].concat();
        run_command(command("cargo", words).current_dir(paths::workspace()))?;
        let directory = Staging::new(&paths::cache()?, "stage")?;
        let stage = Self { directory };
        for (name, profile) in [("dhow", "release"), ("blackbox", "debug")] {
            let built = built(profile, name)?;
            fs::copy(&built, stage.path(name)).with_context(|| format!("copy {}", built.display()))?;
        }
        fs::set_permissions(stage.directory.path(), fs::Permissions::from_mode(0o755))?;
        let dhow = stage.path("dhow");
        elf::check_static(&dhow)?;
        println!("dhow: static, {:.1} MB", fs::metadata(&dhow)?.len() as f64 / 1e6);
        Ok(stage)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn run(&self, place: &Place, filters: &[&str]) -> Result<Counts> {
        let report = self.path(&place.report());
        let cache = paths::cache()?;
        let variables = [
            format!("DHOW_BIN={}", self.path("dhow").display()),
            format!("DHOW_IMAGES={}", cache.join("images").display()),
            format!("DHOW_REGISTRY={}", cache.join("registry").display()),
            format!("DHOW_CLIENTS={}", clients::directory()?.display()),
        ];
        let blackbox = self.path("blackbox").display().to_string();
        let mut words: Vec<String> = std::iter::once("env".to_owned()).chain(variables).collect();
        if matches!(place, Place::Here { user: None }) {
            words.push(newer::path_with_criu()?);
        }
        words.push(blackbox);
        words.extend(["--report".to_owned(), report.display().to_string()]);
        let status = match place {
            Place::Here { user } => {
                words.extend(user.iter().flat_map(|user| ["--as".to_owned(), (*user).to_owned()]));
                words.extend(filters.iter().map(|&filter| filter.to_owned()));
                disk::on_a_fresh_one(&self.path("disk.ext4"), &words)?
            }
            Place::Machine { selinux, user, chosen, label } => {
                self.readable_by_all(&report)?;
                words.extend(["--slow".to_owned(), "8".to_owned()]);
                let chosen = if filters.is_empty() { chosen } else { filters };
                words.extend(chosen.iter().map(|&filter| filter.to_owned()));
                let options = vm::Options {
                    systemd: true,
                    selinux: *selinux,
                    user: (*user).to_owned(),
                    share: cache,
                    limit: Duration::from_secs(2400),
                    label: Some(label),
                    ..vm::Options::default()
                };
                i32::from(vm::boot(&options, &words)?)
            }
        };
        counted(&report, status)
    }

    /// The machine's ordinary user writes the report too.
    fn readable_by_all(&self, report: &Path) -> Result<()> {
        fs::write(report, "")?;
        fs::set_permissions(report, fs::Permissions::from_mode(0o666))?;
        Ok(())
    }
}

/// The program as cargo built it for the target that `.cargo/config.toml` names.
pub fn built(profile: &str, name: &str) -> Result<PathBuf> {
    let host = output(&mut command("rustc", ["--print", "host-tuple"]))?;
    Ok(paths::target().join(host.trim()).join(profile).join(name))
}

fn counted(report: &Path, status: i32) -> Result<Counts> {
    let text = fs::read_to_string(report).unwrap_or_default();
    let value: serde_json::Value =
        serde_json::from_str(&text).with_context(|| format!("the tests ended with status {status} and no report"))?;
    let number = |name: &str| value[name].as_u64().unwrap_or(0);
    Ok(Counts { passed: number("passed"), failed: number("failed"), skipped: number("skipped") })
}

#[cfg(test)]
mod tests {
    use super::{Counts, HERE, PARTS, part_of, summary};

    #[test]
    fn each_place_belongs_to_a_part() {
        assert!(HERE.iter().all(|(name, _)| PARTS.contains(&part_of(name))));
    }

    #[test]
    fn summaries_of_libtest_are_understood() {
        let line = "FAILED. 12 passed; 3 failed; 1 ignored; 0 measured; 7 filtered out; finished in 0.51s";
        assert_eq!(summary(line), Counts { passed: 12, failed: 3, skipped: 1 });
    }
}
