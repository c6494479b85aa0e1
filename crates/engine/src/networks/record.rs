//! What the database remembers of networks, and what it says of containers on them.

use super::options::NetworkRequest;
use network::{Bridge, Cidr, GatewayMode, Upper};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::net::IpAddr;

/// What carries a network.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Driver {
    /// A bridge on the host.
    #[default]
    Bridge,
    /// The host's own network.
    Host,
    /// ipvlan on a device of the host.
    Ipvlan,
    /// macvlan on a device of the host.
    Macvlan,
    /// Nothing.
    Null,
}

impl Driver {
    /// Docker's word for it.
    pub fn name(self) -> &'static str {
        match self {
            Driver::Bridge => "bridge",
            Driver::Host => "host",
            Driver::Ipvlan => "ipvlan",
            Driver::Macvlan => "macvlan",
            Driver::Null => "null",
        }
    }
}

/// A range of addresses of a network.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Subnet {
    /// The range.
    pub subnet: Cidr,
    /// The gateway in it; a network without a way out need not have one.
    #[serde(default)]
    pub gateway: Option<IpAddr>,
    /// The part from which addresses are given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ip_range: Option<Cidr>,
    /// Addresses that are others'.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub auxiliary: BTreeMap<String, IpAddr>,
    /// A user asked for it; addresses in it may be asked for too.
    #[serde(default)]
    pub asked: bool,
}

/// A network's configuration: every default resolved.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct NetworkSettings {
    /// What carries it.
    pub driver: Driver,
    /// Its ranges, IPv4 first.
    pub subnets: Vec<Subnet>,
    /// It has IPv4.
    pub ipv4: bool,
    /// It has IPv6.
    pub ipv6: bool,
    /// No way out.
    pub internal: bool,
    /// As asked.
    pub attachable: bool,
    /// As asked.
    pub options: BTreeMap<String, String>,
    /// As asked.
    pub ipam_options: BTreeMap<String, String>,
    /// As asked.
    pub labels: BTreeMap<String, String>,
}

/// A network.
#[derive(Clone, Debug, PartialEq)]
pub struct Network {
    /// 64 hexadecimal digits.
    pub id: String,
    /// Its name.
    pub name: String,
    /// Creation, RFC 3339 with nanoseconds.
    pub created_at: String,
    /// Its bridge's interface on the host; empty where it has none.
    pub interface: String,
    /// Its configuration.
    pub settings: NetworkSettings,
}

impl Network {
    /// Whether dhow made it, and nobody can remove it.
    pub fn is_predefined(&self) -> bool {
        matches!(self.name.as_str(), "bridge" | "host" | "none")
    }

    /// An option of its driver, by the end of its name.
    pub(crate) fn option(&self, name: &str) -> Option<&str> {
        self.settings.options.get(&format!("com.docker.network.{name}")).map(String::as_str)
    }

    fn is(&self, name: &str, default: bool) -> bool {
        self.option(name).map_or(default, |value| matches!(value, "true" | "1" | "t" | "T" | "TRUE" | "True"))
    }

    /// Bytes of its devices' packets, if somebody said.
    pub(crate) fn mtu(&self) -> Option<u32> {
        self.option("driver.mtu").and_then(|value| value.parse().ok())
    }

    /// Its containers reach one another.
    pub(crate) fn icc(&self) -> bool {
        self.is("bridge.enable_icc", true)
    }

    /// Its ports are published past the host's own firewall.
    pub(crate) fn bypasses_firewall(&self) -> bool {
        self.settings.options.get("dhow.bypass_firewall").is_some_and(|value| value == "true")
    }

    /// Where ports are published that name no address.
    pub(crate) fn binding(&self) -> Option<IpAddr> {
        self.option("bridge.host_binding_ipv4").and_then(|value| value.parse().ok())
    }

    /// How its addresses of a family are joined to the world.
    pub(crate) fn mode(&self, ipv6: bool) -> GatewayMode {
        let name = if ipv6 { "bridge.gateway_mode_ipv6" } else { "bridge.gateway_mode_ipv4" };
        self.option(name).and_then(|value| value.parse().ok()).unwrap_or_default()
    }

    /// The bridge that must be there.
    pub(crate) fn bridge(&self) -> Option<Bridge> {
        if self.settings.driver != Driver::Bridge {
            return None;
        }
        let subnets = self
            .settings
            .subnets
            .iter()
            .filter_map(|subnet| Some(network::Subnet { range: subnet.subnet, gateway: subnet.gateway? }));
        Some(Bridge {
            mtu: self.mtu(),
            internal: self.settings.internal,
            icc: self.icc(),
            masquerade: self.is("bridge.enable_ip_masquerade", true),
            modes: [false, true].map(|ipv6| self.mode(ipv6)),
            ..Bridge::new(self.interface.clone(), subnets.collect())
        })
    }

    /// The kind of device that a container gets on it, if it is put on one of the host's.
    pub(crate) fn upper(&self) -> Option<Upper> {
        let mode = |name: &str| self.settings.options.get(name).map_or("", String::as_str);
        Some(match (self.settings.driver, mode("macvlan_mode"), mode("ipvlan_mode")) {
            (Driver::Macvlan, "private", _) => Upper::MacvlanPrivate,
            (Driver::Macvlan, "vepa", _) => Upper::MacvlanVepa,
            (Driver::Macvlan, "passthru", _) => Upper::MacvlanPassthru,
            (Driver::Macvlan, _, _) => Upper::MacvlanBridge,
            (Driver::Ipvlan, _, "l3") => Upper::IpvlanL3,
            (Driver::Ipvlan, _, "l3s") => Upper::IpvlanL3s,
            (Driver::Ipvlan, _, _) => Upper::IpvlanL2,
            _ => return None,
        })
    }
}

/// A container's place on a network while it runs.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Place {
    /// 64 hexadecimal digits, drawn for each time that it joins.
    pub endpoint: String,
    /// The how manieth of its interfaces on the host.
    pub index: usize,
    /// Name of the interface inside.
    pub interface: String,
    /// Hardware address; empty where it is the parent device's.
    pub mac: String,
    /// Address and prefix length.
    pub ipv4: Option<Cidr>,
    /// Address and prefix length.
    pub ipv6: Option<Cidr>,
    /// The network's gateway, whether or not the container's way out.
    pub gateway4: Option<IpAddr>,
    /// The same for IPv6.
    pub gateway6: Option<IpAddr>,
}

impl Place {
    /// Both addresses.
    pub fn addresses(&self) -> impl Iterator<Item = Cidr> + use<> {
        self.ipv4.into_iter().chain(self.ipv6)
    }

    pub(crate) fn gateway(&self, ipv6: bool) -> Option<IpAddr> {
        if ipv6 { self.gateway6 } else { self.gateway4 }
    }
}

/// A container and a network that it is on, or will be on when it runs.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Endpoint {
    /// Name of the network.
    pub network: String,
    /// Identifier of the network.
    pub network_id: String,
    /// What was asked for.
    pub request: NetworkRequest,
    /// What it has, while it runs.
    #[serde(default)]
    pub place: Option<Place>,
}

/// A container on a network, as the network sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// Identifier of the container.
    pub container: String,
    /// Its name.
    pub name: String,
    /// Its place.
    pub place: Place,
}
