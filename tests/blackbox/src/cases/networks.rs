//! Networks of one's own: made, listed, joined and left, with names, addresses and ways out, seen by real packets.

use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::network_growth::answers_do_not_grow;
use crate::case::{cases, contains, same};
use crate::host;
use crate::sandbox::Sandbox;

cases![networks:
    verbs [Root], names_and_aliases [Root], several_networks [Root], live [Root], static_addresses [Root],
    isolation [Root], internal [Root], shared_namespace [Root], ranges_and_their_owners [Root], own_name_server [Root],
    upstream_servers [Root], options [Root], macvlan_and_ipvlan [Root], gone_network [Root], mistakes [Root], killed_verbs [Root], events [Root],
    answers_do_not_grow [Root],
];

const SLEEP: &str = "exec sleep 1000";

/// Another machine on a wire to this one: `wire0` here, `wire1` there.
pub struct Lan(host::Background);

impl Lan {
    /// The machine, with the wire up and no address.
    pub fn new() -> Result<Lan> {
        let child = Command::new("unshare").args(["--net", "sleep", "infinity"]).spawn()?;
        let lan = Lan(host::Background(child));
        let pid = lan.0.0.id().to_string();
        let own = host::namespace("self", "net")?;
        host::until("the other namespace", std::time::Duration::from_secs(10), || {
            Ok((host::namespace(&pid, "net")? != own).then_some(()))
        })?;
        let ip = |words: &str| host::succeed(Command::new("ip").args(words.split(' ')));
        ip(&format!("link add wire0 type veth peer name wire1 netns {pid}"))?;
        ip("link set wire0 up")?;
        lan.run("ip link set lo up; ip link set wire1 up")?;
        Ok(lan)
    }

    /// The process by which its network is found.
    pub fn pid(&self) -> String {
        self.0.0.id().to_string()
    }

    /// Runs a shell command there, and returns what it prints.
    pub fn run(&self, script: &str) -> Result<String> {
        host::succeed(&mut self.command(script))
    }

    /// A shell command there.
    pub fn command(&self, script: &str) -> Command {
        let mut command = Command::new("nsenter");
        command.args(["--net", "--target", &self.pid(), "sh", "-c", script]);
        command
    }
}

impl Drop for Lan {
    fn drop(&mut self) {
        // With the one end goes the other; the rest ends with the process.
        drop(host::succeed(Command::new("ip").args(["link", "delete", "wire0"])));
    }
}

fn network(sandbox: &Sandbox, name: &str) -> Result<Value> {
    let mut all: Value = serde_json::from_str(&sandbox.ok(["network", "inspect", name])?)?;
    Ok(all[0].take())
}

fn verbs(sandbox: &Sandbox) -> Result<()> {
    sandbox.load("busybox")?;
    let id = sandbox.ok(["network", "create", "--label", "a=1", "mine"])?;
    same!(id.len(), 64);
    let table = sandbox.ok(["network", "ls"])?;
    let names: Vec<&str> = table.lines().map(|line| line.split_whitespace().nth(1).unwrap_or("")).collect();
    same!(names, ["ID", "bridge", "host", "mine", "none"]);
    same!(sandbox.ok(["network", "ls", "-q", "--no-trunc", "-f", "type=custom"])?, id);
    same!(
        sandbox.ok(["network", "ls", "--format", "{{.Name}} {{.Driver}} {{.Labels}}", "-f", "label=a"])?,
        "mine bridge a=1"
    );
    same!(
        sandbox.ok(["network", "inspect", "-f", "{{.Name}} {{.Scope}} {{.Internal}}", &id[..8]])?,
        "mine local false"
    );
    let seen = network(sandbox, "mine")?;
    let subnet = seen["IPAM"]["Config"][0]["Subnet"].as_str().context("no subnet")?.to_owned();
    let gateway = seen["IPAM"]["Config"][0]["Gateway"].as_str().context("no gateway")?.to_owned();
    same!(subnet, "172.18.0.0/16");
    contains!(host::succeed(Command::new("ip").args(["-4", "address"]))?, format!("{gateway}/16"));
    let container = sandbox.detached(&["--network", "mine", "--name", "web"], SLEEP)?;
    let seen = network(sandbox, "mine")?;
    same!(seen["Containers"][&container]["Name"], "web");
    same!(seen["Containers"][&container]["IPv4Address"], "172.18.0.2/16");
    same!(sandbox.inspect("web")?["NetworkSettings"]["Networks"]["mine"]["IPAddress"], "172.18.0.2");
    same!(sandbox.inspect("web")?["HostConfig"]["NetworkMode"], "mine");
    sandbox.dhow(["network", "rm", "mine"])?.fails(1, &["active endpoints", "web"])?;
    sandbox.dhow(["network", "create", "mine"])?.fails(1, &["network with name mine already exists"])?;
    sandbox.dhow(["network", "rm", "bridge"])?.fails(1, &["pre-defined network"])?;
    sandbox.ok(["rm", "-f", "web"])?;
    sandbox.ok(["network", "create", "other"])?;
    same!(sandbox.ok(["network", "rm", "mine"])?, "mine");
    contains!(sandbox.ok(["network", "prune", "-f"])?, "Deleted Networks:\nother");
    same!(sandbox.ok(["network", "ls", "-q", "-f", "type=custom"])?, "");
    let links = host::succeed(Command::new("ip").args(["-o", "link"]))?;
    ensure!(!links.contains(&id[..11]), "the bridge is still there: {links}");
    Ok(())
}

