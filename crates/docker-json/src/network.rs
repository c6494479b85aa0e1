//! A network as `network inspect` shows it.

use crate::{Empty, Error, to_value};
use engine::{Driver, Member, Network};
use serde::Serialize;
use serde_json::Value;
use std::collections::BTreeMap;

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Inspect {
    name: String,
    id: String,
    created: String,
    scope: &'static str,
    driver: &'static str,
    #[serde(rename = "EnableIPv4")]
    ipv4: bool,
    #[serde(rename = "EnableIPv6")]
    ipv6: bool,
    #[serde(rename = "IPAM")]
    ipam: Ipam,
    internal: bool,
    attachable: bool,
    ingress: bool,
    config_from: ConfigFrom,
    config_only: bool,
    containers: BTreeMap<String, Attached>,
    options: BTreeMap<String, String>,
    labels: BTreeMap<String, String>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Ipam {
    driver: &'static str,
    options: Option<Empty>,
    config: Vec<Pool>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Pool {
    subnet: String,
    #[serde(rename = "IPRange", skip_serializing_if = "Option::is_none")]
    ip_range: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    gateway: Option<String>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    auxiliary_addresses: BTreeMap<String, String>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct ConfigFrom {
    network: &'static str,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Attached {
    name: String,
    #[serde(rename = "EndpointID")]
    endpoint_id: String,
    mac_address: String,
    #[serde(rename = "IPv4Address")]
    ipv4_address: String,
    #[serde(rename = "IPv6Address")]
    ipv6_address: String,
}

/// Docker's view of a network.
pub fn value(network: &Network, members: &[Member]) -> Result<Value, Error> {
    let settings = &network.settings;
    let pool = |subnet: &engine::Subnet| Pool {
        subnet: subnet.subnet.to_string(),
        ip_range: subnet.ip_range.map(|range| range.to_string()),
        gateway: subnet.gateway.map(|gateway| gateway.to_string()),
        auxiliary_addresses: subnet.auxiliary.iter().map(|(name, ip)| (name.clone(), ip.to_string())).collect(),
    };
    let attached = |member: &Member| {
        let text = |cidr: Option<engine::Cidr>| cidr.map(|cidr| cidr.to_string()).unwrap_or_default();
        let place = &member.place;
        let attached = Attached {
            name: member.name.clone(),
            endpoint_id: place.endpoint.clone(),
            mac_address: place.mac.clone(),
            ipv4_address: text(place.ipv4),
            ipv6_address: text(place.ipv6),
        };
        (member.container.clone(), attached)
    };
    let mut options = settings.options.clone();
    if network.is_predefined() && settings.driver == Driver::Bridge {
        for (key, value) in [("default_bridge", "true"), ("name", network.interface.as_str())] {
            options.insert(format!("com.docker.network.bridge.{key}"), value.to_owned());
        }
    }
    to_value(&Inspect {
        name: network.name.clone(),
        id: network.id.clone(),
        created: network.created_at.clone(),
        scope: "local",
        driver: settings.driver.name(),
        ipv4: settings.ipv4 || settings.subnets.is_empty(),
        ipv6: settings.ipv6,
        ipam: Ipam { driver: "default", options: None, config: settings.subnets.iter().map(pool).collect() },
        internal: settings.internal,
        attachable: settings.attachable,
        ingress: false,
        config_from: ConfigFrom { network: "" },
        config_only: false,
        containers: members.iter().map(attached).collect(),
        options,
        labels: settings.labels.clone(),
    })
}
