//! What a container's start needs of its networks: places with addresses, ways out, ports, names.

use super::gateway::{Attached, routes, ways_out};
use super::options::NetworkRequest;
use super::parameters;
use super::ports::{self, Held};
use super::record::{Driver, Endpoint, Network, NetworkSettings, Place, Subnet};
use super::settle::Surroundings;
use super::table::{self, Published};
use super::user::UserNetwork;
use super::{DEFAULT, DEFAULT_INTERFACE};
use crate::containers::options::PublishedPort;
use crate::containers::table::Entry;
use crate::engine::Engine;
use crate::error::{Context, Error, Kind, Result};
use monitor::{NamePlan, RelayPlan};
use network::pools::{self, Used};
use network::{Attachment, Cidr, DirectAttachment, Mac};
use rusqlite::Transaction;
use std::net::IpAddr;
use std::os::fd::OwnedFd;

/// A container's places on its networks, with all that is needed to make them.
#[derive(Debug, Default)]
pub(crate) struct Joined {
    /// In the order in which they were asked for.
    pub all: Vec<Attached>,
    /// The ports that lead to it.
    pub published: Published,
    /// The sockets that hold them.
    pub sockets: Vec<OwnedFd>,
    /// What its name server is told.
    pub names: Option<NamePlan>,
    /// The namespace in which its networks are, where that is not the host's.
    pub user: Option<UserNetwork>,
    /// What the user should know.
    pub remark: Option<String>,
}

impl Joined {
    /// The addresses of the networks that are its ways out, IPv4 first.
    pub(crate) fn addresses(all: &[Attached]) -> Vec<IpAddr> {
        let [four, six] = ways_out(all);
        let address = |position: Option<usize>, ipv6| {
            let place = &all.get(position?)?.place;
            (if ipv6 { place.ipv6 } else { place.ipv4 }).map(|address| address.address())
        };
        address(four, false).into_iter().chain(address(six, true)).collect()
    }

    /// Where published ports lead to, for the monitor of an ordinary user's container.
    pub(crate) fn relay(&self) -> Option<RelayPlan> {
        let port = |port: &PublishedPort| {
            let protocol = ports::protocol(port).ok()?;
            Some(network::RelayedPort { protocol, container_port: port.container_port })
        };
        let ports: Vec<_> = self.published.ports.iter().filter_map(port).collect();
        (!ports.is_empty()).then(|| RelayPlan { ports, targets: self.published.publication.addresses.clone() })
    }

    /// What the monitor makes.
    pub(crate) fn links(&self, container: &str) -> Result<(Vec<Attachment>, Vec<DirectAttachment>)> {
        links(&self.all, container)
    }

    /// The container's endpoints as they are from now on.
    pub(crate) fn endpoints(&self) -> Vec<Endpoint> {
        let endpoint = |each: &Attached| Endpoint {
            network: each.network.name.clone(),
            network_id: each.network.id.clone(),
            request: each.request.clone(),
            place: Some(each.place.clone()),
        };
        self.all.iter().map(endpoint).collect()
    }
}

/// The devices of a container's networks.
pub(crate) fn links(all: &[Attached], container: &str) -> Result<(Vec<Attachment>, Vec<DirectAttachment>)> {
    let routes = routes(all);
    let (mut pairs, mut direct) = (Vec::new(), Vec::new());
    for each in all {
        let gateways: Vec<IpAddr> =
            routes.iter().filter(|(name, _)| *name == each.place.interface).map(|(_, gateway)| *gateway).collect();
        let mut addresses: Vec<Cidr> = each.place.addresses().collect();
        let local = |ip: &IpAddr| Cidr::new(*ip, if ip.is_ipv6() { 64 } else { 16 });
        addresses.extend(each.request.link_local_ips.iter().filter_map(local));
        let mac: Option<Mac> = each.place.mac.parse().ok();
        let parameters = parameters::asked(&each.request, &each.place.interface)?;
        if let Some(kind) = each.network.upper() {
            direct.push(DirectAttachment {
                parent: each.network.settings.options.get("parent").cloned().unwrap_or_default(),
                kind,
                container_interface: each.place.interface.clone(),
                mac: mac.filter(|_| each.network.settings.driver == Driver::Macvlan),
                addresses,
                gateways,
                mtu: each.network.mtu(),
                parameters,
            });
        } else if each.network.settings.driver == Driver::Bridge {
            pairs.push(Attachment {
                bridge: each.network.interface.clone(),
                host_interface: network::host_interface(container, each.place.index),
                container_interface: each.place.interface.clone(),
                mac: mac.ok_or_else(|| {
                    Error::new(Kind::Corrupt, format!("the place of container {container} is unreadable"))
                })?,
                addresses,
                gateways,
                mtu: each.network.mtu(),
                isolated: !each.network.icc(),
                parameters,
            });
        }
    }
    Ok((pairs, direct))
}