fn names_and_aliases(sandbox: &Sandbox) -> Result<()> {
    sandbox.load("busybox")?;
    sandbox.ok(["network", "create", "mine"])?;
    for number in ["1", "2"] {
        let name = format!("web{number}");
        sandbox.detached(&["--network", "mine", "--name", &name, "--network-alias", "web"], SLEEP)?;
    }
    let look = |script: &str| sandbox.busybox(&["--network", "mine"], script);
    contains!(look("nslookup -type=a web1 127.0.0.11")?, "172.18.0.2");
    contains!(look("nslookup -type=a web2.mine 127.0.0.11")?, "172.18.0.3");
    let both = look("nslookup -type=a web")?;
    contains!(both, "172.18.0.2");
    contains!(both, "172.18.0.3");
    // Round robin: of many look-ups not all begin with the same.
    let firsts = look("for i in 1 2 3 4; do ping -4 -c 1 -W 1 web | head -1; done")?;
    contains!(firsts, "172.18.0.2");
    contains!(firsts, "172.18.0.3");
    contains!(look("nslookup 172.18.0.2")?, "web1.mine");
    // The name is there, the type is not: no data, and no error.
    let nodata = look("nslookup -type=mx web1 127.0.0.11; echo status $?")?;
    ensure!(!nodata.contains("NXDOMAIN"), "{nodata}");
    contains!(look("cat /etc/resolv.conf")?, "nameserver 127.0.0.11\n");
    // Names follow: one that goes, one that is renamed.
    sandbox.ok(["rm", "-f", "web2"])?;
    sandbox.ok(["rename", "web1", "first"])?;
    contains!(look("ping -4 -c 1 -W 1 first")?, "172.18.0.2");
    let gone = look("nslookup -type=a web2 2>&1; nslookup -type=a web1 2>&1; true")?;
    ensure!(gone.matches("can't find").count() >= 2, "{gone}");
    contains!(look("ping -4 -c 1 -W 1 host.docker.internal")?, "172.18.0.1");
    // A name for one container alone.
    contains!(sandbox.busybox(&["--network", "mine", "--link", "first:db"], "ping -4 -c 1 -W 5 db")?, "172.18.0.2");
    ensure!(look("nslookup -type=a db 2>&1; true")?.contains("can't find"), "the link's name is everybody's");
    Ok(())
}

