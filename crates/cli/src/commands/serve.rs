//! `serve`

use super::verb;
use crate::failure::Failure;
use crate::output;
use crate::session::Session;
use crate::verb::Verb;
use clap::Args;
use docker_api::Address;
use std::path::PathBuf;

/// Serve the Docker Engine API
pub const VERB: Verb =
    verb!(Flags, execute, Other, "[OPTIONS]", "Serve the Docker Engine API, for programs written for Docker");

#[derive(Args)]
struct Flags {
    /// Group that may use Unix sockets beside their owner; whoever may is root here
    #[arg(short = 'G', long, value_name = "string")]
    group: Option<String>,
    /// Where to listen: unix://PATH, tcp://127.0.0.1:PORT, or fd:// for sockets of systemd (default unix://RUN-DIR/docker.sock)
    #[arg(short = 'H', long, value_name = "list")]
    host: Vec<Address>,
}

fn execute(session: &Session, flags: &Flags) -> Result<(), Failure> {
    // Before there are threads, and so that the directories exist.
    let engine = session.engine()?;
    let run = engine.directories().run.clone();
    drop(engine);
    let mut addresses = flags.host.clone();
    if addresses.is_empty() {
        addresses.push(default(run));
    }
    let options = docker_api::Options { engine: session.config()?, addresses, group: flags.group.clone() };
    let shown: Vec<String> = options.addresses.iter().map(ToString::to_string).collect();
    let said = || output::remark(&format!("API listening at {}", shown.join(", ")));
    docker_api::serve(&options, said).map_err(|error| match error {
        docker_api::Error::Listen(sentence) => Failure::new(sentence),
        error => Failure::caused("the server has ended", error),
    })
}

/// In the run directory, beside the containers: private to this user, unless a group is given.
fn default(run: PathBuf) -> Address {
    Address::Unix(run.join("docker.sock"))
}
