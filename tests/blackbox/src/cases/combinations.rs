//! Every kind of network, tried by real packets over IPv4 and IPv6: who reaches whom, and as whom. The table of combinations in
//! docs/networks.md says which test tries what.

use anyhow::{Context, Result};
use serde_json::Value;

use super::networks::Resolver;
use crate::bed::names::{A, AAAA, How, NO_SUCH_NAME, NameServer, OK, Reply, look_up};
use crate::bed::{Bed, Server, Ways};
use crate::case::{cases, contains, same};
use crate::host;
use crate::sandbox::Sandbox;

cases![combinations:
    kinds [Root], ways_out [Root], published [Root], macvlan [Root], ipvlan [Root], names [Root],
    the_host_by_name [Root], sctp [Root],
];

/// Longer than any test, also on an emulated processor.
const SLEEP: &str = "exec sleep 100000";
/// Of the neighbour, the second host, and the world behind the neighbour.
const OTHERS: [[&str; 3]; 2] =
    [["192.0.2.2", "192.0.2.3", "198.51.100.9"], ["2001:db8::2", "2001:db8::3", "2001:db8:9::9"]];
/// Of this host.
const HERE: [&str; 2] = ["192.0.2.1", "2001:db8::1"];

/// Address and port, as one writes them.
fn at(address: &str, port: u16) -> String {
    if address.contains(':') { format!("[{address}]:{port}") } else { format!("{address}:{port}") }
}

/// A container that runs.
struct Running {
    name: String,
    pid: String,
    /// IPv4 and IPv6 on its networks, by their names; empty where it has none.
    addresses: Vec<(String, [String; 2])>,
}

impl Running {
    fn run(sandbox: &Sandbox, name: &str, options: &[&str]) -> Result<Running> {
        sandbox.detached(&[&["--name", name], options].concat(), SLEEP)?;
        Running::of(sandbox, name)
    }

    fn of(sandbox: &Sandbox, name: &str) -> Result<Running> {
        let inspected = sandbox.inspect(name)?;
        let networks = inspected["NetworkSettings"]["Networks"].as_object().cloned().unwrap_or_default();
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let addresses = networks
            .iter()
            .map(|(network, place)| (network.clone(), [text(&place["IPAddress"]), text(&place["GlobalIPv6Address"])]));
        Ok(Running {
            name: name.to_owned(),
            pid: inspected["State"]["Pid"].to_string(),
            addresses: addresses.collect(),
        })
    }

    /// Its address on a network, or on the only one.
    fn on(&self, network: &str, family: usize) -> &str {
        let found = self.addresses.iter().find(|(name, _)| name == network || network.is_empty());
        found.map_or("", |(_, both)| &both[family])
    }

    fn serve(&self) -> Result<Server> {
        Server::start(&self.pid, 80, &self.name)
    }
}

