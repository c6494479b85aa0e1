//! What is to be made, as plain values: they are printed, stored as JSON and handed to the monitor.
//!
//! Nothing here touches the kernel; every default is resolved before a value of these types exists.

use crate::Cidr;
use crate::runs::Numbered;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

/// Longest interface name: `IFNAMSIZ` less the final NUL.
pub const INTERFACE_NAME_MAX: usize = 15;

/// A bridge on the host and the network behind it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bridge {
    /// Interface name on the host, at most [`INTERFACE_NAME_MAX`] bytes.
    pub interface: String,
    /// At most one per address family is usual; several are allowed.
    pub subnets: Vec<Subnet>,
    /// Bytes; the kernel's default when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mtu: Option<u32>,
    /// No way out: no masquerading, nothing is forwarded to or from other interfaces.
    #[serde(default)]
    pub internal: bool,
    /// Containers on the bridge reach one another.
    #[serde(default = "yes")]
    pub icc: bool,
    /// What leaves by another interface gets the host's address.
    #[serde(default = "yes")]
    pub masquerade: bool,
    /// How its IPv4 and its IPv6 addresses are joined to the world.
    #[serde(default)]
    pub modes: [GatewayMode; 2],
}

/// How a family of addresses of a bridge is joined to the world; Docker's option `gateway_mode_ipv4` and `_ipv6`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum GatewayMode {
    /// Out with the host's address, in by published ports.
    #[default]
    Nat,
    /// The same, and whoever has a route to a container reaches all its ports.
    NatUnprotected,
    /// Nothing is translated: containers go out with their own address, and who has a route reaches their published ports.
    Routed,
    /// The host itself has no address on the bridge; for internal networks.
    Isolated,
}

impl GatewayMode {
    /// Docker's word for it.
    pub fn name(self) -> &'static str {
        match self {
            GatewayMode::Nat => "nat",
            GatewayMode::NatUnprotected => "nat-unprotected",
            GatewayMode::Routed => "routed",
            GatewayMode::Isolated => "isolated",
        }
    }

    /// Whether the host's address stands for the containers' outside.
    pub fn translates(self) -> bool {
        matches!(self, GatewayMode::Nat | GatewayMode::NatUnprotected)
    }
}

impl FromStr for GatewayMode {
    type Err = InvalidGatewayMode;

    fn from_str(text: &str) -> Result<GatewayMode, InvalidGatewayMode> {
        use GatewayMode::{Isolated, Nat, NatUnprotected, Routed};
        let found = [Nat, NatUnprotected, Routed, Isolated].into_iter().find(|mode| mode.name() == text);
        found.ok_or_else(|| InvalidGatewayMode(text.to_owned()))
    }
}

/// Text that is no gateway mode.
#[derive(Debug, thiserror::Error)]
#[error("{0:?} is no gateway mode (nat, nat-unprotected, routed, isolated)")]
pub struct InvalidGatewayMode(String);

fn yes() -> bool {
    true
}

impl Bridge {
    /// A bridge with Docker's defaults: a way out, masqueraded, containers reach one another.
    pub fn new(interface: impl Into<String>, subnets: Vec<Subnet>) -> Bridge {
        Bridge {
            interface: interface.into(),
            subnets,
            mtu: None,
            internal: false,
            icc: true,
            masquerade: true,
            modes: Default::default(),
        }
    }

    /// The gateway's address for the family, if the bridge has one.
    pub fn gateway(&self, ipv6: bool) -> Option<IpAddr> {
        self.subnets.iter().find(|subnet| subnet.range.is_ipv6() == ipv6).map(|subnet| subnet.gateway)
    }
}

/// A range of addresses of a bridge.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Subnet {
    /// The range; host part zero.
    pub range: Cidr,
    /// The bridge's own address in it.
    pub gateway: IpAddr,
}

impl Subnet {
    /// The range with its first usable address as the gateway, as Docker chooses it.
    pub fn new(range: Cidr) -> Subnet {
        let range = range.network();
        Subnet { range, gateway: range.nth(1).unwrap_or(range.address()) }
    }
}

