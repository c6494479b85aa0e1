//! Networks of ordinary users: bridges, names and ports as for root, in a namespace of the user's own behind pasta.

use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::case::{cases, contains, same, skip};
use crate::host;
use crate::neighbour;
use crate::sandbox::Sandbox;

cases![rootless_networks:
    default_network [User, Lan], own_networks [User, Lan], ports_have_the_clients_address [User, Lan], datagrams [User, Lan], way_out [User, Lan],
    live [User, Lan], without_a_way_out [User], killed_processes [User, Lan], streams_are_whole [User, Lan],
    first_commands_at_once [User, Lan], privileged_port [User, Lan], restarts [User, Lan],
    nothing_is_lost [User, Lan], flush_is_put_right [User, Lan], ports_are_free_at_once [User, Lan],
];

const SLEEP: &str = "exec sleep 1000";
/// Answers with the client's address.
const SERVE: &str = "mkdir -p /w/cgi-bin; printf '#!/bin/sh\\necho; echo from $REMOTE_ADDR | tr -d []' >/w/cgi-bin/who; sed -i 's/ | tr/ | sed s,::ffff:,, | tr/' /w/cgi-bin/who; \
                     chmod +x /w/cgi-bin/who; exec httpd -f -p 80 -h /w";

fn ready(sandbox: &Sandbox) -> Result<()> {
    if host::program("pasta").is_none() {
        return skip("pasta is not installed (package passt)");
    }
    sandbox.load("busybox")
}

fn record(sandbox: &Sandbox) -> Result<Value> {
    let path = sandbox.path("run/user-network/record.json");
    Ok(serde_json::from_slice(&fs::read(&path).with_context(|| format!("read {}", path.display()))?)?)
}

/// Asks from this machine, with patience for a server that has just been started.
fn get(address: &str) -> Result<String> {
    host::until("an answer", Duration::from_secs(5), || {
        let ask = || -> std::io::Result<String> {
            let mut stream = TcpStream::connect(address)?;
            stream.set_read_timeout(Some(Duration::from_secs(2)))?;
            stream.write_all(b"GET /cgi-bin/who HTTP/1.0\r\n\r\n")?;
            let mut text = String::new();
            stream.read_to_string(&mut text)?;
            Ok(text)
        };
        Ok(ask().ok().filter(|text| text.contains("from")))
    })
}

fn get_from_neighbour(sandbox: &Sandbox, address: &str) -> Result<String> {
    let script = format!(
        "for i in 1 2 3 4 5 6 7 8 9; do curl -s --max-time 2 http://{address}/cgi-bin/who && exit; sleep 0.1; done; exit 1"
    );
    neighbour::run(sandbox, &script)
}

fn default_network(sandbox: &Sandbox) -> Result<()> {
    ready(sandbox)?;
    let inside = sandbox.busybox(
        &[],
        "ip -4 -o address show eth0; ip route; ping -c 1 -W 2 $(ip route | sed -n 's/default via \\([^ ]*\\).*/\\1/p')",
    )?;
    contains!(inside, "10.88.");
    contains!(inside, "1 packets received");
    // Two containers share the network, and the namespace that it is in.
    let server = sandbox.detached(&[], SERVE)?;
    let address = sandbox.inspect(&server)?["NetworkSettings"]["Networks"]["bridge"]["IPAddress"]
        .as_str()
        .context("no address")?
        .to_owned();
    let asked = sandbox.busybox(&[], &format!("sleep 0.2; wget -qO- http://{address}/cgi-bin/who"))?;
    contains!(asked, "from 10.88.");
    contains!(sandbox.ok(["network", "ls"])?, "bridge");
    contains!(sandbox.ok(["network", "xray", "bridge"])?, "dhow0");
    contains!(sandbox.ok(["xray", &server])?, "dhow0");
    // Nothing of it is seen on the host.
    ensure!(!host::succeed(Command::new("ip").args(["-o", "link"]))?.contains("dhow"), "a bridge on the host");
    Ok(())
}