fn several_networks(sandbox: &Sandbox) -> Result<()> {
    sandbox.load("busybox")?;
    for name in ["back", "front"] {
        sandbox.ok(["network", "create", name])?;
    }
    let id = sandbox.detached(&["--network", "front", "--network", "name=back,alias=db", "--name", "both"], SLEEP)?;
    let addresses = sandbox.ok(["exec", &id, "ip", "-o", "-4", "address"])?;
    contains!(addresses, "eth0    inet 172.19.0.2/16");
    contains!(addresses, "eth1    inet 172.18.0.2/16");
    // By name, back comes first.
    contains!(sandbox.ok(["exec", &id, "ip", "route", "show", "default"])?, "via 172.18.0.1 dev eth1");
    contains!(sandbox.busybox(&["--network", "back"], "ping -4 -c 1 -W 5 db")?, "172.18.0.2");
    contains!(sandbox.busybox(&["--network", "front"], "ping -4 -c 1 -W 5 both")?, "172.19.0.2");
    let other = sandbox.detached(&["--network", "back", "--network", "name=front,gw-priority=1"], SLEEP)?;
    contains!(sandbox.ok(["exec", &other, "ip", "route", "show", "default"])?, "via 172.19.0.1 dev eth1");
    same!(sandbox.ok(["ps", "--format", "{{.Networks}}", "-f", "name=both"])?, "front,back");
    Ok(())
}

/// Joining and leaving while it runs.
fn live(sandbox: &Sandbox) -> Result<()> {
    sandbox.load("busybox")?;
    for name in ["aaa", "zzz"] {
        sandbox.ok(["network", "create", name])?;
    }
    let id = sandbox.detached(&["--network", "zzz", "--name", "box"], SLEEP)?;
    sandbox.ok(["network", "connect", "--alias", "other", "aaa", "box"])?;
    contains!(sandbox.ok(["exec", &id, "ip", "route", "show", "default"])?, "via 172.18.0.1 dev eth1");
    contains!(sandbox.busybox(&["--network", "aaa"], "ping -4 -c 1 -W 1 other")?, "172.18.0.2");
    contains!(sandbox.ok(["exec", &id, "cat", "/etc/hosts"])?, "172.18.0.2");
    let peer = sandbox.detached(&["--network", "aaa", "--name", "peer"], SLEEP)?;
    sandbox.ok(["exec", &id, "ping", "-4", "-c", "1", "-W", "1", "peer"])?;
    sandbox.dhow(["network", "connect", "aaa", "box"])?.fails(1, &["already exists in network aaa"])?;
    sandbox.ok(["network", "disconnect", "aaa", "box"])?;
    contains!(sandbox.ok(["exec", &id, "ip", "route", "show", "default"])?, "via 172.19.0.1 dev eth0");
    ensure!(!sandbox.ok(["exec", &id, "ip", "-o", "link"])?.contains("eth1"), "eth1 is still there");
    ensure!(!sandbox.ok(["exec", &id, "cat", "/etc/hosts"])?.contains("172.18.0.2"), "its old address is in hosts");
    sandbox.dhow(["exec", &id, "ping", "-4", "-c", "1", "-W", "1", "peer"])?.fails(1, &[])?;
    sandbox.dhow(["network", "disconnect", "aaa", "box"])?.fails(1, &["is not connected to network aaa"])?;
    // One that has ended keeps what was changed.
    sandbox.ok(["stop", "-t", "0", &peer])?;
    sandbox.ok(["network", "connect", "zzz", "peer"])?;
    sandbox.ok(["network", "disconnect", "aaa", "peer"])?;
    sandbox.ok(["start", "peer"])?;
    sandbox.ok(["exec", &id, "ping", "-4", "-c", "1", "-W", "1", "peer"])?;
    same!(sandbox.ok(["ps", "--format", "{{.Networks}}", "-f", "name=peer"])?, "zzz");
    Ok(())
}

