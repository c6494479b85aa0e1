//! CNI plugins, Debian's own: a namespace that plays a pod is attached, checked, detached, collected.

use std::fs;
use std::process::Command;

use anyhow::{Result, ensure};
use serde_json::Value;

use crate::case::{cases, contains, same, skip};
use crate::host;
use crate::sandbox::Sandbox;

cases![cni: whole_life [Root], failures_are_undone [Root], refusals];

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
    let child = Command::new("unshare").args(["--net", "sleep", "1000"]).spawn()?;
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
