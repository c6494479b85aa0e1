//! Small things that clients of Docker's API can tell: platforms of images, parents of commits, names of two words, swarms that are not.

use anyhow::{Result, ensure};
use serde_json::json;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use crate::case::{cases, contains, same};
use crate::host;
use crate::sandbox::Sandbox;
use crate::server::Server;

cases![docker_details:
    platforms_and_parents, names_of_two_words [Root], no_swarm, links_go [Root], lists_by_version [Root], inspected_again [Root],
    umask_and_annotations, options_for_no_driver [Root], links_of_what_has_just_ended [Root],
    parameters_of_interfaces, archives_that_cannot_be_loaded,
];

/// A parameter's value.
fn encoded(document: &serde_json::Value) -> String {
    document.to_string().replace('{', "%7B").replace('}', "%7D").replace('"', "%22")
}

/// An image is for one platform, here linux on this processor; a commit has its parent while that is here.
fn platforms_and_parents(sandbox: &Sandbox) -> Result<()> {
    sandbox.load("busybox")?;
    let server = Server::start(sandbox)?;
    let (_, found) = server.ask("GET /images/busybox/json", "")?;
    let other = encoded(&json!({"os": "plan9", "architecture": "mips"}));
    let own = encoded(&json!({"os": "linux", "architecture": found["Architecture"]}));
    for (line, wanted) in [
        (format!("GET /images/busybox/json?platform={other}"), 404),
        (format!("GET /images/busybox/json?platform={}", encoded(&json!({"os": "linux"}))), 400),
        (format!("GET /images/busybox/json?manifests=1&platform={own}"), 400),
        (format!("GET /images/busybox/history?platform={other}"), 404),
        (format!("GET /images/busybox/history?platform={own}"), 200),
        (format!("GET /images/busybox/get?platform={other}"), 404),
        (format!("GET /images/get?names=busybox&platform={own}&platform={other}"), 400),
        (format!("DELETE /images/busybox?platforms={other}"), 404),
        ("POST /images/load?platform=plan9".to_owned(), 400),
        (format!("POST /images/load?platform={own}&platform={other}"), 501),
    ] {
        let (code, answer) = server.ask(&line, "")?;
        same!(code, wanted, "{line}: {answer}");
    }
    same!(server.ask(&format!("GET /images/busybox/json?platform={own}"), "")?.1, found);
    server.ok(&["create", "--name", "box", "--network", "none", "busybox"])?;
    let (code, made) = server.ask("POST /commit?container=box&repo=child", "")?;
    same!(code, 201, "{made}");
    same!(server.ask("GET /images/child/json", "")?.1["Parent"], found["Id"]);
    // It goes nowhere with the image.
    let path = sandbox.path("child.tar");
    server.ok(&["save", "-o", &path.display().to_string(), "child"])?;
    server.ok(&["rm", "box"])?;
    server.ok(&["rmi", "child"])?;
    Ok(())
}

fn names_of_two_words(sandbox: &Sandbox) -> Result<()> {
    sandbox.load("busybox")?;
    let server = Server::start(sandbox)?;
    same!(server.ask("POST /networks/create", "{\"Name\": \"two words\"}")?.0, 201);
    same!(server.ask("GET /networks/two%20words", "")?.1["Name"], "two words");
    for name in [" n", "n ", "a/b", "a\nb"] {
        same!(server.ask("POST /networks/create", &json!({"Name": name}).to_string())?.0, 400, "{name:?}");
    }
    server.ok(&["run", "-d", "--name", "two", "--network", "two words", "busybox", "sleep", "1000"])?;
    server.ok(&["rm", "-f", "two"])?;
    same!(server.ask("DELETE /networks/two%20words", "")?.0, 204);
    Ok(())
}

