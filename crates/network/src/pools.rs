//! Which subnet a new network gets: the first of the pools that overlaps neither another network nor a route of the host.
//!
//! Pure but for [`of_host`]: the caller brings what is in use. The pools are 172.17.0.0/16 to 172.31.0.0/16 in pieces of /16, then
//! 192.168.0.0/16 in pieces of /20 — Docker's own, so that nobody's plans change — but the default network comes from
//! 10.88.0.0/16 and the fifteen that follow, so that dhow and Docker on one host do not want the same first piece. IPv6
//! subnets are /64 of a prefix of this machine (RFC 4193).

use crate::error::Error;
use crate::routes::{self, Route};
use crate::{Cidr, links};
use std::collections::HashSet;
use std::net::{IpAddr, Ipv6Addr};

/// A range that is in use, and by whom, for the error text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Used {
    /// The range.
    pub range: Cidr,
    /// `network web`, `route on eth0`.
    pub owner: String,
}

/// A pool and the prefix length of the pieces that it is cut into.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pool {
    /// The whole range.
    pub range: Cidr,
    /// Prefix length of a piece.
    pub piece: u8,
}

fn pool(text: &str, piece: u8) -> Option<Pool> {
    Some(Pool { range: text.parse().ok()?, piece })
}

/// The pools for the default network `bridge`.
pub fn default_network() -> Vec<Pool> {
    let ranges = [("10.88.0.0/13", 16), ("172.16.0.0/12", 16), ("192.168.0.0/16", 20)];
    ranges.iter().filter_map(|(text, piece)| pool(text, *piece)).collect()
}

/// The pools for networks that users make.
pub fn user_networks() -> Vec<Pool> {
    let ranges = [
        ("172.18.0.0/15", 16),
        ("172.20.0.0/14", 16),
        ("172.24.0.0/13", 16),
        ("192.168.0.0/16", 20),
        ("10.96.0.0/11", 16),
    ];
    ranges.iter().filter_map(|(text, piece)| pool(text, *piece)).collect()
}

/// The pool of IPv6 subnets of this machine: `fd` and 40 bits of `machine` (the machine id or anything else that is random
/// and stays), cut into /64. RFC 4193 wants them pseudo-random, so that two hosts that are joined later do not collide.
pub fn unique_local(machine: &[u8]) -> Pool {
    // FNV-1a, 64 bits; uniqueness of 40 bits is all that is wanted, no secret.
    let hash = machine
        .iter()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3));
    let [_, _, _, a, b, c, d, e] = hash.to_be_bytes();
    let prefix = [0xfd, a, b, c, d, e, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    // 48 and 64 are never longer than an IPv6 address.
    let range = Cidr::new(IpAddr::V6(Ipv6Addr::from(prefix)), 48).unwrap_or_else(|| Cidr::everything(true));
    Pool { range, piece: 64 }
}

/// The ranges that routes lead to, default routes left out, without those by a device that is `own`. `name_of` is asked once
/// for each range: the link-local one, which every device has, does not cost more where there are more devices.
fn of_routes(
    routes: &[Route],
    own: impl Fn(&str) -> bool,
    mut name_of: impl FnMut(u32) -> Result<Option<String>, Error>,
) -> Result<Vec<Used>, Error> {
    let mut used: Vec<Used> = Vec::new();
    let mut known = HashSet::new();
    for route in routes.iter().filter(|route| route.destination.prefix() > 0) {
        if known.contains(&route.destination) {
            continue;
        }
        let device = route.index.map(&mut name_of).transpose()?.flatten();
        if device.as_deref().is_some_and(&own) {
            continue;
        }
        known.insert(route.destination);
        let device = device.unwrap_or_else(|| "this machine".to_owned());
        used.push(Used { range: route.destination, owner: format!("the route on {device}") });
    }
    Ok(used)
}

/// The ranges in use on this host: its routes, without those of `own` (bridges of dhow's, whose networks the caller knows by
/// name).
///
/// # Errors
/// The kernel's refusal of a dump.
pub fn of_host(own: impl Fn(&str) -> bool) -> Result<Vec<Used>, Error> {
    let mut socket = links::open()?;
    let routes = routes::routes(&mut socket)?;
    of_routes(&routes, own, |index| links::name_of(&mut socket, index))
}

/// The first free piece of the pools.
///
/// # Errors
/// [`Error::PoolsExhausted`].
pub fn choose(pools: &[Pool], used: &[Used]) -> Result<Cidr, Error> {
    for pool in pools {
        let pieces = 1u128 << (pool.piece - pool.range.prefix()).min(20);
        let width = if pool.range.is_ipv6() { 128 } else { 32 };
        let size = 1u128 << (width - pool.piece);
        let mut index = 0;
        while index < pieces {
            let piece = pool.range.nth(index * size).and_then(|address| Cidr::new(address, pool.piece));
            let Some(piece) = piece else { break };
            if used.iter().all(|other| !other.range.overlaps(&piece)) {
                return Ok(piece);
            }
            index += 1;
        }
    }
    Err(Error::PoolsExhausted)
}

/// Checks a subnet that a user asked for.
///
/// # Errors
/// [`Error::Overlap`] names the other owner.
pub fn check(subnet: Cidr, used: &[Used]) -> Result<(), Error> {
    match used.iter().find(|other| other.range.overlaps(&subnet)) {
        Some(other) => Err(Error::Overlap { subnet, other: other.range, owner: other.owner.clone() }),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn used(ranges: &[&str]) -> Vec<Used> {
        ranges.iter().map(|text| Used { range: text.parse().unwrap(), owner: format!("the route on {text}") }).collect()
    }

    #[test]
    fn avoids_what_is_in_use() {
        let choose = |ranges: &[&str]| choose(&default_network(), &used(ranges)).map(|cidr| cidr.to_string()).ok();
        assert_eq!(choose(&[]).as_deref(), Some("10.88.0.0/16"));
        assert_eq!(choose(&["10.88.5.0/24"]).as_deref(), Some("10.89.0.0/16"));
        assert_eq!(choose(&["10.0.0.0/8"]).as_deref(), Some("172.16.0.0/16"));
        assert_eq!(choose(&["10.0.0.0/8", "172.16.0.0/12"]).as_deref(), Some("192.168.0.0/20"));
        assert_eq!(choose(&["10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16"]), None);
        assert_eq!(choose(&["0.0.0.0/0"]), None, "default routes are left out by of_routes, not here");
    }

    #[test]
    fn user_networks_begin_after_dockers_default() {
        assert_eq!(choose(&user_networks(), &[]).unwrap().to_string(), "172.18.0.0/16");
    }

    #[test]
    fn unique_local_is_stable() {
        let pool = unique_local(b"machine");
        assert_eq!(pool, unique_local(b"machine"));
        assert_ne!(pool, unique_local(b"other"));
        let first = choose(&[pool], &[]).unwrap();
        assert!(first.to_string().starts_with("fd") && first.prefix() == 64, "{first}");
        let next = choose(&[pool], &[Used { range: first, owner: String::new() }]).unwrap();
        assert!(!next.overlaps(&first));
    }

    #[test]
    fn overlap_names_the_owner() {
        let error = check("10.88.0.0/24".parse().unwrap(), &used(&["10.88.0.0/16"])).unwrap_err();
        assert_eq!(
            error.to_string(),
            "subnet 10.88.0.0/24 overlaps 10.88.0.0/16, which belongs to the route on 10.88.0.0/16"
        );
    }
}
