//! The contents of the table for a ruleset. Pure.
//!
//! How a packet goes:
//! - `guard` (before everything): what claims to be for 127.0.0.0/8 and comes from a container is dropped.
//! - `prerouting`: what is for an address of this host and comes from a container or from the gate (see `gate`), looks its
//!   port up in the maps `published*` and is translated; one look-up, however many ports there are. What comes from elsewhere
//!   is translated at once only if its port is not in the sets `asked*`.
//! - `output`: the same for what this host itself sends.
//! - `input` (after all others): what is in `asked*` and still there was allowed by the host: it goes through the gate, by
//!   the two small tables `ip dhow` and `ip6 dhow` (the statement `dup` does not exist for `inet`).
//! - `forward`: established connections pass; then one look-up of the outgoing and one of the incoming interface leads to
//!   the chains of the bridge, if it is one of ours. What concerns none of our bridges is not judged.
//! - `relayed` and `answers`, in a user's own namespace only: connections of a relay have their clients' addresses; what is
//!   sent back to them is for the relay (see `relay`).
//! - `postrouting`: one look-up of the source address leads to the chain of its subnet, which masquerades.

use super::sentence::Writer;
use crate::cidr::{bits, from_bits, octets};
use crate::error::Error;
use crate::gate;
use crate::links::check_name;
use crate::nft::{
    Chain, DEVICE, Element, Expression, Hook, IPV4, IPV6, KEY, Load, Operator, Rule, Set, SetKind, Verdict, data_type,
};
use crate::plan::{Bridge, GatewayMode, Publication, Ruleset};
use crate::relay;

/// The table, family `inet`.
pub(super) const TABLE: &str = "dhow";
/// The set of our bridges.
pub(super) const BRIDGES: &str = "bridges";

/// A chain that no packet comes to: the comment of its rule says whose the table is.
pub(super) const OWNER: &str = "owner";

/// The set that holds the version of the rules.
pub(super) const VERSION: &str = "version";

const INTO: &str = "into";
const OUT_OF: &str = "out_of";
const SUBNETS4: &str = "subnets4";
const SUBNETS6: &str = "subnets6";
const ASKED4: &str = "asked4";
const ASKED4_ANY: &str = "asked4_any";
const ASKED6: &str = "asked6";
const ASKED6_ANY: &str = "asked6_any";
const OTHERS: &str = "others";
const OPEN4: &str = "open4";
const OPEN6: &str = "open6";
const PUBLISHED4: &str = "published4";
const PUBLISHED4_ANY: &str = "published4_any";
const PUBLISHED6: &str = "published6";
const PUBLISHED6_ANY: &str = "published6_any";

/// `NF_CT_STATE_BIT(IP_CT_ESTABLISHED) | NF_CT_STATE_BIT(IP_CT_RELATED)`.
const ESTABLISHED_OR_RELATED: u32 = 2 | 4;
/// `IPS_DST_NAT`.
const TRANSLATED: u32 = 1 << 5;
/// `NF_CT_STATE_INVALID_BIT`.
const INVALID: u32 = 1;
/// `NF_CT_STATE_BIT(IP_CT_NEW)`.
const NEW: u32 = 8;
/// The mark between our chain in `inet` and the one that duplicates, which drops the packet: nobody else sees it there.
const THROUGH_THE_GATE: u32 = 0x6468_6f77;
/// The mark of the copy from when it comes in: by it, the way back to the sender is the gate for reverse path filters that look
/// at marks, as firewalld's does (`routes::back_through_the_gate`).
pub(crate) const ARRIVED: u32 = 0x6468_6f7b;
/// A mark of connections that nothing sets (see `hold`).
pub(super) const HELD: u32 = 0x6468_6f7a;
/// `RTN_LOCAL`.
const LOCAL: u32 = 2;

/// Sets with their elements, chains, rules in order.
#[derive(Default)]
pub(super) struct Contents {
    pub(super) sets: Vec<(Set, Vec<Element>)>,
    pub(super) chains: Vec<Chain>,
    pub(super) rules: Vec<Rule>,
}

