//! Addresses and routes over rtnetlink (rtnetlink(7)).

use crate::cidr::{Cidr, from_octets, octets};
use crate::error::{Error, refused};
use crate::netlink::{Attributes, CREATE, EXCLUSIVE, REPLACE, Request, Socket, byte_at, u32_at};
use serde::{Deserialize, Serialize};
use std::net::IpAddr;

const RTM_NEWADDR: u16 = 20;
const RTM_DELADDR: u16 = 21;
const RTM_GETADDR: u16 = 22;
const RTM_NEWROUTE: u16 = 24;
const RTM_DELROUTE: u16 = 25;
const RTM_GETROUTE: u16 = 26;

const IFA_ADDRESS: u16 = 1;
const IFA_LOCAL: u16 = 2;
const IFA_BROADCAST: u16 = 4;
/// No duplicate address detection: the address is usable at once. Addresses are ours to give, there is no duplicate.
const IFA_F_NODAD: u8 = 0x02;

const RTA_DST: u16 = 1;
const RTA_OIF: u16 = 4;
const RTA_GATEWAY: u16 = 5;
const RTA_PRIORITY: u16 = 6;
const RTA_PREFSRC: u16 = 7;
const RTA_TABLE: u16 = 15;
const RT_TABLE_MAIN: u8 = 254;
const RTPROT_BOOT: u8 = 3;
const RT_SCOPE_LINK: u8 = 253;
/// In a removal: of any scope.
const RT_SCOPE_NOWHERE: u8 = 255;
const RTN_UNICAST: u8 = 1;

const AF_INET: u8 = 2;
const AF_INET6: u8 = 10;

/// An address of a device.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Address {
    /// Index of the device.
    pub index: u32,
    /// Address and prefix.
    pub address: Cidr,
    /// 0 global, 253 link, 254 host.
    pub scope: u8,
}

/// A route of the main table.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Route {
    /// Where to; `/0` for the default route.
    pub destination: Cidr,
    /// By way of whom.
    pub gateway: Option<IpAddr>,
    /// Index of the device, where there is one.
    pub index: Option<u32>,
    /// Preferred source address.
    pub source: Option<IpAddr>,
    /// Metric.
    pub priority: u32,
}

fn family(ipv6: bool) -> u8 {
    if ipv6 { AF_INET6 } else { AF_INET }
}

/// `struct ifaddrmsg`.
fn address_header(cidr: Option<Cidr>, index: u32) -> [u8; 8] {
    let mut bytes = [0; 8];
    if let Some(cidr) = cidr {
        bytes[0] = family(cidr.is_ipv6());
        bytes[1] = cidr.prefix();
        bytes[2] = if cidr.is_ipv6() { IFA_F_NODAD } else { 0 };
    }
    bytes[4..8].copy_from_slice(&index.to_ne_bytes());
    bytes
}

/// Gives a device an address, or leaves the one that is there.
pub(crate) fn add_address(index: u32, cidr: Cidr) -> Request {
    let mut request = Request::new(RTM_NEWADDR, CREATE | REPLACE);
    request.raw(&address_header(Some(cidr), index));
    let bytes = octets(cidr.address());
    request.bytes(IFA_LOCAL, &bytes).bytes(IFA_ADDRESS, &bytes);
    if !cidr.is_ipv6() && cidr.prefix() < 31 {
        request.bytes(IFA_BROADCAST, &octets(cidr.last()));
    }
    request
}

/// Takes an address from a device.
pub(crate) fn delete_address(index: u32, cidr: Cidr) -> Request {
    let mut request = Request::new(RTM_DELADDR, 0);
    request.raw(&address_header(Some(cidr), index)).bytes(IFA_LOCAL, &octets(cidr.address()));
    request
}

/// Every address of the socket's namespace.
pub(crate) fn addresses(socket: &mut Socket) -> Result<Vec<Address>, Error> {
    let mut request = Request::new(RTM_GETADDR, 0);
    request.raw(&address_header(None, 0));
    dump_addresses(socket, &mut request)
}

