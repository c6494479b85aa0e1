//! The test bed: this machine, a neighbour on its LAN, containers on networks of every kind; every door is tried by real packets
//! over IPv4 and IPv6, before and after other programs have thrown our rules away; and nothing is lost while processes of dhow
//! are killed.

use std::fs;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};

use super::networks::Lan;
use super::ports::{SERVE, has_curl, lan};
use crate::case::{cases, contains, same, skip};
use crate::host;
use crate::sandbox::Sandbox;
use crate::server::Server;

cases![testbed:
    every_door [Root], gateway_modes [Root], isolated_gateway [Root], two_engines [Root], nothing_is_lost [Root],
];

/// The address of a container on its only network.
fn address(sandbox: &Sandbox, container: &str, ipv6: bool) -> Result<String> {
    let field = if ipv6 { "GlobalIPv6Address" } else { "IPAddress" };
    let text = sandbox.ok([
        "inspect",
        "-f",
        &format!("{{{{range .NetworkSettings.Networks}}}}{{{{.{field}}}}}{{{{end}}}}"),
        container,
    ])?;
    ensure!(!text.is_empty(), "container {container} has no {field}");
    Ok(if ipv6 { format!("[{text}]") } else { text })
}

/// Who asks.
#[derive(Clone, Copy)]
enum From<'a> {
    Host,
    Neighbour(&'a Lan),
    /// A container, by its first process.
    Container(&'a str, &'a str),
}

/// A way that is tried: by whom, where, and whether it is open.
struct Door<'a>(From<'a>, String, bool);