fn links_go(sandbox: &Sandbox) -> Result<()> {
    sandbox.load("busybox")?;
    let server = Server::start(sandbox)?;
    server.ok(&["network", "create", "wire"])?;
    server.ok(&["run", "-d", "--name", "other", "--network", "wire", "busybox", "sleep", "1000"])?;
    let linked = ["--network", "wire", "--link", "other:db", "--link", "other:more", "busybox", "sleep", "1000"];
    server.ok(&[&["run", "-d", "--name", "box"], &linked[..]].concat())?;
    let finds = |name: &str| -> Result<bool> {
        Ok(server.docker(&["exec", "box", "nslookup", "-type=a", name])?.stdout.contains("Address: 172."))
    };
    ensure!(finds("db")? && finds("more")?, "the links lead nowhere");
    same!(server.ask("DELETE /containers/box?link=1", "")?.0, 409);
    same!(server.ask("DELETE /containers/box/db", "")?.0, 404);
    same!(server.ask("DELETE /containers/box/nosuch?link=1", "")?.0, 404);
    same!(server.ask("DELETE /containers/box/db?link=1", "")?.0, 204);
    ensure!(!finds("db")? && finds("more")?, "the wrong link has gone");
    let (_, found) = server.ask("GET /containers/box/json", "")?;
    same!(found["NetworkSettings"]["Networks"]["wire"]["Links"], json!(["other:more"]));
    server.ok(&["rm", "--link", "box/more"])?;
    ensure!(!finds("more")?, "the link is there");
    server.ok(&["rm", "-f", "box", "other"])?;
    server.ok(&["network", "rm", "wire"])?;
    // On the default bridge they are lines of the hosts file.
    server.ok(&["run", "-d", "--name", "other", "busybox", "sleep", "1000"])?;
    server.ok(&["run", "-d", "--name", "box", "--link", "other:db", "busybox", "sleep", "1000"])?;
    let (_, found) = server.ask("GET /containers/box/json", "")?;
    same!(found["HostConfig"]["Links"], json!(["/other:/box/db"]));
    let (_, found) = server.ask("GET /containers/other/json", "")?;
    let address = found["NetworkSettings"]["Networks"]["bridge"]["IPAddress"].clone();
    let hosts = server.ok(&["exec", "box", "cat", "/etc/hosts"])?;
    ensure!(address.as_str().is_some_and(|ip| hosts.contains(&format!("{ip}\tdb "))), "{address}: {hosts}");
    same!(server.ask("DELETE /containers/box/db?link=1", "")?.0, 204);
    let hosts = server.ok(&["exec", "box", "cat", "/etc/hosts"])?;
    ensure!(!hosts.contains("\tdb ") && hosts.contains("localhost"), "{hosts}");
    server.ok(&["stop", "-t", "0", "other"])?;
    let late = server.docker(&["run", "--rm", "--link", "other:db", "busybox", "true"])?;
    late.fails(125, &["Cannot link to a non running container: /other AS /"])?;
    // One that has gone is linked to nobody.
    server.ok(&["start", "other"])?;
    server.ok(&["create", "--name", "alone", "--link", "other:db", "busybox", "cat", "/etc/hosts"])?;
    server.ok(&["rm", "-f", "box", "other"])?;
    let hosts = server.ok(&["start", "-a", "alone"])?;
    ensure!(!hosts.contains("\tdb "), "{hosts}");
    server.ok(&["rm", "alone"])?;
    Ok(())
}

/// Lines have annotations since 1.46, and health since 1.52.
/// A link is taken from a container whose first process has ended, which its monitor does not know yet.
fn links_of_what_has_just_ended(sandbox: &Sandbox) -> Result<()> {
    sandbox.load("busybox")?;
    let server = Server::start(sandbox)?;
    server.ok(&["run", "-d", "--name", "other", "busybox", "sleep", "1000"])?;
    let id = server.ok(&["run", "-d", "--name", "box", "--link", "other:db", "busybox", "sleep", "1000"])?;
    let word = std::fs::read_to_string(sandbox.path("run").join("containers").join(&id).join("state.json"))?;
    let monitor = serde_json::from_str::<serde_json::Value>(&word)?["monitor_pid"].to_string();
    let kill = |signal: &str, pid: &str| host::succeed(std::process::Command::new("kill").args([signal, pid]));
    kill("-STOP", &monitor)?;
    let mut asked = server.send("DELETE /containers/box/db?link=1", "", "")?;
    std::thread::sleep(Duration::from_millis(300));
    let killed = kill("-KILL", &sandbox.pid("box")?.to_string());
    kill("-CONT", &monitor)?;
    killed?;
    same!(crate::server::status(&crate::server::read_head(&mut asked)?)?, 204);
    same!(server.ask("GET /containers/box/json", "")?.1["HostConfig"]["Links"], json!(null));
    server.ok(&["rm", "-f", "box", "other"])?;
    Ok(())
}

