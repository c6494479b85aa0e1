//! What a container's name server knows, and what the others' know of it.

use super::DEFAULT;
use super::gateway::Attached;
use super::record::{Driver, Endpoint};
use crate::containers::record::Container;
use crate::containers::table::Entry;
use crate::engine::Engine;
use crate::error::{Context, Result};
use monitor::{NameEntry, NamePlace, NamePlan};
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr, SocketAddrV6};
use std::path::PathBuf;

/// The port of name servers.
const PORT: u16 = 53;

/// The names of a container on a network, the best one first.
pub(crate) fn names(container: &str, id: &str, hostname: &str, aliases: &[String]) -> Vec<String> {
    let mut names: Vec<String> = Vec::new();
    let short = id.get(..12).unwrap_or(id);
    let all = std::iter::once(container).chain(aliases.iter().map(String::as_str)).chain([short, hostname]);
    for name in all.map(str::to_lowercase).filter(|name| !name.is_empty()) {
        if !names.contains(&name) {
            names.push(name);
        }
    }
    names
}

/// The name servers of a resolv.conf, in its order.
pub(crate) fn servers(text: &str) -> Vec<String> {
    let words = text.lines().filter_map(|line| {
        let mut words = line.split_ascii_whitespace();
        (words.next() == Some("nameserver")).then(|| words.next().map(str::to_owned)).flatten()
    });
    words.collect()
}

/// An address as a resolv.conf has it: an IPv6 one may name a device (`fe80::1%eth0`).
fn server(text: &str) -> Option<SocketAddr> {
    let (address, device) = text.split_once('%').map_or((text, None), |(address, device)| (address, Some(device)));
    match (address.parse().ok()?, device) {
        (IpAddr::V6(address), Some(device)) => {
            let found = std::fs::read_to_string(format!("/sys/class/net/{}/ifindex", device.replace('/', ""))).ok()?;
            Some(SocketAddrV6::new(address, PORT, 0, found.trim().parse().ok()?).into())
        }
        (address, _) => Some(SocketAddr::new(address, PORT)),
    }
}

