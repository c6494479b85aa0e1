//! The Docker Engine API against the facts of its schema (`crate::schema`): answers, parameters and documents, so that drift
//! on either side fails here; and requests that nobody in their right mind sends.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};

use crate::case::{cases, contains, same};
use crate::registry::Registry;
use crate::sandbox::Sandbox;
use crate::schema::known::{BESIDE, NEVER, NOT_CALLED, UNASKED, UNREAD};
use crate::schema::{Facts, Seen, facts};
use crate::server::Server;

cases![docker_schema: operations, answers [Root], documents, odd_requests];

fn set(list: &[(&str, &str)]) -> BTreeSet<String> {
    list.iter().map(|(name, _)| (*name).to_owned()).collect()
}

/// What is in one and not in the other, as a failure that can be read.
fn alike(found: &BTreeSet<String>, wanted: &BTreeSet<String>, what: &str) -> Result<()> {
    let lines = |a: &BTreeSet<String>, b: &BTreeSet<String>| a.difference(b).cloned().collect::<Vec<_>>().join("\n  ");
    let (new, gone) = (lines(found, wanted), lines(wanted, found));
    ensure!(new.is_empty() && gone.is_empty(), "{what}: not expected:\n  {new}\nexpected and not so:\n  {gone}");
    Ok(())
}

/// Every operation of Docker's is one here, or is answered as by a Docker that is in no swarm.
fn operations(sandbox: &Sandbox) -> Result<()> {
    let server = Server::start(sandbox)?;
    for (name, operation) in &facts().operations {
        let line = name.replace("{id}", "nosuch").replace("{name}", "nosuch");
        // Those would ask another machine, or go on.
        let elsewhere = ["GET /distribution/{name}/json", "POST /images/{name}/push", "GET /events"];
        if elsewhere.contains(&name.as_str()) {
            continue;
        }
        let (status, answer) = server.ask(&line, if line.starts_with("POST") { "{}" } else { "" })?;
        let message = answer["message"].as_str().unwrap_or_default();
        ensure!(!message.starts_with("page not found") || name == "POST /session", "{name}: {status} {message}");
        let allowed = match operation.tag.as_str() {
            "Swarm" | "Node" | "Service" | "Task" | "Secret" | "Config" => [501, 503].contains(&status),
            "Plugin" => [200, 404, 501].contains(&status),
            _ => status < 500 || (status == 501 && name == "POST /build") || status == 503,
        };
        ensure!(allowed, "{name}: {status} {message}");
    }
    Ok(())
}

/// Calls operations and compares what they answer.
struct Session<'a> {
    server: Server<'a>,
    facts: Facts,
    seen: Seen,
    beside: BTreeSet<String>,
    called: BTreeSet<String>,
}

impl Session<'_> {
    /// Calls an operation with all its parameters, those that are not given being empty, and compares the answer.
    fn call(&mut self, line: &str, content: &Value) -> Result<Value> {
        let (method, target) = line.split_once(' ').context("METHOD PATH")?;
        let (path, given) = target.split_once('?').unwrap_or((target, ""));
        let name = self.facts.operation(method, path).with_context(|| format!("no operation: {line}"))?.to_owned();
        let operation = &self.facts.operations[&name];
        let has = |key: &str| given.split('&').any(|pair| pair.split('=').next() == Some(key));
        let rest = operation.query.iter().filter(|key| !has(key)).map(|key| format!("{key}="));
        let query: Vec<String> =
            given.split('&').filter(|pair| !pair.is_empty()).map(str::to_owned).chain(rest).collect();
        let text = if content.is_null() { String::new() } else { content.to_string() };
        let (status, answer) = self.server.ask(&format!("{method} {path}?{}", query.join("&")), &text)?;
        ensure!((200..300).contains(&status), "{line}: {status} {answer}");
        let kind = operation.answers.get(&status).with_context(|| format!("{name} never answers {status}"))?.clone();
        if !kind.is_empty() && kind != "string" {
            // Streams have a document a line.
            let documents = match answer.as_str() {
                Some(lines) => lines.lines().map(serde_json::from_str).collect::<Result<Vec<Value>, _>>()?,
                None => vec![answer.clone()],
            };
            for document in &documents {
                self.facts.compare(document, &kind, &name, &self.beside, &mut self.seen);
            }
        }
        self.called.insert(name);
        Ok(answer)
    }
}