fn own_networks(sandbox: &Sandbox) -> Result<()> {
    ready(sandbox)?;
    sandbox.ok(["network", "create", "front"])?;
    sandbox.ok(["network", "create", "--internal", "back"])?;
    let web = sandbox.detached(&["--network", "front", "--name", "web", "--network-alias", "www"], SERVE)?;
    let names = sandbox
        .busybox(&["--network", "front"], "sleep 0.2; nslookup www | tail -n 3; wget -qO- http://web/cgi-bin/who")?;
    contains!(names, "from fd");
    sandbox.detached(&["--network", "back", "--name", "db"], SLEEP)?;
    let closed = sandbox
        .busybox(&["--network", "back"], "ping -c 1 -W 1 db; ping -c 1 -W 1 192.0.2.2; nslookup example.org; true")?;
    contains!(closed, "1 packets received");
    ensure!(!closed.contains("192.0.2.2: seq=0"), "an internal network leads out: {closed}");
    let isolated = sandbox.busybox(&[], &format!("ping -c 1 -W 1 {}; true", address(sandbox, &web, "front")?))?;
    contains!(isolated, "100% packet loss");
    // IPv6 is there as for root.
    contains!(sandbox.busybox(&["--network", "front"], "ping -6 -c 1 -W 2 web")?, "1 packets received");
    sandbox.ok(["rm", "-f", "web", "db"])?;
    sandbox.ok(["network", "rm", "front", "back"])?;
    Ok(())
}

fn address(sandbox: &Sandbox, container: &str, network: &str) -> Result<String> {
    let inspected = sandbox.inspect(container)?;
    Ok(inspected["NetworkSettings"]["Networks"][network]["IPAddress"].as_str().context("no address")?.to_owned())
}

/// CVE-2021-20199: all clients of a rootless container had the address 127.0.0.1.
fn ports_have_the_clients_address(sandbox: &Sandbox) -> Result<()> {
    ready(sandbox)?;
    sandbox.ok(["network", "create", "mine"])?;
    for (network, port) in [("bridge", "8080"), ("mine", "8081")] {
        let publish = format!("{port}:80");
        sandbox.detached(&["--network", network, "-p", &publish], SERVE)?;
        contains!(get_from_neighbour(sandbox, &format!("192.0.2.1:{port}"))?, "from 192.0.2.2");
        contains!(get_from_neighbour(sandbox, &format!("[2001:db8::1]:{port}"))?, "2001:db8::2");
        // This machine by its own address, and by loopback, which no container could answer to: then the bridge's.
        contains!(get(&format!("192.0.2.1:{port}"))?, "from 192.0.2.1");
        contains!(get(&format!("127.0.0.1:{port}"))?, if network == "bridge" { "from 10.88." } else { "from 172." });
    }
    // Published on loopback alone: no neighbour reaches it.
    sandbox.detached(&["-p", "127.0.0.1:8082:80"], SERVE)?;
    contains!(get("127.0.0.1:8082")?, "from 10.88.");
    contains!(neighbour::run(sandbox, "curl -s --max-time 1 http://192.0.2.1:8082/ || echo refused")?, "refused");
    // A taken port is a clear error.
    sandbox
        .dhow(["run", "--rm", "-p", "8080:80", "busybox", "true"])?
        .fails(125, &["8080", "port is already allocated"])?;
    Ok(())
}

/// What the client hears comes from whom it asked, and the server sees who asked.
fn datagrams(sandbox: &Sandbox) -> Result<()> {
    ready(sandbox)?;
    if host::program("socat").is_none() {
        return skip("no socat");
    }
    let id = sandbox.detached(&["-p", "8053:53/udp"], SLEEP)?;
    // A program of the host's in the container's network: the image has none for UDP.
    let server = Command::new("nsenter")
        .args(["--preserve-credentials", "--user", "--net", "--target", &sandbox.pid(&id)?.to_string()])
        .args(["socat", "UDP4-RECVFROM:53,fork", "SYSTEM:echo from $SOCAT_PEERADDR"])
        .spawn()?;
    let _server = host::Background(server);
    host::until("an answer", sandbox.seconds(10), || {
        let ask = "echo hello | timeout 1 socat -t 0.5 - UDP4:192.0.2.1:8053; true";
        Ok(neighbour::run(sandbox, ask)?.contains("from 192.0.2.2").then_some(()))
    })?;
    let socket = std::net::UdpSocket::bind("192.0.2.1:0")?;
    socket.connect("192.0.2.1:8053")?;
    socket.set_read_timeout(Some(Duration::from_millis(500)))?;
    // One datagram may reach the process that answered the one before, which is about to end.
    let answer = host::until("an answer to this machine", sandbox.seconds(10), || {
        socket.send(b"hello")?;
        let mut buffer = [0; 100];
        Ok(socket.recv(&mut buffer).ok().map(|length| String::from_utf8_lossy(&buffer[..length]).into_owned()))
    })?;
    contains!(answer, "from 192.0.2.1");
    Ok(())
}

