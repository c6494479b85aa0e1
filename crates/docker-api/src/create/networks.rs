//! `NetworkMode`, `NetworkingConfig`, `Links`: which networks, and the container's place on them.

use super::given;
use super::host::HostConfig;
use crate::failure::Failure;
use crate::version::Version;
use engine::{NetworkMode, NetworkRequest};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::net::IpAddr;

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(super) struct NetworkingConfig {
    endpoints_config: Option<BTreeMap<String, Option<EndpointAsked>>>,
}

/// `EndpointSettings`, as far as it is asked for and not told.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct EndpointAsked {
    #[serde(rename = "IPAMConfig")]
    ipam: Option<Ipam>,
    links: Option<Vec<String>>,
    aliases: Option<Vec<String>>,
    mac_address: Option<String>,
    driver_opts: Option<BTreeMap<String, String>>,
    gw_priority: Option<i32>,
}

#[derive(Debug, Default, Deserialize)]
struct Ipam {
    #[serde(rename = "IPv4Address")]
    ipv4: Option<String>,
    #[serde(rename = "IPv6Address")]
    ipv6: Option<String>,
    #[serde(rename = "LinkLocalIPs")]
    link_local: Option<Vec<String>>,
}

fn address<T: std::str::FromStr>(text: Option<String>) -> Result<Option<T>, Failure> {
    let Some(text) = given(text) else { return Ok(None) };
    text.parse().map(Some).map_err(|_| Failure::bad(format!("invalid IP address: {text:?}")))
}

impl EndpointAsked {
    /// The engine's request for one network.
    ///
    /// # Errors
    /// 400 for what is no address.
    pub(crate) fn request(self, network: &str) -> Result<NetworkRequest, Failure> {
        let ipam = self.ipam.unwrap_or_default();
        let local = ipam.link_local.unwrap_or_default().into_iter();
        let local = local.map(|text| address::<IpAddr>(Some(text))).collect::<Result<Vec<_>, _>>()?;
        Ok(NetworkRequest {
            network: network.to_owned(),
            aliases: self.aliases.unwrap_or_default(),
            ipv4: address(ipam.ipv4)?,
            ipv6: address(ipam.ipv6)?,
            mac: given(self.mac_address),
            link_local_ips: local.into_iter().flatten().collect(),
            links: self.links.unwrap_or_default(),
            gateway_priority: self.gw_priority.unwrap_or(0),
            driver_options: self.driver_opts.unwrap_or_default(),
        })
    }
}

/// The mode and the networks.
pub(super) fn all(
    host: &HostConfig,
    config: Option<NetworkingConfig>,
    mac: Option<String>,
    version: Version,
) -> Result<(NetworkMode, Vec<NetworkRequest>), Failure> {
    let mode = host.network_mode.as_deref().unwrap_or_default();
    let endpoints = config.unwrap_or_default().endpoints_config.unwrap_or_default();
    if version < Version(44) && endpoints.len() > 1 {
        let names: Vec<&str> = endpoints.keys().map(String::as_str).collect();
        return Err(Failure::bad(format!(
            "Container cannot be created with multiple network endpoints: {}",
            names.join(", ")
        )));
    }
    let alone = match mode {
        "host" => Some(NetworkMode::Host),
        "none" => Some(NetworkMode::None),
        _ => mode.strip_prefix("container:").map(|name| NetworkMode::Container(name.to_owned())),
    };
    if let Some(mode) = alone {
        // Clients name the mode as a network, too.
        let other = endpoints.keys().find(|name| !matches!(name.as_str(), "host" | "none" | "default"));
        if let Some(name) = other.filter(|name| !name.starts_with("container:")) {
            return Err(Failure::bad(format!(
                "conflicting options: the network {name} cannot stand beside the network mode {}",
                host.network_mode.as_deref().unwrap_or_default()
            )));
        }
        return Ok((mode, Vec::new()));
    }
    let first = if matches!(mode, "" | "default") { "bridge" } else { mode };
    let mut requests = Vec::new();
    for (name, endpoint) in endpoints {
        let name = if name == "default" { "bridge" } else { name.as_str() };
        requests.push(endpoint.unwrap_or_default().request(name)?);
    }
    // Before 1.44 a container was made on one network; the mode says which.
    if let Some(at) = requests.iter().position(|request| request.network == first) {
        let request = requests.remove(at);
        requests.insert(0, request);
    } else if requests.is_empty() || !matches!(mode, "" | "default") {
        requests.insert(0, NetworkRequest::named(first));
    }
    if let Some(request) = requests.first_mut() {
        request.mac = request.mac.take().or(mac);
        for link in host.links.iter().flatten().map(|link| link.trim_start_matches('/')) {
            // Docker's client says it in both places.
            if !request.links.iter().any(|known| known == link) {
                request.links.push(link.to_owned());
            }
        }
    }
    // The default bridge alone, with nothing said about it, is what no request means.
    let plain = requests.len() == 1 && requests[0] == NetworkRequest::named("bridge");
    Ok((NetworkMode::Bridge, if plain { Vec::new() } else { requests }))
}
