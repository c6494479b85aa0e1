//! CNI plugins, Debian's own: a namespace that plays a pod is attached, checked, detached, collected.

use std::fs;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use super::ports::lan;
use crate::bed::{Server, Ways};
use crate::case::{cases, contains, same, skip};
use crate::host;
use crate::sandbox::Sandbox;

cases![cni:
    whole_life [Root], failures_are_undone [Root], refusals, results_are_cached [Root],
    configurations_are_kept_to [Root], ports_are_mapped [Root],
];

const BIN: &str = "/usr/lib/cni";

/// A network with bridge, addresses and port mappings, as a node of Kubernetes may have it.
fn network(sandbox: &Sandbox, last: &str) -> Result<String> {
    let leases = sandbox.path("files/leases").display().to_string();
    let list = format!(
        r#"{{"cniVersion":"1.0.0","name":"pods","plugins":[
             {{"type":"bridge","bridge":"cni0","isGateway":true,"ipMasq":true,
               "ipam":{{"type":"host-local","ranges":[[{{"subnet":"10.66.0.0/24"}}]],"routes":[{{"dst":"0.0.0.0/0"}}],"dataDir":"{leases}"}}}},
             {last}]}}"#
    );
    sandbox.file("net.d/10-pods.conflist", list)?;
    sandbox.file("net.d/05-other.conflist", "not even JSON")?;
    Ok(sandbox.path("files/net.d").display().to_string())
}

const PORTMAP: &str = r#"{"type":"portmap","capabilities":{"portMappings":true},"snat":true}"#;

/// A pod: a process in a network namespace of its own.
fn pod() -> Result<(host::Background, String)> {
    let child = Command::new("unshare").args(["--net", "sleep", "infinity"]).spawn()?;
    let path = format!("/proc/{}/ns/net", child.id());
    let own = host::namespace("self", "net")?;
    let pid = child.id().to_string();
    host::until("the pod's namespace", std::time::Duration::from_secs(10), || {
        Ok((host::namespace(&pid, "net")? != own).then_some(()))
    })?;
    Ok((host::Background(child), path))
}

fn ready() -> Result<()> {
    for plugin in ["bridge", "host-local", "portmap"] {
        if !fs::exists(format!("{BIN}/{plugin}"))? {
            return skip("no CNI plugins (package containernetworking-plugins)");
        }
    }
    if host::program("iptables").is_none() {
        return skip("the plugins portmap and bridge need iptables");
    }
    Ok(())
}

fn whole_life(sandbox: &Sandbox) -> Result<()> {
    ready()?;
    let directory = network(sandbox, PORTMAP)?;
    let places = ["--conf-dir", &directory, "--bin-dir", BIN];
    let (pod, path) = pod()?;
    let cni =
        |words: &[&str]| sandbox.dhow(["cni", words[0]].into_iter().chain(places).chain(words[1..].iter().copied()));
    // A port of the host is told to the plugin that can map it. (Its CHECK looks for IPv4 rules in ip6tables, in Debian 12.)
    let mapped = || host::succeed(Command::new("iptables").args(["-t", "nat", "-S"]));
    cni(&["add", "-p", "8080:80", "pods", "mapped", &path])?.success()?;
    contains!(mapped()?, "--dport 8080");
    cni(&["del", "pods", "mapped", &path])?.success()?;
    ensure!(!mapped()?.contains("8080"), "the port is still mapped");
    let result: Value = serde_json::from_str(&cni(&["add", "pods", "one", &path])?.success()?)?;
    let address = result["ips"][0]["address"].as_str().unwrap_or_default().to_owned();
    contains!(address, "10.66.0.");
    let inside = |words: &[&str]| host::succeed(Command::new("nsenter").arg(format!("--net={path}")).args(words));
    contains!(inside(&["ip", "-4", "address", "show", "eth0"])?, address);
    contains!(
        host::succeed(Command::new("ping").args(["-c", "1", "-W", "2", address.split('/').next().unwrap_or("")]))?,
        "1 received"
    );
    cni(&["check", "pods", "one"])?.success()?;
    cni(&["add", "pods", "one", &path])?.fails(1, &["already"])?;
    // What somebody else broke, a check says.
    inside(&["ip", "address", "del", &address, "dev", "eth0"])?;
    cni(&["check", "pods", "one"])?.fails(1, &["CHECK"])?;
    cni(&["del", "pods", "one", &path])?.success()?;
    ensure!(inside(&["ip", "link", "show", "eth0"]).is_err(), "the interface is still there");
    // Once more is no error, also without the namespace.
    cni(&["del", "pods", "one"])?.success()?;
    cni(&["check", "pods", "one"])?.fails(1, &["is not on the CNI network"])?;
    // Two pods, of which one is gone without a word; its configuration, too.
    cni(&["add", "pods", "two", &path])?.success()?;
    cni(&["add", "--ifname", "eth1", "pods", "three", &path])?.success()?;
    drop(pod);
    same!(cni(&["gc", "--valid", "two/eth0", "pods"])?.success()?, "three/eth1");
    let leases = fs::read_dir(sandbox.path("files/leases/pods"))?.flatten();
    same!(leases.filter(|entry| entry.file_name().to_string_lossy().starts_with("10.")).count(), 1);
    // Its configuration is gone, too: what ADD used is remembered.
    fs::remove_file(format!("{directory}/10-pods.conflist"))?;
    cni(&["add", "pods", "four", &path])?.fails(1, &["no CNI network pods"])?;
    same!(cni(&["gc", "pods"])?.success()?, "two/eth0");
    cni(&["gc", "pods"])?.fails(1, &["no CNI network pods"])?;
    host::succeed(Command::new("ip").args(["link", "delete", "cni0"]))?;
    Ok(())
}