/// Default bridge, bridges of one's own with both families and with each alone, internal, attachable, host, none, another's.
fn kinds(sandbox: &Sandbox) -> Result<()> {
    sandbox.load("busybox")?;
    let bed = Bed::new()?;
    for options in [
        &["mine"][..],
        &["--ipv6=false", "four"],
        &["--ipv4=false", "--ipv6", "six"],
        &["--internal", "closed"],
        &["--attachable", "open"],
    ] {
        sandbox.ok([&["network", "create"], options].concat())?;
    }
    same!(sandbox.ok(["network", "inspect", "-f", "{{.Attachable}}", "open", "mine"])?, "true\nfalse");
    let run = |name: &str, options: &[&str]| Running::run(sandbox, name, options);
    let out = [
        run("default", &[])?,
        run("own", &["--network", "mine", "-p", "8080:80"])?,
        run("four-only", &["--network", "four"])?,
        run("six-only", &["--network", "six"])?,
        run("attached", &["--network", "open"])?,
    ];
    let closed = run("inside", &["--network", "closed"])?;
    let none = run("alone", &["--network", "none"])?;
    let on_host = run("at-host", &["--network", "host"])?;
    let id = sandbox.inspect("own")?["Id"].as_str().context("no id")?.to_owned();
    let guest = run("guest", &["--network", &format!("container:{id}")])?;
    let beside: Vec<Running> = [("mine", "own2"), ("closed", "inside2"), ("four", "four2"), ("six", "six2")]
        .into_iter()
        .map(|(network, name)| run(name, &["--network", network]))
        .collect::<Result<_>>()?;
    let (neighbour, second) = (bed.neighbour.pid(), bed.second.pid());
    let mut servers = vec![
        Server::start(&neighbour, 7000, "neighbour")?,
        Server::start(&second, 7000, "second")?,
        // The guest's and the host container's servers are in others' networks.
        Server::start(&guest.pid, 80, "guest")?,
        Server::start(&on_host.pid, 81, "at-host")?,
    ];
    for each in out.iter().filter(|each| each.name != "own").chain([&closed]) {
        servers.push(each.serve()?);
    }
    let mut ways = Ways::default();
    for family in [0, 1] {
        let here = HERE[family];
        for each in out.iter().filter(|each| !each.on("", family).is_empty()) {
            let (name, pid) = (&each.name, &each.pid);
            out_and_in(each, family, &mut ways)?;
            // Networks do not reach each other.
            for other in out.iter().filter(|other| other.name != each.name && !other.on("", family).is_empty()) {
                ways.closed(name, pid, at(other.on("", family), 80));
            }
            ways.closed(name, pid, at(closed.on("", family), 80));
            ways.closed(&closed.name, &closed.pid, at(each.on("", family), 80));
        }
        for (one, of) in beside.iter().zip([&out[1], &closed, &out[2], &out[3]]) {
            next_to(one, of, family, &mut ways);
        }
        for to in OTHERS[family] {
            ways.closed(&closed.name, &closed.pid, at(to, 7000));
            ways.closed(&none.name, &none.pid, at(to, 7000));
        }
        // The host's network is the host's; a guest has its owner's ports.
        ways.open("neighbour", &neighbour, at(here, 81), format!("at-host sees {}", OTHERS[family][0]));
        ways.open(&on_host.name, &on_host.pid, at(OTHERS[family][0], 7000), format!("neighbour sees {here}"));
        ways.open("second", &second, at(here, 8080), format!("guest sees {}", OTHERS[family][1]));
        ways.closed("neighbour", &neighbour, at(here, 80));
    }
    same!((out[2].on("", 1), out[3].on("", 0), &out[0].on("", 1)[..2]), ("", "", "fd"));
    ways.check("kinds of networks")
}

/// From a bridge out to the LAN, another host, the world behind, as this host; and in from here.
fn out_and_in(each: &Running, family: usize, ways: &mut Ways) -> Result<()> {
    let (name, pid, here) = (&each.name, &each.pid, HERE[family]);
    for (to, who) in OTHERS[family].iter().zip(["neighbour", "second", "neighbour"]) {
        ways.open(name, pid, at(to, 7000), format!("{who} sees {here}"));
    }
    ways.open_to_datagrams(name, pid, at(OTHERS[family][0], 7000), format!("neighbour sees {here}"));
    let server = if name == "own" { "guest" } else { name };
    let answer = crate::bed::ask("self", &at(each.on("", family), 80))?.unwrap_or_default();
    contains!(answer, format!("{server} sees "));
    Ok(())
}

/// Two containers on one network.
fn next_to(one: &Running, of: &Running, family: usize, ways: &mut Ways) {
    let server = if of.name == "own" { "guest" } else { &of.name };
    if !of.on("", family).is_empty() {
        let answer = format!("{server} sees {}", one.on("", family));
        ways.open(&one.name, &one.pid, at(of.on("", family), 80), answer.clone());
        ways.open_to_datagrams(&one.name, &one.pid, at(of.on("", family), 80), answer);
    }
}