/// Tries all doors of one asker at once, and returns those that are not as they should be.
fn wrong(doors: &[Door<'_>]) -> Result<Vec<String>> {
    let mut children = vec![];
    for Door(from, address, open) in doors {
        let script = format!("curl --silent --max-time 1 --noproxy '*' http://{address}/");
        let (name, mut command) = match from {
            From::Host => {
                let mut command = Command::new("sh");
                command.args(["-c", &script]);
                ("the host".to_owned(), command)
            }
            From::Neighbour(lan) => ("the neighbour".to_owned(), lan.command(&script)),
            From::Container(name, pid) => {
                let mut command = Command::new("nsenter");
                command.args(["--net", "--target", pid, "sh", "-c", &script]);
                (format!("the container {name}"), command)
            }
        };
        let child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn()?;
        children.push((format!("{name} to {address}"), *open, child));
    }
    let mut wrong = vec![];
    for (what, open, child) in children {
        let answered = String::from_utf8_lossy(&child.wait_with_output()?.stdout).contains("here");
        if answered != open {
            wrong.push(format!("{what} is {}", if open { "closed" } else { "open" }));
        }
    }
    Ok(wrong)
}

fn check(doors: &[Door<'_>], when: &str) -> Result<()> {
    let mut last = vec![];
    // A server that has not begun yet, a rule that is just being put back: what is wrong must be wrong three times.
    for _ in 0..3 {
        last = wrong(doors)?;
        if last.is_empty() {
            return Ok(());
        }
    }
    anyhow::bail!("{when}: {}", last.join("; "))
}

/// Harness H8 of the list of vulnerabilities, with CVE-2025-54388 and CVE-2025-54410 (a reload opens what was closed).
fn every_door(sandbox: &Sandbox) -> Result<()> {
    has_curl()?;
    if host::program("nft").is_none() {
        return skip("no nft");
    }
    sandbox.load("busybox")?;
    let lan = lan()?;
    sandbox.ok(["network", "create", "mine"])?;
    sandbox.ok(["network", "create", "--internal", "closed"])?;
    sandbox.ok(["network", "create", "-o", "com.docker.network.bridge.enable_icc=false", "shy"])?;
    let run = |name: &str, options: &[&str]| -> Result<(String, [String; 2])> {
        let mut all = vec!["--name", name];
        all.extend(options);
        let id = sandbox.detached(&all, SERVE)?;
        Ok((sandbox.pid(&id)?.to_string(), [address(sandbox, name, false)?, address(sandbox, name, true)?]))
    };
    let (web, web_at) = run("web", &["-p", "8080:80", "-p", "127.0.0.1:8081:80"])?;
    let (mine, mine_at) = run("own", &["--network", "mine", "-p", "8082:80"])?;
    let (closed, closed_at) = run("closed", &["--network", "closed", "-p", "8083:80"])?;
    let (_, beside_at) = run("beside", &["--network", "closed"])?;
    let (shy, shy_at) = run("shy", &["--network", "shy", "-p", "8084:80"])?;
    let (other, other_at) = run("other", &["--network", "shy"])?;
    // The neighbour has routes to every network, as anybody on the LAN may.
    for at in [&web_at, &mine_at, &closed_at, &shy_at] {
        lan.run(&format!("ip route replace {} via 192.0.2.1", at[0]))?;
        lan.run(&format!("ip -6 route replace {} via 2001:db8::1", at[1].trim_matches(['[', ']'])))?;
    }
    lan.run("ip route replace 127.0.0.0/8 via 192.0.2.1 table local 2>/dev/null; ip route add 127.8.0.0/16 via 192.0.2.1; true")?;
    let neighbour = From::Neighbour(&lan);
    let inside = |name: &'static str, pid| From::Container(name, pid);
    let mut doors = vec![];
    for family in [0, 1] {
        let here = ["192.0.2.1", "[2001:db8::1]"][family];
        let mut door = |from, to: String, open| doors.push(Door(from, to, open));
        for port in [8080, 8082, 8084] {
            door(neighbour, format!("{here}:{port}"), true);
            door(From::Host, format!("{here}:{port}"), true);
        }
        for port in [8081, 8083, 9999] {
            door(neighbour, format!("{here}:{port}"), false);
        }
        for at in [&web_at, &mine_at, &closed_at, &shy_at] {
            door(neighbour, format!("{}:80", at[family]), false);
        }
        door(From::Host, format!("{}:80", web_at[family]), true);
        // Between networks by published ports alone.
        door(inside("web", &web), format!("{}:80", mine_at[family]), false);
        door(inside("web", &web), format!("{here}:8082"), true);
        door(inside("own", &mine), format!("{}:80", web_at[family]), false);
        door(inside("own", &mine), format!("{here}:8080"), true);
        // An internal network: its own containers, and nobody else in either direction.
        door(inside("closed", &closed), format!("{}:80", beside_at[family]), true);
        door(inside("closed", &closed), format!("{}:80", web_at[family]), false);
        door(inside("web", &web), format!("{}:80", closed_at[family]), false);
        // icc=false: neighbours on the network do not reach each other.
        door(inside("other", &other), format!("{}:80", shy_at[family]), false);
        door(inside("shy", &shy), format!("{}:80", other_at[family]), false);
    }
    doors.push(Door(From::Host, "127.0.0.1:8081".into(), true));
    doors.push(Door(neighbour, "127.8.0.1:8081".into(), false));
    // Containers do not reach what is for the host alone.
    doors.push(Door(inside("web", &web), "192.0.2.1:8081".into(), false));
    check(&doors, "before anything")?;
    thrown_away(sandbox, &doors)
}

/// Other programs throw the rules away; all doors are as before when they are back.
fn thrown_away(sandbox: &Sandbox, doors: &[Door<'_>]) -> Result<()> {
    let rules = host::our_rules;
    let before = rules()?;
    // What firewalld does at a reload: everything of its own anew, and in its older versions everything of everybody.
    let reload = "flush ruleset\ntable inet firewalld {\n\
                  chain filter_INPUT {\n type filter hook input priority 10; policy accept;\n }\n\
                  chain filter_FORWARD {\n type filter hook forward priority 10; policy accept;\n }\n}\n";
    let reload = sandbox.file("reload.nft", reload)?;
    for (what, words) in [("nft flush ruleset", vec!["flush", "ruleset"]), ("a reload", vec!["-f", &reload])] {
        host::succeed(Command::new("nft").args(&words))?;
        host::until("the rules are back", sandbox.seconds(10), || {
            Ok(rules().is_ok_and(|now| now == before).then_some(()))
        })?;
        check(doors, &format!("after {what}"))?;
    }
    Ok(())
}

/// Docker's `gateway_mode_ipv4` and `_ipv6`.
fn gateway_modes(sandbox: &Sandbox) -> Result<()> {
    has_curl()?;
    sandbox.load("busybox")?;
    let lan = lan()?;
    let option = |name: &str, mode: &str| format!("com.docker.network.bridge.gateway_mode_ipv{name}={mode}");
    for (name, mode) in [("routed", "routed"), ("unprotected", "nat-unprotected")] {
        sandbox.ok(["network", "create", "-o", &option("4", mode), "-o", &option("6", mode), name])?;
    }
    let both = "mkdir /w; echo here >/w/index.html; httpd -p 81 -h /w; exec httpd -f -p 80 -h /w";
    sandbox.detached(&["--network", "routed", "--name", "routed", "-p", "8080:80"], both)?;
    sandbox.detached(&["--network", "unprotected", "--name", "unprotected", "-p", "8081:80"], both)?;
    let mut doors = vec![];
    for family in [false, true] {
        let here = if family { "[2001:db8::1]" } else { "192.0.2.1" };
        let [routed, unprotected] = [address(sandbox, "routed", family)?, address(sandbox, "unprotected", family)?];
        for at in [&routed, &unprotected] {
            let (six, via) = if family { ("-6", "2001:db8::1") } else { ("-4", "192.0.2.1") };
            lan.run(&format!("ip {six} route replace {} via {via}", at.trim_matches(['[', ']'])))?;
        }
        let neighbour = From::Neighbour(&lan);
        // Published ports are reached by the container's own address, others are not, and the host's address is none of its.
        doors.push(Door(neighbour, format!("{routed}:80"), true));
        doors.push(Door(neighbour, format!("{routed}:81"), false));
        doors.push(Door(neighbour, format!("{here}:8080"), false));
        doors.push(Door(neighbour, format!("{unprotected}:80"), true));
        doors.push(Door(neighbour, format!("{unprotected}:81"), true));
        doors.push(Door(neighbour, format!("{here}:8081"), true));
        lan.run(&format!("ping -c 1 -W 2 {}", routed.trim_matches(['[', ']'])))?;
    }
    check(&doors, "gateway modes")?;
    // Out with one's own address: the neighbour answers by its route.
    let own = address(sandbox, "routed", false)?;
    let listen = "timeout 10 socat -u TCP4-LISTEN:7000,reuseaddr SYSTEM:'echo from $SOCAT_PEERADDR >&2' 2>&1";
    if host::program("socat").is_some() {
        let child = lan.command(listen).stdout(Stdio::piped()).spawn()?;
        sandbox.ok([
            "exec",
            "routed",
            "sh",
            "-c",
            "for i in 1 2 3 4 5 6 7 8 9; do echo x | nc -w 1 192.0.2.2 7000 && exit; sleep 0.1; done",
        ])?;
        contains!(String::from_utf8_lossy(&child.wait_with_output()?.stdout), format!("from {own}"));
    }
    // Given back with the container.
    sandbox.ok(["rm", "-f", "routed"])?;
    let left = host::succeed(Command::new("nft").args(["list", "set", "inet", "dhow", "open4"]))?;
    ensure!(!left.contains("elements"), "{left}");
    Ok(())
}

fn isolated_gateway(sandbox: &Sandbox) -> Result<()> {
    sandbox.load("busybox")?;
    let isolated = "com.docker.network.bridge.gateway_mode_ipv4=isolated";
    sandbox.dhow(["network", "create", "-o", isolated, "wrong"])?.fails(1, &["isolated"])?;
    sandbox.ok([
        "network",
        "create",
        "--internal",
        "--ipv6=false",
        "-o",
        isolated,
        "--subnet",
        "10.77.0.0/24",
        "lonely",
    ])?;
    sandbox.detached(&["--network", "lonely", "--name", "one"], "exec sleep 1000")?;
    contains!(sandbox.busybox(&["--network", "lonely"], "ping -c 1 -W 2 one")?, "1 packets received");
    let links = host::succeed(Command::new("ip").args(["-4", "address"]))?;
    ensure!(!links.contains("10.77.0."), "the host has an address on the bridge: {links}");
    Ok(())
}

/// Two engines with directories of their own in one network namespace: the second is told whose the networks are.
fn two_engines(sandbox: &Sandbox) -> Result<()> {
    sandbox.load("busybox")?;
    let id = sandbox.detached(&["-p", "8080:80"], SERVE)?;
    let second = |words: &[&str]| {
        let (data, run) = (sandbox.path("files/data2"), sandbox.path("files/run2"));
        let mut command = Command::new(std::env::var_os("DHOW_BIN").unwrap_or_default());
        command.arg("--root").arg(data).arg("--run-dir").arg(run).args(words);
        sandbox.finish_command(command, "")
    };
    second(&["load", "-i", &sandbox.archive("busybox", "oci")?])?.success()?;
    let first = sandbox.path("data").display().to_string();
    second(&["run", "--rm", "busybox", "true"])?.fails(125, &["another dhow", &first, "--network host"])?;
    second(&["network", "create", "mine"])?.fails(1, &["another dhow", &first])?;
    second(&["run", "--rm", "--network", "none", "busybox", "true"])?.success()?;
    // The first one's are untouched.
    contains!(
        host::succeed(Command::new("curl").args(["--silent", "--max-time", "2", "http://127.0.0.1:8080/"]))?,
        "here"
    );
    // When its containers have ended, the second one takes over, and the other way round.
    sandbox.ok(["rm", "-f", &id])?;
    second(&["run", "-d", "--name", "web", "-p", "8080:80", "busybox", "sh", "-c", SERVE])?.success()?;
    sandbox.dhow(["run", "--rm", "busybox", "true"])?.fails(125, &["another dhow", "data2"])?;
    second(&["rm", "-f", "web"])?.success()?;
    contains!(sandbox.busybox(&[], "ip -4 address show eth0")?, "10.");
    Ok(())
}

fn kill(pid: &str) -> Result<()> {
    host::succeed(Command::new("kill").args(["-9", pid])).map(drop)
}

/// All rules are thrown away while a stream is under way: who holds its translation is not (Linux 5.12).
fn flush_under_way(sandbox: &Sandbox) -> Result<()> {
    let hold = || host::succeed(Command::new("nft").args(["list", "table", "inet", "dhow_hold"]));
    if host::until("translations are held", sandbox.seconds(3), || Ok(hold().is_ok().then_some(()))).is_err() {
        return Ok(());
    }
    for _ in 0..3 {
        host::succeed(Command::new("nft").args(["flush", "ruleset"]))?;
        std::thread::sleep(std::time::Duration::from_millis(200));
    }
    Ok(())
}

/// The command line of a container that goes on, and one that is setting up a network and a port, wherever it has got to.
fn command_lines_end(sandbox: &Sandbox) -> Result<()> {
    let mut front = sandbox.spawn(["run", "--name", "front", "--network", "mine", "busybox", "sleep", "1000"])?;
    let runs = || sandbox.ok(["inspect", "--format", "{{.State.Running}}", "front"]);
    host::until("it runs", sandbox.seconds(10), || Ok((runs().ok().as_deref() == Some("true")).then_some(())))?;
    front.kill()?;
    front.wait()?;
    let mut cut = sandbox.spawn(["run", "--network", "mine", "-p", "8082:80", "busybox", "sleep", "1000"])?;
    std::thread::sleep(std::time::Duration::from_millis(25));
    cut.kill()?;
    cut.wait()?;
    same!(runs()?, "true", "the container whose command line was killed");
    Ok(())
}

/// Processes of dhow end and are killed; a ping and a stream through a published port lose nothing.
fn nothing_is_lost(sandbox: &Sandbox) -> Result<()> {
    for name in ["socat", "nft"] {
        if host::program(name).is_none() {
            return skip(format!("no {name}"));
        }
    }
    sandbox.load("busybox")?;
    let lan = lan()?;
    sandbox.ok(["network", "create", "mine"])?;
    // The first one's monitor watches over the rules.
    let victim = sandbox.detached(&["--network", "mine", "--name", "victim"], "exec sleep 1000")?;
    let count = "echo ready; nc -l -p 80 | wc -c; exec sleep 1000";
    let web = sandbox.detached(&["--network", "mine", "--name", "web", "-p", "8080:80"], count)?;
    sandbox.wait_for_log(&web, "ready")?;
    let ping = ["exec", "peer", "ping", "-i", "0.02", "-c", "200", "-q", "web"];
    sandbox.detached(&["--network", "mine", "--name", "peer", "-p", "8090:80"], "exec sleep 1000")?;
    let mut server = Server::start(sandbox)?;
    let mut follower = sandbox.spawn(["logs", "-f", "web"])?;
    let stream = "for i in $(seq 200); do head -c 300000 /dev/zero; sleep 0.02; done | socat -u - TCP:192.0.2.1:8080";
    let mut sender = host::Background(lan.command(stream).spawn()?);
    let mut pinging = sandbox.spawn(ping)?;
    let pause = || std::thread::sleep(std::time::Duration::from_millis(300));
    pause();
    // The watcher, which is a monitor; another takes its place.
    let guard = sandbox.path("run/networks/guard");
    let watcher = fs::read_to_string(&guard)?.trim().to_owned();
    let state = fs::read_to_string(sandbox.path("run/containers").join(&victim).join("state.json"))?;
    let state: serde_json::Value = serde_json::from_str(&state)?;
    same!(state["monitor_pid"].to_string(), watcher);
    kill(&watcher)?;
    pause();
    // Commands that follow, and the server of Docker's API, which starts again.
    follower.kill()?;
    follower.wait()?;
    command_lines_end(sandbox)?;
    server.kill()?;
    let server = Server::start(sandbox)?;
    pause();
    // Another program takes something of ours away, and who puts it back is killed once while doing so.
    host::succeed(Command::new("nft").args(["delete", "element", "inet", "dhow", "published4_any", "{ tcp . 8090 }"]))?;
    for _ in 0..200 {
        let found = host::succeed(Command::new("pidof").arg("dhow-healer")).unwrap_or_default();
        if let Some(pid) = found.split_whitespace().next() {
            kill(pid).ok();
            break;
        }
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
    flush_under_way(sandbox)?;
    // The next command puts right what is left, the victim's end among it, and starts something beside.
    sandbox.ok(["ps", "-a"])?;
    sandbox.busybox(&["--network", "mine", "-p", "8081:80"], "true")?;
    let pinged = pinging.wait()?;
    let mut text = String::new();
    std::io::Read::read_to_string(&mut pinging.stdout.take().context("no output")?, &mut text)?;
    ensure!(pinged.success(), "ping: {text}");
    contains!(text, "200 packets transmitted, 200 packets received");
    ensure!(sender.0.wait()?.success(), "the sender failed");
    contains!(sandbox.wait_for_log(&web, "\n")?, "ready");
    host::until("every byte", sandbox.seconds(20), || {
        let log = sandbox.ok(["logs", "web"])?;
        Ok(log.lines().nth(1).map(str::to_owned))
    })
    .and_then(|counted| {
        same!(counted.trim(), "60000000");
        Ok(())
    })?;
    drop(server);
    Ok(())
}
