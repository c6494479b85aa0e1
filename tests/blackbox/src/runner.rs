//! Chooses tests, runs each in its own process and cage, counts.

use std::collections::VecDeque;
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::sync::Mutex;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use crate::case::{Case, Need, Skip};
use crate::cases;
use crate::host;
use crate::neighbour;
use crate::sandbox::Sandbox;

pub const USAGE: &str = "\
usage: blackbox [OPTION...] [FILTER...]
  FILTER           run tests whose name has one of these in it; a leading - excludes
  --list           print names only
  --jobs N         tests at a time (default: 1)
  --as USER        run each as this user (needs root)
  --slow FACTOR    multiply time limits, for emulated processors
  --limit SECONDS  for each test, instead of its own
  --report FILE    write the counts as JSON";

/// Before the last line of a test that passed and has counted something.
pub const NOTE: &str = "note: ";

/// The status of a test process that cannot run here.
const SKIPPED: i32 = 77;

/// What the command line says.
pub struct Options {
    filters: Vec<String>,
    list: bool,
    jobs: usize,
    user: Option<String>,
    slow: u32,
    report: Option<PathBuf>,
    limit: Option<u64>,
    /// The process of one test.
    one: Option<String>,
    /// The process of another machine.
    neighbour: Option<PathBuf>,
}

impl Options {
    /// Reads the command line.
    pub fn parse(mut words: impl Iterator<Item = String>) -> Result<Self, String> {
        let mut options = Self {
            filters: vec![],
            list: false,
            jobs: 1,
            user: None,
            slow: 1,
            report: None,
            limit: None,
            one: None,
            neighbour: None,
        };
        while let Some(word) = words.next() {
            let mut value = || words.next().ok_or_else(|| format!("{word} needs a value"));
            let number = |text: String| text.parse().map_err(|_| format!("{text} is no number"));
            match word.as_str() {
                "--list" => options.list = true,
                "--jobs" => options.jobs = number(value()?)?,
                "--as" => options.user = Some(value()?),
                "--slow" => options.slow = number(value()?)? as u32,
                "--limit" => options.limit = Some(number(value()?)? as u64),
                "--report" => options.report = Some(value()?.into()),
                "--one" => options.one = Some(value()?),
                "--neighbour" => options.neighbour = Some(value()?.into()),
                _ if word.starts_with("--") => return Err(format!("unknown option {word}")),
                _ => options.filters.push(word),
            }
        }
        Ok(options)
    }

    fn chooses(&self, name: &str) -> bool {
        let (out, wanted): (Vec<_>, Vec<_>) = self.filters.iter().partition(|filter| filter.starts_with('-'));
        (wanted.is_empty() || wanted.iter().any(|filter| name.contains(filter.as_str())))
            && !out.iter().any(|filter| name.contains(&filter[1..]))
    }

    fn is_root(&self) -> bool {
        self.user.is_none() && host::is_root()
    }
}

/// Runs what the options say.
pub fn main(options: &Options) -> ExitCode {
    if let Some(name) = &options.one {
        return run_here(name);
    }
    if let Some(socket) = &options.neighbour {
        return neighbour::main(socket);
    }
    let chosen: Vec<&Case> = cases::all().filter(|case| options.chooses(case.name)).collect();
    if options.list {
        for case in &chosen {
            println!("{}", case.name);
        }
        return ExitCode::SUCCESS;
    }
    let started = Instant::now();
    let tally = run_all(options, &chosen);
    let report = format!("{{\"passed\":{},\"failed\":{},\"skipped\":{}}}\n", tally.passed, tally.failed, tally.skipped);
    if let Some(path) = &options.report
        && let Err(error) = fs::write(path, report)
    {
        eprintln!("blackbox: write {}: {error}", path.display());
        return ExitCode::FAILURE;
    }
    println!(
        "\ntest result: {}. {} passed; {} failed; {} skipped; finished in {:.1} s",
        if tally.failed == 0 { "ok" } else { "FAILED" },
        tally.passed,
        tally.failed,
        tally.skipped,
        started.elapsed().as_secs_f64()
    );
    ExitCode::from(u8::from(tally.failed > 0))
}

#[derive(Default)]
struct Tally {
    passed: u32,
    failed: u32,
    skipped: u32,
}

enum Outcome {
    /// With what the test has to say, if anything.
    Passed(String),
    Skipped(String),
    Failed(String),
}

