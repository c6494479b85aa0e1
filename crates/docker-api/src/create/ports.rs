//! `PortBindings` and `ExposedPorts`.

use super::host::HostConfig;
use crate::failure::Failure;
use crate::version::Version;
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
    // A port without a place is one that is published wherever there is room, as Docker has it up to now.
    let anywhere = [Binding::default()];
    for (text, bindings) in host.port_bindings.iter().flatten() {
        let (container_port, protocol) = exposed(text)?;
        let bindings = bindings.as_deref().filter(|list| !list.is_empty()).unwrap_or(&anywhere);
        for binding in bindings {
            let (host_port, host_port_end) = host_port(binding.host_port.as_ref())?;
            let host_ip = binding.host_ip.clone().unwrap_or_default();
            if !host_ip.is_empty() && host_ip.parse::<std::net::IpAddr>().is_err() {
                return Err(Failure::bad(format!("invalid IP address in port binding: {host_ip:?}")));
            }
            // All addresses of IPv4 are what no address means, where there is no other.
            let host_ip = if host_ip == "0.0.0.0" { String::new() } else { host_ip };
            let port = PublishedPort { protocol: protocol.clone(), host_ip, host_port, host_port_end, container_port };
            if !all.contains(&port) {
                all.push(port);
            }
        }
    }
    Ok(all)
}

/// What Docker tells of ports without a place since 1.52.
pub(super) fn without_a_place(host: &HostConfig, version: Version) -> Option<String> {
    let bare =
        |(text, list): (&String, &Option<Vec<Binding>>)| list.as_ref().is_none_or(Vec::is_empty).then(|| text.clone());
    let names: Vec<String> = host.port_bindings.iter().flatten().filter_map(bare).collect();
    (version >= crate::newer::FIRST && !names.is_empty()).then(|| {
        format!(
            "the port bindings of {} are empty lists: a later version will not publish such ports",
            names.join(", ")
        )
    })
}

/// A port, or the first and the last of those of which one is to be chosen; zero lets the engine choose.
fn host_port(port: Option<&Number>) -> Result<(u16, u16), Failure> {
    let text = match port {
        None => return Ok((0, 0)),
        Some(Number::Number(number)) => number.to_string(),
        Some(Number::Text(text)) => text.clone(),
    };
    if text.is_empty() {
        return Ok((0, 0));
    }
    let invalid = || Failure::bad(format!("invalid port specification: {text:?}"));
    let number = |text: &str| text.parse::<u16>().map_err(|_| invalid());
    match text.split_once('-') {
        None => Ok((number(&text)?, 0)),
        Some((first, last)) if first == last => Ok((number(first)?, 0)),
        Some((first, last)) => Ok((number(first)?, number(last)?)),
    }
}
