//! docs/networks.md shows the table as it really is. `DHOW_UPDATE_GOLDEN=1` writes it anew.
#![allow(missing_docs, reason = "tests")]
#![allow(clippy::print_stderr, reason = "a skipped test says why")]

mod bed;

use bed::{Netns, bridge, can_run};
use network::{Bridge, Protocol, Publication, PublishedPort, Ruleset};

const MARK: &str = "<!-- golden: ruleset -->\n```text\n";

fn port(host_port: u16, bypass_firewall: bool) -> PublishedPort {
    let host_ip = "0.0.0.0".parse().unwrap();
    PublishedPort { protocol: Protocol::Tcp, host_ip, host_port, container_port: 80, bypass_firewall }
}

#[test]
fn the_table_in_the_documentation_is_the_kernels() {
    if !can_run(&["nft"]) {
        return;
    }
    let host = Netns::host();
    // Programs of other versions write the same rules in other words.
    let version = host.sh("nft --version");
    if !version.contains("v1.0.6") {
        eprintln!("SKIP: the golden text is nft 1.0.6's, this is {version}");
        return;
    }
    let internal = Bridge { internal: true, ..bridge(1) };
    let publication = Publication {
        addresses: vec!["10.88.0.2".parse().unwrap(), "fd00:88::2".parse().unwrap()],
        ports: vec![
            port(8080, false),
            PublishedPort { host_ip: "::".parse().unwrap(), ..port(8080, false) },
            port(8081, true),
        ],
    };
    let ruleset = Ruleset { bridges: vec![bridge(0), internal], publications: vec![publication], relays: false };
    host.run(|| network::ensure_rules(&ruleset).unwrap());
    let listing = host.sh("nft list ruleset | sed -E 's/packets [0-9]+ bytes [0-9]+/packets 0 bytes 0/; s/\\(device [0-9]+\\)/(device N)/; /type mark/,/}/s/0x[0-9a-f]+/0x…/'");

    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/networks.md");
    let text = std::fs::read_to_string(path).unwrap();
    let (before, rest) = text.split_once(MARK).unwrap();
    let (documented, after) = rest.split_once("```\n").unwrap();
    let listing = listing.replace('\t', "    ").replace(" packets 0 bytes 0", "");
    if std::env::var_os("DHOW_UPDATE_GOLDEN").is_some() {
        std::fs::write(path, format!("{before}{MARK}{listing}```\n{after}")).unwrap();
        return;
    }
    assert!(documented == listing, "docs/networks.md differs from the kernel:\n{listing}");
}
