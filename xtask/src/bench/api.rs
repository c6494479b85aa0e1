//! The Docker Engine API as a client sees it: requests per second and the slowest of a hundred, beside dockerd and podman's
//! service, at one, sixteen and a hundred connections; and what the servers' memory is.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Child;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};

use super::peers::{self, Daemon, Engine};
use super::table::print;
use super::{Bench, is_wanted};

/// Connections at the same time.
const CONNECTIONS: &[usize] = &[1, 16, 100];
/// How long each figure is measured: reads, and whole lives of containers.
const READS: Duration = Duration::from_millis(1500);
const LIVES: Duration = Duration::from_secs(6);
/// Containers in the list; an engine that takes longer than this to make them has fewer, which the table says.
const CONTAINERS: usize = 1000;
const MAKING: Duration = Duration::from_secs(25);
/// Connections that make them.
const MAKERS: usize = 8;
/// How often a server's start is measured, with all of its containers there.
const STARTS: usize = 9;
/// Times dockerd's rate that is wanted, and the part of its memory.
const WANTED: &str = "wanted beside docker: lives at 5 times its rate, reads at twice, a tenth of its memory";

/// A server under measurement.
struct Subject {
    engine: Engine,
    socket: PathBuf,
    /// Its process.
    pid: u32,
    /// Kept for its end.
    _server: Option<Daemon>,
    containers: usize,
    /// KiB when it has just begun to listen, and when it is quiet after the containers were made.
    fresh: u64,
    idle: u64,
}

/// What one figure is made of.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Work {
    Ping,
    List,
    Inspect,
    Life,
}

impl Work {
    fn name(self) -> &'static str {
        match self {
            Work::Ping => "ping",
            Work::List => "list",
            Work::Inspect => "inspect",
            Work::Life => "create+start+wait+remove",
        }
    }
}

/// Measures, prints, and returns all samples.
pub fn run(bench: &Bench) -> Result<Value> {
    let mut subjects = vec![];
    for started in [dhow(bench), docker(bench), podman(bench)] {
        match started.and_then(ready) {
            Ok(subject) => subjects.push(subject),
            Err(error) => println!("bench: without a peer: {error:#}"),
        }
    }
    ensure!(subjects.first().is_some_and(|first| first.engine.name == "dhow"), "dhow does not serve");
    let (mut rows, mut results) = (vec![], vec![]);
    for work in [Work::Ping, Work::Inspect, Work::List, Work::Life].into_iter().filter(|work| is_wanted(work.name())) {
        for &connections in CONNECTIONS {
            for subject in &subjects {
                let measured = match measure(subject, work, connections) {
                    Ok(measured) => measured,
                    Err(error) => {
                        println!("bench: without {} {}: {error:#}", subject.engine.name, work.name());
                        continue;
                    }
                };
                let name = match work {
                    Work::List => format!("{} of {}, {}", work.name(), subject.containers, subject.engine.name),
                    _ => format!("{}, {}", work.name(), subject.engine.name),
                };
                rows.push(vec![
                    name.clone(),
                    connections.to_string(),
                    format!("{:.0}", measured.rate),
                    format!("{:.2}", measured.middle),
                    format!("{:.2}", measured.slow),
                ]);
                results.push(json!({
                    "name": name, "connections": connections, "per_second": measured.rate, "median_ms": measured.middle,
                    "p99_ms": measured.slow, "peak_kib": measured.peak,
                }));
            }
        }
    }
    println!();
    print(&["what", "connections", "per second", "median ms", "p99 ms"], &rows);
    println!();
    let memory: Vec<Vec<String>> = subjects
        .iter()
        .map(|subject| {
            let of = |result: &Value| result["name"].as_str().is_some_and(|name| name.ends_with(subject.engine.name));
            let peak =
                results.iter().filter(|result| of(result)).filter_map(|result| result["peak_kib"].as_u64()).max();
            let mib = |kib: u64| format!("{:.1}", kib as f64 / 1024.0);
            vec![subject.engine.name.to_owned(), mib(subject.fresh), mib(subject.idle), mib(peak.unwrap_or(0))]
        })
        .collect();
    print(&["server", "begun MiB", "idle MiB", "most under load MiB"], &memory);
    let mut starts = subjects.first().map(|subject| begins(bench, subject)).transpose()?.unwrap_or_default();
    starts.sort_by(f64::total_cmp);
    if let [fastest, .., slowest] = starts.as_slice() {
        let middle = starts[starts.len() / 2];
        println!(
            "dhow serve answers {middle:.1} ms after its start ({fastest:.1} to {slowest:.1}), with those containers"
        );
    }
    println!("{WANTED}");
    let idle: Vec<Value> = subjects
        .iter()
        .map(|subject| json!({ "name": subject.engine.name, "begun_kib": subject.fresh, "idle_kib": subject.idle }))
        .collect();
    Ok(json!({ "rows": results, "memory": idle, "starts_ms": starts }))
}

