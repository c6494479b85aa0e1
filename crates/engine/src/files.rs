//! The files that Docker's containers find in /etc: hosts, hostname, resolv.conf.
//!
//! They are made in the container's directory and bind-mounted, so that the image's own stay as they are.

use crate::containers::table::Entry;
use crate::error::{Context, Result};
use crate::networks::{Attached, names};
use std::fmt::Write as _;
use std::io::{Read as _, Write as _};
use std::net::IpAddr;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// Writes all three; `links` are further lines of the first, and `host` is where the container finds the host.
pub(crate) fn write(
    entry: &Entry,
    directory: &Path,
    (networks, links): (&[Attached], &[String]),
    host: &[IpAddr],
) -> Result<()> {
    let settings = &entry.settings;
    put(&directory.join("hostname"), &format!("{}\n", settings.hostname))?;
    let links: String = links.iter().map(|line| format!("{line}\n")).collect();
    put(&directory.join("hosts"), &(hosts(entry, networks, host) + &links))?;
    let hosts_own = std::fs::read_to_string("/etc/resolv.conf").unwrap_or_default();
    let server = names::needs_server(networks, &settings.dns, &hosts_own);
    put(&directory.join("resolv.conf"), &resolver(entry, &hosts_own, server))?;
    let Some((uid, gid)) = settings.stored_root() else { return Ok(()) };
    for name in ["hostname", "hosts", "resolv.conf"] {
        let path = directory.join(name);
        std::os::unix::fs::lchown(&path, Some(uid), Some(gid)).internal(|| format!("cannot own {}", path.display()))?;
    }
    Ok(())
}

/// Gives a running container's hosts file the lines of the networks that it has joined, and takes those that it has left.
/// The file is the same one, since the container has it mounted; what others wrote into it stays.
pub(crate) fn rewrite_hosts(entry: &Entry, directory: &Path, before: &[Attached], after: &[Attached]) -> Result<()> {
    let path = directory.join("hosts");
    let text = std::fs::read_to_string(&path).internal(|| format!("cannot read {}", path.display()))?;
    let (old, new) = (own_lines(entry, before), own_lines(entry, after));
    let mut lines: Vec<&str> = text.lines().filter(|line| new.iter().chain(&old).all(|own| own != line)).collect();
    lines.extend(new.iter().map(String::as_str));
    put(&path, &(lines.join("\n") + "\n"))
}

/// Takes a link's line out of a running container's hosts file.
pub(crate) fn forget_link(directory: &Path, name: &str) -> Result<()> {
    let path = directory.join("hosts");
    let text = std::fs::read_to_string(&path).internal(|| format!("cannot read {}", path.display()))?;
    let is_it = |line: &&str| line.split_ascii_whitespace().nth(1) == Some(name) && line.split(' ').count() == 3;
    let lines: Vec<&str> = text.lines().filter(|line| !is_it(line)).collect();
    put(&path, &(lines.join("\n") + "\n"))
}

fn put(path: &Path, text: &str) -> Result<()> {
    let failed = || format!("cannot write {}", path.display());
    let mut file = std::fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o644)
        .custom_flags(rustix::fs::OFlags::NOFOLLOW.bits().cast_signed())
        .open(path)
        .internal(failed)?;
    file.write_all(text.as_bytes()).internal(failed)
}

/// The names of every machine.
const LOCAL: &str = "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\nfe00::\tip6-localnet\nff00::\tip6-mcastprefix\n\
     ff02::1\tip6-allnodes\nff02::2\tip6-allrouters\n";
/// More than this is a list of something else, in bytes.
const MOST_NAMES: u64 = 1 << 20;

/// The host's own file: on its network, its names are the container's.
fn host_names() -> Option<String> {
    let mut text = String::new();
    std::fs::File::open("/etc/hosts").ok()?.take(MOST_NAMES).read_to_string(&mut text).ok()?;
    if !text.ends_with('\n') {
        text.push('\n');
    }
    Some(text)
}

fn hosts(entry: &Entry, networks: &[Attached], host: &[IpAddr]) -> String {
    let settings = &entry.settings;
    let mut text = match settings.network {
        crate::NetworkMode::Host => host_names().unwrap_or_else(|| LOCAL.to_owned()),
        _ => LOCAL.to_owned(),
    };
    let mut gateways: Vec<String> = host.iter().map(ToString::to_string).collect();
    if gateways.is_empty() && settings.network == crate::NetworkMode::Host {
        gateways.push("127.0.0.1".to_owned());
    }
    let mut line = |address: &str, names: &str| {
        // Writing to a String cannot fail.
        writeln!(text, "{address}\t{names}").unwrap_or_default();
    };
    let own = |name: &str| {
        settings.extra_hosts.iter().any(|extra| extra.split_once([':', '=']).is_some_and(|(own, _)| own == name))
    };
    for extra in &settings.extra_hosts {
        if let Some((name, address)) = extra.split_once([':', '=']) {
            let address = address.trim_start_matches('[').trim_end_matches(']');
            match address {
                "host-gateway" => gateways.iter().for_each(|gateway| line(gateway, name)),
                address => line(address, name),
            }
        }
    }
    let names: Vec<&str> =
        ["host.docker.internal", "host.dhow.internal"].into_iter().filter(|name| !own(name)).collect();
    if !names.is_empty() {
        gateways.iter().for_each(|gateway| line(gateway, &names.join(" ")));
    }
    own_lines(entry, networks).iter().for_each(|own| text.push_str(&format!("{own}\n")));
    text
}

/// A container's own addresses and names.
fn own_lines(entry: &Entry, networks: &[Attached]) -> Vec<String> {
    let name = match entry.settings.domainname.as_str() {
        "" => entry.settings.hostname.clone(),
        domain => format!("{0}.{domain} {0}", entry.settings.hostname),
    };
    let addresses = networks.iter().flat_map(|each| each.place.addresses());
    addresses.map(|address| format!("{}\t{name}", address.address())).collect()
}

/// The host's servers but those that only the host can reach; the caller's own where it named some; with `server`, ours.
fn resolver(entry: &Entry, host: &str, server: bool) -> String {
    let settings = &entry.settings;
    let host_network = settings.network == crate::NetworkMode::Host;
    let words = |keyword: &str| -> Vec<String> {
        host.lines()
            .filter_map(|line| line.trim().strip_prefix(keyword)?.strip_prefix([' ', '\t']))
            .flat_map(|rest| rest.split_ascii_whitespace().map(str::to_owned))
            .collect()
    };
    let or_host = |own: &[String], keyword: &str| if own.is_empty() { words(keyword) } else { own.to_vec() };
    let mut servers = or_host(&settings.dns, "nameserver");
    if settings.dns.is_empty() && !host_network {
        servers.retain(|server| {
            let bare = server.split('%').next().unwrap_or(server);
            bare.parse::<std::net::IpAddr>().is_ok_and(|address| !address.is_loopback())
        });
    }
    if server {
        servers = vec![network::dns::ADDRESS.to_string()];
    }
    let mut text = String::new();
    for server in &servers {
        text.push_str(&format!("nameserver {server}\n"));
    }
    let search = or_host(&settings.dns_search, "search");
    if !search.is_empty() && search != ["."] {
        text.push_str(&format!("search {}\n", search.join(" ")));
    }
    let mut options = or_host(&settings.dns_options, "options");
    // Names of containers have no dot, and need not be tried with every search domain first.
    if server && !options.iter().any(|option| option.starts_with("ndots:")) {
        options.push("ndots:0".to_owned());
    }
    if !options.is_empty() {
        text.push_str(&format!("options {}\n", options.join(" ")));
    }
    text
}