/// What the table `inet dhow` is to hold; `gate` is whether the host's input chains are asked about published ports.
pub(super) fn contents(ruleset: &Ruleset, gate: bool) -> Result<Contents, Error> {
    let mut contents = Contents { sets: sets(ruleset)?, chains: base_chains(), rules: base_rules() };
    contents.rules.extend(others_rules());
    if gate {
        contents.rules.extend(asking_rules());
    }
    contents.rules.extend(prerouting_end());
    if ruleset.bridges.iter().any(is_routed) {
        contents.sets.extend(open_sets(ruleset)?);
    }
    if !ruleset.owner.is_empty() {
        contents.chains.push(Chain { name: OWNER.to_owned(), hook: None });
        contents.rules.push(Writer::new(OWNER, ruleset.owner.clone()).add([Expression::Counter]).rule);
    }
    if ruleset.relays {
        contents.chains.extend(relay_chains());
        contents.rules.extend(relay_rules());
    }
    for bridge in &ruleset.bridges {
        check_name(&bridge.interface)?;
        for name in [into_chain(bridge), out_of_chain(bridge), nat_chain(bridge)] {
            contents.chains.push(Chain { name, hook: None });
        }
        contents.rules.extend(bridge_rules(bridge));
    }
    Ok(contents)
}

/// What one bridge more adds to a table that is as it should be; `None` where it adds sets, too.
pub(super) fn added_by(bridge: &Bridge) -> Result<Option<Contents>, Error> {
    if is_routed(bridge) {
        return Ok(None);
    }
    check_name(&bridge.interface)?;
    let ruleset = Ruleset { bridges: vec![bridge.clone()], ..Ruleset::default() };
    let own = |set: &Set| [BRIDGES, INTO, OUT_OF, SUBNETS4, SUBNETS6].contains(&set.name);
    let chains = [into_chain(bridge), out_of_chain(bridge), nat_chain(bridge)];
    Ok(Some(Contents {
        sets: sets(&ruleset)?.into_iter().filter(|(set, elements)| own(set) && !elements.is_empty()).collect(),
        chains: chains.map(|name| Chain { name, hook: None }).into(),
        rules: bridge_rules(bridge),
    }))
}

/// What the tables `ip dhow` and `ip6 dhow` are to hold: the entrance of the gate, by the index of its device.
pub(super) fn gate_contents(family: u8, index: u32) -> Contents {
    // Anything will do that is not this host's: the device does not ask for neighbours. fe80::1 is on every link.
    let gateway =
        if family == IPV6 { vec![0xfe, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1] } else { vec![169, 254, 88, 1] };
    let rule = Writer::new("gate", format!("allowed by this host: a copy goes through the gate (device {index})"))
        .add([
            Expression::Load(Load::Mark, KEY),
            Expression::Compare(Operator::Equal, THROUGH_THE_GATE.to_ne_bytes().to_vec()),
            Expression::Counter,
            Expression::Immediate(gateway, KEY),
            Expression::Immediate(index.to_ne_bytes().to_vec(), DEVICE),
            Expression::Duplicate,
            Expression::Verdict(Verdict::Drop),
        ])
        .rule;
    let hook = Hook { kind: "filter", number: 1, priority: 301 };
    Contents { chains: vec![Chain { name: "gate".to_owned(), hook: Some(hook) }], rules: vec![rule], sets: Vec::new() }
}

fn into_chain(bridge: &Bridge) -> String {
    format!("into_{}", bridge.interface)
}

fn out_of_chain(bridge: &Bridge) -> String {
    format!("out_of_{}", bridge.interface)
}

fn nat_chain(bridge: &Bridge) -> String {
    format!("nat_{}", bridge.interface)
}

/// An interface name as a key: filled up to 16 bytes.
pub(super) fn interface_key(name: &str) -> Vec<u8> {
    let mut key = name.as_bytes().to_vec();
    key.resize(16, 0);
    key
}

