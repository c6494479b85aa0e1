//! The Docker Engine API, read as the programs do that show statistics live: lazydocker, ctop, `docker stats`.

use std::process::Command;

use anyhow::Result;

use crate::case::{cases, contains, same};
use crate::sandbox::Sandbox;
use crate::server::Server;

cases![docker_readers: statistics [Root]];

fn statistics(sandbox: &Sandbox) -> Result<()> {
    sandbox.load("busybox")?;
    let server = Server::start(sandbox)?;
    for (name, script) in [
        ("busy", "while :; do :; done"),
        ("calm", "head -c 33554432 /dev/zero >/dev/shm/x; sleep 1000"),
        ("third", "sleep 1000"),
    ] {
        server.ok(&["run", "-d", "--name", name, "-m", "128m", "--shm-size", "64m", "busybox", "sh", "-c", script])?;
    }
    let script = sandbox.file("readers.py", include_str!("../clients/readers.py"))?;
    let socket = server.socket.display().to_string();
    let mut command = Command::new("/usr/bin/python3");
    command.args([script.as_str(), &socket, "busy", "calm", "third"]);
    same!(sandbox.finish_command(command, "")?.success()?, "all well");
    let table = server.ok(&["stats", "--no-stream", "--format", "{{.Name}} {{.MemUsage}} {{.PIDs}}"])?;
    contains!(table, "/ 128MiB");
    same!(table.lines().count(), 3);
    server.ok(&["rm", "-f", "busy", "calm", "third"])?;
    Ok(())
}
