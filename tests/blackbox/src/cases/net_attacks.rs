//! What went wrong in the networks of engines since 2014 (section 4.9 of the list of vulnerabilities, harness H8): each entry is
//! tried by real packets as soon as everything runs, once more after `nft flush ruleset`, and after a firewall was loaded anew.

use std::net::{Ipv6Addr, SocketAddrV6, TcpStream};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use rustix::net::{AddressFamily, SendFlags, SocketType, bind, ipproto, sendto, socket, sockopt};

use crate::bed::names::{A, How, NO_SUCH_NAME, NameServer, look_up};
use crate::bed::{Bed, Server, Ways, within};
use crate::case::{cases, contains, same, skip};
use crate::host;
use crate::sandbox::Sandbox;

cases![net_attacks: before_and_after_a_flush [Root]];

const SLEEP: &str = "exec sleep 1000";

/// What firewalld does at a reload, in its older versions: everything of everybody goes, its own comes. One port is denied.
const RELOAD: &str = "flush ruleset\ntable inet firewalld {\n\
     chain filter_INPUT {\n type filter hook input priority 10; policy accept;\n tcp dport 8085 drop\n }\n\
     chain filter_FORWARD {\n type filter hook forward priority 10; policy accept;\n }\n}\n";

/// Everything that is attacked.
struct Scene<'a> {
    sandbox: &'a Sandbox,
    bed: Bed,
    names: NameServer,
    _servers: Vec<Server>,
}

impl Scene<'_> {
    fn pid(&self, name: &str) -> Result<String> {
        Ok(self.sandbox.pid(name)?.to_string())
    }

    fn address(&self, name: &str, field: &str) -> Result<String> {
        let format = format!("{{{{range .NetworkSettings.Networks}}}}{{{{.{field}}}}}{{{{end}}}}");
        self.sandbox.ok(["inspect", "-f", &format, name])
    }
}

fn set_up(sandbox: &Sandbox) -> Result<Scene<'_>> {
    sandbox.load("busybox")?;
    let bed = Bed::new()?;
    let names = NameServer::start(&bed.resolver.pid(), "192.0.2.53")?;
    for options in [&["--ipv6=false", "four"][..], &["--internal", "closed"], &["mine"]] {
        sandbox.ok([&["network", "create"], options].concat())?;
    }
    let dns = ["--dns", "192.0.2.53"];
    let web = ["-p", "8080:80", "-p", "127.0.0.1:8081:80", "-p", "8085:80"];
    for (name, options) in [
        ("web", &web[..]),
        ("victim", &["--network", "mine"][..]),
        ("gullible", &["--network", "mine"][..]),
        ("evil", &["--network", "mine"][..]),
        ("four", &["--network", "four"][..]),
        ("inside", &[&["--network", "closed"], &dns[..]].concat()[..]),
    ] {
        sandbox.detached(&[&["--name", name], options].concat(), SLEEP)?;
    }
    // The second host is what is only passed through to; its port is the one that is published here.
    bed.second.run("ip address add 198.51.100.77/32 dev lo")?;
    bed.neighbour.run("ip route add 198.51.100.77 via 192.0.2.1")?;
    host::succeed(Command::new("ip").args(["route", "add", "198.51.100.77", "via", "192.0.2.3"]))?;
    // The name server's machine is an attacker's: what is for 127.0.0.1 it sends to us.
    bed.resolver.run(
        "echo 1 >/proc/sys/net/ipv4/conf/all/route_localnet; ip address delete 127.0.0.1/8 dev lo
         ip route flush table local 127.0.0.0/8; ip route add 127.0.0.1/32 via 192.0.2.1 dev wire53 src 192.0.2.53",
    )?;
    let pid = |name: &str| Ok::<_, anyhow::Error>(sandbox.pid(name)?.to_string());
    let servers = vec![
        Server::start(&pid("web")?, 80, "web")?,
        Server::start(&pid("victim")?, 80, "victim")?,
        Server::start(&bed.second.pid(), 8080, "second")?,
        Server::start(&bed.neighbour.pid(), 8080, "neighbour")?,
    ];
    // One that believes what routers say, to see that the lie is told.
    within(&pid("gullible")?, || Ok(std::fs::write("/proc/sys/net/ipv6/conf/eth0/accept_ra", "2")?))?;
    within(&pid("evil")?, || {
        host::succeed(Command::new("ip").args(["address", "add", "fe80::bad/64", "dev", "eth0", "nodad"]))
    })?;
    Ok(Scene { sandbox, bed, names, _servers: servers })
}

