//! Proxies by environment: which one is for which address, by the rules of Go's `httpproxy`, which Docker's users know.
//!
//! This machine itself is never reached by a proxy. A proxy is spoken to in the clear (`http://`); others are refused by name.

use crate::address::{Origin, Scheme, is_loopback};
use crate::mirrors::is_within;
use base64::Engine as _;
use hyper::header::HeaderValue;
use std::net::IpAddr;

/// The variables as they are; nothing is an empty one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Proxies {
    /// `HTTP_PROXY`: for addresses without TLS.
    pub http: String,
    /// `HTTPS_PROXY`: for those with.
    pub https: String,
    /// `NO_PROXY`: hosts, domains, addresses and networks, separated by commas; `*` for all.
    pub none: String,
}

impl Proxies {
    /// The environment, in capitals or, like curl, in small letters.
    pub fn from_environment() -> Proxies {
        let variable = |name: &str| {
            let value = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
            value(&name.to_ascii_uppercase()).or_else(|| value(name)).unwrap_or_default()
        };
        let all = variable("all_proxy");
        let or_all = |own: String| if own.is_empty() { all.clone() } else { own };
        Proxies {
            http: or_all(variable("http_proxy")),
            https: or_all(variable("https_proxy")),
            none: variable("no_proxy"),
        }
    }

    /// The same without the users and passwords that an address may have in it.
    #[must_use]
    pub fn without_passwords(&self) -> Proxies {
        let open = |text: &str| {
            let (scheme, rest) = text.split_once("://").unwrap_or(("", text));
            match rest.rsplit_once('@') {
                Some((_, host)) if scheme.is_empty() => format!("xxxxx:xxxxx@{host}"),
                Some((_, host)) => format!("{scheme}://xxxxx:xxxxx@{host}"),
                None => text.to_owned(),
            }
        };
        Proxies { http: open(&self.http), https: open(&self.https), none: self.none.clone() }
    }

    /// The proxy for an address; the error is a sentence's end.
    pub(crate) fn of(&self, origin: &Origin) -> Result<Option<Proxy>, String> {
        let text = match origin.scheme {
            Scheme::Http => &self.http,
            Scheme::Https => &self.https,
        };
        if text.is_empty() || is_loopback(&origin.host) || self.excludes(origin) {
            return Ok(None);
        }
        Proxy::parse(text).map(Some)
    }

    fn excludes(&self, origin: &Origin) -> bool {
        let address: Option<IpAddr> = origin.host.parse().ok();
        self.none.split(',').map(|rule| rule.trim().to_ascii_lowercase()).filter(|rule| !rule.is_empty()).any(|rule| {
            if rule == "*" {
                return true;
            }
            if let (Some((network, bits)), Some(address)) = (rule.split_once('/'), address) {
                return matches!((network.parse(), bits.parse()), (Ok(n), Ok(b)) if is_within(address, n, b));
            }
            let (host, port) = match rule.rsplit_once(':') {
                Some((host, port)) if !host.contains(':') || host.ends_with(']') => (host, port.parse::<u16>().ok()),
                _ => (rule.as_str(), None),
            };
            if port.is_some_and(|port| port != origin.port) {
                return false;
            }
            let host = host.trim_start_matches('[').trim_end_matches(']');
            if address.is_some() {
                return host.parse().ok() == address;
            }
            // `.example.com` and `*.example.com` are for what is below; `example.com` is for itself, too.
            match host.strip_prefix("*.").or(host.strip_prefix('.')) {
                Some(domain) => origin.host.strip_suffix(domain).is_some_and(|rest| rest.ends_with('.')),
                None => origin.host.strip_suffix(host).is_some_and(|rest| rest.is_empty() || rest.ends_with('.')),
            }
        })
    }
}

/// A proxy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Proxy {
    /// Where it is.
    pub(crate) origin: Origin,
    /// `Proxy-Authorization`, kept out of messages.
    pub(crate) authorization: Option<HeaderValue>,
}