fn answers(sandbox: &Sandbox) -> Result<()> {
    let registry = Registry::start(sandbox, &["busybox"], None)?;
    sandbox.load("busybox")?;
    let log = sandbox.path("serve.log");
    let words = ["--log-format", "json", "--log-level", "debug"];
    let server = Server::start_telling(sandbox, &words, Stdio::from(File::create(&log)?))?;
    let (seen, called) = (Seen::default(), BTreeSet::new());
    let mut session = Session { server, facts: facts(), seen, beside: set(BESIDE), called };
    call_all(sandbox, &mut session, &registry)?;
    session.server.end()?;

    let mut outcomes =
        vec![alike(&session.seen.wrong, &BTreeSet::new(), "answers that are not as the schema has them")];
    let own = |name: &&String| {
        !matches!(
            session.facts.operations[*name].tag.as_str(),
            "Swarm" | "Node" | "Service" | "Task" | "Secret" | "Config" | "Plugin"
        )
    };
    let missed = session.facts.operations.keys().filter(own).filter(|name| !session.called.contains(*name));
    outcomes.push(alike(&missed.cloned().collect(), &set(NOT_CALLED), "operations that are not called"));

    // Of the documents that came, which fields never did?
    let mut kinds = BTreeSet::new();
    for name in &session.called {
        session.facts.operations[name].answers.values().for_each(|kind| session.facts.within(kind, &mut kinds));
    }
    let all = kinds
        .iter()
        .flat_map(|kind| session.facts.types[kind].keys().map(move |field| (kind.as_str(), format!("{kind}.{field}"))));
    let whole: BTreeSet<&str> = NEVER.iter().filter_map(|(name, _)| name.strip_suffix(".*")).collect();
    let came = |kind: &str| {
        session.facts.types[kind].keys().any(|name| session.seen.fields.contains(&format!("{kind}.{name}")))
    };
    let absent = all
        .filter(|(_, field)| !session.seen.fields.contains(field))
        .map(|(kind, field)| if whole.contains(kind) && !came(kind) { format!("{kind}.*") } else { field });
    outcomes.push(alike(&absent.collect(), &set(NEVER), "fields that no answer has"));

    // Of the parameters, which did nobody read?
    let mut read: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    let mut unread: BTreeSet<String> = BTreeSet::new();
    for line in fs::read_to_string(&log)?.lines() {
        let entry: Value = serde_json::from_str(line).with_context(|| line.to_owned())?;
        let (Some(method), Some(path)) = (entry["method"].as_str(), entry["path"].as_str()) else { continue };
        let Some(names) = entry["unread"].as_array() else { continue };
        let Some(name) = session.facts.operation(method, path) else { continue };
        let names: BTreeSet<&str> = names.iter().filter_map(Value::as_str).collect();
        let wanted = session.facts.operations[name].query.iter().filter(|key| !names.contains(key.as_str()));
        read.entry(name.to_owned()).or_default().extend(wanted.cloned());
    }
    for name in &session.called {
        let known = read.get(name).cloned().unwrap_or_default();
        let missing = session.facts.operations[name].query.iter().filter(|key| !known.contains(*key));
        unread.extend(missing.map(|key| format!("{name} {key}")));
    }
    outcomes.push(alike(&unread, &set(UNREAD), "parameters that nobody reads"));
    let failures: Vec<String> = outcomes.iter().filter_map(|one| one.as_ref().err().map(ToString::to_string)).collect();
    ensure!(failures.is_empty(), "{}", failures.join("\n"));
    Ok(())
}