fn static_addresses(sandbox: &Sandbox) -> Result<()> {
    sandbox.load("busybox")?;
    let ranges = ["--subnet", "10.77.0.0/24", "--gateway", "10.77.0.254", "--ip-range", "10.77.0.128/25"];
    let more = ["--aux-address", "router=10.77.0.128", "--subnet", "fd77::/64", "mine"];
    sandbox.ok([&["network", "create"], &ranges[..], &more[..]].concat())?;
    let script = "ip -o address show dev eth0; ip route show default; cat /sys/class/net/eth0/address";
    let text = sandbox.busybox(&["--network", "mine"], script)?;
    contains!(text, "inet 10.77.0.129/24");
    contains!(text, "inet6 fd77::2/64");
    contains!(text, "via 10.77.0.254");
    let place = ["--network", "mine", "--ip", "10.77.0.9", "--ip6", "fd77::9", "--mac-address", "02:00:00:00:00:09"];
    let text = sandbox.busybox(&[&place[..], &["--link-local-ip", "169.254.7.7"]].concat(), script)?;
    for part in ["inet 10.77.0.9/24", "inet6 fd77::9/64", "02:00:00:00:00:09", "inet 169.254.7.7/16"] {
        contains!(text, part);
    }
    let id = sandbox.detached(&["--network", "mine", "--ip", "10.77.0.9", "--name", "nine"], SLEEP)?;
    let run = |options: &[&str]| sandbox.dhow([&["run", "--rm"], options, &["busybox", "true"]].concat());
    run(&["--network", "mine", "--ip", "10.77.0.9"])?.fails(125, &["Address already in use", "10.77.0.9"])?;
    run(&["--network", "mine", "--ip", "10.78.0.9"])?.fails(125, &["10.78.0.9", "outside"])?;
    run(&["--ip", "10.77.0.9"])?
        .fails(125, &["user specified IP address is supported on user defined networks only"])?;
    run(&["--network-alias", "x"])?
        .fails(125, &["network-scoped aliases are only supported for user-defined networks"])?;
    // It gets its own again.
    sandbox.ok(["restart", "-t", "0", &id])?;
    contains!(sandbox.ok(["exec", &id, "ip", "-o", "-4", "address", "show", "dev", "eth0"])?, "10.77.0.9/24");
    Ok(())
}

/// Networks do not reach each other, neither by the other's address nor by its gateway's side; `icc` is for one network.
fn isolation(sandbox: &Sandbox) -> Result<()> {
    sandbox.load("busybox")?;
    for name in ["one", "two"] {
        sandbox.ok(["network", "create", name])?;
    }
    sandbox.ok(["network", "create", "-o", "com.docker.network.bridge.enable_icc=false", "apart"])?;
    let serve = "echo here >/index.html; exec httpd -f -p 80 -h /";
    sandbox.detached(&["--network", "one", "--name", "server"], serve)?;
    sandbox.detached(&["--network", "apart", "--name", "alone"], serve)?;
    let inspect = |template: &str, name: &str| sandbox.ok(["inspect", "-f", template, name]);
    let four = inspect("{{.NetworkSettings.Networks.one.IPAddress}}", "server")?;
    let six = inspect("{{.NetworkSettings.Networks.one.GlobalIPv6Address}}", "server")?;
    let alone = inspect("{{.NetworkSettings.Networks.apart.IPAddress}}", "alone")?;
    let get = |network: &str, address: &str| {
        let script = format!("for i in 1 2 3; do timeout 1 wget -q -O - http://{address}/ && exit; done; echo none");
        sandbox.busybox(&["--network", network], &script)
    };
    same!(get("one", &four)?, "here");
    same!(get("two", &four)?, "none");
    same!(get("bridge", &four)?, "none");
    if !six.is_empty() {
        same!(get("one", &format!("[{six}]"))?, "here");
        same!(get("two", &format!("[{six}]"))?, "none");
    }
    same!(get("apart", &alone)?, "none");
    Ok(())
}

/// Nothing goes out of an internal network, and no question either (CVE-2024-29018).
fn internal(sandbox: &Sandbox) -> Result<()> {
    sandbox.load("busybox")?;
    let (server, count) = NameServer::start("127.0.0.53:53")?;
    let servers = Resolver::new(sandbox, "nameserver 127.0.0.53\n")?;
    sandbox.ok(["network", "create", "--internal", "closed"])?;
    sandbox.detached(&["--network", "closed", "--name", "peer"], SLEEP)?;
    let text = sandbox.busybox(
        &["--network", "closed"],
        "ip route show default; nslookup -type=a secret.example.com 2>&1; ping -4 -c 1 -W 1 peer",
    )?;
    ensure!(!text.contains("default"), "{text}");
    contains!(text, "NXDOMAIN");
    contains!(text, "1 packets received");
    same!(count.load(std::sync::atomic::Ordering::SeqCst), 0, "a question left the internal network");
    drop((server, servers));
    Ok(())
}

