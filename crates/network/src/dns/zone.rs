//! What a container's name server knows, and the answers that follow from it. Pure.

use super::message::{A, AAAA, ANY, IN, PTR, Query, Reply, Unreadable, code};
use crate::Cidr;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// How long an answer may be kept. Containers come and go; asking costs microseconds.
const SECONDS: u32 = 5;
/// The longest message over TCP.
const TCP_MAX: usize = u16::MAX as usize;

/// Names of the networks that the container is on, and where to ask for others.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Zone {
    /// Names in lower case without final dot (container names, aliases, services, `host.docker.internal`), each with all its
    /// addresses; a name with several is answered with all of them, beginning with another one each time.
    #[serde(default)]
    pub names: BTreeMap<String, Vec<IpAddr>>,
    /// Names for reverse look-ups where several names have the address, or another one is wanted: `web.mynet`.
    #[serde(default)]
    pub reverse: BTreeMap<IpAddr, String>,
    /// Subnets whose addresses nobody else knows: a reverse look-up in them is never forwarded.
    #[serde(default)]
    pub subnets: Vec<Cidr>,
    /// Servers to forward to, in the order of preference. None: internal networks, nothing is forwarded and every unknown
    /// name does not exist (CVE-2024-29018).
    #[serde(default)]
    pub upstream: Vec<SocketAddr>,
}

/// How the question came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// In a datagram: the answer is limited by what the asker takes.
    Udp,
    /// On a connection.
    Tcp,
}

/// What is to be done with a question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// This is the answer.
    Answer(Vec<u8>),
    /// Ask the upstream servers.
    Forward(Query),
    /// Say nothing.
    Ignore,
}

impl Zone {
    /// Answers a message. `turn` says which address of several comes first; count it up.
    pub fn decide(&self, message: &[u8], transport: Transport, turn: usize) -> Decision {
        let query = match Query::read(message) {
            Ok(query) => query,
            Err(Unreadable::Ignore) => return Decision::Ignore,
            Err(Unreadable::Malformed(id)) => return Decision::Answer(Reply::malformed(id)),
        };
        let limit = match transport {
            Transport::Udp => usize::from(query.udp_size),
            Transport::Tcp => TCP_MAX,
        };
        let simple = |code, version| Decision::Answer(Reply::new(&query, code, limit).finish(version));
        if query.edns.is_some_and(|version| version > 0) {
            return simple(code::NO_ERROR, false);
        }
        if query.operation != 0 {
            return simple(code::NOT_IMPLEMENTED, true);
        }
        if query.class == IN {
            if let Some(addresses) = self.names.get(&query.name) {
                return Decision::Answer(addresses_reply(&query, addresses, limit, turn));
            }
            if let Some(address) = reverse_name(&query.name) {
                if let Some(name) = self.name_of(address) {
                    let mut reply = Reply::new(&query, code::NO_ERROR, limit);
                    if matches!(query.kind, PTR | ANY) {
                        reply.add_name(PTR, SECONDS, name);
                    }
                    return Decision::Answer(reply.finish(true));
                }
                if self.subnets.iter().any(|subnet| subnet.contains(address)) {
                    return simple(code::NAME_ERROR, true);
                }
            }
        }
        if self.upstream.is_empty() { simple(code::NAME_ERROR, true) } else { Decision::Forward(query) }
    }

    fn name_of(&self, address: IpAddr) -> Option<&str> {
        let by_name = || self.names.iter().find(|(_, all)| all.contains(&address)).map(|(name, _)| name);
        self.reverse.get(&address).or_else(by_name).map(String::as_str)
    }
}

/// The name exists: a type that it does not have is "no data", never "no such name" — a resolver that is told the latter
/// for AAAA does not ask for A any more.
fn addresses_reply(query: &Query, addresses: &[IpAddr], limit: usize, turn: usize) -> Vec<u8> {
    let mut reply = Reply::new(query, code::NO_ERROR, limit);
    let start = turn.checked_rem(addresses.len()).unwrap_or_default();
    let (last, first) = addresses.split_at(start);
    for address in first.iter().chain(last) {
        match address {
            IpAddr::V4(address) if matches!(query.kind, A | ANY) => reply.add(A, SECONDS, &address.octets()),
            IpAddr::V6(address) if matches!(query.kind, AAAA | ANY) => reply.add(AAAA, SECONDS, &address.octets()),
            _ => {}
        }
    }
    reply.finish(true)
}

/// The answer when no upstream server gave one.
pub(crate) fn failure(query: &Query) -> Vec<u8> {
    Reply::new(query, code::SERVER_FAILURE, TCP_MAX).finish(true)
}

/// The address in `4.3.2.1.in-addr.arpa` or the 32 nibbles before `ip6.arpa`.
fn reverse_name(name: &str) -> Option<IpAddr> {
    if let Some(labels) = name.strip_suffix(".in-addr.arpa") {
        let mut bytes = [0; 4];
        let mut labels = labels.split('.');
        for byte in bytes.iter_mut().rev() {
            *byte = labels.next()?.parse().ok()?;
        }
        return labels.next().is_none().then(|| IpAddr::V4(Ipv4Addr::from(bytes)));
    }
    let labels = name.strip_suffix(".ip6.arpa")?;
    let mut bits: u128 = 0;
    let mut count = 0;
    for label in labels.split('.') {
        let digit = label.chars().next().filter(|_| label.len() == 1)?.to_digit(16)?;
        bits |= u128::from(digit).checked_shl(count * 4).filter(|_| count < 32)?;
        count += 1;
    }
    (count == 32).then(|| IpAddr::V6(Ipv6Addr::from(bits)))
}

