//! Published ports, with a neighbour on the LAN of the machine that the test plays: who reaches what, from where, as whom.

use std::process::Command;

use anyhow::{Result, ensure};

use super::networks::Lan;
use crate::case::{cases, contains, same};
use crate::host;
use crate::sandbox::Sandbox;

cases![ports:
    everywhere [Root], loopback_only [Root], hosts_firewall_is_asked [Root], protocols [Root], ranges_and_choices [Root],
    clashes [Root], flush_is_put_right [Root], transit_is_left_alone [Root], follow_the_way_out [Root], hundreds [Root],
    watcher_ends [Root], xray [Root], router_advertisements [Root], killed_monitor [Root],
    restarts_keep_everything [Root], at_the_same_time [Root],
];

pub const SERVE: &str = "echo here >/index.html; exec httpd -f -vv -p 80 -h /";

/// The LAN: this machine is 192.0.2.1 and 2001:db8::1, the neighbour `.2` and `::2`.
pub fn lan() -> Result<Lan> {
    let lan = Lan::new()?;
    let ip = |words: &str| host::succeed(Command::new("ip").args(words.split(' ')));
    ip("link set lo up")?;
    ip("address add 192.0.2.1/24 dev wire0")?;
    ip("address add 2001:db8::1/64 dev wire0 nodad")?;
    lan.run("ip address add 192.0.2.2/24 dev wire1; ip address add 2001:db8::2/64 dev wire1 nodad")?;
    Ok(lan)
}

const GET: &str = "curl --silent --max-time 1 --noproxy '*'";

/// What an address serves to a machine; empty if nothing.
fn get(from: Option<&Lan>, address: &str) -> String {
    let script = format!("for i in 1 2; do {GET} http://{address}/ && exit; done; true");
    let command = &mut match from {
        Some(lan) => lan.command(&script),
        None => {
            let mut command = Command::new("sh");
            command.args(["-c", &script]);
            command
        }
    };
    host::succeed(command).unwrap_or_default().trim().to_owned()
}

pub fn has_curl() -> Result<()> {
    if host::program("curl").is_none() {
        return crate::case::skip("no curl for the neighbour");
    }
    Ok(())
}

fn everywhere(sandbox: &Sandbox) -> Result<()> {
    has_curl()?;
    sandbox.load("busybox")?;
    let lan = lan()?;
    sandbox.ok(["network", "create", "mine"])?;
    for (network, port) in [("bridge", 8080), ("mine", 8081)] {
        let publish = format!("{port}:80");
        let id = sandbox.detached(&["--network", network, "-p", &publish, "--name", network], SERVE)?;
        // From the neighbour, both families; the container sees who it is.
        same!(get(Some(&lan), &format!("192.0.2.1:{port}")), "here");
        same!(get(Some(&lan), &format!("[2001:db8::1]:{port}")), "here");
        sandbox.wait_for_log(&id, "192.0.2.2")?;
        sandbox.wait_for_log(&id, "2001:db8::2")?;
        // From this machine, by any of its addresses.
        for address in ["127.0.0.1", "192.0.2.1", "[2001:db8::1]"] {
            same!(get(None, &format!("{address}:{port}")), "here", "from the host to {address}");
        }
        // Not by ::1, which says so at once, so that who goes through the addresses of `localhost` goes on.
        let refused = std::net::TcpStream::connect(format!("[::1]:{port}")).map_err(|error| error.kind());
        same!(refused.err(), Some(std::io::ErrorKind::ConnectionRefused));
        // From the container itself, by the host's address.
        let own = ["exec", &id, "timeout", "2", "wget", "-q", "-O", "-"];
        same!(sandbox.ok([&own[..], &[&format!("http://192.0.2.1:{port}/")]].concat())?, "here");
        let template = "{{(index (index .NetworkSettings.Ports \"80/tcp\") 0).HostPort}}";
        same!(sandbox.ok(["inspect", "-f", template, &id])?, port.to_string());
        same!(sandbox.ok(["port", &id])?, format!("80/tcp -> 0.0.0.0:{port}\n80/tcp -> [::]:{port}"));
        same!(sandbox.ok(["port", &id, "80"])?, format!("0.0.0.0:{port}\n[::]:{port}"));
    }
    // From a container of another network.
    let script = "timeout 2 wget -q -O - http://192.0.2.1:8080/";
    same!(sandbox.busybox(&["--network", "mine"], script)?, "here");
    // Only the host's port leads in, not the container's own.
    let address = sandbox.ok(["inspect", "-f", "{{.NetworkSettings.IPAddress}}", "bridge"])?;
    lan.run("ip route add 10.88.0.0/16 via 192.0.2.1")?;
    same!(get(Some(&lan), &address), "");
    sandbox.ok(["rm", "-f", "bridge", "mine"])?;
    same!(get(Some(&lan), "192.0.2.1:8080"), "");
    same!(get(None, "127.0.0.1:8081"), "");
    Ok(())
}

