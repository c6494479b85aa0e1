//! The Docker Engine API, as clients written for Docker use it.

use std::fs;
use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Stdio};
use std::thread;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use crate::case::{cases, contains, same, skip};
use crate::host;
use crate::registry::Registry;
use crate::sandbox::Sandbox;
use crate::server::{Server, read_head, status};

cases![docker_api:
    ping_version_info, versions_and_errors, run_and_its_codes, input_and_half_close, terminal, life_of_a_container,
    logs_of_all_kinds, exec_of_all_kinds, attach_in_both_styles, attach_before_the_start, wait_conditions, list_and_filters,
    nothing_is_ignored, images_by_the_client, pull_with_progress, socket_comes_and_goes, socket_activation,
    server_dies_and_containers_live, many_clients_wait, hostile_requests,
    files_in_and_out, volumes_and_networks [Root], what_happens_is_told, use_and_limits [Root],
];

/// With what a test runs containers: no network, which an ordinary user and root have alike.
const BOX: [&str; 3] = ["--network", "none", "busybox"];

fn ready(sandbox: &Sandbox) -> Result<Server<'_>> {
    sandbox.load("busybox")?;
    Server::start(sandbox)
}

/// Creates a container over the API and returns its id.
fn create(server: &Server<'_>, sandbox: &Sandbox, command: &str, fields: Value) -> Result<String> {
    let mut document = json!({"Image": "busybox", "Cmd": ["sh", "-c", command], "HostConfig": {"NetworkMode": "none"}});
    for (key, value) in fields.as_object().into_iter().flatten() {
        document[key] = value.clone();
    }
    let (status, answer) = server.ask("POST /containers/create", &document.to_string())?;
    same!(status, 201, "{answer}");
    let id = answer["Id"].as_str().context("no Id")?.to_owned();
    crate::audit::remember(sandbox.directory(), &id)?;
    Ok(id)
}

fn ping_version_info(sandbox: &Sandbox) -> Result<()> {
    let server = ready(sandbox)?;
    for method in ["GET", "HEAD"] {
        let (head, body) = server.ask_raw(&format!("{method} /_ping"), "")?;
        same!((status(&head)?, body.as_str()), (200, if method == "GET" { "OK" } else { "" }));
        let lower = head.to_ascii_lowercase();
        for header in
            ["api-version: 1.", "builder-version: 1", "docker-experimental: false", "ostype: linux", "swarm: inactive"]
        {
            contains!(lower, header);
        }
    }
    let (_, version) = server.ask("GET /v1.24/version", "")?;
    same!(version["MinAPIVersion"], "1.24");
    same!(version["Components"][0]["Details"]["ApiVersion"], version["ApiVersion"]);
    let (_, info) = server.ask("GET /info", "")?;
    same!(
        (&info["Images"], &info["Swarm"]["LocalNodeState"], &info["OSType"]),
        (&json!(1), &json!("inactive"), &json!("linux"))
    );
    ensure!(matches!(info["CgroupVersion"].as_str(), Some("1" | "2")), "{}", info["CgroupVersion"]);
    // What GitHub's runner and devcontainers parse.
    let text = server.ok(&["version", "--format", "{{.Server.APIVersion}}"])?;
    ensure!(text.starts_with("1."), "{text}");
    server.ok(&["info"])?;
    Ok(())
}

fn versions_and_errors(sandbox: &Sandbox) -> Result<()> {
    let server = ready(sandbox)?;
    for (line, wanted, words) in [
        ("GET /v1.23/info", 400, "client version 1.23 is too old. Minimum supported API version is 1.24"),
        ("GET /v1.99/info", 400, "client version 1.99 is too new. Maximum supported API version is 1."),
        ("GET /nonsense", 404, "page not found"),
        ("POST /info", 404, "page not found"),
        ("GET /containers/nosuch/json", 404, "No such container: nosuch"),
        ("GET /v1.30/images/no/such/json", 404, "No such image: no/such"),
        ("GET /images/no%2Fsuch%3Atag/json", 404, "No such image: no/such:tag"),
        ("GET /exec/nosuch/json", 404, "No such exec instance: nosuch"),
        ("GET /containers/json?filters=%7B%22x%22%3A%5B%22y%22%5D%7D", 400, "invalid filter 'x'"),
        ("GET /containers/json?filters=x", 400, "invalid filters"),
        ("GET /containers/json?limit=x", 400, "limit"),
        ("GET /containers/x/logs", 400, "at least one stream"),
        ("POST /containers/create", 400, "config cannot be empty"),
        ("GET /services", 503, "This node is not a swarm manager"),
        ("POST /build", 501, "building images is not supported by dhow yet"),
        ("POST /grpc", 404, "BuildKit"),
    ] {
        let (status, document) = server.ask(line, "")?;
        same!(status, wanted, "{line}");
        contains!(document["message"].as_str().unwrap_or_default(), words);
    }
    let (status, document) = server.ask("POST /containers/create", "{\"Image\": 5}")?;
    same!(status, 400);
    contains!(document["message"].as_str().unwrap_or_default(), "invalid JSON");
    let (status, _) = server.ask("POST /containers/create", "{\"Image\": \"nosuch\"}")?;
    same!(status, 404);
    server.docker_with_input("FROM busybox\n", &["build", "-"])?.fails(1, &["is not supported"])?;
    Ok(())
}

