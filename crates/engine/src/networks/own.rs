//! The host's own addresses, for containers that have no bridge to find it by.

use super::gateway::Attached;
use super::record::Driver;
use std::net::IpAddr;

/// The addresses by which this machine goes out, IPv4 first. Another holder's pasta is not what is looked at: this process is
/// in the host's namespace.
pub(super) fn addresses() -> Vec<IpAddr> {
    let Ok(seen) = network::observe_here() else { return Vec::new() };
    let of = |ipv6: bool| {
        let route = seen
            .routes
            .iter()
            .filter(|route| route.destination.prefix() == 0 && route.destination.is_ipv6() == ipv6)
            .min_by_key(|route| route.priority)?;
        let own = seen.addresses.iter().find(|address| {
            Some(address.index) == route.index && address.scope == 0 && address.address.is_ipv6() == ipv6
        });
        route.source.or(own.map(|address| address.address.address()))
    };
    [of(false), of(true)].into_iter().flatten().collect()
}

/// The host's addresses on the devices that networks are on, or where those have none, the ones by which it goes out.
pub(super) fn on_devices(all: &[Attached]) -> Vec<IpAddr> {
    let direct = all.iter().filter(|each| matches!(each.network.settings.driver, Driver::Macvlan | Driver::Ipvlan));
    let parents: Vec<&String> = direct.filter_map(|each| each.network.settings.options.get("parent")).collect();
    if parents.is_empty() {
        return Vec::new();
    }
    let Ok(seen) = network::observe_here() else { return Vec::new() };
    let is_parent = |index| seen.links.iter().any(|link| link.index == index && parents.contains(&&link.name));
    let of = |ipv6: bool| {
        let mut own = seen.addresses.iter().filter(|each| each.scope == 0 && is_parent(each.index));
        own.find(|each| each.address.is_ipv6() == ipv6).map(|each| each.address.address())
    };
    let found: Vec<IpAddr> = [of(false), of(true)].into_iter().flatten().collect();
    if found.is_empty() { addresses() } else { found }
}