/// Several networks with priorities, addresses and hardware addresses of one's own choice, sizes of packets.
fn ways_out(sandbox: &Sandbox) -> Result<()> {
    sandbox.load("busybox")?;
    let bed = Bed::new()?;
    // Routed, so that the neighbour sees by which network a packet came.
    let mode = |family: &str| format!("com.docker.network.bridge.gateway_mode_ipv{family}=routed");
    let (mode4, mode6) = (mode("4"), mode("6"));
    for (name, number, mtu) in [("aaa", 71, "1500"), ("mmm", 72, "1400"), ("zzz", 73, "9000")] {
        let (four, six) = (format!("10.{number}.0.0/24"), format!("fd{number}::/64"));
        let mtu = format!("com.docker.network.driver.mtu={mtu}");
        sandbox.ok([
            "network", "create", "-o", &mode4, "-o", &mode6, "-o", &mtu, "--subnet", &four, "--subnet", &six, name,
        ])?;
        bed.neighbour.run(&format!("ip route add {four} via 192.0.2.1; ip route add {six} via 2001:db8::1"))?;
    }
    let place = "name=mmm,ip=10.72.0.9,ip6=fd72::9,mac-address=02:00:00:00:72:09,alias=db";
    let several = Running::run(
        sandbox,
        "several",
        &["--network", "aaa", "--network", place, "--network", "name=zzz,gw-priority=5"],
    )?;
    let peer = Running::run(sandbox, "peer", &["--network", "mmm"])?;
    let _servers = (Server::start(&bed.neighbour.pid(), 7000, "neighbour")?, several.serve()?);
    let leaves_by = |network: &str, when: &str| {
        let mut ways = Ways::default();
        for family in [0, 1] {
            let answer = format!("neighbour sees {}", several.on(network, family));
            ways.open("several", &several.pid, at(OTHERS[family][0], 7000), answer.clone());
            ways.open_to_datagrams("several", &several.pid, at(OTHERS[family][0], 7000), answer);
            ways.open(
                "peer",
                &peer.pid,
                at(several.on("mmm", family), 80),
                format!("several sees {}", peer.on("mmm", family)),
            );
        }
        ways.check(when)
    };
    leaves_by("zzz", "the highest priority")?;
    same!((several.on("mmm", 0), several.on("mmm", 1)), ("10.72.0.9", "fd72::9"));
    for address in ["10.72.0.9", "fd72::9"] {
        let seen = sandbox.ok(["exec", "peer", "ip", "neigh", "show", address])?;
        contains!(seen, "02:00:00:00:72:09");
    }
    for family in ["-4", "-6"] {
        sandbox.ok(["exec", "peer", "ping", family, "-c", "1", "-W", "2", "db"])?;
    }
    sizes(&several, &peer)?;
    sandbox.ok(["network", "disconnect", "zzz", "several"])?;
    leaves_by("aaa", "the first name, when the highest is left")?;
    sandbox.ok(["network", "connect", "--gw-priority", "9", "zzz", "several"]).map(drop)
}

/// Packets of the network's size pass in one piece, larger ones do not.
fn sizes(several: &Running, peer: &Running) -> Result<()> {
    if host::program("ping").is_none() {
        return Ok(());
    }
    let ping = |to: &str, size: u32| {
        let words =
            ["--net", "--target", &peer.pid, "ping", "-M", "do", "-c", "1", "-W", "2", "-s", &size.to_string(), to];
        host::succeed(std::process::Command::new("nsenter").args(words)).is_ok()
    };
    // Headers of IPv4 or IPv6 and of ICMP.
    for (family, headers) in [(0, 28), (1, 48)] {
        let to = several.on("mmm", family);
        same!((ping(to, 1400 - headers), ping(to, 1401 - headers)), (true, false), "{to}");
    }
    Ok(())
}