fn run_and_its_codes(sandbox: &Sandbox) -> Result<()> {
    let server = ready(sandbox)?;
    let run = |words: &[&str]| server.docker(&[&["run", "--rm"], &BOX[..], words].concat());
    let output = run(&["sh", "-c", "echo out; echo err >&2; exit 3"])?;
    same!((output.code, output.stdout.as_str(), output.stderr.as_str()), (3, "out\n", "err\n"));
    same!(run(&["true"])?.code, 0);
    same!(run(&["nosuch"])?.code, 127);
    same!(run(&["/etc/passwd"])?.code, 126);
    // Quick ends are not lost, and no byte is.
    for _ in 0..10 {
        same!(run(&["sh", "-c", "echo x; exit 7"])?.code, 7);
    }
    same!(server.ok(&["ps", "-aq"])?, "");
    Ok(())
}

fn input_and_half_close(sandbox: &Sandbox) -> Result<()> {
    let server = ready(sandbox)?;
    let words = [&["run", "--rm", "-i"], &BOX[..], &["sh", "-c", "cat; echo end"]].concat();
    same!(server.docker_with_input("hello\n", &words)?.success()?, "hello\nend");
    let big = "0123456789abcde\n".repeat(200_000);
    let words = [&["run", "--rm", "-i"], &BOX[..], &["wc", "-c"]].concat();
    same!(server.docker_with_input(&big, &words)?.success()?.trim(), "3200000");
    // And the other way, through a slow reader.
    let words = [&["run", "--rm"], &BOX[..], &["sh", "-c", "yes 0123456789abcde | head -n 200000"]].concat();
    same!(server.docker(&words)?.stdout.len(), 3_200_000);
    Ok(())
}

fn terminal(sandbox: &Sandbox) -> Result<()> {
    let server = ready(sandbox)?;
    let Some(script) = host::program("script") else { return skip("script is not installed") };
    let docker = host::program("docker").context("docker")?;
    let inner = format!(
        "stty rows 33 cols 101; {} run --rm -it --network none busybox sh -c 'sleep 0.5; stty size; tty'",
        docker.display()
    );
    let mut command = Command::new(script);
    let output = command
        .args(["-qec", &inner, "/dev/null"])
        .env("DOCKER_HOST", format!("unix://{}", server.socket.display()))
        .env("DOCKER_CONFIG", sandbox.path("docker"))
        .stdin(Stdio::null())
        .output()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    contains!(text, "33 101");
    contains!(text, "/dev/pts/0");
    Ok(())
}

fn life_of_a_container(sandbox: &Sandbox) -> Result<()> {
    let server = ready(sandbox)?;
    let id = server.ok(&[&["run", "-d", "--name", "one", "-l", "a=b"], &BOX[..], &["sleep", "1000"]].concat())?;
    same!(id.len(), 64);
    contains!(server.ok(&["ps"])?, "one");
    same!(server.ok(&["inspect", "-f", "{{.State.Status}} {{.Config.Labels.a}}", "one"])?, "running b");
    // The same container by the command line.
    same!(sandbox.ok(["ps", "-q", "--no-trunc"])?, id);
    contains!(server.ok(&["top", "one"])?, "sleep 1000");
    // An ordinary user may have no cgroup to freeze.
    if host::is_root() {
        server.ok(&["pause", "one"])?;
        contains!(server.ok(&["ps"])?, "(Paused)");
        server.docker(&["exec", "one", "true"])?.fails(1, &["is paused"])?;
        server.ok(&["unpause", "one"])?;
    }
    server.ok(&["rename", "one", "two"])?;
    server.docker(&["rm", "two"])?.fails(1, &["container is running"])?;
    let (status, _) = server.ask("POST /containers/two/start", "")?;
    same!(status, 304);
    server.ok(&["restart", "-t", "0", "two"])?;
    same!(server.ok(&["inspect", "-f", "{{.State.Running}}", "two"])?, "true");
    server.ok(&["kill", "-s", "KILL", "two"])?;
    same!(server.ok(&["wait", "two"])?, "137");
    server.docker(&["kill", "two"])?.fails(1, &["is not running"])?;
    let (status, _) = server.ask("POST /containers/two/stop", "")?;
    same!(status, 304);
    server.ok(&["start", "two"])?;
    server.ok(&["stop", "-t", "0", "two"])?;
    let wanted = "{\"Image\":\"busybox\",\"HostConfig\":{\"NetworkMode\":\"none\"}}";
    let (status, document) = server.ask("POST /containers/create?name=two", wanted)?;
    same!(status, 409, "{document}");
    server.ok(&["rm", "two"])?;
    same!(server.ask("DELETE /containers/two", "")?.0, 404);
    Ok(())
}