/// One container on one bridge: a veth pair, its host end on the bridge.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attachment {
    /// The bridge's interface.
    pub bridge: String,
    /// Name of the end on the host; see [`host_interface`].
    pub host_interface: String,
    /// Name inside the container, `eth0` for the first.
    pub container_interface: String,
    /// Hardware address inside the container.
    pub mac: Mac,
    /// Addresses with the prefix of their subnet.
    pub addresses: Vec<Cidr>,
    /// Default gateways, at most one per family; none on internal networks and for networks that are not the container's
    /// way out.
    #[serde(default)]
    pub gateways: Vec<IpAddr>,
    /// Bytes; the kernel's default when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mtu: Option<u32>,
    /// Must not reach other isolated ports of the bridge: `icc` is off.
    #[serde(default)]
    pub isolated: bool,
    /// Kernel parameters inside the container, as paths below `/proc/sys`, that are set before the interface is up.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub parameters: Vec<(String, String)>,
}

/// A transport protocol of a published port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
    /// SCTP, where the kernel has it.
    Sctp,
}

impl Protocol {
    /// The number in the IP header.
    pub fn number(self) -> u8 {
        match self {
            Protocol::Tcp => 6,
            Protocol::Udp => 17,
            Protocol::Sctp => 132,
        }
    }

    /// Docker's word for it.
    pub fn name(self) -> &'static str {
        match self {
            Protocol::Tcp => "tcp",
            Protocol::Udp => "udp",
            Protocol::Sctp => "sctp",
        }
    }
}

/// A port of the host that leads to a port of a container.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct PublishedPort {
    /// Transport protocol.
    pub protocol: Protocol,
    /// The host's address it is reachable on; `0.0.0.0` or `::` for every address of that family.
    pub host_ip: IpAddr,
    /// Port on the host.
    pub host_port: u16,
    /// Port in the container.
    pub container_port: u16,
    /// Do not ask the host's input policy (`nft`, ufw, firewalld): Docker's way, only where asked for.
    #[serde(default)]
    pub bypass_firewall: bool,
}

impl fmt::Display for PublishedPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let PublishedPort { protocol, host_ip, host_port, container_port, .. } = self;
        match host_ip {
            IpAddr::V4(ip) => write!(f, "{ip}:{host_port}->{container_port}/{}", protocol.name()),
            IpAddr::V6(ip) => write!(f, "[{ip}]:{host_port}->{container_port}/{}", protocol.name()),
        }
    }
}

/// The published ports of one container and the addresses they lead to.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Publication {
    /// The container's addresses on the network that ports are published from; of each family the first is used.
    pub addresses: Vec<IpAddr>,
    /// The ports. A port whose host address is of a family that the container does not have is left out.
    #[serde(with = "crate::runs")]
    pub ports: Vec<PublishedPort>,
    /// Ports that are reached by the container's own address, where that is routed.
    #[serde(default, skip_serializing_if = "Vec::is_empty", with = "crate::runs")]
    pub open: Vec<OpenPort>,
}

/// A port of a container that may be reached by its own address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct OpenPort {
    /// The container.
    pub address: IpAddr,
    /// The protocol.
    pub protocol: Protocol,
    /// The container's port.
    pub port: u16,
}

impl Numbered for PublishedPort {
    fn further(&self, by: u16) -> Option<PublishedPort> {
        let (host_port, container_port) = (self.host_port.checked_add(by)?, self.container_port.checked_add(by)?);
        Some(PublishedPort { host_port, container_port, ..*self })
    }
}

impl Numbered for OpenPort {
    fn further(&self, by: u16) -> Option<OpenPort> {
        Some(OpenPort { port: self.port.checked_add(by)?, ..*self })
    }
}

/// Everything that our table is to hold.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Ruleset {
    /// Every bridge of ours.
    pub bridges: Vec<Bridge>,
    /// The published ports of every running container.
    pub publications: Vec<Publication>,
    /// Ports are published by [`crate::Relay`]: the namespace is a user's own, and nothing comes in but through it.
    #[serde(default)]
    pub relays: bool,
    /// Whose it is: the directories of the engine. In at most 127 bytes; empty for nobody's.
    #[serde(default)]
    pub owner: String,
}