fn dhow(bench: &Bench) -> Result<Subject> {
    let engine = peers::dhow(bench);
    let socket = bench.path("dhow.sock");
    let mut command = engine.command(&["serve", "--host", &format!("unix://{}", socket.display())]);
    served(engine, socket, command.spawn()?)
}

/// Milliseconds from the start of a further server of dhow to its first answer.
fn begins(bench: &Bench, subject: &Subject) -> Result<Vec<f64>> {
    (0..STARTS)
        .map(|number| {
            let socket = bench.path(&format!("begins{number}.sock"));
            let mut command = subject.engine.command(&["serve", "--host", &format!("unix://{}", socket.display())]);
            let began = Instant::now();
            let _server = Daemon(command.spawn()?);
            let until = began + Duration::from_secs(20);
            while UnixStream::connect(&socket).is_err() {
                ensure!(Instant::now() < until, "dhow does not listen");
                thread::sleep(Duration::from_micros(200));
            }
            let (status, _) = Client::connect(&socket)?.ask("GET", "/_ping", "")?;
            ensure!(status == 200, "/_ping: {status}");
            Ok(began.elapsed().as_secs_f64() * 1e3)
        })
        .collect()
}

fn podman(bench: &Bench) -> Result<Subject> {
    let engine = peers::podman(bench);
    let socket = bench.path("podman.sock");
    let address = format!("unix://{}", socket.display());
    let mut command = engine.command(&["system", "service", "--time", "0", &address]);
    let child = command.spawn().context("start podman")?;
    served(engine, socket, child)
}

fn docker(bench: &Bench) -> Result<Subject> {
    let engine = peers::docker(bench)?;
    let pid = engine.daemon.as_ref().context("no daemon")?.0.id();
    Ok(Subject {
        engine,
        socket: bench.path("docker/docker.sock"),
        pid,
        _server: None,
        containers: 0,
        fresh: 0,
        idle: 0,
    })
}

fn served(engine: Engine, socket: PathBuf, child: Child) -> Result<Subject> {
    let pid = child.id();
    let server = Some(Daemon(child));
    let until = Instant::now() + Duration::from_secs(20);
    while UnixStream::connect(&socket).is_err() {
        ensure!(Instant::now() < until, "{} does not listen", engine.name);
        thread::sleep(Duration::from_millis(20));
    }
    Ok(Subject { engine, socket, pid, _server: server, containers: 0, fresh: 0, idle: 0 })
}

/// Loads the image, makes the containers for the list, and looks at the memory when it is quiet again.
fn ready(mut subject: Subject) -> Result<Subject> {
    subject.fresh = resident(subject.pid);
    subject.engine.load("busybox")?;
    let began = Instant::now();
    let next = Arc::new(AtomicU64::new(0));
    let makers: Vec<_> = (0..MAKERS)
        .map(|_| {
            let (socket, next, document) = (subject.socket.clone(), next.clone(), asked(&subject));
            thread::spawn(move || -> Result<usize> {
                let (mut client, mut made) = (Client::connect(&socket)?, 0);
                while began.elapsed() < MAKING {
                    let number = next.fetch_add(1, Relaxed);
                    if number >= CONTAINERS as u64 {
                        break;
                    }
                    let path = format!("/containers/create?name=listed{number}");
                    let (status, answer) = client.ask("POST", &path, &document)?;
                    ensure!(status == 201, "create: {status} {}", String::from_utf8_lossy(&answer));
                    made += 1;
                }
                Ok(made)
            })
        })
        .collect();
    for maker in makers {
        subject.containers += maker.join().map_err(|_| anyhow::anyhow!("a client panicked"))??;
    }
    // Threads that wait for more work have gone then.
    thread::sleep(Duration::from_secs(7));
    subject.idle = resident(subject.pid);
    Ok(subject)
}

/// A container without a network, as Docker's clients ask for it.
fn asked(subject: &Subject) -> String {
    let limits = match subject.engine.name {
        // Its defaults are above what this machine allows.
        "podman" => {
            json!([{"Name": "nofile", "Soft": 2000, "Hard": 2000}, {"Name": "nproc", "Soft": 1000, "Hard": 1000}])
        }
        _ => json!([]),
    };
    json!({"Image": "busybox", "Cmd": ["true"], "HostConfig": {"NetworkMode": "none", "Ulimits": limits}}).to_string()
}

/// One figure.
struct Measured {
    rate: f64,
    middle: f64,
    slow: f64,
    peak: u64,
}

