//! Bridges and attachments against the real kernel, looked at with `ip`.
#![allow(missing_docs, reason = "tests")]

mod bed;

use bed::{Netns, can_run};
use network::{Attachment, Bridge, Cidr, Mac, Subnet};
use rustix::fd::AsFd;
use std::net::IpAddr;
use std::time::Instant;

fn cidr(text: &str) -> Cidr {
    text.parse().unwrap()
}

fn bridge() -> Bridge {
    Bridge::new("dhow0", vec![Subnet::new(cidr("10.88.0.0/16")), Subnet::new(cidr("fd00:88::/64"))])
}

fn attachment(host_interface: &str, number: u8) -> Attachment {
    let address: IpAddr = format!("10.88.0.{number}").parse().unwrap();
    Attachment {
        bridge: "dhow0".into(),
        host_interface: host_interface.into(),
        container_interface: "eth0".into(),
        mac: Mac::for_address(address),
        addresses: vec![cidr(&format!("10.88.0.{number}/16")), cidr(&format!("fd00:88::{number}/64"))],
        gateways: vec!["10.88.0.1".parse().unwrap(), "fd00:88::1".parse().unwrap()],
        mtu: None,
        isolated: false,
        parameters: Vec::new(),
    }
}

#[test]
fn two_containers_reach_each_other_and_the_gateway() {
    if !can_run(&["ip", "ping"]) {
        return;
    }
    let (host, one, two) = (Netns::host(), Netns::new(), Netns::new());
    host.run(|| {
        network::ensure_bridge(&bridge()).unwrap();
        network::attach(&attachment("dh1", 2), one.as_fd()).unwrap();
        network::attach(&attachment("dh2", 3), two.as_fd()).unwrap();
    });
    let addresses = one.sh("ip -o addr show; ip route; ip -6 route");
    assert!(addresses.contains("eth0    inet 10.88.0.2/16 brd 10.88.255.255"), "{addresses}");
    assert!(addresses.contains("default via 10.88.0.1 dev eth0"), "{addresses}");
    assert!(addresses.contains("default via fd00:88::1 dev eth0"), "{addresses}");
    assert!(one.sh("ip -o link show eth0").contains("02:42:0a:58:00:02"));
    assert_eq!(host.sh("ip -6 -o address show dev dh1"), "", "nobody asks the host's end");
    for target in ["10.88.0.1", "10.88.0.3", "fd00:88::1", "fd00:88::3"] {
        one.sh(&format!("ping -c1 -W2 {target}"));
    }
    one.sh("ping -c1 -W2 127.0.0.1");

    let seen = one.run(network::observe_here).unwrap();
    assert_eq!(
        seen,
        network::observe(one.as_fd()).map(|other| network::Observed { links: seen.links.clone(), ..other }).unwrap()
    );
    assert!(seen.links.iter().any(|link| link.name == "eth0" && link.kind.as_deref() == Some("veth") && link.up));
    assert!(
        seen.routes
            .iter()
            .any(|route| route.destination.prefix() == 0 && route.gateway == Some("10.88.0.1".parse().unwrap()))
    );
    assert!(seen.addresses.iter().any(|address| address.address == cidr("fd00:88::2/64")));

    host.run(|| {
        network::detach("dh1").unwrap();
        network::detach("dh1").unwrap();
        network::remove_bridge("dhow0").unwrap();
        network::remove_bridge("dhow0").unwrap();
    });
    assert!(!one.ok("ip link show eth0"));
    assert!(!host.ok("ip link show dhow0"));
}

#[test]
fn ensure_bridge_puts_right_and_leaves_alone() {
    if !can_run(&["ip"]) {
        return;
    }
    let host = Netns::host();
    host.run(|| {
        let changed = network::ensure_bridge(&bridge()).unwrap();
        let settings: Vec<&str> = changed.iter().map(|changed| changed.setting.as_str()).collect();
        assert!(settings.contains(&"net/ipv6/conf/all/forwarding"), "{settings:?}");
        assert_eq!(network::ensure_bridge(&bridge()).unwrap(), []);
    });
    let before = host.sh("ip -d link show dhow0");
    host.sh("ip addr del 10.88.0.1/16 dev dhow0; ip addr add 10.99.0.1/16 dev dhow0; ip link set dhow0 down");
    host.run(|| network::ensure_bridge(&bridge()).unwrap());
    let after = host.sh("ip -o addr show dhow0");
    assert!(
        after.contains("10.88.0.1/16") && after.contains("fd00:88::1/64") && !after.contains("10.99.0.1"),
        "{after}"
    );
    assert!(host.sh("ip link show dhow0").contains(",UP"), "{before}");

    host.sh("ip link add other type veth peer name peer");
    let error = host.run(|| network::ensure_bridge(&Bridge::new("other", vec![])).unwrap_err());
    assert_eq!(error.to_string(), "interface other exists and is veth, wanted a bridge");
}

