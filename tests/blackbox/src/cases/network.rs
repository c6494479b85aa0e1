//! `--network none`, `host` and the bridge, in a network namespace that plays the host.

use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::case::{cases, contains, same};
use crate::host;
use crate::sandbox::Sandbox;

cases![network:
    none, host_network, bridge [Root], containers_reach_each_other [Root], a_route_out [Root], addresses_are_given_back [Root],
    host_reaches_container [Root], name_resolution_files [Root], host_forwarding_stays_closed [Root],
];

fn none(sandbox: &Sandbox) -> Result<()> {
    sandbox.load("busybox")?;
    let text = sandbox.busybox(
        &["--network", "none"],
        "ls /sys/class/net | tr '\\n' ' '; ping -c 1 -W 2 127.0.0.1 >/dev/null && echo answers; ip route",
    )?;
    same!(text, "lo answers");
    Ok(())
}

fn host_network(sandbox: &Sandbox) -> Result<()> {
    sandbox.load("busybox")?;
    let inside = sandbox.busybox(&["--network", "host"], "readlink /proc/self/ns/net; hostname")?;
    let outside = format!(
        "{}\n{}",
        host::namespace("self", "net")?,
        std::fs::read_to_string("/proc/sys/kernel/hostname")?.trim()
    );
    same!(inside, outside);
    Ok(())
}

/// The address of `eth0` in a running container.
fn address(sandbox: &Sandbox, container: &str) -> Result<String> {
    let text = sandbox.ok(["exec", container, "ip", "-o", "-4", "address", "show", "dev", "eth0"])?;
    let address = text
        .split_whitespace()
        .skip_while(|word| *word != "inet")
        .nth(1)
        .with_context(|| format!("no address: {text}"))?;
    Ok(address.split('/').next().unwrap_or(address).to_owned())
}

fn bridge(sandbox: &Sandbox) -> Result<()> {
    sandbox.load("busybox")?;
    let id = sandbox.detached(&[], "exec sleep 1000")?;
    let address = address(sandbox, &id)?;
    same!(sandbox.inspect(&id)?["NetworkSettings"]["Networks"]["bridge"]["IPAddress"], address.as_str());
    let route = sandbox.ok(["exec", &id, "ip", "route", "show", "default"])?;
    let gateway = route.split_whitespace().nth(2).with_context(|| format!("no gateway: {route}"))?.to_owned();
    sandbox.ok(["exec", &id, "ping", "-c", "1", "-W", "5", &gateway])?;
    let text = sandbox.ok(["xray", &id])?;
    contains!(text, &address);
    Ok(())
}

fn containers_reach_each_other(sandbox: &Sandbox) -> Result<()> {
    sandbox.load("busybox")?;
    let server = sandbox.detached(&[], "echo hello >/index.html; exec httpd -f -p 80 -h /")?;
    let address = address(sandbox, &server)?;
    let client = format!(
        "for i in 1 2 3 4 5 6 7 8 9; do wget -q -O - http://{address}/ 2>/dev/null && exit; sleep 0.3; done; exit 1"
    );
    same!(sandbox.busybox(&[], &client)?, "hello");
    Ok(())
}

/// Another machine, one hop behind an uplink of this namespace: it has no route to the containers, so only packets with the
/// host's own address are answered.
struct Outside(host::Background);

impl Outside {
    const ADDRESS: &str = "203.0.113.1";

