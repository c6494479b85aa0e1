//! What stands in our one nftables table `inet dhow`, and how it gets and stays there.
//!
//! `rules` says what the table holds for a [`Ruleset`](crate::Ruleset) (pure); this module compares that with the kernel
//! and makes the difference, always in one transaction. docs/network-rules.md shows the table as `nft list` shows it.
//!
//! Never touches another table, but for two rules in the forward chain of iptables where there is one (`coexist`). Whoever calls a function that writes holds the engine's network lock from reading its
//! database to the end of the call; two that race cannot harm the kernel's table but can undo each other.

mod coexist;
mod hold;
mod rules;
mod sentence;
mod watch;

use crate::error::{Error, Refusal, refused};
use crate::gate;
use crate::netlink::{Failure, Socket};
use crate::nft::{self, Element, Found, Transaction};
use crate::plan::{Bridge, Publication, Ruleset};
use rules::{Contents, TABLE};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};
use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant};

pub(crate) use rules::ARRIVED;
pub use watch::Watch;

/// How often a change is tried again at the least when somebody else changed rules between our reading and our writing.
const ATTEMPTS: u32 = 16;
/// And for how long: on a busy machine those who change little may come first many times in a row.
const PATIENCE: Duration = Duration::from_secs(10);

/// The attempts of one change, later ones with a pause before them.
fn attempts() -> impl Iterator<Item = ()> {
    let began = Instant::now();
    (0_u32..).map_while(move |number| {
        if number >= 4 {
            std::thread::sleep(Duration::from_micros(200) * number.min(20));
        }
        (number < ATTEMPTS || began.elapsed() < PATIENCE).then_some(())
    })
}

/// So many elements are asked for one by one; for more, what the whole set has is read, however much is others'.
const FEW: usize = 32;

/// ERESTART, which user space has no name for: the rules are not of the generation that the transaction was made for.
const RESTART: i32 = 85;

/// What [`ensure_rules`] found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Ensured {
    /// All was as it should be.
    Unchanged,
    /// Networks or elements of maps were added, or elements removed.
    Completed {
        /// How many were missing.
        added: usize,
        /// How many belonged to nobody.
        removed: usize,
    },
    /// The table was missing, incomplete or from another version; it was made anew, in one transaction. Connections go on:
    /// their translations are the connection tracker's, not the rules'.
    Rebuilt,
}

/// Makes the table hold exactly what `ruleset` says. Reads the whole table; for a container's start [`rules_present`] and
/// [`publish`] are enough, whose cost does not grow with the number of containers.
///
/// # Errors
/// The kernel's refusal; `EOPNOTSUPP` or `EPROTONOSUPPORT` where it has no nftables.
pub fn ensure_rules(ruleset: &Ruleset) -> Result<Ensured, Error> {
    // In a user's own namespace nothing asks for ports but the relay, and nobody has a firewall.
    if ruleset.relays {
        return ensure(ruleset, None);
    }
    let index = gate::ensure()?;
    let added = coexist::ensure(&mut nft::open()?, &ruleset.bridges)?;
    let ensured = match ensure(ruleset, Some(index)) {
        // A kernel without the statement `dup` (CONFIG_NFT_DUP_IPV4, _IPV6): ports are published past the host's firewall, as
        // Docker does it; `asks_the_host` says so.
        Err(error) if matches!(error.errno(), Some(Errno::NOENT | Errno::OPNOTSUPP | Errno::AFNOSUPPORT)) => {
            ensure(ruleset, None)
        }
        other => other,
    }?;
    Ok(if ensured == Ensured::Unchanged && added > 0 { Ensured::Completed { added, removed: 0 } } else { ensured })
}

/// Whether the host's input chains are asked about published ports: not where the kernel lacks nftables' `dup`.
///
/// # Errors
/// The kernel's refusal.
pub fn asks_the_host() -> Result<bool, Error> {
    let found = nft::table(&mut nft::open()?, nft::IPV4, TABLE).map_err(refused("NFT_MSG_GETCHAIN(ip dhow)"))?;
    Ok(!found.chains.is_empty())
}

/// The tables of the gate, by family: with a gate what they hold, without one nothing.
fn gate_tables(gate: Option<u32>) -> [(u8, Contents); 2] {
    [nft::IPV4, nft::IPV6]
        .map(|family| (family, gate.map_or_else(Contents::default, |index| rules::gate_contents(family, index))))
}

