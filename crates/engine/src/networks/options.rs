//! What a caller may ask of networks: plain values, defaults as Docker has them.

use super::record::Driver;
use network::Cidr;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// A network to be made.
#[derive(Clone, Debug, Default)]
pub struct NetworkOptions {
    /// Its name.
    pub name: String,
    /// What carries it.
    pub driver: Driver,
    /// Ranges of addresses, in the caller's order.
    pub pools: Vec<PoolRequest>,
    /// Whether it has IPv4; it has unless this is false.
    pub ipv4: Option<bool>,
    /// Whether it has IPv6; where absent, it has if the host does.
    pub ipv6: Option<bool>,
    /// No way out.
    pub internal: bool,
    /// Containers may be attached by hand; all networks here can be, so it is only remembered.
    pub attachable: bool,
    /// Options of the driver (`-o`), by Docker's names.
    pub options: BTreeMap<String, String>,
    /// Who gives addresses: `default`, or absent.
    pub ipam_driver: Option<String>,
    /// Options for that; none is known.
    pub ipam_options: BTreeMap<String, String>,
    /// Labels.
    pub labels: BTreeMap<String, String>,
}

/// A range of addresses that was asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PoolRequest {
    /// The range; chosen where absent.
    pub subnet: Option<Cidr>,
    /// The gateway in it.
    pub gateway: Option<IpAddr>,
    /// The part of it from which addresses are given.
    pub ip_range: Option<Cidr>,
    /// Addresses in it that are others', by name.
    pub auxiliary: BTreeMap<String, IpAddr>,
}

/// A network that a container is to be on.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct NetworkRequest {
    /// Name or identifier of the network.
    pub network: String,
    /// Further names of the container on it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub aliases: Vec<String>,
    /// This address and no other.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ipv4: Option<Ipv4Addr>,
    /// This address and no other.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ipv6: Option<Ipv6Addr>,
    /// Hardware address.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mac: Option<String>,
    /// Link-local addresses besides.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub link_local_ips: Vec<IpAddr>,
    /// Names of other containers for this one alone: `CONTAINER:NAME`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub links: Vec<String>,
    /// The network with the highest is the container's way out.
    #[serde(skip_serializing_if = "is_zero")]
    pub gateway_priority: i32,
    /// Options of the driver, by Docker's names.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub driver_options: BTreeMap<String, String>,
}

fn is_zero(number: &i32) -> bool {
    *number == 0
}

impl NetworkRequest {
    /// The network alone.
    pub fn named(network: impl Into<String>) -> NetworkRequest {
        NetworkRequest { network: network.into(), ..NetworkRequest::default() }
    }

    /// Whether more than the network itself is asked for.
    pub fn has_details(&self) -> bool {
        *self
            != NetworkRequest {
                network: self.network.clone(),
                gateway_priority: self.gateway_priority,
                ..Self::default()
            }
    }
}

/// A container that is to join a network.
#[derive(Clone, Debug, Default)]
pub struct ConnectOptions {
    /// Name or identifier of the container.
    pub container: String,
    /// The network and what is wanted on it.
    pub request: NetworkRequest,
}