fn way_out(sandbox: &Sandbox) -> Result<()> {
    ready(sandbox)?;
    // Out into the world, with this machine's address, over both families.
    let dig = sandbox.busybox(&[], "ping -c 1 -W 2 198.51.100.9; ping -6 -c 1 -W 2 2001:db8::2; true")?;
    same!(dig.matches("1 packets received").count(), 2, "{dig}");
    // The host, by its name, though not its loopback.
    let listener = TcpListener::bind("0.0.0.0:7001")?;
    let local = TcpListener::bind("127.0.0.1:7002")?;
    let container = sandbox.detached(
        &[],
        "sleep 0.1; nc -w 2 host.docker.internal 7001 </dev/null && echo open; nc -w 2 host.docker.internal 7002 </dev/null || echo closed; cat /etc/hosts; sleep 1000",
    )?;
    let (stream, client) = listener.accept()?;
    drop(stream);
    same!(client.ip().to_string(), "192.0.2.1");
    contains!(sandbox.wait_for_log(&container, "closed")?, "open");
    drop(local);
    Ok(())
}

fn live(sandbox: &Sandbox) -> Result<()> {
    ready(sandbox)?;
    sandbox.ok(["network", "create", "one"])?;
    sandbox.ok(["network", "create", "two"])?;
    let id = sandbox.detached(&["--network", "one", "--name", "web", "-p", "8080:80"], SERVE)?;
    contains!(get_from_neighbour(sandbox, "192.0.2.1:8080")?, "from 192.0.2.2");
    sandbox.ok(["network", "connect", "two", &id])?;
    contains!(sandbox.busybox(&["--network", "two"], "ping -c 1 -W 2 web")?, "1 packets received");
    sandbox.ok(["network", "disconnect", "one", &id])?;
    // Ports follow the way out.
    contains!(get_from_neighbour(sandbox, "192.0.2.1:8080")?, "from 192.0.2.2");
    contains!(sandbox.ok(["exec", &id, "ip", "-o", "-4", "address"])?, "eth1");
    Ok(())
}

/// On a machine that is connected with nothing containers have each other, and the user is told.
fn without_a_way_out(sandbox: &Sandbox) -> Result<()> {
    ready(sandbox)?;
    let ran = sandbox.dhow(["run", "--rm", "busybox", "ping", "-c", "1", "-W", "1", "10.88.0.1"])?;
    contains!(ran.stderr, "no route to anywhere");
    contains!(ran.success()?, "1 packets received");
    Ok(())
}

fn kill(pid: &Value) -> Result<()> {
    host::succeed(Command::new("kill").args(["-9", &pid.to_string()])).map(drop)
}

