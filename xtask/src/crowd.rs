//! `cargo xtask crowd`: many processes at one engine for minutes, where `cargo xtask test` has them there for seconds.
//!
//! It prints how many containers came and went, the longest wait for a lock with who waited, and how many updates were
//! written and lost, which `target/crowd.txt` has too; and fails when something hangs, waits for more than a second, or is lost.

use std::fs;

use anyhow::{Result, bail};

use crate::command::{command, run as run_command};
use crate::paths::{self, Staging};
use crate::{disk, images, setup, test};

/// 64 processes for five minutes, or for so many seconds; with `--debug` by binaries that are built at once and are slower.
pub fn run(words: &[&str]) -> Result<()> {
    let (profile, rest) = match words {
        ["--debug", rest @ ..] => ("debug", rest),
        rest => ("release", rest),
    };
    let seconds: u64 = match rest {
        [] => 300,
        [seconds] => seconds.parse()?,
        _ => bail!("crowd [--debug] [SECONDS]"),
    };
    if !paths::is_root() {
        bail!("the crowd needs root, for cgroups of its own");
    }
    setup::run(&[setup::Set::Test])?;
    images::run(Some("busybox"))?;
    let build = |words: &[&str]| run_command(command("cargo", words).current_dir(paths::workspace()));
    match profile {
        "debug" => build(&["build", "--quiet", "--package", "dhow", "--package", "blackbox"])?,
        _ => {
            build(&["build", "--quiet", "--release", "--package", "dhow"])?;
            build(&["build", "--quiet", "--package", "blackbox"])?;
        }
    }
    let staging = Staging::new(&paths::cache()?, "crowd")?;
    for (name, profile) in [("dhow", profile), ("blackbox", "debug")] {
        fs::copy(test::built(profile, name)?, staging.path().join(name))?;
    }
    let report = paths::target().join("crowd.txt");
    // One of an earlier run says nothing of this one.
    if report.exists() {
        fs::remove_file(&report)?;
    }
    let variables = [
        format!("DHOW_BIN={}", staging.path().join("dhow").display()),
        format!("DHOW_IMAGES={}", images::directory()?.display()),
        format!("DHOW_CROWD_SECONDS={seconds}"),
        format!("DHOW_CROWD_REPORT={}", report.display()),
    ];
    let program = staging.path().join("blackbox").display().to_string();
    // What is under way when the time is over has some minutes to come to its end.
    let rest = [program, "--limit".to_owned(), (seconds + 600).to_string(), "crowd::containers".to_owned()];
    let words: Vec<String> = std::iter::once("env".to_owned()).chain(variables).chain(rest).collect();
    let status = disk::on_a_fresh_one(&staging.path().join("disk.ext4"), &words)?;
    println!("{}", fs::read_to_string(&report).unwrap_or_default());
    if status != 0 {
        bail!("the crowd was not served as it should be");
    }
    Ok(())
}