/// The second plugin refuses: what the first had done is undone, its address given back.
fn failures_are_undone(sandbox: &Sandbox) -> Result<()> {
    ready()?;
    let broken = sandbox.file("bin/broken", "#!/bin/sh\n[ $CNI_COMMAND = DEL ] && exit\necho '{\"code\":11,\"msg\":\"not today\",\"details\":\"try later\"}'\nexit 1\n")?;
    host::succeed(Command::new("chmod").args(["+x", &broken]))?;
    let directory = network(sandbox, r#"{"type":"broken"}"#)?;
    let own = sandbox.path("files/bin").display().to_string();
    let (_pod, path) = pod()?;
    let words = ["cni", "add", "--conf-dir", &directory, "--bin-dir", &own, "--bin-dir", BIN, "pods", "one", &path];
    sandbox.dhow(words)?.fails(1, &["broken", "ADD", "not today", "try later", "code 11"])?;
    let leases = fs::read_dir(sandbox.path("files/leases/pods"))?.flatten();
    same!(leases.filter(|entry| entry.file_name().to_string_lossy().starts_with("10.")).count(), 0);
    same!(fs::read_dir(sandbox.path("data/cni"))?.count(), 0);
    host::succeed(Command::new("ip").args(["link", "delete", "cni0"]))?;
    Ok(())
}

fn refusals(sandbox: &Sandbox) -> Result<()> {
    let directory = network(sandbox, r#"{"type":"../../bin/sh"}"#)?;
    let add = |network: &str, id: &str, name: &str| {
        sandbox.dhow([
            "cni",
            "add",
            "--conf-dir",
            &directory,
            "--bin-dir",
            "/nonexistent",
            "--ifname",
            name,
            network,
            id,
            "/proc/self/ns/net",
        ])
    };
    add("none", "one", "eth0")?.fails(1, &["no CNI network none"])?;
    add("pods", "../one", "eth0")?.fails(1, &["identifier of a pod"])?;
    add("pods", "one", "a/b")?.fails(1, &["invalid interface name"])?;
    add("pods", "one", "eth0")?.fails(1, &["no CNI plugin", "/nonexistent"])?;
    Ok(())
}

/// A plugin that writes down what it was told, each word in a file of its own, and whose interface is called as it is.
const RECORDER: &str = r#"#!/bin/sh
cat >"$0.$CNI_COMMAND.$CNI_CONTAINERID"
echo "${0##*/} $CNI_COMMAND ${CNI_CONTAINERID:-all} ${CNI_IFNAME:-none} ${CNI_ARGS:-none}" >>"${0%/*}/order"
[ $CNI_COMMAND = ADD ] && echo "{\"cniVersion\":\"1.1.0\",\"interfaces\":[{\"name\":\"${0##*/}\"}]}"
exit 0
"#;

/// Two of them, of which the second can map ports.
const TWO: &str = r#"{"type":"first","own":1},{"type":"second","capabilities":{"portMappings":true}}"#;

/// A namespace for plugins that do nothing to it.
const OWN: &str = "/proc/self/ns/net";

/// Networks of plugins that write down what they are told.
struct Recorders<'a>(&'a Sandbox);

impl Recorders<'_> {
    fn new(sandbox: &Sandbox) -> Result<Recorders<'_>> {
        for name in ["first", "second", "later"] {
            let path = sandbox.file(&format!("bin/{name}"), RECORDER)?;
            host::succeed(Command::new("chmod").args(["+x", &path]))?;
        }
        Ok(Recorders(sandbox))
    }

    /// The network `pods` is this from now on.
    fn configure(&self, version: &str, plugins: &str, more: &str) -> Result<()> {
        let text = format!(r#"{{"cniVersion":"{version}","name":"pods",{more}"plugins":[{plugins}]}}"#);
        self.0.file("net.d/10-pods.conflist", text).map(drop)
    }

    fn cni(&self, words: &[&str]) -> Result<crate::sandbox::Output> {
        let [conf, bin] = ["files/net.d", "files/bin"].map(|name| self.0.path(name).display().to_string());
        self.0.dhow([&["cni", words[0], "--conf-dir", &conf, "--bin-dir", &bin], &words[1..]].concat())
    }

    fn told(&self, plugin: &str, command: &str, id: &str) -> Result<Value> {
        let path = self.0.path("files/bin").join(format!("{plugin}.{command}.{id}"));
        serde_json::from_slice(&fs::read(&path).with_context(|| path.display().to_string())?).map_err(Into::into)
    }

    fn order(&self) -> Result<Vec<String>> {
        Ok(fs::read_to_string(self.0.path("files/bin/order"))?.lines().map(str::to_owned).collect())
    }

    fn remembered(&self) -> Result<usize> {
        Ok(fs::read_dir(self.0.path("data/cni"))?.count())
    }
}

