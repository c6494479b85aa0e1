//! The published ports of a container: numbers chosen, sockets that hold them on the host, and what the packet filter gets.

use super::record::Network;
use super::table::{self, Published};
use crate::containers::options::PublishedPort;
use crate::containers::record::Settings;
use crate::engine::Engine;
use crate::error::{Context, Error, Kind, Result};
use network::Protocol;
use rustix::io::Errno;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::OwnedFd;

/// As many sockets as need no higher limit of descriptors.
pub(crate) const FEW: usize = 200;

/// Ports that are held.
#[derive(Debug, Default)]
pub(crate) struct Held {
    /// The sockets.
    pub sockets: Vec<OwnedFd>,
    /// The ports with all numbers chosen.
    pub ports: Vec<PublishedPort>,
}

/// What is to be published: what was asked for, and with `-P` all that the image and `--expose` name besides.
fn wanted(settings: &Settings) -> Result<Vec<PublishedPort>> {
    let mut all = settings.ports.clone();
    if settings.publish_all {
        for exposed in &settings.exposed_ports {
            let (range, protocol) = exposed.split_once('/').unwrap_or((exposed, "tcp"));
            let (first, last) = range.split_once('-').unwrap_or((range, range));
            let number = |text: &str| {
                text.parse::<u16>().kind(Kind::InvalidArgument, || format!("the exposed port {exposed:?} is no port"))
            };
            for container_port in number(first)?..=number(last)? {
                if !all.iter().any(|port| port.container_port == container_port && port.protocol == protocol) {
                    all.push(PublishedPort { protocol: protocol.into(), container_port, ..PublishedPort::default() });
                }
            }
        }
    }
    Ok(all)
}

pub(crate) fn protocol(port: &PublishedPort) -> Result<Protocol> {
    match port.protocol.as_str() {
        "tcp" => Ok(Protocol::Tcp),
        "udp" => Ok(Protocol::Udp),
        "sctp" => Ok(Protocol::Sctp),
        other => Err(Error::new(Kind::InvalidArgument, format!("invalid proto: {other}"))),
    }
}

pub(crate) fn address(port: &PublishedPort) -> Result<Option<IpAddr>> {
    match port.host_ip.as_str() {
        "" => Ok(None),
        text => {
            let parsed = text.parse().kind(Kind::InvalidArgument, || format!("invalid IP address: {text}"))?;
            if parsed == IpAddr::V6(Ipv6Addr::LOCALHOST) {
                return Err(Error::new(
                    Kind::InvalidArgument,
                    "cannot publish a port on ::1: a connection to it cannot be translated",
                )
                .hint("publish it on 127.0.0.1"));
            }
            Ok(Some(parsed))
        }
    }
}

impl Engine {
    /// Takes the ports of a container on this host. `binding` is where those are published that name no address.
    pub(crate) fn hold_ports(&self, settings: &Settings, binding: Option<IpAddr>) -> Result<Held> {
        let wanted = wanted(settings)?;
        if wanted.len() > FEW {
            more_descriptors();
        }
        let mut held = Held::default();
        for mut port in wanted {
            if let (true, Some(binding)) = (port.host_ip.is_empty(), binding) {
                port.host_ip = binding.to_string();
            }
            let (kind, at) = (protocol(&port)?, address(&port)?);
            if kind == Protocol::Sctp && self.host()?.user_namespace {
                return Err(Error::new(
                    Kind::Unavailable,
                    "an ordinary user cannot publish SCTP ports: they are not relayed",
                )
                .hint("use --network host, or run dhow as root"));
            }
            let last = port.host_port_end.max(port.host_port);
            let mut attempt = network::hold(kind, at, port.host_port);
            for number in port.host_port.saturating_add(1)..=last {
                if attempt.as_ref().err().and_then(network::Error::errno) != Some(Errno::ADDRINUSE) {
                    break;
                }
                attempt = network::hold(kind, at, number);
            }
            let (socket, number) = attempt.map_err(|error| self.port_failure(&port, error))?;
            (port.host_port, port.host_port_end) = (number, 0);
            held.sockets.push(socket);
            held.ports.push(port);
        }
        Ok(held)
    }