/// `--network container:NAME`
fn shared_namespace(sandbox: &Sandbox) -> Result<()> {
    sandbox.load("busybox")?;
    let id = sandbox
        .detached(&["--name", "owner", "--hostname", "house"], "echo here >/index.html; exec httpd -f -p 80 -h /")?;
    let inside = |who: &str| sandbox.ok(["exec", who, "readlink", "/proc/self/ns/net"]);
    let guest = sandbox.detached(&["--network", "container:owner", "--name", "guest"], SLEEP)?;
    same!(inside("owner")?, inside("guest")?);
    same!(sandbox.ok(["exec", &guest, "hostname"])?, "house");
    same!(sandbox.ok(["exec", &guest, "wget", "-q", "-O", "-", "http://127.0.0.1/"])?, "here");
    let hosts = |who: &str| sandbox.ok(["exec", who, "cat", "/etc/hosts"]);
    same!(hosts("owner")?, hosts("guest")?);
    same!(sandbox.inspect("guest")?["HostConfig"]["NetworkMode"], format!("container:{id}"));
    let run = |options: &[&str]| sandbox.dhow([&["run", "--rm"], options, &["busybox", "true"]].concat());
    run(&["--network", "container:owner", "-p", "80"])?.fails(125, &["conflicting options"])?;
    run(&["--network", "container:owner", "--hostname", "x"])?.fails(125, &["conflicting options: hostname"])?;
    run(&["--network", "container:nobody"])?.fails(125, &["No such container: nobody"])?;
    sandbox.dhow(["network", "connect", "bridge", "guest"])?.fails(1, &["sharing network namespace"])?;
    sandbox.ok(["stop", "-t", "0", "owner", "guest"])?;
    sandbox.dhow(["start", "guest"])?.fails(1, &["cannot join network of a non running container"])?;
    Ok(())
}

/// Ranges avoid the host's routes and other networks; who has one that was asked for is said.
fn ranges_and_their_owners(sandbox: &Sandbox) -> Result<()> {
    host::succeed(Command::new("ip").args(["link", "add", "wire0", "type", "bridge"]))?;
    host::succeed(Command::new("ip").args(["address", "add", "172.18.5.1/24", "dev", "wire0"]))?;
    host::succeed(Command::new("ip").args(["link", "set", "wire0", "up"]))?;
    sandbox.ok(["network", "create", "mine"])?;
    same!(network(sandbox, "mine")?["IPAM"]["Config"][0]["Subnet"], "172.19.0.0/16");
    let create = |subnet: &str| sandbox.dhow(["network", "create", "--subnet", subnet, "other"]);
    create("172.18.0.0/16")?.fails(1, &["Pool overlaps with other one on this address space", "the route on wire0"])?;
    create("172.19.3.0/24")?.fails(1, &["Pool overlaps", "the network mine"])?;
    create("10.1.2.3/24")?.fails(1, &["it should be 10.1.2.0/24"])?;
    create("300.0.0.0/24")?
        .fails(125, &["300.0.0.0/24"])
        .or_else(|_| create("300.0.0.0/24")?.fails(1, &["300.0.0.0/24"]))?;
    same!(sandbox.ok(["network", "ls", "-q", "-f", "name=other"])?, "");
    host::succeed(Command::new("ip").args(["link", "delete", "wire0"]))?;
    Ok(())
}