/// moby before 28.0: what is published on 127.0.0.1 was open to neighbours.
fn loopback_only(sandbox: &Sandbox) -> Result<()> {
    has_curl()?;
    sandbox.load("busybox")?;
    let lan = lan()?;
    sandbox.detached(&["-p", "127.0.0.1:8080:80"], SERVE)?;
    same!(get(None, "127.0.0.1:8080"), "here");
    same!(get(None, "192.0.2.1:8080"), "");
    same!(get(Some(&lan), "192.0.2.1:8080"), "");
    // A neighbour that sends packets for 127.0.0.1 to us.
    lan.run(
        "echo 1 >/proc/sys/net/ipv4/conf/all/route_localnet; ip address delete 127.0.0.1/8 dev lo; ip route flush table local 127.0.0.0/8
         ip route add 127.0.0.1/32 via 192.0.2.1 dev wire1 src 192.0.2.2",
    )?;
    same!(get(Some(&lan), "127.0.0.1:8080"), "");
    let script = "timeout 2 wget -q -O - http://127.0.0.1:8080/ 2>&1; true";
    ensure!(!sandbox.busybox(&[], script)?.contains("here"), "a container reaches the host's loopback");
    sandbox.dhow(["run", "--rm", "-p", "[::1]:8081:80", "busybox", "true"])?.fails(125, &["::1", "127.0.0.1"])?;
    Ok(())
}

/// moby#22054: what the host's own input chain drops is dropped, unless somebody asks otherwise.
fn hosts_firewall_is_asked(sandbox: &Sandbox) -> Result<()> {
    has_curl()?;
    if host::program("nft").is_none() {
        return crate::case::skip("no nft to play the host's firewall");
    }
    sandbox.load("busybox")?;
    let lan = lan()?;
    sandbox.ok(["network", "create", "-o", "dhow.bypass_firewall=true", "open"])?;
    sandbox.detached(&["-p", "8080:80"], SERVE)?;
    sandbox.detached(&["--network", "open", "-p", "8081:80"], SERVE)?;
    same!(get(Some(&lan), "192.0.2.1:8080"), "here");
    let rules = "add table inet own; add chain inet own input { type filter hook input priority 0; policy drop; }
        add rule inet own input iifname lo accept; add rule inet own input meta l4proto ipv6-icmp accept";
    let nft = |words: &str| host::succeed(Command::new("nft").arg(words));
    nft(rules)?;
    same!(get(Some(&lan), "192.0.2.1:8080"), "");
    same!(get(Some(&lan), "[2001:db8::1]:8080"), "");
    same!(get(Some(&lan), "192.0.2.1:8081"), "here");
    nft("add rule inet own input tcp dport 8080 accept")?;
    same!(get(Some(&lan), "192.0.2.1:8080"), "here");
    same!(get(Some(&lan), "[2001:db8::1]:8080"), "here");
    nft("delete table inet own")?;
    Ok(())
}

fn protocols(sandbox: &Sandbox) -> Result<()> {
    sandbox.load("busybox")?;
    let lan = lan()?;
    if host::program("socat").is_none() {
        return crate::case::skip("no socat for the neighbour");
    }
    let id = sandbox.detached(&["-p", "5353:53/udp", "-p", "5353:54"], "exec sleep 1000")?;
    same!(sandbox.ok(["port", &id, "53/udp"])?, "0.0.0.0:5353\n[::]:5353");
    let pid = sandbox.pid(&id)?.to_string();
    for (protocol, listen) in [("UDP", "UDP-RECV:53"), ("TCP", "TCP-LISTEN:54,fork")] {
        // A program of the host's in the container's network: the image has none for UDP.
        let file = sandbox.file(protocol, "")?;
        let sink = format!("OPEN:{file},append");
        let server = Command::new("nsenter").args(["--net", "--target", &pid, "socat", "-u", listen, &sink]).spawn()?;
        let server = host::Background(server);
        host::until(protocol, sandbox.seconds(10), || {
            // Refused, or lost, until somebody listens.
            drop(lan.run(&format!("echo came | socat -u - {protocol}:192.0.2.1:5353")));
            Ok(std::fs::read_to_string(&file)?.contains("came").then_some(()))
        })?;
        drop(server);
    }
    let sctp = sandbox.dhow(["run", "--rm", "-p", "9999:80/sctp", "busybox", "true"])?;
    if sctp.code != 0 {
        // Where the kernel has none, that is said.
        contains!(sctp.stderr, "the kernel does not have the protocol");
    }
    sandbox.dhow(["run", "--rm", "-p", "80/foo", "busybox", "true"])?.fails(125, &["invalid proto: foo"])?;
    Ok(())
}