fn before_and_after_a_flush(sandbox: &Sandbox) -> Result<()> {
    if host::program("nft").is_none() {
        return skip("no nft");
    }
    let scene = set_up(sandbox)?;
    let rules = host::our_rules;
    let before = rules()?;
    let reload = sandbox.file("reload.nft", RELOAD)?;
    let mut healed = vec![];
    for (number, (when, words)) in [
        ("before", vec![]),
        ("after nft flush ruleset", vec!["flush", "ruleset"]),
        ("after a reload", vec!["-f", &reload]),
    ]
    .into_iter()
    .enumerate()
    {
        if !words.is_empty() {
            host::succeed(Command::new("nft").args(&words))?;
            let started = Instant::now();
            while TcpStream::connect("127.0.0.1:8080").is_err() {
                ensure!(started.elapsed() < sandbox.seconds(10), "the published port stays closed {when}");
                std::thread::sleep(Duration::from_micros(500));
            }
            healed.push(format!("{:.1}", started.elapsed().as_secs_f64() * 1e3));
            host::until("the rules are back", sandbox.seconds(10), || {
                Ok(rules().is_ok_and(|now| now == before).then_some(()))
            })?;
        }
        ways(&scene, number == 2)?.check(when)?;
        questions(&scene).context(when)?;
        lies(&scene, number).context(when)?;
        no_ipv6(&scene).context(when)?;
    }
    eprintln!("{}published ports were open again after {} ms", crate::runner::NOTE, healed.join(" and "));
    Ok(())
}

/// CVE-2025-54388, CVE-2025-54410 (isolation and loopback ports after a reload), CVE-2025-67499 (what passes through), ports on
/// 127.0.0.1 for neighbours (moby before 28.0), ports past the host's firewall (moby#22054), and the client's address.
fn ways(scene: &Scene<'_>, is_denied: bool) -> Result<Ways> {
    let Scene { bed, .. } = scene;
    let (neighbour, attacker) = (bed.neighbour.pid(), bed.resolver.pid());
    let (victim, four, inside) = (scene.pid("victim")?, scene.pid("four")?, scene.pid("inside")?);
    let mut ways = Ways::default();
    for (here, client, field) in
        [("192.0.2.1", "192.0.2.2", "IPAddress"), ("[2001:db8::1]", "2001:db8::2", "GlobalIPv6Address")]
    {
        ways.open("neighbour", &neighbour, format!("{here}:8080"), format!("web sees {client}"));
        match is_denied {
            true => ways.closed("neighbour", &neighbour, format!("{here}:8085")),
            false => ways.open("neighbour", &neighbour, format!("{here}:8085"), format!("web sees {client}")),
        }
        ways.closed("neighbour", &neighbour, format!("{here}:8081"));
        let bare = |name: &str| -> Result<String> {
            let address = scene.address(name, field)?;
            Ok(if address.contains(':') { format!("[{address}]:80") } else { format!("{address}:80") })
        };
        // Networks do not reach each other.
        ways.closed("victim", &victim, bare("web")?);
        ways.closed("inside", &inside, bare("victim")?);
        ways.closed("inside", &inside, format!("{here}:8081"));
    }
    ways.closed("four", &four, format!("{}:80", scene.address("victim", "IPAddress")?));
    ways.closed("attacker", &attacker, "127.0.0.1:8081");
    ways.closed("attacker", &attacker, "127.0.0.1:8080");
    ways.closed("victim", &victim, "192.0.2.1:8081");
    // Only what is for this host is translated.
    ways.open("neighbour", &neighbour, "198.51.100.77:8080", "second sees 192.0.2.2");
    ways.open("victim", &victim, "192.0.2.2:8080", "neighbour sees 192.0.2.1");
    Ok(ways)
}

