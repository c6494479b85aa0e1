//! A device of the host that becomes a container's (config-linux.md, "Network Devices").

use crate::error::{Error, failed, refused};
use crate::links::{self, check_name};
use crate::{namespace, routes};
use rustix::fd::BorrowedFd;
use rustix::io::Errno;

/// Moves a device into another network namespace, under another name if one is given, and brings it up there with the
/// global addresses that it had: the kernel drops them on the way. Name and namespace change in one request, so that no
/// name is taken in between.
///
/// # Errors
/// `ENODEV` when there is no such device, `EEXIST` when the name is taken there, `EINVAL` for one that may not leave its
/// namespace.
pub fn lend(name: &str, new_name: Option<&str>, netns: BorrowedFd<'_>) -> Result<(), Error> {
    let there = new_name.unwrap_or(name);
    check_name(name)?;
    check_name(there)?;
    let mut host = links::open()?;
    let link = links::find(&mut host, name)?.ok_or_else(|| failed(format!("RTM_GETLINK({name})"), Errno::NODEV))?;
    let addresses: Vec<_> = routes::addresses(&mut host)?
        .into_iter()
        .filter(|each| each.index == link.index && each.scope == 0)
        .map(|each| each.address)
        .collect();
    let operation = format!("RTM_SETLINK({name} into the container's network namespace as {there})");
    host.execute(&mut [links::set_down(link.index), links::move_to(link.index, there, netns)])
        .map_err(refused(operation))?;
    let mut inside = namespace::within(netns, links::open)??;
    let moved =
        links::find(&mut inside, there)?.ok_or_else(|| failed(format!("RTM_GETLINK({there})"), Errno::NODEV))?;
    let mut requests: Vec<_> = addresses.iter().map(|address| routes::add_address(moved.index, *address)).collect();
    requests.push(links::set_up(moved.index));
    inside.execute(&mut requests).map_err(refused(format!("RTM_NEWADDR({there} in the container's network namespace)")))
}