fn logs_of_all_kinds(sandbox: &Sandbox) -> Result<()> {
    let server = ready(sandbox)?;
    let script = "echo one; echo two >&2; sleep 1; echo three";
    server.ok(&[&["run", "-d", "--name", "log"], &BOX[..], &["sh", "-c", script]].concat())?;
    let output = server.docker(&["logs", "-f", "log"])?;
    same!((output.stdout.as_str(), output.stderr.as_str()), ("one\nthree\n", "two\n"));
    same!(server.ok(&["logs", "--tail", "1", "log"])?, "three");
    let stamped = server.ok(&["logs", "-t", "log"])?;
    let (time, _) = stamped.split_once(' ').context("no time")?;
    // Nanoseconds, as Docker has them.
    ensure!(time.len() == "2026-01-01T00:00:00.000000000Z".len() && time.ends_with('Z'), "{time}");
    same!(server.ok(&["logs", "--since", time, "log"])?.lines().count(), 2);
    same!(server.docker(&["logs", "--until", "2001-01-01T00:00:00Z", "log"])?.stdout, "");
    let (head, body) = server.ask_raw("GET /v1.42/containers/log/logs?stdout=1&stderr=1", "")?;
    contains!(head, "application/vnd.docker.multiplexed-stream");
    same!(&body.as_bytes()[..12], b"\x01\0\0\0\0\0\0\x04one\n");
    let (head, _) = server.ask_raw("GET /v1.41/containers/log/logs?stdout=1", "")?;
    contains!(head, "application/vnd.docker.raw-stream");
    Ok(())
}

fn exec_of_all_kinds(sandbox: &Sandbox) -> Result<()> {
    let server = ready(sandbox)?;
    server.ok(&[&["run", "-d", "--name", "exe"], &BOX[..], &["sleep", "1000"]].concat())?;
    let output = server.docker(&["exec", "exe", "sh", "-c", "echo out; echo err >&2; exit 4"])?;
    same!((output.code, output.stdout.as_str(), output.stderr.as_str()), (4, "out\n", "err\n"));
    same!(server.docker_with_input("typed\n", &["exec", "-i", "exe", "cat"])?.success()?, "typed");
    same!(server.docker(&["exec", "exe", "nosuch"])?.code, 127);
    same!(
        server.ok(&["exec", "-e", "A=1", "-w", "/tmp", "-u", "5:6", "exe", "sh", "-c", "echo $A $PWD; id -u"])?,
        "1 /tmp\n5"
    );
    server.ok(&["exec", "-d", "exe", "touch", "/made"])?;
    host::until("the background command has run", sandbox.seconds(10), || {
        Ok((server.docker(&["exec", "exe", "test", "-e", "/made"])?.code == 0).then_some(()))
    })?;
    let (_, made) = server.ask("POST /containers/exe/exec", "{\"Cmd\": \"true\", \"AttachStdout\": true}")?;
    let exec = made["Id"].as_str().context("no Id")?;
    let (_, before) = server.ask(&format!("GET /exec/{exec}/json"), "")?;
    same!((&before["Running"], &before["ExitCode"]), (&json!(false), &Value::Null));
    same!(server.ask(&format!("POST /exec/{exec}/start"), "{\"Detach\": true}")?.0, 200);
    host::until("the exit code is known", sandbox.seconds(10), || {
        Ok((server.ask(&format!("GET /exec/{exec}/json"), "")?.1["ExitCode"] == 0).then_some(()))
    })?;
    same!(server.ask(&format!("POST /exec/{exec}/start"), "{}")?.0, 409);
    server.ok(&["rm", "-f", "exe"])?;
    same!(server.ask("POST /containers/exe/exec", "{\"Cmd\": [\"true\"]}")?.0, 404);
    Ok(())
}

const UPGRADE: &str = "Connection: Upgrade\r\nUpgrade: tcp\r\n";

fn attach_in_both_styles(sandbox: &Sandbox) -> Result<()> {
    let server = ready(sandbox)?;
    for (headers, wanted) in [(UPGRADE, 101), ("", 200)] {
        let open = json!({"OpenStdin": true, "StdinOnce": true});
        let id = create(&server, sandbox, "cat; echo end >&2", open)?;
        server.ask(&format!("POST /containers/{id}/start"), "")?;
        let line = format!("POST /v1.41/containers/{id}/attach?stream=1&stdin=1&stdout=1&stderr=1");
        let mut stream = server.send(&line, headers, "")?;
        let head = read_head(&mut stream)?;
        same!(status(&head)?, wanted, "{head}");
        contains!(head.to_ascii_lowercase(), "application/vnd.docker.raw-stream");
        stream.write_all(b"typed\n")?;
        let mut answer = [0; 14];
        stream.read_exact(&mut answer)?;
        same!(&answer, b"\x01\0\0\0\0\0\0\x06typed\n");
        // Half a close: input ends, output goes on.
        stream.shutdown(Shutdown::Write)?;
        let mut rest = vec![];
        stream.read_to_end(&mut rest)?;
        same!(&rest, b"\x02\0\0\0\0\0\0\x04end\n");
        server.ask(&format!("DELETE /containers/{id}?force=1"), "")?;
    }
    Ok(())
}