fn ensure(ruleset: &Ruleset, gate: Option<u32>) -> Result<Ensured, Error> {
    let wanted = rules::contents(ruleset, gate.is_some())?;
    let gates = gate_tables(gate);
    let mut socket = nft::open()?;
    let (mut remains, mut may_add) = (false, true);
    for () in attempts() {
        let generation = nft::generation(&mut socket).map_err(refused("NFT_MSG_GETGEN"))?;
        let (mut is_same, mut new) = (true, None);
        for (family, contents) in
            gates.iter().map(|(family, contents)| (*family, contents)).chain([(nft::INET, &wanted)])
        {
            let found = nft::table(&mut socket, family, TABLE).map_err(refused("NFT_MSG_GETRULE(dhow)"))?;
            remains |= !found.chains.is_empty();
            // The table `inet` comes last.
            if is_same && may_add && family == nft::INET {
                new = additions(contents, &found);
            }
            is_same = is_same && (new.is_some() || same_structure(contents, &found));
        }
        let adds = new.is_some();
        let (transaction, ensured) = if is_same {
            elements_only(&mut socket, &wanted, &gates, new)?
        } else {
            (rebuild(&wanted, &gates, remains), Ensured::Rebuilt)
        };
        if transaction.is_empty() {
            return Ok(ensured);
        }
        match transaction.commit(&mut socket, Some(generation)) {
            Ok(()) => return Ok(ensured),
            Err(failure) if failure.errno.raw_os_error() == RESTART => {}
            // A table without chains, of whomever.
            Err(failure) if failure.errno == Errno::EXIST && !remains => remains = true,
            // Some kernels take a range beside another for one that overlaps.
            Err(_) if adds => may_add = false,
            Err(failure) => return Err(refused("nftables transaction(inet dhow)")(failure)),
        }
    }
    Err(refused("nftables transaction(inet dhow)")(Errno::AGAIN.into()))
}

/// Whose rules stand in the table (see [`Ruleset::owner`]); `None` where there are none, or nobody's.
///
/// # Errors
/// The kernel's refusal.
pub fn rules_owner() -> Result<Option<String>, Error> {
    let found = nft::chain_rules(&mut nft::open()?, nft::INET, TABLE, rules::OWNER);
    let found = found.map_err(refused("NFT_MSG_GETRULE(inet dhow owner)"))?;
    Ok(found.into_iter().next().map(|rule| rule.comment))
}

/// Whether the table knows the bridge and was made by this version of dhow, and others' forward chains let it pass: four questions
/// to the kernel. If not, call [`ensure_rules`] with the whole ruleset.
///
/// # Errors
/// The kernel's refusal.
pub fn rules_present(bridge: &Bridge) -> Result<bool, Error> {
    let mut socket = nft::open()?;
    for (set, key) in [(rules::VERSION, rules::version()), (rules::BRIDGES, rules::interface_key(&bridge.interface))] {
        let answer = nft::element(&mut socket, TABLE, set, &key);
        if answer.map_err(refused(format!("NFT_MSG_GETSETELEM(inet dhow {set})")))?.is_none() {
            return Ok(false);
        }
    }
    // ufw may have been turned on while nobody watched.
    coexist::is_present(&mut socket, bridge)
}

/// Adds a new bridge to the table, at a cost that does not grow with what is there. For whoever knows that the table is as it
/// should be otherwise, since somebody watches over it. `false` when it is not, or not so simple: then [`ensure_rules`] is to be called.
///
/// # Errors
/// The kernel's refusal of a question.
pub fn add_to_rules(bridge: &Bridge) -> Result<bool, Error> {
    let Some(new) = rules::added_by(bridge)? else { return Ok(false) };
    let mut socket = nft::open()?;
    let found = nft::element(&mut socket, TABLE, rules::VERSION, &rules::version());
    let is_known = found.map_err(refused(format!("NFT_MSG_GETSETELEM(inet dhow {})", rules::VERSION)))?.is_some();
    if !is_known || !coexist::is_present(&mut socket, bridge)? {
        return Ok(false);
    }
    let mut transaction = Transaction::new(TABLE);
    new.chains.iter().for_each(|chain| transaction.add_chain(chain));
    new.rules.iter().for_each(|rule| transaction.add_rule(rule));
    new.sets.iter().for_each(|(set, elements)| transaction.add_elements(set.name, elements));
    // What stands in the way is found, and told, by who compares all.
    Ok(transaction.commit(&mut socket, None).is_ok())
}

