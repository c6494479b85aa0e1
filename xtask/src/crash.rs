//! `cargo xtask crash`: the crash harness at every point, where `cargo xtask test` tries a sample.
//!
//! It takes about an hour. The report is `target/crash.txt`: a table, and every point that was not clean.

use std::fs;

use anyhow::{Result, bail};

use crate::command::{command, run as run_command};
use crate::paths::{self, Staging};
use crate::{clients, disk, images, newer, setup, test};

/// Tries all points of all commands, or of those named, separated by commas.
pub fn run(words: &[&str]) -> Result<()> {
    let verbs = match words {
        [] => "",
        [verbs] => verbs,
        _ => bail!("crash [VERB,...]: create, start, run -d, run --rm, exec, stop, rm, …"),
    };
    if !paths::is_root() {
        bail!("the crash harness needs root: it makes bridges, and cgroups of its own");
    }
    setup::run(&[setup::Set::Test])?;
    images::run(Some("busybox"))?;
    clients::run()?;
    let build = |words: &[&str]| run_command(command("cargo", words).current_dir(paths::workspace()));
    build(&["build", "--quiet", "--release", "--package", "dhow"])?;
    build(&["build", "--quiet", "--package", "blackbox"])?;
    let staging = Staging::new(&paths::cache()?, "crash")?;
    for (name, profile) in [("dhow", "release"), ("blackbox", "debug")] {
        fs::copy(test::built(profile, name)?, staging.path().join(name))?;
    }
    let report = paths::target().join("crash.txt");
    let variables = [
        format!("DHOW_BIN={}", staging.path().join("dhow").display()),
        format!("DHOW_IMAGES={}", images::directory()?.display()),
        format!("DHOW_CRASH_REPORT={}", report.display()),
        format!("DHOW_CRASH_VERBS={verbs}"),
        newer::path_with_criu()?,
        // No limit.
        "DHOW_CRASH_SECONDS=0".to_owned(),
    ];
    let program = staging.path().join("blackbox").display().to_string();
    // A quarter of an hour is the limit of one test; this one may take a hundred times as long.
    let rest = [program, "--limit".to_owned(), "90000".to_owned(), "crash::at".to_owned()];
    let words: Vec<String> = std::iter::once("env".to_owned()).chain(variables).chain(rest).collect();
    let status = disk::on_a_fresh_one(&staging.path().join("disk.ext4"), &words)?;
    println!("{}", fs::read_to_string(&report).unwrap_or_default());
    if status != 0 {
        bail!("not every point is clean: {}", report.display());
    }
    Ok(())
}