fn attach_before_the_start(sandbox: &Sandbox) -> Result<()> {
    let server = ready(sandbox)?;
    for (headers, wanted) in [(UPGRADE, 101), ("", 200)] {
        let open = json!({"OpenStdin": true, "StdinOnce": true});
        let id = create(&server, sandbox, "echo first; cat; echo last >&2", open)?;
        let line = format!("POST /containers/{id}/attach?stream=1&stdin=1&stdout=1&stderr=1");
        let mut stream = server.send(&line, headers, "")?;
        same!(status(&read_head(&mut stream)?)?, wanted);
        let second = format!("POST /containers/{id}/attach?stream=1&stdout=1&stderr=1");
        let mut second = server.send(&second, UPGRADE, "")?;
        read_head(&mut second)?;
        stream.write_all(b"typed\n")?;
        stream.shutdown(Shutdown::Write)?;
        same!(server.ask(&format!("POST /containers/{id}/start"), "")?.0, 204);
        for mut stream in [stream, second] {
            let mut all = vec![];
            stream.read_to_end(&mut all)?;
            let all = String::from_utf8_lossy(&all).into_owned();
            // Two lines may come in one piece.
            for words in ["\u{1}\0\0\0\0\0\0", "first\n", "typed\n", "\u{2}\0\0\0\0\0\0\u{5}last\n"] {
                contains!(all, words);
            }
        }
    }
    Ok(())
}

fn wait_conditions(sandbox: &Sandbox) -> Result<()> {
    let server = ready(sandbox)?;
    for (condition, remove) in [("next-exit", false), ("removed", true)] {
        let host = json!({"NetworkMode": "none", "AutoRemove": remove});
        let id = create(&server, sandbox, "exit 9", json!({ "HostConfig": host }))?;
        let line = format!("POST /containers/{id}/wait?condition={condition}");
        let mut stream = server.send(&line, "Connection: close\r\n", "")?;
        // Before anything is started.
        same!(status(&read_head(&mut stream)?)?, 200);
        same!(server.ask(&format!("POST /containers/{id}/start"), "")?.0, 204);
        let mut rest = String::new();
        stream.read_to_string(&mut rest)?;
        contains!(rest, "{\"StatusCode\":9}");
        let gone = server.ask(&format!("GET /containers/{id}/json"), "")?.0 == 404;
        same!(gone, remove);
        if !remove {
            same!(server.ask(&format!("POST /containers/{id}/wait"), "")?.1, json!({"StatusCode": 9}));
        }
    }
    // Started by the command line, not by this server.
    let id = create(&server, sandbox, "sleep 0.5; exit 8", json!({}))?;
    let line = format!("POST /containers/{id}/wait?condition=next-exit");
    let mut stream = server.send(&line, "Connection: close\r\n", "")?;
    read_head(&mut stream)?;
    sandbox.ok(["start", &id])?;
    let mut rest = String::new();
    stream.read_to_string(&mut rest)?;
    contains!(rest, "{\"StatusCode\":8}");
    same!(server.ask(&format!("POST /containers/{id}/wait?condition=never"), "")?.0, 400);
    Ok(())
}

fn list_and_filters(sandbox: &Sandbox) -> Result<()> {
    let server = ready(sandbox)?;
    let run = |name: &str, label: &str, script: &str| {
        server.ok(&[&["run", "-d", "--name", name, "-l", label], &BOX[..], &["sh", "-c", script]].concat())
    };
    run("web", "role=front", "sleep 1000")?;
    run("job", "role=back", "exit 3")?;
    sandbox.wait_for_state("job", "exited")?;
    let (_, all) = server.ask("GET /containers/json?all=1&size=1", "")?;
    same!(all.as_array().map(Vec::len), Some(2));
    let job = &all[0];
    same!((&job["Names"], &job["State"], &job["Image"]), (&json!(["/job"]), &json!("exited"), &json!("busybox")));
    ensure!(
        job["Created"].is_i64() && job["Ports"].is_array() && job["Labels"].is_object() && job["Mounts"].is_array(),
        "{job}"
    );
    ensure!(job["NetworkSettings"]["Networks"].is_object() && job["HostConfig"]["NetworkMode"] == "none", "{job}");
    contains!(job["Status"].as_str().unwrap_or_default(), "Exited (3)");
    for (filters, wanted) in [
        (json!({}), 1),
        (json!({"status": ["exited"]}), 1),
        (json!({"status": ["exited", "running"]}), 2),
        (json!({"exited": ["3"]}), 1),
        (json!({"label": ["role"], "status": {"running": true}}), 1),
        (json!({"label": ["role=back"], "status": ["running"]}), 0),
        (json!({"name": ["^/?web$"]}), 1),
        (json!({"ancestor": ["busybox:latest"]}), 1),
        (json!({"before": ["web"]}), 0),
        (json!({"network": ["none"]}), 1),
    ] {
        let text: String = filters.to_string().bytes().map(|byte| format!("%{byte:02x}")).collect();
        let (_, list) = server.ask(&format!("GET /containers/json?filters={text}"), "")?;
        same!(list.as_array().map(Vec::len), Some(wanted), "{filters}");
    }
    let (_, limited) = server.ask("GET /containers/json?limit=1", "")?;
    same!(limited[0]["Names"][0], "/job");
    same!(server.ask("GET /containers/json?limit=0", "")?.1.as_array().map(Vec::len), Some(1));
    let (_, pruned) = server.ask("POST /containers/prune", "")?;
    same!(pruned["ContainersDeleted"].as_array().map(Vec::len), Some(1));
    same!(server.ask("POST /containers/prune", "")?.1["ContainersDeleted"], json!([]));
    Ok(())
}

