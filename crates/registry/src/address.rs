//! Where a request goes: scheme, host and port, and the rules for following an address that somebody else gave us.

use oci::reference::{DEFAULT_DOMAIN, is_domain};
use std::fmt;
use std::net::IpAddr;

/// Whether a connection is encrypted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Scheme {
    Http,
    Https,
}

impl Scheme {
    fn default_port(self) -> u16 {
        match self {
            Scheme::Http => 80,
            Scheme::Https => 443,
        }
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Scheme::Http => "http",
            Scheme::Https => "https",
        }
    }
}

/// The owner of credentials: two addresses with the same origin are the same server.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Origin {
    pub(crate) scheme: Scheme,
    /// Lower case; an IPv6 address without brackets.
    pub(crate) host: String,
    pub(crate) port: u16,
}

impl Origin {
    /// The origin of `host[:port]`.
    pub(crate) fn new(scheme: Scheme, domain: &str) -> Option<Origin> {
        if !is_domain(domain) {
            return None;
        }
        let (host, port) = match domain.strip_prefix('[') {
            Some(rest) => {
                let (host, after) = rest.split_once(']')?;
                (host, after.strip_prefix(':'))
            }
            None => match domain.split_once(':') {
                Some((host, port)) => (host, Some(port)),
                None => (domain, None),
            },
        };
        let port = match port {
            Some(port) => port.parse().ok()?,
            None => scheme.default_port(),
        };
        Some(Origin { scheme, host: host.to_ascii_lowercase(), port })
    }

    /// `host[:port]` as in a `Host` header: without the port that goes without saying.
    pub(crate) fn authority(&self) -> String {
        let host = match self.host.contains(':') {
            true => format!("[{}]", self.host),
            false => self.host.clone(),
        };
        match self.port == self.scheme.default_port() {
            true => host,
            false => format!("{host}:{}", self.port),
        }
    }

    pub(crate) fn is_loopback(&self) -> bool {
        is_loopback(&self.host)
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}", self.scheme.name(), self.authority())
    }
}

/// Whether the host is this machine: 127.0.0.0/8, `::1`, `localhost` and names below it (RFC 6761, 6.3).
pub(crate) fn is_loopback(host: &str) -> bool {
    match host.parse::<IpAddr>() {
        Ok(IpAddr::V4(address)) => address.is_loopback(),
        Ok(IpAddr::V6(address)) => {
            address.is_loopback() || address.to_ipv4_mapped().is_some_and(|address| address.is_loopback())
        }
        Err(_) => host == "localhost" || host.ends_with(".localhost"),
    }
}

/// Where the API of the registry that a reference calls `domain` is.
pub(crate) fn api_host(domain: &str) -> &str {
    match domain {
        DEFAULT_DOMAIN => "registry-1.docker.io",
        other => other,
    }
}

/// An absolute `http` or `https` address without user and fragment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Address {
    pub(crate) origin: Origin,
    /// Path and query; starts with `/`.
    pub(crate) target: String,
}

impl Address {
    /// Parses an absolute address.
    pub(crate) fn parse(text: &str) -> Option<Address> {
        let text = text.split('#').next().unwrap_or_default();
        let uri: hyper::Uri = text.parse().ok()?;
        let scheme = match uri.scheme_str()? {
            "http" => Scheme::Http,
            "https" => Scheme::Https,
            _ => return None,
        };
        // A user name in an address is a way to look like somebody else; is_domain knows no '@'.
        let origin = Origin::new(scheme, uri.authority()?.as_str())?;
        let target = uri.path_and_query().map(|target| target.as_str()).unwrap_or("/");
        let target = match target.starts_with('/') {
            true => target.to_owned(),
            false => format!("/{target}"),
        };
        Some(Address { origin, target })
    }

    /// The address that a `Location` header here leads to (RFC 3986, 5.2; servers remove dot segments themselves).
    pub(crate) fn join(&self, location: &str) -> Option<Address> {
        let location = location.split('#').next().unwrap_or_default().trim();
        let before_path = location.split(['/', '?']).next().unwrap_or_default();
        if before_path.contains(':') {
            return Address::parse(location);
        }
        let path = self.target.split('?').next().unwrap_or("/");
        let target = if location.starts_with("//") {
            return Address::parse(&format!("{}:{location}", self.origin.scheme.name()));
        } else if location.starts_with('/') {
            location.to_owned()
        } else if location.starts_with('?') || location.is_empty() {
            format!("{path}{location}")
        } else {
            let directory = path.rsplit_once('/').map_or("", |(directory, _)| directory);
            format!("{directory}/{location}")
        };
        // The parser refuses what must not be in a request line.
        Address::parse(&format!("{}{target}", self.origin))
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.origin, self.target)
    }
}

/// Everything outside RFC 3986's unreserved characters as `%XX`.
pub(crate) fn percent_encoded(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => encoded.push(char::from(byte)),
            _ => encoded.push_str(&format!("%{byte:02X}")),
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn origins() {
        let origin = |text| Origin::new(Scheme::Https, text).unwrap();
        assert_eq!(origin("Example.com").to_string(), "https://example.com");
        assert_eq!(origin("example.com:443"), origin("example.com"));
        assert_eq!(origin("[::1]:5000").to_string(), "https://[::1]:5000");
        assert_eq!(origin("[::1]:5000").host, "::1");
        for host in ["localhost:5000", "127.1.2.3", "[::1]", "[::ffff:127.0.0.1]", "a.localhost"] {
            assert!(origin(host).is_loopback(), "{host}");
        }
        for host in ["localhost.example.com", "128.0.0.1", "mylocalhost", "[::2]"] {
            assert!(!origin(host).is_loopback(), "{host}");
        }
    }

    #[test]
    fn redirects() {
        let base = Address::parse("https://r.example/v2/a/blobs/x?y=1").unwrap();
        for (location, target) in [
            ("https://cdn.example/b?sig=%2F#frag", "https://cdn.example/b?sig=%2F"),
            ("http://cdn.example", "http://cdn.example/"),
            ("//cdn.example:8443/b", "https://cdn.example:8443/b"),
            ("/b?c", "https://r.example/b?c"),
            ("?z=2", "https://r.example/v2/a/blobs/x?z=2"),
            ("z", "https://r.example/v2/a/blobs/z"),
            ("HTTPS://CDN.example/b", "https://cdn.example/b"),
        ] {
            assert_eq!(base.join(location).map(|a| a.to_string()).as_deref(), Some(target), "{location}");
        }
        for location in [
            "ftp://r.example/",
            "file:///etc/passwd",
            "https://user:password@r.example/",
            "https://r.example@evil.example/",
            "/a b",
            "/a\r\nX: y",
            "https:///a",
            "http://[::1/a",
            "javascript:alert(1)",
        ] {
            assert_eq!(base.join(location), None, "{location}");
        }
    }

    #[test]
    fn encoding() {
        assert_eq!(percent_encoded("repository:a/b:pull,push é"), "repository%3Aa%2Fb%3Apull%2Cpush%20%C3%A9");
    }
}