fn killed_processes(sandbox: &Sandbox) -> Result<()> {
    ready(sandbox)?;
    let web = sandbox.detached(&["--name", "web", "-p", "8080:80"], SERVE)?;
    contains!(get_from_neighbour(sandbox, "192.0.2.1:8080")?, "from 192.0.2.2");
    // Without the holder everything goes on, and the next command starts another for the same namespace and pasta.
    let before = record(sandbox)?;
    kill(&before["holder"])?;
    contains!(get_from_neighbour(sandbox, "192.0.2.1:8080")?, "from 192.0.2.2");
    contains!(sandbox.busybox(&[], "ping -c 1 -W 2 192.0.2.2")?, "1 packets received");
    let after = record(sandbox)?;
    ensure!(before["holder"] != after["holder"], "{after}");
    same!(before["namespace"], after["namespace"]);
    same!(before["pasta"], after["pasta"]);
    // A published port does not lead through pasta, so that a connection to it outlives pasta, which comes back by itself.
    let echo = sandbox.detached(&["-p", "8081:81"], "echo ready; exec nc -ll -p 81 -e cat")?;
    sandbox.wait_for_log(&echo, "ready")?;
    let mut stream = echoing(sandbox, "192.0.2.1:8081")?;
    let mut echoed = |word: &[u8; 4]| -> Result<()> {
        let mut back = [0; 4];
        stream.write_all(word)?;
        stream.read_exact(&mut back)?;
        ensure!(back == *word, "{back:?} came back");
        Ok(())
    };
    echoed(b"one\n")?;
    kill(&after["pasta"])?;
    echoed(b"two\n")?;
    host::until("another pasta", sandbox.seconds(5), || {
        let pasta = record(sandbox)?["pasta"].clone();
        Ok((pasta != after["pasta"] && pasta != 0).then_some(()))
    })?;
    contains!(sandbox.busybox(&[], "ping -c 1 -W 2 192.0.2.2")?, "1 packets received");
    contains!(get_from_neighbour(sandbox, "192.0.2.1:8080")?, "from 192.0.2.2");
    echoed(b"end\n")?;
    sandbox.ok(["rm", "-f", &echo])?;
    // Holder and container killed at once: the next command finds a namespace that nobody needs, and clears it away.
    let last = record(sandbox)?;
    let state = fs::read_to_string(sandbox.path("run/containers").join(&web).join("state.json"))?;
    let state: Value = serde_json::from_str(&state)?;
    kill(&last["holder"])?;
    kill(&state["monitor_pid"])?;
    // Its end takes the kernel a moment.
    host::until("the monitor is gone", sandbox.seconds(5), || {
        Ok(fs::read(format!("/proc/{}/cmdline", state["monitor_pid"])).unwrap_or_default().is_empty().then_some(()))
    })?;
    host::until("the sweep", sandbox.seconds(5), || Ok(sandbox.ok(["ps", "-q"])?.is_empty().then_some(())))?;
    host::until("its pasta is gone", sandbox.seconds(5), || {
        // One that nobody has reaped yet has no command line.
        Ok(fs::read(format!("/proc/{}/cmdline", last["pasta"])).unwrap_or_default().is_empty().then_some(()))
    })?;
    contains!(sandbox.busybox(&[], "ping -c 1 -W 2 192.0.2.2")?, "1 packets received");
    Ok(())
}

/// A connection on which the first byte has come back: until then the program behind a port may not listen yet.
fn echoing(sandbox: &Sandbox, address: &str) -> Result<TcpStream> {
    host::until("a listener", sandbox.seconds(5), || {
        let Ok(mut stream) = TcpStream::connect(address) else { return Ok(None) };
        stream.set_read_timeout(Some(Duration::from_secs(20)))?;
        let mut byte = [0];
        let works = stream.write_all(b"x").and_then(|()| stream.read_exact(&mut byte));
        Ok(works.is_ok().then_some(stream))
    })
}

