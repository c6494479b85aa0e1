//! The Docker Engine API, used by programs in Rust: bollard and testcontainers, whose types refuse what is not of Docker's shape.

use anyhow::Result;

use crate::case::{cases, same};
use crate::clients;
use crate::sandbox::Sandbox;
use crate::server::Server;

cases![docker_rust: bollard_and_testcontainers [Root, Long]];

fn bollard_and_testcontainers(sandbox: &Sandbox) -> Result<()> {
    let program = clients::find("rust/clients-rust")?;
    for image in ["busybox", "redis", "postgres"] {
        sandbox.load(image)?;
    }
    let server = Server::start(sandbox)?;
    same!(sandbox.finish_command(clients::command(sandbox, &server, &program, &[]), "")?.success()?, "all well");
    same!(server.ok(&["ps", "-aq"])?, "");
    Ok(())
}