#[test]
fn a_v4_network_has_no_ipv6_and_router_advertisements_are_off() {
    if !can_run(&["ip"]) {
        return;
    }
    let (host, one) = (Netns::host(), Netns::new());
    let v4 = Bridge::new("dhow0", vec![Subnet::new(cidr("10.88.0.0/16"))]);
    let mut plan = attachment("dh1", 2);
    plan.addresses.truncate(1);
    plan.gateways.truncate(1);
    host.run(|| {
        network::ensure_bridge(&v4).unwrap();
        network::attach(&plan, one.as_fd()).unwrap();
    });
    assert_eq!(one.sh("ip -6 addr show eth0"), "");
    assert_eq!(host.sh("ip -6 addr show dhow0"), "");
    let two = Netns::new();
    host.run(|| network::attach(&attachment("dh2", 3), two.as_fd()).unwrap());
    assert_eq!(two.sh("cat /proc/sys/net/ipv6/conf/eth0/accept_ra").trim(), "0");
}

#[test]
fn failures_name_the_request_and_leave_nothing() {
    if !can_run(&["ip"]) {
        return;
    }
    let (host, one) = (Netns::host(), Netns::new());
    host.run(|| {
        let error = network::attach(&attachment("dh1", 2), one.as_fd()).unwrap_err();
        assert_eq!(error.to_string(), "RTM_GETLINK(dhow0): ENODEV (No such device)");
        network::ensure_bridge(&bridge()).unwrap();
        network::attach(&attachment("dh1", 2), one.as_fd()).unwrap();
        let error = network::attach(&attachment("dh1", 3), Netns::new().as_fd()).unwrap_err();
        assert!(error.to_string().contains("EEXIST (File exists)"), "{error}");
        // The gateway is not reachable: the pair is taken away again.
        let wrong =
            Attachment { gateways: vec!["fd00:99::1".parse().unwrap()], addresses: vec![], ..attachment("dh3", 4) };
        let error = network::attach(&wrong, Netns::new().as_fd()).unwrap_err();
        assert!(error.to_string().starts_with("RTM_NEWADDR, RTM_SETLINK(lo and eth0 up), RTM_NEWROUTE"), "{error}");
    });
    assert!(!host.ok("ip link show dh3"));
}

#[test]
fn isolated_ports_do_not_reach_each_other() {
    if !can_run(&["ip", "ping"]) {
        return;
    }
    let (host, one, two) = (Netns::host(), Netns::new(), Netns::new());
    host.run(|| {
        network::ensure_bridge(&Bridge { icc: false, ..bridge() }).unwrap();
        network::attach(&Attachment { isolated: true, ..attachment("dh1", 2) }, one.as_fd()).unwrap();
        network::attach(&Attachment { isolated: true, ..attachment("dh2", 3) }, two.as_fd()).unwrap();
    });
    one.sh("ping -c1 -W2 10.88.0.1");
    assert!(!one.ok("ping -c1 -W1 10.88.0.3"));
}

#[test]
fn macvlan_on_a_device_of_the_host() {
    if !can_run(&["ip", "ping"]) {
        return;
    }
    let (host, neighbour, one) = (Netns::host(), Netns::host(), Netns::new());
    host.sh("ip link add up0 type veth peer name up1; ip link set up0 up");
    let fd = std::os::fd::AsRawFd::as_raw_fd(&neighbour.as_fd());
    host.sh(&format!("ip link set up1 netns /proc/{}/fd/{fd}", std::process::id()));
    neighbour.sh("ip link set up1 up; ip addr add 192.168.7.1/24 dev up1");
    let plan = network::DirectAttachment {
        parent: "up0".into(),
        kind: network::Upper::MacvlanBridge,
        container_interface: "eth0".into(),
        mac: None,
        addresses: vec![cidr("192.168.7.2/24")],
        gateways: vec!["192.168.7.1".parse().unwrap()],
        mtu: None,
        parameters: Vec::new(),
    };
    host.run(|| network::attach_direct(&plan, one.as_fd()).unwrap());
    one.sh("ping -c1 -W2 192.168.7.1");
}

#[test]
fn a_subnet_is_chosen_beside_the_hosts_routes() {
    if !can_run(&["ip"]) {
        return;
    }
    let host = Netns::host();
    host.sh("ip link add eth0 type veth peer name x; ip link set eth0 up; ip link set x up; ip addr add 10.88.3.1/24 dev eth0");
    host.run(|| {
        network::ensure_bridge(&Bridge::new("dhow0", vec![Subnet::new(cidr("10.89.0.0/16"))])).unwrap();
        let used = network::pools::of_host(|name| name == "dhow0").unwrap();
        assert_eq!(network::pools::choose(&network::pools::default_network(), &used).unwrap(), cidr("10.89.0.0/16"));
        let error = network::pools::check(cidr("10.88.0.0/16"), &used).unwrap_err();
        assert_eq!(error.to_string(), "subnet 10.88.0.0/16 overlaps 10.88.3.0/24, which belongs to the route on eth0");
    });
}