/// Publishes the ports of one container in one transaction: all or none.
///
/// # Errors
/// [`Error::Publish`] when a port leads to another container already, [`Error::RulesGone`] when the table is not there.
pub fn publish(publication: &Publication) -> Result<(), Error> {
    let mut transaction = Transaction::new(TABLE);
    for (set, elements) in rules::published(std::slice::from_ref(publication))? {
        transaction.add_elements(set, &elements);
    }
    if transaction.is_empty() {
        return Ok(());
    }
    transaction.commit(&mut nft::open()?, None).map_err(|failure| {
        if failure.errno == Errno::EXIST {
            let names: Vec<String> = publication.ports.iter().map(ToString::to_string).collect();
            return Error::Publish {
                port: names.join(", "),
                reason: "it is published by another container".to_owned(),
            };
        }
        gone_or(failure, "NFT_MSG_NEWSETELEM(inet dhow)")
    })
}

/// Takes the ports of one container back. Ports that are not published any more or lead to another container, and a table
/// that is gone, are no error.
///
/// # Errors
/// The kernel's refusal.
pub fn unpublish(publication: &Publication) -> Result<(), Error> {
    let sets = rules::published(std::slice::from_ref(publication))?;
    let mut socket = nft::open()?;
    for () in attempts() {
        let generation = nft::generation(&mut socket).map_err(refused("NFT_MSG_GETGEN"))?;
        let mut keys = HashSet::new();
        for (set, elements) in &sets {
            for key in still_there(&mut socket, set, elements)? {
                keys.insert((*set, key));
            }
        }
        let mut transaction = Transaction::new(TABLE);
        for (set, elements) in &sets {
            let ours = |element: &&Element| keys.contains(&(rules::map_of(set), element.key()));
            transaction.delete_elements(set, &elements.iter().filter(ours).cloned().collect::<Vec<_>>());
        }
        if transaction.is_empty() {
            return Ok(());
        }
        match transaction.commit(&mut socket, Some(generation)) {
            Ok(()) => {
                nft::retire(socket);
                return Ok(());
            }
            Err(failure) if failure.errno.raw_os_error() == RESTART || failure.errno == Errno::NOENT => {}
            Err(failure) => return Err(refused("NFT_MSG_DELSETELEM(inet dhow)")(failure)),
        }
    }
    Err(refused("NFT_MSG_DELSETELEM(inet dhow)")(Errno::AGAIN.into()))
}

/// The keys of those elements that the set has with the same value.
fn still_there<'a>(socket: &mut Socket, set: &str, elements: &'a [Element]) -> Result<Vec<&'a [u8]>, Error> {
    const WHAT: &str = "NFT_MSG_GETSETELEM(inet dhow)";
    let asked = elements.iter().filter_map(|element| match element {
        Element::Value(key, value) => Some((key, value.as_slice())),
        // Of the sets without values those are looked at that belong to no map.
        Element::Key(key) if rules::map_of(set) == set => Some((key, [].as_slice())),
        _ => None,
    });
    if elements.len() > FEW {
        let found: HashMap<_, _> = nft::elements(socket, TABLE, set).map_err(refused(WHAT))?.into_iter().collect();
        let same = |(key, value): &(&Vec<u8>, &[u8])| found.get(*key).is_some_and(|found| found == value);
        return Ok(asked.filter(same).map(|(key, _)| key.as_slice()).collect());
    }
    let mut keys = Vec::new();
    for (key, value) in asked {
        let found = nft::element(socket, TABLE, set, key).map_err(refused(WHAT))?;
        if found.as_deref() == Some(value) {
            keys.push(key.as_slice());
        }
    }
    Ok(keys)
}