/// CVE-2024-29018: no question leaves an internal network.
fn questions(scene: &Scene<'_>) -> Result<()> {
    let inside = scene.pid("inside")?;
    same!(look_up(&inside, "127.0.0.11", "secret.example.com", A, How::Datagram)?.code, NO_SUCH_NAME);
    same!(look_up(&inside, "127.0.0.11", "secret.example.com", A, How::Stream)?.code, NO_SUCH_NAME);
    ensure!(look_up(&inside, "192.0.2.53", "secret.example.com", A, How::Stream).is_err(), "the way out is open");
    same!(scene.names.asked(), Vec::<String>::new());
    Ok(())
}

/// CVE-2020-10749, CVE-2020-13401: a container says that it is everybody's router.
fn lies(scene: &Scene<'_>, number: usize) -> Result<()> {
    let prefix = format!("2001:db8:bad{number}:");
    let lie = || advertise(&scene.pid("evil")?, &format!("{prefix}:"));
    let addresses = |pid: &str| within(pid, || host::succeed(Command::new("ip").args(["-6", "address"])));
    let gullible = scene.pid("gullible")?;
    host::until("who believes it has the prefix", scene.sandbox.seconds(10), || {
        lie()?;
        Ok(addresses(&gullible)?.contains(&prefix).then_some(()))
    })?;
    for who in [scene.pid("victim")?, scene.pid("evil")?, "self".to_owned()] {
        let (own, routes) =
            (addresses(&who)?, within(&who, || host::succeed(Command::new("ip").args(["-6", "route"])))?);
        ensure!(
            !own.contains(&prefix) && !routes.contains("fe80::bad"),
            "{who} believes the container: {own}\n{routes}"
        );
    }
    Ok(())
}

/// Sends a router advertisement with a prefix for addresses (RFC 4861, 4.2 and 4.6.2) from a container to its network.
fn advertise(pid: &str, prefix: &str) -> Result<()> {
    let mut message = vec![134, 0, 0, 0, 64, 0, 0x07, 0x08, 0, 0, 0, 0, 0, 0, 0, 0];
    message.extend([3, 4, 64, 0xc0, 0, 1, 0x51, 0x80, 0, 1, 0x51, 0x80, 0, 0, 0, 0]);
    message.extend(prefix.parse::<Ipv6Addr>()?.octets());
    within(pid, || {
        let index: u32 = std::fs::read_to_string("/proc/thread-self/net/if_inet6")?
            .lines()
            .find(|line| line.ends_with("eth0"))
            .and_then(|line| u32::from_str_radix(line.split_whitespace().nth(1)?, 16).ok())
            .context("no eth0")?;
        let raw = socket(AddressFamily::INET6, SocketType::RAW, Some(ipproto::ICMPV6))?;
        bind(&raw, &SocketAddrV6::new("fe80::bad".parse()?, 0, 0, index))?;
        sockopt::set_ipv6_multicast_hops(&raw, 255)?;
        let everybody = SocketAddrV6::new("ff02::1".parse()?, 0, 0, index);
        sendto(&raw, &message, SendFlags::empty(), &everybody)?;
        Ok(())
    })
}

/// CVE-2024-32473: a network without IPv6 has none, not even between its containers.
fn no_ipv6(scene: &Scene<'_>) -> Result<()> {
    let own = within(&scene.pid("four")?, || Ok(std::fs::read_to_string("/proc/thread-self/net/if_inet6")?))?;
    ensure!(!own.contains("eth0"), "{own}");
    let id = scene.sandbox.ok(["network", "inspect", "-f", "{{.Id}}", "four"])?;
    let bridge = format!("dhow{}", &id[..11]);
    contains!(host::succeed(Command::new("ip").args(["-o", "link", "show", &bridge]))?, bridge);
    same!(host::succeed(Command::new("ip").args(["-6", "-o", "address", "show", "dev", &bridge]))?, "");
    Ok(())
}