fn nothing_is_ignored(sandbox: &Sandbox) -> Result<()> {
    let server = ready(sandbox)?;
    for (host, wanted, words) in [
        (json!({"Cgroup": "container:x"}), 501, "Cgroup"),
        (json!({"DeviceRequests": [{"Count": -1}]}), 400, "device driver"),
        (json!({"MaskedPaths": ["proc"]}), 400, "absolute"),
        (json!({"Runtime": "kata"}), 400, "runtime"),
        (json!({"Memory": 1024}), 400, "too small"),
        (json!({"CapAdd": ["NOSUCH"]}), 400, "capability"),
        (json!({"PortBindings": {"80/tcp": [{"HostPort": "http"}]}}), 400, "port"),
        (json!({"Binds": ["/a:b"]}), 400, "absolute"),
        (json!({"Mounts": [{"Type": "bind", "Source": "/no/such/place", "Target": "/x"}]}), 400, "does not exist"),
    ] {
        let document = json!({"Image": "busybox", "HostConfig": host});
        let (status, answer) = server.ask("POST /containers/create", &document.to_string())?;
        same!(status, wanted, "{document}");
        contains!(answer["message"].as_str().unwrap_or_default(), words);
    }
    same!(server.ok(&["ps", "-aq"])?, "");
    // What is asked for is found again, and has its effect.
    sandbox.file("data/x", "content\n")?;
    let bind = format!("{}:/data:ro", sandbox.path("files/data").display());
    let id = create(
        &server,
        sandbox,
        "cat /data/x; hostname; echo $A; id -u; stat -f -c %T /t; touch /x 2>/dev/null || echo read-only",
        json!({"Env": ["A=1"], "User": "7", "Hostname": "boxed", "StdinOnce": true, "HostConfig": {
            "NetworkMode": "none", "Binds": [bind], "ReadonlyRootfs": true, "Tmpfs": {"/t": "size=1m"}, "LogConfig": {"Type": "json-file"},
        }}),
    )?;
    let (_, inspected) = server.ask(&format!("GET /containers/{id}/json"), "")?;
    same!(inspected["HostConfig"]["Binds"], json!([bind]));
    same!(inspected["Config"]["StdinOnce"], true);
    server.ok(&["start", "-a", &id])?;
    same!(server.ok(&["logs", &id])?, "content\nboxed\n1\n7\ntmpfs\nread-only");
    Ok(())
}

fn images_by_the_client(sandbox: &Sandbox) -> Result<()> {
    let server = Server::start(sandbox)?;
    same!(server.ask("GET /images/json", "")?.1, json!([]));
    let archive = sandbox.archive("busybox", "docker")?;
    contains!(server.ok(&["load", "-i", &archive])?, "Loaded image: busybox:latest");
    contains!(server.ok(&["images"])?, "busybox");
    let (_, old) = server.ask("GET /v1.43/images/json", "")?;
    same!(old[0]["VirtualSize"], old[0]["Size"]);
    ensure!(
        server.ask("GET /v1.44/images/json", "")?.1[0].get("VirtualSize").is_none(),
        "VirtualSize is gone since 1.44"
    );
    ensure!(old[0]["Created"].is_i64() && old[0]["RepoTags"] == json!(["busybox:latest"]), "{old}");
    server.ok(&["tag", "busybox", "example.org/team/box:v1"])?;
    same!(
        server.ok(&["inspect", "-f", "{{index .Config.Cmd 0}} {{len .RepoTags}}", "example.org/team/box:v1"])?,
        "sh 2"
    );
    contains!(server.ok(&["history", "--no-trunc", "-q", "busybox"])?, "sha256:");
    contains!(server.ok(&["rmi", "example.org/team/box:v1"])?, "Untagged: example.org/team/box:v1");
    let id = create(&server, sandbox, "true", json!({}))?;
    server.docker(&["rmi", "busybox"])?.fails(1, &["conflict", "is being used"])?;
    server.ok(&["rm", &id])?;
    contains!(server.ok(&["rmi", "busybox"])?, "Deleted: sha256:");
    same!(server.ask("POST /images/prune", "")?.1, json!({"ImagesDeleted": [], "SpaceReclaimed": 0}));
    server.docker_with_input("no archive", &["load"])?.fails(1, &["cannot load"])?;
    Ok(())
}

