//! firewalld's consent to what containers send out.
//!
//! Its forward chain asks zones about every packet, and an interface without a zone is in the default one, from which nothing is
//! forwarded. Other programs cannot add rules to its table, so it is asked over D-Bus, once for a machine: for a zone that all our
//! bridges are in by the beginning of their names (`dhow+`), and for a policy that lets the zone's packets go on. They are
//! permanent: nothing has to be done after a reload, and nothing is open in between. The zone itself opens nothing of the host
//! to containers; who wants that says so to firewalld (`--zone=dhow --add-port=…`).
//!
//! An operator who has put `dhow+` into another zone has decided, and is not overruled. docs/networks.md says what is made, and
//! how to take it away.

use crate::error::{Error, refused};
use crate::netlink::Attributes;
use crate::plan::{Bridge, GatewayMode};
use crate::{gate, nft};
use dbus::{Call, Connection, Message, Value, Writer};
use std::time::Duration;

/// The zone.
const ZONE: &str = "dhow";
/// How the names of its interfaces begin, as firewalld writes it.
const INTERFACES: &str = "dhow+";
/// The policy for what leaves the zone.
const OUT: &str = "dhow-out";
/// The policy for what is sent to containers by their own addresses; only where a network is open to that.
const IN: &str = "dhow-in";

/// Its table.
const TABLE: &str = "firewalld";
/// The chain that is asked about what is forwarded.
const FORWARD: &str = "filter_FORWARD";
/// Chains that stand in it as long as firewalld knows the zone and the policies.
const CHAINS: [&str; 2] = ["filter_IN_dhow", "filter_FWD_policy_dhow-out"];
const CHAIN_IN: &str = "filter_FWD_policy_dhow-in";

/// As long as everything together may take; a reload of many rules by a slow processor goes on without us.
const LIMIT: Duration = Duration::from_secs(5);
/// The same for a process that nobody waits for: firewalld that starts answers when it has loaded everything.
const PATIENCE: Duration = Duration::from_secs(20);

const NAME: &str = "org.fedoraproject.FirewallD1";
const RUNTIME: &str = "/org/fedoraproject/FirewallD1";
const PERMANENT: &str = "/org/fedoraproject/FirewallD1/config";
const ZONES: &str = "org.fedoraproject.FirewallD1.zone";
const POLICIES: &str = "org.fedoraproject.FirewallD1.policy";
const CONFIG: &str = "org.fedoraproject.FirewallD1.config";
const CONFIG_ZONE: &str = "org.fedoraproject.FirewallD1.config.zone";

/// Whether firewalld judges packets here, by nftables. (By iptables it has a chain `FORWARD` as others do.)
fn is_there() -> Result<bool, Error> {
    has_chain(FORWARD)
}

/// Whether a message says that firewalld has made its rules.
pub(crate) fn is_made(message: Attributes<'_>) -> bool {
    message.text(1).as_deref() == Some(TABLE) && message.text(3).as_deref() == Some(FORWARD)
}

fn has_chain(chain: &str) -> Result<bool, Error> {
    let found = nft::has_chain(&mut nft::open()?, nft::INET, TABLE, chain);
    found.map_err(refused(format!("NFT_MSG_GETCHAIN(inet firewalld {chain})")))
}

