//! What clients cannot do to `dhow serve`: bodies without end, ten thousand connections, slow readers, sessions that are
//! left. Memory, threads and descriptors come back to where they were.

use std::fs;
use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::json;

use crate::case::{cases, same, skip};
use crate::host;
use crate::sandbox::Sandbox;
use crate::server::{Server, read_head, status};

// What is root's alone here proves nothing about an ordinary user, and takes its time.
cases![docker_crowds:
    bodies_of_all_lengths [Root], two_lengths [Root], ten_thousand_connections [Root, Alone], slow_readers [Root],
    sessions_that_are_left [Root],
    containers_keep_their_limit, little_when_idle [Root],
];

const BOX: [&str; 3] = ["--network", "none", "busybox"];

fn ready(sandbox: &Sandbox) -> Result<Server<'_>> {
    sandbox.load("busybox")?;
    Server::start(sandbox)
}

/// What a server has: descriptors, threads, KiB of its own memory.
fn held(server: &Server<'_>) -> Result<(usize, usize, u64)> {
    let count =
        |directory: &str| -> Result<usize> { Ok(fs::read_dir(format!("/proc/{}/{directory}", server.pid()))?.count()) };
    let text = fs::read_to_string(format!("/proc/{}/status", server.pid()))?;
    let own = text.lines().find_map(|line| line.strip_prefix("RssAnon:")).context("no RssAnon")?;
    Ok((count("fd")?, count("task")?, own.trim().trim_end_matches(" kB").trim().parse()?))
}

/// Waits until the server has let go of what clients had.
fn rests(server: &Server<'_>, sandbox: &Sandbox, before: (usize, usize, u64)) -> Result<()> {
    host::until("the server rests again", sandbox.seconds(30), || {
        let now = held(server)?;
        Ok((now.0 <= before.0 + 4 && now.1 <= before.1 + 1).then_some(()))
    })
    .with_context(|| format!("before: {before:?}, now: {:?}", held(server)))
}

fn bodies_of_all_lengths(sandbox: &Sandbox) -> Result<()> {
    let server = ready(sandbox)?;
    const MIB: usize = 1 << 20;
    for (length, wanted) in
        [(0, 400), (MIB - 1, 404), (MIB, 404), (MIB + 1, 404), (4 * MIB - 1, 404), (4 * MIB, 404), (4 * MIB + 1, 413)]
    {
        let asked = "{\"Image\": \"nosuch\"}";
        let document = if length == 0 { String::new() } else { format!("{asked}{}", " ".repeat(length - asked.len())) };
        let path = "POST /containers/create";
        let mut plain = server.send(path, "Connection: close\r\n", &document)?;
        same!(status(&read_head(&mut plain)?)?, wanted, "{length} bytes");
        let mut chunked = server.send(
            path,
            "Connection: close\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n",
            "",
        )?;
        for part in document.as_bytes().chunks(100_000) {
            // It may have heard enough.
            let _unheard = write!(chunked, "{:x}\r\n", part.len()).and_then(|()| chunked.write_all(part));
            drop(chunked.write_all(b"\r\n"));
        }
        drop(chunked.write_all(b"0\r\n\r\n"));
        same!(status(&read_head(&mut chunked)?)?, wanted, "{length} bytes in pieces");
    }
    Ok(())
}

fn two_lengths(sandbox: &Sandbox) -> Result<()> {
    let server = ready(sandbox)?;
    server.ok(&[&["create", "--name", "victim"], &BOX[..], &["true"]].concat())?;
    let hidden = "DELETE /containers/victim?force=1 HTTP/1.1\r\nHost: d\r\n\r\n";
    let raw = |text: String| -> Result<String> {
        let mut stream = UnixStream::connect(&server.socket)?;
        stream.set_read_timeout(Some(sandbox.seconds(20)))?;
        drop(stream.write_all(text.as_bytes()));
        drop(stream.shutdown(Shutdown::Write));
        let mut answer = vec![];
        drop(stream.read_to_end(&mut answer));
        Ok(String::from_utf8_lossy(&answer).into_owned())
    };
    let head = "POST /containers/prune?filters=%7B%22label%22%3A%5B%22none%22%5D%7D HTTP/1.1\r\nHost: d\r\n";
    for fields in [
        // Whoever believes the first of these takes what follows for a request.
        format!("Content-Length: {}\r\nContent-Length: 0\r\n", hidden.len()),
        format!("Content-Length: +{}\r\n", hidden.len()),
        format!("Content-Length : {}\r\n", hidden.len()),
        format!("Content-Length:\r\n {}\r\n", hidden.len()),
        format!("Transfer-Encoding: xchunked\r\nContent-Length: {}\r\n", hidden.len()),
    ] {
        let answer = raw(format!("{head}{fields}\r\n{hidden}"))?;
        ensure!(answer.matches("HTTP/1.1 ").count() <= 1, "{fields:?}: {answer}");
    }
    // In pieces, whatever the length says; a half of a piece is no content.
    raw(format!(
        "{head}Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n{:x}\r\n{hidden}\r\n0\r\n\r\n",
        hidden.len()
    ))?;
    raw(format!("{head}Transfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\n{hidden}"))?;
    same!(server.ask("GET /containers/victim/json", "")?.0, 200);
    // Paths that are another's in disguise are nobody's.
    for path in ["//info", "/./info", "/v1.41//info", "/%2e%2e/info", "/info/", "/INFO"] {
        same!(server.ask(&format!("GET {path}"), "")?.0, 404, "{path}");
    }
    // Whoever says that it goes on as something else, and does not, has asked an ordinary question.
    let mut stream = server.send("GET /_ping", "Connection: Upgrade, close\r\nUpgrade: tcp\r\n", "")?;
    same!(status(&read_head(&mut stream)?)?, 200);
    Ok(())
}