fn call_all(sandbox: &Sandbox, session: &mut Session<'_>, registry: &Registry) -> Result<()> {
    let none = Value::Null;
    for line in ["GET /_ping", "HEAD /_ping", "GET /version", "GET /info"] {
        session.call(line, &none)?;
    }
    let remote = format!("{}/library/busybox", registry.address);
    session.call(&format!("GET /distribution/{remote}/json"), &none)?;
    session.call(&format!("POST /images/create?fromImage={remote}&tag=latest"), &none)?;
    session.call("POST /volumes/create", &json!({"Name": "data", "Labels": {"a": "b"}, "DriverOpts": {}}))?;
    let pool = json!({"Subnet": "10.88.0.0/24", "IPRange": "10.88.0.128/25", "Gateway": "10.88.0.1", "AuxiliaryAddresses": {"x": "10.88.0.2"}});
    session.call(
        "POST /networks/create",
        &json!({"Name": "mine", "Labels": {"a": "b"}, "IPAM": {"Config": [pool]}, "Options": {}}),
    )?;
    let host = json!({
        "NetworkMode": "mine", "Binds": ["data:/data"], "Memory": 64 << 20, "PortBindings": {"80/tcp": [{"HostIp": "127.0.0.1", "HostPort": ""}]},
        "Devices": [{"PathOnHost": "/dev/null", "PathInContainer": "/dev/other", "CgroupPermissions": "rwm"}],
        "Ulimits": [{"Name": "nofile", "Soft": 100, "Hard": 100}], "Tmpfs": {"/t": ""}, "Init": true, "Annotations": {"a": "b"},
        "Sysctls": {"net.ipv4.ip_forward": "0"}, "StorageOpt": null, "Umask": 18,
        "Mounts": [{"Type": "volume", "Source": "more", "Target": "/more", "VolumeOptions": {"NoCopy": true}}],
        "LogConfig": {"Type": "json-file", "Config": {"max-size": "1m"}}, "RestartPolicy": {"Name": "on-failure", "MaximumRetryCount": 1},
    });
    let asked = json!({
        "Image": "busybox", "Cmd": ["sh", "-c", "echo out; touch /changed; exec sleep 1000"], "Labels": {"a": "b"}, "Tty": true, "StopSignal": "SIGKILL",
        "StopTimeout": 1, "ExposedPorts": {"81/tcp": {}}, "Volumes": {"/own": {}}, "Shell": ["/bin/sh"],
        "Healthcheck": {"Test": ["CMD", "true"], "Interval": 1_000_000_000, "Timeout": 1_000_000_000, "StartPeriod": 1_000_000_000, "StartInterval": 1_000_000_000, "Retries": 1},
        "HostConfig": host, "NetworkingConfig": {"EndpointsConfig": {"mine": {"Aliases": ["other"], "IPAMConfig": {"IPv4Address": "10.88.0.130"}}}},
    });
    let made = session.call("POST /containers/create?name=box", &asked)?;
    let id = made["Id"].as_str().context("no Id")?.to_owned();
    crate::audit::remember(sandbox.directory(), &id)?;
    session.call("POST /containers/box/start", &none)?;
    crate::host::until("the container is healthy", sandbox.seconds(30), || {
        let (_, found) = session.server.ask("GET /containers/box/json", "")?;
        Ok((found["State"]["Health"]["Status"] == "healthy").then_some(()))
    })?;
    running(session)?;
    images(session)?;
    session.call("POST /containers/box/kill?signal=KILL", &none)?;
    session.call("POST /containers/box/wait", &none)?;
    session.call("DELETE /containers/box?force=1&v=1", &none)?;
    for line in [
        "GET /events?since=1&until=9999999999",
        "POST /containers/prune",
        "POST /volumes/prune?filters=%7B%22all%22%3A%5B%22true%22%5D%7D",
        "POST /build/prune",
        "GET /system/df?type=container&type=image&type=volume&type=build-cache",
        "GET /system/df?verbose=1&type=container&type=image&type=volume&type=build-cache",
    ] {
        // Of events those up to now; a time to come would be waited for.
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH)?.as_secs();
        session.call(&line.replace("9999999999", &now.to_string()), &none)?;
    }
    session.call("POST /networks/create", &json!({"Name": "unused"}))?;
    session.call("POST /networks/prune", &none)?;
    session.call("POST /networks/create", &json!({"Name": "unused"}))?;
    session.call("DELETE /networks/unused", &none)?;
    session.call("POST /volumes/create", &json!({"Name": "unused"}))?;
    session.call("DELETE /volumes/unused?force=0", &none)?;
    session.call("POST /images/prune?filters=%7B%22dangling%22%3A%5B%22false%22%5D%7D", &none)?;
    Ok(())
}

