//! `-p [[ADDRESS:]HOST-PORT:]PORT[/PROTOCOL]` with ranges, and the long form `published=…,target=…`.

use engine::containers::options::PublishedPort;
use std::net::IpAddr;

/// Reads one value of `-p`; a range becomes several ports.
pub fn parse(text: &str) -> Result<Vec<PublishedPort>, String> {
    if text.contains('=') {
        return long_form(text);
    }
    let (address, host, container) = split(text);
    let (container, protocol) = match container.split_once('/') {
        Some((port, protocol)) => (port, protocol.to_ascii_lowercase()),
        None => (container, "tcp".to_owned()),
    };
    if !matches!(protocol.as_str(), "tcp" | "udp" | "sctp") {
        return Err(format!("invalid proto: {protocol}"));
    }
    if container.is_empty() {
        return Err(format!("no port specified: {text}<empty>"));
    }
    let host_ip = address_of(address)?;
    let (first, last) = range(container).map_err(|()| format!("invalid containerPort: {container}"))?;
    let (host_first, host_last) = match host {
        "" => (0, 0),
        host => range(host).map_err(|()| format!("invalid hostPort: {host}"))?,
    };
    // A range of the host's for one port of the container: one of them is chosen at the start.
    let choice = first == last && host_last > host_first;
    if !host.is_empty() && last - first != host_last - host_first && !choice {
        return Err(format!("invalid ranges specified for container and host Ports: {container} and {host}"));
    }
    Ok((0..=last - first)
        .map(|offset| PublishedPort {
            protocol: protocol.clone(),
            host_ip: host_ip.clone(),
            host_port: if host_first == 0 { 0 } else { host_first + offset },
            host_port_end: if choice { host_last } else { 0 },
            container_port: first + offset,
        })
        .collect())
}

/// Address, host port and container port of the short form, by the last two colons.
fn split(text: &str) -> (&str, &str, &str) {
    let Some((rest, container)) = text.rsplit_once(':') else { return ("", "", text) };
    match rest.rsplit_once(':') {
        Some((address, host)) => (address, host, container),
        None => ("", rest, container),
    }
}

fn address_of(text: &str) -> Result<String, String> {
    if text.is_empty() {
        return Ok(String::new());
    }
    let plain = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(text);
    plain.parse::<IpAddr>().map(|address| address.to_string()).map_err(|_| format!("invalid IP address: {text}"))
}

fn range(text: &str) -> Result<(u16, u16), ()> {
    let port = |text: &str| text.parse::<u16>().map_err(|_| ());
    let (first, last) = match text.split_once('-') {
        Some((first, last)) => (port(first)?, port(last)?),
        None => (port(text)?, port(text)?),
    };
    if last < first { Err(()) } else { Ok((first, last)) }
}

/// `published=8080,target=80,protocol=tcp`, the grammar of services, which `run` takes too.
fn long_form(text: &str) -> Result<Vec<PublishedPort>, String> {
    let (mut published, mut target, mut protocol) = ("", "", "tcp");
    for field in text.split(',') {
        match field.split_once('=') {
            Some(("published", value)) => published = value,
            Some(("target", value)) => target = value,
            Some(("protocol", value)) => protocol = value,
            Some(("mode", "host" | "ingress")) => {}
            _ => return Err(format!("invalid field {field}")),
        }
    }
    if target.is_empty() {
        return Err("missing mandatory field \"target\"".into());
    }
    parse(&format!("{published}:{target}/{protocol}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn short(text: &str) -> Result<String, String> {
        let ports = parse(text)?;
        let words = ports.iter().map(|p| format!("{}|{}|{}|{}", p.host_ip, p.host_port, p.container_port, p.protocol));
        Ok(words.collect::<Vec<_>>().join(" "))
    }

    #[test]
    fn table() {
        for (text, expected) in [
            ("80", "|0|80|tcp"),
            ("8080:80", "|8080|80|tcp"),
            ("8080:80/udp", "|8080|80|udp"),
            (":80", "|0|80|tcp"),
            ("127.0.0.1:8080:80", "127.0.0.1|8080|80|tcp"),
            ("127.0.0.1::80", "127.0.0.1|0|80|tcp"),
            ("[::1]:8080:80/SCTP", "::1|8080|80|sctp"),
            ("8000-8002:80-82", "|8000|80|tcp |8001|81|tcp |8002|82|tcp"),
            ("80-81", "|0|80|tcp |0|81|tcp"),
            ("published=8080,target=80,protocol=udp,mode=host", "|8080|80|udp"),
            ("target=80", "|0|80|tcp"),
            ("8000-8010:80", "|8000|80|tcp"),
        ] {
            assert_eq!(short(text), Ok(expected.to_owned()), "{text}");
        }
    }

    #[test]
    fn refusals() {
        for (text, error) in [
            ("99999", "invalid containerPort: 99999"),
            ("x:80", "invalid hostPort: x"),
            ("1:2:3:4", "invalid IP address: 1:2"),
            ("80/foo", "invalid proto: foo"),
            ("", "no port specified: <empty>"),
            ("8080:", "no port specified: 8080:<empty>"),
            ("82-80", "invalid containerPort: 82-80"),
            ("8000-8001:80-82", "invalid ranges specified for container and host Ports: 80-82 and 8000-8001"),
            ("published=80", "missing mandatory field \"target\""),
            ("foo=1,target=80", "invalid field foo=1"),
        ] {
            assert_eq!(short(text), Err(error.to_owned()), "{text}");
        }
    }
}