fn pull_with_progress(sandbox: &Sandbox) -> Result<()> {
    let registry = Registry::start(sandbox, &["busybox"], None)?;
    let server = Server::start(sandbox)?;
    let name = format!("{}/library/busybox", registry.address);
    let (status, text) = server.ask(&format!("POST /images/create?fromImage={name}&tag=latest"), "")?;
    same!(status, 200);
    let text = text.as_str().context("one object only")?.to_owned();
    let lines = text.lines().map(serde_json::from_str).collect::<Result<Vec<Value>, _>>()?;
    // docker-java wants a status in every object.
    ensure!(lines.iter().all(|line| line["status"].is_string()), "{text}");
    contains!(text, "Pull complete");
    contains!(text, "Status: Downloaded newer image for");
    contains!(server.ok(&["pull", &format!("{name}:latest")])?, "Image is up to date");
    same!(server.ok(&[&["run", "--rm"], &BOX[..2], &[&name, "echo", "runs"]].concat())?, "runs");
    server.docker(&["pull", &format!("{name}:nosuch")])?.fails(1, &["nosuch"])?;
    Ok(())
}

fn socket_comes_and_goes(sandbox: &Sandbox) -> Result<()> {
    let mut server = Server::start(sandbox)?;
    same!(fs::metadata(&server.socket)?.permissions().mode() & 0o777, 0o660);
    let address = format!("unix://{}", server.socket.display());
    sandbox.dhow(["serve", "--host", &address])?.fails(1, &["another server answers"])?;
    sandbox
        .dhow(["serve", "--host", "tcp://0.0.0.0:2375"])?
        .fails(125, &["loopback"])
        .or_else(|_| sandbox.dhow(["serve", "--host", "tcp://0.0.0.0:2375"])?.fails(1, &["loopback"]))?;
    server.end()?;
    ensure!(!server.socket.exists(), "the socket is still there");
    // One that a killed server left is in nobody's way.
    let mut server = Server::start(sandbox)?;
    server.kill()?;
    ensure!(server.socket.exists(), "a killed server cannot tidy up");
    let server = Server::start(sandbox)?;
    same!(server.ask("GET /_ping", "")?.0, 200);
    Ok(())
}

fn socket_activation(sandbox: &Sandbox) -> Result<()> {
    let Some(activate) = host::program("systemd-socket-activate") else { return skip("systemd is not installed") };
    let socket = sandbox.path("activated.sock");
    let serve = sandbox.command(["serve", "--host", "fd://"]);
    let mut command = Command::new(activate);
    command.arg("-l").arg(&socket).arg(serve.get_program()).args(serve.get_args());
    let _server = host::Background(command.stdin(Stdio::null()).stderr(Stdio::null()).spawn()?);
    host::until("the socket is there", sandbox.seconds(10), || Ok(socket.exists().then_some(())))?;
    let text = host::succeed(Command::new("curl").args(["-s", "--unix-socket"]).arg(&socket).arg("http://d/_ping"))?;
    same!(text, "OK");
    Ok(())
}

fn server_dies_and_containers_live(sandbox: &Sandbox) -> Result<()> {
    let mut server = ready(sandbox)?;
    let id = server.ok(&[&["run", "-d", "--name", "box"], &BOX[..], &["sleep", "1000"]].concat())?;
    server.ok(&[&["run", "--rm"], &BOX[..], &["true"]].concat())?;
    // Monitors that have ended are reaped.
    let own = server.pid().to_string();
    host::until("no zombies", sandbox.seconds(10), || {
        let zombies = fs::read_dir("/proc")?.flatten().filter(|entry| {
            let stat = fs::read_to_string(entry.path().join("stat")).unwrap_or_default();
            stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with(&format!("Z {own} ")))
        });
        Ok((zombies.count() == 0).then_some(()))
    })?;
    let pid = sandbox.pid(&id)?;
    server.kill()?;
    let server = Server::start(sandbox)?;
    same!(server.ok(&["inspect", "-f", "{{.State.Pid}}", "box"])?, pid.to_string());
    same!(server.ok(&["exec", "box", "echo", "still here"])?, "still here");
    server.ok(&["rm", "-f", "box"])?;
    Ok(())
}

fn many_clients_wait(sandbox: &Sandbox) -> Result<()> {
    let server = ready(sandbox)?;
    let id = server.ok(&[&["run", "-d"], &BOX[..], &["sleep", "1000"]].concat())?;
    let count =
        |directory: &str| -> Result<usize> { Ok(fs::read_dir(format!("/proc/{}/{directory}", server.pid()))?.count()) };
    let resting = count("fd")?;
    let mut clients = vec![];
    for _ in 0..150 {
        let mut stream = server.send(&format!("POST /containers/{id}/wait"), "Connection: close\r\n", "")?;
        read_head(&mut stream)?;
        clients.push(stream);
        let line = format!("GET /containers/{id}/logs?follow=1&stdout=1");
        let mut stream = server.send(&line, "Connection: close\r\n", "")?;
        read_head(&mut stream)?;
        clients.push(stream);
    }
    // Nobody's thread waits for a container.
    ensure!(count("task")? < 20, "{} threads", count("task")?);
    let status = fs::read_to_string(format!("/proc/{}/status", server.pid()))?;
    let own = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).context("no RssAnon")?;
    let own: u64 = own.trim().trim_end_matches(" kB").trim().parse()?;
    ensure!(own < 64 << 10, "{own} KiB for 300 clients");
    // Half of them go without a word; the others hear of the end.
    let rest = clients.split_off(150);
    drop(clients);
    server.ok(&["kill", &id])?;
    let readers: Vec<_> = rest
        .into_iter()
        .map(|mut stream| {
            thread::spawn(move || {
                let mut text = String::new();
                stream.read_to_string(&mut text).map(|_| text)
            })
        })
        .collect();
    let mut ends = 0;
    for reader in readers {
        let text = reader.join().map_err(|_| anyhow::anyhow!("a reader panicked"))??;
        ends += usize::from(text.contains("{\"StatusCode\":137}"));
    }
    same!(ends, 75);
    host::until("all descriptors are closed", sandbox.seconds(20), || Ok((count("fd")? <= resting + 8).then_some(())))?;
    Ok(())
}