fn lists_by_version(sandbox: &Sandbox) -> Result<()> {
    sandbox.load("busybox")?;
    let server = Server::start(sandbox)?;
    let check = json!({"Test": ["CMD", "true"]});
    let host = json!({"NetworkMode": "none", "Annotations": {"org.example": "1"}});
    let asked = json!({"Image": "busybox", "Cmd": ["sleep", "1000"], "Healthcheck": check, "HostConfig": host});
    same!(server.ask("POST /containers/create?name=box", &asked.to_string())?.0, 201);
    same!(server.ask("POST /containers/box/start", "")?.0, 204);
    for (version, annotations, health) in [("v1.45", false, false), ("v1.46", true, false), ("v1.52", true, true)] {
        let (_, list) = server.ask(&format!("GET /{version}/containers/json"), "")?;
        let line = &list[0];
        same!(line["HostConfig"].get("Annotations").is_some(), annotations, "{version}: {line}");
        same!(line.get("Health").is_some(), health, "{version}: {line}");
    }
    server.ok(&["rm", "-f", "box"])?;
    Ok(())
}

/// What is asked again and again is found again only when something has changed; whoever has changed it, or has gone.
fn inspected_again(sandbox: &Sandbox) -> Result<()> {
    sandbox.load("busybox")?;
    let server = Server::start(sandbox)?;
    server.ok(&["create", "--name", "box", "--network", "none", "busybox", "sleep", "1000"])?;
    let state = |name: &str| -> Result<serde_json::Value> {
        for _ in 0..8 {
            same!(server.ask(&format!("GET /containers/{name}/json"), "")?.0, 200);
        }
        Ok(server.ask(&format!("GET /containers/{name}/json"), "")?.1)
    };
    same!(state("box")?["State"]["Status"], "created");
    // By this server, and by other processes.
    server.ok(&["start", "box"])?;
    same!(state("box")?["State"]["Status"], "running");
    sandbox.ok(["pause", "box"])?;
    same!(state("box")?["State"]["Status"], "paused");
    sandbox.ok(["unpause", "box"])?;
    let running = state("box")?;
    same!(running["State"]["Status"], "running");
    let session = server.ask("POST /containers/box/exec", "{\"Cmd\": [\"true\"]}")?.1["Id"].clone();
    same!(state("box")?["ExecIDs"], json!([session]));
    sandbox.ok(["rename", "box", "other"])?;
    same!(server.ask("GET /containers/box/json", "")?.0, 404);
    same!(state("other")?["Name"], "/other");
    let old = server.ask("GET /v1.51/containers/other/json", "")?.1;
    ensure!(old["NetworkSettings"].get("Bridge").is_some(), "{old}");
    sandbox.ok(["kill", "other"])?;
    same!(server.ask("POST /containers/other/wait", "")?.0, 200);
    same!(state("other")?["State"]["Status"], "exited");
    sandbox.ok(["rm", "other"])?;
    same!(server.ask("GET /containers/other/json", "")?.0, 404);
    // Nobody says anything when a monitor is killed, and no answer of a moment ago is given again.
    let id = sandbox.detached(&["--name", "lost", "--network", "none"], "exec sleep 1000")?;
    std::thread::sleep(Duration::from_millis(200));
    same!(state("lost")?["State"]["Status"], "running");
    let word = std::fs::read_to_string(sandbox.path("run").join("containers").join(&id).join("state.json"))?;
    let monitor = serde_json::from_str::<serde_json::Value>(&word)?["monitor_pid"].to_string();
    host::succeed(std::process::Command::new("kill").args(["-9", &monitor]))?;
    host::until("the monitor is gone", sandbox.seconds(10), || {
        let asked =
            || Ok::<_, anyhow::Error>(server.ask("GET /containers/lost/json", "")?.1["State"]["Status"].clone());
        // A process lets go of its files before it is a zombie, and of its program before that.
        let stat = std::fs::read_to_string(format!("/proc/{monitor}/stat"));
        let is_gone = stat.map_or(true, |stat| stat.contains(") Z ") || stat.contains(") X "));
        let status = asked()?;
        ensure!(!is_gone || status == "exited", "{status}");
        Ok(is_gone.then_some(()))
    })?;
    sandbox.ok(["rm", "lost"])?;
    Ok(())
}