impl Engine {
    /// Everything that a container's start needs of its networks; recorded, and nothing made but the sockets of its ports,
    /// unless it has `kept` those of its run before.
    pub(crate) fn join_networks(&self, entry: &Entry, kept: Option<Vec<PublishedPort>>) -> Result<Joined> {
        self.begin_networks()?;
        // First, since it may take longest; a monitor that starts its container again is there already.
        let user = if kept.is_some() { None } else { self.user_network()? };
        if entry.endpoints.iter().any(|endpoint| endpoint.network == DEFAULT || endpoint.network_id.is_empty()) {
            self.default_network()?;
        }
        // Which networks they are does not depend on addresses, and a port that is taken is found before anything is recorded.
        let networks = self.networks_of(entry)?;
        let binding = networks.iter().find_map(|(network, _)| network.binding());
        let held = match kept {
            Some(ports) => Held { sockets: Vec::new(), ports },
            None => self.hold_ports(&entry.settings, binding)?,
        };
        let (all, published) = self.database()?.write(|t| {
            let mut all = Vec::with_capacity(networks.len());
            for (network, request) in networks {
                let place = take_place(t, &entry.id, &network, &request, &all)?;
                all.push(Attached { network, request, place });
            }
            let way_out = ways_out(&all)[0].and_then(|position| all.get(position)).map(|each| &each.network);
            let published = ports::published(&held.ports, Joined::addresses(&all), way_out)?;
            table::set_published(t, &entry.id, &published)?;
            Ok((all, published))
        })?;
        self.announce(entry, &all)?;
        for each in all.iter().filter(|each| each.network.name != DEFAULT) {
            self.record_of_network(&each.network, "connect", Some(&entry.id));
        }
        let names = self.name_plan(entry, &all);
        Ok(Joined { all, published, sockets: held.sockets, names, user, remark: None })
    }

    fn networks_of(&self, entry: &Entry) -> Result<Vec<(Network, NetworkRequest)>> {
        let database = self.database()?;
        let find = |endpoint: &Endpoint| {
            let by_id = match endpoint.network_id.as_str() {
                "" => table::exact(database.read(), &endpoint.network)?,
                id => table::exact(database.read(), id)?,
            };
            let network = by_id.ok_or_else(|| {
                Error::new(Kind::NotFound, format!("network {} not found", endpoint.network)).hint(format!(
                    "it was removed since; make it again and use `dhow network connect {} {}`",
                    endpoint.network, entry.name
                ))
            })?;
            Ok((network, endpoint.request.clone()))
        };
        entry.endpoints.iter().map(find).collect()
    }

    /// The default network; its ranges are chosen when it is first needed.
    pub(crate) fn default_network(&self) -> Result<Network> {
        if let Some(network) = table::default_network(self.database()?.read())? {
            return Ok(network);
        }
        let around = self.surroundings()?;
        let failed = || "cannot choose a range for the default network".to_owned();
        let mut subnets = Vec::new();
        let four = pools::choose(&pools::default_network(), &around.used).kind(Kind::Unavailable, failed)?;
        let six = around.ipv6.then(|| pools::choose(&[around.unique_local], &around.used));
        let six = six.transpose().kind(Kind::Unavailable, failed)?;
        for subnet in std::iter::once(four).chain(six) {
            let gateway = subnet.nth(1);
            subnets.push(Subnet { subnet, gateway, ip_range: None, auxiliary: Default::default(), asked: false });
        }
        let network = Network {
            id: crate::names::identifier()?,
            name: DEFAULT.into(),
            created_at: crate::clock::now(),
            interface: DEFAULT_INTERFACE.into(),
            settings: NetworkSettings { subnets, ipv4: true, ipv6: around.ipv6, ..NetworkSettings::default() },
        };
        table::insert_default(&mut *self.database()?, &network)
    }

    /// What matters of the host for the choice of ranges.
    pub(crate) fn surroundings(&self) -> Result<Surroundings> {
        let networks = table::all(self.database()?.read())?;
        let own = |name: &str| networks.iter().any(|network| network.interface == name);
        let mut used = pools::of_host(own).internal(|| "cannot read the host's routes".into())?;
        for network in &networks {
            let owner = || format!("the network {}", network.name);
            used.extend(network.settings.subnets.iter().map(|each| Used { range: each.subnet, owner: owner() }));
        }
        let machine = std::fs::read("/etc/machine-id")
            .unwrap_or_else(|_| self.directories().data.as_os_str().as_encoded_bytes().to_vec());
        Ok(Surroundings { used, unique_local: pools::unique_local(&machine), ipv6: has_ipv6() })
    }
}