/// The name server does not take port 53 from the container.
fn own_name_server(sandbox: &Sandbox) -> Result<()> {
    sandbox.load("busybox")?;
    sandbox.ok(["network", "create", "mine"])?;
    if host::program("socat").is_none() {
        return crate::case::skip("no socat");
    }
    let id = sandbox.detached(&["--network", "mine", "--name", "box"], SLEEP)?;
    let pid = sandbox.pid(&id)?.to_string();
    let serve = |what: &str| {
        let child = Command::new("nsenter").args(["--net", "--target", &pid, "socat", "-u", what, "STDOUT"]).spawn()?;
        Ok::<_, anyhow::Error>(host::Background(child))
    };
    let mut own = [serve("UDP-RECV:53")?, serve("TCP-LISTEN:53")?];
    std::thread::sleep(std::time::Duration::from_millis(300));
    let text = sandbox.ok(["exec", &id, "nslookup", "-type=a", "box"])?;
    contains!(text, "172.18.0.2");
    for server in &mut own {
        ensure!(server.0.try_wait()?.is_none(), "the container's own server could not have port 53");
    }
    Ok(())
}

/// Another resolv.conf in the place of the host's, in the test's own mount namespace: the host's file itself is never written.
pub struct Resolver;

impl Resolver {
    /// Until the value ends.
    pub fn new(sandbox: &Sandbox, text: &str) -> Result<Resolver> {
        let file = sandbox.file("resolv.conf", text)?;
        host::succeed(Command::new("mount").args(["--bind", &file, "/etc/resolv.conf"]))?;
        Ok(Resolver)
    }
}

impl Drop for Resolver {
    fn drop(&mut self) {
        // The namespace ends with the test in any case.
        drop(host::succeed(Command::new("umount").arg("/etc/resolv.conf")));
    }
}

/// A name server of this machine, on its loopback, as systemd-resolved is. Answers 203.0.113.7 to whatever is asked.
struct NameServer(std::net::SocketAddr);

impl NameServer {
    fn start(address: &str) -> Result<(NameServer, std::sync::Arc<std::sync::atomic::AtomicUsize>)> {
        use std::sync::atomic::Ordering;
        let socket = std::net::UdpSocket::bind(address)?;
        let count = std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(0));
        let counted = count.clone();
        let server = NameServer(socket.local_addr()?);
        // It ends with the test's process.
        std::thread::spawn(move || {
            let mut bytes = [0; 2048];
            while let Ok((length, peer)) = socket.recv_from(&mut bytes) {
                if length < 12 {
                    return;
                }
                counted.fetch_add(1, Ordering::SeqCst);
                let is_four = bytes[..length].windows(4).any(|part| part == [0, 1, 0, 1]);
                let mut reply = bytes[..length].to_vec();
                (reply[2], reply[3]) = (reply[2] | 0x80, 0x80);
                // No EDNS in the answer: the question alone is repeated.
                let end = 12 + reply[12..].iter().position(|byte| *byte == 0).unwrap_or(0) + 5;
                reply.truncate(end);
                (reply[7], reply[11]) = (u8::from(is_four), 0);
                if is_four {
                    reply.extend_from_slice(&[0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 203, 0, 113, 7]);
                }
                if socket.send_to(&reply, peer).is_err() {
                    return;
                }
            }
        });
        Ok((server, count))
    }
}

impl Drop for NameServer {
    fn drop(&mut self) {
        // Anything shorter than a question ends it.
        drop(std::net::UdpSocket::bind("127.0.0.1:0").and_then(|socket| socket.send_to(b"end", self.0)));
    }
}

/// Names of others are asked of the host's servers, even one on the host's own loopback, which containers cannot reach.
fn upstream_servers(sandbox: &Sandbox) -> Result<()> {
    sandbox.load("busybox")?;
    let (server, count) = NameServer::start("127.0.0.53:53")?;
    let servers = Resolver::new(sandbox, "nameserver 127.0.0.53\nsearch example.org\n")?;
    sandbox.ok(["network", "create", "mine"])?;
    let script = "nslookup -type=a www.example.com; cat /etc/resolv.conf";
    for network in ["mine", "bridge"] {
        let text = sandbox.busybox(&["--network", network], script)?;
        contains!(text, "203.0.113.7");
        contains!(text, "nameserver 127.0.0.11\nsearch example.org\noptions ndots:0");
    }
    let asked = count.load(std::sync::atomic::Ordering::SeqCst);
    ensure!(asked >= 2, "the server was asked {asked} times");
    let flags = ["--network", "mine", "--dns", "127.0.0.53", "--dns-search", "a.test", "--dns-option", "timeout:1"];
    let text = sandbox.busybox(&flags, script)?;
    contains!(text, "203.0.113.7");
    contains!(text, "nameserver 127.0.0.11\nsearch a.test\noptions timeout:1 ndots:0");
    // Reverse look-ups in our own ranges are nobody else's affair.
    let before = count.load(std::sync::atomic::Ordering::SeqCst);
    sandbox.busybox(&["--network", "mine"], "nslookup 172.18.0.200 2>&1; true")?;
    same!(count.load(std::sync::atomic::Ordering::SeqCst), before);
    drop((server, servers));
    Ok(())
}

