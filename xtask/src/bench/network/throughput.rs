//! Bytes per second, by iperf3: between containers, from the host, through a published port, for an ordinary user in and out;
//! beside a bare veth pair and bridge, and pasta alone.

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use serde_json::{Value, json};

use super::super::Bench;
use super::super::peers::Engine;
use super::super::table::{Samples, print};
use super::{address, inside, pid, remove, said, sleeper};
use crate::command::command;

/// Seconds of each measurement.
const SECONDS: &str = "2";
/// Seconds after which a measurement that does not end is none.
const LIMIT: &str = "8";
/// Rounds; each measures everything once.
const ROUNDS: usize = 2;
/// Connections outwards as an ordinary user in each round: pasta's speed differs by a factor of ten from one to the next
/// (docs/networks.md).
const OUT: usize = 4;
/// The ordinary user of the tests.
const USER: &str = "dhow-tester";

/// A process that ends with the value.
struct Background(Child);

impl Drop for Background {
    fn drop(&mut self) {
        // Both fail only when it has ended already.
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

/// Another machine: this one is 192.0.2.1, that one 192.0.2.2, and all else is behind it.
pub struct Lan {
    process: Background,
}

impl Lan {
    /// Makes it.
    pub fn new() -> Result<Lan> {
        let lan = Lan { process: namespace()? };
        let there = lan.pid();
        for words in [
            format!("ip link add wire0 type veth peer name wire1 netns {there}"),
            "ip address add 192.0.2.1/24 dev wire0".into(),
            "ip link set wire0 up".into(),
            format!("nsenter --net --target {there} ip address add 192.0.2.2/24 dev wire1"),
            format!("nsenter --net --target {there} ip link set wire1 up"),
            "ip route add default via 192.0.2.2".into(),
        ] {
            said(shell(&words))?;
        }
        Ok(lan)
    }

    fn pid(&self) -> String {
        self.process.0.id().to_string()
    }
}

fn shell(text: &str) -> Command {
    command("sh", ["-c", text])
}

/// A process in a network namespace of its own.
fn namespace() -> Result<Background> {
    let child = command("unshare", ["--net", "sleep", "10000"]).spawn()?;
    let own = fs::read_link("/proc/self/ns/net")?;
    let until = Instant::now() + Duration::from_secs(5);
    while fs::read_link(format!("/proc/{}/ns/net", child.id())).is_ok_and(|link| link == own) && Instant::now() < until
    {
        thread::sleep(Duration::from_millis(1));
    }
    Ok(Background(child))
}

/// Gigabits per second from the client's namespace (here without one) to a server in the other.
fn measure(server: &str, client: Option<&str>, to: &str, port: &str) -> Result<f64> {
    let _server = listen(inside(server, &["iperf3", "--server", "--one-off", "--port", "5201"]))?;
    let words = ["timeout", LIMIT, "iperf3", "--client", to, "--port", port, "--time", SECONDS, "--json"];
    ask(match client {
        Some(client) => inside(client, &words),
        None => command(words[0], &words[1..]),
    })
}

fn listen(mut server: Command) -> Result<Background> {
    let child = server.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
    thread::sleep(Duration::from_millis(300));
    Ok(Background(child))
}

fn ask(client: Command) -> Result<f64> {
    let report: Value = serde_json::from_str(&said(client)?)?;
    let bits = report["end"]["sum_received"]["bits_per_second"].as_f64().context("iperf3 says no speed")?;
    Ok(bits / 1e9)
}

/// Measures, prints, and returns all samples.
pub fn run(bench: &Bench, engines: &[Engine], lan: &Lan) -> Result<Value> {
    let mut all: Vec<Samples> = vec![];
    let mut note = |name: String, value: Result<f64>| match value {
        Ok(value) => match all.iter_mut().find(|samples| samples.name == name) {
            Some(samples) => samples.values.push(value),
            None => all.push(Samples { name, values: vec![value] }),
        },
        Err(error) => println!("bench: without {name}: {error:#}"),
    };
    for _ in 0..ROUNDS {
        let (pair, host) = bare()?;
        note("container to container: bare veth and bridge".into(), Ok(pair));
        note("host to container: bare veth and bridge".into(), Ok(host));
        for engine in engines {
            let server = sleeper(engine, &["-p", "5300:5201"])?;
            let client = sleeper(engine, &[])?;
            let (from, to) = (pid(engine, &client)?, pid(engine, &server)?);
            let at = address(engine, &server)?;
            note(format!("container to container: {}", engine.name), measure(&to, Some(&from), &at, "5201"));
            note(format!("host to container: {}", engine.name), measure(&to, None, &at, "5201"));
            note(format!("published port: {}", engine.name), measure(&to, Some(&lan.pid()), "192.0.2.1", "5300"));
            remove(engine, &[server, client])?;
        }
        for (name, value) in as_user(bench, lan)? {
            note(name, value);
        }
    }
    all.sort_by(|one, other| one.name.cmp(&other.name));
    let rows: Vec<Vec<String>> =
        all.iter().map(|samples| vec![samples.name.clone(), format!("{:.1}", samples.median())]).collect();
    println!();
    print(&["way", "Gbit/s"], &rows);
    Ok(json!(all.iter().map(Samples::json).collect::<Vec<_>>()))
}

/// Two namespaces on a bridge: from one to the other, and from here.
fn bare() -> Result<(f64, f64)> {
    let (one, other) = (namespace()?, namespace()?);
    said(shell("ip link add bare0 type bridge; ip address add 10.99.0.1/24 dev bare0; ip link set bare0 up"))?;
    for (number, process) in [(2, &one), (3, &other)] {
        let there = process.0.id();
        said(shell(&format!(
            "ip link add bare{number} type veth peer name eth0 netns {there} && ip link set bare{number} master bare0 up &&
             nsenter --net --target {there} sh -c 'ip address add 10.99.0.{number}/24 dev eth0; ip link set eth0 up'"
        )))?;
    }
    let (to, from) = (one.0.id().to_string(), other.0.id().to_string());
    let values = (measure(&to, Some(&from), "10.99.0.2", "5201")?, measure(&to, None, "10.99.0.2", "5201")?);
    said(shell("ip link delete bare0"))?;
    Ok(values)
}

/// In by a published port and out to the neighbour: dhow as an ordinary user, podman (slirp4netns in Debian 12), pasta alone.
fn as_user(bench: &Bench, lan: &Lan) -> Result<Vec<(String, Result<f64>)>> {
    let home = bench.path("user");
    if !home.exists() {
        fs::create_dir(&home)?;
        // udev gives this device to everybody; machines without udev do not.
        let tun = home.join("tun");
        said(shell(&format!(
            "chown {USER}: {0}; echo 0 2147483647 >/proc/sys/net/ipv4/ping_group_range;
             mknod -m 666 {1} c 10 200 && mount --bind {1} /dev/net/tun; install -m 755 {2} {0}/dhow",
            home.display(),
            tun.display(),
            bench.dhow.display()
        )))?;
    }
    let mut results = vec![];
    let dhow = format!("{0}/dhow --root {0}/data --run-dir {0}/run", home.display());
    let podman = format!(
        "podman --root {0}/podman --runroot {0}/podman-run --tmpdir {0}/podman-tmp --cgroup-manager cgroupfs --runtime /usr/bin/crun",
        home.display()
    );
    let archive = crate::images::directory()?.join("busybox.docker.tar");
    for (name, engine, extra) in
        [("dhow", &dhow, ""), ("podman (slirp4netns)", &podman, "--ulimit nofile=1000:1000 --ulimit nproc=1000:1000")]
    {
        let start = format!(
            "{engine} load -i {} >/dev/null && {engine} run -d --name bench -p 5400:5201 {extra} busybox sleep 10000 >/dev/null &&
             {engine} inspect -f '{{{{.State.Pid}}}}' bench",
            archive.display()
        );
        match said(user(&home, &start)) {
            Ok(pid) => {
                let pid = pid.trim();
                results.push((format!("rootless in: {name}"), measure(pid, Some(&lan.pid()), "192.0.2.1", "5400")));
                for _ in 0..OUT {
                    results
                        .push((format!("rootless out: {name}"), measure(&lan.pid(), Some(pid), "192.0.2.2", "5201")));
                }
            }
            Err(error) => results.push((format!("rootless: {name}"), Err(error))),
        }
        // What stays ends with the cage.
        drop(user(&home, &format!("{engine} rm -f bench")).output());
    }
    let serve = "exec pasta --config-net --no-map-gw -t 5500:5201 -- iperf3 --server --one-off --port 5201";
    let server = listen(user(&home, serve))?;
    let words = ["timeout", LIMIT, "iperf3", "--client", "192.0.2.1", "--port", "5500", "--time", SECONDS, "--json"];
    results.push(("rootless in: pasta alone".into(), ask(inside(&lan.pid(), &words))));
    drop(server);
    let out = format!(
        "timeout {LIMIT} pasta --config-net --no-map-gw -- iperf3 --client 192.0.2.2 --port 5201 --time {SECONDS} --json"
    );
    for _ in 0..OUT {
        let _server = listen(inside(&lan.pid(), &["iperf3", "--server", "--one-off", "--port", "5201"]))?;
        results.push(("rootless out: pasta alone".into(), ask(user(&home, &out))));
    }
    Ok(results)
}

fn user(home: &Path, script: &str) -> Command {
    let mut command =
        command("setpriv", ["--reuid", USER, "--regid", USER, "--init-groups", "--inh-caps=-all", "sh", "-c", script]);
    command
        .env("HOME", home)
        .env_remove("XDG_RUNTIME_DIR")
        .env("PODMAN_IGNORE_CGROUPSV1_WARNING", "1")
        .current_dir(home);
    command
}
