//! `--network NAME` and its long form `name=NAME,alias=…,ip=…`, with the flags that belong to the first network.

use engine::NetworkRequest;
use engine::containers::options::NetworkMode;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The flags besides `--network` that say something of a container's place on a network.
#[derive(Debug, Default)]
pub struct Details<'a> {
    /// `--network-alias`.
    pub aliases: &'a [String],
    /// `--ip`.
    pub ip: Option<&'a str>,
    /// `--ip6`.
    pub ip6: Option<&'a str>,
    /// `--link`.
    pub links: &'a [String],
    /// `--link-local-ip`.
    pub link_local_ips: &'a [String],
    /// `--mac-address`.
    pub mac: Option<&'a str>,
}

/// Reads the networks asked for; none at all means the default bridge.
pub fn parse(texts: &[String], details: &Details<'_>) -> Result<(NetworkMode, Vec<NetworkRequest>), String> {
    let mut requests: Vec<NetworkRequest> = Vec::new();
    for text in texts {
        let request = one(text)?;
        if !requests.contains(&request) {
            requests.push(request);
        }
    }
    let given = details.given()?;
    if let Some(first) = requests.first() {
        let mode = match first.network.as_str() {
            "host" => Some(NetworkMode::Host),
            "none" => Some(NetworkMode::None),
            name => name.strip_prefix("container:").map(|name| NetworkMode::Container(name.to_owned())),
        };
        if let Some(mode) = mode {
            return alone(mode, &requests, &given);
        }
    }
    if requests.is_empty() {
        if !given.has_details() {
            return Ok((NetworkMode::Bridge, requests));
        }
        requests.push(NetworkRequest::named("bridge"));
    }
    if let Some(first) = requests.first_mut() {
        merge(first, given)?;
    }
    Ok((NetworkMode::Bridge, requests))
}

/// A mode that no network can stand beside.
fn alone(
    mode: NetworkMode,
    requests: &[NetworkRequest],
    given: &NetworkRequest,
) -> Result<(NetworkMode, Vec<NetworkRequest>), String> {
    if matches!(&mode, NetworkMode::Container(name) if name.is_empty()) {
        return Err("invalid container format container:<name|id>".into());
    }
    if requests.len() > 1 {
        return Err("conflicting options: cannot attach both user-defined and non-user-defined network-modes".into());
    }
    if given.mac.is_some() {
        return Err("conflicting options: mac-address and the network mode".into());
    }
    if given.has_details() || requests.iter().any(NetworkRequest::has_details) {
        return Err("invalid config: addresses and names belong to user-defined networks".into());
    }
    Ok((mode, Vec::new()))
}

impl Details<'_> {
    fn given(&self) -> Result<NetworkRequest, String> {
        Ok(NetworkRequest {
            aliases: self.aliases.to_vec(),
            ipv4: self.ip.map(ipv4).transpose()?,
            ipv6: self.ip6.map(ipv6).transpose()?,
            mac: self.mac.map(str::to_owned),
            link_local_ips: self.link_local_ips.iter().map(|text| address(text)).collect::<Result<_, _>>()?,
            links: self.links.to_vec(),
            ..NetworkRequest::default()
        })
    }
}

/// The flags' details go to the first network, unless it has its own.
fn merge(first: &mut NetworkRequest, given: NetworkRequest) -> Result<(), String> {
    let both = |flag: &str, what: &str| {
        Err(format!("conflicting options: cannot specify both --{flag} and per-network {what}"))
    };
    if !given.aliases.is_empty() {
        if !first.aliases.is_empty() {
            return both("network-alias", "alias");
        }
        first.aliases = given.aliases;
    }
    if !given.link_local_ips.is_empty() {
        if !first.link_local_ips.is_empty() {
            return both("link-local-ip", "link-local IP addresses");
        }
        first.link_local_ips = given.link_local_ips;
    }
    for (flag, here, there) in [
        ("ip", given.ipv4.is_some(), first.ipv4.is_some()),
        ("ip6", given.ipv6.is_some(), first.ipv6.is_some()),
        ("mac-address", given.mac.is_some(), first.mac.is_some()),
    ] {
        if here && there {
            return both(flag, flag);
        }
    }
    first.ipv4 = given.ipv4.or(first.ipv4);
    first.ipv6 = given.ipv6.or(first.ipv6);
    first.mac = given.mac.or(first.mac.take());
    first.links.extend(given.links);
    Ok(())
}

