//! The units of `dist/` under a systemd that is the machine's first process.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result};
use serde_json::json;

use super::restart;
use crate::case::{cases, same, skip};
use crate::host;
use crate::sandbox::Sandbox;
use crate::server;

cases![units: sockets_start_the_server [Systemd, Alone, Long], containers_of_a_boot [Systemd, Alone, Long]];

const UNITS: &[(&str, &str)] = &[
    ("dhow-api.service", include_str!("../../../../dist/dhow-api.service")),
    ("dhow-api.socket", include_str!("../../../../dist/dhow-api.socket")),
    ("dhow-docker.socket", include_str!("../../../../dist/dhow-docker.socket")),
    ("dhow.service", include_str!("../../../../dist/dhow.service")),
];

/// The units in systemd's directory for the time until the next boot. They are stopped and go with the value.
struct Installed {
    directory: PathBuf,
}

impl Installed {
    /// As they are but for the program, which is this test's with this test's directories.
    fn new(sandbox: &Sandbox) -> Result<Self> {
        let directory = match std::env::var_os("XDG_RUNTIME_DIR") {
            _ if host::is_root() => "/run/systemd/system".into(),
            Some(place) => PathBuf::from(place).join("systemd/user"),
            None => return skip("no XDG_RUNTIME_DIR"),
        };
        fs::create_dir_all(&directory)?;
        let dhow = sandbox.command([""; 0]);
        let words: Vec<String> = [dhow.get_program()]
            .into_iter()
            .chain(dhow.get_args())
            .map(|word| word.to_string_lossy().into_owned())
            .collect();
        let installed = Self { directory };
        for (name, text) in UNITS {
            let text = text.replace("=/usr/bin/dhow ", &format!("={} ", words.join(" ")));
            fs::write(installed.directory.join(name), text)?;
        }
        match systemctl(&["daemon-reload"]) {
            Ok(_) => Ok(installed),
            Err(error) if host::is_root() => Err(error),
            Err(error) => skip(format!("no systemd of this user: {error:#}")),
        }
    }
}

impl Drop for Installed {
    fn drop(&mut self) {
        for (name, _) in UNITS {
            drop(systemctl(&["stop", name]));
        }
        for (name, _) in UNITS {
            drop(fs::remove_file(self.directory.join(name)));
        }
        drop(systemctl(&["daemon-reload"]));
    }
}

fn systemctl(words: &[&str]) -> Result<String> {
    let mut command = Command::new("systemctl");
    if !host::is_root() {
        command.arg("--user");
    }
    host::succeed(command.args(words)).map(|text| text.trim().to_owned())
}

/// `active`, `inactive` and so on; for these last two systemctl fails.
fn state(unit: &str) -> Result<String> {
    let mut command = Command::new("systemctl");
    if !host::is_root() {
        command.arg("--user");
    }
    let output = command.args(["is-active", unit]).output()?;
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// What `%t` of a unit is.
fn run_directory() -> PathBuf {
    match host::is_root() {
        true => "/run".into(),
        false => std::env::var_os("XDG_RUNTIME_DIR").unwrap_or_default().into(),
    }
}

fn sockets_start_the_server(sandbox: &Sandbox) -> Result<()> {
    let _units = Installed::new(sandbox)?;
    sandbox.load("busybox")?;
    systemctl(&["start", "dhow-api.socket"])?;
    let mut sockets = vec![run_directory().join("dhow/docker.sock")];
    if host::is_root() {
        systemctl(&["start", "dhow-docker.socket"])?;
        sockets.push("/run/docker.sock".into());
    }
    same!(state("dhow-api.service")?, "inactive");
    for socket in &sockets {
        let (status, text) = server::ask(socket, sandbox.seconds(60), "GET /_ping", "")?;
        same!((status, text), (200, json!("OK")));
        same!(state("dhow-api.service")?, "active");
    }
    let ask = |line: &str, content: &str| server::ask(&sockets[0], sandbox.seconds(60), line, content);
    let document = json!({"Image": "busybox", "Cmd": ["sleep", "1000"], "HostConfig": {"NetworkMode": "none"}});
    let (status, made) = ask("POST /containers/create?name=box", &document.to_string())?;
    same!(status, 201, "{made}");
    crate::audit::remember(sandbox.directory(), made["Id"].as_str().context("no Id")?)?;
    same!(ask("POST /containers/box/start", "")?.0, 204);
    let running = |when: &str| -> Result<()> {
        let (status, inspected) = ask("GET /containers/box/json", "")?;
        same!((status, inspected["State"]["Status"].as_str()), (200, Some("running")), "{when}");
        Ok(())
    };
    running("after its start")?;
    systemctl(&["reload", "dhow-api.service"])?;
    running("after a reload")?;
    // The container's monitor is the server's child and in its group, and stays.
    systemctl(&["stop", "dhow-api.service"])?;
    same!(state("dhow-api.service")?, "inactive");
    same!(sandbox.ok(["inspect", "--format", "{{.State.Status}}", "box"])?, "running");
    running("with a server of a later client")?;
    same!(state("dhow-api.service")?, "active");
    same!(ask("DELETE /containers/box?force=1", "")?.0, 204);
    Ok(())
}

fn containers_of_a_boot(sandbox: &Sandbox) -> Result<()> {
    let _units = Installed::new(sandbox)?;
    sandbox.load("busybox")?;
    let script = "trap 'echo asked; exit 7' TERM; echo ready; while :; do sleep 0.05; done";
    let id = sandbox.detached(&["--network", "none", "--name", "box", "--restart", "always"], script)?;
    sandbox.wait_for_log("box", "ready")?;
    // As systemd does when the machine goes down.
    restart::signal_monitor(sandbox, &id, "-TERM")?;
    let status = || sandbox.ok(["inspect", "--format", "{{.State.Status}} {{.State.ExitCode}}", "box"]);
    host::until("the container has ended", sandbox.seconds(20), || Ok((status()? == "exited 7").then_some(())))?;
    for _ in 0..2 {
        systemctl(&["start", "dhow.service"])?;
        same!(status()?, "running 0");
        same!(state("dhow.service")?, "active");
        // Its own signal, and time for it.
        host::until("the script sets its trap", sandbox.seconds(20), || {
            let log = sandbox.ok(["logs", "box"])?;
            Ok((log.matches("ready").count() > log.matches("asked").count()).then_some(()))
        })?;
        systemctl(&["stop", "dhow.service"])?;
        same!(status()?, "exited 7");
    }
    Ok(())
}
