//! Beside a firewall of the host's that is made with iptables, as ufw and Docker make theirs: its word counts for published ports,
//! containers are not cut off by its forward policy, and both holds after it was loaded anew.

use std::process::{Command, Stdio};

use anyhow::{Result, ensure};

use super::ports::lan;
use crate::bed::{Machine, Server, Ways};
use crate::case::{cases, same, skip};
use crate::host;
use crate::sandbox::Sandbox;

cases![firewalls: loaded_anew [Root], others_containers [Root], removed [Root]];

/// What ufw makes of `default deny incoming`, `default deny routed` and `allow 8081`, shortened.
const UFW: &str = "*filter
:INPUT DROP [0:0]
:FORWARD DROP [0:0]
:OUTPUT ACCEPT [0:0]
:ufw-before-input - [0:0]
:ufw-user-input - [0:0]
:ufw-before-forward - [0:0]
-A INPUT -j ufw-before-input
-A INPUT -j ufw-user-input
-A FORWARD -j ufw-before-forward
-A ufw-before-input -i lo -j ACCEPT
-A ufw-before-input -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
-A ufw-before-input -p ICMP -j ACCEPT
-A ufw-before-forward -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
-A ufw-user-input -p tcp --dport 8081 -j ACCEPT
COMMIT
";

/// Loads it in place of whatever is in the table, for both families.
fn load(sandbox: &Sandbox) -> Result<()> {
    for (program, icmp) in [("iptables-restore", "icmp"), ("ip6tables-restore", "ipv6-icmp")] {
        let file = sandbox.file("rules", UFW.replace("ICMP", icmp))?;
        let input = Stdio::from(std::fs::File::open(file)?);
        let status = Command::new(program).stdin(input).status()?;
        ensure!(status.success(), "{program}: {status}");
    }
    Ok(())
}

/// The rules by which what comes from and goes to our bridges passes others' forward policy, of both families.
fn passes() -> Result<bool> {
    let listed = |program: &str| host::succeed(Command::new(program).args(["-S", "FORWARD"]));
    let is_there = |text: String| text.contains("-o dhow+") && text.contains("-i dhow+");
    Ok(is_there(listed("iptables")?) && is_there(listed("ip6tables")?))
}

fn ready() -> Result<()> {
    for name in ["iptables", "iptables-restore", "ip6tables-restore"] {
        if host::program(name).is_none() {
            return skip(format!("no {name}"));
        }
    }
    let version = host::succeed(Command::new("iptables").arg("--version"))?;
    if !version.contains("nf_tables") {
        return skip("iptables is the one before nf_tables here");
    }
    Ok(())
}

/// ufw is turned on while containers run, loaded anew, told to let another port in; and it was there before the first of them.
fn loaded_anew(sandbox: &Sandbox) -> Result<()> {
    ready()?;
    sandbox.load("busybox")?;
    let lan = lan()?;
    sandbox.ok(["network", "create", "mine"])?;
    let ports = ["-p", "8080:80", "-p", "8081:80", "-p", "8080:80/udp"];
    let _neighbour = Server::start(&lan.pid(), 7000, "neighbour")?;
    let start = |name: &str| -> Result<(String, Server)> {
        sandbox.detached(&[&["--network", "mine", "--name", name], &ports[..]].concat(), "exec sleep 1000")?;
        let pid = sandbox.pid(name)?.to_string();
        let server = Server::start(&pid, 80, name)?;
        Ok((pid, server))
    };
    let ways = |(name, pid): (&str, &str), all: bool, when: &str| -> Result<()> {
        let mut ways = Ways::default();
        for (here, there) in [("192.0.2.1", "192.0.2.2"), ("[2001:db8::1]", "[2001:db8::2]")] {
            let sees = |who: &str, whom: &str| format!("{who} sees {}", whom.trim_matches(['[', ']']));
            ways.open("neighbour", &lan.pid(), format!("{here}:8081"), sees(name, there));
            match all {
                true => ways.open("neighbour", &lan.pid(), format!("{here}:8080"), sees(name, there)),
                false => ways.closed("neighbour", &lan.pid(), format!("{here}:8080")),
            }
            // Out, as this machine.
            ways.open(name, pid, format!("{there}:7000"), sees("neighbour", here));
            ways.open_to_datagrams(name, pid, format!("{there}:7000"), sees("neighbour", here));
        }
        ways.check(when)
    };
    let passing = |when: &str| host::until(when, sandbox.seconds(10), || Ok(passes()?.then_some(())));
    let (web, server) = start("web")?;
    ways(("web", &web), true, "without a firewall")?;
    for when in ["ufw is turned on", "ufw is loaded anew"] {
        load(sandbox)?;
        passing(when)?;
        ways(("web", &web), false, when)?;
    }
    for program in ["iptables", "ip6tables"] {
        let words = ["-A", "ufw-user-input", "-p", "tcp", "--dport", "8080", "-j", "ACCEPT"];
        host::succeed(Command::new(program).args(words))?;
    }
    ways(("web", &web), true, "another port is let in")?;
    // Nobody watches when it is loaded; the next container finds it.
    drop(server);
    sandbox.ok(["rm", "-f", "web"])?;
    load(sandbox)?;
    same!(passes()?, false);
    let (again, _server) = start("again")?;
    same!(passes()?, true);
    ways(("again", &again), false, "ufw was there first")
}