impl Proxy {
    fn parse(text: &str) -> Result<Proxy, String> {
        let rest = match text.split_once("://") {
            None => text,
            Some((scheme, rest)) if scheme.eq_ignore_ascii_case("http") => rest,
            Some((scheme, _)) => return Err(format!("a proxy by {scheme:?}, which is not supported (http:// is)")),
        };
        let rest = rest.split(['/', '?', '#']).next().unwrap_or_default();
        let (user, host) = match rest.rsplit_once('@') {
            Some((user, host)) => (Some(user), host),
            None => (None, rest),
        };
        // Without the text: it may have a password in it.
        let wrong = || "a proxy whose address is malformed".to_owned();
        let origin = Origin::new(Scheme::Http, host).ok_or_else(wrong)?;
        let authorization = user.map(|user| {
            let (name, password) = user.split_once(':').unwrap_or((user, ""));
            let text = [decoded(name), b":".to_vec(), decoded(password)].concat();
            let text = base64::engine::general_purpose::STANDARD.encode(text);
            let mut value = HeaderValue::try_from(format!("Basic {text}")).map_err(|_| wrong())?;
            value.set_sensitive(true);
            Ok::<_, String>(value)
        });
        Ok(Proxy { origin, authorization: authorization.transpose()? })
    }
}

/// `%40` and the like as bytes.
fn decoded(text: &str) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        let pair = tail.get(..2).and_then(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok());
        match (first, pair) {
            (b'%', Some(byte)) => {
                bytes.push(byte);
                rest = &tail[2..];
            }
            _ => {
                bytes.push(*first);
                rest = tail;
            }
        }
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwords_are_not_shown() {
        let shown = Proxies { http: "http://me:secret@p:1".into(), https: "me:se@cret@p".into(), none: "x".into() };
        let shown = shown.without_passwords();
        assert_eq!((shown.http.as_str(), shown.https.as_str()), ("http://xxxxx:xxxxx@p:1", "xxxxx:xxxxx@p"));
    }

    fn goes(none: &str, address: &str) -> bool {
        let proxies = Proxies { http: "proxy.test:3128".into(), https: "http://proxy.test".into(), none: none.into() };
        let (scheme, host) = match address.strip_prefix("http://") {
            Some(host) => (Scheme::Http, host),
            None => (Scheme::Https, address),
        };
        proxies.of(&Origin::new(scheme, host).unwrap()).unwrap().is_some()
    }

    #[test]
    fn who_goes_by_a_proxy() {
        for (none, address, wanted) in [
            ("", "r.example", true),
            ("", "localhost:5000", false),
            ("", "127.0.0.1", false),
            ("*", "r.example", false),
            ("example", "r.example", false),
            (".example", "r.example", false),
            (".r.example", "r.example", true),
            ("*.example", "r.example", false),
            ("ample", "r.example", true),
            ("other, r.example:443", "r.example", false),
            ("r.example:5000", "r.example", true),
            ("10.0.0.0/8", "10.1.2.3", false),
            ("10.0.0.0/8", "11.1.2.3", true),
            ("10.1.2.3", "10.1.2.3:5000", false),
            ("[fd00::1]", "[fd00::1]:5000", false),
            ("fd00::/8", "[fd00::1]", false),
        ] {
            assert_eq!(goes(none, address), wanted, "{address} with NO_PROXY={none}");
            assert_eq!(goes(none, &format!("http://{address}")), wanted || none == "other, r.example:443");
        }
    }

    #[test]
    fn addresses_of_proxies() {
        let proxy = Proxy::parse("http://us%40er:p%3Aw@proxy.test:3128/").unwrap();
        assert_eq!(proxy.origin.authority(), "proxy.test:3128");
        // us@er:p:w
        assert_eq!(proxy.authorization.as_ref().unwrap().to_str().unwrap(), "Basic dXNAZXI6cDp3");
        assert!(!format!("{proxy:?}").contains("dXNA"));
        assert_eq!(Proxy::parse("proxy.test").unwrap().origin.port, 80);
        assert!(Proxy::parse("socks5://proxy.test").unwrap_err().contains("not supported"));
        assert!(!Proxy::parse("http://user:secret@bad host").unwrap_err().contains("secret"));
    }
}