fn no_swarm(sandbox: &Sandbox) -> Result<()> {
    let server = Server::start(sandbox)?;
    for (line, words) in [
        ("GET /swarm", "not a swarm manager"),
        ("POST /swarm/init", "incompatible with swarm mode"),
        ("POST /swarm/join", "incompatible with swarm mode"),
        ("POST /swarm/leave", "not part of a swarm"),
    ] {
        let (code, said) = server.ask(line, if line.starts_with("POST") { "{}" } else { "" })?;
        same!(code, 503, "{line}");
        ensure!(said["message"].as_str().is_some_and(|text| text.contains(words)), "{line}: {said}");
    }
    Ok(())
}

/// Options of a container on a network that no driver knows are kept and shown; those that Docker's drivers would obey are refused.
fn options_for_no_driver(sandbox: &Sandbox) -> Result<()> {
    sandbox.load("busybox")?;
    let server = Server::start(sandbox)?;
    let asked = |key: &str| {
        let endpoint = json!({ "bridge": { "DriverOpts": { key: "blue" } } });
        let document = json!({ "Image": "busybox", "NetworkingConfig": { "EndpointsConfig": endpoint } });
        server.ask("POST /containers/create?name=box", &document.to_string())
    };
    let (status, answer) = asked("com.docker.network.endpoint.colour")?;
    same!(status, 400);
    ensure!(answer.to_string().contains("com.docker.network.endpoint.colour"), "{answer}");
    same!(asked("com.example.colour")?.0, 201);
    let shown = server.ask("GET /containers/box/json", "")?.1;
    same!(shown["NetworkSettings"]["Networks"]["bridge"]["DriverOpts"], json!({ "com.example.colour": "blue" }));
    server.ok(&["rm", "box"])?;
    Ok(())
}

/// Kernel parameters of the container's own interface, from its start and when it joins later.
fn parameters_of_interfaces(sandbox: &Sandbox) -> Result<()> {
    sandbox.load("busybox")?;
    let server = Server::start(sandbox)?;
    let asked = |text: &str| json!({ "DriverOpts": { "com.docker.network.endpoint.sysctls": text } });
    let document = |text: &str| {
        let config = json!({ "EndpointsConfig": { "bridge": asked(text) } });
        json!({ "Image": "busybox", "Cmd": ["sleep", "1000"], "NetworkingConfig": config }).to_string()
    };
    for bad in ["net.ipv4.conf.all.log_martians=1", "net.ipv4.conf.IFNAME.log_martians", "net.ipv4.conf.IFNAME.a/b=1"] {
        same!(server.ask("POST /containers/create", &document(bad))?.0, 400);
    }
    let both = "net.ipv4.conf.IFNAME.log_martians=1,net.ipv4.conf.IFNAME.rp_filter=2";
    same!(server.ask("POST /containers/create?name=box", &document(both))?.0, 201);
    same!(server.ask("POST /containers/box/start", "")?.0, 204);
    let read = |name: &str| server.ok(&["exec", "box", "cat", &format!("/proc/sys/net/ipv4/conf/{name}")]);
    same!((read("eth0/log_martians")?.as_str(), read("eth0/rp_filter")?.as_str()), ("1", "2"));
    same!(read("default/log_martians")?, "0");
    server.ok(&["network", "create", "wire"])?;
    let joining = json!({ "Container": "box", "EndpointConfig": asked("net.ipv4.conf.IFNAME.log_martians=1") });
    same!(server.ask("POST /networks/wire/connect", &joining.to_string())?.0, 200);
    same!(read("eth1/log_martians")?, "1");
    // One that the kernel does not have is no container.
    same!(server.ask("POST /containers/create?name=odd", &document("net.ipv4.conf.IFNAME.nosuch=1"))?.0, 201);
    let (status, answer) = server.ask("POST /containers/odd/start", "")?;
    ensure!(status >= 400 && answer.to_string().contains("nosuch"), "{status} {answer}");
    server.ok(&["rm", "-f", "box", "odd"])?;
    server.ok(&["network", "rm", "wire"])?;
    Ok(())
}