/// What can be asked of a container that runs.
fn running(session: &mut Session<'_>) -> Result<()> {
    let none = Value::Null;
    let healthy = "GET /containers/json?filters=%7B%22health%22%3A%5B%22healthy%22%5D%7D";
    same!(session.call(healthy, &none)?.as_array().map(Vec::len), Some(1));
    session.call("POST /networks/bridge/connect", &json!({"Container": "box", "EndpointConfig": {}}))?;
    for line in [
        "GET /containers/json?all=1&size=1",
        "GET /containers/box/json?size=1",
        "GET /containers/box/top?ps_args=aux",
        "GET /containers/box/stats?stream=0",
        "GET /containers/box/logs?stdout=1",
        "GET /containers/box/changes",
        "GET /containers/box/archive?path=/etc/passwd",
        "HEAD /containers/box/archive?path=/etc/passwd",
        "POST /containers/box/pause",
        "POST /containers/box/unpause",
        "POST /containers/box/resize?h=10&w=10",
        "GET /networks",
        "GET /networks/mine",
        "GET /volumes",
        "GET /volumes/data",
        "GET /system/df?type=container&type=image&type=volume",
        "POST /commit?container=box&repo=committed",
        "POST /containers/box/attach?logs=1&stdout=1",
    ] {
        session.call(line, &none)?;
    }
    session.call("POST /containers/box/update", &json!({"Memory": 96 << 20, "MemorySwap": 96 << 20}))?;
    let exec = json!({"Cmd": ["true"], "AttachStdout": true, "Tty": true});
    let made = session.call("POST /containers/box/exec", &exec)?;
    let id = made["Id"].as_str().context("no Id")?.to_owned();
    session.call(&format!("POST /exec/{id}/start"), &json!({"Detach": true, "Tty": true}))?;
    // While it runs it has no exit code.
    crate::host::until("the session ends", Duration::from_secs(60), || {
        let (_, found) = session.server.ask(&format!("GET /exec/{id}/json"), "")?;
        Ok(found["ExitCode"].is_i64().then_some(()))
    })?;
    session.call(&format!("GET /exec/{id}/json"), &none)?;
    let long = session.call("POST /containers/box/exec", &json!({"Cmd": ["sleep", "1000"], "Tty": true}))?;
    let id = long["Id"].as_str().context("no Id")?.to_owned();
    session.call(&format!("POST /exec/{id}/start"), &json!({"Detach": true, "Tty": true}))?;
    session.call(&format!("POST /exec/{id}/resize?h=10&w=10"), &none)?;
    session.call("GET /containers/box/json", &none)?;
    session.call("POST /networks/bridge/disconnect", &json!({"Container": "box", "Force": true}))?;
    session.call("POST /containers/box/restart?t=0", &none)?;
    session.call("POST /containers/box/stop?t=0", &none)?;
    session.call("GET /containers/box/export", &none)?;
    session.call("POST /containers/box/start", &none)?;
    session.call("POST /containers/box/rename?name=else", &none)?;
    session.call("POST /containers/else/rename?name=box", &none)?;
    Ok(())
}

fn images(session: &mut Session<'_>) -> Result<()> {
    let none = Value::Null;
    for line in [
        "GET /images/json?all=1&shared-size=1",
        "GET /images/busybox/json",
        "GET /images/busybox/history",
        "POST /images/busybox/tag?repo=other&tag=1",
        "GET /images/other:1/get",
        "GET /images/get?names=other:1",
        "DELETE /images/other:1",
    ] {
        session.call(line, &none)?;
    }
    Ok(())
}

