//! Standing beside other programs' forward chains.
//!
//! An `accept` in our table ends our chain only; Docker and ufw set the policy of the chain `FORWARD` of iptables (by nftables:
//! tables `ip filter` and `ip6 filter`) to drop, and that holds for our packets too. So where that chain exists, two rules
//! at its beginning let pass what comes from or goes to a bridge of ours; what may really pass, our own chains have judged.
//! They are written as iptables itself would write them, so that its listing stays readable.
//!
//! Not covered: iptables-legacy (another mechanism of the kernel). firewalld is asked for its consent (`firewalld`).

use super::rules::interface_key;
use crate::error::{Error, refused};
use crate::netlink::{Attributes, Socket};
use crate::nft::{self, Expression, FoundRule, KEY, Load, Operator, Rule, Transaction, Verdict};
use crate::plan::Bridge;

const FILTER: &str = "filter";
const FORWARD: &str = "FORWARD";
/// How the names of our bridges begin; others get rules of their own.
const PREFIX: &str = "dhow";

/// What a rule's comment begins with.
pub(super) const OURS: &str = "dhow: ";

fn wanted(bridges: &[Bridge]) -> Vec<Rule> {
    let names = bridges.iter().map(|bridge| bridge.interface.as_str());
    let further = names.filter(|name| !name.starts_with(PREFIX)).map(|name| (name.to_owned(), interface_key(name)));
    let all = std::iter::once((format!("{PREFIX}*"), PREFIX.as_bytes().to_vec())).chain(further);
    let ways = [(Load::InputInterface, "out of"), (Load::OutputInterface, "into")];
    all.flat_map(|(name, key)| {
        ways.map(|(load, way)| Rule {
            chain: FORWARD.to_owned(),
            comment: format!("{OURS}{way} {name}"),
            expressions: vec![
                Expression::Load(load, KEY),
                Expression::Compare(Operator::Equal, key.clone()),
                Expression::Counter,
                Expression::Verdict(Verdict::Accept),
            ],
        })
    })
    .collect()
}

fn read(socket: &mut Socket, family: u8) -> Result<Vec<FoundRule>, Error> {
    let rules = nft::chain_rules(socket, family, FILTER, FORWARD);
    rules.map_err(refused("NFT_MSG_GETRULE(filter FORWARD)"))
}

/// Whether a message says that such a chain was made, or changed its policy.
pub(super) fn is_made(message: Attributes<'_>) -> bool {
    message.text(1).as_deref() == Some(FILTER) && message.text(3).as_deref() == Some(FORWARD)
}

/// Whether nothing is missing for this bridge: one question for each family where nobody has made such a chain.
pub(super) fn is_present(socket: &mut Socket, bridge: &Bridge) -> Result<bool, Error> {
    Ok(missing(socket, std::slice::from_ref(bridge))?.is_empty())
}

/// The rules that are missing, by family.
fn missing(socket: &mut Socket, bridges: &[Bridge]) -> Result<Vec<(u8, Rule)>, Error> {
    let mut all = Vec::new();
    for family in [nft::IPV4, nft::IPV6] {
        if !nft::has_chain(socket, family, FILTER, FORWARD).map_err(refused("NFT_MSG_GETCHAIN(filter FORWARD)"))? {
            continue;
        }
        let found = read(socket, family)?;
        let new = wanted(bridges).into_iter().filter(|rule| !found.iter().any(|other| other.comment == rule.comment));
        all.extend(new.map(|rule| (family, rule)));
    }
    Ok(all)
}

/// Puts the rules into the chains that exist. Returns how many were missing.
pub(super) fn ensure(socket: &mut Socket, bridges: &[Bridge]) -> Result<usize, Error> {
    let missing = missing(socket, bridges)?;
    let mut transaction = Transaction::new(FILTER);
    for (family, rule) in &missing {
        transaction.family(*family);
        transaction.insert_rule(rule);
    }
    if !transaction.is_empty() {
        transaction.commit(socket, None).map_err(refused("NFT_MSG_NEWRULE(filter FORWARD)"))?;
    }
    Ok(missing.len())
}

/// Takes the rules out again.
pub(super) fn remove(socket: &mut Socket) -> Result<(), Error> {
    let mut transaction = Transaction::new(FILTER);
    for family in [nft::IPV4, nft::IPV6] {
        transaction.family(family);
        for rule in read(socket, family)?.iter().filter(|rule| rule.comment.starts_with(OURS)) {
            transaction.delete_rule(FORWARD, rule.handle);
        }
    }
    if transaction.is_empty() {
        return Ok(());
    }
    transaction.commit(socket, None).map_err(refused("NFT_MSG_DELRULE(filter FORWARD)"))
}
