//! The nftables table against the real kernel, with real connections.
#![allow(missing_docs, reason = "tests")]

mod bed;

use bed::{Bed, Netns, Server, bridge, can_run, connect};
use network::{Bridge, Ensured, Protocol, Publication, PublishedPort, Ruleset};

fn port(host_ip: &str, host_port: u16) -> PublishedPort {
    PublishedPort {
        protocol: Protocol::Tcp,
        host_ip: host_ip.parse().unwrap(),
        host_port,
        container_port: 80,
        bypass_firewall: false,
    }
}

fn publication(ports: Vec<PublishedPort>) -> Publication {
    Publication {
        addresses: vec!["10.88.0.2".parse().unwrap(), "fd00:88::2".parse().unwrap()],
        ports,
        open: Vec::new(),
    }
}

fn ruleset(bridges: Vec<Bridge>, publications: Vec<Publication>) -> Ruleset {
    Ruleset { bridges, publications, ..Ruleset::default() }
}

#[test]
fn the_way_out_is_masqueraded_and_nothing_comes_in_unasked() {
    if !can_run(&["ip", "nft"]) {
        return;
    }
    let bed = Bed::new();
    assert_eq!(bed.host.run(|| network::ensure_rules(&ruleset(vec![bridge(0)], vec![]))).unwrap(), Ensured::Rebuilt);
    let _outside = (Server::start(&bed.neighbour, "192.0.2.2:80"), Server::start(&bed.neighbour, "[2001:db8::2]:80"));
    assert_eq!(connect(&bed.one, "192.0.2.2:80").as_deref(), Some("192.0.2.1"));
    assert_eq!(connect(&bed.one, "[2001:db8::2]:80").as_deref(), Some("2001:db8::1"));
    let _inside = (Server::start(&bed.two, "0.0.0.0:80"), Server::start(&bed.two, "[fd00:88::3]:80"));
    assert_eq!(connect(&bed.one, "10.88.0.3:80").as_deref(), Some("10.88.0.2"));
    assert_eq!(connect(&bed.host, "10.88.0.3:80").as_deref(), Some("10.88.0.1"));
    // The neighbour has a route to the containers, and the host forwards.
    assert_eq!(connect(&bed.neighbour, "10.88.0.3:80"), None);
    assert_eq!(connect(&bed.neighbour, "[fd00:88::3]:80"), None);
}

#[test]
fn published_ports_reach_the_container_with_the_clients_address() {
    if !can_run(&["ip", "nft"]) {
        return;
    }
    let bed = Bed::new();
    let _servers = (Server::start(&bed.one, "0.0.0.0:80"), Server::start(&bed.one, "[fd00:88::2]:80"));
    let ports = vec![port("0.0.0.0", 8080), port("::", 8080), port("192.0.2.1", 8081), port("127.0.0.1", 8082)];
    bed.host.run(|| {
        network::ensure_rules(&ruleset(vec![bridge(0)], vec![])).unwrap();
        network::publish(&publication(ports.clone())).unwrap();
        // Again is nothing; for another container it is an error.
        network::publish(&publication(ports.clone())).unwrap();
        let other = Publication {
            addresses: vec!["10.88.0.3".parse().unwrap()],
            ports: vec![port("0.0.0.0", 8080)],
            open: Vec::new(),
        };
        let error = network::publish(&other).unwrap_err();
        assert_eq!(
            error.to_string(),
            "port 0.0.0.0:8080->80/tcp cannot be published: it is published by another container"
        );
    });
    assert_eq!(connect(&bed.neighbour, "192.0.2.1:8080").as_deref(), Some("192.0.2.2"));
    assert_eq!(connect(&bed.neighbour, "[2001:db8::1]:8080").as_deref(), Some("2001:db8::2"));
    assert_eq!(connect(&bed.neighbour, "192.0.2.1:8081").as_deref(), Some("192.0.2.2"));
    // From the host: by its own address and by 127.0.0.1.
    assert!(connect(&bed.host, "192.0.2.1:8080").is_some());
    assert_eq!(connect(&bed.host, "127.0.0.1:8080").as_deref(), Some("10.88.0.1"));
    assert_eq!(connect(&bed.host, "127.0.0.1:8082").as_deref(), Some("10.88.0.1"));
    assert!(connect(&bed.host, "[2001:db8::1]:8080").is_some());
    // Another container, and the container itself, by the host's address.
    assert!(connect(&bed.two, "192.0.2.1:8080").is_some());
    assert!(connect(&bed.one, "192.0.2.1:8080").is_some());
    assert!(connect(&bed.two, "10.88.0.1:8080").is_some());
    // 8081 is only published on 192.0.2.1.
    assert_eq!(connect(&bed.host, "127.0.0.1:8081"), None);

    bed.host.run(|| network::unpublish(&publication(ports.clone())).unwrap());
    bed.host.run(|| network::unpublish(&publication(ports)).unwrap());
    assert_eq!(connect(&bed.neighbour, "192.0.2.1:8080"), None);
}