/// Ports: on all addresses, on one, on loopback, ranges, chosen by the kernel; TCP and UDP; with the client's address.
fn published(sandbox: &Sandbox) -> Result<()> {
    sandbox.load("busybox")?;
    let bed = Bed::new()?;
    host::succeed(
        std::process::Command::new("sh")
            .args(["-c", "ip address add 192.0.2.100/24 dev wire1; ip address add 2001:db8::100/64 dev wire1 nodad"]),
    )?;
    sandbox.ok(["network", "create", "mine"])?;
    let ports = "-p 8001:80 -p 8001:80/udp -p 192.0.2.100:8002:80 -p [2001:db8::100]:8003:80 -p [2001:db8::100]:8003:80/udp \
                 -p 127.0.0.1:8004:80 -p 8010-8012:80-82 -p 0.0.0.0:8005:80 -p [::]:8006:80";
    let ports: Vec<&str> = ports.split_whitespace().collect();
    let web = Running::run(sandbox, "web", &ports)?;
    let any = Running::run(sandbox, "any", &["--network", "mine", "-P", "--expose", "80-81", "--expose", "80/udp"])?;
    let _servers =
        (web.serve()?, Server::start(&web.pid, 82, "web82")?, any.serve()?, Server::start(&any.pid, 81, "any81")?);
    let chosen = |port: &str| -> Result<u16> {
        let text = sandbox.ok(["port", "any", port])?;
        Ok(text.lines().next().and_then(|line| line.rsplit(':').next()).context("no port")?.parse()?)
    };
    let (tcp80, tcp81, udp80) = (chosen("80/tcp")?, chosen("81/tcp")?, chosen("80/udp")?);
    let mut ways = Ways::default();
    for (who, machine, number) in [("neighbour", &bed.neighbour, 0), ("second", &bed.second, 1)] {
        let pid = &machine.pid();
        for family in [0, 1] {
            let client = OTHERS[family][number];
            let other = ["192.0.2.100", "2001:db8::100"][family];
            let mut open = |to: String, server: &str| ways.open(who, pid, to, format!("{server} sees {client}"));
            for address in [HERE[family], other] {
                open(at(address, 8001), "web");
                open(at(address, 8010), "web");
                open(at(address, 8012), "web82");
                open(at(address, tcp80), "any");
                open(at(address, tcp81), "any81");
                open(at(address, [8005, 8006][family]), "web");
            }
            open(at(other, [8002, 8003][family]), "web");
            for (address, port, server) in
                [(HERE[family], 8001, "web"), (other, 8001, "web"), (HERE[family], udp80, "any")]
            {
                ways.open_to_datagrams(who, pid, at(address, port), format!("{server} sees {client}"));
            }
            for (address, port) in [(HERE[family], [8002, 8003][family]), (HERE[family], 8004), (other, 8004)] {
                ways.closed(who, pid, at(address, port));
            }
            // Of the other family, and none at all.
            ways.closed(who, pid, at(HERE[family], [8006, 8005][family]));
            ways.closed(who, pid, at(HERE[family], 8013));
        }
        ways.open_to_datagrams(who, pid, "[2001:db8::100]:8003", format!("web sees {}", OTHERS[1][number]));
    }
    ways.check("published ports")?;
    // This host, by its loopback and its own addresses, and a container of another network by the host's address.
    for to in [
        "127.0.0.1:8001",
        "127.0.0.1:8004",
        "192.0.2.1:8001",
        "192.0.2.100:8002",
        "[2001:db8::1]:8001",
        "[2001:db8::100]:8003",
    ] {
        contains!(crate::bed::ask("self", to)?.unwrap_or_default(), "web sees ");
    }
    let mut ways = Ways::default();
    for family in [0, 1] {
        ways.open("any", &any.pid, at(HERE[family], 8001), format!("web sees {}", any.on("mine", family)));
    }
    ways.closed("any", &any.pid, "192.0.2.1:8004");
    ways.check("from another network")
}

/// A mode of a driver, and whether two containers on one device reach each other in it.
type Mode = (&'static str, &'static str, bool);