    fn new() -> Result<Self> {
        let script = "ip link set lo up; while ! ip link show up1 >/dev/null 2>&1; do sleep 0.05; done
            ip addr add 203.0.113.1/24 dev up1; ip link set up1 up; echo outside >/tmp/index.html; exec busybox httpd -f -p 80 -h /tmp";
        let child = Command::new("unshare")
            .args(["--net", "--mount", "sh", "-c", &format!("mount -t tmpfs none /tmp; {script}")])
            .spawn()?;
        let outside = Self(host::Background(child));
        let pid = outside.0.0.id().to_string();
        let own = host::namespace("self", "net")?;
        host::until("the other namespace", std::time::Duration::from_secs(10), || {
            Ok((host::namespace(&pid, "net")? != own).then_some(()))
        })?;
        let ip = |words: &str| host::succeed(Command::new("ip").args(words.split(' ')));
        ip(&format!("link add up0 type veth peer name up1 netns {pid}"))?;
        ip("addr add 203.0.113.2/24 dev up0")?;
        ip("link set up0 up")?;
        Ok(outside)
    }
}

fn a_route_out(sandbox: &Sandbox) -> Result<()> {
    if host::program("busybox").is_none() {
        return crate::case::skip("no busybox for the machine outside");
    }
    sandbox.load("busybox")?;
    let outside = Outside::new()?;
    let client = format!(
        "for i in 1 2 3 4 5 6 7 8 9; do wget -q -O - http://{}/ 2>/dev/null && exit; sleep 0.3; done; exit 1",
        Outside::ADDRESS
    );
    same!(sandbox.busybox(&[], &client)?, "outside");
    drop(outside);
    host::succeed(Command::new("ip").args(["link", "delete", "up0"])).ok();
    Ok(())
}

/// More containers, one after the other, than a small network has addresses.
fn addresses_are_given_back(sandbox: &Sandbox) -> Result<()> {
    sandbox.load("busybox")?;
    let count = if sandbox.is_slow() { 5 } else { 40 };
    for _ in 0..count {
        sandbox.busybox(&[], "ip -o -4 address show dev eth0 | grep -q inet")?;
    }
    let first = sandbox.detached(&[], "exec sleep 1000")?;
    let second = sandbox.detached(&[], "exec sleep 1000")?;
    ensure!(address(sandbox, &first)? != address(sandbox, &second)?, "two containers have the same address");
    Ok(())
}

fn host_reaches_container(sandbox: &Sandbox) -> Result<()> {
    sandbox.load("busybox")?;
    let id = sandbox.detached(&[], "exec sleep 1000")?;
    if host::program("ping").is_none() {
        return crate::case::skip("no ping");
    }
    host::succeed(Command::new("ping").args(["-c", "1", "-W", "5", &address(sandbox, &id)?]))?;
    Ok(())
}

fn name_resolution_files(sandbox: &Sandbox) -> Result<()> {
    sandbox.load("busybox")?;
    let id = sandbox.detached(&["--hostname", "box"], "exec sleep 1000")?;
    let hosts = sandbox.ok(["exec", &id, "cat", "/etc/hosts"])?;
    contains!(hosts, &address(sandbox, &id)?);
    contains!(hosts, "box");
    contains!(sandbox.ok(["exec", &id, "cat", "/etc/resolv.conf"])?, "nameserver");
    Ok(())
}

/// A machine outside that adds a route to the containers' network gets no answer from a port that was not published.
fn host_forwarding_stays_closed(sandbox: &Sandbox) -> Result<()> {
    if host::program("busybox").is_none() {
        return crate::case::skip("no busybox for the machine outside");
    }
    sandbox.load("busybox")?;
    let outside = Outside::new()?;
    let server = sandbox.detached(&[], "echo secret >/index.html; exec httpd -f -p 80 -h /")?;
    let address = address(sandbox, &server)?;
    let pid = outside.0.0.id().to_string();
    let script = format!(
        "ip route add {address}/32 via 203.0.113.2 && busybox timeout 2 busybox wget -q -O - http://{address}/"
    );
    let answered =
        host::succeed(Command::new("nsenter").args(["--net", "--target", &pid, "sh", "-c", &script])).is_ok();
    host::succeed(Command::new("ip").args(["link", "delete", "up0"]))?;
    ensure!(!answered, "a port that was not published is open to the outside");
    Ok(())
}