#[test]
fn moby_22054_the_hosts_input_policy_holds_for_published_ports() {
    if !can_run(&["ip", "nft"]) {
        return;
    }
    let bed = Bed::new();
    let _servers = (Server::start(&bed.one, "0.0.0.0:80"), Server::start(&bed.one, "[fd00:88::2]:80"));
    // The strictest reverse path filter there is.
    bed.host.sh("for i in all default eth0; do echo 1 > /proc/sys/net/ipv4/conf/$i/rp_filter; done");
    let bypass = PublishedPort { bypass_firewall: true, ..port("0.0.0.0", 8081) };
    let ports = vec![port("0.0.0.0", 8080), port("::", 8080), bypass, port("192.0.2.1", 8083)];
    bed.host.run(|| {
        network::ensure_rules(&ruleset(vec![bridge(0)], vec![publication(ports)])).unwrap();
        assert!(network::asks_the_host().unwrap());
    });
    let reached = || -> Vec<bool> {
        let targets = ["192.0.2.1:8080", "[2001:db8::1]:8080", "192.0.2.1:8081", "192.0.2.1:8083"];
        targets.iter().map(|target| connect(&bed.neighbour, target).is_some()).collect()
    };
    assert_eq!(reached(), [true, true, true, true]);
    assert_eq!(connect(&bed.neighbour, "192.0.2.1:8080").as_deref(), Some("192.0.2.2"), "the client's own address");
    // As ufw and everybody else writes it: nothing comes in but what belongs to a connection.
    bed.host.sh(
        "nft add table inet fw; nft add chain inet fw input '{ type filter hook input priority 0; policy drop; }';
         nft add rule inet fw input ct state established,related accept; nft add rule inet fw input iifname lo accept
         nft add rule inet fw input meta l4proto ipv6-icmp accept",
    );
    assert_eq!(reached(), [false, false, true, false]);
    assert!(connect(&bed.host, "127.0.0.1:8080").is_some(), "the host's own connections");
    assert!(connect(&bed.two, "192.0.2.1:8080").is_some(), "a container's are not the host's business");
    bed.host.sh("nft add rule inet fw input tcp dport 8080 ip saddr 192.0.2.2 accept");
    assert_eq!(reached(), [true, false, true, false]);
    bed.host.sh("nft add rule inet fw input tcp dport '{ 8080, 8083 }' accept");
    assert_eq!(reached(), [true, true, true, true]);
    // firewalld's place in the order.
    bed.host.sh("nft add chain inet fw late '{ type filter hook input priority 10; policy accept; }';
         nft add rule inet fw late tcp dport 8083 reject with tcp reset");
    assert_eq!(reached(), [true, true, true, false]);
    assert_eq!(bed.host.sh("cat /proc/sys/net/ipv4/conf/eth0/rp_filter").trim(), "1");
    // The gate gone: noticed and made again.
    bed.host.sh("ip link del dhow-gate");
    assert_eq!(reached(), [false, false, true, false]);
    let all = ruleset(vec![bridge(0)], vec![publication(vec![port("0.0.0.0", 8080), port("::", 8080)])]);
    assert_eq!(bed.host.run(|| network::ensure_rules(&all)).unwrap(), Ensured::Rebuilt);
    assert_eq!(reached()[..2], [true, true]);
}

#[test]
fn dockers_and_ufws_forward_policy_does_not_cut_us_off() {
    if !can_run(&["ip", "nft", "iptables-nft", "ip6tables-nft"]) {
        return;
    }
    let bed = Bed::new();
    let _servers = (Server::start(&bed.one, "0.0.0.0:80"), Server::start(&bed.neighbour, "192.0.2.2:80"));
    let _servers6 = Server::start(&bed.neighbour, "[2001:db8::2]:80");
    bed.host.sh(
        "iptables-nft -P FORWARD DROP; ip6tables-nft -P FORWARD DROP; iptables-nft -N DOCKER-USER; iptables-nft -A FORWARD -j DOCKER-USER",
    );
    let other = Bridge { interface: "custom0".into(), ..bridge(3) };
    let all = ruleset(vec![bridge(0), other], vec![publication(vec![port("0.0.0.0", 8080)])]);
    let ensure = || bed.host.run(|| network::ensure_rules(&all)).unwrap();
    assert_eq!(ensure(), Ensured::Rebuilt);
    assert_eq!(ensure(), Ensured::Unchanged);
    assert!(connect(&bed.one, "192.0.2.2:80").is_some());
    assert!(connect(&bed.one, "[2001:db8::2]:80").is_some());
    assert!(connect(&bed.neighbour, "192.0.2.1:8080").is_some());
    assert_eq!(connect(&bed.neighbour, "10.88.0.2:80"), None);
    let listing = bed.host.sh("iptables-nft -S FORWARD");
    assert!(
        listing.contains(r#"-A FORWARD -i dhow+ -m comment --comment "dhow: out of dhow*" -j ACCEPT"#),
        "{listing}"
    );
    bed.host.sh("iptables-nft -D FORWARD -i dhow+ -m comment --comment 'dhow: out of dhow*' -j ACCEPT");
    assert_eq!(ensure(), Ensured::Completed { added: 1, removed: 0 });
    bed.host.run(|| network::remove_rules().unwrap());
    assert_eq!(bed.host.sh("iptables-nft -S FORWARD").trim(), "-P FORWARD DROP\n-A FORWARD -j DOCKER-USER");
}

#[test]
fn a_flush_is_told_to_whoever_watches() {
    if !can_run(&["nft"]) {
        return;
    }
    let host = Netns::host();
    host.run(|| {
        let all = ruleset(vec![bridge(0)], vec![publication(vec![port("0.0.0.0", 8080)])]);
        network::ensure_rules(&all).unwrap();
        let mut watch = network::Watch::open().unwrap();
        assert!(!watch.is_touched().unwrap());
        network::publish(&publication(vec![port("0.0.0.0", 8081)])).unwrap();
        host.sh("nft add table inet other; nft delete table inet other");
        assert!(!watch.is_touched().unwrap(), "nothing of ours was removed");
        host.sh("nft flush ruleset");
        assert!(watch.is_touched().unwrap());
        assert!(!watch.is_touched().unwrap());
        network::ensure_rules(&all).unwrap();
        assert!(!watch.is_touched().unwrap());
        host.sh("nft delete element inet dhow published4_any '{ tcp . 8080 }'");
        assert!(watch.is_touched().unwrap());
    });
}

#[test]
fn reserved_ports_are_taken_and_taken_ports_are_an_error() {
    if !can_run(&[]) {
        return;
    }
    let host = Netns::host();
    host.run(|| {
        let ports = [
            port("0.0.0.0", 8080),
            port("::", 8080),
            PublishedPort { protocol: Protocol::Udp, ..port("127.0.0.1", 8080) },
        ];
        let held = network::reserve(&ports).unwrap();
        assert!(std::net::TcpListener::bind("0.0.0.0:8080").is_err());
        assert!(std::net::TcpListener::bind("[::]:8080").is_err());
        assert!(std::net::UdpSocket::bind("127.0.0.1:8080").is_err());
        let error = network::reserve(&ports[..1]).unwrap_err();
        assert_eq!(error.to_string(), "bind(0.0.0.0:8080/tcp): EADDRINUSE (Address already in use)");
        drop(held);
        let listener = std::net::TcpListener::bind("0.0.0.0:8080").unwrap();
        assert!(network::reserve(&ports[..1]).is_err());
        // A connection that the listener closed leaves TIME_WAIT behind.
        let client = std::net::TcpStream::connect("127.0.0.1:8080").unwrap();
        drop(listener.accept().unwrap());
        drop((client, listener));
        network::reserve(&ports[..1]).unwrap();
        assert!(network::reserve(&[port("192.0.2.77", 80)]).unwrap_err().to_string().contains("EADDRNOTAVAIL"));
    });
}

#[test]
fn cve_2025_67499_only_what_is_for_this_host_is_translated() {
    if !can_run(&["ip", "nft"]) {
        return;
    }
    let bed = Bed::new();
    let bypass = PublishedPort { bypass_firewall: true, ..port("0.0.0.0", 8081) };
    let ports = vec![port("0.0.0.0", 8080), port("::", 8080), bypass];
    bed.host.run(|| network::ensure_rules(&ruleset(vec![bridge(0)], vec![publication(ports)])).unwrap());
    // The neighbour has services of its own on the published numbers; a container means those.
    let _servers = (Server::start(&bed.neighbour, "0.0.0.0:8080"), Server::start(&bed.neighbour, "[2001:db8::2]:8080"));
    assert_eq!(connect(&bed.two, "192.0.2.2:8080").as_deref(), Some("192.0.2.1"));
    assert_eq!(connect(&bed.two, "[2001:db8::2]:8080").as_deref(), Some("2001:db8::1"));
    assert_eq!(connect(&bed.host, "192.0.2.2:8080").as_deref(), Some("192.0.2.1"));
    // What a neighbour sends through this host to somewhere else is not translated either.
    let _server = Server::start(&bed.one, "0.0.0.0:80");
    bed.neighbour.sh("ip route add 198.51.100.0/24 via 192.0.2.1");
    assert_eq!(connect(&bed.neighbour, "198.51.100.1:8080"), None);
    assert_eq!(connect(&bed.neighbour, "198.51.100.1:8081"), None);
}

#[test]
fn an_older_versions_table_is_not_taken_for_complete() {
    if !can_run(&["nft"]) {
        return;
    }
    let host = Netns::host();
    let all = ruleset(vec![bridge(0)], vec![]);
    host.run(|| network::ensure_rules(&all).unwrap());
    assert!(host.run(|| network::rules_present(&bridge(0))).unwrap());
    assert!(!host.run(|| network::rules_present(&bridge(1))).unwrap());
    host.sh("nft flush set inet dhow version; nft add element inet dhow version '{ 0x1 }'");
    assert!(!host.run(|| network::rules_present(&bridge(0))).unwrap());
    assert_eq!(host.run(|| network::ensure_rules(&all)).unwrap(), Ensured::Completed { added: 1, removed: 1 });
}

#[test]
fn without_icc_containers_reach_each_other_by_published_ports_only() {
    if !can_run(&["ip", "nft"]) {
        return;
    }
    use rustix::fd::AsFd;
    let (host, one, two) = (Netns::host(), Netns::new(), Netns::new());
    let isolated = Bridge { icc: false, ..bridge(0) };
    // With br_netfilter in the way of bridged packets and without.
    for call in ["1", "0"] {
        let has_filter = host.ok("test -e /proc/sys/net/bridge/bridge-nf-call-iptables");
        if has_filter {
            host.sh(&format!(
                "for i in ip ip6; do echo {call} > /proc/sys/net/bridge/bridge-nf-call-${{i}}tables; done"
            ));
        }
        host.run(|| {
            network::ensure_bridge(&isolated).unwrap();
            for (number, netns) in [(2, &one), (3, &two)] {
                let plan = network::Attachment { isolated: true, ..bed::attachment(0, number) };
                network::attach(&plan, netns.as_fd()).unwrap();
            }
            let all = ruleset(vec![isolated.clone()], vec![publication(vec![port("0.0.0.0", 8080), port("::", 8080)])]);
            network::ensure_rules(&all).unwrap();
        });
        let server = Server::start(&one, "0.0.0.0:80");
        assert_eq!(connect(&two, "10.88.0.2:80"), None, "bridge-nf-call {call}");
        // br_netfilter translates the packet while it is bridged, and the isolation of the ports holds: docs/networks.md.
        assert_eq!(connect(&two, "10.88.0.1:8080").is_some(), call == "0" || !has_filter, "bridge-nf-call {call}");
        assert!(connect(&host, "10.88.0.2:80").is_some());
        drop(server);
        host.run(|| ["dh0x2", "dh0x3"].iter().for_each(|name| network::detach(name).unwrap()));
    }
}

#[test]
fn changes_at_the_same_time_do_not_disturb_each_other() {
    if !can_run(&[]) {
        return;
    }
    let host = Netns::host();
    let base = ruleset(vec![bridge(0)], vec![]);
    host.run(|| network::ensure_rules(&base).unwrap());
    std::thread::scope(|scope| {
        for number in 0..3u16 {
            let (host, base) = (&host, &base);
            scope.spawn(move || {
                host.run(|| {
                    for round in 0..30 {
                        let own = publication(vec![port("0.0.0.0", 9000 + number * 100 + round)]);
                        network::publish(&own).unwrap();
                        if number == 0 {
                            // It takes the others' ports away, which they must bear.
                            network::ensure_rules(base).unwrap();
                        }
                        network::unpublish(&own).unwrap();
                    }
                });
            });
        }
    });
    host.run(|| network::ensure_rules(&base).unwrap());
    assert_eq!(host.run(|| network::ensure_rules(&base)).unwrap(), Ensured::Unchanged);
}

#[test]
#[allow(clippy::print_stderr, reason = "the figures are wanted")]
fn what_the_gate_costs() {
    if !can_run(&["ip"]) {
        return;
    }
    let bed = Bed::new();
    let _server = Server::start(&bed.one, "0.0.0.0:80");
    let bypass = PublishedPort { bypass_firewall: true, ..port("0.0.0.0", 8081) };
    let all = ruleset(vec![bridge(0)], vec![publication(vec![port("0.0.0.0", 8080), bypass])]);
    bed.host.run(|| network::ensure_rules(&all).unwrap());
    let median = |port: u16| {
        bed.neighbour.run(|| {
            let mut times: Vec<_> = (0..300)
                .map(|_| {
                    let start = std::time::Instant::now();
                    let stream = std::net::TcpStream::connect(("192.0.2.1", port)).unwrap();
                    let elapsed = start.elapsed();
                    drop(stream);
                    elapsed
                })
                .collect();
            times.sort();
            times[150]
        })
    };
    let (direct, asked) = (median(8081), median(8080));
    eprintln!("connect: {direct:?} past the host's firewall, {asked:?} through the gate");
}

#[test]
fn udp_ports_go_through_the_gate_with_the_first_packet() {
    if !can_run(&["ip", "nft"]) {
        return;
    }
    let bed = Bed::new();
    let ports = vec![PublishedPort { protocol: Protocol::Udp, ..port("0.0.0.0", 5353) }];
    bed.host.run(|| network::ensure_rules(&ruleset(vec![bridge(0)], vec![publication(ports)])).unwrap());
    let server = bed.one.run(|| std::net::UdpSocket::bind("0.0.0.0:80").unwrap());
    server.set_read_timeout(Some(std::time::Duration::from_secs(1))).unwrap();
    let client = bed.neighbour.run(|| std::net::UdpSocket::bind("0.0.0.0:0").unwrap());
    client.set_read_timeout(Some(std::time::Duration::from_secs(1))).unwrap();
    // Larger than the network's MTU: the first datagram comes in fragments.
    for length in [1usize, 3000, 100] {
        client.send_to(&vec![7; length], "192.0.2.1:5353").unwrap();
        let mut bytes = [0; 4096];
        let (received, peer) = server.recv_from(&mut bytes).unwrap();
        assert_eq!((received, peer.ip().to_string().as_str()), (length, "192.0.2.2"));
        server.send_to(b"answer", peer).unwrap();
        let (_, from) = client.recv_from(&mut bytes).unwrap();
        assert_eq!(from.to_string(), "192.0.2.1:5353");
    }
}

#[test]
fn moby_loopback_published_ports_are_not_reachable_from_neighbours() {
    if !can_run(&["ip", "nft"]) {
        return;
    }
    let bed = Bed::new();
    let _server = Server::start(&bed.one, "0.0.0.0:80");
    bed.host.run(|| {
        network::ensure_rules(&ruleset(vec![bridge(0)], vec![publication(vec![port("127.0.0.1", 8082)])])).unwrap();
    });
    assert!(connect(&bed.host, "127.0.0.1:8082").is_some());
    // The neighbour sends to 127.0.0.1 by way of the host, and the host would take it.
    bed.host.sh("echo 1 > /proc/sys/net/ipv4/conf/eth0/route_localnet; echo 0 > /proc/sys/net/ipv4/conf/all/rp_filter");
    bed.neighbour.sh(
        "echo 1 > /proc/sys/net/ipv4/conf/all/route_localnet; ip addr del 127.0.0.1/8 dev lo;
         ip route del table local local 127.0.0.0/8 dev lo 2>/dev/null || true; ip route del table local local 127.0.0.1 dev lo 2>/dev/null || true;
         ip route add 127.0.0.1 via 192.0.2.1 src 192.0.2.2",
    );
    for target in ["127.0.0.1:8082", "192.0.2.1:8082", "10.88.0.2:80"] {
        assert_eq!(connect(&bed.neighbour, target), None, "{target}");
    }
    // A service of the host on its loopback, as in CVE-2020-8558: a container must not reach it by route_localnet.
    let _service = Server::start(&bed.host, "127.0.0.1:9000");
    assert!(connect(&bed.host, "127.0.0.1:9000").is_some());
    bed.two.sh(
        "echo 1 > /proc/sys/net/ipv4/conf/all/route_localnet; ip addr del 127.0.0.1/8 dev lo; ip route add 127.0.0.1 via 10.88.0.1 src 10.88.0.3",
    );
    assert_eq!(connect(&bed.two, "127.0.0.1:9000"), None);
    let counters = bed.host.run(network::rule_counters).unwrap();
    assert!(counters.iter().any(|rule| rule.chain == "guard" && rule.packets > 0), "{counters:?}");
}

#[test]
fn networks_are_isolated_from_each_other_and_internal_ones_from_the_world() {
    if !can_run(&["ip", "nft"]) {
        return;
    }
    let bed = Bed::new();
    let third = bed.container(1, 2);
    let fourth = bed.container(2, 2);
    let internal = Bridge { internal: true, ..bridge(2) };
    let published = publication(vec![port("0.0.0.0", 8080)]);
    bed.host.run(|| network::ensure_rules(&ruleset(vec![bridge(0), bridge(1), internal], vec![published])).unwrap());
    let _servers = (
        Server::start(&bed.one, "0.0.0.0:80"),
        Server::start(&bed.neighbour, "192.0.2.2:80"),
        Server::start(&fourth, "0.0.0.0:80"),
        Server::start(&bed.one, "[fd00:88::2]:80"),
    );
    assert_eq!(connect(&third, "10.88.0.2:80"), None);
    assert_eq!(connect(&third, "[fd00:88::2]:80"), None);
    assert_eq!(connect(&third, "192.0.2.2:80").as_deref(), Some("192.0.2.1"));
    // Published is published, and between networks of one host the client's own address arrives.
    assert_eq!(connect(&third, "192.0.2.1:8080").as_deref(), Some("10.89.0.2"));
    assert_eq!(connect(&fourth, "192.0.2.2:80"), None);
    assert_eq!(connect(&fourth, "10.88.0.2:80"), None);
    assert_eq!(connect(&bed.one, "10.90.0.2:80"), None);
    assert_eq!(connect(&bed.neighbour, "10.90.0.2:80"), None);
    assert!(connect(&bed.host, "10.90.0.2:80").is_some(), "the host itself reaches an internal network");
}

#[test]
fn what_others_did_to_the_table_is_put_right() {
    if !can_run(&["ip", "nft"]) {
        return;
    }
    let bed = Bed::new();
    let _server = Server::start(&bed.one, "0.0.0.0:80");
    let all = ruleset(vec![bridge(0), bridge(1)], vec![publication(vec![port("0.0.0.0", 8080), port("::", 8080)])]);
    let ensure = || bed.host.run(|| network::ensure_rules(&all)).unwrap();
    let present = || bed.host.run(|| network::rules_present(&bridge(0))).unwrap();
    assert!(!present());
    assert_eq!(ensure(), Ensured::Rebuilt);
    assert_eq!(ensure(), Ensured::Unchanged);
    assert!(present());
    let golden = listing(&bed.host);

    bed.host.sh("nft flush ruleset");
    assert!(!present());
    let error = bed.host.run(|| network::publish(&publication(vec![port("0.0.0.0", 8081)]))).unwrap_err();
    assert!(error.to_string().contains("is gone or incomplete"), "{error}");
    bed.host.run(|| network::unpublish(&publication(vec![port("0.0.0.0", 8081)]))).unwrap();
    assert_eq!(ensure(), Ensured::Rebuilt);
    assert_eq!(listing(&bed.host), golden);
    assert!(connect(&bed.neighbour, "192.0.2.1:8080").is_some());

    for damage in [
        "nft flush chain inet dhow into_dhow0",
        "nft delete rule inet dhow forward handle $(nft -a list chain inet dhow forward | sed -n 's/.*from a network.*handle //p')",
        "nft insert rule inet dhow forward accept",
        "nft add chain inet dhow stranger",
    ] {
        bed.host.sh(damage);
        assert_eq!(ensure(), Ensured::Rebuilt, "{damage}");
        assert_eq!(listing(&bed.host), golden, "{damage}");
    }
    bed.host.sh("nft delete element inet dhow published4_any { tcp . 8080 }");
    assert_eq!(ensure(), Ensured::Completed { added: 1, removed: 0 });
    bed.host.sh("nft add element inet dhow published4_any { udp . 8080 : 10.88.0.9 . 53 }");
    assert_eq!(ensure(), Ensured::Completed { added: 0, removed: 1 });
    assert_eq!(listing(&bed.host), golden);

    // Others' tables stay.
    bed.host.sh("nft add table inet other; nft add chain inet other c; nft add rule inet other c counter");
    bed.host.sh("nft delete table inet dhow");
    assert_eq!(ensure(), Ensured::Rebuilt);
    bed.host.run(|| network::remove_rules().unwrap());
    assert!(bed.host.sh("nft list ruleset").contains("table inet other"));
    assert!(!bed.host.sh("nft list ruleset").contains("dhow"));
}

/// A network more is added to the table, which is not made anew: what it counts goes on.
#[test]
fn a_network_more_leaves_the_rest_alone() {
    if !can_run(&["ip", "nft"]) {
        return;
    }
    let host = Netns::host();
    let ensure = |numbers: &[u8]| {
        let bridges = numbers.iter().map(|number| bridge(*number)).collect();
        host.run(|| network::ensure_rules(&ruleset(bridges, vec![publication(vec![port("0.0.0.0", 8080)])])).unwrap())
    };
    assert_eq!(ensure(&[1]), Ensured::Rebuilt);
    let handle = || host.sh("nft -a list chain inet dhow into_dhow1 | sed -n 's/.*chain.*handle //p'");
    let before = handle();
    // Ranges that begin where another ends, end where another begins, and stand alone.
    for numbers in [&[1, 2][..], &[0, 1, 2], &[0, 1, 2, 7, 8], &[0, 1, 2, 5, 7, 8]] {
        let ensured = ensure(numbers);
        assert!(matches!(ensured, Ensured::Completed { removed: 0, .. }), "{ensured:?}");
        assert_eq!(ensure(numbers), Ensured::Unchanged);
    }
    assert_eq!(handle(), before);
    let added = listing(&host);
    host.sh("nft flush ruleset");
    assert_eq!(ensure(&[0, 1, 2, 5, 7, 8]), Ensured::Rebuilt);
    let lines = |text: &str| {
        let mut lines: Vec<String> = text.split([',', '\n', '{', '}']).map(|line| line.trim().to_owned()).collect();
        lines.sort();
        lines
    };
    assert_eq!(lines(&added), lines(&listing(&host)));
    // One less: made anew.
    assert_eq!(ensure(&[0, 1, 2, 7, 8]), Ensured::Rebuilt);
}

/// The table as `nft` lists it, counters set to zero.
fn listing(host: &Netns) -> String {
    host.sh("nft list ruleset | sed -E 's/packets [0-9]+ bytes [0-9]+/packets 0 bytes 0/'")
}

#[test]
fn a_connection_survives_the_rebuilding_of_the_rules() {
    if !can_run(&["ip", "nft"]) {
        return;
    }
    use std::io::{Read, Write};
    let bed = Bed::new();
    let all = ruleset(vec![bridge(0)], vec![publication(vec![port("0.0.0.0", 8080)])]);
    bed.host.run(|| network::ensure_rules(&all).unwrap());
    let listener = bed.one.run(|| std::net::TcpListener::bind("0.0.0.0:80").unwrap());
    let mut client = bed.neighbour.run(|| std::net::TcpStream::connect("192.0.2.1:8080").unwrap());
    let (mut server, _) = listener.accept().unwrap();
    for damage in ["nft flush ruleset", "nft flush chain inet dhow publish", "true"] {
        bed.host.sh(damage);
        bed.host.run(|| network::ensure_rules(&all).unwrap());
        client.write_all(b"ping").unwrap();
        let mut bytes = [0; 4];
        server.read_exact(&mut bytes).unwrap();
        server.write_all(b"pong").unwrap();
        client.read_exact(&mut bytes).unwrap();
        assert_eq!(&bytes, b"pong");
    }
}

#[test]
#[allow(clippy::print_stderr, reason = "the figures are wanted")]
fn publishing_does_not_grow_with_the_number_of_ports() {
    if !can_run(&[]) {
        return;
    }
    use std::time::Instant;
    let host = Netns::host();
    host.run(|| {
        let many: Vec<PublishedPort> = (0..850).map(|number| port("0.0.0.0", 10000 + number)).collect();
        let bridges: Vec<Bridge> = (0..100).map(bridge).collect();
        let start = Instant::now();
        network::ensure_rules(&ruleset(bridges.clone(), vec![])).unwrap();
        eprintln!("100 networks made: {:?}", start.elapsed());
        let mut figures = Vec::new();
        for number in 0..100u16 {
            let start = Instant::now();
            network::publish(&publication(vec![port("0.0.0.0", 20000 + number)])).unwrap();
            figures.push(start.elapsed());
        }
        figures.sort();
        eprintln!("publish one port: median {:?}", figures[50]);
        let start = Instant::now();
        network::publish(&publication(many.clone())).unwrap();
        eprintln!("publish 850 ports: {:?}", start.elapsed());
        let mut figures = Vec::new();
        for number in 0..100u16 {
            let start = Instant::now();
            network::publish(&publication(vec![port("0.0.0.0", 30000 + number)])).unwrap();
            figures.push(start.elapsed());
        }
        figures.sort();
        eprintln!("publish one port beside 950: median {:?}", figures[50]);
        let start = Instant::now();
        assert!(network::rules_present(&bridge(50)).unwrap());
        eprintln!("rules_present: {:?}", start.elapsed());
        let mut all = many;
        all.extend((0..100).flat_map(|number| [port("0.0.0.0", 20000 + number), port("0.0.0.0", 30000 + number)]));
        let start = Instant::now();
        assert_eq!(network::ensure_rules(&ruleset(bridges, vec![publication(all)])).unwrap(), Ensured::Unchanged);
        eprintln!("ensure_rules, 100 networks and 1050 ports: {:?}", start.elapsed());
    });
}