/// Whether a server is on the host itself, where a container cannot ask it.
fn is_loopback(text: &str) -> bool {
    text.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// Whether the container gets a name server of ours: on networks with names, and where the host's own servers are such that
/// only the host can ask them.
pub(crate) fn needs_server(all: &[Attached], own_servers: &[String], hosts_own: &str) -> bool {
    let named = all.iter().any(|each| each.network.name != DEFAULT);
    let unreachable = || {
        let servers = servers(hosts_own);
        !servers.is_empty() && servers.iter().all(|server| is_loopback(server))
    };
    named || (!all.is_empty() && own_servers.is_empty() && unreachable())
}

impl Engine {
    /// A name server as the monitor reaches it: an ordinary user's monitor is not on the host's loopback.
    fn server(&self, text: &str) -> Option<SocketAddr> {
        if is_loopback(text) && self.host().is_ok_and(|host| host.user_namespace) {
            return Some(SocketAddr::new(super::user::HOSTS_RESOLVER, PORT));
        }
        server(text)
    }

    /// The host as a container sees it: its own gateway, or for an ordinary user's containers the address by which the host
    /// goes out; their gateway is their own namespace.
    pub(crate) fn host_addresses(&self, all: &[Attached]) -> Vec<IpAddr> {
        let own = self.addresses_of_host();
        if own.is_empty() || all.is_empty() { gateways(all) } else { own }
    }

    fn host_names(&self, all: &[Attached]) -> BTreeMap<String, Vec<IpAddr>> {
        let addresses = self.host_addresses(all);
        let names = ["host.docker.internal", "host.dhow.internal"];
        if addresses.is_empty() {
            BTreeMap::new()
        } else {
            names.map(|name| (name.to_owned(), addresses.clone())).into()
        }
    }

    /// The directory of what is known of a network until the next boot.
    fn names_directory(&self, network: &str) -> PathBuf {
        self.directories().run.join("networks").join(network)
    }

    /// Tells those who share a network with a container what it is called there.
    pub(crate) fn announce(&self, entry: &Entry, all: &[Attached]) -> Result<()> {
        for each in all.iter().filter(|each| each.network.name != DEFAULT) {
            let directory = self.names_directory(&each.network.id);
            crate::directories::make(&directory, 0o700)?;
            let names = names(&entry.name, &entry.id, &entry.settings.hostname, &each.request.aliases);
            let addresses = each.place.addresses().map(|address| address.address()).collect();
            let text = serde_json::to_vec(&NameEntry { names, addresses }).internal(|| "cannot write names".into())?;
            // A reader sees the old or the new one: names that begin with a dot are not written by anybody else.
            let (new, path) = (directory.join(format!(".{}", entry.id)), directory.join(&entry.id));
            std::fs::write(&new, text)
                .and_then(|()| std::fs::rename(&new, &path))
                .internal(|| format!("cannot write {}", path.display()))?;
        }
        Ok(())
    }

    /// Takes a container's names back.
    pub(crate) fn withdraw(&self, container: &str, network: &str) -> Result<()> {
        let path = self.names_directory(network).join(container);
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(error).internal(|| format!("cannot remove {}", path.display()))
            }
            _ => Ok(()),
        }
    }

    /// Forgets a network's names.
    pub(crate) fn forget_names(&self, network: &str) {
        // It is empty when the network goes; what stays is gone with the next boot.
        drop(std::fs::remove_dir(self.names_directory(network)));
    }

    /// What the container's name server is told; none if it gets none.
    pub(crate) fn name_plan(&self, entry: &Entry, all: &[Attached]) -> Option<NamePlan> {
        let hosts_own = std::fs::read_to_string("/etc/resolv.conf").unwrap_or_default();
        let settings = &entry.settings;
        if !needs_server(all, &settings.dns, &hosts_own) {
            return None;
        }
        let is_closed = all.iter().all(|each| each.network.settings.internal);
        let upstream = if settings.dns.is_empty() { servers(&hosts_own) } else { settings.dns.clone() };
        let named: Vec<&Attached> = all.iter().filter(|each| each.network.name != DEFAULT).collect();
        Some(NamePlan {
            networks: named
                .iter()
                .map(|each| NamePlace {
                    network: each.network.name.clone(),
                    directory: self.names_directory(&each.network.id),
                })
                .collect(),
            hosts: self.host_names(all),
            links: named.iter().flat_map(|each| each.request.links.iter().map(|link| split_link(link))).collect(),
            subnets: named
                .iter()
                .flat_map(|each| each.network.settings.subnets.iter().map(|subnet| subnet.subnet))
                .collect(),
            // CVE-2024-29018: no question leaves a network that nothing is to leave.
            upstream: if is_closed {
                Vec::new()
            } else {
                upstream.iter().filter_map(|text| self.server(text)).collect()
            },
        })
    }
}

/// `CONTAINER:NAME` as the new name and the old one.
pub(super) fn split_link(link: &str) -> (String, String) {
    let (container, name) = link.split_once(':').unwrap_or((link, link));
    (name.to_lowercase(), container.to_lowercase())
}

/// The host by its address on a bridge: of the container's way out, or of any. Of a container that is on devices of the host
/// alone, where a gateway is another machine, by the host's own address there.
fn gateways(all: &[Attached]) -> Vec<IpAddr> {
    let [four, six] = super::ways_out(all);
    let is_bridge = |each: &Attached| each.network.settings.driver == Driver::Bridge;
    let has = |each: &Attached, ipv6| is_bridge(each) && each.place.gateway(ipv6).is_some();
    let gateway = |way_out: Option<usize>, ipv6| {
        let chosen = way_out.and_then(|position| all.get(position)).filter(|each| has(each, ipv6));
        chosen.or_else(|| all.iter().find(|each| has(each, ipv6)))?.place.gateway(ipv6)
    };
    if all.is_empty() || all.iter().any(is_bridge) {
        return gateway(four, false).into_iter().chain(gateway(six, true)).collect();
    }
    super::own::on_devices(all)
}

impl Container {
    /// The names by which others on a network know it while it runs; none on the default bridge.
    pub fn names_on(&self, endpoint: &Endpoint) -> Vec<String> {
        if endpoint.place.is_none() || endpoint.network == DEFAULT {
            return Vec::new();
        }
        names(&self.name, &self.id, &self.settings.hostname, &endpoint.request.aliases)
    }
}