#[cfg(test)]
mod tests {
    use super::super::message::Header;
    use super::super::message::tests::query;
    use super::*;

    fn zone() -> Zone {
        let address = |text: &str| text.parse::<IpAddr>().unwrap();
        Zone {
            names: BTreeMap::from([
                ("web".to_owned(), vec![address("10.0.0.2"), address("10.0.0.3"), address("fd00::2")]),
                ("db".to_owned(), vec![address("10.0.0.4")]),
            ]),
            reverse: BTreeMap::from([(address("10.0.0.2"), "web.mynet".to_owned())]),
            subnets: vec!["10.0.0.0/24".parse().unwrap(), "fd00::/64".parse().unwrap()],
            upstream: vec!["192.0.2.53:53".parse().unwrap()],
        }
    }

    fn answer(zone: &Zone, name: &str, kind: u16, turn: usize) -> (Header, Vec<u8>) {
        match zone.decide(&query(name, kind, None), Transport::Udp, turn) {
            Decision::Answer(bytes) => (Header::read(&bytes).unwrap(), bytes),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn names_and_their_absence() {
        let zone = zone();
        let (header, bytes) = answer(&zone, "WEB", A, 0);
        assert_eq!((header.code, header.answers), (0, 2));
        assert!(bytes.ends_with(&[10, 0, 0, 3]));
        assert!(answer(&zone, "web", A, 1).1.ends_with(&[10, 0, 0, 2]), "round robin");
        assert_eq!(answer(&zone, "web", AAAA, 0).0.answers, 1);
        // NODATA, not NXDOMAIN, for AAAA of a name with IPv4 only, and for types that are not addresses.
        assert_eq!((answer(&zone, "db", AAAA, 0).0.code, answer(&zone, "db", AAAA, 0).0.answers), (0, 0));
        assert_eq!((answer(&zone, "db", 65, 0).0.code, answer(&zone, "db", 65, 0).0.answers), (0, 0));
        assert!(matches!(zone.decide(&query("example.com", A, None), Transport::Udp, 0), Decision::Forward(_)));
    }

    #[test]
    fn reverse_lookups() {
        let zone = zone();
        let (header, bytes) = answer(&zone, "2.0.0.10.in-addr.arpa", PTR, 0);
        assert_eq!(header.answers, 1);
        assert!(bytes.ends_with(b"\x03web\x05mynet\0"));
        let nibbles = "2.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.d.f.ip6.arpa";
        assert!(answer(&zone, nibbles, PTR, 0).1.ends_with(b"\x03web\0"));
        // Ours but nobody has it: not for the world to know.
        assert_eq!(answer(&zone, "9.0.0.10.in-addr.arpa", PTR, 0).0.code, 3);
        for name in ["1.1.1.1.in-addr.arpa", "1.in-addr.arpa", "x.ip6.arpa", "300.0.0.10.in-addr.arpa"] {
            assert!(matches!(zone.decide(&query(name, PTR, None), Transport::Udp, 0), Decision::Forward(_)), "{name}");
        }
    }

    #[test]
    fn cve_2024_29018_internal_networks_forward_nothing() {
        let zone = Zone { upstream: vec![], ..zone() };
        assert_eq!(answer(&zone, "example.com", A, 0).0.code, 3);
        assert_eq!(answer(&zone, "1.1.1.1.in-addr.arpa", PTR, 0).0.code, 3);
    }

    #[test]
    fn edns_and_other_operations() {
        let zone = zone();
        let mut asked = query("web", A, Some(4096));
        let Decision::Answer(bytes) = zone.decide(&asked, Transport::Udp, 0) else { panic!() };
        assert_eq!(bytes[11], 1, "an OPT record");
        let version = asked.len() - 5;
        asked[version] = 1;
        let Decision::Answer(bytes) = zone.decide(&asked, Transport::Udp, 0) else { panic!() };
        assert_eq!(bytes[bytes.len() - 6], 1, "BADVERS");
        let mut update = query("web", A, None);
        update[2] = 5 << 3;
        let Decision::Answer(bytes) = zone.decide(&update, Transport::Udp, 0) else { panic!() };
        assert_eq!(Header::read(&bytes).unwrap().code, 4);
    }

    #[test]
    fn many_addresses_are_cut_in_a_datagram_and_whole_on_a_connection() {
        let many = (0..200u8).map(|number| IpAddr::from([10, 0, 1, number])).collect();
        let zone = Zone { names: BTreeMap::from([("many".to_owned(), many)]), ..zone() };
        let (header, bytes) = answer(&zone, "many", A, 0);
        assert!(header.truncated && bytes.len() <= 512);
        let Decision::Answer(bytes) = zone.decide(&query("many", A, None), Transport::Tcp, 0) else { panic!() };
        let header = Header::read(&bytes).unwrap();
        assert!(!header.truncated && header.answers == 200);
    }
}