/// Eight MiB each way through a published port, in pieces of all sizes and with both ends closing in turn.
fn streams_are_whole(sandbox: &Sandbox) -> Result<()> {
    ready(sandbox)?;
    let id = sandbox.detached(&["-p", "8080:80"], "echo ready; exec nc -ll -p 80 -e cat")?;
    sandbox.wait_for_log(&id, "ready")?;
    let data: Vec<u8> = (0..8 << 20).map(|n: u32| (n.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    let mut stream = echoing(sandbox, "192.0.2.1:8080")?;
    let (mut writer, sent) = (stream.try_clone()?, data.clone());
    let writing = std::thread::spawn(move || -> std::io::Result<()> {
        let mut rest = &sent[..];
        for size in [1, 7, 1500, 65_000, 300_000].into_iter().cycle() {
            let (piece, after) = rest.split_at(rest.len().min(size));
            writer.write_all(piece)?;
            rest = after;
            if rest.is_empty() {
                return writer.shutdown(std::net::Shutdown::Write);
            }
        }
        Ok(())
    });
    let mut received = Vec::new();
    stream.read_to_end(&mut received)?;
    writing.join().ok().context("the writer panicked")??;
    ensure!(received == data, "{} of {} bytes came back, or others", received.len(), data.len());
    // Nobody listens inside: the client hears so.
    sandbox.detached(&["-p", "8083:81"], SLEEP)?;
    let mut refused = TcpStream::connect("192.0.2.1:8083")?;
    refused.set_read_timeout(Some(Duration::from_secs(5)))?;
    let answer = refused.read(&mut [0; 8]);
    ensure!(matches!(&answer, Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset), "{answer:?}");
    Ok(())
}

/// Two first commands at once are in one namespace, so that their containers reach each other.
fn first_commands_at_once(sandbox: &Sandbox) -> Result<()> {
    ready(sandbox)?;
    let mut children = Vec::new();
    for name in ["aa", "bb", "cc", "dd"] {
        let words = ["run", "-d", "--name", name, "busybox", "sleep", "1000"];
        children.push(sandbox.spawn(words)?);
    }
    for child in children {
        let output = child.wait_with_output()?;
        ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
    for name in ["bb", "cc", "dd"] {
        let there = address(sandbox, name, "bridge")?;
        contains!(sandbox.ok(["exec", "aa", "ping", "-c", "1", "-W", "2", &there])?, "1 packets received");
    }
    Ok(())
}

fn privileged_port(sandbox: &Sandbox) -> Result<()> {
    ready(sandbox)?;
    sandbox.dhow(["run", "--rm", "-p", "80:80", "busybox", "true"])?.fails(125, &["80", "needs privilege"])?;
    let wrong = ["network", "create", "-d", "macvlan", "-o", "parent=wire0", "wrong"];
    sandbox.dhow(wrong)?.fails(1, &["macvlan", "root"])
}

/// A run again under the same monitor: same port, same address, names as before.
fn restarts(sandbox: &Sandbox) -> Result<()> {
    ready(sandbox)?;
    sandbox.ok(["network", "create", "mine"])?;
    let id =
        sandbox.detached(&["--network", "mine", "--name", "web", "-p", "8080:80", "--restart", "always"], SERVE)?;
    contains!(get_from_neighbour(sandbox, "192.0.2.1:8080")?, "from 192.0.2.2");
    let pid = sandbox.pid(&id)?;
    host::succeed(Command::new("kill").args(["-9", &pid.to_string()]))?;
    host::until("it runs again", sandbox.seconds(5), || {
        let now = sandbox.pid(&id).unwrap_or(0);
        Ok((now != pid && now != 0).then_some(()))
    })?;
    contains!(get_from_neighbour(sandbox, "192.0.2.1:8080")?, "from 192.0.2.2");
    contains!(sandbox.busybox(&["--network", "mine"], "ping -c 1 -W 2 web")?, "1 packets received");
    sandbox.ok(["restart", "-t", "0", &id])?;
    contains!(get_from_neighbour(sandbox, "192.0.2.1:8080")?, "from 192.0.2.2");
    Ok(())
}

/// The process that watches over the rules, a monitor in the user's network.
fn watcher(sandbox: &Sandbox) -> Result<Value> {
    let path = sandbox.path("run/networks/guard");
    let text = fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
    Ok(text.trim().parse::<i64>()?.into())
}

/// Processes of dhow are killed: no packet of a ping, no byte of a stream in by a published port and of one out is lost.
fn nothing_is_lost(sandbox: &Sandbox) -> Result<()> {
    ready(sandbox)?;
    if host::program("socat").is_none() {
        return skip("no socat");
    }
    sandbox.ok(["network", "create", "mine"])?;
    let run = |name: &str, options: &[&str], script: &str| {
        sandbox.detached(&[&["--network", "mine", "--name", name], options].concat(), script)
    };
    // The first one's monitor watches over the rules.
    run("victim", &[], SLEEP)?;
    run("web", &["-p", "8080:80"], "echo ready; nc -l -p 80 | wc -c; exec sleep 1000")?;
    run("peer", &[], SLEEP)?;
    sandbox.wait_for_log("web", "ready")?;
    let (sent, came) = std::thread::scope(|scope| -> Result<(String, String)> {
        let send = "for i in $(seq 100); do head -c 300000 /dev/zero; sleep 0.02; done | socat -u - TCP:192.0.2.1:8080";
        let receive = "timeout 60 socat -u TCP-LISTEN:9000,reuseaddr - | wc -c";
        let sending = scope.spawn(|| neighbour::run(sandbox, send));
        let receiving = scope.spawn(|| neighbour::run(sandbox, receive));
        let pause = || std::thread::sleep(Duration::from_millis(400));
        pause();
        run("out", &[], "for i in $(seq 80); do head -c 100000 /dev/zero; sleep 0.02; done | nc 192.0.2.2 9000")?;
        let mut pinging = sandbox.spawn(["exec", "peer", "ping", "-i", "0.02", "-c", "100", "-q", "web"])?;
        pause();
        kill(&watcher(sandbox)?)?;
        pause();
        kill(&record(sandbox)?["holder"])?;
        pause();
        // The next commands put right what is left, and start something beside.
        sandbox.ok(["ps", "-a"])?;
        sandbox.busybox(&["--network", "mine", "-p", "8081:80"], "true")?;
        let pinged = pinging.wait()?;
        let mut text = String::new();
        pinging.stdout.take().context("no output")?.read_to_string(&mut text)?;
        ensure!(pinged.success(), "ping: {text}");
        contains!(text, "100 packets transmitted, 100 packets received");
        let end = |thread: std::thread::ScopedJoinHandle<'_, Result<String>>| thread.join().ok().context("a panic")?;
        Ok((end(sending)?, end(receiving)?))
    })?;
    same!((sent.as_str(), came.trim()), ("", "8000000"));
    let counted = host::until("every byte", sandbox.seconds(20), || {
        Ok(sandbox.ok(["logs", "web"])?.lines().nth(1).map(str::to_owned))
    })?;
    same!(counted.trim(), "30000000");
    Ok(())
}

/// Another program of the user's throws the rules away in the user's network: ports, their clients' addresses and isolation are
/// soon as before.
fn flush_is_put_right(sandbox: &Sandbox) -> Result<()> {
    ready(sandbox)?;
    if host::program("nft").is_none() {
        return skip("no nft");
    }
    sandbox.ok(["network", "create", "mine"])?;
    let web = sandbox.detached(&["--network", "mine", "-p", "8080:80"], SERVE)?;
    contains!(get_from_neighbour(sandbox, "192.0.2.1:8080")?, "from 192.0.2.2");
    let target = watcher(sandbox)?.to_string();
    let nft = |words: &[&str]| {
        let mut command = Command::new("nsenter");
        command.args(["--preserve-credentials", "--user", "--net", "--target", &target, "nft"]).args(words);
        host::succeed(&mut command)
    };
    let rules = || nft(&["--stateless", "list", "table", "inet", "dhow"]);
    let before = rules()?;
    nft(&["flush", "ruleset"])?;
    host::until("the rules are back", sandbox.seconds(10), || {
        Ok(rules().is_ok_and(|now| now == before).then_some(()))
    })?;
    contains!(get_from_neighbour(sandbox, "192.0.2.1:8080")?, "from 192.0.2.2");
    let isolated = sandbox.busybox(&[], &format!("ping -c 1 -W 1 {}; true", address(sandbox, &web, "mine")?))?;
    contains!(isolated, "100% packet loss");
    contains!(sandbox.busybox(&["--network", "mine"], "ping -c 1 -W 2 192.0.2.2")?, "1 packets received");
    Ok(())
}

/// A container with a relayed port ends while clients are connected; another takes the port at once, again and again.
fn ports_are_free_at_once(sandbox: &Sandbox) -> Result<()> {
    ready(sandbox)?;
    for name in ["one", "two", "three"] {
        sandbox.detached(&["--name", name, "-p", "8080:80", "-p", "127.0.0.1:8081:80"], SERVE)?;
        contains!(get("192.0.2.1:8080")?, "from 192.0.2.1");
        contains!(get("127.0.0.1:8081")?, "from 10.88.");
        // It is connected to when its container goes, so that the relay's side closes first.
        let held = TcpStream::connect("192.0.2.1:8080")?;
        sandbox.ok(["rm", "-f", name])?;
        drop(held);
    }
    Ok(())
}
