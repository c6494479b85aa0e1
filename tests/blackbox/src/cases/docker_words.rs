//! What moby's own integration tests look at in a server: the words of refusals, and small things of lists, inspections and updates.

use anyhow::{Result, ensure};
use serde_json::{Value, json};
use std::io::Read;

use crate::case::{cases, contains, same};
use crate::sandbox::Sandbox;
use crate::server::{Server, status};

cases![docker_words:
    refused_creations, content_that_is_no_document, sizes_of_terminals, names_and_platforms, lists_by_reference [Root],
    all_of_a_repository [Root], limits_of_processes [Root], shown_as_asked, namespaces_of_others [Root],
    networks_named_like_others [Root], the_hosts_names, writable_groups [Root], the_servers_own_directory [Root],
    variables_in_changes,
];

fn refused_creations(sandbox: &Sandbox) -> Result<()> {
    sandbox.load("busybox")?;
    let server = Server::start(sandbox)?;
    let id = server.ask("GET /images/busybox/json", "")?.1["Id"].as_str().unwrap_or_default().to_owned();
    let host = |field: &str, value: Value| json!({"Image": "busybox", "HostConfig": {field: value}});
    let (root, annotations) = (json!({"/": ""}), "the empty string is not permitted as an annotation key");
    for (document, words) in [
        (host("IpcMode", json!("invalid")), "invalid IPC mode: invalid"),
        (host("PidMode", json!("container")), "invalid PID mode: container"),
        (host("PidMode", json!("container:nobody")), "No such container: nobody"),
        (host("UTSMode", json!("invalid")), "invalid UTS mode: invalid"),
        (host("VolumesFrom", json!(["nobody"])), "No such container: nobody"),
        (host("CpuShares", json!(-1)), "invalid CPU shares (-1): value must be a positive integer"),
        (host("Annotations", json!({"": "a"})), annotations),
        (host("Tmpfs", root), "destination can't be '/'"),
        (host("SecurityOpt", json!(["writable-cgroups=1"])), "invalid --security-opt 2: \"writable-cgroups=1\""),
        (json!({"Image": "busybox", "Env": [""]}), "invalid environment variable: "),
        (json!({"Image": "busybox", "Env": ["=foo"]}), "invalid environment variable: =foo"),
        (json!({"Image": format!("busybox:{id}")}), "invalid reference format"),
    ] {
        let (code, answer) = server.ask("POST /containers/create", &document.to_string())?;
        same!(code, 400, "{document}: {answer}");
        contains!(answer["message"].as_str().unwrap_or_default(), words);
    }
    let endpoints =
        json!({"Image": "busybox", "NetworkingConfig": {"EndpointsConfig": {"a": {}, "b": {}}}}).to_string();
    let (code, answer) = server.ask("POST /v1.43/containers/create", &endpoints)?;
    same!(code, 400);
    contains!(answer.to_string(), "Container cannot be created with multiple network endpoints: a, b");
    for name in [&id, id.trim_start_matches("sha256:"), &id[7..19], "busybox"] {
        let (code, answer) = server.ask("POST /containers/create", &json!({"Image": name}).to_string())?;
        same!(code, 201, "{name}: {answer}");
        server.ok(&["rm", answer["Id"].as_str().unwrap_or_default()])?;
    }
    // Clients pull the image for that platform then.
    let (code, answer) = server.ask("POST /containers/create?platform=linux/mips64le", "{\"Image\":\"busybox\"}")?;
    same!(code, 404);
    contains!(answer.to_string(), "was found but its platform (linux/");
    Ok(())
}

/// Whatever a page in a browser could send without asking first is no request.
fn content_that_is_no_document(sandbox: &Sandbox) -> Result<()> {
    let server = Server::start(sandbox)?;
    for path in [
        "/commit",
        "/containers/create",
        "/containers/nobody/exec",
        "/containers/nobody/update",
        "/exec/nobody/start",
        "/networks/create",
        "/networks/bridge/connect",
        "/volumes/create",
    ] {
        for (kind, content, words) in [
            ("text/plain", "{}", "unsupported Content-Type header (text/plain): must be 'application/json'"),
            (
                "application/json",
                "{no",
                "invalid JSON: invalid character 'n' looking for beginning of object key string",
            ),
            ("application/json", "{} {}", "unexpected content after JSON"),
        ] {
            let headers = format!("Connection: close\r\nContent-Type: {kind}\r\n");
            let mut text = String::new();
            server.send(&format!("POST {path}"), &headers, content)?.read_to_string(&mut text)?;
            same!(status(&text)?, 400, "{path} {content}: {text}");
            contains!(text.replace("\\\"", "\""), words);
        }
    }
    same!(server.ask("GET /volumes", "")?.1["Volumes"], json!([]));
    Ok(())
}