/// macvlan in all modes, on this host and on the second one, which has an engine of its own.
fn macvlan(sandbox: &Sandbox) -> Result<()> {
    devices(
        sandbox,
        &[
            ("macvlan", "macvlan_mode=bridge", true),
            ("macvlan", "macvlan_mode=private", false),
            // The switch does not send back by the port that a packet came from.
            ("macvlan", "macvlan_mode=vepa", false),
            ("macvlan", "macvlan_mode=passthru", false),
        ],
    )
}

/// ipvlan in all modes.
fn ipvlan(sandbox: &Sandbox) -> Result<()> {
    devices(
        sandbox,
        &[("ipvlan", "ipvlan_mode=l2", true), ("ipvlan", "ipvlan_mode=l3", true), ("ipvlan", "ipvlan_mode=l3s", true)],
    )
}

/// Tries these modes, one after the other; skipped where the kernel has none of them.
fn devices(sandbox: &Sandbox, modes: &[Mode]) -> Result<()> {
    sandbox.load("busybox")?;
    let bed = Bed::new()?;
    let _server = Server::start(&bed.neighbour.pid(), 7000, "neighbour")?;
    bed.neighbour.run("ip route add 10.99.0.0/24 via 192.0.2.1; ip route add fd99::/64 via 2001:db8::1")?;
    let mut missing = vec![];
    for (driver, mode, together) in modes {
        // On the LAN's own ranges, or on ranges behind this host.
        let (four, six) =
            if mode.contains("l3") { ("10.99.0.0/24", "fd99::/64") } else { ("192.0.2.0/24", "2001:db8::/64") };
        let further: &[&str] =
            if mode.contains("l3") { &[] } else { &["--ip-range", "192.0.2.64/26", "--gateway", "192.0.2.2"] };
        let options = ["network", "create", "-d", driver, "-o", "parent=wire1", "-o", mode, "--subnet", four];
        sandbox.ok([&options[..], further, &["--subnet", six, "lan"]].concat())?;
        if !device(sandbox, &bed, mode, *together).with_context(|| (*mode).to_owned())? {
            missing.push(*mode);
        }
        sandbox.ok(["rm", "-f", "one", "two"])?;
        sandbox.ok(["network", "rm", "lan"])?;
    }
    match missing.as_slice() {
        [] => {}
        all if all.len() == modes.len() => return crate::case::skip(format!("the kernel has no {}", modes[0].0)),
        some => eprintln!("{}not on this kernel: {}", crate::runner::NOTE, some.join(", ")),
    }
    Ok(())
}

/// The network `lan` with two containers, which reach each other or not; whether the kernel has such devices.
fn device(sandbox: &Sandbox, bed: &Bed, mode: &str, together: bool) -> Result<bool> {
    let prefix = if mode.contains("l3") { "fd99" } else { "2001:db8" };
    let place = |last: &str| format!("name=lan,ip6={prefix}::{last}");
    let first = host::until("the mode before is gone", sandbox.seconds(30), || {
        let run = ["run", "-d", "--name", "one", "--network", &place("a1"), "busybox", "sleep", "100000"];
        let first = sandbox.dhow(run)?;
        let is_taken = ["EBUSY", "EINVAL", "already in use"].iter().any(|said| first.stderr.contains(said));
        if is_taken {
            sandbox.ok(["rm", "-f", "one"])?;
        }
        Ok((!is_taken).then_some(first))
    })?;
    if first.stderr.contains("EOPNOTSUPP") {
        return Ok(false);
    }
    first.success()?;
    let one = Running::of(sandbox, "one")?;
    // A device that is passed through has one container.
    let two =
        (!mode.contains("passthru")).then(|| Running::run(sandbox, "two", &["--network", &place("a2")])).transpose()?;
    let _servers = (one.serve()?, two.as_ref().map(Running::serve).transpose()?);
    let mut ways = Ways::default();
    for family in [0, 1] {
        let (own, lan) = (one.on("lan", family), OTHERS[family][0]);
        ways.open("one", &one.pid, at(lan, 7000), format!("neighbour sees {own}"));
        ways.open_to_datagrams("one", &one.pid, at(lan, 7000), format!("neighbour sees {own}"));
        ways.open("neighbour", &bed.neighbour.pid(), at(own, 80), format!("one sees {lan}"));
        let Some(two) = &two else { continue };
        if together {
            ways.open("two", &two.pid, at(own, 80), format!("one sees {}", two.on("lan", family)));
        } else {
            ways.closed("two", &two.pid, at(own, 80));
        }
    }
    ways.check(mode)?;
    if mode == "macvlan_mode=bridge" {
        across_hosts(sandbox, bed, &one)?;
    }
    Ok(true)
}