    /// Docker's sentences, and who has the port if it is one of us.
    fn port_failure(&self, port: &PublishedPort, error: network::Error) -> Error {
        let shown = if port.host_ip.is_empty() { "0.0.0.0" } else { &port.host_ip };
        let shown = if shown.contains(':') { format!("[{shown}]") } else { shown.to_owned() };
        let range = match port.host_port_end {
            end if end > port.host_port => format!("{}-{end}", port.host_port),
            _ => port.host_port.to_string(),
        };
        let (kind, what) = match error.errno() {
            Some(Errno::ADDRINUSE) => (Kind::Conflict, "port is already allocated"),
            Some(Errno::ADDRNOTAVAIL) => (Kind::InvalidArgument, "this machine does not have the address"),
            Some(Errno::ACCESS) => (Kind::Forbidden, "this port needs privilege on the host"),
            Some(Errno::PROTONOSUPPORT | Errno::SOCKTNOSUPPORT) => {
                (Kind::Unavailable, "the kernel does not have the protocol")
            }
            _ => (Kind::Internal, "the kernel refuses it"),
        };
        let failure = Error::caused(kind, format!("Bind for {shown}:{range} failed: {what}"), error);
        let owner = || -> Option<String> {
            let database = self.database().ok()?;
            let all = table::all_published(database.read()).ok()?;
            let same = |other: &PublishedPort| other.host_port == port.host_port && other.protocol == port.protocol;
            all.into_iter().find(|(_, published)| published.ports.iter().any(same)).map(|(name, _)| name)
        };
        match (kind, owner()) {
            (Kind::Conflict, Some(name)) => failure.hint(format!("container {name} publishes it")),
            (Kind::Conflict, None) => failure.hint("another program of this machine has it; see `ss -lntup`"),
            _ => failure,
        }
    }
}

/// What the packet filter is to have; each port that names no address is there for both families.
pub(crate) fn published(
    held: &[PublishedPort],
    addresses: Vec<IpAddr>,
    way_out: Option<&Network>,
) -> Result<Published> {
    let bypass_firewall = way_out.is_some_and(Network::bypasses_firewall);
    let mode = |ipv6| way_out.map_or(network::GatewayMode::Nat, |network| network.mode(ipv6));
    let (addresses, routed): (Vec<IpAddr>, Vec<IpAddr>) =
        addresses.into_iter().partition(|address| mode(address.is_ipv6()) != network::GatewayMode::Routed);
    let mut open = Vec::new();
    for (port, address) in held.iter().flat_map(|port| routed.iter().map(move |address| (port, *address))) {
        open.push(network::OpenPort { address, protocol: protocol(port)?, port: port.container_port });
    }
    let mut ports = Vec::new();
    for port in held {
        let both = [IpAddr::V4(Ipv4Addr::UNSPECIFIED), IpAddr::V6(Ipv6Addr::UNSPECIFIED)];
        let hosts = address(port)?.map_or_else(|| both.to_vec(), |one| vec![one]);
        for host_ip in hosts {
            ports.push(network::PublishedPort {
                protocol: protocol(port)?,
                host_ip,
                host_port: port.host_port,
                container_port: port.container_port,
                bypass_firewall,
            });
        }
    }
    // Family by family, so that ranges are written down as such.
    ports.sort_by_key(|port| port.host_ip.is_ipv6());
    Ok(Published { publication: network::Publication { addresses, ports, open }, ports: held.to_vec() })
}

/// Lets this process have as many descriptors as it may: each published port is one. Where that fails, the port does.
pub(crate) fn more_descriptors() {
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }).ok();
}