/// First those that bear company, then the others one by one.
fn run_all(options: &Options, chosen: &[&Case]) -> Tally {
    let tally = Mutex::new(Tally::default());
    for alone in [false, true] {
        let queue: VecDeque<&Case> =
            chosen.iter().copied().filter(|case| case.needs.contains(&Need::Alone) == alone).collect();
        let queue = Mutex::new(queue);
        let workers = if alone { 1 } else { options.jobs.max(1) };
        thread::scope(|scope| {
            for _ in 0..workers {
                scope.spawn(|| {
                    loop {
                        // A `while let` would hold the lock until the end of its body, and with it all other workers.
                        let next = lock(&queue).pop_front();
                        let Some(case) = next else { break };
                        let started = Instant::now();
                        let outcome =
                            run_one(options, case).unwrap_or_else(|error| Outcome::Failed(format!("{error:#}")));
                        print(case.name, &outcome, started.elapsed(), &mut lock(&tally));
                    }
                });
            }
        });
    }
    tally.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner)
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// One test's line, printed while the tally is held so that lines stay whole.
fn print(name: &str, outcome: &Outcome, time: Duration, tally: &mut Tally) {
    let mut out = std::io::stdout().lock();
    let seconds = time.as_secs_f64();
    let printed = match outcome {
        Outcome::Passed(note) => {
            tally.passed += 1;
            writeln!(out, "test {name} ... ok ({seconds:.1} s){note}")
        }
        Outcome::Skipped(reason) => {
            tally.skipped += 1;
            writeln!(out, "test {name} ... skipped: {reason}")
        }
        Outcome::Failed(output) => {
            tally.failed += 1;
            writeln!(out, "test {name} ... FAILED ({seconds:.1} s)\n---- {name} ----\n{}\n----", output.trim_end())
        }
    };
    // Nobody reads our output any more: the status still tells.
    drop(printed.and_then(|()| out.flush()));
}

fn run_one(options: &Options, case: &Case) -> Result<Outcome> {
    for need in case.needs {
        match need {
            Need::Root if !options.is_root() => return Ok(Outcome::Skipped("needs root".into())),
            Need::User if options.is_root() => return Ok(Outcome::Skipped("is about ordinary users".into())),
            Need::Lan if !host::is_root() => {
                return Ok(Outcome::Skipped("needs a runner that is root (--as USER)".into()));
            }
            Need::Systemd if !(host::is_our_machine() && Path::new("/run/systemd/system").exists()) => {
                return Ok(Outcome::Skipped("needs the virtual machine with systemd".into()));
            }
            _ => {}
        }
    }
    let usual = if case.needs.contains(&Need::Long) { 900 } else { 90 };
    let limit = Duration::from_secs(options.limit.unwrap_or(usual)) * options.slow;
    let directory = tempfile::Builder::new().prefix("dhow-test-").tempdir()?;
    let log = directory.path().join("log");
    let mut command = cage(options, directory.path(), case)?;
    command.args(["--one", case.name]).stdin(Stdio::null());
    command.env("BLACKBOX_DIRECTORY", directory.path()).env("BLACKBOX_SLOW", options.slow.to_string());
    command.stdout(File::create(&log)?).stderr(File::options().append(true).open(&log)?);
    let mut child = command.spawn().context("start the test's process")?;
    let until = Instant::now() + limit;
    let status = loop {
        if let Some(status) = child.try_wait()? {
            break Some(status);
        }
        if Instant::now() > until {
            child.kill()?;
            child.wait()?;
            break None;
        }
        thread::sleep(Duration::from_millis(5));
    };
    let output = String::from_utf8_lossy(&fs::read(&log)?).into_owned();
    host::discard(directory);
    Ok(match status {
        Some(status) if status.success() => {
            let note = output.lines().next_back().and_then(|line| line.strip_prefix(NOTE));
            Outcome::Passed(note.map(|note| format!(": {note}")).unwrap_or_default())
        }
        Some(status) if status.code() == Some(SKIPPED) => {
            Outcome::Skipped(output.lines().next_back().unwrap_or("no reason given").to_owned())
        }
        Some(status) => Outcome::Failed(format!("{output}\n{status}")),
        None => Outcome::Failed(format!("{output}\nnot done after {} s", limit.as_secs())),
    })
}

/// The start of the command line of a test's process: its namespaces and its user.
fn cage(options: &Options, directory: &Path, case: &Case) -> Result<Command> {
    let own = std::env::current_exe().context("find this program")?;
    let lan = case.needs.contains(&Need::Lan);
    if !host::is_root() || case.needs.contains(&Need::Systemd) {
        return Ok(Command::new(own));
    }
    // The namespaces end with the runner, however that ends.
    let mut command = Command::new("setpriv");
    command
        .args(["--pdeathsig", "KILL", "unshare"])
        .args(["--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"])
        .args(["sh", "-c", &neighbour::cage(&own, directory, options.user.is_some(), lan), "cage"]);
    if let Some(user) = &options.user {
        let home = directory.join("home");
        fs::create_dir(&home)?;
        for path in [directory, &home] {
            host::succeed(Command::new("chown").arg(format!("{user}:")).arg(path))?;
        }
        command.args(["setpriv", "--reuid", user, "--regid", user, "--init-groups", "--inh-caps=-all"]);
        command.env("HOME", &home).env("USER", user).env_remove("XDG_RUNTIME_DIR").env_remove("XDG_DATA_HOME");
    }
    command.arg(own);
    Ok(command)
}

/// The process of one test.
fn run_here(name: &str) -> ExitCode {
    let Some(case) = cases::all().find(|case| case.name == name) else {
        eprintln!("no test {name}");
        return ExitCode::from(2);
    };
    let outcome = Sandbox::new().and_then(|sandbox| {
        let outcome = (case.test)(&sandbox);
        match outcome {
            Ok(()) => sandbox.finish(),
            Err(error) => {
                sandbox.clear();
                Err(error)
            }
        }
    });
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => match error.downcast_ref::<Skip>() {
            Some(reason) => {
                eprintln!("{reason}");
                ExitCode::from(SKIPPED as u8)
            }
            None => {
                eprintln!("{error:#}");
                ExitCode::FAILURE
            }
        },
    }
}