/// A container of the second host's engine, on the same LAN by macvlan, and one with a published port there.
fn across_hosts(sandbox: &Sandbox, bed: &Bed, here: &Running) -> Result<()> {
    let second = |words: &[&str]| {
        let mut command = std::process::Command::new("nsenter");
        command.arg(format!("--net=/proc/{}/ns/net", bed.second.pid()));
        command.arg(std::env::var_os("DHOW_BIN").context("DHOW_BIN")?);
        command.arg("--root").arg(sandbox.path("files/data2")).arg("--run-dir").arg(sandbox.path("files/run2"));
        command.args(words);
        sandbox.finish_command(command, "")?.success()
    };
    second(&["load", "-i", &sandbox.archive("busybox", "oci")?])?;
    let ranges = ["--subnet", "192.0.2.0/24", "--subnet", "2001:db8::/64", "--ip-range", "192.0.2.128/26"];
    second(
        &[
            &["network", "create", "-d", "macvlan", "-o", "parent=wire3"],
            &ranges[..],
            &["--gateway", "192.0.2.2", "lan"],
        ]
        .concat(),
    )?;
    let place = "name=lan,ip6=2001:db8::b1";
    second(&["run", "-d", "--name", "there", "--network", place, "busybox", "sleep", "100000"])?;
    second(&["run", "-d", "--name", "web", "-p", "8080:80", "busybox", "sleep", "100000"])?;
    let pids = second(&["inspect", "-f", "{{.State.Pid}}", "there", "web"])?;
    let (there, web) = pids.split_once('\n').context("two pids")?;
    let servers = (Server::start(there, 80, "there")?, Server::start(web, 80, "web")?);
    // From a bridge of the first host to a published port of the second, and both ways between the LAN's own addresses.
    let bridged = Running::run(sandbox, "bridged", &[])?;
    let mut ways = Ways::default();
    for family in [0, 1] {
        let far = ["192.0.2.128", "2001:db8::b1"][family];
        ways.open("one", &here.pid, at(far, 80), format!("there sees {}", here.on("lan", family)));
        ways.open("there", there, at(here.on("lan", family), 80), format!("one sees {far}"));
        ways.open("bridged", &bridged.pid, at(OTHERS[family][1], 8080), format!("web sees {}", HERE[family]));
        ways.open("bridged", &bridged.pid, at(far, 80), format!("there sees {}", HERE[family]));
        ways.open("one", &here.pid, at(OTHERS[family][1], 8080), format!("web sees {}", here.on("lan", family)));
    }
    ways.check("two hosts")?;
    drop(servers);
    second(&["rm", "-f", "there", "web"])?;
    sandbox.ok(["rm", "-f", "bridged"]).map(drop)
}

