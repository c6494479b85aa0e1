//! One container on one network: the pair of devices, addresses, routes.
//!
//! Costs three datagrams: the pair is made from the host's side with the container's end at its final place and name;
//! then one socket opened inside the container's namespace finds its index and sets addresses, state and routes at once.

use crate::Cidr;
use crate::error::{Error, failed, refused};
use crate::links::{self, End, Upper, check_name};
use crate::netlink::Request;
use crate::plan::{Attachment, Mac};
use crate::{bridge, namespace, routes, sysctl};
use rustix::fd::BorrowedFd;
use rustix::io::Errno;
use serde::{Deserialize, Serialize};
use std::net::IpAddr;
use std::time::{Duration, Instant};

/// Index of the loopback device of every network namespace (`LOOPBACK_IFINDEX`).
const LOOPBACK: u32 = 1;

/// How long an address on a device of the host may take to be free: one thread of the kernel takes all namespaces apart.
const ADDRESS_LEAVES: Duration = Duration::from_secs(10);
/// The same for a device of another kind or mode, which may as well be there to stay.
const DEVICE_LEAVES: Duration = Duration::from_secs(2);

/// Connects a container to a bridge and brings its loopback device up.
///
/// # Errors
/// `EEXIST` when either name is taken, [`Error::Kernel`] with `ENODEV` when the bridge is not there. What was made before
/// the failure is removed.
pub fn attach(attachment: &Attachment, netns: BorrowedFd<'_>) -> Result<(), Error> {
    check_name(&attachment.bridge)?;
    check_name(&attachment.host_interface)?;
    check_name(&attachment.container_interface)?;
    let mut host = links::open()?;
    let name = &attachment.bridge;
    let bridge = links::find(&mut host, name)?.ok_or_else(|| failed(format!("RTM_GETLINK({name})"), Errno::NODEV))?;
    let mtu = attachment.mtu.or(Some(bridge.mtu));
    let six = sysctl::has_ipv6();
    let here = End { name: &attachment.host_interface, mac: None, mtu, up: !six };
    let there = End { name: &attachment.container_interface, mac: Some(attachment.mac), mtu, up: false };
    let mut requests = vec![links::new_veth(&here, bridge.index, &there, netns)];
    if six {
        // Before it is up. The kernel does not take this when a device is made.
        requests.extend([links::set_no_own_address(here.name), links::set_up_by_name(here.name)]);
    }
    // With br_netfilter a container's connection to a port that it published itself never reaches the host's routing: it is
    // translated while bridged, and has to go out by the port it came in by.
    let hairpin = sysctl::is("net/bridge/bridge-nf-call-iptables", "1");
    if attachment.isolated || hairpin {
        requests.push(links::set_port(here.name, attachment.isolated, hairpin));
    }
    host.execute(&mut requests).map_err(refused(format!(
        "RTM_NEWLINK(veth {} on {name}, peer {} in the container's network namespace)",
        attachment.host_interface, attachment.container_interface
    )))?;
    let side = Side {
        interface: &attachment.container_interface,
        addresses: &attachment.addresses,
        gateways: &attachment.gateways,
        straight: false,
        parameters: &attachment.parameters,
    };
    let result = configure(&side, netns);
    if result.is_err() {
        // The pair is all that there is; the first error is the one to report.
        drop(detach(&attachment.host_interface));
    }
    result
}

/// What the container's side is to have.
struct Side<'a> {
    interface: &'a str,
    addresses: &'a [Cidr],
    gateways: &'a [IpAddr],
    /// Everything is reached straight over the device (ipvlan on layer 3).
    straight: bool,
    parameters: &'a [(String, String)],
}

fn configure(side: &Side<'_>, netns: BorrowedFd<'_>) -> Result<(), Error> {
    let name = side.interface;
    let ipv6 = side.addresses.iter().any(Cidr::is_ipv6);
    let mut socket = namespace::within(netns, || {
        // Before the device is up: CVE-2020-10749 (router advertisements of a neighbour), CVE-2024-32473 (IPv6 where none
        // was asked for).
        let (setting, value) = if ipv6 { ("accept_ra", "0") } else { ("disable_ipv6", "1") };
        sysctl::force(&format!("net/ipv6/conf/{name}/{setting}"), value)?;
        side.parameters.iter().try_for_each(|(setting, value)| sysctl::require(setting, value))?;
        links::open()
    })??;
    let link = links::find(&mut socket, name)?.ok_or_else(|| failed(format!("RTM_GETLINK({name})"), Errno::NODEV))?;
    let mut requests: Vec<Request> =
        side.addresses.iter().map(|address| routes::add_address(link.index, *address)).collect();
    requests.extend([links::set_up(LOOPBACK), links::set_up(link.index)]);
    if side.straight {
        let has = |ipv6| side.addresses.iter().any(|address| address.is_ipv6() == ipv6);
        let families = [false, true].into_iter().filter(|ipv6| has(*ipv6));
        requests.extend(families.map(|ipv6| routes::add_route(Cidr::everything(ipv6), None, link.index)));
    }
    for gateway in side.gateways {
        if !side.addresses.iter().any(|address| address.contains(*gateway)) {
            requests.push(routes::add_route(Cidr::host(*gateway), None, link.index));
        }
        requests.push(routes::add_route(Cidr::everything(gateway.is_ipv6()), Some(*gateway), link.index));
    }
    let operation =
        format!("RTM_NEWADDR, RTM_SETLINK(lo and {name} up), RTM_NEWROUTE in the container's network namespace");
    socket.execute(&mut requests).map_err(refused(operation))
}

