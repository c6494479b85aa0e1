//! Network devices over rtnetlink: finding, making, changing and removing them (rtnetlink(7), `linux/if_link.h`).

use crate::error::{Error, refused};
use crate::netlink::{Attributes, CREATE, EXCLUSIVE, Family, Request, Socket, u32_at};
use crate::plan::{INTERFACE_NAME_MAX, Mac};
use rustix::fd::{AsRawFd, BorrowedFd};
use rustix::io::Errno;

const RTM_NEWLINK: u16 = 16;
const RTM_DELLINK: u16 = 17;
const RTM_GETLINK: u16 = 18;
const RTM_SETLINK: u16 = 19;

const IFLA_ADDRESS: u16 = 1;
const IFLA_IFNAME: u16 = 3;
const IFLA_MTU: u16 = 4;
const IFLA_LINK: u16 = 5;
const IFLA_MASTER: u16 = 10;
const IFLA_OPERSTATE: u16 = 16;
const IFLA_LINKINFO: u16 = 18;
const IFLA_STATS64: u16 = 23;
const IFLA_NET_NS_FD: u16 = 28;
const IFLA_EXT_MASK: u16 = 29;
/// Linux 4.5.
const RTEXT_FILTER_SKIP_STATS: u32 = 1 << 3;
const IFLA_INFO_KIND: u16 = 1;
const IFLA_INFO_DATA: u16 = 2;
const VETH_INFO_PEER: u16 = 1;
const IFLA_MACVLAN_MODE: u16 = 1;
const IFLA_IPVLAN_MODE: u16 = 1;
const IFLA_INFO_SLAVE_KIND: u16 = 4;
const IFLA_INFO_SLAVE_DATA: u16 = 5;
const IFLA_BRPORT_MODE: u16 = 4;
const IFLA_BRPORT_ISOLATED: u16 = 33;

const IFF_UP: u32 = 1;
const IFF_NOARP: u32 = 1 << 7;

/// A device as the kernel describes it.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Link {
    /// Interface index in its network namespace.
    pub index: u32,
    /// Interface name.
    pub name: String,
    /// `bridge`, `veth`, …; absent for hardware.
    pub kind: Option<String>,
    /// Hardware address, where it has one of six bytes.
    pub mac: Option<Mac>,
    /// Bytes.
    pub mtu: u32,
    /// Administratively up.
    pub up: bool,
    /// Operational state (RFC 2863: 6 is up, 2 down, 0 unknown).
    pub operational: u8,
    /// Index of the bridge it is a port of.
    pub master: Option<u32>,
    /// Index of its peer (veth) or lower device (macvlan), in whatever namespace that is.
    pub link: Option<u32>,
    /// Packets and bytes, received and sent.
    pub traffic: Traffic,
}

/// Counters of a device since it was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Traffic {
    /// Received packets.
    pub rx_packets: u64,
    /// Sent packets.
    pub tx_packets: u64,
    /// Received bytes.
    pub rx_bytes: u64,
    /// Sent bytes.
    pub tx_bytes: u64,
    /// Dropped on reception.
    pub rx_dropped: u64,
    /// Dropped on sending.
    pub tx_dropped: u64,
}

/// Refuses what the kernel would refuse, and what would be another path under `/proc/sys/net`.
///
/// # Errors
/// [`Error::InterfaceName`].
pub fn check_name(name: &str) -> Result<(), Error> {
    let wrong = |byte: u8| byte.is_ascii_whitespace() || matches!(byte, b'/' | b':' | b'%' | 0);
    if name.is_empty() || name.len() > INTERFACE_NAME_MAX || name == "." || name == ".." || name.bytes().any(wrong) {
        return Err(Error::InterfaceName(name.to_owned()));
    }
    Ok(())
}

/// `struct ifinfomsg`.
fn header(index: u32, flags: u32, change: u32) -> [u8; 16] {
    let mut bytes = [0; 16];
    bytes[4..8].copy_from_slice(&index.to_ne_bytes());
    bytes[8..12].copy_from_slice(&flags.to_ne_bytes());
    bytes[12..16].copy_from_slice(&change.to_ne_bytes());
    bytes
}