fn sizes_of_terminals(sandbox: &Sandbox) -> Result<()> {
    sandbox.load("busybox")?;
    let server = Server::start(sandbox)?;
    let id = server.ok(&["run", "-dit", "--network", "none", "busybox", "cat"])?;
    for (query, words) in [
        ("w=1", "invalid resize height \"\": invalid syntax"),
        ("h=1&w=x", "invalid resize width \"x\": invalid syntax"),
        ("h=-100&w=1", "invalid resize height \"-100\": value out of range"),
        ("h=4294967296&w=1", "invalid resize height \"4294967296\": value out of range"),
    ] {
        let (code, answer) = server.ask(&format!("POST /containers/{id}/resize?{query}"), "")?;
        same!(code, 400);
        contains!(answer["message"].as_str().unwrap_or_default(), words);
    }
    same!(server.ask(&format!("POST /containers/{id}/resize?h=70000&w=80"), "")?.0, 200);
    server.ok(&["rm", "-f", &id])?;
    Ok(())
}

fn names_and_platforms(sandbox: &Sandbox) -> Result<()> {
    sandbox.load("busybox")?;
    let server = Server::start(sandbox)?;
    server.ok(&["create", "--name", "one", "--network", "none", "busybox"])?;
    for (line, code, words) in [
        ("POST /containers/one/rename?name=new:bad", 400, "Invalid container name (new:bad), only ["),
        ("POST /containers/one/rename?name=one", 400, "Renaming a container with the same name"),
        (
            "POST /images/busybox/tag?repo=sha256&tag=x",
            400,
            "refusing to create an ambiguous tag using digest algorithm as",
        ),
        (
            "POST /images/create?fromImage=x&platform=foobar",
            400,
            "\"foobar\": unknown operating system or architecture",
        ),
        ("POST /images/create?fromSrc=-&platform=%2F", 400, "is an invalid OS component"),
        ("POST /images/create?fromSrc=-&platform=macos/arm64", 400, "operating system is not supported"),
        ("GET /containers/one/archive?path=/bin/busybox/", 404, "/bin/busybox/ in container one: not a directory"),
        ("GET /containers/one/archive?path=/none", 404, "Could not find the file /none in container one"),
    ] {
        let (found, answer) = server.ask(line, "")?;
        same!(found, code, "{line}: {answer}");
        contains!(answer["message"].as_str().unwrap_or_default(), words);
    }
    Ok(())
}

fn encoded(document: &Value) -> String {
    document.to_string().replace('{', "%7B").replace('}', "%7D").replace('"', "%22").replace(' ', "%20")
}

fn lists_by_reference(sandbox: &Sandbox) -> Result<()> {
    sandbox.load("busybox")?;
    let server = Server::start(sandbox)?;
    for tag in ["multi:v1", "multi:v2", "other/multi:v3"] {
        server.ok(&["tag", "busybox", tag])?;
    }
    let tags = |references: &[&str]| -> Result<Value> {
        let filters = encoded(&json!({"reference": references}));
        let mut list = server.ask(&format!("GET /images/json?filters={filters}"), "")?.1;
        ensure!(list.as_array().is_some_and(|list| list.len() <= 1), "{list}");
        Ok(list.get_mut(0).map_or(Value::Null, |first| first["RepoTags"].take()))
    };
    // The other names of the same image are not what was asked for.
    same!(tags(&["multi:v1", "multi:v2"])?, json!(["multi:v1", "multi:v2"]));
    same!(tags(&["other/*"])?, json!(["other/multi:v3"]));
    same!(tags(&["multi"])?, json!(["multi:v1", "multi:v2"]));
    same!(tags(&["nothing"])?, Value::Null);
    server.ok(&["create", "--name", "box", "--network", "none", "busybox"])?;
    let mut made = Vec::new();
    for name in ["first", "second", "third"] {
        server.ok(&["commit", "box", name])?;
        let found = server.ask(&format!("GET /images/{name}/json"), "")?.1;
        made.push(found["Created"].as_str().unwrap_or_default().to_owned());
    }
    let filters = encoded(&json!({"until": [made[1], made[2]], "since": ["busybox"]})).replace('+', "%2B");
    let list = server.ask(&format!("GET /images/json?filters={filters}"), "")?.1;
    same!(list[0]["RepoTags"], json!(["first:latest"]), "{list}");
    same!(list.as_array().map(Vec::len), Some(1));
    Ok(())
}