/// A document with all its names in small letters.
fn in_small_letters(document: &Value) -> Value {
    match document {
        Value::Object(fields) => {
            fields.iter().map(|(name, value)| (name.to_ascii_lowercase(), in_small_letters(value))).collect()
        }
        Value::Array(list) => list.iter().map(in_small_letters).collect(),
        other => other.clone(),
    }
}

/// A value of the wrong type is found, so every field of a request is looked at or known not to be; and so in small letters,
/// as Go reads names.
fn documents(sandbox: &Sandbox) -> Result<()> {
    sandbox.load("busybox")?;
    let server = Server::start(sandbox)?;
    server.ok(&["create", "--name", "box", "--network", "none", "busybox"])?;
    let facts = facts();
    let (mut all, mut asked) = (BTreeSet::new(), BTreeSet::new());
    for (line, kind, base) in [
        ("POST /containers/create", "ContainerCreateBody", json!({"Image": "nosuch"})),
        ("POST /containers/box/update", "ContainerUpdateBody", json!({})),
        ("POST /containers/box/exec", "ContainerExecBody", json!({"Cmd": ["true"]})),
        ("POST /exec/nosuch/start", "ExecStartBody", json!({})),
        ("POST /networks/create", "NetworkCreateBody", json!({"Name": ""})),
        ("POST /networks/nosuch/connect", "NetworkConnectRequest", json!({"Container": "nosuch"})),
        ("POST /networks/nosuch/disconnect", "NetworkDisconnectRequest", json!({"Container": "nosuch"})),
        ("POST /volumes/create", "VolumeCreateRequest", json!({"Name": "/"})),
        ("POST /auth", "AuthConfig", json!({"serveraddress": "http://\0"})),
    ] {
        ensure!(facts.types.contains_key(kind), "{kind}");
        for (field, wrong) in facts.wrongly(kind, 4) {
            let mut document = base.clone();
            for (name, value) in wrong.as_object().into_iter().flatten() {
                document[name] = value.clone();
            }
            let (status, answer) = server.ask(line, &document.to_string())?;
            let message = answer["message"].as_str().unwrap_or_default();
            ensure!(
                status >= 400 || ["POST /containers/box/update", "POST /containers/box/exec"].contains(&line),
                "{line} {document}: {status}"
            );
            ensure!(status != 500, "{line} {document}: {message}");
            let small = in_small_letters(&document);
            let (code, said) = server.ask(line, &small.to_string())?;
            let lower = |text: &str| text.to_ascii_lowercase();
            ensure!(
                code == status && lower(said["message"].as_str().unwrap_or_default()) == lower(message),
                "{line} {small}: {code} {said}, and {status} {message}"
            );
            if (status == 400 && message.contains("invalid JSON")) || status == 501 {
                asked.insert(field.clone());
            }
            all.insert(field);
        }
    }
    let unasked = all.difference(&asked).cloned().collect();
    alike(&unasked, &set(UNASKED), "fields that are not looked at")
}

/// Numbers that look as if nobody had chosen them, and are the same every time.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 >> 33).unwrap_or(0) % sides.max(1)
    }
}

const TEXTS: &[&str] = &[
    "",
    "0",
    "1",
    "-1",
    "true",
    "box",
    "nosuch",
    "busybox",
    "busybox:latest",
    "mine",
    "data",
    "99999999999999999999",
    "1e9",
    "NaN",
    "%00",
    "%ff",
    "..",
    "%2e%2e%2f",
    "%7B%7D",
    "%5B%5D",
    "%7B%22label%22%3A%5B%22a%22%5D%7D",
    "%7B%22label%22%3A7%7D",
    "%7B%22until%22%3A%5B%22x%22%5D%7D",
    "a+b",
    "%F0%9F%A6%80",
    "sha256:",
    "@sha256:00",
    "/",
    "//",
    "/etc/../etc",
    "ctrl-p",
    "removed",
    "SIGKILL",
    "2020-01-01T00:00:00Z",
    "-9223372036854775808",
];

/// How many [`odd_requests`] sends.
const REQUESTS: usize = 800;