/// The device of this name, `None` where there is none; without its counters, which cost as much as all else.
pub(crate) fn find(socket: &mut Socket, name: &str) -> Result<Option<Link>, Error> {
    let mut request = Request::new(RTM_GETLINK, 0);
    request.raw(&header(0, 0, 0)).text(IFLA_IFNAME, name).u32(IFLA_EXT_MASK, RTEXT_FILTER_SKIP_STATS);
    let mut found = None;
    match socket.query(&mut request, |kind, payload| found = parse(kind, payload)) {
        Ok(()) => Ok(found),
        Err(failure) if failure.errno == Errno::NODEV => Ok(None),
        Err(failure) => Err(refused(format!("RTM_GETLINK({name})"))(failure)),
    }
}

/// The name of the device with this index, `None` where there is none.
pub(crate) fn name_of(socket: &mut Socket, index: u32) -> Result<Option<String>, Error> {
    match rustix::net::netdevice::index_to_name(&*socket, index) {
        Ok(name) => Ok(Some(name)),
        Err(Errno::NODEV) => Ok(None),
        Err(errno) => Err(refused(format!("ioctl(SIOCGIFNAME, {index})"))(errno.into())),
    }
}

/// The device of this name in the calling thread's network namespace, `None` where there is none; its counters are not looked at.
///
/// # Errors
/// [`Error::InterfaceName`] for what cannot be one; the kernel's refusal.
pub fn link(name: &str) -> Result<Option<Link>, Error> {
    check_name(name)?;
    find(&mut open()?, name)
}

/// Every device of the socket's namespace.
pub(crate) fn all(socket: &mut Socket) -> Result<Vec<Link>, Error> {
    let mut request = Request::new(RTM_GETLINK, 0);
    request.raw(&header(0, 0, 0));
    let entries = socket.dump(&mut request).map_err(refused("RTM_GETLINK(dump)"))?;
    Ok(entries.iter().filter_map(|(kind, payload)| parse(*kind, payload)).collect())
}

/// Every device of the calling thread's network namespace.
///
/// # Errors
/// The kernel's refusal of a socket or of the dump.
pub fn list() -> Result<Vec<Link>, Error> {
    all(&mut open()?)
}

/// A rtnetlink socket in the network namespace of the calling thread.
pub(crate) fn open() -> Result<Socket, Error> {
    Socket::open(Family::Route)
        .map_err(|error| crate::error::failed_io("socket(AF_NETLINK, SOCK_RAW, NETLINK_ROUTE)", &error))
}

fn parse(kind: u16, payload: &[u8]) -> Option<Link> {
    if kind != RTM_NEWLINK || payload.len() < 16 {
        return None;
    }
    let attributes = Attributes(&payload[16..]);
    let mac = attributes.find(IFLA_ADDRESS).and_then(|bytes| bytes.try_into().ok()).map(Mac);
    let stats = attributes.find(IFLA_STATS64).unwrap_or_default();
    let counter = |index: usize| {
        stats.get(index * 8..index * 8 + 8).and_then(|piece| piece.try_into().ok()).map_or(0, u64::from_ne_bytes)
    };
    Some(Link {
        index: u32_at(payload, 4),
        name: attributes.text(IFLA_IFNAME)?,
        kind: attributes.nested(IFLA_LINKINFO).text(IFLA_INFO_KIND),
        mac,
        mtu: attributes.u32(IFLA_MTU).unwrap_or_default(),
        up: u32_at(payload, 8) & IFF_UP != 0,
        operational: attributes.find(IFLA_OPERSTATE).and_then(|bytes| bytes.first().copied()).unwrap_or_default(),
        master: attributes.u32(IFLA_MASTER),
        link: attributes.u32(IFLA_LINK),
        traffic: Traffic {
            rx_packets: counter(0),
            tx_packets: counter(1),
            rx_bytes: counter(2),
            tx_bytes: counter(3),
            rx_dropped: counter(6),
            tx_dropped: counter(7),
        },
    })
}

/// A new bridge, down. Its hardware address is fixed: without one a bridge takes the lowest of its ports, and changes it
/// whenever a container comes or goes, under the feet of everybody's ARP tables.
pub(crate) fn new_bridge(name: &str, mac: Mac) -> Request {
    let mut request = Request::new(RTM_NEWLINK, CREATE | EXCLUSIVE);
    request.raw(&header(0, 0, 0)).text(IFLA_IFNAME, name).bytes(IFLA_ADDRESS, &mac.0);
    request.nest(IFLA_LINKINFO, |info| {
        info.text(IFLA_INFO_KIND, "bridge");
    });
    request
}

