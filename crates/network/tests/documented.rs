//! docs/network-rules.md shows the rules as they really are. `DHOW_UPDATE_GOLDEN=1` writes them anew.
#![allow(missing_docs, reason = "tests")]
#![allow(clippy::print_stderr, reason = "a skipped test says why")]

mod bed;

use bed::{Netns, bridge, can_run};
use network::dns::{Responder, Zone};
use network::{Bridge, GatewayMode, OpenPort, Protocol, Publication, PublishedPort, Ruleset};
use std::os::fd::AsFd;

fn port(host_port: u16, bypass_firewall: bool) -> PublishedPort {
    let host_ip = "0.0.0.0".parse().unwrap();
    PublishedPort { protocol: Protocol::Tcp, host_ip, host_port, container_port: 80, bypass_firewall }
}

/// What `nft` says to these words one after the other, without what changes from run to run.
fn listing(host: &Netns, words: &[&str]) -> String {
    let text: String = words.iter().map(|words| host.sh(&format!("nft {words}"))).collect();
    host.run(|| {
        let script = r"sed -E 's/ ?packets [0-9]+ bytes [0-9]+//; s/\(device [0-9]+\)/(device N)/; /type mark/,/}/s/0x[0-9a-f]+/0x…/;
            s/ # progname.*//; s/\t/    /g; s/(dport set|sport|dport) ([0-9]{4,5})/\1 N/; s/set [0-9]{5}/set N/'";
        let mut child = std::process::Command::new("sh")
            .args(["-c", script])
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        std::io::Write::write_all(&mut child.stdin.take().unwrap(), text.as_bytes()).unwrap();
        String::from_utf8(child.wait_with_output().unwrap().stdout).unwrap()
    })
}

fn with(bridges: Vec<Bridge>) -> (Netns, Ruleset) {
    (Netns::host(), Ruleset { bridges, ..Ruleset::default() })
}

fn ruleset() -> String {
    let (host, rules) = with(vec![bridge(0), Bridge { internal: true, ..bridge(1) }]);
    let publication = Publication {
        addresses: vec!["10.88.0.2".parse().unwrap(), "fd00:88::2".parse().unwrap()],
        ports: vec![
            port(8080, false),
            PublishedPort { host_ip: "::".parse().unwrap(), ..port(8080, false) },
            port(8081, true),
        ],
        open: Vec::new(),
    };
    host.run(|| network::ensure_rules(&Ruleset { publications: vec![publication], ..rules }).unwrap());
    listing(&host, &["list ruleset"])
}

/// The chains of one bridge.
fn chains(number: u8, change: impl FnOnce(&mut Bridge), publications: Vec<Publication>, further: &[&str]) -> String {
    let mut bridge = bridge(number);
    change(&mut bridge);
    let (host, rules) = with(vec![bridge]);
    host.run(|| network::ensure_rules(&Ruleset { publications, ..rules }).unwrap());
    let own = ["into", "out_of", "nat"].map(|chain| format!("list chain inet dhow {chain}_dhow{number}"));
    let words: Vec<&str> = further.iter().copied().chain(own.iter().map(String::as_str)).collect();
    listing(&host, &words)
}

fn routed() -> String {
    let addresses = vec!["10.91.0.2".parse().unwrap(), "fd00:91::2".parse().unwrap()];
    let open = |address: &std::net::IpAddr| OpenPort { address: *address, protocol: Protocol::Tcp, port: 80 };
    let publication = Publication { open: addresses.iter().map(open).collect(), addresses, ports: Vec::new() };
    let sets = ["list set inet dhow open4", "list set inet dhow open6"];
    chains(3, |bridge| bridge.modes = [GatewayMode::Routed; 2], vec![publication], &sets)
}

fn owner() -> String {
    let (host, rules) = with(vec![bridge(0)]);
    let owner = "--root /var/lib/dhow --run-dir /run/dhow".to_owned();
    host.run(|| network::ensure_rules(&Ruleset { owner, ..rules }).unwrap());
    listing(&host, &["list chain inet dhow owner"])
}

fn relay() -> String {
    let (host, rules) = with(vec![bridge(0)]);
    host.run(|| network::ensure_rules(&Ruleset { relays: true, ..rules }).unwrap());
    listing(&host, &["list chain inet dhow answers", "list chain inet dhow relayed", "list chain inet dhow prerouting"])
}

fn coexist() -> String {
    let (host, rules) = with(vec![bridge(0)]);
    for family in ["ip", "ip6"] {
        let hook = "{ type filter hook forward priority filter; policy drop; }";
        host.sh(&format!("nft 'add table {family} filter; add chain {family} filter FORWARD {hook}'"));
    }
    host.run(|| network::ensure_rules(&rules).unwrap());
    listing(&host, &["list table ip filter", "list table ip6 filter"])
}

/// The table while it is held, and after a flush; nothing else is left.
fn hold() -> String {
    let (host, rules) = with(vec![bridge(0)]);
    host.run(|| {
        network::ensure_rules(&rules).unwrap();
        let mut watch = network::Watch::open().unwrap();
        if let Err(error) = watch.hold() {
            eprintln!("SKIP: before Linux 5.12: {error}");
            return String::new();
        }
        let before = listing(&host, &["list table inet dhow_hold"]);
        host.sh("nft flush ruleset");
        assert_eq!(listing(&host, &["list ruleset"]), before);
        assert!(watch.is_touched().unwrap());
        drop(watch);
        assert_eq!(host.sh("nft list ruleset"), "");
        before
    })
}

fn names() -> String {
    let container = Netns::host();
    let _responder = Responder::open(container.as_fd(), Zone::default()).unwrap();
    listing(&container, &["list ruleset"])
}

#[test]
fn the_rules_in_the_documentation_are_the_kernels() {
    if !can_run(&["nft"]) {
        return;
    }
    // Programs of other versions write the same rules in other words.
    let version = Netns::host().sh("nft --version");
    if !version.contains("v1.0.6") {
        eprintln!("SKIP: the golden text is nft 1.0.6's, this is {version}");
        return;
    }
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/network-rules.md");
    let mut text = std::fs::read_to_string(path).unwrap();
    let updates = std::env::var_os("DHOW_UPDATE_GOLDEN").is_some();
    for (name, listing) in [
        ("ruleset", ruleset()),
        ("icc", chains(2, |bridge| bridge.icc = false, Vec::new(), &[])),
        ("routed", routed()),
        ("unprotected", chains(4, |bridge| bridge.modes = [GatewayMode::NatUnprotected; 2], Vec::new(), &[])),
        ("plain", chains(5, |bridge| bridge.masquerade = false, Vec::new(), &[])),
        ("owner", owner()),
        ("relay", relay()),
        ("coexist", coexist()),
        ("hold", hold()),
        ("names", names()),
    ] {
        let mark = format!("<!-- golden: {name} -->\n```text\n");
        let (before, rest) = text.split_once(&mark).unwrap();
        let (documented, after) = rest.split_once("```\n").unwrap();
        if updates {
            text = format!("{before}{mark}{listing}```\n{after}");
        } else if !(name == "hold" && listing.is_empty()) {
            assert!(documented == listing, "docs/network-rules.md, {name}: the kernel says\n{listing}");
        }
    }
    if updates {
        std::fs::write(path, text).unwrap();
    }
}