/// Whether firewalld has to be asked before containers get out by these bridges: one question to the kernel where there is no
/// firewalld, two more where it knows us. By a bridge with a name of the user's own it is always asked.
///
/// # Errors
/// The kernel's refusal.
pub fn firewalld_waits(bridges: &[Bridge]) -> Result<bool, Error> {
    if bridges.is_empty() || !is_there()? {
        return Ok(false);
    }
    gate::pass_reverse_path_filter()?;
    if bridges.iter().any(|bridge| !bridge.interface.starts_with(ZONE)) {
        return Ok(true);
    }
    for chain in CHAINS.into_iter().chain(bridges.iter().any(is_open).then_some(CHAIN_IN)) {
        if !has_chain(chain)? {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Asks firewalld for what is missing. `load_again` says whether what its configuration has already, and it did not load, is
/// worth a reload: not for who is woken by reloads, whom nobody waits for either.
///
/// # Errors
/// [`Error::Firewalld`]: it does not answer within five seconds, refuses, or is older than 0.9, which has no policies.
pub fn ask_firewalld(bridges: &[Bridge], load_again: bool) -> Result<(), Error> {
    let limit = if load_again { LIMIT } else { PATIENCE };
    let asked = Firewalld::open(limit).and_then(|mut firewalld| firewalld.ask(bridges, load_again));
    asked.map_err(Error::Firewalld)
}

/// Takes a bridge whose name is not one of ours out of the zone again.
///
/// # Errors
/// As [`ask_firewalld`].
pub fn forget_in_firewalld(interface: &str) -> Result<(), Error> {
    if interface.starts_with(ZONE) || !is_there()? {
        return Ok(());
    }
    let forgotten = Firewalld::open(LIMIT).and_then(|mut firewalld| firewalld.forget(interface));
    forgotten.map_err(Error::Firewalld)
}

/// Whether containers are sent to by their own addresses. What they may be sent our own chains say.
fn is_open(bridge: &Bridge) -> bool {
    bridge.modes.iter().any(|mode| matches!(mode, GatewayMode::Routed | GatewayMode::NatUnprotected))
}

struct Firewalld(Connection);

type Answer<T> = Result<T, dbus::Error>;

fn texts<const N: usize>(texts: [&str; N]) -> Value {
    Value::Texts(texts.map(str::to_owned).to_vec())
}

impl Firewalld {
    fn open(limit: Duration) -> Answer<Firewalld> {
        let mut connection = Connection::open(&dbus::system_bus(), limit)?;
        connection.greet();
        Ok(Firewalld(connection))
    }

    fn call(&mut self, (path, interface): (&str, &str), member: &str, words: &[&str]) -> Answer<Message> {
        let mut body = Writer::default();
        words.iter().for_each(|word| body.text(word));
        self.send(path, interface, member, &"s".repeat(words.len()), &body)
    }

    fn send(&mut self, path: &str, interface: &str, member: &str, signature: &str, body: &Writer) -> Answer<Message> {
        let (flags, body) = (dbus::NO_START, Some(body));
        self.0.call(&Call { destination: NAME, path, interface, member, flags, signature, body })
    }

    fn list(&mut self, interface: &str, member: &str) -> Answer<Vec<String>> {
        let answer = self.call((RUNTIME, interface), member, &[])?;
        answer.reader().texts().ok_or_else(|| unreadable(member))
    }

    fn zone_of(&mut self, interface: &str) -> Answer<String> {
        let answer = self.call((RUNTIME, ZONES), "getZoneOfInterface", &[interface])?;
        answer.reader().text().ok_or_else(|| unreadable("getZoneOfInterface"))
    }

    fn ask(&mut self, bridges: &[Bridge], load_again: bool) -> Answer<()> {
        let zone = self.zone_of(INTERFACES)?;
        let has_zone = zone == ZONE;
        if !has_zone && (!zone.is_empty() || self.list(ZONES, "getZones")?.iter().any(|zone| zone == ZONE)) {
            return Ok(());
        }
        let (mut is_new, mut is_missing) = (false, false);
        if !has_zone {
            is_missing = true;
            is_new |= self.add(
                "addZone2",
                ZONE,
                &[
                    (
                        "description",
                        Value::Text(
                            "Networks of containers, by dhow. Their packets go on by the policy dhow-out.".into(),
                        ),
                    ),
                    ("target", Value::Text("default".to_owned())),
                    ("interfaces", texts([INTERFACES])),
                ],
            )?;
        }
        let policies = self.list(POLICIES, "getPolicies")?;
        let ways = [(OUT, ZONE, "ANY", true), (IN, "ANY", ZONE, bridges.iter().any(is_open))];
        for (name, from, to, _) in
            ways.into_iter().filter(|(name, _, _, wanted)| *wanted && !policies.iter().any(|policy| policy == name))
        {
            is_missing = true;
            is_new |= self.add(
                "addPolicy",
                name,
                &[
                    (
                        "description",
                        Value::Text(
                            "Networks of containers, by dhow, which has rules of its own for what may pass.".into(),
                        ),
                    ),
                    ("target", Value::Text("ACCEPT".to_owned())),
                    ("ingress_zones", texts([from])),
                    ("egress_zones", texts([to])),
                ],
            )?;
        }
        let named: Vec<&str> =
            bridges.iter().map(|bridge| bridge.interface.as_str()).filter(|name| !name.starts_with(ZONE)).collect();
        for interface in &named {
            self.permanently("addInterface", interface, "ALREADY_ENABLED")?;
        }
        if is_new || (is_missing && load_again) {
            self.call((RUNTIME, NAME), "reload", &[])?;
        }
        for interface in &named {
            if self.zone_of(interface)?.is_empty() {
                self.call((RUNTIME, ZONES), "addInterface", &[ZONE, interface])?;
            }
        }
        Ok(())
    }

    fn forget(&mut self, interface: &str) -> Answer<()> {
        if self.zone_of(interface)? != ZONE {
            return Ok(());
        }
        self.call((RUNTIME, ZONES), "removeInterface", &[ZONE, interface])?;
        self.permanently("removeInterface", interface, "NOT_ENABLED")
    }

    /// Adds something to the permanent configuration. Returns whether it was not there.
    fn add(&mut self, member: &str, name: &str, settings: &[(&str, Value)]) -> Answer<bool> {
        let mut body = Writer::default();
        body.text(name);
        body.array(8, |body| settings.iter().for_each(|(key, value)| body.property(key, value)));
        match self.send(PERMANENT, CONFIG, member, "sa{sv}", &body) {
            Ok(_) => Ok(true),
            Err(error) if says(&error, "NAME_CONFLICT") => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Changes the zone in the permanent configuration; that it is so already, firewalld says by an error.
    fn permanently(&mut self, member: &str, interface: &str, already: &str) -> Answer<()> {
        let zone = self.call((PERMANENT, CONFIG), "getZoneByName", &[ZONE])?;
        let path = zone.reader().text().ok_or_else(|| unreadable("getZoneByName"))?;
        match self.call((&path, CONFIG_ZONE), member, &[interface]) {
            Err(error) if !says(&error, already) => Err(error),
            _ => Ok(()),
        }
    }
}

fn says(error: &dbus::Error, word: &str) -> bool {
    matches!(error, dbus::Error::Refused { text, .. } if text.contains(word))
}

fn unreadable(member: &str) -> dbus::Error {
    std::io::Error::other(format!("the answer to {member} is not what it should be")).into()
}