const CONNECT: &str = r#"
import resource, socket, sys, time
resource.setrlimit(resource.RLIMIT_NOFILE, (10200, 10200))
def connect():
    one = socket.socket(socket.AF_UNIX); one.connect(sys.argv[1]); return one
clients = [connect() for _ in range(10000)]
half = clients[::2]
for one in half:
    one.sendall(b"GET /_ping HTTP/1.1\r\nX: ")
for one in half:
    one.sendall(b"y\r\nHost: d\r\n\r\n")
for one in half:
    one.settimeout(60)
    assert one.recv(4096).startswith(b"HTTP/1.1 200"), "no answer"
print("all answered", flush=True)
sys.stdin.read()
"#;

fn ten_thousand_connections(sandbox: &Sandbox) -> Result<()> {
    if rlimit()? < 10_300 {
        return skip("this process may not have ten thousand descriptors");
    }
    let server = ready(sandbox)?;
    server.ask("GET /_ping", "")?;
    let before = held(&server)?;
    let script = sandbox.file("connect.py", CONNECT)?;
    let mut command = Command::new("python3");
    command.arg(script).arg(&server.socket).stdin(std::process::Stdio::piped()).stdout(std::process::Stdio::piped());
    let mut clients = host::Background(command.spawn()?);
    let mut line = [0; 12];
    clients.0.stdout.as_mut().context("no output")?.read_exact(&mut line)?;
    same!(String::from_utf8_lossy(&line), "all answered");
    let now = held(&server)?;
    ensure!(now.0 > 9_000, "{now:?}: ten thousand are not there");
    ensure!(now.1 <= before.1 + 5, "{} threads", now.1);
    ensure!(now.2 < 192 << 10, "{} KiB for ten thousand clients", now.2);
    // Others are answered all the same, and in good time.
    let began = Instant::now();
    same!(server.ask("GET /_ping", "")?.0, 200);
    ensure!(began.elapsed() < sandbox.seconds(2), "{:?}", began.elapsed());
    drop(clients);
    rests(&server, sandbox, before)?;
    host::until("memory is given back", sandbox.seconds(20), || {
        Ok((held(&server)?.2 < before.2 + (24 << 10)).then_some(()))
    })
    .with_context(|| format!("before: {before:?}, now: {:?}", held(&server)))?;
    Ok(())
}

/// How many descriptors a process may have here at most.
fn rlimit() -> Result<u64> {
    let text = fs::read_to_string("/proc/self/limits")?;
    let line = text.lines().find(|line| line.starts_with("Max open files")).context("no limit")?;
    let hard = line.split_whitespace().nth(4).context("no hard limit")?;
    Ok(if hard == "unlimited" { u64::MAX } else { hard.parse()? })
}

