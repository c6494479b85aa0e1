//! What stands in a table, read from the kernel.

use super::{INET, SUBSYSTEM, header};
use crate::netlink::{Attributes, Failure, Request, Socket, u64_be};
use rustix::io::Errno;

const GETCHAIN: u16 = SUBSYSTEM | 4;
const GETRULE: u16 = SUBSYSTEM | 7;
const GETSET: u16 = SUBSYSTEM | 10;
const GETSETELEM: u16 = SUBSYSTEM | 13;
const GETGEN: u16 = SUBSYSTEM | 16;

/// A table's chains, sets and rules.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Found {
    pub(crate) chains: Vec<String>,
    pub(crate) sets: Vec<String>,
    pub(crate) rules: Vec<FoundRule>,
}

/// A rule as far as it is compared with ours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct FoundRule {
    pub(crate) chain: String,
    pub(crate) handle: u64,
    pub(crate) comment: String,
    /// Names of its expressions in order.
    pub(crate) expressions: Vec<String>,
    /// Packets and bytes of its counter.
    pub(crate) counter: (u64, u64),
}

/// The generation of all rules of this network namespace; every transaction of anybody raises it.
pub(crate) fn generation(socket: &mut Socket) -> Result<u32, Failure> {
    let mut request = Request::new(GETGEN, 0);
    request.raw(&header(0, 0));
    let mut generation = 0;
    socket.query(&mut request, |_, payload| generation = attributes(payload).be32(1).unwrap_or_default())?;
    Ok(generation)
}

/// Chains, sets and rules of a table, in the order of the kernel. Empty when there is no such table.
pub(crate) fn table(socket: &mut Socket, family: u8, name: &str) -> Result<Found, Failure> {
    let mut found = Found::default();
    for payload in dump(socket, GETCHAIN, family, name, None)? {
        let attributes = attributes(&payload);
        if attributes.text(1).as_deref() == Some(name) {
            found.chains.extend(attributes.text(3));
        }
    }
    if found.chains.is_empty() {
        return Ok(found);
    }
    for payload in dump(socket, GETSET, family, name, None)? {
        let attributes = attributes(&payload);
        if attributes.text(1).as_deref() == Some(name) {
            found.sets.extend(attributes.text(2));
        }
    }
    for payload in dump(socket, GETRULE, family, name, None)? {
        let attributes = attributes(&payload);
        if attributes.text(1).as_deref() == Some(name) {
            found.rules.extend(rule(attributes));
        }
    }
    Ok(found)
}

/// The rules of one chain of any table; none where there is no such chain.
pub(crate) fn chain_rules(
    socket: &mut Socket,
    family: u8,
    table: &str,
    chain: &str,
) -> Result<Vec<FoundRule>, Failure> {
    let entries = dump(socket, GETRULE, family, table, Some(chain))?;
    Ok(entries.iter().filter_map(|payload| rule(attributes(payload))).filter(|rule| rule.chain == chain).collect())
}

/// Whether there is such a chain.
pub(crate) fn has_chain(socket: &mut Socket, family: u8, table: &str, chain: &str) -> Result<bool, Failure> {
    let mut request = Request::new(GETCHAIN, 0);
    request.raw(&header(family, 0)).text(1, table).text(3, chain);
    exists(socket.query(&mut request, |_, _| {}))
}

/// Key and value of an element; the value of a verdict or of a member of a plain set is empty.
pub(crate) type KeyAndValue = (Vec<u8>, Vec<u8>);

/// The keys and values (empty for verdicts and plain sets) of a set of `inet TABLE`.
pub(crate) fn elements(socket: &mut Socket, table: &str, set: &str) -> Result<Vec<KeyAndValue>, Failure> {
    let mut found = Vec::new();
    for payload in dump(socket, GETSETELEM, INET, table, Some(set))? {
        for (_, element) in attributes(&payload).nested(3) {
            let element = Attributes(element);
            let key = element.nested(1).find(1).unwrap_or_default().to_vec();
            let value = element.nested(2).find(1).unwrap_or_default().to_vec();
            // The end of a range is no element of its own.
            if element.be32(3).unwrap_or_default() & 1 == 0 {
                found.push((key, value));
            }
        }
    }
    Ok(found)
}

/// The value that a set of `inet TABLE` has for a key (empty for a plain set), `None` if it does not have the key: one
/// question, however large the set is.
pub(crate) fn element(socket: &mut Socket, table: &str, set: &str, key: &[u8]) -> Result<Option<Vec<u8>>, Failure> {
    let mut request = Request::new(GETSETELEM, 0);
    request.raw(&header(INET, 0)).text(1, table).text(2, set).nest(3, |list| {
        list.nest(1, |element| {
            element.nest(1, |piece| {
                piece.bytes(1, key);
            });
        });
    });
    let mut value = Vec::new();
    let is_there = exists(socket.query(&mut request, |_, payload| {
        if let Some((_, element)) = attributes(payload).nested(3).next() {
            value = Attributes(element).nested(2).find(1).unwrap_or_default().to_vec();
        }
    }))?;
    Ok(is_there.then_some(value))
}

fn exists(answer: Result<(), Failure>) -> Result<bool, Failure> {
    match answer {
        Ok(()) => Ok(true),
        Err(failure) if failure.errno == Errno::NOENT => Ok(false),
        Err(failure) => Err(failure),
    }
}

fn attributes(payload: &[u8]) -> Attributes<'_> {
    Attributes(payload.get(4..).unwrap_or_default())
}

/// A dump that is confined to a table (and a set or, for rules, a chain); a table that is not there is empty.
fn dump(socket: &mut Socket, kind: u16, family: u8, table: &str, part: Option<&str>) -> Result<Vec<Vec<u8>>, Failure> {
    let mut request = Request::new(kind, 0);
    request.raw(&header(family, 0)).text(1, table);
    if let Some(part) = part {
        request.text(2, part);
    }
    match socket.dump(&mut request) {
        Ok(entries) => Ok(entries.into_iter().map(|(_, payload)| payload).collect()),
        Err(failure) if failure.errno == Errno::NOENT => Ok(Vec::new()),
        Err(failure) => Err(failure),
    }
}

fn rule(attributes: Attributes<'_>) -> Option<FoundRule> {
    let mut counter = (0, 0);
    let mut expressions = Vec::new();
    for (_, element) in attributes.nested(4) {
        let element = Attributes(element);
        let name = element.text(1)?;
        if name == "counter" {
            let data = element.nested(2);
            counter = (data.find(2).map_or(0, u64_be), data.find(1).map_or(0, u64_be));
        }
        expressions.push(name);
    }
    let comment = attributes.find(7).map(comment).unwrap_or_default();
    let handle = attributes.find(3).map_or(0, u64_be);
    Some(FoundRule { chain: attributes.text(2)?, handle, comment, expressions, counter })
}

/// The comment among the user data: type, length, bytes, repeated.
fn comment(mut bytes: &[u8]) -> String {
    while let [kind, length, rest @ ..] = bytes {
        let value = rest.get(..usize::from(*length)).unwrap_or_default();
        if *kind == 0 {
            return String::from_utf8_lossy(value.strip_suffix(&[0]).unwrap_or(value)).into_owned();
        }
        bytes = rest.get(usize::from(*length)..).unwrap_or_default();
    }
    String::new()
}

#[cfg(test)]
mod tests {
    use super::*;

    proptest::proptest! {
        #[test]
        fn never_panics(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..300)) {
            let _rule = rule(attributes(&bytes));
            let _comment = comment(&bytes);
        }
    }
}
