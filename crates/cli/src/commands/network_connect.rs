//! `network connect`

use super::verb;
use crate::failure::Failure;
use crate::session::Session;
use crate::values::network;
use crate::verb::Verb;
use clap::Args;
use engine::{ConnectOptions, NetworkRequest};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Connect a container to a network
pub const VERB: Verb = verb!(Flags, execute, Other, "[OPTIONS] NETWORK CONTAINER", "Connect a container to a network");

#[derive(Args)]
struct Flags {
    /// Give the container another name on the network
    #[arg(long, value_name = "strings", value_delimiter = ',')]
    alias: Vec<String>,
    /// Option of the driver (KEY=VALUE)
    #[arg(long, value_name = "strings", value_parser = network::driver_option)]
    driver_opt: Vec<(String, String)>,
    /// The network with the highest is the way out
    #[arg(long, value_name = "int", allow_hyphen_values = true, default_value = "0", value_parser = network::priority)]
    gw_priority: i32,
    /// IPv4 address
    #[arg(long, value_name = "ip", value_parser = network::ipv4)]
    ip: Option<Ipv4Addr>,
    /// IPv6 address
    #[arg(long, value_name = "ip", value_parser = network::ipv6)]
    ip6: Option<Ipv6Addr>,
    /// Give another container a name for this one alone (container[:name])
    #[arg(long, value_name = "list")]
    link: Vec<String>,
    /// Link-local address
    #[arg(long, value_name = "strings", value_delimiter = ',', value_parser = network::address)]
    link_local_ip: Vec<IpAddr>,
    /// Name or identifier of the network
    network: String,
    /// Name or identifier of the container
    container: String,
}

fn execute(session: &Session, flags: &Flags) -> Result<(), Failure> {
    let request = NetworkRequest {
        aliases: flags.alias.clone(),
        ipv4: flags.ip,
        ipv6: flags.ip6,
        link_local_ips: flags.link_local_ip.clone(),
        links: flags.link.clone(),
        gateway_priority: flags.gw_priority,
        driver_options: flags.driver_opt.iter().cloned().collect(),
        ..NetworkRequest::named(flags.network.clone())
    };
    let options = ConnectOptions { container: flags.container.clone(), request };
    Ok(session.engine()?.connect_network(&flags.network, &options)?)
}