fn slow_readers(sandbox: &Sandbox) -> Result<()> {
    let server = ready(sandbox)?;
    let talk = "dd if=/dev/zero bs=1024 count=4096 2>/dev/null | tr '\\0' 'x' | fold -w 1000";
    // Not through docker, whose output would be the test's.
    sandbox.ok(["run", "-d", "--name", "talker", "--network", "none", "busybox", "sh", "-c", talk])?;
    sandbox.ok(["wait", "talker"])?;
    // A stopped one's files are read by one at a time.
    sandbox.detached(&["--name", "files", "--network", "none"], "sleep 1000")?;
    let before = held(&server)?;
    // They ask for much and take nothing.
    let mut clients = vec![];
    for _ in 0..40 {
        for line in ["GET /containers/talker/logs?stdout=1", "GET /containers/files/archive?path=/bin"] {
            clients.push(server.send(line, "Connection: close\r\n", "")?);
        }
    }
    for client in &mut clients {
        same!(status(&read_head(client)?)?, 200);
    }
    std::thread::sleep(Duration::from_millis(500));
    let now = held(&server)?;
    ensure!(now.2 < before.2 + (64 << 10), "{} KiB for those who take nothing", now.2);
    same!(server.ask("GET /containers/json?all=1", "")?.0, 200);
    drop(clients);
    host::until(
        "descriptors are closed",
        sandbox.seconds(30),
        || Ok((held(&server)?.0 <= before.0 + 8).then_some(())),
    )?;
    Ok(())
}

fn sessions_that_are_left(sandbox: &Sandbox) -> Result<()> {
    let server = ready(sandbox)?;
    let id = server.ok(&[&["run", "-dit"], &BOX[..], &["cat"]].concat())?;
    let upgrade = "Connection: Upgrade\r\nUpgrade: tcp\r\n";
    let round = |count: usize| -> Result<()> {
        for _ in 0..count {
            let line = format!("POST /containers/{id}/attach?stream=1&stdout=1&stdin=1");
            let mut stream = server.send(&line, upgrade, "")?;
            same!(status(&read_head(&mut stream)?)?, 101);
            drop(stream);
            // Gone before the head.
            drop(server.send(&line, upgrade, "")?);
            drop(server.send(&format!("POST /containers/{id}/resize?h=10&w=10"), "", "")?);
        }
        for _ in 0..count / 8 {
            let asked = json!({"Cmd": ["cat"], "AttachStdin": true, "AttachStdout": true, "Tty": true}).to_string();
            let (_, session) = server.ask(&format!("POST /containers/{id}/exec"), &asked)?;
            let session = session["Id"].as_str().context("no Id")?;
            let mut stream = server.send(&format!("POST /exec/{session}/start"), upgrade, "{\"Tty\":true}")?;
            same!(status(&read_head(&mut stream)?)?, 101);
            drop(stream);
        }
        Ok(())
    };
    round(8)?;
    let before = held(&server)?;
    round(std::env::var("DHOW_LEFT").ok().and_then(|count| count.parse().ok()).unwrap_or(64))?;
    rests(&server, sandbox, before)?;
    let after = held(&server)?;
    ensure!(after.2 < before.2 + (16 << 10), "memory stays: {before:?}, {after:?}");
    same!(server.ok(&["inspect", "-f", "{{.State.Running}}", &id])?, "true");
    Ok(())
}

/// The server raises its own limit of descriptors; what it starts does not have that.
fn containers_keep_their_limit(sandbox: &Sandbox) -> Result<()> {
    let server = ready(sandbox)?;
    let by_command = sandbox.busybox(&[], "ulimit -Sn; ulimit -Hn")?;
    let by_server = server.ok(&[&["run", "--rm"], &BOX[..], &["sh", "-c", "ulimit -Sn; ulimit -Hn"]].concat())?;
    same!(by_command.trim(), by_server.trim());
    Ok(())
}

/// A server that nobody asks anything has less than 10 MiB, what it executes included: after its start, and after work.
fn little_when_idle(sandbox: &Sandbox) -> Result<()> {
    let server = ready(sandbox)?;
    let resident = || -> Result<u64> {
        let text = fs::read_to_string(format!("/proc/{}/status", server.pid()))?;
        let all = text.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS")?;
        Ok(all.trim().trim_end_matches(" kB").trim().parse()?)
    };
    let rests = || {
        host::until("the server needs little", sandbox.seconds(30), || Ok((resident()? < 10 << 10).then_some(())))
            .with_context(|| format!("{:?} KiB", resident()))
    };
    rests()?;
    for number in 0..20 {
        let document = json!({"Image": "busybox", "HostConfig": {"NetworkMode": "none"}}).to_string();
        same!(server.ask(&format!("POST /containers/create?name=box{number}"), &document)?.0, 201);
        same!(server.ask("GET /containers/json?all=1", "")?.0, 200);
        same!(server.ask(&format!("GET /containers/box{number}/json"), "")?.0, 200);
    }
    rests()?;
    for number in 0..20 {
        same!(server.ask(&format!("DELETE /containers/box{number}"), "")?.0, 204);
    }
    Ok(())
}