fn options(sandbox: &Sandbox) -> Result<()> {
    sandbox.load("busybox")?;
    let create = |options: &[&str]| sandbox.dhow([&["network", "create"], options].concat());
    let mtu = ["-o", "com.docker.network.driver.mtu=1400", "-o", "com.docker.network.bridge.name=br-mine"];
    create(&[&mtu[..], &["--ipv6=false", "mine"]].concat())?.success()?;
    let text =
        sandbox.busybox(&["--network", "mine"], "cat /sys/class/net/eth0/mtu; ip -o -6 address show dev eth0")?;
    same!(text, "1400", "and no IPv6, not even link-local (CVE-2024-32473)");
    contains!(host::succeed(Command::new("ip").args(["-o", "link", "show", "br-mine"]))?, "mtu 1400");
    same!(network(sandbox, "mine")?["EnableIPv6"], false);
    create(&["-o", "com.docker.network.bridge.name=br-mine", "x"])?.fails(1, &["br-mine exists already"])?;
    create(&["-o", "foo=bar", "x"])?.fails(1, &["the option foo of a network is not supported"])?;
    create(&["-d", "macvlan", "x"])?.fails(1, &["needs the device"])?;
    create(&["-d", "macvlan", "-o", "parent=nothing", "x"])?.fails(1, &["no device nothing"])?;
    create(&["-d", "host", "x"])?.fails(1, &["only one instance of \"host\" network is allowed"])?;
    create(&["host"])?.fails(1, &["predefined host network"])?;
    create(&["--ipam-opt", "a=b", "x"])?.fails(1, &["--ipam-opt a is not supported"])?;
    same!(sandbox.ok(["network", "ls", "-q", "-f", "name=^x$"])?, "");
    let prefix = ["-o", "com.docker.network.container_iface_prefix=net", "named"];
    create(&prefix)?.success()?;
    contains!(sandbox.busybox(&["--network", "named"], "ls /sys/class/net")?, "net0");
    let name = "name=named,driver-opt=com.docker.network.endpoint.ifname=special";
    contains!(sandbox.busybox(&["--network", name], "ls /sys/class/net")?, "special");
    Ok(())
}

/// On a device of the host: the neighbour on the wire is reached with the container's own address.
fn macvlan_and_ipvlan(sandbox: &Sandbox) -> Result<()> {
    sandbox.load("busybox")?;
    let lan = Lan::new()?;
    lan.run("ip address add 10.55.0.1/24 dev wire1")?;
    for (driver, mode, kind) in [("macvlan", "macvlan_mode=bridge", "macvlan"), ("ipvlan", "ipvlan_mode=l2", "ipvlan")]
    {
        let options = ["-d", driver, "-o", "parent=wire0", "-o", mode, "--subnet", "10.55.0.0/24", driver];
        let created = sandbox.dhow([&["network", "create"], &options[..]].concat())?;
        created.success()?;
        let output = sandbox.dhow(["run", "--rm", "--network", driver, "busybox", "sh", "-c", "ip -d link show dev eth0 2>/dev/null; ip -o -4 address show dev eth0; ip route; ping -4 -c 1 -W 2 10.55.0.1"])?;
        if output.stderr.contains("EOPNOTSUPP") {
            eprintln!("the kernel has no {kind}");
        } else {
            let text = output.success()?;
            contains!(text, "10.55.0.2/24");
            contains!(text, "default via 10.55.0.1");
            contains!(text, "1 packets received");
        }
        sandbox.ok(["network", "rm", driver])?;
    }
    drop(lan);
    Ok(())
}

