//! What was done to the control planes of other engines, by the number of the vulnerability: docs/docker-api-attacks.md has all of
//! them and says which test is about which.

use std::fs;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use crate::case::{cases, contains, same};
use crate::sandbox::Sandbox;
use crate::server::{Server, read_head, status};

cases![docker_attacks:
    cve_2022_31030_output_without_end, cve_2020_14370_environments_are_own, cve_2022_1227_top_runs_nothing,
    cve_2026_53488_labels_of_images_are_inert,
];

/// A running container without a network.
fn ready(sandbox: &Sandbox) -> Result<Server<'_>> {
    sandbox.load("busybox")?;
    let server = Server::start(sandbox)?;
    server.ok(&["run", "-d", "--name", "box", "--network", "none", "busybox", "sleep", "1000"])?;
    Ok(server)
}

/// KiB of the server's own memory.
fn memory(server: &Server<'_>) -> Result<u64> {
    let text = fs::read_to_string(format!("/proc/{}/status", server.pid()))?;
    let own = text.lines().find_map(|line| line.strip_prefix("RssAnon:")).context("no RssAnon")?;
    Ok(own.trim().trim_end_matches(" kB").parse()?)
}

/// And CVE-2022-1708: who executes something that does not stop talking, and does not listen, costs nobody memory.
fn cve_2022_31030_output_without_end(sandbox: &Sandbox) -> Result<()> {
    let server = ready(sandbox)?;
    let before = memory(&server)?;
    let mut clients = vec![];
    for terminal in [false, true, false] {
        let asked = json!({"Cmd": ["yes"], "AttachStdout": true, "AttachStderr": true, "Tty": terminal}).to_string();
        let (code, made) = server.ask("POST /containers/box/exec", &asked)?;
        same!(code, 201, "{made}");
        let line = format!("POST /exec/{}/start", made["Id"].as_str().context("no Id")?);
        let upgrade = "Connection: Upgrade\r\nUpgrade: tcp\r\nContent-Type: application/json\r\n";
        let mut stream = server.send(&line, upgrade, &json!({"Tty": terminal}).to_string())?;
        same!(status(&read_head(&mut stream)?)?, 101);
        clients.push(stream);
    }
    std::thread::sleep(Duration::from_millis(500));
    let now = memory(&server)?;
    ensure!(now < before + (16 << 10), "{before} KiB, and {now} with three who do not listen");
    same!(server.ask("GET /containers/box/json", "")?.0, 200);
    drop(clients);
    same!(server.ask("DELETE /containers/box?force=1", "")?.0, 204);
    Ok(())
}

/// And CVE-2021-3602: what one request sets, the next one does not have, nor does it have the server's.
fn cve_2020_14370_environments_are_own(sandbox: &Sandbox) -> Result<()> {
    let server = ready(sandbox)?;
    let host = json!({"NetworkMode": "none"});
    for (name, variables) in [("first", json!(["SECRET=one", "OTHER=1"])), ("second", json!(["MINE=two"]))] {
        let asked = json!({"Image": "busybox", "Cmd": ["env"], "Env": variables, "HostConfig": host}).to_string();
        let (code, made) = server.ask(&format!("POST /containers/create?name={name}"), &asked)?;
        same!(code, 201, "{made}");
        crate::audit::remember(sandbox.directory(), made["Id"].as_str().context("no Id")?)?;
        same!(server.ask(&format!("POST /containers/{name}/start"), "")?.0, 204);
        same!(server.ask(&format!("POST /containers/{name}/wait"), "")?.0, 200);
    }
    contains!(server.ok(&["logs", "first"])?, "SECRET=one");
    let names = |text: String| -> Vec<String> {
        let mut names: Vec<String> = text.lines().filter_map(|line| Some(line.split_once('=')?.0.to_owned())).collect();
        names.sort();
        names
    };
    same!(names(server.ok(&["logs", "second"])?), ["HOME", "HOSTNAME", "MINE", "PATH"]);
    same!(server.ok(&["exec", "-e", "SECRET=three", "box", "sh", "-c", "echo $SECRET"])?, "three");
    same!(names(server.ok(&["exec", "box", "env"])?), ["HOME", "HOSTNAME", "PATH"]);
    server.ok(&["rm", "-f", "box", "first", "second"])?;
    Ok(())
}