fn hostile_requests(sandbox: &Sandbox) -> Result<()> {
    let server = ready(sandbox)?;
    let raw = |bytes: &[u8]| -> Result<String> {
        let mut stream = std::os::unix::net::UnixStream::connect(&server.socket)?;
        stream.set_read_timeout(Some(sandbox.seconds(20)))?;
        // It may close before it has read all of this.
        drop(stream.write_all(bytes));
        drop(stream.shutdown(Shutdown::Write));
        let mut answer = vec![];
        drop(stream.read_to_end(&mut answer));
        Ok(String::from_utf8_lossy(&answer).into_owned())
    };
    raw(b"\0\0\0\0\r\n\r\n")?;
    raw(b"GET / HTTP/9.9\r\n\r\n")?;
    let long = format!("GET /_ping HTTP/1.1\r\nX: {}\r\n\r\n", "a".repeat(1 << 20));
    ensure!(!raw(long.as_bytes())?.starts_with("HTTP/1.1 200"), "a header of a mebibyte was taken");
    let many = format!("GET /_ping HTTP/1.1\r\n{}\r\n", "X: y\r\n".repeat(10_000));
    ensure!(!raw(many.as_bytes())?.starts_with("HTTP/1.1 200"), "ten thousand headers were taken");
    let big = format!("{{\"Image\": \"{}\"}}", "a".repeat(5 << 20));
    same!(server.ask("POST /containers/create", &big)?.0, 413);
    let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    same!(server.ask("POST /containers/create", &deep)?.0, 400);
    for line in [
        "GET /containers/..%2f..%2fetc%2fpasswd/json",
        "GET /containers/%00/json",
        "GET /images/%ff%fe/json",
        "GET /containers/x/logs?stdout=1&since=99999999999999999999",
        "GET /containers/json?limit=99999999999999999999999",
        "POST /containers/x/resize?h=-1&w=99999",
        "POST /containers/create?name=..%2f..%2fx",
        "DELETE /containers/%20",
    ] {
        let (status, _) = server.ask(line, if line.starts_with("POST") { "{\"Image\":\"busybox\"}" } else { "" })?;
        ensure!((400..500).contains(&status), "{line}: {status}");
    }
    same!(server.ask("GET /_ping", "")?.0, 200);
    Ok(())
}

fn files_in_and_out(sandbox: &Sandbox) -> Result<()> {
    let server = ready(sandbox)?;
    server.ok(&[&["create", "--name", "box"], &BOX[..], &["sleep", "1000"]].concat())?;
    let file = sandbox.file("in.txt", "from outside\n")?;
    let output = sandbox.path("files/out.txt");
    let output = output.to_str().context("UTF-8")?;
    // Before its start, and while it runs.
    server.ok(&["cp", &file, "box:/tmp/in.txt"])?;
    server.ok(&["start", "box"])?;
    same!(server.ok(&["exec", "box", "cat", "/tmp/in.txt"])?, "from outside");
    server.ok(&["exec", "box", "sh", "-c", "echo inside > /tmp/out; ln -s out /tmp/link"])?;
    server.ok(&["cp", "box:/tmp/out", output])?;
    same!(fs::read_to_string(output)?, "inside\n");
    let (head, _) = server.ask_raw("HEAD /containers/box/archive?path=/tmp/link", "")?;
    same!(status(&head)?, 200);
    contains!(head.to_ascii_lowercase(), "x-docker-container-path-stat: ey");
    same!(server.ask("GET /containers/box/archive?path=/nosuch", "")?.0, 404);
    same!(server.ask("GET /containers/box/archive", "")?.0, 400);
    server.docker(&["cp", &file, "box:/tmp/in.txt/x"])?.fails(1, &[])?;
    server.ok(&["rm", "-f", "box"])?;
    Ok(())
}