/// A number that differs when the rules of this version of dhow differ: a table that an older one left behind is not taken
/// for complete.
pub(super) fn version() -> Vec<u8> {
    let bridge = Bridge::new("dhow", Vec::new());
    let internal = Bridge { internal: true, icc: false, ..bridge.clone() };
    let other = Bridge { modes: [GatewayMode::Routed, GatewayMode::NatUnprotected], ..bridge.clone() };
    let rules = [
        base_rules(),
        others_rules(),
        asking_rules(),
        relay_rules(),
        bridge_rules(&bridge),
        bridge_rules(&internal),
        bridge_rules(&other),
    ];
    let text = format!("{rules:?} {:?} {:?} {:?}", base_chains(), relay_chains(), published_sets());
    // FNV-1a.
    let hash = text.bytes().fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193));
    hash.to_ne_bytes().to_vec()
}

fn sets(ruleset: &Ruleset) -> Result<Vec<(Set, Vec<Element>)>, Error> {
    let plain = |name, key_type, key_length, kind| Set { name, key_type, key_length, kind, interval: false };
    let interfaces = |kind, name| plain(name, data_type::INTERFACE, 16, kind);
    let subnets =
        |name, key_type, key_length| Set { interval: true, ..plain(name, key_type, key_length, SetKind::VerdictMap) };
    let keys = |ruleset: &Ruleset, element: fn(Vec<u8>, &Bridge) -> Element| {
        ruleset.bridges.iter().map(|bridge| element(interface_key(&bridge.interface), bridge)).collect::<Vec<_>>()
    };
    let mut sets = vec![
        (interfaces(SetKind::Set, BRIDGES), keys(ruleset, |key, _| Element::Key(key))),
        (
            interfaces(SetKind::VerdictMap, INTO),
            keys(ruleset, |key, bridge| Element::Verdict(key, Verdict::Jump(into_chain(bridge)))),
        ),
        (
            interfaces(SetKind::VerdictMap, OUT_OF),
            keys(ruleset, |key, bridge| Element::Verdict(key, Verdict::Jump(out_of_chain(bridge)))),
        ),
        (plain(VERSION, data_type::MARK, 4, SetKind::Set), vec![Element::Key(version())]),
        (subnets(SUBNETS4, data_type::IPV4, 4), ranges(ruleset, false)),
        (subnets(SUBNETS6, data_type::IPV6, 16), ranges(ruleset, true)),
    ];
    let mut elements = published(&ruleset.publications)?;
    for set in published_sets() {
        let position = elements.iter().position(|(name, _)| *name == set.name);
        let elements = position.map(|position| elements.swap_remove(position).1).unwrap_or_default();
        sets.push((set, elements));
    }
    Ok(sets)
}

fn published_sets() -> [Set; 8] {
    use data_type::{IPV4, IPV6, PORT, PROTOCOL, row};
    let set = |name, key_type, key_length, value_type, value_length| Set {
        name,
        key_type,
        key_length,
        kind: SetKind::Map(value_type, value_length),
        interval: false,
    };
    let asked = |name, key_type, key_length| Set { name, key_type, key_length, kind: SetKind::Set, interval: false };
    let (to4, to6) = (row(&[IPV4, PORT]), row(&[IPV6, PORT]));
    [
        set(PUBLISHED4, row(&[IPV4, PROTOCOL, PORT]), 12, to4, 8),
        set(PUBLISHED4_ANY, row(&[PROTOCOL, PORT]), 8, to4, 8),
        set(PUBLISHED6, row(&[IPV6, PROTOCOL, PORT]), 24, to6, 20),
        set(PUBLISHED6_ANY, row(&[PROTOCOL, PORT]), 8, to6, 20),
        asked(ASKED4, row(&[IPV4, PROTOCOL, PORT]), 12),
        asked(ASKED4_ANY, row(&[PROTOCOL, PORT]), 8),
        asked(ASKED6, row(&[IPV6, PROTOCOL, PORT]), 24),
        asked(ASKED6_ANY, row(&[PROTOCOL, PORT]), 8),
    ]
}

fn is_routed(bridge: &Bridge) -> bool {
    bridge.modes.contains(&GatewayMode::Routed)
}