fn all_of_a_repository(sandbox: &Sandbox) -> Result<()> {
    sandbox.load("busybox")?;
    let server = Server::start(sandbox)?;
    server.ok(&["create", "--name", "box", "--network", "none", "busybox"])?;
    server.ok(&["commit", "box", "many:foo"])?;
    server.ok(&["commit", "--change", "LABEL a=b", "box", "many:bar"])?;
    let archive = sandbox.path("many.tar");
    let archive = archive.display().to_string();
    server.ok(&["save", "-o", &archive, "many", "busybox:latest"])?;
    let mut tar = std::process::Command::new("tar");
    let manifest: Value = serde_json::from_str(&crate::host::succeed(tar.args(["-xOf", &archive, "manifest.json"]))?)?;
    same!(manifest.as_array().map(Vec::len), Some(3));
    let mut tar = std::process::Command::new("tar");
    let listed = crate::host::succeed(tar.env("TZ", "UTC").args(["--full-time", "-tvf", &archive]))?;
    let created = server.ask("GET /images/busybox/json", "")?.1["Created"].as_str().unwrap_or_default().to_owned();
    let config = manifest[2]["Config"].as_str().unwrap_or_default();
    let line = listed.lines().find(|line| line.ends_with(config)).unwrap_or_default();
    contains!(line, &created[..19].replace('T', " "));
    same!(server.ask("GET /images/get?names=nothing", "")?.0, 404);
    Ok(())
}

fn limits_of_processes(sandbox: &Sandbox) -> Result<()> {
    sandbox.load("busybox")?;
    let server = Server::start(sandbox)?;
    server.ok(&[
        "run",
        "-d",
        "--name",
        "box",
        "--network",
        "none",
        "--pids-limit",
        "32",
        "busybox",
        "sleep",
        "1000",
    ])?;
    let shown =
        || Ok::<_, anyhow::Error>(server.ask("GET /containers/box/json", "")?.1["HostConfig"]["PidsLimit"].take());
    for (version, asked, expected) in
        [("1.24", 16, 32), ("1.51", 16, 16), ("1.51", 0, 0), ("1.51", 8, 8), ("1.51", -2, 0)]
    {
        let document = json!({"PidsLimit": asked}).to_string();
        same!(server.ask(&format!("POST /v{version}/containers/box/update"), &document)?.0, 200);
        same!(shown()?, json!(expected), "{version} {asked}");
    }
    server.ok(&["rm", "-f", "box"])?;
    Ok(())
}

fn shown_as_asked(sandbox: &Sandbox) -> Result<()> {
    sandbox.load("busybox")?;
    let server = Server::start(sandbox)?;
    let document = json!({
        "Image": "busybox",
        "WorkingDir": "/tmp/../tmp/",
        "HostConfig": {"Tmpfs": {"/a": ""}, "Mounts": [{"Type": "tmpfs", "Target": "/b"}], "NetworkMode": "none"},
    });
    let made = |version: &str| -> Result<Value> {
        let (code, made) = server.ask(&format!("POST /v{version}/containers/create"), &document.to_string())?;
        same!(code, 201, "{made}");
        let id = made["Id"].as_str().unwrap_or_default();
        let found = server.ask(&format!("GET /containers/{id}/json"), "")?.1;
        server.ok(&["rm", id])?;
        Ok(found)
    };
    let found = made("1.51")?;
    same!(found["Config"]["WorkingDir"], "/tmp");
    let places =
        |mounts: &Value| mounts.as_array().into_iter().flatten().map(|m| m["Destination"].clone()).collect::<Value>();
    same!(places(&found["Mounts"]), json!(["/b"]));
    same!(found["HostConfig"]["Tmpfs"], json!({"/a": ""}));
    same!(found["HostConfig"]["IpcMode"], "private");
    same!(made("1.39")?["HostConfig"]["IpcMode"], "shareable");
    same!(server.ask("GET /networks/", "")?.0, 200);
    Ok(())
}

fn namespaces_of_others(sandbox: &Sandbox) -> Result<()> {
    sandbox.load("busybox")?;
    let server = Server::start(sandbox)?;
    server.ok(&["create", "--name", "first", "--network", "none", "--ipc", "private", "busybox", "sleep", "1000"])?;
    let id = server.ask("GET /containers/first/json", "")?.1["Id"].as_str().unwrap_or_default().to_owned();
    server.ok(&["create", "--name", "pid", "--network", "none", "--pid", "container:first", "busybox", "true"])?;
    server.ok(&["create", "--name", "ipc", "--network", "none", "--ipc", "container:first", "busybox", "true"])?;
    let (code, answer) = server.ask("POST /containers/pid/start", "")?;
    same!(code, 500);
    contains!(answer.to_string(), "failed to join PID namespace");
    contains!(answer.to_string(), &format!("{id} is not running"));
    server.ok(&["start", "first"])?;
    let (code, answer) = server.ask("POST /containers/ipc/start", "")?;
    same!(code, 400);
    contains!(answer.to_string(), "non-shareable IPC");
    server.ok(&["rm", "-f", "first", "pid", "ipc"])?;
    Ok(())
}

