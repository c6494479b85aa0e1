//! Which address a container gets in a subnet. Pure: the caller holds the leases.

use crate::Cidr;
use crate::cidr::bits;
use crate::error::Error;
use std::net::IpAddr;

/// Checks an address that a user asked for.
///
/// # Errors
/// [`Error::Address`] when it is outside, the network's own, the broadcast address or in use.
pub fn check(subnet: Cidr, address: IpAddr, is_used: impl Fn(IpAddr) -> bool) -> Result<(), Error> {
    let wrong = |reason| Err(Error::Address { address, subnet, reason });
    if !subnet.contains(address) {
        return wrong("it is outside");
    }
    if address == subnet.network().address() {
        return wrong("it is the network's own");
    }
    if !subnet.is_ipv6() && address == subnet.last() {
        return wrong("it is the broadcast address");
    }
    if is_used(address) {
        return wrong("it is in use");
    }
    Ok(())
}

/// The first free address after `previous` (the one that was given last: going round keeps an address unused for as long
/// as possible after its container is gone), else the first of all. The network's own and the broadcast address are never
/// given; gateways and leases are the caller's `is_used`.
///
/// # Errors
/// [`Error::SubnetExhausted`].
pub fn allocate(subnet: Cidr, previous: Option<IpAddr>, is_used: impl Fn(IpAddr) -> bool) -> Result<IpAddr, Error> {
    let first = bits(subnet.network().address());
    let last = bits(subnet.last()) - u128::from(!subnet.is_ipv6() && subnet.prefix() < 31);
    let size = last - first;
    let start = previous.filter(|address| subnet.contains(*address)).map_or(0, |address| bits(address) - first);
    // An IPv6 subnet is searched for as far as an IPv4 one can be large, which is more than there are containers.
    for step in 1..=size.min(1 << 24) {
        let index = (start + step - 1) % size + 1;
        if let Some(address) = subnet.nth(index).filter(|address| !is_used(*address)) {
            return Ok(address);
        }
    }
    Err(Error::SubnetExhausted(subnet))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn goes_round() {
        let subnet: Cidr = "10.0.0.0/29".parse().unwrap();
        let gateway: IpAddr = "10.0.0.1".parse().unwrap();
        let mut used = vec![gateway];
        let mut previous = None;
        for expected in ["10.0.0.2", "10.0.0.3", "10.0.0.4", "10.0.0.5", "10.0.0.6"] {
            let address = allocate(subnet, previous, |address| used.contains(&address)).unwrap();
            assert_eq!(address.to_string(), expected);
            used.push(address);
            previous = Some(address);
        }
        assert!(allocate(subnet, previous, |address| used.contains(&address)).is_err());
        used.retain(|address| address.to_string() != "10.0.0.3");
        assert_eq!(allocate(subnet, previous, |address| used.contains(&address)).unwrap().to_string(), "10.0.0.3");
    }

    #[test]
    fn ipv6_and_tiny_subnets() {
        let allocate = |text: &str| allocate(text.parse().unwrap(), None, |_| false).map(|address| address.to_string());
        assert_eq!(allocate("fd00::/64").unwrap(), "fd00::1");
        assert_eq!(allocate("10.0.0.4/31").unwrap(), "10.0.0.5");
        assert!(allocate("10.0.0.4/32").is_err());
    }

    #[test]
    fn static_addresses() {
        let subnet: Cidr = "10.0.0.0/24".parse().unwrap();
        let check = |text: &str| check(subnet, text.parse().unwrap(), |address| address.to_string() == "10.0.0.9");
        assert!(check("10.0.0.2").is_ok());
        for text in ["10.0.1.2", "10.0.0.0", "10.0.0.255", "10.0.0.9", "fd00::1"] {
            assert!(check(text).is_err(), "{text}");
        }
    }
}