/// The published ports of containers whose own addresses are routed.
fn open_sets(ruleset: &Ruleset) -> Result<Vec<(Set, Vec<Element>)>, Error> {
    use data_type::{IPV4, IPV6, PORT, PROTOCOL, row};
    let elements = published(&ruleset.publications)?;
    let set = |name, key_type, key_length| Set { name, key_type, key_length, kind: SetKind::Set, interval: false };
    let sets = [set(OPEN4, row(&[IPV4, PROTOCOL, PORT]), 12), set(OPEN6, row(&[IPV6, PROTOCOL, PORT]), 24)];
    let of = |set: Set| {
        let own = elements.iter().find(|(name, _)| *name == set.name).map(|(_, elements)| elements.clone());
        (set, own.unwrap_or_default())
    };
    Ok(sets.map(of).into())
}

/// The beginnings and ends of the subnets. An end is the first address that is outside; the subnet at the very end of all
/// addresses has none.
fn ranges(ruleset: &Ruleset, ipv6: bool) -> Vec<Element> {
    let mut elements = Vec::new();
    for bridge in &ruleset.bridges {
        for subnet in bridge.subnets.iter().filter(|subnet| subnet.range.is_ipv6() == ipv6) {
            let range = subnet.range.network();
            elements.push(Element::Verdict(octets(range.address()), Verdict::Jump(nat_chain(bridge))));
            let end = from_bits(bits(range.last()).wrapping_add(1), ipv6);
            if !end.is_unspecified() {
                elements.push(Element::End(octets(end)));
            }
        }
    }
    elements
}

