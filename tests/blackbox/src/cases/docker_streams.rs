//! The Docker Engine API: websockets, standard streams as a connection, what the server tells of itself, sizes, registries.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use crate::case::{cases, contains, same};
use crate::host;
use crate::registry::{Registry, free_address};
use crate::sandbox::Sandbox;
use crate::server::{Server, read_head, status};

cases![docker_streams:
    heads_come_alone [Root], a_session_that_begins [Root], websocket, websocket_refusals, dial_stdio, metrics_and_log, sizes, what_a_registry_has, nothing_to_prune,
];

const BOX: [&str; 3] = ["--network", "none", "busybox"];

fn ready(sandbox: &Sandbox) -> Result<Server<'_>> {
    sandbox.load("busybox")?;
    Server::start(sandbox)
}

const HANDSHAKE: &str = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
                         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";

/// A masked frame of a client.
fn send(stream: &mut UnixStream, kind: u8, payload: &[u8]) -> Result<()> {
    let mask = [1, 2, 3, 4];
    let mut frame = vec![0x80 | kind, 0x80 | u8::try_from(payload.len())?];
    frame.extend(mask);
    frame.extend(payload.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    stream.write_all(&frame)?;
    Ok(())
}

/// A frame of the server: its kind and its payload.
fn receive(stream: &mut UnixStream) -> Result<(u8, Vec<u8>)> {
    let mut head = [0; 2];
    stream.read_exact(&mut head)?;
    ensure!(head[1] & 0x80 == 0, "a server's frame is masked");
    let length = match head[1] {
        126 => {
            let mut more = [0; 2];
            stream.read_exact(&mut more)?;
            usize::from(u16::from_be_bytes(more))
        }
        127 => {
            let mut more = [0; 8];
            stream.read_exact(&mut more)?;
            usize::try_from(u64::from_be_bytes(more))?
        }
        short => usize::from(short),
    };
    let mut payload = vec![0; length];
    stream.read_exact(&mut payload)?;
    Ok((head[0], payload))
}

fn websocket(sandbox: &Sandbox) -> Result<()> {
    let server = ready(sandbox)?;
    server.ok(&[&["create", "-i", "--name", "box"], &BOX[..], &["sh", "-c", "cat; echo bad >&2; exit 3"]].concat())?;
    let line = "GET /containers/box/attach/ws?stream=1&stdin=1&stdout=1&stderr=1";
    let mut stream = server.send(line, HANDSHAKE, "")?;
    let head = read_head(&mut stream)?;
    same!(status(&head)?, 101);
    contains!(head.to_ascii_lowercase(), "sec-websocket-accept: s3pplmbitxaq9kygzzhzrbk+xoo=");
    server.ok(&["start", "box"])?;
    send(&mut stream, 9, b"there?")?;
    same!(receive(&mut stream)?, (0x8a, b"there?".to_vec()));
    send(&mut stream, 2, b"hello\n")?;
    same!(receive(&mut stream)?, (0x82, b"hello\n".to_vec()));
    // The end of what the client sends is the end of the input; a websocket says so by closing, and hears the rest.
    send(&mut stream, 8, &[3, 232])?;
    same!(receive(&mut stream)?, (0x82, b"bad\n".to_vec()));
    same!(receive(&mut stream)?, (0x88, vec![3, 232]));
    same!(server.ok(&["wait", "box"])?, "3");
    // What was said before, in one stream, and text before 1.28.
    let mut stream = server.send("GET /v1.27/containers/box/attach/ws?logs=1&stdout=1&stderr=1", HANDSHAKE, "")?;
    same!(status(&read_head(&mut stream)?)?, 101);
    let (kind, text) = receive(&mut stream)?;
    same!((kind, String::from_utf8_lossy(&text).into_owned()), (0x81, "hello\nbad\n".to_owned()));
    Ok(())
}

fn websocket_refusals(sandbox: &Sandbox) -> Result<()> {
    let server = ready(sandbox)?;
    let id = server.ok(&[&["run", "-di"], &BOX[..], &["cat"]].concat())?;
    let line = format!("GET /containers/{id}/attach/ws?stream=1&stdin=1&stdout=1");
    same!(server.ask(&line, "")?.0, 400);
    let old = HANDSHAKE.replace("Version: 13", "Version: 8");
    same!(status(&read_head(&mut server.send(&line, &old, "")?)?)?, 400);
    same!(status(&read_head(&mut server.send(&line.replace(&id, "nosuch"), HANDSHAKE, "")?)?)?, 404);
    // Frames that break the protocol end the connection, and nothing else.
    let long_ping = [&[0x89, 0xfe, 0xff, 0xff, 0, 0, 0, 0][..], &[0; 200]].concat();
    for broken in [&[0x82, 3, 1, 2, 3][..], &[0xff; 64], &long_ping] {
        let mut stream = server.send(&line, HANDSHAKE, "")?;
        same!(status(&read_head(&mut stream)?)?, 101);
        stream.write_all(broken)?;
        let mut rest = vec![];
        // It may be reset, as not all was read.
        drop(stream.read_to_end(&mut rest));
    }
    same!(server.ok(&["inspect", "-f", "{{.State.Running}}", &id])?, "true");
    Ok(())
}

fn dial_stdio(sandbox: &Sandbox) -> Result<()> {
    sandbox.dhow(["system", "dial-stdio"])?.fails(1, &["dhow serve"])?;
    sandbox.load("busybox")?;
    let address = format!("unix://{}", sandbox.path("run/docker.sock").display());
    let server = Server::start_with(sandbox, &["--host", &address])?;
    let mut dial = sandbox.command(["system", "dial-stdio"]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
    // The input stays open until the answer is there, as ssh's does.
    let mut input = dial.stdin.take().context("no input")?;
    input.write_all(b"GET /_ping HTTP/1.1\r\nHost: d\r\nConnection: close\r\n\r\n")?;
    let mut answer = String::new();
    dial.stdout.take().context("no output")?.read_to_string(&mut answer)?;
    contains!(answer, "\r\n\r\nOK");
    drop(input);
    ensure!(dial.wait()?.success(), "dial-stdio failed");
    // What docker's command line does with ssh://, through a program that plays ssh.
    let dhow = sandbox.command(["system", "dial-stdio"]);
    let words: Vec<String> = std::iter::once(dhow.get_program())
        .chain(dhow.get_args())
        .map(|word| format!("'{}'", word.to_string_lossy()))
        .collect();
    let ssh = sandbox.file("bin/ssh", format!("#!/bin/sh\nexec {}\n", words.join(" ")))?;
    host::succeed(Command::new("chmod").args(["755", &ssh]))?;
    let words = [&["run", "-i", "--rm"], &BOX[..], &["sh", "-c", "cat; exit 5"]].concat();
    let mut docker = server.docker_command(&words)?;
    docker.env("DOCKER_HOST", "ssh://somewhere");
    docker.env("PATH", format!("{}:/usr/sbin:/usr/bin:/sbin:/bin", sandbox.path("files/bin").display()));
    let output = sandbox.finish_command(docker, "typed\n")?;
    same!((output.code, output.stdout.as_str()), (5, "typed\n"), "{}", output.stderr);
    Ok(())
}

fn metrics_and_log(sandbox: &Sandbox) -> Result<()> {
    sandbox.load("busybox")?;
    let (socket, address) = (sandbox.path("docker.sock"), free_address()?);
    let host = format!("unix://{}", socket.display());
    let words = ["serve", "--host", &host, "--metrics-addr", &address, "--log-format", "json", "--log-level", "debug"];
    let child = sandbox.command(words).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn()?;
    let mut server = host::Background(child);
    let log = host::reader(server.0.stderr.take().context("no stderr")?);
    let connected = || Ok(UnixStream::connect(&socket).ok());
    host::until("the server listens", sandbox.seconds(20), connected)?;
    let ask = |words: &[&str]| {
        let mut curl = Command::new("curl");
        curl.args(["-s", "-m", "20"]).args(words);
        sandbox.finish_command(curl, "")?.success()
    };
    let socket = socket.to_str().context("UTF-8")?;
    ask(&["--unix-socket", socket, "http://d/containers/no%0asuch/json?secret=1"])?;
    for text in [ask(&[&format!("http://{address}/metrics")])?, ask(&["--unix-socket", socket, "http://d/metrics"])?] {
        contains!(text, "engine_daemon_container_states_containers{state=\"running\"} 0");
        contains!(text, "dhow_images 1");
        contains!(text, "dhow_http_requests_total{method=\"GET\",code=\"404\"} 1");
        contains!(text, "process_resident_memory_bytes ");
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            let value = line.rsplit_once(' ').context("no value")?.1;
            ensure!(value.parse::<f64>().is_ok(), "{line}");
        }
    }
    // That address has nothing else.
    contains!(ask(&[&format!("http://{address}/containers/json")])?, "only /metrics");
    host::succeed(Command::new("kill").arg(server.0.id().to_string()))?;
    let text = log.join().map_err(|_| anyhow::anyhow!("the reader panicked"))?;
    let entries: Vec<Value> = text.lines().map(serde_json::from_str).collect::<Result<_, _>>().context(text.clone())?;
    let found = entries.iter().find(|entry| entry["status"] == 404).context("the request is not in the log")?;
    same!((&found["level"], &found["method"], &found["tier"]), (&json!("debug"), &json!("GET"), &json!("full")));
    same!(found["path"], "/containers/no%0asuch/json");
    ensure!(found["peer"].as_str().is_some_and(|peer| peer.starts_with("uid:")), "{found}");
    ensure!(!text.contains("secret"), "a query is in the log: {text}");
    same!(entries.first().map(|entry| &entry["msg"]), Some(&json!("API listening")));
    Ok(())
}

fn sizes(sandbox: &Sandbox) -> Result<()> {
    let server = ready(sandbox)?;
    let write = "dd if=/dev/zero of=/big bs=1024 count=2048 2>/dev/null";
    server.ok(&[&["run", "--name", "box"], &BOX[..], &["sh", "-c", write]].concat())?;
    let (_, inspected) = server.ask("GET /containers/box/json?size=1", "")?;
    let (_, listed) = server.ask("GET /containers/json?all=1&size=1", "")?;
    let (_, used) = server.ask("GET /system/df", "")?;
    for line in [&inspected, &listed[0], &used["Containers"][0]] {
        let size = |name: &str| line[name].as_u64().with_context(|| format!("no {name} in {line}"));
        ensure!((2_097_152..2_300_000).contains(&size("SizeRw")?), "{}", line["SizeRw"]);
        ensure!(size("SizeRootFs")? > size("SizeRw")?, "{line}");
    }
    let (_, history) = server.ask("GET /images/busybox/history", "")?;
    let total: u64 = history.as_array().context("a list")?.iter().filter_map(|step| step["Size"].as_u64()).sum();
    let (_, image) = server.ask("GET /images/busybox/json", "")?;
    same!(Some(total), image["Size"].as_u64());
    Ok(())
}

fn what_a_registry_has(sandbox: &Sandbox) -> Result<()> {
    let registry = Registry::start(sandbox, &["busybox"], None)?;
    let server = Server::start(sandbox)?;
    let (code, found) = server.ask(&format!("GET /distribution/{}/library/busybox/json", registry.address), "")?;
    same!(code, 200, "{found}");
    let descriptor = &found["Descriptor"];
    ensure!(descriptor["digest"].as_str().is_some_and(|digest| digest.starts_with("sha256:")), "{found}");
    ensure!(descriptor["size"].as_u64().is_some_and(|size| size > 0), "{found}");
    same!(found["Platforms"][0]["os"], "linux");
    let (code, _) = server.ask(&format!("GET /distribution/{}/nosuch/json", registry.address), "")?;
    same!(code, 404);
    Ok(())
}

fn nothing_to_prune(sandbox: &Sandbox) -> Result<()> {
    let server = ready(sandbox)?;
    let (code, pruned) = server.ask("POST /build/prune", "")?;
    same!((code, &pruned["SpaceReclaimed"]), (200, &json!(0)));
    contains!(server.ok(&["system", "prune", "-f"])?, "Total reclaimed space: 0B");
    Ok(())
}

/// What a client reads first of a hijacked connection is the head of the answer and nothing else, however late it reads: some read it
/// through a buffer that they throw away.
fn heads_come_alone(sandbox: &Sandbox) -> Result<()> {
    let server = ready(sandbox)?;
    sandbox.detached(&["--name", "talker", "--network", "none"], "while :; do echo x; sleep 0.02; done")?;
    let session = server.ask("POST /containers/talker/exec", r#"{"Cmd": ["echo", "x"], "AttachStdout": true}"#)?.1;
    let exec = format!("POST /exec/{}/start", session["Id"].as_str().context("no session")?);
    let upgrade = "Connection: Upgrade\r\nUpgrade: tcp\r\n";
    let attach = "POST /containers/talker/attach?stream=1&stdout=1";
    for (line, headers, content) in [
        (exec.as_str(), upgrade, "{}"),
        (attach, upgrade, ""),
        (attach, "", ""),
        ("POST /containers/talker/attach?logs=1&stdout=1", upgrade, ""),
    ] {
        let mut client = server.send(line, headers, content)?;
        std::thread::sleep(Duration::from_millis(200));
        let mut first = vec![0; 64 << 10];
        let read = client.read(&mut first)?;
        let head = String::from_utf8_lossy(&first[..read]).into_owned();
        ensure!(head.starts_with("HTTP/1.1 ") && head.ends_with("\r\n\r\n"), "{line}: {head:?}");
        let mut piece = [0; 10];
        client.read_exact(&mut piece)?;
        ensure!(piece.ends_with(b"x\n"), "{line}: {piece:?}");
    }
    sandbox.ok(["rm", "-f", "talker"])?;
    Ok(())
}

/// A client with the head of an answer in hand asks about the session, which the container may not have yet: nothing is wrong with it.
fn a_session_that_begins(sandbox: &Sandbox) -> Result<()> {
    let server = ready(sandbox)?;
    server.ok(&[&["run", "-d", "--name", "box"], &BOX[..], &["sleep", "1000"]].concat())?;
    let document = r#"{"Cmd": ["sh", "-c", "sleep 0.2; stty size"], "AttachStdout": true, "Tty": true}"#;
    for _ in 0..15 {
        let session = server.ask("POST /containers/box/exec", document)?.1;
        let id = session["Id"].as_str().context("no session")?;
        let upgrade = "Connection: Upgrade\r\nUpgrade: tcp\r\n";
        let mut stream = server.send(&format!("POST /exec/{id}/start"), upgrade, r#"{"Tty": true}"#)?;
        same!(status(&read_head(&mut stream)?)?, 101);
        let (_, inspected) = server.ask(&format!("GET /exec/{id}/json"), "")?;
        same!((&inspected["Running"], &inspected["ExitCode"]), (&json!(true), &Value::Null));
        same!(server.ask(&format!("POST /exec/{id}/resize?h=30&w=100"), "")?.0, 200);
        let mut said = String::new();
        stream.read_to_string(&mut said)?;
        contains!(said, "30 100");
        same!(server.ask(&format!("GET /exec/{id}/json"), "")?.1["ExitCode"], 0);
    }
    server.ok(&["rm", "-f", "box"])?;
    Ok(())
}