/// What an identifier names it names whatever else is called so.
fn networks_named_like_others(sandbox: &Sandbox) -> Result<()> {
    let server = Server::start(sandbox)?;
    let make = |name: &str| -> Result<String> {
        let (code, made) = server.ask("POST /networks/create", &json!({"Name": name}).to_string())?;
        same!(code, 201, "{made}");
        Ok(made["Id"].as_str().unwrap_or_default().to_owned())
    };
    let first = make("first")?;
    let (prefix, whole) = (make(&first[..12])?, make(&first)?);
    same!(server.ask("POST /networks/create", "{\"Name\": \"first\"}")?.0, 409);
    same!(server.ask(&format!("GET /networks/{first}"), "")?.1["Name"], "first");
    same!(server.ask(&format!("GET /networks/{}", &first[..12]), "")?.1["Id"], prefix.as_str());
    same!(server.ask(&format!("DELETE /networks/{first}"), "")?.0, 204);
    same!(server.ask(&format!("GET /networks/{first}"), "")?.1["Id"], whole.as_str());
    server.ok(&["network", "rm", &prefix, &whole])?;
    Ok(())
}

fn the_hosts_names(sandbox: &Sandbox) -> Result<()> {
    sandbox.load("busybox")?;
    let hosts = std::fs::read_to_string("/etc/hosts")?;
    let inside = sandbox.ok(["run", "--rm", "--network", "host", "busybox", "cat", "/etc/hosts"])?;
    ensure!(inside.starts_with(hosts.trim_end()), "{inside}");
    Ok(())
}

fn writable_groups(sandbox: &Sandbox) -> Result<()> {
    sandbox.load("busybox")?;
    // Version 2, or a hierarchy of version 1 that every container has.
    let script = "for d in /sys/fs/cgroup /sys/fs/cgroup/memory; do mkdir $d/below && rmdir $d/below && echo made; done 2>&1; true";
    let run = |option: &[&str]| {
        let options =
            [&["run", "--rm", "--network", "none", "--memory", "64m"], option, &["busybox", "sh", "-c", script]];
        sandbox.ok(options.concat())
    };
    contains!(run(&[])?, "Read-only file system");
    ensure!(!run(&["--security-opt", "writable-cgroups=false"])?.contains("made"));
    contains!(run(&["--security-opt", "writable-cgroups"])?, "made");
    contains!(run(&["--security-opt", "writable-cgroups=true"])?, "made");
    let privileged = ["--privileged", "--security-opt", "writable-cgroups=false"];
    ensure!(!run(&privileged)?.contains("made"));
    Ok(())
}

/// What the server keeps its own files in is mounted so that the host's later mounts are seen, and never held.
fn the_servers_own_directory(sandbox: &Sandbox) -> Result<()> {
    sandbox.load("busybox")?;
    let server = Server::start(sandbox)?;
    let root = server.ask("GET /info", "")?.1["DockerRootDir"].as_str().unwrap_or_default().to_owned();
    for source in ["/", &root, &format!("{root}/containers")] {
        for (propagation, expected) in
            [("", Ok("rslave")), ("rshared", Ok("rshared")), ("private", Err(400)), ("slave", Err(400))]
        {
            let bind =
                if propagation.is_empty() { format!("{source}:/x") } else { format!("{source}:/x:{propagation}") };
            let document = json!({"Image": "busybox", "HostConfig": {"Binds": [bind], "NetworkMode": "none"}});
            let (code, made) = server.ask("POST /containers/create", &document.to_string())?;
            match expected {
                Err(wanted) => {
                    same!(code, wanted, "{made}");
                    contains!(made.to_string(), "must use either propagation mode");
                }
                Ok(wanted) => {
                    let id = made["Id"].as_str().unwrap_or_default();
                    let found = server.ask(&format!("GET /containers/{id}/json"), "")?.1;
                    same!(found["Mounts"][0]["Propagation"], wanted, "{made}");
                    server.ok(&["rm", id])?;
                }
            }
        }
    }
    let free = json!({"Image": "busybox", "HostConfig": {"Binds": ["/usr:/x:private"], "NetworkMode": "none"}});
    same!(server.ask("POST /containers/create", &free.to_string())?.0, 201);
    Ok(())
}

fn variables_in_changes(sandbox: &Sandbox) -> Result<()> {
    sandbox.load("busybox")?;
    sandbox.ok(["create", "--name", "box", "--network", "none", "-e", "A=1", "busybox"])?;
    sandbox.ok(["commit", "--change", "ENV B=$A/x A='$A'", "--change", "WORKDIR /w/${A:-none}", "box", "child"])?;
    let found: Value = serde_json::from_str(&sandbox.ok(["inspect", "child"])?)?;
    let env: Vec<&str> = found[0]["Config"]["Env"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    ensure!(env.contains(&"B=1/x") && env.contains(&"A=$A"), "{env:?}");
    same!(found[0]["Config"]["WorkingDir"], "/w/$A");
    Ok(())
}