fn volumes_and_networks(sandbox: &Sandbox) -> Result<()> {
    let server = ready(sandbox)?;
    same!(server.ask("GET /volumes", "")?.1["Volumes"], json!([]));
    same!(server.ok(&["volume", "create", "--label", "a=b", "data"])?, "data");
    // Once more is no error, and the same volume.
    same!(server.ask("POST /volumes/create", "{\"Name\": \"data\"}")?.0, 201);
    server.ok(&["run", "--rm", "--network", "none", "-v", "data:/d", "busybox", "sh", "-c", "echo kept > /d/x"])?;
    same!(server.ok(&["run", "--rm", "--network", "none", "-v", "data:/d:ro", "busybox", "cat", "/d/x"])?, "kept");
    server.ok(&["create", "--name", "user", "-v", "data:/d", "busybox"])?;
    server.docker(&["volume", "rm", "data"])?.fails(1, &["in use"])?;
    server.ok(&["rm", "user"])?;
    same!(server.ok(&["volume", "rm", "data"])?, "data");
    same!(server.ask("DELETE /volumes/data", "")?.0, 404);
    same!(server.ask("POST /volumes/prune", "")?.1, json!({"VolumesDeleted": [], "SpaceReclaimed": 0}));

    let names = server.ok(&["network", "ls", "--format", "{{.Name}}"])?;
    same!(names.lines().collect::<Vec<_>>(), ["bridge", "host", "none"]);
    server.ok(&["network", "create", "--subnet", "10.77.0.0/24", "mine"])?;
    same!(server.ask("POST /networks/create", "{\"Name\": \"mine\"}")?.0, 409);
    let alias = ["run", "-d", "--name", "srv", "--network", "mine", "--network-alias", "other", "busybox"];
    server.ok(&[&alias[..], &["sleep", "1000"]].concat())?;
    let (_, inspected) = server.ask("GET /networks/mine", "")?;
    same!(inspected["IPAM"]["Config"][0]["Subnet"], "10.77.0.0/24");
    same!(inspected["Containers"].as_object().map(serde_json::Map::len), Some(1));
    let client = ["run", "--rm", "--network", "mine", "busybox", "ping", "-c", "1", "-W", "2", "other"];
    contains!(server.ok(&client)?, "1 packets received");
    server.ok(&["network", "connect", "bridge", "srv"])?;
    same!(server.ok(&["inspect", "-f", "{{len .NetworkSettings.Networks}}", "srv"])?, "2");
    server.ok(&["network", "disconnect", "bridge", "srv"])?;
    server.docker(&["network", "rm", "mine"])?.fails(1, &["active endpoints"])?;
    server.ok(&["rm", "-f", "srv"])?;
    server.ok(&["network", "rm", "mine"])?;
    same!(server.ask("GET /networks/mine", "")?.0, 404);
    Ok(())
}

fn what_happens_is_told(sandbox: &Sandbox) -> Result<()> {
    let server = ready(sandbox)?;
    let mut live = server.send("GET /v1.41/events?filters=%7B%22type%22%3A%5B%22container%22%5D%7D", "", "")?;
    // Headers come before anything happens.
    same!(status(&read_head(&mut live)?)?, 200);
    let run = [&["run", "--rm", "--name", "one"], &BOX[..], &["sh", "-c", "exit 6"]].concat();
    same!(server.docker(&run)?.code, 6);
    let mut text = String::new();
    let mut part = [0; 4096];
    while !text.contains("destroy") {
        let n = live.read(&mut part)?;
        ensure!(n > 0, "the stream ended: {text}");
        text.push_str(&String::from_utf8_lossy(&part[..n]));
    }
    let at = |word: &str| text.find(&format!("\"Action\":\"{word}")).with_context(|| format!("no {word} in {text}"));
    ensure!(at("create")? < at("start")? && at("start")? < at("die")? && at("die")? < at("destroy")?, "{text}");
    for words in
        ["\"exitCode\":\"6\"", "\"name\":\"one\"", "\"timeNano\":", "\"status\":\"die\"", "\"scope\":\"local\""]
    {
        contains!(text, words);
    }
    Ok(())
}

fn use_and_limits(sandbox: &Sandbox) -> Result<()> {
    let server = ready(sandbox)?;
    server.ok(&[&["run", "-d", "--name", "box", "-m", "64m"], &BOX[..], &["sleep", "1000"]].concat())?;
    let (_, stats) = server.ask("GET /containers/box/stats?stream=0", "")?;
    same!(stats["memory_stats"]["limit"], 64 << 20);
    ensure!(stats["cpu_stats"]["system_cpu_usage"].is_u64() && stats["cpu_stats"]["online_cpus"].is_u64(), "{stats}");
    ensure!(stats["precpu_stats"]["system_cpu_usage"].is_u64() && stats["pids_stats"]["current"] == 1, "{stats}");
    contains!(server.ok(&["stats", "--no-stream", "box"])?, "64MiB");
    server.ok(&["update", "-m", "128m", "--memory-swap", "128m", "--restart", "unless-stopped", "box"])?;
    same!(
        server.ok(&["inspect", "-f", "{{.HostConfig.Memory}} {{.HostConfig.RestartPolicy.Name}}", "box"])?,
        "134217728 unless-stopped"
    );
    same!(server.ask("POST /containers/box/update", "{\"Cgroup\": \"x\"}")?.0, 501);
    contains!(server.ok(&["system", "df"])?, "Local Volumes");
    server.ok(&["rm", "-f", "box"])?;
    Ok(())
}
