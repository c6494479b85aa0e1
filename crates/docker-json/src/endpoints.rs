//! A container's networks and published ports, as `inspect` shows them.

use crate::container::some;
use crate::with_protocol;
use engine::{Container, NetworkMode, PublishedPort, Status};
use serde::Serialize;
use std::collections::BTreeMap;

#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct Binding {
    host_ip: String,
    host_port: String,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct NetworkSettings {
    #[serde(skip_serializing_if = "Option::is_none")]
    bridge: Option<&'static str>,
    #[serde(rename = "SandboxID")]
    sandbox_id: &'static str,
    sandbox_key: String,
    ports: BTreeMap<String, Option<Vec<Binding>>>,
    #[serde(flatten)]
    first: Option<First>,
    networks: BTreeMap<String, Endpoint>,
    #[serde(flatten)]
    old: Option<OldFields>,
}

/// The place on the default bridge, as the command line shows it too.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct First {
    gateway: String,
    #[serde(rename = "IPAddress")]
    ip_address: String,
    #[serde(rename = "IPPrefixLen")]
    ip_prefix_len: u8,
    mac_address: String,
}

/// The place on the default bridge, where it stood before there were networks.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct OldFields {
    #[serde(rename = "EndpointID")]
    endpoint_id: String,
    #[serde(rename = "GlobalIPv6Address")]
    global_ipv6_address: String,
    #[serde(rename = "GlobalIPv6PrefixLen")]
    global_ipv6_prefix_len: u8,
    #[serde(rename = "IPv6Gateway")]
    ipv6_gateway: String,
    hairpin_mode: bool,
    #[serde(rename = "LinkLocalIPv6Address")]
    link_local_ipv6_address: &'static str,
    #[serde(rename = "LinkLocalIPv6PrefixLen")]
    link_local_ipv6_prefix_len: u8,
    #[serde(rename = "SecondaryIPAddresses")]
    secondary_ip_addresses: (),
    #[serde(rename = "SecondaryIPv6Addresses")]
    secondary_ipv6_addresses: (),
}

impl NetworkSettings {
    /// From now on with the fields of old.
    pub(crate) fn show_old_fields(&mut self) {
        let bridge = self.networks.get("bridge").cloned().unwrap_or_default();
        self.old = Some(OldFields {
            endpoint_id: bridge.endpoint_id,
            global_ipv6_address: bridge.global_ipv6_address,
            global_ipv6_prefix_len: bridge.global_ipv6_prefix_len,
            ipv6_gateway: bridge.ipv6_gateway,
            hairpin_mode: false,
            link_local_ipv6_address: "",
            link_local_ipv6_prefix_len: 0,
            secondary_ip_addresses: (),
            secondary_ipv6_addresses: (),
        });
    }

    /// From now on with networks alone.
    pub(crate) fn hide_the_default_bridge(&mut self) {
        (self.bridge, self.first, self.old) = (None, None, None);
    }
}

#[derive(Clone, Debug, Default, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct Endpoint {
    #[serde(rename = "IPAMConfig")]
    ipam_config: Option<IpamConfig>,
    links: Option<Vec<String>>,
    aliases: Option<Vec<String>>,
    mac_address: String,
    driver_opts: Option<BTreeMap<String, String>>,
    gw_priority: i32,
    #[serde(rename = "NetworkID")]
    network_id: String,
    #[serde(rename = "EndpointID")]
    endpoint_id: String,
    gateway: String,
    #[serde(rename = "IPAddress")]
    ip_address: String,
    #[serde(rename = "IPPrefixLen")]
    ip_prefix_len: u8,
    #[serde(rename = "IPv6Gateway")]
    ipv6_gateway: String,
    #[serde(rename = "GlobalIPv6Address")]
    global_ipv6_address: String,
    #[serde(rename = "GlobalIPv6PrefixLen")]
    global_ipv6_prefix_len: u8,
    #[serde(rename = "DNSNames")]
    dns_names: Option<Vec<String>>,
}

/// The addresses that were asked for.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct IpamConfig {
    #[serde(rename = "IPv4Address", skip_serializing_if = "Option::is_none")]
    ipv4_address: Option<String>,
    #[serde(rename = "IPv6Address", skip_serializing_if = "Option::is_none")]
    ipv6_address: Option<String>,
    #[serde(rename = "LinkLocalIPs", skip_serializing_if = "Vec::is_empty")]
    link_local_ips: Vec<String>,
}