/// What 1.56 has brought: a mask for new files, which sessions and health checks have, too, and a filter by annotations.
fn umask_and_annotations(sandbox: &Sandbox) -> Result<()> {
    sandbox.load("busybox")?;
    let server = Server::start(sandbox)?;
    let document = |umask: i64| {
        json!({
            "Image": "busybox", "Cmd": ["sh", "-c", "umask; exec sleep 1000"],
            "HostConfig": { "NetworkMode": "none", "Umask": umask, "Annotations": { "org.colour": "blue" } },
            "Healthcheck": { "Test": ["CMD-SHELL", "umask"], "Interval": 1_000_000_000 },
        })
        .to_string()
    };
    same!(server.ask("POST /containers/create", &document(0o1000))?.0, 400);
    same!(server.ask("POST /containers/create", &document(-1))?.0, 400);
    same!(server.ask("POST /containers/create?name=box", &document(0o077))?.0, 201);
    same!(server.ask("POST /containers/box/start", "")?.0, 204);
    let log = |found: serde_json::Value| found["State"]["Health"]["Log"][0]["Output"].as_str().map(str::to_owned);
    let checked = host::until("it has been looked at", sandbox.seconds(30), || {
        Ok(log(server.ask("GET /containers/box/json", "")?.1))
    })?;
    same!(checked.trim(), "0077");
    same!(server.ask("GET /containers/box/json", "")?.1["HostConfig"]["Umask"], 0o077);
    same!(sandbox.ok(["logs", "box"])?, "0077");
    same!(sandbox.ok(["exec", "box", "sh", "-c", "umask"])?, "0077");
    same!(sandbox.ok(["exec", "-u", "1", "box", "sh", "-c", "umask"])?, "0077");
    same!(sandbox.ok(["run", "--rm", "--network", "none", "--umask", "027", "busybox", "sh", "-c", "umask"])?, "0027");
    same!(sandbox.ok(["run", "--rm", "--network", "none", "busybox", "sh", "-c", "umask"])?, "0022");
    let refused = sandbox.command(["run", "--rm", "--umask", "1777", "busybox", "true"]).output()?;
    same!(refused.status.code(), Some(125));
    let found = |annotation: &str| -> Result<usize> {
        let filters = encoded(&json!({ "annotation": [annotation] }));
        let (status, lines) = server.ask(&format!("GET /containers/json?filters={filters}"), "")?;
        same!(status, 200);
        Ok(lines.as_array().map_or(0, Vec::len))
    };
    same!((found("org.colour")?, found("org.colour=blue")?), (1, 1));
    same!((found("org.colour=red")?, found("colour")?), (0, 0));
    sandbox.ok(["rm", "-f", "box"])?;
    Ok(())
}

/// docker-py looks for the failure in the content, and makes an error of its own of it.
fn archives_that_cannot_be_loaded(sandbox: &Sandbox) -> Result<()> {
    let server = Server::start(sandbox)?;
    sandbox.file("old/repositories", "{}")?;
    let old = sandbox.path("files/old.tar");
    host::succeed(
        Command::new("tar").arg("-C").arg(sandbox.path("files/old")).arg("-cf").arg(&old).arg("repositories"),
    )?;
    for archive in [old.as_path(), Path::new("/etc/passwd")] {
        let mut curl = Command::new("curl");
        curl.args(["-s", "-w", "%{http_code}", "--data-binary", &format!("@{}", archive.display()), "--unix-socket"]);
        let said = host::succeed(curl.arg(&server.socket).arg("http://d/images/load"))?;
        contains!(said, r#""errorDetail":{"message":"cannot load"#);
        ensure!(said.ends_with("200"), "{said}");
    }
    Ok(())
}