/// Names of the world, by a name server on the LAN; what is asked by whom, and what is not.
fn names(sandbox: &Sandbox) -> Result<()> {
    sandbox.load("busybox")?;
    let bed = Bed::new()?;
    let server = NameServer::start(&bed.resolver.pid(), "192.0.2.53")?;
    // Whom the names mean.
    bed.neighbour.run("ip address add 203.0.113.7/32 dev lo")?;
    // The first one is not there: all are asked at once.
    let text = "nameserver 192.0.2.54\nnameserver 192.0.2.53\nsearch example.com\n";
    let _resolver = Resolver::new(sandbox, text)?;
    sandbox.ok(["network", "create", "mine"])?;
    sandbox.ok(["network", "create", "--internal", "closed"])?;
    let own = Running::run(sandbox, "own", &["--network", "mine"])?;
    let reply = |code, is_cut, answers| Reply { code, is_cut, answers };
    for (name, kind, how, wanted) in [
        ("www.example.com", A, How::Datagram, reply(OK, false, 1)),
        ("www.example.com", A, How::Stream, reply(OK, false, 1)),
        ("www.example.com", A, How::Edns, reply(OK, false, 1)),
        ("six.example.com", AAAA, How::Datagram, reply(OK, false, 1)),
        // No data is not "no such name".
        ("www.example.com", AAAA, How::Datagram, reply(OK, false, 0)),
        ("nothing.example.com", A, How::Datagram, reply(NO_SUCH_NAME, false, 0)),
        // What does not fit comes by TCP.
        ("big.example.com", A, How::Datagram, reply(OK, true, 0)),
        ("big.example.com", A, How::Stream, reply(OK, false, 60)),
        ("own", A, How::Datagram, reply(OK, false, 1)),
        ("own", AAAA, How::Stream, reply(OK, false, 1)),
    ] {
        same!(look_up(&own.pid, "127.0.0.11", name, kind, how)?, wanted, "{name} {kind} {how:?}");
    }
    contains!(server.asked().join(" "), "www.example.com");
    // Nothing of ours is asked of others, and nothing leaves a network that is closed (CVE-2024-29018).
    let closed = Running::run(sandbox, "inside", &["--network", "closed"])?;
    let before = server.asked().len();
    for name in ["own", "www.example.com", "2.0.18.172.in-addr.arpa"] {
        let code = look_up(&closed.pid, "127.0.0.11", name, A, How::Datagram)?.code;
        same!(code, NO_SUCH_NAME, "{name}");
    }
    same!(look_up(&own.pid, "127.0.0.11", "own.mine", A, How::Datagram)?, reply(OK, false, 1));
    same!(server.asked().len(), before, "{:?}", server.asked());
    // The flags, on every kind of network that has a resolv.conf of its own.
    let flags = ["--dns", "192.0.2.53", "--dns-search", "example.com", "--dns-option", "timeout:3"];
    let script = "ping -4 -c 1 -W 1 www 2>&1; cat /etc/resolv.conf";
    for network in ["mine", "bridge", "host", "container:own"] {
        let options: &[&str] = if network.starts_with("container:") { &[] } else { &flags };
        let text = sandbox.busybox(&[&["--network", network], options].concat(), script)?;
        contains!(text, "203.0.113.7");
        contains!(text, "search example.com");
    }
    let text = sandbox.busybox(&[&["--network", "none"], &flags[..]].concat(), "cat /etc/resolv.conf")?;
    contains!(text, "timeout:3");
    Ok(())
}

/// `host.docker.internal` and `host-gateway`: a server of the host is reached by them from every network that can reach the host.
fn the_host_by_name(sandbox: &Sandbox) -> Result<()> {
    sandbox.load("busybox")?;
    let bed = Bed::new()?;
    sandbox.ok(["network", "create", "mine"])?;
    sandbox.ok(["network", "create", "--internal", "closed"])?;
    sandbox.ok(["network", "create", "--ipv4=false", "--ipv6", "six"])?;
    let macvlan = ["-d", "macvlan", "-o", "parent=wire1", "--subnet", "192.0.2.0/24", "--ip-range", "192.0.2.64/26"];
    sandbox.ok([&["network", "create"], &macvlan[..], &["--gateway", "192.0.2.2", "lan"]].concat())?;
    let _server = Server::start("self", 7000, "this host")?;
    Running::run(sandbox, "owner", &["--network", "mine", "--add-host", "me:host-gateway"])?;
    // The host's loopback is the host's alone.
    let local = Server::start_at("self", [127, 0, 0, 1].into(), 7001, "loopback")?;
    let script = "for name in host.docker.internal me; do nc -w 2 $name 7000 </dev/null; nc -w 2 $name 7001 </dev/null; done; cat /etc/hosts";
    for network in ["bridge", "mine", "closed", "six", "host", "container:owner"] {
        let own: &[&str] = if network.starts_with("container:") { &[] } else { &["--add-host", "me:host-gateway"] };
        let text = sandbox.busybox(&[&["--network", network], own].concat(), script)?;
        same!(text.matches("this host sees").count(), 2, "{network}: {text}");
        same!(text.contains("loopback sees"), network == "host", "{network}: {text}");
    }
    drop(local);
    // A device's gateway is another machine; the host has its own address there, which the kernel keeps from its own macvlan.
    let text = sandbox.busybox(&["--network", "lan"], "cat /etc/hosts; nslookup -type=a host.docker.internal")?;
    contains!(text, "192.0.2.1\thost.docker.internal");
    same!(text.contains("192.0.2.2\t"), false, "{text}");
    // With a bridge beside it, the bridge's gateway.
    let both =
        sandbox.busybox(&["--network", "lan", "--network", "mine"], "nc -w 2 host.docker.internal 7000 </dev/null")?;
    contains!(both, "this host sees");
    let none = sandbox.busybox(&["--network", "none"], "cat /etc/hosts")?;
    same!(none.contains("host.docker"), false, "{none}");
    drop(bed);
    Ok(())
}