fn ranges_and_choices(sandbox: &Sandbox) -> Result<()> {
    sandbox.load("busybox")?;
    let first = sandbox.detached(&["-p", "9000-9001:80", "-p", "7000-7002:80-82"], "exec sleep 1000")?;
    let second = sandbox.detached(&["-p", "9000-9001:80"], "exec sleep 1000")?;
    contains!(sandbox.ok(["port", &first, "80"])?, "0.0.0.0:9000");
    contains!(sandbox.ok(["port", &first, "82"])?, "0.0.0.0:7002");
    same!(sandbox.ok(["port", &second, "80"])?, "0.0.0.0:9001\n[::]:9001");
    let full = sandbox.dhow(["run", "--rm", "-p", "9000-9001:80", "busybox", "true"])?;
    full.fails(125, &["Bind for 0.0.0.0:9000-9001 failed: port is already allocated"])?;
    let any = sandbox.detached(&["-p", "80", "-P", "--expose", "8000-8001/udp", "--name", "any"], "exec sleep 1000")?;
    let ports = sandbox.ok(["port", &any])?;
    same!(ports.lines().count(), 6, "{ports}");
    for line in ports.lines() {
        let number: u16 = line.rsplit(':').next().unwrap_or_default().parse()?;
        ensure!(number >= 1024, "{line}");
    }
    contains!(sandbox.ok(["ps", "--format", "{{.Ports}}", "-f", "name=any"])?, "->8001/udp");
    same!(sandbox.inspect("any")?["HostConfig"]["PublishAllPorts"], true);
    // It has them until it ends, and others after that.
    sandbox.ok(["restart", "-t", "0", "any"])?;
    same!(sandbox.ok(["port", "any"])?.lines().count(), 6);
    sandbox.ok(["restart", "-t", "0", &first])?;
    contains!(sandbox.ok(["port", &first, "82"])?, "0.0.0.0:7002");
    Ok(())
}

fn clashes(sandbox: &Sandbox) -> Result<()> {
    sandbox.load("busybox")?;
    host::succeed(Command::new("ip").args(["link", "set", "lo", "up"]))?;
    let owner = std::net::TcpListener::bind("0.0.0.0:8080")?;
    let run = |options: &[&str]| sandbox.dhow([&["run", "--rm"], options, &["busybox", "true"]].concat());
    run(&["-p", "8080:80"])?
        .fails(125, &["Bind for 0.0.0.0:8080 failed: port is already allocated", "another program"])?;
    run(&["-p", "127.0.0.1:8080:80"])?.fails(125, &["Bind for 127.0.0.1:8080 failed"])?;
    run(&["-p", "203.0.113.9:8080:80"])?.fails(125, &["203.0.113.9:8080", "does not have the address"])?;
    drop(owner);
    let id = sandbox.detached(&["-p", "8080:80", "--name", "first"], "exec sleep 1000")?;
    run(&["-p", "8080:80"])?.fails(125, &["port is already allocated", "container first publishes it"])?;
    // A program cannot take it either.
    ensure!(std::net::TcpListener::bind("0.0.0.0:8080").is_err(), "the published port can be bound by others");
    // A container that is kept is there, and says why it did not start.
    let kept = sandbox.dhow(["run", "-d", "--name", "second", "-p", "8080:80", "busybox", "true"])?;
    kept.fails(125, &["port is already allocated"])?;
    contains!(sandbox.inspect("second")?["State"]["Error"].as_str().unwrap_or(""), "port is already allocated");
    sandbox.ok(["rm", "-f", &id])?;
    drop(std::net::TcpListener::bind("0.0.0.0:8080")?);
    sandbox.ok(["start", "second"])?;
    Ok(())
}

