//! The Docker Engine API, used by Node's programs: dockerode, and testcontainers, which stands on it.

use anyhow::Result;

use crate::case::{cases, same};
use crate::clients;
use crate::sandbox::Sandbox;
use crate::server::Server;

cases![docker_node: dockerode [Root], testcontainers [Root, Long]];

fn dockerode(sandbox: &Sandbox) -> Result<()> {
    clients::find("node/node_modules")?;
    sandbox.load("busybox")?;
    let server = Server::start(sandbox)?;
    let script = sandbox.file("dockerode.js", include_str!("../clients/dockerode.js"))?;
    same!(sandbox.finish_command(clients::node(sandbox, &server, &[&script])?, "")?.success()?, "all well");
    same!(server.ok(&["ps", "-aq"])?, "");
    Ok(())
}

fn testcontainers(sandbox: &Sandbox) -> Result<()> {
    clients::find("node/node_modules")?;
    for image in ["busybox", "redis", "postgres"] {
        sandbox.load(image)?;
    }
    clients::reaper(sandbox)?;
    let server = Server::start(sandbox)?;
    let script = sandbox.file("services.js", include_str!("../clients/testcontainers.js"))?;
    let mut command = clients::node(sandbox, &server, &[&script])?;
    command.env("TESTCONTAINERS_RYUK_RECONNECTION_TIMEOUT", "1s");
    same!(sandbox.finish_command(command, "")?.success()?, "all well");
    clients::reaped(sandbox, &server)
}
