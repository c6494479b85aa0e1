//! Bridges on the host: made when missing, put right when they differ.
//!
//! Owns the device, its addresses and the host's settings that it needs; the rules for its traffic are `firewall`'s.

use crate::error::{Error, refused};
use crate::links::{self, check_name};
use crate::plan::{Bridge, Mac};
use crate::sysctl::{self, Changed};
use crate::{Cidr, routes};
use rustix::io::Errno;

/// Makes the bridge if it is not there, gives it its addresses, brings it up and switches forwarding on. Calling it again
/// is cheap and changes nothing.
///
/// Returns the settings of the host (not those of the bridge itself) that were changed, with what was there before.
///
/// # Errors
/// [`Error::Taken`] if the name belongs to a device that is not a bridge; otherwise the kernel's refusal.
pub fn ensure_bridge(bridge: &Bridge) -> Result<Vec<Changed>, Error> {
    check_name(&bridge.interface)?;
    let name = &bridge.interface;
    let mut socket = links::open()?;
    let mut link = links::find(&mut socket, name)?;
    let is_new = link.is_none();
    if is_new {
        let create = links::new_bridge(name, mac_of(bridge));
        match socket.execute(&mut [create]) {
            Ok(()) => {}
            // Another dhow was faster.
            Err(failure) if failure.errno == Errno::EXIST => {}
            Err(failure) => return Err(refused(format!("RTM_NEWLINK(bridge {name})"))(failure)),
        }
        link = links::find(&mut socket, name)?;
    }
    let link = link.ok_or_else(|| refused(format!("RTM_GETLINK({name})"))(Errno::NODEV.into()))?;
    if link.kind.as_deref() != Some("bridge") {
        return Err(Error::Taken {
            name: name.clone(),
            found: link.kind.unwrap_or_else(|| "a device".to_owned()),
            wanted: "a bridge",
        });
    }
    let wanted: Vec<Cidr> =
        bridge.subnets.iter().filter_map(|subnet| Cidr::new(subnet.gateway, subnet.range.prefix())).collect();
    let present: Vec<Cidr> = if is_new {
        Vec::new()
    } else {
        let all = routes::addresses_of(&mut socket, link.index)?;
        all.into_iter().filter(|found| found.scope == 0).map(|found| found.address).collect()
    };
    if is_new || !link.up || wanted.iter().any(|address| !present.contains(address)) {
        settings_of_bridge(bridge)?;
    }
    let mut requests: Vec<_> = present
        .iter()
        .filter(|address| !wanted.contains(address))
        .map(|address| routes::delete_address(link.index, *address))
        .collect();
    requests.extend(
        wanted
            .iter()
            .filter(|address| !present.contains(address))
            .map(|address| routes::add_address(link.index, *address)),
    );
    if let Some(mtu) = bridge.mtu.filter(|_| is_new) {
        requests.push(links::set_mtu(link.index, mtu));
    }
    if !link.up {
        requests.push(links::set_up(link.index));
    }
    if !requests.is_empty() {
        socket.execute(&mut requests).map_err(refused(format!("RTM_NEWADDR, RTM_SETLINK({name} up)")))?;
    }
    if bridge.internal { Ok(Vec::new()) } else { forwarding(bridge) }
}

/// Removes a bridge. One that is not there is removed already.
///
/// # Errors
/// The kernel's refusal.
pub fn remove_bridge(interface: &str) -> Result<(), Error> {
    check_name(interface)?;
    remove_link(interface)
}

/// Removes a device by name, gone or not.
pub(crate) fn remove_link(name: &str) -> Result<(), Error> {
    match links::open()?.execute(&mut [links::delete(name)]) {
        Err(failure) if failure.errno != Errno::NODEV => Err(refused(format!("RTM_DELLINK({name})"))(failure)),
        _ => Ok(()),
    }
}

/// A hardware address that stays the same for the same gateway; without subnets it comes from the name.
fn mac_of(bridge: &Bridge) -> Mac {
    match bridge.subnets.first() {
        Some(subnet) => Mac::for_address(subnet.gateway),
        None => {
            // FNV-1a; only has to differ between bridges of one host.
            let hash = bridge
                .interface
                .bytes()
                .fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193));
            let [a, b, c, d] = hash.to_be_bytes();
            Mac([0x02, 0x43, a, b, c, d])
        }
    }
}

/// Before the bridge is up, so that no router advertisement slips in and no link-local address appears.
fn settings_of_bridge(bridge: &Bridge) -> Result<(), Error> {
    let name = &bridge.interface;
    let ipv6 = bridge.subnets.iter().any(|subnet| subnet.range.is_ipv6());
    if ipv6 {
        // CVE-2020-10749, CVE-2020-13401: a container must not be the host's router.
        sysctl::set(&format!("net/ipv6/conf/{name}/accept_ra"), "0")?;
        sysctl::set(&format!("net/ipv6/conf/{name}/disable_ipv6"), "0")?;
        // Without a link-local address the bridge does not ask for its neighbours, and duplicate address detection would keep
        // it back for up to two seconds after the first container came.
        sysctl::set(&format!("net/ipv6/conf/{name}/accept_dad"), "0")?;
    } else {
        // CVE-2024-32473: no IPv6 where none was asked for, not even link-local.
        sysctl::set(&format!("net/ipv6/conf/{name}/disable_ipv6"), "1")?;
    }
    // A connection of the host to 127.0.0.1:PORT is sent on to the container with a source that is translated only on the
    // way out. That the container cannot reach 127.0.0.0/8 of the host by it is the job of the chain `guard`.
    sysctl::set(&format!("net/ipv4/conf/{name}/route_localnet"), "1")?;
    Ok(())
}

/// The host has to be a router. IPv6 forwarding makes the kernel ignore router advertisements, by which the host may have
/// got its own default route; `accept_ra` 2 keeps them.
fn forwarding(bridge: &Bridge) -> Result<Vec<Changed>, Error> {
    let mut changed = Vec::new();
    if bridge.subnets.iter().any(|subnet| !subnet.range.is_ipv6()) {
        changed.extend(sysctl::set("net/ipv4/ip_forward", "1")?);
    }
    if bridge.subnets.iter().any(|subnet| subnet.range.is_ipv6()) && !sysctl::is("net/ipv6/conf/all/forwarding", "1") {
        for link in links::list()? {
            let setting = format!("net/ipv6/conf/{}/accept_ra", link.name);
            if link.name != bridge.interface && sysctl::is(&setting, "1") {
                changed.extend(sysctl::set(&setting, "2")?);
            }
        }
        changed.extend(sysctl::set("net/ipv6/conf/all/forwarding", "1")?);
    }
    Ok(changed)
}