/// A container whose network was removed says so when it starts.
fn gone_network(sandbox: &Sandbox) -> Result<()> {
    sandbox.load("busybox")?;
    sandbox.ok(["network", "create", "mine"])?;
    sandbox.ok(["create", "--name", "box", "--network", "mine", "busybox", "true"])?;
    sandbox.ok(["network", "rm", "mine"])?;
    sandbox.dhow(["start", "box"])?.fails(1, &["network mine not found"])?;
    sandbox.ok(["rm", "box"])?;
    sandbox.dhow(["run", "--rm", "--network", "mine", "busybox", "true"])?.fails(125, &["network mine not found"])?;
    Ok(())
}

/// A verb that is killed at any moment leaves what the next one finishes or removes.
fn killed_verbs(sandbox: &Sandbox) -> Result<()> {
    sandbox.ok(["network", "create", "warm"])?;
    sandbox.ok(["network", "rm", "warm"])?;
    for moment in 0..16_u64 {
        for words in [["network", "create", "mine"], ["network", "rm", "mine"]] {
            let mut child = sandbox.spawn(words)?;
            std::thread::sleep(std::time::Duration::from_millis(moment));
            // It may have ended.
            drop(child.kill());
            child.wait()?;
        }
    }
    sandbox.ok(["network", "rm", "-f", "mine"])?;
    // The rules are made from the records when anything changes.
    sandbox.ok(["network", "create", "last"])?;
    sandbox.ok(["network", "rm", "last"])?;
    let links = host::succeed(Command::new("ip").args(["-o", "link", "show", "type", "bridge"]))?;
    same!(links, "", "bridges of networks that are gone");
    if host::program("nft").is_some() {
        let rules = host::succeed(Command::new("nft").args(["list", "table", "inet", "dhow"]))?;
        ensure!(!rules.contains("into_dhow"), "rules of networks that are gone: {rules}");
    }
    Ok(())
}

fn events(sandbox: &Sandbox) -> Result<()> {
    sandbox.load("busybox")?;
    let id = sandbox.ok(["network", "create", "mine"])?;
    let container = sandbox.detached(&["--name", "box"], SLEEP)?;
    sandbox.ok(["network", "connect", "mine", "box"])?;
    sandbox.ok(["network", "disconnect", "mine", "box"])?;
    sandbox.ok(["network", "rm", "mine"])?;
    let format =
        "{{.Action}} {{.Actor.ID}} {{index .Actor.Attributes \"name\"}} {{index .Actor.Attributes \"container\"}}";
    let text =
        sandbox.ok(["events", "--since", "1h", "--until", "0s", "--filter", "type=network", "--format", format])?;
    for line in [
        format!("create {id} mine"),
        format!("connect {id} mine {container}"),
        format!("disconnect {id} mine {container}"),
        format!("destroy {id} mine"),
    ] {
        contains!(text, line);
    }
    Ok(())
}

fn mistakes(sandbox: &Sandbox) -> Result<()> {
    sandbox.load("busybox")?;
    let run = |options: &[&str]| sandbox.dhow([&["run", "--rm"], options, &["busybox", "true"]].concat());
    run(&["--network", "host", "--network", "bridge"])?.fails(125, &["conflicting options: cannot attach both"])?;
    run(&["--network", "name=bridge,foo=1"])?.fails(125, &["invalid field key foo"])?;
    run(&["--network", "bridge", "--mac-address", "zz"])?.fails(125, &["invalid MAC address: zz"])?;
    sandbox.dhow(["network", "inspect", "nothing"])?.fails(1, &["network nothing not found"])?;
    sandbox.dhow(["network", "rm", "nothing"])?.fails(1, &["network nothing not found"])?;
    sandbox.ok(["network", "rm", "-f", "nothing"])?;
    sandbox.dhow(["network", "connect", "host", "x"])?.fails(1, &["No such container: x"])?;
    Ok(())
}