/// One end of a veth pair that is to be made.
pub(crate) struct End<'a> {
    pub(crate) name: &'a str,
    pub(crate) mac: Option<Mac>,
    pub(crate) mtu: Option<u32>,
    pub(crate) up: bool,
}

/// A veth pair with its second end in another network namespace under its final name: nothing is renamed or moved.
pub(crate) fn new_veth(here: &End<'_>, master: u32, there: &End<'_>, netns: BorrowedFd<'_>) -> Request {
    let mut request = Request::new(RTM_NEWLINK, CREATE | EXCLUSIVE);
    end(&mut request, here);
    request.u32(IFLA_MASTER, master).nest(IFLA_LINKINFO, |info| {
        info.text(IFLA_INFO_KIND, "veth").nest(IFLA_INFO_DATA, |data| {
            data.nest(VETH_INFO_PEER, |peer| {
                end(peer, there);
                peer.u32(IFLA_NET_NS_FD, netns.as_raw_fd().cast_unsigned());
            });
        });
    });
    request
}

/// A veth pair with both ends in the socket's namespace.
pub(crate) fn new_gate(one: &End<'_>, other: &End<'_>) -> Request {
    let mut request = Request::new(RTM_NEWLINK, CREATE | EXCLUSIVE);
    end(&mut request, one);
    request.nest(IFLA_LINKINFO, |info| {
        info.text(IFLA_INFO_KIND, "veth").nest(IFLA_INFO_DATA, |data| {
            data.nest(VETH_INFO_PEER, |peer| end(peer, other));
        });
    });
    request
}

fn end(request: &mut Request, end: &End<'_>) {
    let flags = if end.up { IFF_UP } else { 0 };
    request.raw(&header(0, flags, flags)).text(IFLA_IFNAME, end.name);
    if let Some(mac) = end.mac {
        request.bytes(IFLA_ADDRESS, &mac.0);
    }
    if let Some(mtu) = end.mtu {
        request.u32(IFLA_MTU, mtu);
    }
}

/// A device on top of another one of the host, made inside the container's namespace: its kind and mode.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Upper {
    /// macvlan, neighbours on the same device reach one another (`MACVLAN_MODE_BRIDGE`).
    MacvlanBridge,
    /// macvlan, every device for itself (`MACVLAN_MODE_PRIVATE`).
    MacvlanPrivate,
    /// macvlan, the switch outside must send back (`MACVLAN_MODE_VEPA`).
    MacvlanVepa,
    /// macvlan that takes the device over (`MACVLAN_MODE_PASSTHRU`).
    MacvlanPassthru,
    /// ipvlan on layer 2.
    IpvlanL2,
    /// ipvlan on layer 3.
    IpvlanL3,
    /// ipvlan on layer 3 with the host's netfilter.
    IpvlanL3s,
}

/// A macvlan or ipvlan device in another network namespace.
pub(crate) fn new_upper(kind: Upper, lower: u32, there: &End<'_>, netns: BorrowedFd<'_>) -> Request {
    let mut request = Request::new(RTM_NEWLINK, CREATE | EXCLUSIVE);
    end(&mut request, there);
    request.u32(IFLA_LINK, lower).u32(IFLA_NET_NS_FD, netns.as_raw_fd().cast_unsigned());
    request.nest(IFLA_LINKINFO, |info| {
        let macvlan = match kind {
            Upper::MacvlanPrivate => Some(1),
            Upper::MacvlanVepa => Some(2),
            Upper::MacvlanBridge => Some(4),
            Upper::MacvlanPassthru => Some(8),
            Upper::IpvlanL2 | Upper::IpvlanL3 | Upper::IpvlanL3s => None,
        };
        let ipvlan = match kind {
            Upper::IpvlanL3 => 1,
            Upper::IpvlanL3s => 2,
            _ => 0,
        };
        info.text(IFLA_INFO_KIND, if macvlan.is_some() { "macvlan" } else { "ipvlan" });
        info.nest(IFLA_INFO_DATA, |data| {
            match macvlan {
                Some(mode) => data.u32(IFLA_MACVLAN_MODE, mode),
                None => data.u16(IFLA_IPVLAN_MODE, ipvlan),
            };
        });
    });
    request
}

