//! DNS messages (RFC 1035, 4.1): one question out, the addresses in the answer back. The answer is hostile.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Which addresses are asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    A,
    Aaaa,
}

impl Kind {
    fn number(self) -> u16 {
        match self {
            Kind::A => 1,
            Kind::Aaaa => 28,
        }
    }
}

/// What a server said.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Answer {
    Addresses(Vec<IpAddr>),
    NoSuchName,
    /// Too long for a datagram.
    Cut,
    /// SERVFAIL, REFUSED and the like.
    Failed,
}

const CLASS_IN: u16 = 1;
const MAX_ADDRESSES: usize = 16;

/// A query with recursion desired; `None` when the name cannot be asked for.
pub(super) fn question(id: u16, name: &str, kind: Kind) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(name.len() + 18);
    bytes.extend(id.to_be_bytes());
    bytes.extend([0x01, 0x00, 0, 1, 0, 0, 0, 0, 0, 0]);
    for label in name.split('.') {
        let length = u8::try_from(label.len()).ok().filter(|length| (1..=63).contains(length))?;
        bytes.push(length);
        bytes.extend(label.as_bytes());
    }
    bytes.push(0);
    bytes.extend(kind.number().to_be_bytes());
    bytes.extend(CLASS_IN.to_be_bytes());
    (bytes.len() <= 12 + 255 + 4).then_some(bytes)
}

/// Reads the answer to that question; `None` when it is not the answer to it.
///
/// A recursive server puts the records at the end of a chain of aliases into the same section, so every address record there
/// counts; names in it are skipped, never followed, so compression cannot loop.
pub(super) fn answer(bytes: &[u8], id: u16, name: &str, kind: Kind) -> Option<Answer> {
    let asked = question(id, name, kind)?;
    let (header, rest) = bytes.split_at_checked(12)?;
    let is_response = header[2] & 0x80 != 0;
    if header[..2] != asked[..2] || !is_response || header[4..6] != [0, 1] {
        return None;
    }
    let (echoed, mut rest) = rest.split_at_checked(asked.len() - 12)?;
    if !echoed.eq_ignore_ascii_case(&asked[12..]) {
        return None;
    }
    if header[2] & 0x02 != 0 {
        return Some(Answer::Cut);
    }
    match header[3] & 0x0f {
        0 => {}
        3 => return Some(Answer::NoSuchName),
        _ => return Some(Answer::Failed),
    }
    let mut addresses = Vec::new();
    for _ in 0..u16::from_be_bytes([header[6], header[7]]) {
        let Some((record, after)) = record(rest) else { return Some(Answer::Failed) };
        rest = after;
        if record.class != CLASS_IN || record.kind != kind.number() {
            continue;
        }
        if let Ok(four) = <[u8; 4]>::try_from(record.data) {
            addresses.push(IpAddr::V4(Ipv4Addr::from(four)));
        } else if let Ok(sixteen) = <[u8; 16]>::try_from(record.data) {
            addresses.push(IpAddr::V6(Ipv6Addr::from(sixteen)));
        }
        if addresses.len() == MAX_ADDRESSES {
            break;
        }
    }
    Some(Answer::Addresses(addresses))
}

struct Record<'a> {
    kind: u16,
    class: u16,
    data: &'a [u8],
}

fn record(bytes: &[u8]) -> Option<(Record<'_>, &[u8])> {
    let (fixed, rest) = after_name(bytes)?.split_at_checked(10)?;
    let length = usize::from(u16::from_be_bytes([fixed[8], fixed[9]]));
    let (data, rest) = rest.split_at_checked(length)?;
    let record = Record {
        kind: u16::from_be_bytes([fixed[0], fixed[1]]),
        class: u16::from_be_bytes([fixed[2], fixed[3]]),
        data,
    };
    Some((record, rest))
}

fn after_name(mut bytes: &[u8]) -> Option<&[u8]> {
    loop {
        let (length, rest) = bytes.split_first()?;
        match length {
            0 => return Some(rest),
            1..=63 => bytes = rest.get(usize::from(*length)..)?,
            // A pointer, two bytes, ends the name.
            192..=255 => return rest.get(1..),
            _ => return None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn reply(records: &[&[u8]]) -> Vec<u8> {
        let mut bytes = question(7, "r.example", Kind::A).unwrap();
        bytes[2] |= 0x80;
        bytes[7] = records.len() as u8;
        bytes.extend(records.concat());
        bytes
    }

    #[test]
    fn aliases_and_addresses() {
        let alias = [&[0xc0, 12, 0, 5, 0, 1, 0, 0, 0, 60, 0, 4, 1, b'x', 0xc0, 14][..]].concat();
        let address = [1, b'x', 0xc0, 14, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 192, 0, 2, 1];
        let other = [0, 0, 16, 0, 1, 0, 0, 0, 60, 0, 1, 0];
        let bytes = reply(&[&alias, &address, &other]);
        let expected = Answer::Addresses(vec!["192.0.2.1".parse().unwrap()]);
        assert_eq!(answer(&bytes, 7, "R.example", Kind::A), Some(expected));
        assert_eq!(answer(&bytes, 8, "r.example", Kind::A), None);
        assert_eq!(answer(&bytes, 7, "s.example", Kind::A), None);
        assert_eq!(answer(&bytes, 7, "r.example", Kind::Aaaa), None);
    }

    #[test]
    fn refusals() {
        let with = |at: usize, bits: u8| {
            let mut bytes = reply(&[]);
            bytes[at] |= bits;
            answer(&bytes, 7, "r.example", Kind::A)
        };
        assert_eq!(with(3, 3), Some(Answer::NoSuchName));
        assert_eq!(with(3, 2), Some(Answer::Failed));
        assert_eq!(with(2, 2), Some(Answer::Cut));
        assert_eq!(with(7, 1), Some(Answer::Failed));
        assert!(question(1, "a..b", Kind::A).is_none());
        assert!(question(1, &"a".repeat(64), Kind::A).is_none());
        assert!(question(1, &["a"; 200].join("."), Kind::A).is_none());
    }

    proptest! {
        #[test]
        fn any_answer_is_survived(tail in proptest::collection::vec(any::<u8>(), 0..80), count in any::<u8>()) {
            let mut bytes = reply(&[&tail]);
            bytes[7] = count;
            answer(&bytes, 7, "r.example", Kind::A);
            answer(&tail, 7, "r.example", Kind::A);
        }
    }
}