/// `nft flush ruleset` or a firewall that is loaded anew: noticed and put right, with no daemon (CVE-2025-54388, -54410).
fn flush_is_put_right(sandbox: &Sandbox) -> Result<()> {
    has_curl()?;
    if host::program("nft").is_none() {
        return crate::case::skip("no nft");
    }
    sandbox.load("busybox")?;
    let lan = lan()?;
    sandbox.ok(["network", "create", "mine"])?;
    sandbox.detached(&["-p", "8080:80", "-p", "127.0.0.1:8081:80"], SERVE)?;
    sandbox.detached(&["--network", "mine", "-p", "8082:80", "--name", "other"], SERVE)?;
    let rules = host::our_rules;
    let before = rules()?;
    for command in ["flush ruleset", "flush table inet dhow", "delete element inet dhow published4_any { tcp . 8080 }"]
    {
        host::succeed(Command::new("nft").arg(command))?;
        host::until("the rules are back", sandbox.seconds(10), || {
            Ok(rules().is_ok_and(|now| now == before).then_some(()))
        })?;
        same!(get(Some(&lan), "192.0.2.1:8080"), "here", "after {command}");
        same!(get(Some(&lan), "192.0.2.1:8081"), "", "after {command}");
        same!(get(Some(&lan), "192.0.2.1:8082"), "here", "after {command}");
        let address = sandbox.ok(["inspect", "-f", "{{.NetworkSettings.Networks.mine.IPAddress}}", "other"])?;
        let script = format!("timeout 1 wget -q -O - http://{address}/ 2>&1; true");
        ensure!(!sandbox.busybox(&[], &script)?.contains("here"), "networks reach each other after {command}");
    }
    Ok(())
}

/// The watch goes over to another monitor when the one that had it ends, even if it is killed.
fn watcher_ends(sandbox: &Sandbox) -> Result<()> {
    if host::program("nft").is_none() {
        return crate::case::skip("no nft");
    }
    sandbox.load("busybox")?;
    let names = ["first", "second", "third"];
    for name in names {
        sandbox.detached(&["--name", name], "exec sleep 1000")?;
    }
    let guard = sandbox.path("run").join("networks/guard");
    let rules = host::our_rules;
    let before = rules()?;
    let watcher = || Ok::<_, anyhow::Error>(std::fs::read_to_string(&guard)?.trim().to_owned());
    let first = watcher()?;
    host::succeed(Command::new("kill").args(["-9", &first]))?;
    host::until("another one watches", sandbox.seconds(10), || Ok((watcher()? != first).then_some(())))?;
    host::succeed(Command::new("nft").args(["flush", "ruleset"]))?;
    host::until("the rules are back", sandbox.seconds(10), || {
        Ok(rules().is_ok_and(|now| now == before).then_some(()))
    })?;
    Ok(())
}

/// CVE-2025-67499: what only passes through this machine is not for its containers, whatever its port.
fn transit_is_left_alone(sandbox: &Sandbox) -> Result<()> {
    has_curl()?;
    sandbox.load("busybox")?;
    let lan = lan()?;
    let far = Command::new("unshare").args(["--net", "sleep", "infinity"]).spawn()?;
    let far = host::Background(far);
    let pid = far.0.id().to_string();
    let own = host::namespace("self", "net")?;
    host::until("the far machine", sandbox.seconds(10), || Ok((host::namespace(&pid, "net")? != own).then_some(())))?;
    let ip = |words: &str| host::succeed(Command::new("ip").args(words.split(' ')));
    ip(&format!("link add far0 type veth peer name far1 netns {pid}"))?;
    ip("link set far0 up")?;
    ip("address add 198.51.100.1/24 dev far0")?;
    let there =
        |script: &str| host::succeed(Command::new("nsenter").args(["--net", "--target", &pid, "sh", "-c", script]));
    there("ip link set far1 up; ip address add 198.51.100.2/24 dev far1; ip route add default via 198.51.100.1")?;
    lan.run("ip route add 198.51.100.0/24 via 192.0.2.1")?;
    sandbox.detached(&["-p", "8080:80"], SERVE)?;
    same!(get(Some(&lan), "192.0.2.1:8080"), "here");
    let script = "timeout 5 bash -c 'echo there | nc -l -p 8080 -q 0 2>/dev/null || true'";
    let server = Command::new("nsenter").args(["--net", "--target", &pid, "sh", "-c", script]).spawn()?;
    let server = host::Background(server);
    let seen = get(Some(&lan), "198.51.100.2:8080");
    ensure!(!seen.contains("here"), "a packet for another machine reached the container");
    drop(server);
    drop(far);
    drop(host::succeed(Command::new("ip").args(["link", "delete", "far0"])));
    Ok(())
}