/// Disconnects a container: removes the pair. The kernel does so by itself when the container's namespace ends; one that
/// is not there is removed already.
///
/// # Errors
/// The kernel's refusal.
pub fn detach(host_interface: &str) -> Result<(), Error> {
    check_name(host_interface)?;
    bridge::remove_link(host_interface)
}

/// Removes a device inside a container: what [`attach_direct`] made has no other end. One that is not there is removed
/// already.
///
/// # Errors
/// `setns` or the kernel's refusal.
pub fn remove_inside(interface: &str, netns: BorrowedFd<'_>) -> Result<(), Error> {
    check_name(interface)?;
    namespace::within(netns, || bridge::remove_link(interface))?
}

/// Gives a container other default routes, each by a gateway and a device of its own: it joined or left a network. A route
/// of the same family is replaced.
///
/// # Errors
/// `setns`, `ENODEV` when the container has no such device, or the kernel's refusal.
pub fn reroute(routes: &[(String, IpAddr)], netns: BorrowedFd<'_>) -> Result<(), Error> {
    let mut socket = namespace::within(netns, links::open)??;
    let mut requests = Vec::new();
    let present = routes::routes(&mut socket)?;
    for (interface, gateway) in routes {
        let link = links::find(&mut socket, interface)?
            .ok_or_else(|| failed(format!("RTM_GETLINK({interface})"), Errno::NODEV))?;
        let everything = Cidr::everything(gateway.is_ipv6());
        // IPv6 keeps several default routes beside each other, whatever NLM_F_REPLACE says of one by another device.
        let others = present.iter().filter(|route| route.destination == everything);
        requests.extend(others.filter_map(routes::delete_route));
        requests.push(routes::add_route(everything, Some(*gateway), link.index));
    }
    socket.execute(&mut requests).map_err(refused("RTM_NEWROUTE(default) in the container's network namespace"))
}

/// Brings the loopback device of a network namespace up (`--network none`).
///
/// # Errors
/// `setns` or the kernel's refusal.
pub fn loopback_up(netns: BorrowedFd<'_>) -> Result<(), Error> {
    let mut socket = namespace::within(netns, links::open)??;
    socket.execute(&mut [links::set_up(LOOPBACK)]).map_err(refused("RTM_SETLINK(lo up)"))
}

/// A container directly on a device of the host (macvlan, ipvlan).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DirectAttachment {
    /// The host's device.
    pub parent: String,
    /// Kind and mode.
    pub kind: Upper,
    /// Name inside the container.
    pub container_interface: String,
    /// Hardware address (macvlan only; ipvlan has its parent's).
    #[serde(default)]
    pub mac: Option<Mac>,
    /// Addresses with the prefix of their subnet.
    pub addresses: Vec<Cidr>,
    /// Default gateways, at most one per family.
    #[serde(default)]
    pub gateways: Vec<IpAddr>,
    /// Bytes; the parent's when absent.
    #[serde(default)]
    pub mtu: Option<u32>,
    /// Kernel parameters inside the container, as paths below `/proc/sys`, that are set before the interface is up.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub parameters: Vec<(String, String)>,
}

/// Puts a container directly on a device of the host, and brings its loopback device up. The device ends with the
/// container's network namespace; there is nothing on the host to remove.
///
/// # Errors
/// `ENODEV` when the parent is not there, `EBUSY` when it is taken for something else, `EOPNOTSUPP` where the kernel does
/// not have the kind.
pub fn attach_direct(attachment: &DirectAttachment, netns: BorrowedFd<'_>) -> Result<(), Error> {
    check_name(&attachment.container_interface)?;
    // The kernel takes a network namespace apart some time after its container has ended: until then the device has its
    // addresses, and passed through, the whole parent.
    let started = Instant::now();
    loop {
        let failed = match try_attach_direct(attachment, netns) {
            Err(error) => error,
            Ok(()) => return Ok(()),
        };
        let patience = match failed.errno() {
            Some(Errno::ADDRINUSE) => ADDRESS_LEAVES,
            Some(Errno::BUSY | Errno::INVAL) => DEVICE_LEAVES,
            _ => return Err(failed),
        };
        if started.elapsed() > patience {
            return Err(failed);
        }
        remove_inside(&attachment.container_interface, netns)?;
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn try_attach_direct(attachment: &DirectAttachment, netns: BorrowedFd<'_>) -> Result<(), Error> {
    let mut host = links::open()?;
    let parent = &attachment.parent;
    let lower =
        links::find(&mut host, parent)?.ok_or_else(|| failed(format!("RTM_GETLINK({parent})"), Errno::NODEV))?;
    let there = End { name: &attachment.container_interface, mac: attachment.mac, mtu: attachment.mtu, up: false };
    let create = links::new_upper(attachment.kind, lower.index, &there, netns);
    host.execute(&mut [create]).map_err(refused(format!(
        "RTM_NEWLINK({:?} on {parent}, {} in the container's network namespace)",
        attachment.kind, attachment.container_interface
    )))?;
    let side = Side {
        interface: &attachment.container_interface,
        addresses: &attachment.addresses,
        gateways: &attachment.gateways,
        straight: matches!(attachment.kind, Upper::IpvlanL3 | Upper::IpvlanL3s),
        parameters: &attachment.parameters,
    };
    configure(&side, netns)
}