fn measure(subject: &Subject, work: Work, connections: usize) -> Result<Measured> {
    let length = if work == Work::Life { LIVES } else { READS };
    let (over, peak) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let document = asked(subject);
    let began = Instant::now();
    let clients: Vec<_> = (0..connections)
        .map(|_| {
            let (socket, over, document) = (subject.socket.clone(), over.clone(), document.clone());
            thread::spawn(move || client(&socket, work, &document, &over))
        })
        .collect();
    while began.elapsed() < length {
        thread::sleep(Duration::from_millis(50));
        peak.fetch_max(resident(subject.pid), Relaxed);
    }
    over.store(true, Relaxed);
    let mut times = vec![];
    for client in clients {
        times.extend(client.join().map_err(|_| anyhow::anyhow!("a client panicked"))??);
    }
    let elapsed = began.elapsed().as_secs_f64();
    ensure!(!times.is_empty(), "nothing was answered");
    times.sort_by(f64::total_cmp);
    let at = |part: f64| times[((times.len() as f64 * part) as usize).min(times.len() - 1)];
    Ok(Measured { rate: times.len() as f64 / elapsed, middle: at(0.5), slow: at(0.99), peak: peak.load(Relaxed) })
}

/// Asks until it is over; returns milliseconds.
fn client(socket: &Path, work: Work, document: &str, over: &AtomicBool) -> Result<Vec<f64>> {
    let mut client = Client::connect(socket)?;
    let mut times = vec![];
    while !over.load(Relaxed) {
        let began = Instant::now();
        let wanted = |(status, answer): (u16, Vec<u8>), wanted: u16| {
            ensure!(status == wanted, "{}: {status} {}", work.name(), String::from_utf8_lossy(&answer));
            Ok(answer)
        };
        match work {
            Work::Ping => drop(wanted(client.ask("GET", "/_ping", "")?, 200)?),
            Work::List => drop(wanted(client.ask("GET", "/containers/json?all=1", "")?, 200)?),
            Work::Inspect => drop(wanted(client.ask("GET", "/containers/listed0/json", "")?, 200)?),
            Work::Life => {
                let made = wanted(client.ask("POST", "/containers/create", document)?, 201)?;
                let made: Value = serde_json::from_slice(&made)?;
                let id = made["Id"].as_str().context("no Id")?;
                wanted(client.ask("POST", &format!("/containers/{id}/start"), "")?, 204)?;
                wanted(client.ask("POST", &format!("/containers/{id}/wait"), "")?, 200)?;
                wanted(client.ask("DELETE", &format!("/containers/{id}"), "")?, 204)?;
            }
        }
        times.push(began.elapsed().as_secs_f64() * 1e3);
    }
    Ok(times)
}

/// A connection that stays.
struct Client(BufReader<UnixStream>);

impl Client {
    fn connect(socket: &Path) -> Result<Client> {
        let stream = UnixStream::connect(socket).with_context(|| format!("connect to {}", socket.display()))?;
        stream.set_read_timeout(Some(Duration::from_secs(60)))?;
        Ok(Client(BufReader::new(stream)))
    }

    /// A request and its whole answer, which is not taken apart: this process should not be what is measured.
    fn ask(&mut self, method: &str, path: &str, content: &str) -> Result<(u16, Vec<u8>)> {
        let head = format!(
            "{method} /v1.41{path} HTTP/1.1\r\nHost: d\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
            content.len()
        );
        self.0.get_mut().write_all(format!("{head}{content}").as_bytes())?;
        let status = self.line()?.split(' ').nth(1).and_then(|text| text.parse().ok()).context("no status")?;
        let (mut length, mut chunked) = (0, false);
        loop {
            let line = self.line()?.to_ascii_lowercase();
            if line.is_empty() {
                break;
            }
            if let Some(value) = line.strip_prefix("content-length:") {
                length = value.trim().parse()?;
            }
            chunked |= line.starts_with("transfer-encoding:") && line.contains("chunked");
        }
        let mut body = vec![];
        if chunked {
            loop {
                let size = usize::from_str_radix(self.line()?.trim(), 16)?;
                let at = body.len();
                body.resize(at + size, 0);
                self.0.read_exact(&mut body[at..])?;
                self.line()?;
                if size == 0 {
                    break;
                }
            }
        } else {
            body.resize(length, 0);
            self.0.read_exact(&mut body)?;
        }
        Ok((status, body))
    }

    fn line(&mut self) -> Result<String> {
        let mut line = String::new();
        if self.0.read_line(&mut line)? == 0 {
            bail!("the server has closed the connection");
        }
        Ok(line.trim_end().to_owned())
    }
}

/// Resident memory of a server, in KiB: its process, and for docker the containerd that it has started.
fn resident(pid: u32) -> u64 {
    let of = |pid: u32| {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        let field = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        field.and_then(|value| value.split_whitespace().next()?.parse().ok()).unwrap_or(0)
    };
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    let children = tasks.filter_map(|task| fs::read_to_string(task.path().join("children")).ok()).collect::<String>();
    let others = children.split_whitespace().filter_map(|text| text.parse().ok()).filter(|child: &u32| {
        fs::read_to_string(format!("/proc/{child}/comm")).is_ok_and(|name| name.trim() == "containerd")
    });
    of(pid) + others.map(of).sum::<u64>()
}