/// The name of the host's end for a container: `dh`, 11 hexadecimal digits of the container's id, and for further
/// networks one letter (`g` to `z`) for which of them: `index` 0 has none, 1 is `g`.
pub fn host_interface(container_id: &str, index: usize) -> String {
    let id: String = container_id.chars().filter(char::is_ascii_hexdigit).take(11).collect();
    match index.checked_sub(1) {
        None => format!("dh{id}"),
        Some(further) => format!("dh{id}{}", char::from(b'g' + (further % 20) as u8)),
    }
}

/// The name of the bridge of a network: `dhow` and 11 hexadecimal digits of the network's id. All bridges should begin with
/// `dhow` (the default one is `dhow0`): one rule beside other programs' firewalls is then enough for all.
pub fn bridge_interface(network_id: &str) -> String {
    let id: String = network_id.chars().filter(char::is_ascii_hexdigit).take(11).collect();
    format!("dhow{id}")
}

/// A hardware address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Mac(pub [u8; 6]);

/// Text that is not a hardware address.
#[derive(Debug, thiserror::Error)]
#[error("{0:?} is not a hardware address (expected six pairs of hexadecimal digits, as in 02:42:ac:11:00:02)")]
pub struct InvalidMac(String);

impl Mac {
    /// The address that belongs to an IP address: locally administered, the last four bytes are the address's. Whoever
    /// gets an IP address again gets its hardware address again, so that neighbours' ARP tables stay right.
    pub fn for_address(address: IpAddr) -> Mac {
        let bytes = crate::cidr::octets(address);
        let tail = &bytes[bytes.len() - 4..];
        Mac([0x02, 0x42, tail[0], tail[1], tail[2], tail[3]])
    }
}

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl FromStr for Mac {
    type Err = InvalidMac;

    fn from_str(text: &str) -> Result<Mac, InvalidMac> {
        let invalid = || InvalidMac(text.to_owned());
        let mut bytes = [0; 6];
        let mut pieces = text.split([':', '-']);
        for byte in &mut bytes {
            let piece =
                pieces.next().filter(|piece| piece.len() == 2 && !piece.starts_with('+')).ok_or_else(invalid)?;
            *byte = u8::from_str_radix(piece, 16).map_err(|_| invalid())?;
        }
        if pieces.next().is_some() { Err(invalid()) } else { Ok(Mac(bytes)) }
    }
}

impl TryFrom<String> for Mac {
    type Error = InvalidMac;

    fn try_from(text: String) -> Result<Mac, InvalidMac> {
        text.parse()
    }
}

impl From<Mac> for String {
    fn from(mac: Mac) -> String {
        mac.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_fit_and_differ() {
        let id = "0123456789abcdef0123456789abcdef";
        assert_eq!(host_interface(id, 0), "dh0123456789a");
        assert_eq!(host_interface(id, 1), "dh0123456789ag");
        assert!((0..20).all(|index| host_interface(id, index).len() <= INTERFACE_NAME_MAX));
    }

    #[test]
    fn mac_text() {
        let mac: Mac = "02:42:ac:11:00:02".parse().unwrap();
        assert_eq!(mac, Mac::for_address("172.17.0.2".parse().unwrap()));
        assert_eq!(mac.to_string(), "02:42:ac:11:00:02");
        for text in ["", "02:42:ac:11:00", "02:42:ac:11:00:02:03", "02:42:ac:11:00:+2", "zz:42:ac:11:00:02"] {
            assert!(text.parse::<Mac>().is_err(), "{text}");
        }
    }

    #[test]
    fn plans_are_json() {
        let bridge = Bridge::new("dhow0", vec![Subnet::new("10.88.0.0/16".parse().unwrap())]);
        let text = serde_json::to_string(&bridge).unwrap();
        assert!(text.contains(r#""range":"10.88.0.0/16","gateway":"10.88.0.1""#), "{text}");
        assert_eq!(serde_json::from_str::<Bridge>(&text).unwrap(), bridge);
    }
}