/// Ports are where the container's way out is, also when that changes.
fn follow_the_way_out(sandbox: &Sandbox) -> Result<()> {
    has_curl()?;
    sandbox.load("busybox")?;
    let lan = lan()?;
    for name in ["aaa", "zzz"] {
        sandbox.ok(["network", "create", name])?;
    }
    let id = sandbox.detached(&["--network", "zzz", "-p", "8080:80"], SERVE)?;
    same!(get(Some(&lan), "192.0.2.1:8080"), "here");
    sandbox.ok(["network", "connect", "aaa", &id])?;
    same!(get(Some(&lan), "192.0.2.1:8080"), "here");
    sandbox.ok(["network", "disconnect", "zzz", &id])?;
    same!(get(Some(&lan), "192.0.2.1:8080"), "here");
    same!(get(Some(&lan), "[2001:db8::1]:8080"), "here");
    Ok(())
}

fn hundreds(sandbox: &Sandbox) -> Result<()> {
    has_curl()?;
    sandbox.load("busybox")?;
    host::succeed(Command::new("ip").args(["link", "set", "lo", "up"]))?;
    let id =
        sandbox.detached(&["-p", "20000-20849:20000-20849"], "echo here >/index.html; exec httpd -f -p 20849 -h /")?;
    same!(get(None, "127.0.0.1:20849"), "here");
    same!(sandbox.ok(["port", &id])?.lines().count(), 1700);
    sandbox.ok(["rm", "-f", &id])?;
    drop(std::net::TcpListener::bind("0.0.0.0:20849")?);
    Ok(())
}

/// CVE-2020-10749, CVE-2020-13401: a container is nobody's router.
fn router_advertisements(sandbox: &Sandbox) -> Result<()> {
    sandbox.load("busybox")?;
    let id = sandbox.detached(&[], "exec sleep 1000")?;
    same!(sandbox.ok(["exec", &id, "cat", "/proc/sys/net/ipv6/conf/eth0/accept_ra"])?, "0");
    same!(std::fs::read_to_string("/proc/sys/net/ipv6/conf/dhow0/accept_ra")?.trim(), "0");
    let six = sandbox.ok(["inspect", "-f", "{{.NetworkSettings.Networks.bridge.GlobalIPv6Address}}", &id])?;
    ensure!(six.starts_with("fd"), "no unique local address: {six:?}");
    sandbox.busybox(&[], &format!("ping -6 -c 1 -W 2 {six}"))?;
    Ok(())
}

/// The way of packets, as text, JSON and drawing; what stands in it is said.
fn xray(sandbox: &Sandbox) -> Result<()> {
    has_curl()?;
    sandbox.load("busybox")?;
    let lan = lan()?;
    host::succeed(Command::new("ip").args(["route", "add", "default", "via", "192.0.2.2"]))?;
    sandbox.ok(["network", "create", "mine"])?;
    let id = sandbox.detached(&["--network", "mine", "-p", "8080:80", "--name", "web"], SERVE)?;
    same!(get(Some(&lan), "192.0.2.1:8080"), "here");
    let pair = format!("dh{}", &id[..11]);
    for name in ["mine", "web"] {
        let text = sandbox.ok(["network", "xray", name])?;
        for part in [
            pair.as_str(),
            "172.18.0.1/16",
            "172.18.0.2",
            "8080->80/tcp",
            "through the gate",
            "by 192.0.2.2",
            "nothing",
        ] {
            contains!(text, part);
        }
    }
    contains!(sandbox.ok(["network", "xray", "web"])?, "127.0.0.11:53");
    let json: serde_json::Value = serde_json::from_str(&sandbox.ok(["network", "xray", "--format", "json", "web"])?)?;
    same!(json["Name"], "web");
    let dot = sandbox.ok(["network", "xray", "--dot", "mine"])?;
    contains!(dot, format!("\"container web\" -> \"network mine\" [label=\"eth0 = {pair}\"]"));
    std::fs::write("/proc/sys/net/ipv4/ip_forward", "0")?;
    contains!(sandbox.ok(["network", "xray", "mine"])?, "net.ipv4.ip_forward is 0");
    std::fs::write("/proc/sys/net/ipv4/ip_forward", "1")?;
    sandbox.dhow(["network", "xray", "nobody"])?.fails(1, &["neither a network nor a container nobody"])?;
    Ok(())
}