/// Removes the table: dhow is being uninstalled, or a test ends.
///
/// # Errors
/// The kernel's refusal.
pub fn remove_rules() -> Result<(), Error> {
    let mut transaction = Transaction::new(TABLE);
    for family in [nft::INET, nft::IPV4, nft::IPV6] {
        transaction.family(family);
        // Adding first makes removing safe where it is not there.
        transaction.add_table();
        transaction.delete_table();
    }
    let mut socket = nft::open()?;
    transaction.commit(&mut socket, None).map_err(refused("NFT_MSG_DELTABLE(dhow)"))?;
    coexist::remove(&mut socket)?;
    gate::remove()
}

/// A rule of ours with its counter, for `xray`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RuleCounter {
    /// The chain.
    pub chain: String,
    /// What the rule does, in words.
    pub rule: String,
    /// Packets that matched.
    pub packets: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// The rules of our table in order, with their counters.
///
/// # Errors
/// The kernel's refusal.
pub fn rule_counters() -> Result<Vec<RuleCounter>, Error> {
    let mut socket = nft::open()?;
    let mut counters = Vec::new();
    for family in [nft::INET, nft::IPV4, nft::IPV6] {
        let found = nft::table(&mut socket, family, TABLE).map_err(refused("NFT_MSG_GETRULE(dhow)"))?;
        counters.extend(found.rules.into_iter().map(|rule| RuleCounter {
            chain: rule.chain,
            rule: rule.comment,
            packets: rule.counter.0,
            bytes: rule.counter.1,
        }));
    }
    Ok(counters)
}

fn gone_or(failure: Failure, operation: &str) -> Error {
    if failure.errno == Errno::NOENT {
        let source = Refusal { operation: operation.to_owned(), errno: failure.errno, message: failure.message };
        return Error::RulesGone { table: TABLE, source };
    }
    refused(operation)(failure)
}

/// Chains, sets and rules alike? Of a rule its comment and the kinds of its expressions are compared: enough to notice what
/// another program or another version of ours did.
fn same_structure(wanted: &Contents, found: &Found) -> bool {
    let mut chains: Vec<&str> = wanted.chains.iter().map(|chain| chain.name.as_str()).collect();
    let mut found_chains: Vec<&str> = found.chains.iter().map(String::as_str).collect();
    chains.sort_unstable();
    found_chains.sort_unstable();
    let mut sets: Vec<&str> = wanted.sets.iter().map(|(set, _)| set.name).collect();
    let mut found_sets: Vec<&str> = found.sets.iter().map(String::as_str).collect();
    sets.sort_unstable();
    found_sets.sort_unstable();
    let mut by_chain: HashMap<&str, Vec<&nft::FoundRule>> = HashMap::new();
    found.rules.iter().for_each(|rule| by_chain.entry(&rule.chain).or_default().push(rule));
    let mut places: HashMap<&str, usize> = HashMap::new();
    let are_found = wanted.rules.iter().all(|rule| {
        let place = places.entry(&rule.chain).or_default();
        let other = by_chain.get(rule.chain.as_str()).and_then(|rules| rules.get(*place));
        *place += 1;
        let names = rule.expressions.iter().map(nft::Expression::name);
        other.is_some_and(|other| {
            other.comment == rule.comment && names.eq(other.expressions.iter().map(String::as_str))
        })
    });
    chains == found_chains && sets == found_sets && wanted.rules.len() == found.rules.len() && are_found
}

/// The chains of networks that are new, with their rules, where all else is as it should be. Nothing is removed then, so that
/// counters go on and no grace period is waited for (see [`rebuild`]). The elements that lead to them are added with the others.
fn additions(wanted: &Contents, found: &Found) -> Option<Transaction> {
    let is_new = |name: &str| !found.chains.iter().any(|chain| chain == name);
    let new: Vec<_> = wanted.chains.iter().filter(|chain| is_new(&chain.name)).collect();
    if new.is_empty() || new.iter().any(|chain| chain.hook.is_some()) {
        return None;
    }
    let rest = Contents {
        sets: wanted.sets.iter().map(|(set, _)| (*set, Vec::new())).collect(),
        chains: wanted.chains.iter().filter(|chain| !is_new(&chain.name)).cloned().collect(),
        rules: wanted.rules.iter().filter(|rule| !is_new(&rule.chain)).cloned().collect(),
    };
    if !same_structure(&rest, found) {
        return None;
    }
    let mut transaction = Transaction::new(TABLE);
    new.into_iter().for_each(|chain| transaction.add_chain(chain));
    wanted.rules.iter().filter(|rule| is_new(&rule.chain)).for_each(|rule| transaction.add_rule(rule));
    Some(transaction)
}

