//! The gate: how the host's own firewall is asked about published ports.
//!
//! A packet that is translated on arrival never meets the host's input chain, where users, ufw and firewalld say what may
//! reach this host (moby#22054). So the first packet of a connection to a published port is *not* translated on arrival: it
//! goes the way of every packet for this host, through all of the host's input chains. What is still there at their end is
//! caught by a late chain of ours, which sends a copy into one end of a veth pair and drops the packet itself. The copy
//! comes in at the other end, and there it is translated and forwarded. From then on the connection tracker translates the
//! connection's packets on arrival; they cost what they cost without a gate. The client's address is never touched.
//!
//! Owns the pair of devices; the chains are `firewall`'s. docs/networks.md draws the path.

use crate::error::{Error, refused};
use crate::links::{self, End};
use crate::plan::Mac;
use crate::{firewall, routes, sysctl};
use rustix::io::Errno;

/// Where copies are sent.
pub(crate) const OUT: &str = "dhow-gate";
/// Where they come in.
pub(crate) const IN: &str = "dhow-gate-in";
/// Both ends have it, so that a packet sent without asking for the neighbour's address is taken by the neighbour.
const MAC: Mac = Mac([0x02, 0x64, 0x68, 0x6f, 0x77, 0x01]);
/// First packets of any size pass: the largest that a veth takes (`ETH_MAX_MTU`).
const MTU: u32 = 65_535;

/// Makes the pair unless it is there, and returns the index of its entrance.
pub(crate) fn ensure() -> Result<u32, Error> {
    let mut socket = links::open()?;
    let found = match (links::find(&mut socket, OUT)?, links::find(&mut socket, IN)?) {
        (Some(entrance), Some(exit)) if entrance.up && exit.up => entrance,
        (entrance, _) => {
            if entrance.is_none() {
                let end = |name| End { name, mac: Some(MAC), mtu: Some(MTU), up: false };
                match socket.execute(&mut [links::new_gate(&end(OUT), &end(IN))]) {
                    Err(failure) if failure.errno != Errno::EXIST => {
                        return Err(refused(format!("RTM_NEWLINK(veth {OUT}, peer {IN})"))(failure));
                    }
                    _ => {}
                }
            }
            let missing = |name| move || refused(format!("RTM_GETLINK({name})"))(Errno::NODEV.into());
            let entrance = links::find(&mut socket, OUT)?.ok_or_else(missing(OUT))?;
            let exit = links::find(&mut socket, IN)?.ok_or_else(missing(IN))?;
            settings()?;
            let mut up = [links::set_up_without_arp(entrance.index), links::set_up_without_arp(exit.index)];
            socket.execute(&mut up).map_err(refused(format!("RTM_SETLINK({OUT}, {IN} up)")))?;
            entrance
        }
    };
    reverse_path_filter()?;

    Ok(found.index)
}

/// Lets copies pass firewalld's `IPv6_rpfilter`: their senders are reached by another device, unless the mark says otherwise.
pub(crate) fn pass_reverse_path_filter() -> Result<(), Error> {
    let mut socket = links::open()?;
    if let Ok(exit) = rustix::net::netdevice::name_to_index(&socket, IN) {
        // It is there already, or the host has no IPv6, or ports are not published by IPv6 then.
        socket.execute(&mut routes::back_through_the_gate(firewall::ARRIVED, exit)).ok();
    }
    Ok(())
}

/// Removes the pair.
pub(crate) fn remove() -> Result<(), Error> {
    // None, unless firewalld was seen.
    links::open()?.execute(&mut [routes::not_through_the_gate(firewall::ARRIVED)]).ok();
    crate::bridge::remove_link(OUT)
}

/// Both ends are this host's and nobody else is there: no detection of duplicates, no routers.
fn settings() -> Result<(), Error> {
    for name in [OUT, IN] {
        for (setting, value) in [("accept_ra", "0"), ("accept_dad", "0"), ("router_solicitations", "0")] {
            sysctl::set(&format!("net/ipv6/conf/{name}/{setting}"), value)?;
        }
    }
    // The senders of what comes in here are reached by other devices.
    sysctl::set(&format!("net/ipv4/conf/{IN}/rp_filter"), "0")?;
    Ok(())
}

/// The strict reverse path filter of the host, when it is set for `all`, holds for the gate too and would drop every copy: the
/// larger of `all` and the device's own value counts. It is moved to each device and to those to come, which is the same for
/// them and leaves the gate out.
fn reverse_path_filter() -> Result<(), Error> {
    if !sysctl::is("net/ipv4/conf/all/rp_filter", "1") {
        return Ok(());
    }
    let names = links::list()?.into_iter().map(|link| link.name).filter(|name| name != IN);
    for name in names.chain(["default".to_owned()]) {
        let setting = format!("net/ipv4/conf/{name}/rp_filter");
        if sysctl::is(&setting, "0") {
            sysctl::set(&setting, "1")?;
        }
    }
    sysctl::set("net/ipv4/conf/all/rp_filter", "0")?;
    Ok(())
}