/// A container that is started again by its monitor has its ports, its addresses, its names and the networks it joined since.
fn restarts_keep_everything(sandbox: &Sandbox) -> Result<()> {
    has_curl()?;
    sandbox.load("busybox")?;
    let lan = lan()?;
    for name in ["first", "second"] {
        sandbox.ok(["network", "create", name])?;
    }
    let options = ["--restart", "always", "--network", "first", "-p", "80", "-p", "8080:80", "--name", "box"];
    let id = sandbox.detached(&options, SERVE)?;
    sandbox.ok(["network", "connect", "second", "box"])?;
    let (ports, pid) = (sandbox.ok(["port", &id])?, sandbox.pid(&id)?);
    let before = sandbox.inspect("box")?["NetworkSettings"]["Networks"].clone();
    host::succeed(Command::new("kill").args(["-9", &pid.to_string()]))?;
    host::until("it runs again", sandbox.seconds(10), || {
        let now = sandbox.inspect("box")?["State"]["Pid"].as_i64().unwrap_or(0);
        Ok((now > 0 && now != pid).then_some(()))
    })?;
    same!(sandbox.ok(["port", &id])?, ports);
    let after = sandbox.inspect("box")?["NetworkSettings"]["Networks"].clone();
    for network in ["first", "second"] {
        same!(after[network]["IPAddress"], before[network]["IPAddress"]);
    }
    host::until("it serves", sandbox.seconds(10), || Ok((get(Some(&lan), "192.0.2.1:8080") == "here").then_some(())))?;
    same!(sandbox.busybox(&["--network", "second"], "timeout 2 wget -q -O - http://box/")?, "here");
    Ok(())
}

/// Many at once: no address twice, no rule lost.
fn at_the_same_time(sandbox: &Sandbox) -> Result<()> {
    has_curl()?;
    sandbox.load("busybox")?;
    host::succeed(Command::new("ip").args(["link", "set", "lo", "up"]))?;
    sandbox.ok(["network", "create", "mine"])?;
    let ports: Vec<u16> = (8101..8107).collect();
    let starters = ports.iter().map(|port| {
        let (name, publish) = (format!("c{port}"), format!("{port}:80"));
        let options = ["run", "-d", "--network", "mine", "--name", &name, "-p", &publish, "busybox", "sh", "-c", SERVE];
        sandbox.spawn(options)
    });
    for starter in starters.collect::<Result<Vec<_>>>()? {
        let output = starter.wait_with_output()?;
        ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
    let seen = sandbox.ok(["network", "inspect", "-f", "{{range .Containers}}{{.IPv4Address}} {{end}}", "mine"])?;
    let mut addresses: Vec<&str> = seen.split_whitespace().collect();
    addresses.sort_unstable();
    addresses.dedup();
    same!(addresses.len(), ports.len(), "{seen}");
    for port in ports {
        let address = format!("127.0.0.1:{port}");
        host::until(&address, sandbox.seconds(10), || Ok((get(None, &address) == "here").then_some(())))?;
    }
    Ok(())
}

/// A monitor that is killed leaves rules and names, which the next command takes back.
fn killed_monitor(sandbox: &Sandbox) -> Result<()> {
    sandbox.load("busybox")?;
    host::succeed(Command::new("ip").args(["link", "set", "lo", "up"]))?;
    sandbox.ok(["network", "create", "mine"])?;
    let id = sandbox.detached(&["--network", "mine", "-p", "8080:80", "--name", "box"], "exec sleep 1000")?;
    let state = std::fs::read_to_string(sandbox.path("run").join("containers").join(&id).join("state.json"))?;
    let state: serde_json::Value = serde_json::from_str(&state)?;
    host::succeed(Command::new("kill").args(["-9", &state["monitor_pid"].to_string()]))?;
    host::until("the sweep", sandbox.seconds(10), || {
        Ok((sandbox.ok(["inspect", "-f", "{{.State.Status}}", "box"])? == "exited").then_some(()))
    })?;
    let id = sandbox.ok(["network", "inspect", "-f", "{{.Id}} {{len .Containers}}", "mine"])?;
    let (id, count) = id.split_once(' ').unwrap_or_default();
    same!(count, "0");
    let names = std::fs::read_dir(sandbox.path("run").join("networks").join(id))?.count();
    same!(names, 0, "names of a container that is gone");
    if host::program("nft").is_some() {
        let rules = host::succeed(Command::new("nft").args(["list", "table", "inet", "dhow"]))?;
        ensure!(!rules.contains("8080"), "the port is still published: {rules}");
    }
    sandbox.ok(["network", "rm", "mine"])?;
    Ok(())
}