pub(crate) fn bindings(ports: &[PublishedPort]) -> BTreeMap<String, Vec<Binding>> {
    let mut all: BTreeMap<String, Vec<Binding>> = BTreeMap::new();
    for port in ports {
        let host_port = match (port.host_port, port.host_port_end) {
            (0, _) => String::new(),
            (first, 0) => first.to_string(),
            (first, last) => format!("{first}-{last}"),
        };
        let binding = Binding { host_ip: port.host_ip.clone(), host_port };
        all.entry(format!("{}/{}", port.container_port, port.protocol)).or_default().push(binding);
    }
    all
}

pub(crate) fn network_settings(container: &Container) -> NetworkSettings {
    let settings = &container.settings;
    let running = matches!(container.status, Status::Running | Status::Paused);
    let mut ports: BTreeMap<String, Option<Vec<Binding>>> = BTreeMap::new();
    if running {
        ports.extend(settings.exposed_ports.iter().map(|port| (with_protocol(port), None)));
        let published = bindings(&container.ports).into_iter();
        ports.extend(published.map(|(port, bindings)| (port, Some(both_families(bindings)))));
    }
    let networks = networks(container);
    let first = networks.get("bridge").cloned().unwrap_or_default();
    NetworkSettings {
        bridge: Some(""),
        sandbox_id: "",
        sandbox_key: if running { format!("/proc/{}/ns/net", container.run.pid) } else { String::new() },
        ports,
        first: Some(First {
            gateway: first.gateway,
            ip_address: first.ip_address,
            ip_prefix_len: first.ip_prefix_len,
            mac_address: first.mac_address,
        }),
        networks,
        old: None,
    }
}

/// The networks that a container is on, by name.
pub(crate) fn networks(container: &Container) -> BTreeMap<String, Endpoint> {
    let mut networks: BTreeMap<String, Endpoint> =
        container.networks.iter().map(|each| (each.network.clone(), endpoint(container, each))).collect();
    let alone = match container.settings.network {
        NetworkMode::Host => Some("host"),
        NetworkMode::None => Some("none"),
        NetworkMode::Bridge | NetworkMode::Container(_) => None,
    };
    networks.extend(alone.map(|name| (name.to_owned(), Endpoint::default())));
    networks
}

fn endpoint(container: &Container, endpoint: &engine::Endpoint) -> Endpoint {
    let request = &endpoint.request;
    let place = endpoint.place.clone().unwrap_or_default();
    let text = |value: Option<std::net::IpAddr>| value.map(|value| value.to_string()).unwrap_or_default();
    let link_local: Vec<String> = request.link_local_ips.iter().map(ToString::to_string).collect();
    let asked = request.ipv4.is_some() || request.ipv6.is_some() || !link_local.is_empty();
    Endpoint {
        ipam_config: asked.then(|| IpamConfig {
            ipv4_address: request.ipv4.map(|ip| ip.to_string()),
            ipv6_address: request.ipv6.map(|ip| ip.to_string()),
            link_local_ips: link_local,
        }),
        links: some(&request.links),
        aliases: some(&request.aliases),
        mac_address: if place.mac.is_empty() { request.mac.clone().unwrap_or_default() } else { place.mac },
        driver_opts: (!request.driver_options.is_empty()).then(|| request.driver_options.clone()),
        gw_priority: request.gateway_priority,
        network_id: endpoint.network_id.clone(),
        endpoint_id: place.endpoint,
        gateway: text(place.gateway4),
        ip_address: text(place.ipv4.map(|cidr| cidr.address())),
        ip_prefix_len: place.ipv4.map_or(0, |cidr| cidr.prefix()),
        ipv6_gateway: text(place.gateway6),
        global_ipv6_address: text(place.ipv6.map(|cidr| cidr.address())),
        global_ipv6_prefix_len: place.ipv6.map_or(0, |cidr| cidr.prefix()),
        dns_names: some(&container.names_on(endpoint)),
    }
}

/// What a port published on all addresses is bound to.
fn both_families(bindings: Vec<Binding>) -> Vec<Binding> {
    let split = |binding: Binding| {
        if !binding.host_ip.is_empty() {
            return vec![binding];
        }
        ["0.0.0.0", "::"].map(|address| Binding { host_ip: address.into(), ..binding.clone() }).into()
    };
    bindings.into_iter().flat_map(split).collect()
}
