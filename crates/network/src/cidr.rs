//! An address with the length of its network prefix, `10.88.0.1/16` or `fd00::1/64`.
//!
//! Pure. The host part is kept: the same type says "this subnet" and "this address in its subnet".

use serde::{Deserialize, Serialize};
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

/// See the head of the module. The prefix length is never longer than the address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Cidr {
    address: IpAddr,
    prefix: u8,
}

/// Text that is not an address and a prefix length.
#[derive(Debug, thiserror::Error)]
#[error("{0:?} is not a subnet (expected an address, a slash and a prefix length, as in 172.20.0.0/16)")]
pub struct InvalidCidr(String);

impl Cidr {
    /// `None` if the prefix is longer than the address.
    pub fn new(address: IpAddr, prefix: u8) -> Option<Cidr> {
        (prefix <= width(address)).then_some(Cidr { address, prefix })
    }

    /// The address alone, with the prefix of its full length.
    pub fn host(address: IpAddr) -> Cidr {
        Cidr { address, prefix: width(address) }
    }

    /// The address, host part included.
    pub fn address(&self) -> IpAddr {
        self.address
    }

    /// Length of the prefix in bits.
    pub fn prefix(&self) -> u8 {
        self.prefix
    }

    /// Whether it is IPv6.
    pub fn is_ipv6(&self) -> bool {
        self.address.is_ipv6()
    }

    /// The same subnet with a host part of zeroes.
    pub fn network(&self) -> Cidr {
        Cidr { address: from_bits(bits(self.address) & self.mask(), self.is_ipv6()), prefix: self.prefix }
    }

    /// The last address: the broadcast address of an IPv4 subnet.
    pub fn last(&self) -> IpAddr {
        let all = if self.is_ipv6() { u128::MAX } else { u128::from(u32::MAX) };
        from_bits(bits(self.address) | (all & !self.mask()), self.is_ipv6())
    }

    /// Whether the address is inside.
    pub fn contains(&self, address: IpAddr) -> bool {
        address.is_ipv6() == self.is_ipv6() && (bits(address) ^ bits(self.address)) & self.mask() == 0
    }

    /// Whether the two have an address in common.
    pub fn overlaps(&self, other: &Cidr) -> bool {
        if self.prefix <= other.prefix { self.contains(other.address) } else { other.contains(self.address) }
    }

    /// The `index`th address, counted from the network's own; `None` beyond the end.
    pub fn nth(&self, index: u128) -> Option<IpAddr> {
        let first = bits(self.network().address);
        let address = first.checked_add(index)?;
        (address <= bits(self.last())).then(|| from_bits(address, self.is_ipv6()))
    }

    /// Everything of the family: prefix length 0.
    pub(crate) fn everything(ipv6: bool) -> Cidr {
        Cidr { address: from_bits(0, ipv6), prefix: 0 }
    }

    fn mask(&self) -> u128 {
        let width = width(self.address);
        let all = if width == 128 { u128::MAX } else { u128::from(u32::MAX) };
        if self.prefix == 0 { 0 } else { all & (all << (width - self.prefix)) }
    }
}

/// Number of bits of an address.
fn width(address: IpAddr) -> u8 {
    if address.is_ipv6() { 128 } else { 32 }
}

/// The address as a number.
pub(crate) fn bits(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => u128::from(u32::from(address)),
        IpAddr::V6(address) => u128::from(address),
    }
}

/// The number as an address; the upper bits of an IPv4 address are dropped.
pub(crate) fn from_bits(bits: u128, ipv6: bool) -> IpAddr {
    if ipv6 {
        IpAddr::V6(Ipv6Addr::from(bits))
    } else {
        IpAddr::V4(Ipv4Addr::from((bits & u128::from(u32::MAX)) as u32))
    }
}

/// The address's bytes in network order.
pub(crate) fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    }
}

/// The address in bytes from the kernel, by their number.
pub(crate) fn from_octets(bytes: &[u8]) -> Option<IpAddr> {
    match bytes.len() {
        4 => Some(IpAddr::from(<[u8; 4]>::try_from(bytes).ok()?)),
        16 => Some(IpAddr::from(<[u8; 16]>::try_from(bytes).ok()?)),
        _ => None,
    }
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix)
    }
}

impl FromStr for Cidr {
    type Err = InvalidCidr;

    fn from_str(text: &str) -> Result<Cidr, InvalidCidr> {
        let invalid = || InvalidCidr(text.to_owned());
        let (address, prefix) = text.split_once('/').ok_or_else(invalid)?;
        if prefix.starts_with('+') {
            return Err(invalid());
        }
        Cidr::new(address.parse().map_err(|_| invalid())?, prefix.parse().map_err(|_| invalid())?).ok_or_else(invalid)
    }
}

impl TryFrom<String> for Cidr {
    type Error = InvalidCidr;

    fn try_from(text: String) -> Result<Cidr, InvalidCidr> {
        text.parse()
    }
}

impl From<Cidr> for String {
    fn from(cidr: Cidr) -> String {
        cidr.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cidr(text: &str) -> Cidr {
        text.parse().unwrap()
    }

    #[test]
    fn arithmetic() {
        assert_eq!(cidr("10.88.3.4/16").network(), cidr("10.88.0.0/16"));
        assert_eq!(cidr("10.88.3.4/16").last().to_string(), "10.88.255.255");
        assert_eq!(cidr("0.0.0.0/0").last().to_string(), "255.255.255.255");
        assert_eq!(cidr("fd00::5/64").last().to_string(), "fd00::ffff:ffff:ffff:ffff");
        assert_eq!(cidr("10.0.0.0/30").nth(3).unwrap().to_string(), "10.0.0.3");
        assert_eq!(cidr("10.0.0.0/30").nth(4), None);
        assert!(cidr("::/0").contains("fd00::1".parse().unwrap()));
        assert!(!cidr("0.0.0.0/0").contains("::1".parse().unwrap()));
        assert!(cidr("10.0.0.0/8").overlaps(&cidr("10.88.0.0/16")));
        assert!(cidr("10.88.0.0/16").overlaps(&cidr("10.0.0.0/8")));
        assert!(!cidr("10.88.0.0/16").overlaps(&cidr("10.89.0.0/16")));
    }

    #[test]
    fn refuses() {
        for text in ["", "10.0.0.0", "10.0.0.0/33", "::/129", "10.0.0.0/+1", "10.0.0/8", "a/b", "10.0.0.0/8/9"] {
            assert!(text.parse::<Cidr>().is_err(), "{text}");
        }
    }
}