/// The elements of the maps for published ports, by map.
pub(super) fn published(publications: &[Publication]) -> Result<Vec<(&'static str, Vec<Element>)>, Error> {
    let mut maps: Vec<(&'static str, Vec<Element>)> = Vec::new();
    for publication in publications {
        for port in &publication.ports {
            let ipv6 = port.host_ip.is_ipv6();
            let Some(address) = publication.addresses.iter().find(|address| address.is_ipv6() == ipv6) else {
                continue;
            };
            if ipv6 && port.host_ip.is_loopback() {
                // Linux routes no packet from ::1 to another device, whatever it is translated to.
                let reason = "a connection to ::1 cannot be translated; publish on 127.0.0.1".to_owned();
                return Err(Error::Publish { port: port.to_string(), reason });
            }
            if port.host_port == 0 || port.container_port == 0 {
                return Err(Error::Publish { port: port.to_string(), reason: "port 0 is no port".to_owned() });
            }
            let (name, asked) = match (ipv6, port.host_ip.is_unspecified()) {
                (false, false) => (PUBLISHED4, ASKED4),
                (false, true) => (PUBLISHED4_ANY, ASKED4_ANY),
                (true, false) => (PUBLISHED6, ASKED6),
                (true, true) => (PUBLISHED6_ANY, ASKED6_ANY),
            };
            let mut key = if port.host_ip.is_unspecified() { Vec::new() } else { octets(port.host_ip) };
            key.extend_from_slice(&[port.protocol.number(), 0, 0, 0]);
            key.extend_from_slice(&padded(port.host_port));
            let mut value = octets(*address);
            value.extend_from_slice(&padded(port.container_port));
            if !port.bypass_firewall {
                push(&mut maps, asked, Element::Key(key.clone()));
            }
            push(&mut maps, name, Element::Value(key, value));
        }
        for port in &publication.open {
            let mut key = octets(port.address);
            key.extend_from_slice(&[port.protocol.number(), 0, 0, 0]);
            key.extend_from_slice(&padded(port.port));
            push(&mut maps, if port.address.is_ipv6() { OPEN6 } else { OPEN4 }, Element::Key(key));
        }
    }
    Ok(maps)
}

/// The map of published ports that belongs to a set of asked ones, and any other set itself.
pub(super) fn map_of(set: &str) -> &str {
    match set {
        ASKED4 => PUBLISHED4,
        ASKED4_ANY => PUBLISHED4_ANY,
        ASKED6 => PUBLISHED6,
        ASKED6_ANY => PUBLISHED6_ANY,
        other => other,
    }
}

fn push(maps: &mut Vec<(&'static str, Vec<Element>)>, name: &'static str, element: Element) {
    match maps.iter_mut().find(|(map, _)| *map == name) {
        Some((_, elements)) => elements.push(element),
        None => maps.push((name, vec![element])),
    }
}

/// A port in network order, filled up to a register.
fn padded(port: u16) -> [u8; 4] {
    let [high, low] = port.to_be_bytes();
    [high, low, 0, 0]
}

fn base_chains() -> Vec<Chain> {
    let hooked = |name: &str, kind, number, priority| Chain {
        name: name.to_owned(),
        hook: Some(Hook { kind, number, priority }),
    };
    vec![
        hooked("guard", "filter", 0, -300),
        hooked("prerouting", "nat", 0, -100),
        hooked("input", "filter", 1, 300),
        hooked("output", "nat", 3, -100),
        hooked("forward", "filter", 2, 0),
        hooked("postrouting", "nat", 4, 100),
        Chain { name: "ask".to_owned(), hook: None },
        Chain { name: "publish".to_owned(), hook: None },
        Chain { name: OTHERS.to_owned(), hook: None },
    ]
}

/// Only in a user's own namespace: before the routing of what comes in, and of what the relay sends.
fn relay_chains() -> Vec<Chain> {
    let hooked = |name: &str, number| Chain {
        name: name.to_owned(),
        hook: Some(Hook { kind: "filter", number, priority: -150 }),
    };
    vec![hooked("answers", 0), hooked("relayed", 3)]
}

fn relay_rules() -> Vec<Rule> {
    let is = |load, mark: u32| {
        [Expression::Load(load, KEY), Expression::Compare(Operator::Equal, mark.to_ne_bytes().to_vec())]
    };
    vec![
        Writer::new("relayed", "a relay's connection, with its client's address")
            .add(is(Load::Mark, relay::RELAYED))
            .statement(Expression::SetConnectionMark),
        Writer::new("answers", "to the client of a relay: for the relay, whatever the address")
            .add([Expression::Load(Load::InputInterface, KEY), Expression::InSet(BRIDGES.to_owned())])
            .add(is(Load::ConnectionMark, relay::RELAYED))
            .add([Expression::Immediate(relay::ANSWER.to_ne_bytes().to_vec(), KEY)])
            .statement(Expression::SetMark),
    ]
}

/// What comes in by the containers' own addresses: everything, or published ports and pings.
fn direct_rules(bridge: &Bridge, into: &str) -> Vec<Rule> {
    // Protocol, type of an echo request, offset and length of the destination, set.
    let families = [(IPV4, 1_u8, 8_u8, (DESTINATION4, 4), OPEN4), (IPV6, 58, 128, (DESTINATION6, 16), OPEN6)];
    let mut rules = Vec::new();
    for (mode, (family, icmp, echo, address, set)) in bridge.modes.into_iter().zip(families) {
        if mode == GatewayMode::NatUnprotected {
            let writer = Writer::new(into, "unprotected: who has a route reaches every port");
            rules.push(writer.protocol(family).end(Verdict::Accept));
        }
        if mode == GatewayMode::Routed {
            let key = key_of(Writer::new(into, "routed: to a published port"), family, Some(address));
            rules.push(key.add([Expression::InSet(set.to_owned())]).end(Verdict::Accept));
            let is = |load, value: u8| [Expression::Load(load, KEY), Expression::Compare(Operator::Equal, vec![value])];
            let ping = Writer::new(into, "routed: pings").protocol(family).add(is(Load::TransportProtocol, icmp));
            rules.push(ping.add(is(Load::Transport(0, 1), echo)).end(Verdict::Accept));
        }
    }
    rules
}

/// Offsets of the addresses in the IPv4 and IPv6 headers.
const SOURCE4: u32 = 12;
const DESTINATION4: u32 = 16;
const SOURCE6: u32 = 8;
const DESTINATION6: u32 = 24;

fn for_this_host(chain: &str, comment: &str) -> Writer {
    Writer::new(chain, comment).add([
        Expression::Load(Load::DestinationType, KEY),
        Expression::Compare(Operator::Equal, LOCAL.to_ne_bytes().to_vec()),
    ])
}

/// What is not sent to the bridges of other engines and of libvirt: they trust in the policy of the chain `FORWARD`, and ours is a way
/// around it (`coexist`).
fn others_rules() -> Vec<Rule> {
    let to = |name: &str, comment: &str| {
        Writer::new(OTHERS, comment).add([
            Expression::Load(Load::OutputInterface, KEY),
            // Without a final NUL: whatever begins so.
            Expression::Compare(Operator::Equal, name.as_bytes().to_vec()),
        ])
    };
    let published = Writer::new(OTHERS, "to a port that they publish").any_bit(Load::ConnectionStatus, TRANSLATED);
    let mut rules = vec![published.end(Verdict::Return)];
    rules.extend(
        ["docker", "podman", "cni-podman", "virbr"].map(|name| to(name, "theirs to let in").end(Verdict::Drop)),
    );
    // A network that a user of Docker's has made: 15 characters; no bridge of a LAN, as br-lan.
    let last = |byte: u8| (0..16).map(|at| if at == 14 { byte } else { 0 }).collect::<Vec<u8>>();
    let long = to("br-", "a name of fifteen characters: theirs to let in").add([
        Expression::Load(Load::OutputInterface, KEY),
        Expression::Bits(last(0xff)),
        Expression::Compare(Operator::NotEqual, last(0)),
    ]);
    rules.push(long.end(Verdict::Drop));
    rules
}

fn base_rules() -> Vec<Rule> {
    let in_bridges = |load| [Expression::Load(load, KEY), Expression::InSet(BRIDGES.to_owned())];
    let lookup = |chain, comment, load, map: &str| {
        Writer::new(chain, comment).add([Expression::Load(load, KEY), Expression::VerdictMap(map.to_owned())]).rule
    };
    let publish = || Verdict::Jump("publish".to_owned());
    vec![
        Writer::new("guard", "containers do not reach the host's 127.0.0.0/8")
            .add(in_bridges(Load::InputInterface))
            .protocol(IPV4)
            .loopback_network(DESTINATION4)
            .end(Verdict::Drop),
        Writer::new("prerouting", "loopback-published ports are for this host alone")
            .protocol(IPV4)
            .loopback_network(DESTINATION4)
            .end(Verdict::Return),
        for_this_host("prerouting", "from a container to this host: look for a published port")
            .add(in_bridges(Load::InputInterface))
            .end(publish()),
        // Translated, it would be dropped on its way, and who asks would wait: refused at once, it asks 127.0.0.1.
        Writer::new("output", "nothing from ::1 reaches another device")
            .protocol(IPV6)
            .add([
                Expression::Load(Load::Network(DESTINATION6, 16), KEY),
                Expression::Compare(Operator::Equal, octets(std::net::Ipv6Addr::LOCALHOST.into())),
            ])
            .end(Verdict::Return),
        for_this_host("output", "from this host to itself: look for a published port").end(publish()),
        published_rule(IPV4, Some((DESTINATION4, 4)), PUBLISHED4),
        published_rule(IPV4, None, PUBLISHED4_ANY),
        published_rule(IPV6, Some((DESTINATION6, 16)), PUBLISHED6),
        published_rule(IPV6, None, PUBLISHED6_ANY),
        Writer::new("forward", "connections that were allowed go on")
            .any_bit(Load::ConnectionState, ESTABLISHED_OR_RELATED)
            .end(Verdict::Accept),
        lookup("forward", "to a network of ours", Load::OutputInterface, INTO),
        lookup("forward", "from a network of ours", Load::InputInterface, OUT_OF),
        Writer::new("postrouting", "this host's 127.0.0.1 to a published port")
            .add(in_bridges(Load::OutputInterface))
            .protocol(IPV4)
            .loopback_network(SOURCE4)
            .statement(Expression::Masquerade),
        subnet_rule(IPV4, SOURCE4, 4, SUBNETS4),
        subnet_rule(IPV6, SOURCE6, 16, SUBNETS6),
    ]
}

/// The last rule of `prerouting`: what was not sent to the host's input chains first.
fn prerouting_end() -> [Rule; 1] {
    [for_this_host("prerouting", "from elsewhere to this host: look for a published port")
        .end(Verdict::Jump("publish".to_owned()))]
}

/// With the gate: what is in the sets `asked*` goes to the host's input chains first.
fn asking_rules() -> Vec<Rule> {
    let mut rules = vec![
        Writer::new("guard", "what comes through the gate has another mark")
            .interface(Load::InputInterface, Operator::Equal, gate::IN)
            .add([Expression::Immediate(ARRIVED.to_ne_bytes().to_vec(), KEY)])
            .statement(Expression::SetMark),
        Writer::new("prerouting", "through the gate: the host's input chains have allowed it")
            .interface(Load::InputInterface, Operator::Equal, gate::IN)
            .end(Verdict::Jump("publish".to_owned())),
        for_this_host("prerouting", "from elsewhere to this host: the host's input chains first")
            .end(Verdict::Jump("ask".to_owned())),
        // What of it was not translated on its way out is for a program of this host, or for nobody.
        Writer::new("input", "this host is not asked about itself")
            .interface(Load::InputInterface, Operator::Equal, "lo")
            .end(Verdict::Return),
    ];
    let sets = [
        (IPV4, Some((DESTINATION4, 4)), ASKED4),
        (IPV4, None, ASKED4_ANY),
        (IPV6, Some((DESTINATION6, 16)), ASKED6),
        (IPV6, None, ASKED6_ANY),
    ];
    for (family, address, set) in sets {
        let key = key_of(Writer::new("ask", "to the host's input chains"), family, address);
        rules.push(key.add([Expression::InSet(set.to_owned())]).end(Verdict::Accept));
        let writer = Writer::new("input", "a published port, and this host allows it: through the gate")
            .any_bit(Load::ConnectionState, NEW);
        let key = key_of(writer, family, address);
        rules.push(
            key.add([
                Expression::InSet(set.to_owned()),
                Expression::Immediate(THROUGH_THE_GATE.to_ne_bytes().to_vec(), KEY),
            ])
            .statement(Expression::SetMark),
        );
    }
    rules
}

/// Loads address (offset and length), protocol and port: the key of a published port.
fn key_of(writer: Writer, family: u8, address: Option<(u32, u32)>) -> Writer {
    let mut writer = writer.protocol(family);
    let mut next = KEY;
    if let Some((offset, length)) = address {
        writer = writer.add([Expression::Load(Load::Network(offset, length), next)]);
        next += length / 4;
    }
    writer.add([Expression::Load(Load::TransportProtocol, next), Expression::Load(Load::DestinationPort, next + 1)])
}

fn published_rule(family: u8, address: Option<(u32, u32)>, map: &str) -> Rule {
    let comment = match address {
        Some(_) => "published on this very address",
        None => "published on every address",
    };
    key_of(Writer::new("publish", comment), family, address)
        .add([Expression::Map(map.to_owned())])
        .statement(Expression::DestinationNat(family))
}

fn subnet_rule(family: u8, offset: u32, length: u32, map: &str) -> Rule {
    Writer::new("postrouting", "from a subnet of ours")
        .protocol(family)
        .add([Expression::Load(Load::Network(offset, length), KEY), Expression::VerdictMap(map.to_owned())])
        .rule
}

fn bridge_rules(bridge: &Bridge) -> Vec<Rule> {
    let name = bridge.interface.as_str();
    let (into, out_of, nat) = (into_chain(bridge), out_of_chain(bridge), nat_chain(bridge));
    let mut rules = Vec::new();
    if bridge.icc {
        rules.push(
            Writer::new(&into, "between containers of the network")
                .interface(Load::InputInterface, Operator::Equal, name)
                .end(Verdict::Accept),
        );
    }
    if !bridge.internal || !bridge.icc {
        let mut writer = Writer::new(&into, "to a published port");
        if bridge.internal {
            writer = writer.interface(Load::InputInterface, Operator::Equal, name);
        }
        rules.push(writer.any_bit(Load::ConnectionStatus, TRANSLATED).end(Verdict::Accept));
    }
    if !bridge.internal {
        rules.extend(direct_rules(bridge, &into));
    }
    rules.push(Writer::new(&into, "nothing else comes in").end(Verdict::Drop));
    if bridge.internal {
        rules.push(Writer::new(&out_of, "internal: nothing goes out").end(Verdict::Drop));
    } else {
        rules.push(
            Writer::new(&out_of, "what belongs to no connection would leave with the container's address")
                .any_bit(Load::ConnectionState, INVALID)
                .end(Verdict::Drop),
        );
        let others = Verdict::Jump(OTHERS.to_owned());
        rules.push(Writer::new(&out_of, "other engines' containers, by what they publish").end(others));
        rules.push(Writer::new(&out_of, "containers may go out").end(Verdict::Accept));
    }
    rules.push(
        Writer::new(&nat, "a container to a published port of its own network: answers must come back through here")
            .interface(Load::OutputInterface, Operator::Equal, name)
            .any_bit(Load::ConnectionStatus, TRANSLATED)
            .statement(Expression::Masquerade),
    );
    let translated = bridge.modes.map(GatewayMode::translates);
    let families: &[Option<u8>] = match translated {
        [true, true] => &[None],
        [true, false] => &[Some(IPV4)],
        [false, true] => &[Some(IPV6)],
        [false, false] => &[],
    };
    for family in families.iter().filter(|_| bridge.masquerade && !bridge.internal) {
        let writer = Writer::new(&nat, "out into the world with the address of this host");
        rules.push(
            family
                .map_or(writer.clone(), |family| writer.protocol(family))
                .add([Expression::Load(Load::OutputInterface, KEY), Expression::NotInSet(BRIDGES.to_owned())])
                .statement(Expression::Masquerade),
        );
    }
    rules
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::{Protocol, PublishedPort, Subnet};

    fn port(host_ip: &str, host_port: u16) -> PublishedPort {
        PublishedPort {
            protocol: Protocol::Tcp,
            host_ip: host_ip.parse().unwrap(),
            host_port,
            container_port: 80,
            bypass_firewall: false,
        }
    }

    #[test]
    fn ports_go_to_the_map_of_their_kind() {
        let publication = Publication {
            addresses: vec!["10.88.0.2".parse().unwrap()],
            ports: vec![port("0.0.0.0", 8080), port("127.0.0.1", 8081), port("::", 8080)],
            open: Vec::new(),
        };
        let maps = published(&[publication]).unwrap();
        let of = |name: &str| maps.iter().find(|(map, _)| *map == name).map(|(_, elements)| elements.clone());
        let key = vec![6, 0, 0, 0, 0x1f, 0x90, 0, 0];
        assert_eq!(of(PUBLISHED4_ANY), Some(vec![Element::Value(key.clone(), vec![10, 88, 0, 2, 0, 80, 0, 0])]));
        assert_eq!(of(ASKED4_ANY), Some(vec![Element::Key(key)]));
        assert_eq!(of(PUBLISHED4).map(|elements| elements.len()), Some(1));
        assert_eq!(of(PUBLISHED6_ANY), None, "the container has no IPv6 address");
    }

    #[test]
    fn a_subnet_at_the_end_of_all_addresses_has_no_end() {
        let bridge = Bridge::new("b", vec![Subnet::new("255.255.255.0/24".parse().unwrap())]);
        let ruleset = Ruleset { bridges: vec![bridge], publications: vec![], ..Ruleset::default() };
        // 256.0.0.0 does not fit into four bytes: the end would wrap to 0.0.0.0.
        assert_eq!(ranges(&ruleset, false).len(), 1);
    }
}