/// The addresses of one device, at a cost that does not grow with the number of devices where the kernel looks at what a
/// request asks for (Linux 4.20, `NETLINK_GET_STRICT_CHK`).
pub(crate) fn addresses_of(socket: &mut Socket, index: u32) -> Result<Vec<Address>, Error> {
    let mut request = Request::new(RTM_GETADDR, 0);
    request.raw(&address_header(None, index));
    let mut found = dump_addresses(socket, &mut request)?;
    found.retain(|address| address.index == index);
    Ok(found)
}

fn dump_addresses(socket: &mut Socket, request: &mut Request) -> Result<Vec<Address>, Error> {
    let entries = match socket.dump(request) {
        Ok(entries) => entries,
        // The device went meanwhile.
        Err(failure) if failure.errno == rustix::io::Errno::NODEV => Vec::new(),
        Err(failure) => return Err(refused("RTM_GETADDR(dump)")(failure)),
    };
    Ok(entries
        .iter()
        .filter(|(kind, _)| *kind == RTM_NEWADDR)
        .filter_map(|(_, payload)| parse_address(payload))
        .collect())
}

fn parse_address(payload: &[u8]) -> Option<Address> {
    let attributes = Attributes(payload.get(8..)?);
    let bytes = attributes.find(IFA_LOCAL).or_else(|| attributes.find(IFA_ADDRESS))?;
    let address = Cidr::new(from_octets(bytes)?, byte_at(payload, 1))?;
    Some(Address { index: u32_at(payload, 4), address, scope: byte_at(payload, 3) })
}

/// A route; through `gateway` or straight to the device.
pub(crate) fn add_route(destination: Cidr, gateway: Option<IpAddr>, index: u32) -> Request {
    let mut request = Request::new(RTM_NEWROUTE, CREATE | REPLACE);
    let scope = if gateway.is_none() && !destination.is_ipv6() { RT_SCOPE_LINK } else { 0 };
    let header =
        [family(destination.is_ipv6()), destination.prefix(), 0, 0, RT_TABLE_MAIN, RTPROT_BOOT, scope, RTN_UNICAST];
    request.raw(&header).raw(&[0; 4]);
    if destination.prefix() > 0 {
        request.bytes(RTA_DST, &octets(destination.address()));
    }
    if let Some(gateway) = gateway {
        request.bytes(RTA_GATEWAY, &octets(gateway));
    }
    request.u32(RTA_OIF, index);
    request
}

const RTM_NEWRULE: u16 = 32;
const RTM_DELRULE: u16 = 33;
/// Tables of no other use.
const TABLE_OF_THIS_HOST: u32 = 25_704;
const TABLE_OF_THE_GATE: u32 = 25_705;

/// What has the mark is looked up in the table; `local` for what this host itself sends or asks, not what it forwards.
fn rule(kind: u16, flags: u16, ipv6: bool, mark: u32, table: u32, local: bool) -> Request {
    const FRA_IIFNAME: u16 = 3;
    const FRA_PRIORITY: u16 = 6;
    const FRA_FWMARK: u16 = 10;
    const FRA_TABLE: u16 = 15;
    const FR_ACT_TO_TBL: u8 = 1;
    /// Before the main table (32766), behind the local one (0).
    const PRIORITY: u32 = 100;
    let mut rule = Request::new(kind, flags);
    // `struct fib_rule_hdr`.
    rule.raw(&[family(ipv6), 0, 0, 0, 0, 0, 0, FR_ACT_TO_TBL]).raw(&[0; 4]);
    rule.u32(FRA_PRIORITY, PRIORITY).u32(FRA_FWMARK, mark).u32(FRA_TABLE, table);
    if local {
        rule.text(FRA_IIFNAME, "lo");
    }
    rule
}

/// For whoever asks by which device senders of what has the mark are reached (`fib saddr . mark . iif`): by the gate. Packets are
/// not led there, since the rule is not for what comes in by a device.
pub(crate) fn back_through_the_gate(mark: u32, gate: u32) -> [Request; 2] {
    let rule = rule(RTM_NEWRULE, CREATE | EXCLUSIVE, true, mark, TABLE_OF_THE_GATE, true);
    let mut route = Request::new(RTM_NEWROUTE, CREATE | REPLACE);
    route.raw(&[family(true), 0, 0, 0, 0, RTPROT_BOOT, 0, RTN_UNICAST]).raw(&[0; 4]);
    route.u32(RTA_TABLE, TABLE_OF_THE_GATE).u32(RTA_OIF, gate);
    [rule, route]
}