/// Containers of other engines are not opened by our way around the chain `FORWARD`, but for what is published; a LAN is no engine.
fn others_containers(sandbox: &Sandbox) -> Result<()> {
    sandbox.load("busybox")?;
    lan()?;
    let ip = |words: String| host::succeed(Command::new("ip").args(words.split(' ')));
    let mut ways = Ways::default();
    sandbox.detached(&["--name", "box"], "exec sleep 1000")?;
    let pid = sandbox.pid("box")?.to_string();
    let mut beyond = vec![];
    let bridges = [("docker0", false), ("br-0123456789ab", false), ("podman1", false), ("br-lan", true)];
    for (number, (bridge, is_open)) in (201..).zip(bridges) {
        let machine = Machine::new()?;
        ip(format!("link add {bridge} type bridge"))?;
        ip(format!("address add 10.{number}.0.1/24 dev {bridge}"))?;
        ip(format!("link add wire{number} master {bridge} up type veth peer name eth0 netns {}", machine.pid()))?;
        ip(format!("link set {bridge} up"))?;
        machine.run(&format!(
            "ip link set eth0 up; ip address add 10.{number}.0.2/24 dev eth0; ip route add default via 10.{number}.0.1"
        ))?;
        let server = Server::start(&machine.pid(), 80, bridge)?;
        let to = format!("10.{number}.0.2:80");
        match is_open {
            true => ways.open("box", &pid, to, format!("{bridge} sees 10.{number}.0.1")),
            false => ways.closed("box", &pid, to),
        }
        beyond.push((machine, server));
    }
    // As Docker publishes.
    let chain = "type nat hook prerouting priority -100;\ntcp dport 9090 dnat to 10.201.0.2:80";
    host::succeed(Command::new("nft").arg(format!("table ip theirs {{\nchain c {{\n{chain}\n}}\n}}")))?;
    ways.open("box", &pid, "192.0.2.1:9090", "docker0 sees 10.201.0.1");
    ways.check("bridges of others")
}

/// dockerd starts while containers run, and somebody empties the chain that has our two rules.
fn removed(sandbox: &Sandbox) -> Result<()> {
    ready()?;
    sandbox.load("busybox")?;
    sandbox.detached(&["--name", "box"], "exec sleep 1000")?;
    let passing = |when: &str| host::until(when, sandbox.seconds(10), || Ok(passes()?.then_some(())));
    // As dockerd leaves it.
    for words in [&["-P", "FORWARD", "DROP"][..], &["-N", "DOCKER-USER"], &["-A", "FORWARD", "-j", "DOCKER-USER"]] {
        host::succeed(Command::new("iptables").args(words))?;
        host::succeed(Command::new("ip6tables").args(words))?;
    }
    passing("dockerd has started")?;
    for program in ["iptables", "ip6tables"] {
        host::succeed(Command::new(program).args(["-F", "FORWARD"]))?;
        passing("the chain was emptied")?;
    }
    Ok(())
}
