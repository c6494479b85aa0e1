//! The files that Docker's containers find in /etc: hosts, hostname, resolv.conf.
//!
//! They are made in the container's directory and bind-mounted, so that the image's own stay as they are.

use crate::containers::table::Entry;
use crate::error::{Context, Result};
use crate::networks::Joined;
use std::fmt::Write as _;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// Writes all three.
pub(crate) fn write(entry: &Entry, directory: &Path, network: Option<&Joined>) -> Result<()> {
    let settings = &entry.settings;
    let host_network = settings.network == crate::NetworkMode::Host;
    put(&directory.join("hostname"), &format!("{}\n", settings.hostname))?;
    put(&directory.join("hosts"), &hosts(entry, network))?;
    let hosts_own = std::fs::read_to_string("/etc/resolv.conf").unwrap_or_default();
    put(&directory.join("resolv.conf"), &resolver(entry, &hosts_own, host_network))
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

fn hosts(entry: &Entry, network: Option<&Joined>) -> String {
    let settings = &entry.settings;
    let mut text = String::from(
        "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\nfe00::\tip6-localnet\nff00::\tip6-mcastprefix\n\
         ff02::1\tip6-allnodes\nff02::2\tip6-allrouters\n",
    );
    let mut line = |address: &str, names: &str| {
        // Writing to a String cannot fail.
        writeln!(text, "{address}\t{names}").unwrap_or_default();
    };
    let gateway = network.map_or("127.0.0.1", |joined| joined.address.gateway.as_str());
    for extra in &settings.extra_hosts {
        if let Some((name, address)) = extra.split_once([':', '=']) {
            let address = address.trim_start_matches('[').trim_end_matches(']');
            line(if address == "host-gateway" { gateway } else { address }, name);
        }
    }
    if let Some(joined) = network {
        line(gateway, "host.docker.internal host.dhow.internal");
        let name = match settings.domainname.as_str() {
            "" => settings.hostname.clone(),
            domain => format!("{0}.{domain} {0}", settings.hostname),
        };
        line(&joined.address.ipv4, &name);
    }
    text
}

/// The host's servers but those that only the host can reach; the caller's own where it named some.
fn resolver(entry: &Entry, host: &str, host_network: bool) -> String {
    let settings = &entry.settings;
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
    let mut text = String::new();
    for server in &servers {
        text.push_str(&format!("nameserver {server}\n"));
    }
    let search = or_host(&settings.dns_search, "search");
    if !search.is_empty() && search != ["."] {
        text.push_str(&format!("search {}\n", search.join(" ")));
    }
    let options = or_host(&settings.dns_options, "options");
    if !options.is_empty() {
        text.push_str(&format!("options {}\n", options.join(" ")));
    }
    text
}