/// The result of a plugin.
fn of(name: &str) -> Value {
    json!({ "cniVersion": "1.1.0", "interfaces": [{ "name": name }] })
}

/// The result of ADD is remembered, and is what plugins get with CHECK and DEL; each gets the one before it with ADD. What is
/// remembered is of the time of ADD, whatever has become of the configuration.
fn results_are_cached(sandbox: &Sandbox) -> Result<()> {
    let pods = Recorders::new(sandbox)?;
    pods.configure("1.1.0", TWO, "")?;
    let ports = ["-p", "8080:80", "-p", "192.0.2.1:8081:81/udp", "-p", "[2001:db8::1]:8082:82"];
    let arguments = ["--arg", "K8S_POD_NAME=web", "--arg", "K8S_POD_NAMESPACE=shop"];
    let added = pods.cni(&[&["add"], &ports[..], &arguments, &["pods", "one", OWN]].concat())?.success()?;
    same!(serde_json::from_str::<Value>(&added)?, of("second"));
    let (first, second) = (pods.told("first", "ADD", "one")?, pods.told("second", "ADD", "one")?);
    same!((&first["prevResult"], &first["own"], &first["name"]), (&Value::Null, &json!(1), &json!("pods")));
    same!(first["runtimeConfig"], Value::Null, "it cannot map ports");
    same!(second["prevResult"], of("first"));
    let mappings = json!([
        { "hostPort": 8080, "containerPort": 80, "protocol": "tcp" },
        { "hostPort": 8081, "containerPort": 81, "protocol": "udp", "hostIP": "192.0.2.1" },
        { "hostPort": 8082, "containerPort": 82, "protocol": "tcp", "hostIP": "2001:db8::1" },
    ]);
    same!(second["runtimeConfig"]["portMappings"], mappings);
    pods.cni(&["add", "--ifname", "net1", "pods", "two", OWN])?.success()?;
    // The network is another one now; who was attached before is not concerned.
    pods.configure("1.1.0", r#"{"type":"later"}"#, "")?;
    pods.cni(&["check", "pods", "one"])?.success()?;
    pods.cni(&["del", "pods", "one"])?.success()?;
    for (plugin, command) in [("first", "CHECK"), ("second", "CHECK"), ("first", "DEL"), ("second", "DEL")] {
        let told = pods.told(plugin, command, "one")?;
        same!((&told["prevResult"], &told["cniVersion"]), (&of("second"), &json!("1.1.0")), "{plugin} {command}");
        let mapped = if plugin == "second" { &mappings } else { &Value::Null };
        same!(&told["runtimeConfig"]["portMappings"], mapped, "{plugin} {command}");
    }
    // Plugins of 1.1 are told what stays, and only those of the network as it is now.
    same!(pods.cni(&["gc", "--valid", "three/eth0", "pods"])?.success()?, "two/net1");
    same!(pods.told("second", "DEL", "two")?["prevResult"], of("second"));
    let collected = pods.told("later", "GC", "")?;
    same!(collected["cni.dev/valid-attachments"], json!([{ "containerID": "three", "ifname": "eth0" }]));
    let of_one = |step: &str| format!("{step} one eth0 K8S_POD_NAME=web;K8S_POD_NAMESPACE=shop");
    let of_two = |step: &str| format!("{step} two net1 none");
    let wanted: Vec<String> = (["first ADD", "second ADD"].map(of_one).into_iter())
        .chain(["first ADD", "second ADD"].map(of_two))
        .chain(["first CHECK", "second CHECK", "second DEL", "first DEL"].map(of_one))
        .chain(["second DEL", "first DEL"].map(of_two))
        .chain(["later GC all none none".to_owned()])
        .collect();
    same!(pods.order()?, wanted);
    same!(pods.remembered()?, 0);
    Ok(())
}

/// `disableCheck` and `disableGC`; versions before 0.4, which give DEL no result; a record that a power cut has emptied.
fn configurations_are_kept_to(sandbox: &Sandbox) -> Result<()> {
    let pods = Recorders::new(sandbox)?;
    pods.configure("1.1.0", TWO, r#""disableGC":true,"disableCheck":true,"#)?;
    pods.cni(&["add", "pods", "one", OWN])?.success()?;
    same!(pods.cni(&["gc", "pods"])?.success()?, "");
    pods.cni(&["check", "pods", "one"])?.success()?;
    same!(pods.order()?, ["first ADD one eth0 none", "second ADD one eth0 none"]);
    pods.configure("0.3.1", TWO, "")?;
    pods.cni(&["add", "pods", "old", OWN])?.success()?;
    pods.cni(&["del", "pods", "old"])?.success()?;
    same!(pods.told("first", "DEL", "old")?["prevResult"], Value::Null);
    for (verb, id) in [("del", "one"), ("gc", "two")] {
        pods.configure("1.1.0", TWO, "")?;
        if id == "two" {
            pods.cni(&["add", "pods", "two", OWN])?.success()?;
        }
        fs::write(sandbox.path(&format!("data/cni/pods:{id}:eth0")), "")?;
        pods.cni(&["check", "pods", id])?.fails(1, &["cannot be read"])?;
        let words: &[&str] = if id == "two" { &[verb, "pods"] } else { &[verb, "pods", id] };
        pods.cni(words)?.success()?;
        same!(pods.told("first", "DEL", id)?["prevResult"], Value::Null);
    }
    same!(pods.remembered()?, 0);
    Ok(())
}

/// Ports that Debian's `portmap` maps, by packets of a neighbour on the LAN and of this machine.
fn ports_are_mapped(sandbox: &Sandbox) -> Result<()> {
    ready()?;
    let lan = lan()?;
    host::succeed(Command::new("ip").args(["address", "add", "192.0.2.100/24", "dev", "wire0"]))?;
    let directory = network(sandbox, PORTMAP)?;
    let places = ["--conf-dir", &directory, "--bin-dir", BIN];
    let (pod, path) = pod()?;
    let ports = ["-p", "8080:80", "-p", "8080:80/udp", "-p", "192.0.2.100:8081:80"];
    sandbox.ok([&["cni", "add"], &places[..], &ports, &["pods", "one", &path]].concat())?;
    let server = Server::start(&pod.0.id().to_string(), 80, "pod")?;
    let ways = |mapped: bool, when: &str| -> Result<()> {
        let mut ways = Ways::default();
        for to in ["192.0.2.1:8080", "192.0.2.100:8080", "192.0.2.100:8081"] {
            match mapped {
                // The pod sees who asks.
                true => ways.open("neighbour", &lan.pid(), to, "pod sees 192.0.2.2"),
                false => ways.closed("neighbour", &lan.pid(), to),
            }
        }
        if mapped {
            ways.open_to_datagrams("neighbour", &lan.pid(), "192.0.2.1:8080", "pod sees 192.0.2.2");
        }
        ways.closed("neighbour", &lan.pid(), "192.0.2.1:8081");
        ways.check(when)
    };
    ways(true, "mapped")?;
    // Of this machine, whose address is not the pod's to answer to.
    contains!(crate::bed::ask("self", "127.0.0.1:8080")?.unwrap_or_default(), "pod sees 10.66.0.");
    sandbox.ok([&["cni", "del"], &places[..], &["pods", "one", &path]].concat())?;
    ways(false, "not mapped any more")?;
    drop(server);
    host::succeed(Command::new("ip").args(["link", "delete", "cni0"]))?;
    Ok(())
}