/// The kernel has IPv6, and nobody has switched it off.
fn has_ipv6() -> bool {
    std::fs::read_to_string("/proc/sys/net/ipv6/conf/all/disable_ipv6").is_ok_and(|text| text.trim() == "0")
}

/// Takes a container's place on a network: its addresses, recorded. `others` are those that it has got already.
pub(crate) fn take_place(
    t: &Transaction<'_>,
    container: &str,
    network: &Network,
    request: &NetworkRequest,
    others: &[Attached],
) -> Result<Place> {
    let index = (0..).find(|index| others.iter().all(|other| other.place.index != *index)).unwrap_or_default();
    let address = |ipv6, wanted: Option<IpAddr>| -> Result<(Option<Cidr>, Option<IpAddr>)> {
        let subnets = network.settings.subnets.iter().filter(|subnet| subnet.subnet.is_ipv6() == ipv6);
        let subnets: Vec<&Subnet> = subnets.collect();
        let Some(first) = subnets.first() else {
            return match wanted {
                Some(address) => {
                    Err(invalid(format!("the network {} has no subnet for the address {address}", network.name)))
                }
                None => Ok((None, None)),
            };
        };
        let subnet = match wanted {
            Some(address) => subnets.iter().find(|subnet| subnet.subnet.contains(address)).unwrap_or(first),
            None => first,
        };
        let address = take_address(t, container, network, subnet, wanted)?;
        Ok((Cidr::new(address, subnet.subnet.prefix()), subnet.gateway))
    };
    let (ipv4, gateway4) = address(false, request.ipv4.map(IpAddr::V4))?;
    let (ipv6, gateway6) = address(true, request.ipv6.map(IpAddr::V6))?;
    let mac = match (&request.mac, ipv4.or(ipv6)) {
        _ if network.settings.driver == Driver::Ipvlan => String::new(),
        (Some(mac), _) => mac.clone(),
        (None, Some(address)) => Mac::for_address(address.address()).to_string(),
        (None, None) => String::new(),
    };
    let prefix = network.option("container_iface_prefix").unwrap_or("eth");
    let interface = request.driver_options.get("com.docker.network.endpoint.ifname").cloned();
    let place = Place {
        endpoint: crate::names::identifier()?,
        index,
        interface: interface.unwrap_or_else(|| format!("{prefix}{index}")),
        mac,
        ipv4,
        ipv6,
        gateway4,
        gateway6,
    };
    table::set_place(t, container, &network.id, &place)?;
    Ok(place)
}

/// The address that was asked for, the one that the container has already, or the lowest that is free.
fn take_address(
    t: &Transaction<'_>,
    container: &str,
    network: &Network,
    subnet: &Subnet,
    wanted: Option<IpAddr>,
) -> Result<IpAddr> {
    let own = table::own_lease(t, &network.id, container, subnet.subnet.is_ipv6())?;
    match (own, wanted) {
        (Some(own), None) if subnet.subnet.contains(own) => return Ok(own),
        (Some(own), Some(wanted)) if own == wanted => return Ok(own),
        (Some(own), _) => table::unlease(t, &network.id, container, own)?,
        (None, _) => {}
    }
    let leases = table::leases(t, &network.id, container)?;
    let is_used = |address: IpAddr| {
        leases.contains(&address)
            || subnet.gateway == Some(address)
            || subnet.auxiliary.values().any(|other| *other == address)
    };
    let address = match wanted {
        Some(wanted) => {
            network::address::check(subnet.subnet, wanted, is_used).kind(Kind::Conflict, || {
                format!("Address already in use, or not usable, on the network {}", network.name)
            })?;
            wanted
        }
        None => {
            let range = subnet.ip_range.unwrap_or(subnet.subnet);
            // The last address of an IPv4 range that ends with the subnet is the broadcast address.
            let broadcast = (!subnet.subnet.is_ipv6() && subnet.subnet.prefix() < 31).then(|| subnet.subnet.last());
            let own = subnet.subnet.network().address();
            let free = (0..1 << 24).map_while(|index| range.nth(index));
            free.into_iter()
                .find(|address| *address != own && Some(*address) != broadcast && !is_used(*address))
                .ok_or_else(|| {
                    Error::new(
                        Kind::Unavailable,
                        format!("no address is left in {range} of the network {}", network.name),
                    )
                })?
        }
    };
    table::lease(t, &network.id, container, address)?;
    Ok(address)
}

fn invalid(message: String) -> Error {
    Error::new(Kind::InvalidArgument, message)
}