/// Sets a device's MTU. A bridge follows its ports until its MTU has been changed; being made with one is no change.
pub(crate) fn set_mtu(index: u32, mtu: u32) -> Request {
    let mut request = Request::new(RTM_SETLINK, 0);
    request.raw(&header(index, 0, 0)).u32(IFLA_MTU, mtu);
    request
}

/// A device gets no IPv6 address by itself: a bridge's port needs none, and each would be four routes that the kernel walks
/// whenever any device comes or goes. By name, to follow the making of the device in the same datagram.
pub(crate) fn set_no_own_address(name: &str) -> Request {
    const IFLA_AF_SPEC: u16 = 26;
    const AF_INET6: u16 = 10;
    const IFLA_INET6_ADDR_GEN_MODE: u16 = 8;
    const IN6_ADDR_GEN_MODE_NONE: u8 = 1;
    let mut request = Request::new(RTM_SETLINK, 0);
    request.raw(&header(0, 0, 0)).text(IFLA_IFNAME, name).nest(IFLA_AF_SPEC, |families| {
        families.nest(AF_INET6, |six| {
            six.u8(IFLA_INET6_ADDR_GEN_MODE, IN6_ADDR_GEN_MODE_NONE);
        });
    });
    request
}

/// Brings a device up, by name.
pub(crate) fn set_up_by_name(name: &str) -> Request {
    let mut request = Request::new(RTM_SETLINK, 0);
    request.raw(&header(0, IFF_UP, IFF_UP)).text(IFLA_IFNAME, name);
    request
}

/// Brings a device up.
pub(crate) fn set_up(index: u32) -> Request {
    let mut request = Request::new(RTM_SETLINK, 0);
    request.raw(&header(index, IFF_UP, IFF_UP));
    request
}

/// Takes a device down.
pub(crate) fn set_down(index: u32) -> Request {
    let mut request = Request::new(RTM_SETLINK, 0);
    request.raw(&header(index, 0, IFF_UP));
    request
}

/// Moves a device into another network namespace under this name.
pub(crate) fn move_to(index: u32, name: &str, netns: BorrowedFd<'_>) -> Request {
    let mut request = Request::new(RTM_SETLINK, 0);
    request.raw(&header(index, 0, 0)).text(IFLA_IFNAME, name).u32(IFLA_NET_NS_FD, netns.as_raw_fd().cast_unsigned());
    request
}

/// Brings a device up that never asks for its neighbour's address.
pub(crate) fn set_up_without_arp(index: u32) -> Request {
    let mut request = Request::new(RTM_SETLINK, 0);
    request.raw(&header(index, IFF_UP | IFF_NOARP, IFF_UP | IFF_NOARP));
    request
}

/// Settings of a bridge's port, by name so that they can follow the making of the port in the same datagram.
///
/// `isolated`: it talks to the bridge, and to no other isolated port (Linux 4.18). `hairpin`: what came in by it may go out
/// by it.
pub(crate) fn set_port(name: &str, isolated: bool, hairpin: bool) -> Request {
    let mut request = Request::new(RTM_NEWLINK, 0);
    request.raw(&header(0, 0, 0)).text(IFLA_IFNAME, name).nest(IFLA_LINKINFO, |info| {
        info.text(IFLA_INFO_SLAVE_KIND, "bridge").nest(IFLA_INFO_SLAVE_DATA, |data| {
            data.u8(IFLA_BRPORT_MODE, u8::from(hairpin)).u8(IFLA_BRPORT_ISOLATED, u8::from(isolated));
        });
    });
    request
}

/// Removes a device by name; for a veth, both ends.
pub(crate) fn delete(name: &str) -> Request {
    let mut request = Request::new(RTM_DELLINK, 0);
    request.raw(&header(0, 0, 0)).text(IFLA_IFNAME, name);
    request
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        for name in ["dhow0", "eth0", "dh0123456789a", "a.b"] {
            assert!(check_name(name).is_ok(), "{name}");
        }
        for name in ["", ".", "..", "a/b", "a b", "a:b", "0123456789abcdef", "a\0b", "eth%d"] {
            assert!(check_name(name).is_err(), "{name}");
        }
    }

    proptest::proptest! {
        #[test]
        fn never_panics(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..300)) {
            let _link = parse(RTM_NEWLINK, &bytes);
        }
    }
}
