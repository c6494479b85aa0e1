//! `network create`

use super::verb;
use crate::failure::Failure;
use crate::output;
use crate::session::Session;
use crate::values::{keyvalue, network};
use crate::verb::Verb;
use clap::Args;
use engine::{Cidr, Driver, NetworkOptions};
use std::net::IpAddr;

/// Create a network
pub const VERB: Verb = verb!(Flags, execute, Other, "[OPTIONS] NETWORK", "Create a network");

#[derive(Args)]
struct Flags {
    /// Let containers be attached by hand; all networks can
    #[arg(long)]
    attachable: bool,
    /// Addresses that are others' (NAME=ADDRESS)
    #[arg(long, value_name = "map", value_parser = auxiliary)]
    aux_address: Vec<(String, IpAddr)>,
    /// What carries it: bridge, macvlan or ipvlan
    #[arg(short = 'd', long, value_name = "string", default_value = "bridge", value_parser = driver)]
    driver: Driver,
    /// Gateway of a subnet
    #[arg(long, value_name = "strings", value_delimiter = ',', value_parser = network::address)]
    gateway: Vec<IpAddr>,
    /// No way out of the network
    #[arg(long)]
    internal: bool,
    /// The part of a subnet from which addresses are given
    #[arg(long, value_name = "strings", value_delimiter = ',', value_parser = cidr)]
    ip_range: Vec<Cidr>,
    /// Who gives addresses: default
    #[arg(long, value_name = "string")]
    ipam_driver: Option<String>,
    /// Option for that (KEY=VALUE)
    #[arg(long, value_name = "map", value_parser = keyvalue::label)]
    ipam_opt: Vec<(String, String)>,
    /// IPv4 addresses; there are unless this is false
    #[arg(long, value_name = "bool", num_args = 0..=1, require_equals = true, default_missing_value = "true",
          value_parser = crate::values::boolean::parse)]
    ipv4: Option<bool>,
    /// IPv6 addresses; there are if this machine has IPv6
    #[arg(long, value_name = "bool", num_args = 0..=1, require_equals = true, default_missing_value = "true",
          value_parser = crate::values::boolean::parse)]
    ipv6: Option<bool>,
    /// Set a label (KEY[=VALUE])
    #[arg(long, value_name = "list", value_parser = keyvalue::label)]
    label: Vec<(String, String)>,
    /// Option of the driver (KEY=VALUE)
    #[arg(short = 'o', long, value_name = "map", value_parser = network::driver_option)]
    opt: Vec<(String, String)>,
    /// How far it reaches: local
    #[arg(long, value_name = "string")]
    scope: Option<String>,
    /// Range of addresses, as 172.20.0.0/16
    #[arg(long, value_name = "strings", value_delimiter = ',', value_parser = cidr)]
    subnet: Vec<Cidr>,
    /// Name
    #[arg(value_name = "NETWORK")]
    name: String,
}

fn driver(text: &str) -> Result<Driver, String> {
    match text {
        "" | "bridge" => Ok(Driver::Bridge),
        "macvlan" => Ok(Driver::Macvlan),
        "ipvlan" => Ok(Driver::Ipvlan),
        "host" => Ok(Driver::Host),
        "null" | "none" => Ok(Driver::Null),
        "overlay" => Err("the driver overlay is not supported: bridge, macvlan and ipvlan are".into()),
        _ => Err("plugin not found: bridge, macvlan and ipvlan are the drivers that there are".into()),
    }
}

fn cidr(text: &str) -> Result<Cidr, String> {
    text.parse().map_err(|error: engine::networks::InvalidCidr| error.to_string())
}

fn auxiliary(text: &str) -> Result<(String, IpAddr), String> {
    let (name, value) = text.split_once('=').ok_or_else(|| format!("expected NAME=ADDRESS, not {text}"))?;
    Ok((name.to_owned(), network::address(value)?))
}

fn execute(session: &Session, flags: &Flags) -> Result<(), Failure> {
    if flags.scope.as_deref().is_some_and(|scope| !matches!(scope, "" | "local")) {
        return Err(Failure::new("--scope: networks of one machine are local, and there are no others"));
    }
    let options = NetworkOptions {
        name: flags.name.clone(),
        driver: flags.driver,
        pools: engine::networks::gather(&flags.subnet, &flags.gateway, &flags.ip_range, &flags.aux_address)?,
        ipv4: flags.ipv4,
        ipv6: flags.ipv6,
        internal: flags.internal,
        attachable: flags.attachable,
        options: flags.opt.iter().cloned().collect(),
        ipam_driver: flags.ipam_driver.clone(),
        ipam_options: flags.ipam_opt.iter().cloned().collect(),
        labels: flags.label.iter().cloned().collect(),
    };
    output::line(&session.engine()?.create_network(&options)?.id)
}