/// Operations that ask other machines, or wait by their nature.
const OUTSIDE: &[&str] = &[
    "POST /auth",
    "GET /images/search",
    "GET /distribution/{name}/json",
    "POST /images/create",
    "POST /images/{name}/push",
    "GET /events",
    "POST /containers/{id}/wait",
    "POST /containers/{id}/attach",
    "GET /containers/{id}/attach/ws",
    "POST /exec/{id}/start",
    "GET /containers/{id}/stats",
    "GET /containers/{id}/logs",
];

fn odd_value(dice: &mut Dice, facts: &Facts, shape: &str, depth: usize) -> Value {
    let shape = shape.trim_start_matches(['!', '?']);
    let words = [
        "",
        "x",
        "busybox",
        "none",
        "../..",
        "\0",
        "1.2.3.4",
        "::1/64",
        "80/tcp",
        "99999/xyz",
        "ctrl-p,q",
        "rw,ro",
        "unless-stopped",
        "🦀",
        "-",
    ];
    if dice.roll(12) == 0 {
        return [json!(null), json!(-1), json!("x"), json!([]), json!({}), json!(1e300), json!(true)][dice.roll(7)]
            .clone();
    }
    match shape {
        "boolean" => json!(dice.roll(2) == 0),
        "integer" => json!([0, 1, -1, 4096, i64::MAX, i64::MIN, 1 << 33][dice.roll(7)]),
        "number" => json!(0.5),
        "any" => json!({}),
        "string" => json!(words[dice.roll(words.len())]),
        _ if shape.starts_with('[') => (0..dice.roll(3)).map(|_| odd_value(dice, facts, &shape[1..], depth)).collect(),
        _ if shape.starts_with('{') => {
            let pairs = (0..dice.roll(3))
                .map(|_| (words[dice.roll(words.len())].to_owned(), odd_value(dice, facts, &shape[1..], depth)));
            Value::Object(pairs.collect())
        }
        _ if depth == 0 => json!({}),
        _ => odd_document(dice, facts, shape, depth - 1),
    }
}

/// A document with a few of a type's fields.
fn odd_document(dice: &mut Dice, facts: &Facts, kind: &str, depth: usize) -> Value {
    let Some(fields) = facts.types.get(kind) else { return json!({}) };
    let mut document = json!({});
    for (name, shape) in fields {
        if dice.roll(6) == 0 {
            document[name] = odd_value(dice, facts, shape, depth);
        }
    }
    document
}

/// A connection that stays open for many requests.
struct Line<'a> {
    server: &'a Server<'a>,
    stream: Option<BufReader<UnixStream>>,
}

impl Line<'_> {
    /// The status and the content of an answer.
    fn ask(&mut self, line: &str, content: &str, patience: Duration) -> Result<(u16, Vec<u8>)> {
        let mut stream = match self.stream.take() {
            Some(stream) => stream,
            None => BufReader::new(UnixStream::connect(&self.server.socket)?),
        };
        stream.get_ref().set_read_timeout(Some(patience))?;
        let kind = if content.is_empty() { "" } else { "Content-Type: application/json\r\n" };
        let length = content.len();
        write!(stream.get_mut(), "{line} HTTP/1.1\r\nHost: d\r\n{kind}Content-Length: {length}\r\n\r\n{content}")?;
        let (mut status, mut length, mut pieces, mut ends) = (0, None, false, false);
        loop {
            let mut text = String::new();
            ensure!(stream.read_line(&mut text)? > 0, "{line} {content}: no answer");
            let text = text.trim_end().to_ascii_lowercase();
            if text.is_empty() {
                break;
            }
            if status == 0 {
                status = text.split(' ').nth(1).and_then(|word| word.parse().ok()).context("no status")?;
            }
            if let Some(value) = text.strip_prefix("content-length: ") {
                length = Some(value.parse::<usize>()?);
            }
            pieces |= text == "transfer-encoding: chunked";
            ends |= text == "connection: close";
        }
        let mut body = vec![];
        if pieces {
            loop {
                let mut size = String::new();
                stream.read_line(&mut size)?;
                let size = usize::from_str_radix(size.trim(), 16)?;
                let at = body.len();
                body.resize(at + size + 2, 0);
                stream.read_exact(&mut body[at..])?;
                body.truncate(at + size);
                if size == 0 {
                    break;
                }
            }
        } else if !line.starts_with("HEAD") && !matches!(status, 204 | 304) {
            body.resize(length.unwrap_or(0), 0);
            stream.read_exact(&mut body)?;
        }
        if !ends {
            self.stream = Some(stream);
        }
        Ok((status, body))
    }
}

