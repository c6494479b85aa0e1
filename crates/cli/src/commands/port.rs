//! `port`

use super::verb;
use crate::display::ports;
use crate::failure::Failure;
use crate::output;
use crate::session::Session;
use crate::verb::Verb;
use clap::Args;

/// List the published ports of a container
pub const VERB: Verb = verb!(
    Flags,
    execute,
    Other,
    "CONTAINER [PRIVATE_PORT[/PROTO]]",
    "List port mappings or a specific mapping for the container"
);

#[derive(Args)]
struct Flags {
    /// Name or identifier
    container: String,
    /// Port in the container
    port: Option<String>,
}

fn execute(session: &Session, flags: &Flags) -> Result<(), Failure> {
    let container = session.engine()?.inspect(&flags.container)?;
    let published = &container.ports;
    let Some(wanted) = &flags.port else {
        let mut lines: Vec<String> = published
            .iter()
            .flat_map(|port| {
                ports::host_sides(port).map(move |host| format!("{}/{} -> {host}", port.container_port, port.protocol))
            })
            .collect();
        lines.sort();
        return lines.iter().try_for_each(|line| output::line(line));
    };
    let (number, protocol) = wanted.split_once('/').unwrap_or((wanted, "tcp"));
    let number: u16 = number.parse().map_err(|_| Failure::new(format!("invalid port: {wanted}")))?;
    let hosts: Vec<String> = published
        .iter()
        .filter(|port| port.container_port == number && port.protocol == protocol)
        .flat_map(ports::host_sides)
        .collect();
    if hosts.is_empty() {
        let name = &flags.container;
        return Err(Failure::new(format!("no public port '{number}/{protocol}' published for {name}")));
    }
    hosts.iter().try_for_each(|line| output::line(line))
}
