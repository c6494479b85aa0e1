//! `PortBindings` and `ExposedPorts`.

use super::host::HostConfig;
use crate::failure::Failure;
use engine::PublishedPort;
use serde::Deserialize;

/// A place on the host.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(super) struct Binding {
    host_ip: Option<String>,
    host_port: Option<Number>,
}

/// Some clients write a number where Docker writes a text.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Number {
    Text(String),
    Number(u64),
}

/// `80/tcp` as a number and a protocol; without a protocol it is tcp.
pub(super) fn exposed(text: &str) -> Result<(u16, String), Failure> {
    let invalid = || Failure::bad(format!("invalid port specification: {text:?}"));
    let (number, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
    let protocol = protocol.to_ascii_lowercase();
    if !matches!(protocol.as_str(), "tcp" | "udp" | "sctp") {
        return Err(Failure::bad(format!("invalid proto: {protocol}")));
    }
    let number = number.parse::<u16>().ok().filter(|number| *number > 0).ok_or_else(invalid)?;
    Ok((number, protocol))
}

pub(super) fn published(host: &HostConfig) -> Result<Vec<PublishedPort>, Failure> {
    let mut all = Vec::new();
    for (text, bindings) in host.port_bindings.iter().flatten() {
        let (container_port, protocol) = exposed(text)?;
        for binding in bindings.iter().flatten() {
            let host_port = host_port(binding.host_port.as_ref())?;
            let host_ip = binding.host_ip.clone().unwrap_or_default();
            if !host_ip.is_empty() && host_ip.parse::<std::net::IpAddr>().is_err() {
                return Err(Failure::bad(format!("invalid IP address in port binding: {host_ip:?}")));
            }
            // All addresses of IPv4 are what no address means, where there is no other.
            let host_ip = if host_ip == "0.0.0.0" { String::new() } else { host_ip };
            let port =
                PublishedPort { protocol: protocol.clone(), host_ip, host_port, container_port, host_port_end: 0 };
            if !all.contains(&port) {
                all.push(port);
            }
        }
    }
    Ok(all)
}

fn host_port(port: Option<&Number>) -> Result<u16, Failure> {
    let text = match port {
        None => return Ok(0),
        Some(Number::Number(number)) => number.to_string(),
        Some(Number::Text(text)) => text.clone(),
    };
    if text.is_empty() {
        return Ok(0);
    }
    if text.split_once('-').is_some_and(|(first, last)| first != last) {
        return Err(Failure::unsupported(&format!("a range of ports on the host (HostPort {text:?})")));
    }
    let number = text.split('-').next().unwrap_or_default();
    number.parse().map_err(|_| Failure::bad(format!("invalid port specification: {text:?}")))
}