/// A socket of SCTP, of the kind that is used as one of TCP.
fn association(ipv6: bool) -> rustix::io::Result<std::os::fd::OwnedFd> {
    use rustix::net::{AddressFamily, SocketType, ipproto, socket};
    let family = if ipv6 { AddressFamily::INET6 } else { AddressFamily::INET };
    socket(family, SocketType::STREAM, Some(ipproto::SCTP))
}

/// A published port of SCTP, from the LAN and from this host.
fn sctp(sandbox: &Sandbox) -> Result<()> {
    use rustix::net::{RecvFlags, SendFlags, accept, bind, connect, listen, recv, send};
    sandbox.load("busybox")?;
    if association(false).is_err() {
        let refused = sandbox.dhow(["run", "--rm", "-p", "9000:80/sctp", "busybox", "true"])?;
        refused.fails(125, &["the kernel does not have the protocol"])?;
        return crate::case::skip("the kernel has no SCTP");
    }
    let bed = Bed::new()?;
    let web = Running::run(sandbox, "web", &["-p", "9000:80/sctp"])?;
    let patient = |socket: &std::os::fd::OwnedFd| {
        use rustix::net::sockopt::{Timeout, set_socket_timeout};
        set_socket_timeout(socket, Timeout::Recv, Some(sandbox.seconds(5)))
    };
    for (family, from) in [(0, bed.neighbour.pid()), (1, bed.neighbour.pid()), (0, "self".to_owned())] {
        let ipv6 = family == 1;
        let any: std::net::IpAddr = if ipv6 { [0; 16].into() } else { [0; 4].into() };
        let server = crate::bed::within(&web.pid, || {
            let socket = association(ipv6)?;
            rustix::net::sockopt::set_socket_reuseaddr(&socket, true)?;
            patient(&socket)?;
            bind(&socket, &std::net::SocketAddr::new(any, 80))?;
            listen(&socket, 1)?;
            Ok(socket)
        })?;
        let said = std::thread::scope(|scope| -> Result<Vec<u8>> {
            let answering = scope.spawn(|| send(accept(&server)?, b"here", SendFlags::empty()));
            let answer = crate::bed::within(&from, || {
                let socket = association(ipv6)?;
                patient(&socket)?;
                connect(&socket, &std::net::SocketAddr::new(HERE[family].parse()?, 9000))?;
                let mut bytes = [0; 16];
                let (length, _) = recv(&socket, &mut bytes[..], RecvFlags::empty())?;
                Ok(bytes[..length].to_vec())
            })?;
            answering.join().map_err(|_| anyhow::anyhow!("a panic"))??;
            Ok(answer)
        });
        same!(said?, b"here", "{} from {from}", HERE[family]);
    }
    Ok(())
}