/// The ranges that are not there, each with its end; `None` if one is there that should not be.
fn missing_ranges(wanted: &[Element], found: &[(Vec<u8>, Vec<u8>)]) -> Option<Vec<Element>> {
    let is_start = |element: &Element, key: &[u8]| !matches!(element, Element::End(_)) && element.key() == key;
    if !found.iter().all(|(key, _)| wanted.iter().any(|element| is_start(element, key))) {
        return None;
    }
    let mut missing = Vec::new();
    let mut belongs = false;
    for element in wanted {
        if !matches!(element, Element::End(_)) {
            belongs = !found.iter().any(|(key, _)| key == element.key());
        }
        if belongs {
            missing.push(element.clone());
        }
    }
    Some(missing)
}

/// Everything anew, in an order in which each thing exists before it is named. What is there is only removed if something
/// is: a transaction that removes makes the closing of its socket wait for the kernel's grace period, some milliseconds.
fn rebuild(wanted: &Contents, gates: &[(u8, Contents)], remains: bool) -> Transaction {
    let mut transaction = Transaction::new(TABLE);
    for (family, contents) in gates.iter().map(|(family, contents)| (*family, contents)).chain([(nft::INET, wanted)]) {
        transaction.family(family);
        if remains {
            // Adding first makes removing safe where it is not there.
            transaction.add_table();
            transaction.delete_table();
        }
        if contents.chains.is_empty() {
            continue;
        }
        transaction.add_table();
        contents.chains.iter().for_each(|chain| transaction.add_chain(chain));
        for (set, elements) in &contents.sets {
            transaction.add_set(set);
            transaction.add_elements(set.name, elements);
        }
        contents.rules.iter().for_each(|rule| transaction.add_rule(rule));
    }
    transaction
}

/// The difference between the elements that are there and those that should be, after what is added to make them possible.
fn elements_only(
    socket: &mut Socket,
    wanted: &Contents,
    gates: &[(u8, Contents)],
    new: Option<Transaction>,
) -> Result<(Transaction, Ensured), Error> {
    let adds = new.is_some();
    let mut transaction = new.unwrap_or_else(|| Transaction::new(TABLE));
    let (mut added, mut removed) = (0, 0);
    for (set, elements) in &wanted.sets {
        let found = nft::elements(socket, TABLE, set.name)
            .map_err(refused(format!("NFT_MSG_GETSETELEM(inet dhow {})", set.name)))?;
        let wanted_values: HashMap<&[u8], &[u8]> = elements.iter().map(key_and_value).collect();
        let found_values: HashMap<&[u8], &[u8]> =
            found.iter().map(|(key, value)| (key.as_slice(), value.as_slice())).collect();
        if set.interval {
            // A range is changed as a whole, which happens with networks only.
            match missing_ranges(elements, &found) {
                Some(missing) if missing.is_empty() => {}
                Some(missing) if adds => {
                    added += missing.len();
                    transaction.add_elements(set.name, &missing);
                }
                _ => return Ok((rebuild(wanted, gates, true), Ensured::Rebuilt)),
            }
            continue;
        }
        let stale: Vec<Element> = found
            .iter()
            .filter(|(key, value)| wanted_values.get(key.as_slice()) != Some(&value.as_slice()))
            .map(|(key, _)| Element::Key(key.clone()))
            .collect();
        let missing: Vec<Element> = elements
            .iter()
            .filter(|element| {
                let (key, value) = key_and_value(element);
                found_values.get(key) != Some(&value)
            })
            .cloned()
            .collect();
        added += missing.len();
        removed += stale.len();
        transaction.delete_elements(set.name, &stale);
        transaction.add_elements(set.name, &missing);
    }
    let ensured = if added + removed == 0 { Ensured::Unchanged } else { Ensured::Completed { added, removed } };
    Ok((transaction, ensured))
}

fn key_and_value(element: &Element) -> (&[u8], &[u8]) {
    match element {
        Element::Value(key, value) => (key, value),
        // Verdicts follow from the key; the reader gives none either.
        Element::Verdict(key, _) | Element::Key(key) | Element::End(key) => (key, &[]),
    }
}