/// Takes the rule of [`back_through_the_gate`] away; the route goes with its device.
pub(crate) fn not_through_the_gate(mark: u32) -> Request {
    rule(RTM_DELRULE, 0, true, mark, TABLE_OF_THE_GATE, true)
}

/// Everything that has the mark is for this host, whatever address it is for: a rule and a table with one route.
pub(crate) fn for_this_host(ipv6: bool, mark: u32, loopback: u32) -> [Request; 2] {
    const RTN_LOCAL: u8 = 2;
    const RT_SCOPE_HOST: u8 = 254;
    let rule = rule(RTM_NEWRULE, CREATE | EXCLUSIVE, ipv6, mark, TABLE_OF_THIS_HOST, false);
    let mut route = Request::new(RTM_NEWROUTE, CREATE | REPLACE);
    let scope = if ipv6 { 0 } else { RT_SCOPE_HOST };
    route.raw(&[family(ipv6), 0, 0, 0, 0, RTPROT_BOOT, scope, RTN_LOCAL]).raw(&[0; 4]);
    route.u32(RTA_TABLE, TABLE_OF_THIS_HOST).u32(RTA_OIF, loopback);
    [rule, route]
}

/// Takes a route of the main table away; `None` for one without a device.
pub(crate) fn delete_route(route: &Route) -> Option<Request> {
    let mut request = Request::new(RTM_DELROUTE, 0);
    let destination = route.destination;
    let header = [family(destination.is_ipv6()), destination.prefix(), 0, 0, RT_TABLE_MAIN, 0, RT_SCOPE_NOWHERE, 0];
    request.raw(&header).raw(&[0; 4]);
    if destination.prefix() > 0 {
        request.bytes(RTA_DST, &octets(destination.address()));
    }
    request.u32(RTA_OIF, route.index?);
    Some(request)
}

/// The unicast routes of the main table, both families.
pub(crate) fn routes(socket: &mut Socket) -> Result<Vec<Route>, Error> {
    let mut found = Vec::new();
    for family in [AF_INET, AF_INET6] {
        let mut request = Request::new(RTM_GETROUTE, 0);
        let mut header = [0; 12];
        header[0] = family;
        // A filter since Linux 4.20: the local table has three routes for each address.
        header[4] = RT_TABLE_MAIN;
        request.raw(&header);
        let entries = match socket.dump(&mut request) {
            Ok(entries) => entries,
            // A kernel without IPv6 has no such table.
            Err(failure) if family == AF_INET6 && failure.errno == rustix::io::Errno::OPNOTSUPP => continue,
            // The table is made with its first route.
            Err(failure) if failure.errno == rustix::io::Errno::NOENT => continue,
            Err(failure) => return Err(refused("RTM_GETROUTE(dump)")(failure)),
        };
        found.extend(
            entries.iter().filter(|(kind, _)| *kind == RTM_NEWROUTE).filter_map(|(_, payload)| parse_route(payload)),
        );
    }
    Ok(found)
}

fn parse_route(payload: &[u8]) -> Option<Route> {
    let attributes = Attributes(payload.get(12..)?);
    let table = attributes.u32(RTA_TABLE).unwrap_or(u32::from(byte_at(payload, 4)));
    if table != u32::from(RT_TABLE_MAIN) || byte_at(payload, 7) != RTN_UNICAST {
        return None;
    }
    let any = Cidr::everything(payload[0] == AF_INET6).address();
    let destination = attributes.find(RTA_DST).and_then(from_octets).unwrap_or(any);
    Some(Route {
        destination: Cidr::new(destination, byte_at(payload, 1))?,
        gateway: attributes.find(RTA_GATEWAY).and_then(from_octets),
        index: attributes.u32(RTA_OIF),
        source: attributes.find(RTA_PREFSRC).and_then(from_octets),
        priority: attributes.u32(RTA_PRIORITY).unwrap_or_default(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    proptest::proptest! {
        #[test]
        fn never_panics(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..300)) {
            let _address = parse_address(&bytes);
            let _route = parse_route(&bytes);
        }
    }
}