#[test]
fn cve_2020_10749_a_containers_router_advertisements_are_ignored() {
    use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, ipproto, sockopt};
    if !can_run(&["ip"]) {
        return;
    }
    let (host, rogue, victim) = (Netns::host(), Netns::new(), Netns::new());
    host.run(|| {
        network::ensure_bridge(&bridge()).unwrap();
        network::attach(&attachment("dh1", 2), rogue.as_fd()).unwrap();
        network::attach(&attachment("dh2", 3), victim.as_fd()).unwrap();
    });
    let raw = |netns: &Netns| {
        netns.run(|| {
            let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
            rustix::net::socket_with(AddressFamily::INET6, SocketType::RAW, flags, Some(ipproto::ICMPV6)).unwrap()
        })
    };
    let (sender, receiver) = (raw(&rogue), raw(&victim));
    sockopt::set_ipv6_multicast_hops(&sender, 255).unwrap();
    // Router advertisement, lifetime 1800 s, with a prefix for addresses of one's own.
    let mut message = vec![134, 0, 0, 0, 64, 0, 0x07, 0x08, 0, 0, 0, 0, 0, 0, 0, 0];
    message.extend_from_slice(&[3, 4, 64, 0xc0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0]);
    message.extend_from_slice(&[0x20, 0x01, 0x0d, 0xb8, 0, 0x66, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    let index: u32 = rogue
        .sh("cat /proc/net/if_inet6 | awk '$6==\"eth0\" {print $2}' | head -1")
        .trim()
        .to_owned()
        .chars()
        .fold(0, |all, digit| all * 16 + digit.to_digit(16).unwrap());
    let everyone = std::net::SocketAddrV6::new("ff02::1".parse().unwrap(), 0, 0, index);
    // A link-local source is wanted for an advertisement; it is there once duplicate detection is over.
    let mut arrived = false;
    for _ in 0..40 {
        std::thread::sleep(std::time::Duration::from_millis(100));
        let _not_yet = rustix::net::sendto(&sender, &message, SendFlags::empty(), &everyone);
        let mut bytes = [0; 256];
        while let Ok((_, length, from)) = rustix::net::recvfrom(&receiver, &mut bytes[..], RecvFlags::empty()) {
            let from = from.map(|from| std::net::SocketAddrV6::try_from(from).unwrap());
            arrived |= length == message.len()
                && bytes[0] == 134
                && from.is_some_and(|from| from.ip().segments()[0] == 0xfe80);
        }
        if arrived {
            break;
        }
    }
    assert!(arrived, "the advertisement must reach the victim for the test to mean something");
    std::thread::sleep(std::time::Duration::from_millis(200));
    for netns in [&victim, &host] {
        let seen = netns.sh("ip -6 addr; ip -6 route");
        assert!(!seen.contains("2001:db8:66") && !seen.contains("proto ra"), "{seen}");
    }
}

#[test]
fn sweeping_removes_only_what_is_ours_and_dead() {
    if !can_run(&["ip"]) {
        return;
    }
    let (host, one, two) = (Netns::host(), Netns::new(), Netns::new());
    host.sh("ip link add dhcp0 type veth peer name dhcp1");
    host.run(|| {
        network::ensure_bridge(&bridge()).unwrap();
        network::attach(&attachment("dh0123456789a", 2), one.as_fd()).unwrap();
        network::attach(&attachment("dh0123456789b", 3), two.as_fd()).unwrap();
        assert_eq!(network::sweep(|name| name == "dh0123456789b").unwrap(), ["dh0123456789a"]);
    });
    assert!(host.ok("ip link show dh0123456789b && ip link show dhcp0 && ip link show dhow0"));
}

/// Not a measurement to compare, only a guard against an accident of a power of ten.
#[test]
#[allow(clippy::print_stderr, reason = "the figures are wanted")]
fn attaching_is_fast() {
    if !can_run(&[]) {
        return;
    }
    let host = Netns::host();
    host.run(|| {
        let start = Instant::now();
        network::ensure_bridge(&bridge()).unwrap();
        let made = start.elapsed();
        let start = Instant::now();
        network::ensure_bridge(&bridge()).unwrap();
        let again = start.elapsed();
        let containers: Vec<Netns> = (0..20).map(|_| Netns::new()).collect();
        let mut times = Vec::new();
        for (number, netns) in containers.iter().enumerate() {
            let start = Instant::now();
            network::attach(&attachment(&format!("dh{number}"), number as u8 + 2), netns.as_fd()).unwrap();
            times.push(start.elapsed());
        }
        times.sort();
        eprintln!("ensure_bridge {made:?}, again {again:?}; attach median {:?} min {:?}", times[10], times[0]);
        assert!(times[0].as_millis() < 50);
    });
}