/// Requests made from the schema with odd values: none is a failure of the server's, and nothing stays behind.
fn odd_requests(sandbox: &Sandbox) -> Result<()> {
    sandbox.load("busybox")?;
    let server = Server::start(sandbox)?;
    server.ok(&["create", "--name", "box", "--network", "none", "busybox", "true"])?;
    let facts = facts();
    let skipped =
        |name: &str| OUTSIDE.contains(&name) || name == "DELETE /images/{name}" || name == "POST /images/prune";
    let operations: Vec<_> = facts.operations.iter().filter(|(name, _)| !skipped(name)).collect();
    let mut dice = Dice(0x5DEE_CE66_D1CE_4E5B);
    let mut line = Line { server: &server, stream: None };
    line.ask("GET /_ping", "", sandbox.seconds(20))?;
    let before = fs::read_dir(format!("/proc/{}/fd", server.pid()))?.count();
    let began = Instant::now();
    let mut statuses: BTreeMap<u16, usize> = BTreeMap::new();
    for _ in 0..REQUESTS {
        // A machine that is slow does fewer.
        if began.elapsed() > Duration::from_secs(5) {
            break;
        }
        let (name, operation) = operations[dice.roll(operations.len())];
        let (method, pattern) = name.split_once(' ').context("METHOD PATH")?;
        let word =
            ["box", "nosuch", "busybox", "bridge", "%2e%2e", "%00", "a%2fb", "%F0%9F%A6%80", "none"][dice.roll(9)];
        let path = pattern.replace("{id}", word).replace("{name}", word);
        let mut query = vec![];
        for key in &operation.query {
            if dice.roll(3) == 0 {
                query.push(format!("{key}={}", TEXTS[dice.roll(TEXTS.len())]));
            }
        }
        let version = ["", "/v1.24", "/v1.41", "/v1.56"][dice.roll(4)];
        let content = match &operation.body {
            Some(kind) if facts.types.contains_key(kind) => odd_document(&mut dice, &facts, kind, 4).to_string(),
            Some(_) => ["", "{}", "x", "null"][dice.roll(4)].to_owned(),
            None => String::new(),
        };
        let request = format!("{method} {version}{path}?{}", query.join("&"));
        let (status, body) = line.ask(&request, &content, sandbox.seconds(30))?;
        let body = String::from_utf8_lossy(&body);
        if status == 500 {
            bail!("{request} {content}: {status} {body}");
        }
        if status >= 400 && method != "HEAD" {
            let document: Value = serde_json::from_str(&body).with_context(|| format!("{request}: {body}"))?;
            ensure!(document["message"].as_str().is_some_and(|text| !text.is_empty()), "{request}: {body}");
        }
        *statuses.entry(status).or_default() += 1;
    }
    eprintln!("{statuses:?} in {:?}", began.elapsed());
    drop(line);
    same!(server.ask("GET /_ping", "")?.0, 200);
    crate::host::until("descriptors are closed", sandbox.seconds(30), || {
        Ok((fs::read_dir(format!("/proc/{}/fd", server.pid()))?.count() <= before + 4).then_some(()))
    })?;
    let (_, left) = server.ask("GET /containers/json?all=1", "")?;
    for container in left.as_array().into_iter().flatten() {
        let id = container["Id"].as_str().context("no Id")?;
        same!(server.ask(&format!("DELETE /containers/{id}?force=1&v=1"), "")?.0, 204);
    }
    for line in ["POST /networks/prune", "POST /volumes/prune?filters=%7B%22all%22%3A%5B%22true%22%5D%7D"] {
        same!(server.ask(line, "")?.0, 200);
    }
    contains!(server.ok(&["info"])?, "Server Version");
    Ok(())
}