fn one(text: &str) -> Result<NetworkRequest, String> {
    if !text.contains('=') {
        return match text {
            "" => Ok(NetworkRequest::named("bridge")),
            "default" => Ok(NetworkRequest::named("bridge")),
            name => Ok(NetworkRequest::named(name)),
        };
    }
    let mut request = NetworkRequest::default();
    for field in text.split(',') {
        let (key, value) = field.split_once('=').ok_or_else(|| format!("invalid field {field}"))?;
        let (key, value) = (key.trim().to_ascii_lowercase(), value.trim());
        match key.as_str() {
            "name" => request.network = if value == "default" { "bridge".into() } else { value.to_owned() },
            "alias" => request.aliases.push(value.to_owned()),
            "ip" => request.ipv4 = Some(ipv4(value)?),
            "ip6" => request.ipv6 = Some(ipv6(value)?),
            "mac-address" => request.mac = Some(value.to_owned()),
            "link-local-ip" => request.link_local_ips.push(address(value)?),
            "gw-priority" => request.gateway_priority = priority(value)?,
            "driver-opt" => {
                let (name, value) = driver_option(value)?;
                request.driver_options.insert(name, value);
            }
            _ => return Err(format!("invalid field key {key}")),
        }
    }
    if request.network.is_empty() {
        return Err("network name/id is not specified".into());
    }
    Ok(request)
}

/// Reads an IPv4 address.
pub fn ipv4(text: &str) -> Result<Ipv4Addr, String> {
    text.parse().map_err(|_| format!("invalid IPv4 address: {text}"))
}

/// Reads an IPv6 address.
pub fn ipv6(text: &str) -> Result<Ipv6Addr, String> {
    text.parse().map_err(|_| format!("invalid IPv6 address: {text}"))
}

/// Reads an address of either family.
pub fn address(text: &str) -> Result<IpAddr, String> {
    text.parse().map_err(|_| format!("invalid IP address: {text}"))
}

/// Reads a gateway's priority.
pub fn priority(text: &str) -> Result<i32, String> {
    text.parse().map_err(|_| format!("invalid gw-priority ({text}): it must be a whole number"))
}

/// Reads an option of a driver.
pub fn driver_option(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.trim().is_empty() => Ok((key.trim().to_ascii_lowercase(), value.trim().to_owned())),
        _ => Err("invalid key value pair format in driver options".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn strings(names: &[&str]) -> Vec<String> {
        names.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn table() {
        let parse = |names: &[&str]| super::parse(&strings(names), &Details::default());
        assert_eq!(parse(&[]), Ok((NetworkMode::Bridge, vec![])));
        assert_eq!(parse(&["none"]), Ok((NetworkMode::None, vec![])));
        assert_eq!(parse(&["name=host"]), Ok((NetworkMode::Host, vec![])));
        let bridge = vec![NetworkRequest::named("bridge")];
        assert_eq!(parse(&["default", "bridge"]), Ok((NetworkMode::Bridge, bridge)));
        assert!(parse(&["none", "host"]).unwrap_err().starts_with("conflicting options"));
        assert_eq!(parse(&["container:x"]), Ok((NetworkMode::Container("x".into()), vec![])));
        assert!(parse(&["container:"]).is_err());
        let (_, requests) = parse(&[
            "name=a,alias=x,alias=y,ip=10.0.0.5,gw-priority=3,driver-opt=com.docker.network.endpoint.ifname=e9",
            "b",
        ])
        .unwrap();
        assert_eq!((requests[0].network.as_str(), requests[0].aliases.len()), ("a", 2));
        assert_eq!((requests[0].gateway_priority, requests[1].network.as_str()), (3, "b"));
        assert_eq!(requests[0].driver_options["com.docker.network.endpoint.ifname"], "e9");
        for wrong in ["alias=x", "name=a,foo=b", "name=a,ip=x", "name=a,ip"] {
            assert!(parse(&[wrong]).is_err(), "{wrong}");
        }
    }

    #[test]
    fn the_flags_belong_to_the_first() {
        let details = Details { aliases: &["web".to_owned()], ip: Some("10.0.0.5"), ..Details::default() };
        let (_, requests) = super::parse(&strings(&["a", "b"]), &details).unwrap();
        assert_eq!(requests[0].aliases, ["web"]);
        assert_eq!(requests[0].ipv4.unwrap().to_string(), "10.0.0.5");
        assert!(requests[1].aliases.is_empty());
        assert!(super::parse(&strings(&["name=a,ip=10.0.0.6"]), &details).unwrap_err().contains("per-network ip"));
        assert!(super::parse(&strings(&["host"]), &details).is_err());
        assert_eq!(super::parse(&[], &details).unwrap().1[0].network, "bridge");
    }
}