/// The list of processes is read from procfs. In a container whose every program is a trap, none is run.
fn cve_2022_1227_top_runs_nothing(sandbox: &Sandbox) -> Result<()> {
    let server = ready(sandbox)?;
    let trap = "mkdir /keep; cp /bin/busybox /keep/busybox; \
        for d in /bin /usr/bin /usr/sbin /sbin; do /keep/busybox rm -rf $d/*; done 2>/dev/null; \
        for name in ps nsenter sh xz unpigz tar; do \
        printf '#!/keep/busybox sh\\n/keep/busybox touch /trapped\\n' >/bin/$name; /keep/busybox chmod 755 /bin/$name; done";
    server.ok(&["exec", "box", "/bin/sh", "-c", trap])?;
    let (code, top) = server.ask("GET /containers/box/top?ps_args=aux", "")?;
    same!(code, 200, "{top}");
    ensure!(top["Processes"].as_array().is_some_and(|rows| !rows.is_empty()), "{top}");
    same!(server.ask("GET /containers/box/stats?stream=0&one-shot=1", "")?.0, 200);
    same!(server.ask("GET /containers/box/changes", "")?.0, 200);
    // Nor is it by an archive that goes in or out (CVE-2026-41567).
    same!(server.ask("GET /containers/box/archive?path=/bin/ps", "")?.0, 200);
    same!(server.ask("GET /containers/box/archive?path=/trapped", "")?.0, 404);
    server.ok(&["rm", "-f", "box"])?;
    Ok(())
}

/// Labels that mean something to an engine or to its parts, said by an image, mean nothing.
fn cve_2026_53488_labels_of_images_are_inert(sandbox: &Sandbox) -> Result<()> {
    let server = ready(sandbox)?;
    let trap = sandbox.path("trapped");
    let command = format!("binary:///bin/touch?x={}", trap.display());
    let labels = [
        ("containerd.io/restart.loguri", command.as_str()),
        ("containerd.io/restart.status", "running"),
        ("io.containerd.runc.v2.group", "x"),
        ("com.docker.compose.project", "x"),
        ("io.dhow.owner", "uid:4102"),
        ("dhow.manifest.parent", "sha256:0"),
        ("io.kubernetes.cri-o.TTY", "true"),
    ];
    let changes = labels.map(|(name, value)| format!("LABEL {name}=\"{value}\""));
    let mut words = vec!["commit"];
    changes.iter().for_each(|change| words.extend(["-c", change.as_str()]));
    server.ok(&[&words[..], &["box", "labelled"]].concat())?;
    server.ok(&["run", "-d", "--name", "heir", "--network", "none", "labelled", "sleep", "1000"])?;
    let found: Value = server.ask("GET /containers/heir/json", "")?.1;
    same!(found["Config"]["Labels"]["containerd.io/restart.loguri"], command);
    same!(
        (&found["HostConfig"]["LogConfig"]["Type"], &found["HostConfig"]["RestartPolicy"]["Name"]),
        (&json!("json-file"), &json!("no"))
    );
    same!((&found["Config"]["Tty"], &found["HostConfig"]["Privileged"]), (&json!(false), &json!(false)));
    server.ok(&["kill", "heir"])?;
    same!(server.ok(&["inspect", "-f", "{{.State.Running}}", "heir"])?, "false");
    ensure!(!trap.exists(), "a label was executed");
    server.ok(&["rm", "-f", "box", "heir"])?;
    server.ok(&["rmi", "labelled"])?;
    Ok(())
}
