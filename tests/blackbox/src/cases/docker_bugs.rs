//! What has been wrong in other servers of Docker's API: docs/docker-api-bugs.md says which test is about which.

use std::fs;
use std::io::{Read, Write};
use std::net::Shutdown;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use crate::case::{cases, contains, same};
use crate::host;
use crate::registry::{self, Layout};
use crate::sandbox::Sandbox;
use crate::server::{Server, read_head, status};

cases![docker_bugs:
    creations, creations_of_root [Root], lists_and_inspections, lives, media_types, logs_and_events, images_and_errors, networks_and_volumes [Root],
    half_closed [Root], reader_that_stops, pull_is_given_up,
];

fn ready(sandbox: &Sandbox) -> Result<Server<'_>> {
    sandbox.load("busybox")?;
    Server::start(sandbox)
}

/// Makes a container called `name` of this.
fn make(server: &Server<'_>, sandbox: &Sandbox, name: &str, document: &Value) -> Result<String> {
    let mut asked = json!({"Image": "busybox", "Cmd": ["sleep", "1000"], "HostConfig": {"NetworkMode": "none"}});
    for (key, value) in document.as_object().into_iter().flatten() {
        match (key.as_str(), value.as_object()) {
            ("HostConfig", Some(host)) => host.iter().for_each(|(key, value)| asked["HostConfig"][key] = value.clone()),
            _ => asked[key] = value.clone(),
        }
    }
    let (status, answer) = server.ask(&format!("POST /containers/create?name={name}"), &asked.to_string())?;
    same!(status, 201, "{asked}: {answer}");
    let id = answer["Id"].as_str().context("no Id")?.to_owned();
    crate::audit::remember(sandbox.directory(), &id)?;
    Ok(id)
}

fn inspect(server: &Server<'_>, name: &str) -> Result<Value> {
    let (status, answer) = server.ask(&format!("GET /containers/{name}/json"), "")?;
    same!(status, 200, "{answer}");
    Ok(answer)
}

/// Starts it, waits for its end and returns what it said.
fn said(server: &Server<'_>, name: &str) -> Result<String> {
    same!(server.ask(&format!("POST /containers/{name}/start"), "")?.0, 204);
    same!(server.ask(&format!("POST /containers/{name}/wait"), "")?.0, 200);
    server.ok(&["logs", name])
}

fn creations(sandbox: &Sandbox) -> Result<()> {
    let server = ready(sandbox)?;
    let source = sandbox.path("files/made");
    sandbox.file("there", "x")?;
    let document = json!({
        "Cmd": ["sh", "-c", "pwd; stat -c %a /t1; cat /dev/shm/../../b/there; ulimit -n; grep -c other.example /etc/hosts; grep -c from-host /etc/hosts; echo end"],
        "WorkingDir": "/new/place",
        "Healthcheck": {"Test": ["CMD", "a b", "c"]},
        "StopSignal": "SIGQUIT", "StopTimeout": 7, "OpenStdin": true, "Labels": {"k": "v"},
        "Entrypoint": [],
        "HostConfig": {
            "Tmpfs": {"/t1": "mode=700", "/t2": ""}, "Binds": [format!("{}:/made/", source.display())],
            "Mounts": [
                {"Type": "bind", "Source": sandbox.path("files").display().to_string(), "Target": "/b/"},
                {"Type": "tmpfs", "Target": "/t3"},
                {"Type": "volume", "Source": "vol", "Target": "/v", "VolumeOptions": {"NoCopy": true, "Labels": {"l": "1"}}},
            ],
            "Ulimits": [{"Name": "nofile", "Soft": 77, "Hard": 77}], "CgroupnsMode": "private", "ExtraHosts": ["other.example:10.0.0.9"],
            "Annotations": {"org.example": "1"}, "CapAdd": ["NET_RAW"], "CapDrop": ["KILL"], "NetworkMode": "none",
        },
    });
    make(&server, sandbox, "full", &document)?;
    // The source of a bind in the short form is made; a slash at a target's end is nothing.
    ensure!(source.is_dir(), "{}", source.display());
    let found = inspect(&server, "full")?;
    let host = &found["HostConfig"];
    same!(found["Config"]["Healthcheck"]["Test"], json!(["CMD", "a b", "c"]));
    same!((&found["Config"]["StopSignal"], &found["Config"]["StopTimeout"]), (&json!("SIGQUIT"), &json!(7)));
    same!((&found["Config"]["OpenStdin"], &found["Config"]["WorkingDir"]), (&json!(true), &json!("/new/place")));
    same!((&host["CapAdd"], &host["CapDrop"]), (&json!(["NET_RAW"]), &json!(["KILL"])));
    same!((&host["CgroupnsMode"], &host["Annotations"]), (&json!("private"), &json!({"org.example": "1"})));
    same!(host["Ulimits"], json!([{"Name": "nofile", "Soft": 77, "Hard": 77}]));
    ensure!(host["MaskedPaths"].as_array().is_some_and(|paths| paths.contains(&json!("/proc/kcore"))), "{host}");
    ensure!(host["ReadonlyPaths"].as_array().is_some_and(|paths| paths.contains(&json!("/proc/sys"))), "{host}");
    same!((&found["Path"], &found["Args"][0], &found["RestartCount"]), (&json!("sh"), &json!("-c"), &json!(0)));
    let lines = said(&server, "full")?;
    same!(lines.lines().collect::<Vec<_>>(), ["/new/place", "700", "x77", "1", "0", "end"]);
    // Twice the same name; an image that is not there; a health check that is none; no command at all.
    same!(server.ask("POST /containers/create?name=full", "{\"Image\":\"busybox\"}")?.0, 409);
    let (code, answer) = server.ask("POST /containers/create", "{\"Image\":\"nosuch:1\"}")?;
    same!((code, &answer["message"]), (404, &json!("No such image: nosuch:1")));
    make(&server, sandbox, "unwatched", &json!({"Healthcheck": {"Test": ["NONE"]}}))?;
    same!(inspect(&server, "unwatched")?["State"].get("Health"), None);
    // What a client was shown it can send again: the paths, too.
    let mut again = json!({"HostConfig": inspect(&server, "unwatched")?["HostConfig"]});
    again["HostConfig"]["MaskedPaths"] = json!(["/proc/uptime"]);
    again["Cmd"] = json!([
        "sh",
        "-c",
        "wc -c < /proc/uptime; wc -c < /proc/timer_list | grep -qx 0 || echo seen; touch /proc/sys/x 2>&1 | grep -o Read-only"
    ]);
    make(&server, sandbox, "again", &again)?;
    same!(inspect(&server, "again")?["HostConfig"]["MaskedPaths"], json!(["/proc/uptime"]));
    ensure!(said(&server, "again")?.starts_with('0'), "the path is not covered");
    // Devices by what they can, none of which is here.
    let request = json!([{"Driver": "", "Count": -1, "Capabilities": [["gpu"]]}]);
    let asked = json!({"Image": "busybox", "HostConfig": {"NetworkMode": "none", "DeviceRequests": request}});
    let (code, answer) = server.ask("POST /containers/create", &asked.to_string())?;
    same!(code, 404, "{answer}");
    contains!(answer["message"].as_str().unwrap_or_default(), "unresolvable CDI devices nvidia.com/gpu=all");
    let old = json!({"Image": "busybox", "HostConfig": {"NetworkMode": "none", "KernelMemory": 1 << 26}}).to_string();
    let (code, answer) = server.ask("POST /v1.41/containers/create?name=old", &old)?;
    same!((code, answer["Warnings"].as_array().map(Vec::len)), (201, Some(1)));
    crate::audit::remember(sandbox.directory(), answer["Id"].as_str().context("no Id")?)?;
    server.ok(&["rm", "-f", "full", "unwatched", "again", "old"])?;
    same!(server.ask("POST /volumes/prune?filters=%7B%22all%22%3A%5B%22true%22%5D%7D", "")?.0, 200);
    Ok(())
}

fn creations_of_root(sandbox: &Sandbox) -> Result<()> {
    let server = ready(sandbox)?;
    same!(
        server
            .ask(
                "POST /networks/create",
                "{\"Name\": \"n\", \"IPAM\": {\"Config\": [{\"Subnet\": \"10.89.0.0/24\"}]}}"
            )?
            .0,
        201
    );
    let document = json!({
        "Cmd": ["sh", "-c", "cat /sys/class/net/eth0/address; ip -4 -o addr show eth0 | grep -o 'inet [0-9./]*'; nproc; sleep 1000"],
        "MacAddress": "02:42:ac:11:00:99",
        "ExposedPorts": {"81/tcp": {}},
        "HostConfig": {"NetworkMode": "n", "NanoCpus": 500_000_000, "Memory": 64 << 20, "DeviceCgroupRules": ["c 1:3 rwm"], "PortBindings": {"80/tcp": [{"HostPort": ""}]}},
        "NetworkingConfig": {"EndpointsConfig": {"n": {"IPAMConfig": {"IPv4Address": "10.89.0.7"}, "Aliases": ["x"]}}},
    });
    let id = make(&server, sandbox, "one", &document)?;
    make(&server, sandbox, "two", &json!({"HostConfig": {"NetworkMode": format!("container:{id}")}}))?;
    make(&server, sandbox, "three", &json!({"HostConfig": {"NetworkMode": "default"}}))?;
    for name in ["one", "two", "three"] {
        same!(server.ask(&format!("POST /containers/{name}/start"), "")?.0, 204);
    }
    host::until("its lines", sandbox.seconds(20), || {
        Ok(server.ok(&["logs", "one"])?.contains("10.89.0.7/24").then_some(()))
    })?;
    contains!(server.ok(&["logs", "one"])?, "02:42:ac:11:00:99");
    let one = inspect(&server, "one")?;
    same!(one["HostConfig"]["DeviceCgroupRules"], json!(["c 1:3 rwm"]));
    same!(one["HostConfig"]["NanoCpus"], 500_000_000);
    // A port without a number of the host's gets one.
    let port = one["NetworkSettings"]["Ports"]["80/tcp"][0]["HostPort"].as_str().context("no port")?.to_owned();
    ensure!(port.parse::<u16>().is_ok_and(|port| port > 0), "{port}");
    same!(one["NetworkSettings"]["Ports"]["81/tcp"], Value::Null);
    same!(inspect(&server, "two")?["HostConfig"]["NetworkMode"], format!("container:{id}"));
    same!(inspect(&server, "three")?["HostConfig"]["NetworkMode"], "bridge");
    let (_, listed) = server.ask("GET /containers/json", "")?;
    let line =
        listed.as_array().into_iter().flatten().find(|line| line["Names"] == json!(["/one"])).context("not listed")?;
    ensure!(
        line["Ports"]
            .as_array()
            .is_some_and(|ports| ports.iter().any(|one| one["PublicPort"] == port.parse::<u16>().unwrap_or(0))),
        "{line}"
    );
    ensure!(line["NetworkSettings"]["Networks"]["n"]["IPAddress"] == "10.89.0.7", "{line}");
    let (_, stats) = server.ask("GET /containers/one/stats?stream=0&one-shot=1", "")?;
    same!((&stats["id"], &stats["memory_stats"]["limit"]), (&json!(id), &json!(64 << 20)));
    ensure!(
        stats["networks"]["eth0"]["rx_bytes"].is_u64() && stats["cpu_stats"]["online_cpus"].as_u64() > Some(0),
        "{stats}"
    );
    // Already there.
    let (code, answer) = server.ask("POST /networks/n/connect", "{\"Container\": \"one\"}")?;
    same!(code, 403, "{answer}");
    contains!(answer["message"].as_str().unwrap_or_default(), "already exists in network");
    server.ok(&["rm", "-f", "one", "two", "three"])?;
    server.ok(&["network", "rm", "n"])?;
    Ok(())
}

fn lists_and_inspections(sandbox: &Sandbox) -> Result<()> {
    let server = ready(sandbox)?;
    make(&server, sandbox, "made", &json!({"Labels": {"a": "1"}, "HostConfig": {"Binds": ["vol:/v"]}}))?;
    let running = make(&server, sandbox, "runs", &json!({}))?;
    make(&server, sandbox, "ended", &json!({"Cmd": ["sh", "-c", "exit 4"]}))?;
    same!(server.ask("POST /containers/runs/start", "")?.0, 204);
    said(&server, "ended")?;
    let list = |query: &str| -> Result<Vec<Value>> {
        let (code, answer) = server.ask(&format!("GET /containers/json?{query}"), "")?;
        same!(code, 200, "{answer}");
        Ok(answer.as_array().context("a list")?.clone())
    };
    let names = |query: &str| -> Result<Vec<String>> {
        Ok(list(query)?.iter().filter_map(|line| Some(line["Names"][0].as_str()?.to_owned())).collect())
    };
    same!(names("")?, ["/runs"]);
    same!(names("all=1")?, ["/ended", "/runs", "/made"]);
    same!(names("all=1&limit=0")?.len(), 3);
    same!(names("limit=2")?, ["/ended", "/runs"]);
    for (filter, wanted) in [
        ("{\"status\":[\"exited\"]}", &["/ended"][..]),
        ("{\"status\":[\"created\",\"running\"]}", &["/runs", "/made"]),
        ("{\"exited\":[\"4\"]}", &["/ended"]),
        ("{\"label\":{\"a=1\":true}}", &["/made"]),
        ("{\"volume\":[\"vol\"]}", &["/made"]),
        ("{\"name\":[\"un\"]}", &["/runs"]),
        ("{\"ancestor\":[\"busybox\"],\"before\":[\"ended\"]}", &["/runs", "/made"]),
        ("{\"since\":[\"made\"]}", &["/ended", "/runs"]),
        ("{\"network\":[\"none\"],\"health\":[\"none\"]}", &["/ended", "/runs", "/made"]),
    ] {
        let text =
            filter.replace('"', "%22").replace('{', "%7B").replace('}', "%7D").replace('[', "%5B").replace(']', "%5D");
        same!(names(&format!("all=1&filters={text}"))?, wanted, "{filter}");
    }
    let all = list("all=1")?;
    let words = |at: usize, key: &str| all[at][key].as_str().unwrap_or_default().to_owned();
    same!(
        (words(0, "State"), words(1, "State"), words(2, "State")),
        ("exited".into(), "running".into(), "created".into())
    );
    ensure!(words(0, "Status").starts_with("Exited (4) ") && words(1, "Status").starts_with("Up "), "{all:?}");
    same!((words(2, "Status"), words(1, "Image"), words(1, "Id")), ("Created".into(), "busybox".into(), running));
    ensure!(words(1, "ImageID").starts_with("sha256:"), "{}", words(1, "ImageID"));
    same!(all[2]["Mounts"][0]["Destination"], "/v");
    ensure!(!words(1, "Status").contains("health"), "{}", words(1, "Status"));
    one_that_has_ended(&server)?;
    server.ok(&["rm", "-f", "made", "runs", "ended"])?;
    server.ok(&["volume", "rm", "vol"])?;
    Ok(())
}

/// The inspections of the three above, the processes of one, and what `info` counts.
fn one_that_has_ended(server: &Server<'_>) -> Result<()> {
    let found = inspect(server, "ended")?;
    same!((&found["State"]["Status"], &found["State"]["ExitCode"]), (&json!("exited"), &json!(4)));
    ensure!(found["NetworkSettings"]["Networks"].is_object(), "{}", found["NetworkSettings"]);
    let created = found["Created"].as_str().context("no time")?;
    ensure!(created.len() == "2026-01-02T11:58:00.123456789Z".len() && created.ends_with('Z'), "{created}");
    same!(inspect(server, "made")?["State"]["StartedAt"], "0001-01-01T00:00:00Z");
    let (_, top) = server.ask("GET /containers/runs/top", "")?;
    same!(top["Processes"][0].as_array().map(Vec::len), top["Titles"].as_array().map(Vec::len));
    ensure!(
        top["Processes"][0]
            .as_array()
            .is_some_and(|row| row.iter().all(|cell| cell.as_str().is_some_and(|cell| cell == cell.trim()))),
        "{top}"
    );
    same!(
        (server.ask("GET /containers/ended/top", "")?.0, server.ask("GET /containers/nosuch/top", "")?.0),
        (409, 404)
    );
    let (_, info) = server.ask("GET /info", "")?;
    same!(
        (&info["Containers"], &info["ContainersRunning"], &info["ContainersStopped"]),
        (&json!(3), &json!(1), &json!(2))
    );
    ensure!(
        info["SecurityOptions"]
            .as_array()
            .is_some_and(|list| list.iter().any(|one| one.as_str().is_some_and(|one| one.starts_with("name=seccomp")))),
        "{info}"
    );
    ensure!(
        info["RegistryConfig"]["IndexConfigs"]["docker.io"]["Official"] == true
            && info["DefaultAddressPools"].is_array(),
        "{info}"
    );
    Ok(())
}

fn lives(sandbox: &Sandbox) -> Result<()> {
    let server = ready(sandbox)?;
    let trap = "trap 'exit 3' TERM; echo ready; while :; do sleep 0.1; done";
    make(&server, sandbox, "box", &json!({"Cmd": ["sh", "-c", trap], "Tty": true}))?;
    same!(server.ask("POST /containers/box/kill", "")?.0, 409);
    same!(server.ask("POST /containers/box/start", "")?.0, 204);
    same!(server.ask("POST /containers/box/start", "")?.0, 304);
    same!(server.ask("POST /containers/box/kill?signal=nosuch", "")?.0, 400);
    same!(server.ask("DELETE /containers/box", "")?.0, 409);
    sandbox.wait_for_log("box", "ready")?;
    // -1 waits for as long as it takes; 0 waits for nothing.
    same!(server.ask("POST /containers/box/stop?t=-1", "")?.0, 204);
    same!(inspect(&server, "box")?["State"]["ExitCode"], 3);
    same!(server.ask("POST /containers/box/stop", "")?.0, 304);
    same!(server.ask("POST /containers/box/start", "")?.0, 204);
    same!(server.ask("POST /containers/box/resize?h=33&w=77", "")?.0, 200);
    same!(server.ok(&["exec", "box", "sh", "-c", "stty size < /proc/1/fd/0"])?, "33 77");
    same!(server.ask("POST /containers/box/stop?t=0", "")?.0, 204);
    same!(inspect(&server, "box")?["State"]["ExitCode"], 137);
    // One that has ended is no obstacle to attaching, and what it said is there.
    let (code, _) = server.ask("POST /containers/box/attach?stream=0&logs=1&stdout=1", "")?;
    same!(code, 200);
    // A program that is not there fails the session, which says so.
    same!(server.ask("POST /containers/box/start", "")?.0, 204);
    let (code, session) = server.ask("POST /containers/box/exec", "{\"Cmd\": [\"/no/such\"]}")?;
    same!(code, 201);
    let session = session["Id"].as_str().context("no Id")?;
    let (code, answer) = server.ask(&format!("POST /exec/{session}/start"), "{\"Detach\": true}")?;
    same!(code, 400, "{answer}");
    contains!(answer["message"].as_str().unwrap_or_default(), "no such file or directory");
    // A wait that begins before the removal hears of it, with no empty error.
    let mut waiting = server.send("POST /containers/box/wait?condition=removed", "Connection: close\r\n", "")?;
    same!(status(&read_head(&mut waiting)?)?, 200);
    same!(server.ask("DELETE /containers/box?force=1", "")?.0, 204);
    let mut rest = String::new();
    waiting.read_to_string(&mut rest)?;
    ensure!(rest.contains("\"StatusCode\":137") && !rest.contains("Error\":{"), "{rest}");
    for line in [
        "DELETE /containers/box",
        "POST /containers/box/wait",
        "POST /containers/box/stop",
        "POST /containers/box/attach?stream=1",
    ] {
        same!(server.ask(line, "")?.0, 404, "{line}");
    }
    same!(server.ask("POST /containers/prune?filters=%7B%22status%22%3A%5B%22exited%22%5D%7D", "")?.0, 400);
    Ok(())
}

fn media_types(sandbox: &Sandbox) -> Result<()> {
    let server = ready(sandbox)?;
    server.ok(&["run", "-d", "--name", "box", "--network", "none", "busybox", "sleep", "1000"])?;
    for (line, wanted) in [
        ("GET /containers/box/stats?stream=0", "application/json"),
        ("GET /containers/box/stats?stream=0&one-shot=1", "application/json"),
        ("GET /containers/json", "application/json"),
        ("POST /commit?container=box&repo=kept", "application/json"),
        ("GET /events?since=1&until=2", "application/json"),
        ("GET /containers/box/archive?path=/etc", "application/x-tar"),
        ("GET /containers/box/export", "application/octet-stream"),
        ("GET /images/busybox/get", "application/x-tar"),
        ("GET /v1.41/containers/box/logs?stdout=1", "application/vnd.docker.raw-stream"),
        ("GET /containers/box/logs?stdout=1", "application/vnd.docker.multiplexed-stream"),
        ("GET /_ping", "text/plain; charset=utf-8"),
        ("GET /containers/nosuch/json", "application/json"),
        ("POST /images/create?fromImage=UPPER", "application/json"),
        ("POST /images/nosuch/push?tag=1", "application/json"),
    ] {
        let stream = server.send(line, "Connection: close\r\nX-Registry-Auth: e30=\r\n", "")?;
        let mut stream = stream;
        let head = read_head(&mut stream)?.to_ascii_lowercase();
        contains!(head, &format!("content-type: {wanted}\r\n"));
    }
    server.ok(&["rm", "-f", "box"])?;
    server.ok(&["rmi", "kept"])?;
    Ok(())
}

fn logs_and_events(sandbox: &Sandbox) -> Result<()> {
    let server = ready(sandbox)?;
    make(&server, sandbox, "talker", &json!({"Cmd": ["printf", "one\\r\\ntwo\\n\\nlast"]}))?;
    same!(server.ask("POST /containers/talker/start", "")?.0, 204);
    same!(server.ask("POST /containers/talker/wait", "")?.0, 200);
    let frames = |query: &str| -> Result<Vec<String>> {
        let mut stream =
            server.send(&format!("GET /containers/talker/logs?stdout=1&{query}"), "Connection: close\r\n", "")?;
        read_head(&mut stream)?;
        let mut bytes = vec![];
        stream.read_to_end(&mut bytes)?;
        // The pieces of HTTP are lines of their own in front of each frame's first byte.
        let text = String::from_utf8_lossy(&bytes).into_owned();
        Ok(text.split('\u{1}').skip(1).map(str::to_owned).collect())
    };
    let lines = frames("")?;
    // The blank line's length is such a byte, too.
    ensure!(lines.len() == 5 && lines[0].contains("one\r\n") && lines[1].contains("two\n"), "{lines:?}");
    let stamped = frames("timestamps=1&tail=1")?;
    let time = stamped.first().and_then(|line| line.split_whitespace().next()).context("no line")?;
    let time = &time[time.find("20").context("no time")?..];
    same!((time.len(), &time[19..20], &time[29..]), (30, ".", "Z"));
    same!(frames("until=1")?.len(), 0);
    same!(frames("since=9999999999")?.len(), 0);
    // What happens to images, in the words of old and new clients; headers come before anything happens.
    let mut live = server.send("GET /v1.51/events", "", "")?;
    same!(status(&read_head(&mut live)?)?, 200);
    server.ok(&["tag", "busybox", "other:1"])?;
    server.ok(&["rmi", "other:1"])?;
    server.ok(&["rm", "talker"])?;
    let mut text = String::new();
    let mut part = [0; 4096];
    while !text.contains("\"destroy\"") {
        let n = live.read(&mut part)?;
        ensure!(n > 0, "the stream ended: {text}");
        text.push_str(&String::from_utf8_lossy(&part[..n]));
    }
    for words in ["\"Action\":\"tag\"", "\"Action\":\"untag\"", "\"status\":\"destroy\"", "\"timeNano\":"] {
        contains!(text, words);
    }
    // A client that goes leaves nothing that works on.
    let ticks = || -> Result<u64> {
        let stat = fs::read_to_string(format!("/proc/{}/stat", server.pid()))?;
        let fields: Vec<&str> = stat.rsplit_once(')').map_or("", |(_, rest)| rest).split_whitespace().collect();
        Ok(fields.get(11).and_then(|text| text.parse().ok()).unwrap_or(0))
    };
    drop(live);
    let before = ticks()?;
    thread::sleep(Duration::from_millis(500));
    ensure!(ticks()? - before < 25, "it works for a client that has gone");
    Ok(())
}

fn images_and_errors(sandbox: &Sandbox) -> Result<()> {
    let server = ready(sandbox)?;
    let (_, listed) = server.ask("GET /images/json", "")?;
    let line = &listed[0];
    ensure!(line["Id"].as_str().is_some_and(|id| id.starts_with("sha256:")), "{line}");
    same!((&line["SharedSize"], line.get("VirtualSize")), (&json!(-1), None));
    ensure!(server.ask("GET /v1.43/images/json", "")?.1[0]["VirtualSize"].is_u64(), "1.43 has VirtualSize");
    let (_, found) = server.ask("GET /images/busybox/json", "")?;
    same!((found.get("ContainerConfig"), found.get("VirtualSize"), found.get("Parent")), (None, None, None));
    ensure!(
        found["RootFS"]["Layers"].is_array()
            && found["Os"] == "linux"
            && found["Architecture"].is_string()
            && found["Created"].is_string(),
        "{found}"
    );
    ensure!(
        server.ask("GET /v1.44/images/busybox/json", "")?.1["ContainerConfig"].is_object(),
        "1.44 has ContainerConfig"
    );
    let (_, history) = server.ask("GET /images/busybox/history", "")?;
    ensure!(history[0]["Id"].as_str().is_some_and(|id| id.starts_with("sha256:")), "{history}");
    // In use: 409; not there: 404, each with a sentence.
    server.ok(&["run", "-d", "--name", "box", "--network", "none", "busybox", "sleep", "1000"])?;
    for (line, wanted) in [
        ("DELETE /images/busybox", 409),
        ("DELETE /images/nosuch", 404),
        ("DELETE /images/nosuch?noprune=1", 404),
        ("GET /images/nosuch/json", 404),
        ("GET /images/nosuch/history", 404),
        ("POST /images/create?fromImage=%3A%3A", 400),
        ("POST /images/create?fromImage=", 400),
        ("GET /containers/box/archive?path=/no/such", 404),
        ("PUT /containers/box/archive?path=/no/such", 404),
        ("GET /networks/nosuch", 404),
        ("DELETE /networks/nosuch", 404),
        ("GET /volumes/nosuch", 404),
        ("POST /volumes/prune?filters=%7B%22nosuch%22%3A%5B%22x%22%5D%7D", 400),
        ("GET /secrets", 503),
        ("DELETE /secrets/x", 503),
        ("POST /containers/box/checkpoints", 400),
        ("GET /containers/nosuch/checkpoints", 404),
        ("DELETE /containers/box/checkpoints/nosuch", 404),
        ("POST /containers/box/start?checkpoint=nosuch", 404),
    ] {
        let (code, answer) = server.ask(line, "")?;
        // An ordinary user has no checkpoints.
        let same = code == wanted || (line.contains("checkpoint") && code == 503);
        ensure!(same && answer["message"].as_str().is_some_and(|text| !text.is_empty()), "{line}: {code} {answer}");
    }
    same!(server.ask("GET /containers/box/checkpoints", "")?.1, json!([]));
    server.ok(&["rm", "-f", "box"])?;
    // Two images in one archive, and both from one.
    server.ok(&["tag", "busybox", "second:1"])?;
    let path = sandbox.path("both.tar");
    let path = path.to_str().context("UTF-8")?;
    server.ok(&["save", "-o", path, "busybox", "second:1"])?;
    server.ok(&["rmi", "-f", "busybox", "second:1"])?;
    server.ok(&["load", "-i", path])?;
    same!(server.ask("GET /images/json", "")?.1[0]["RepoTags"].as_array().map(Vec::len), Some(2));
    let (_, used) = server.ask("GET /system/df", "")?;
    ensure!(used["LayersSize"].as_u64() > Some(0) && used.get("BuilderSize").is_none_or(|size| *size == 0), "{used}");
    same!(server.ask("POST /images/prune", "")?.1, json!({"ImagesDeleted": [], "SpaceReclaimed": 0}));
    Ok(())
}

fn networks_and_volumes(sandbox: &Sandbox) -> Result<()> {
    let server = ready(sandbox)?;
    let (_, listed) = server.ask("GET /networks", "")?;
    for one in listed.as_array().context("a list")? {
        ensure!(one["Labels"].is_object() && one["Options"].is_object() && one["Scope"] == "local", "{one}");
    }
    // An address configuration that says nothing; no driver; a name that is taken; an option.
    let options = json!({"Name": "n", "IPAM": {"Config": []}, "Options": {"com.docker.network.driver.mtu": "1400"}});
    same!(server.ask("POST /networks/create", &options.to_string())?.0, 201);
    same!(server.ask("POST /networks/create", "{\"Name\": \"n\", \"CheckDuplicate\": true}")?.0, 409);
    same!(server.ask("POST /networks/create", "{\"Name\": \"bridge\"}")?.0, 403);
    same!(
        server
            .ask("POST /networks/create", "{\"Name\": \"m\", \"IPAM\": {\"Driver\": \"default\", \"Config\": [{}]}}")?
            .0,
        201
    );
    make(&server, sandbox, "box", &json!({"HostConfig": {"NetworkMode": "n", "Binds": ["vol:/v"]}}))?;
    same!(server.ask("POST /containers/box/start", "")?.0, 204);
    let (_, found) = server.ask("GET /networks/n", "")?;
    same!((&found["Driver"], &found["Options"]["com.docker.network.driver.mtu"]), (&json!("bridge"), &json!("1400")));
    let member = found["Containers"].as_object().and_then(|map| map.values().next()).context("no container")?;
    let subnet = found["IPAM"]["Config"][0]["Subnet"].as_str().context("no subnet")?;
    ensure!(
        member["IPv4Address"].as_str().and_then(|text| text.split_once('/')).map(|pair| pair.1)
            == subnet.split_once('/').map(|pair| pair.1),
        "{found}"
    );
    same!(server.ok(&["exec", "box", "cat", "/sys/class/net/eth0/mtu"])?, "1400");
    for filters in [
        "%7B%22name%22%3A%5B%22n%22%5D%2C%22driver%22%3A%5B%22bridge%22%5D%7D",
        "%7B%22name%22%3A%7B%22n%22%3Atrue%7D%2C%22driver%22%3A%7B%22bridge%22%3Atrue%7D%7D",
    ] {
        let (_, listed) = server.ask(&format!("GET /networks?filters={filters}"), "")?;
        ensure!(listed.as_array().is_some_and(|list| list.iter().any(|one| one["Name"] == "n")), "{listed}");
    }
    let (_, used) = server.ask("GET /system/df", "")?;
    same!((&used["Volumes"][0]["Name"], &used["Volumes"][0]["UsageData"]["RefCount"]), (&json!("vol"), &json!(1)));
    // Without a name it gets one; the same again is no failure; a filter that is none removes nothing.
    let (code, volume) = server.ask("POST /volumes/create", "{}")?;
    same!((code, volume["Name"].as_str().map(str::len)), (201, Some(64)));
    same!(server.ask("POST /volumes/create", "{\"Name\": \"vol\"}")?.0, 201);
    same!(server.ask("POST /volumes/prune?filters=%7B%22x%22%3A%5B%22y%22%5D%7D", "")?.0, 400);
    same!(server.ask("GET /volumes", "")?.1["Volumes"].as_array().map(Vec::len), Some(2));
    server.ok(&["rm", "-f", "box"])?;
    let (_, pruned) = server.ask("POST /networks/prune", "")?;
    same!(pruned["NetworksDeleted"].as_array().map(Vec::len), Some(2));
    same!(server.ask("POST /networks/prune", "")?.1["NetworksDeleted"], json!([]));
    same!(server.ask("POST /volumes/prune?filters=%7B%22all%22%3A%5B%22true%22%5D%7D", "")?.0, 200);
    Ok(())
}

/// A client that says at once that it has said all is answered all the same; one that goes is not waited for.
fn half_closed(sandbox: &Sandbox) -> Result<()> {
    let server = ready(sandbox)?;
    make(&server, sandbox, "box", &json!({"Cmd": ["sleep", "1000"]}))?;
    same!(server.ask("POST /containers/box/start", "")?.0, 204);
    for (line, content) in [
        ("GET /info", ""),
        ("GET /containers/json?all=1&size=1", ""),
        ("POST /containers/create", "{\"Image\": \"nosuch\"}"),
        ("GET /containers/box/stats?stream=0", ""),
        ("GET /containers/box/archive?path=/bin", ""),
    ] {
        let mut stream = server.send(line, "", content)?;
        stream.shutdown(Shutdown::Write)?;
        let head = read_head(&mut stream).with_context(|| line.to_owned())?;
        ensure!([200, 404].contains(&status(&head)?), "{line}: {head}");
        // It ends by itself: nothing else will be asked.
        let mut rest = vec![];
        stream.read_to_end(&mut rest)?;
    }
    // One that waits for long: as long as it is there, and no longer.
    let count = || -> Result<usize> { Ok(fs::read_dir(format!("/proc/{}/fd", server.pid()))?.count()) };
    let before = count()?;
    let mut waiting = vec![];
    for _ in 0..8 {
        let mut stream = server.send("POST /containers/box/wait", "", "")?;
        read_head(&mut stream)?;
        stream.shutdown(Shutdown::Write)?;
        waiting.push(stream);
    }
    let mut last = waiting.pop().context("none")?;
    drop(waiting);
    host::until("those that have gone are let go", sandbox.seconds(20), || Ok((count()? <= before + 4).then_some(())))?;
    same!(server.ask("POST /containers/box/kill", "")?.0, 204);
    let mut rest = String::new();
    last.read_to_string(&mut rest)?;
    contains!(rest, "\"StatusCode\":137");
    // In the middle of a request nobody is waited for.
    let mut broken = server.send("POST /containers/create", "Content-Length: 100\r\n", "")?;
    broken.shutdown(Shutdown::Write)?;
    let mut rest = vec![];
    broken.read_to_end(&mut rest)?;
    server.ok(&["rm", "-f", "box"])?;
    Ok(())
}

/// A client that asks for a stopped container's files and takes none of them keeps nobody from the container.
fn reader_that_stops(sandbox: &Sandbox) -> Result<()> {
    let server = ready(sandbox)?;
    make(
        &server,
        sandbox,
        "box",
        &json!({"Cmd": ["sleep", "1000"], "HostConfig": {"Binds": ["vol:/not/there/before"]}}),
    )?;
    let mut stopped = vec![];
    for _ in 0..3 {
        let mut stream = server.send("GET /containers/box/archive?path=/", "Connection: close\r\n", "")?;
        same!(status(&read_head(&mut stream)?)?, 200);
        stopped.push(stream);
    }
    same!(server.ask("POST /containers/box/start", "")?.0, 204);
    same!(server.ok(&["exec", "box", "echo", "runs"])?, "runs");
    same!(server.ask("POST /containers/box/stop?t=0", "")?.0, 204);
    // Whoever goes on reading gets all of it.
    let mut whole = vec![];
    stopped.pop().context("none")?.read_to_end(&mut whole)?;
    ensure!(whole.len() > 1 << 20, "{} bytes", whole.len());
    same!(server.ask("DELETE /containers/box?force=1", "")?.0, 204);
    drop(stopped);
    server.ok(&["volume", "rm", "vol"])?;
    Ok(())
}

/// The head of a file in a tar archive.
fn tar_head(name: &str, size: u64) -> Vec<u8> {
    let mut head = vec![0; 512];
    let mut put = |at: usize, text: &str| head[at..at + text.len()].copy_from_slice(text.as_bytes());
    put(0, name);
    put(100, "0000644");
    put(108, "0000000");
    put(116, "0000000");
    put(124, &format!("{size:011o}"));
    put(136, "00000000000");
    put(148, "        ");
    put(156, "0");
    put(257, "ustar");
    put(263, "00");
    let sum: u32 = head.iter().map(|&byte| u32::from(byte)).sum();
    head[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    head
}

/// A pull ends when its client has gone: the registry sees its connection closed long before the layer's end.
fn pull_is_given_up(sandbox: &Sandbox) -> Result<()> {
    const SIZE: u64 = 1 << 30;
    let layout = Layout::unpack(sandbox, "busybox")?;
    let (_, mut manifest) = layout.manifest()?;
    let config = fs::read(layout.blob(manifest["config"]["digest"].as_str().context("no digest")?))?;
    manifest["layers"][0]["mediaType"] = "application/vnd.oci.image.layer.v1.tar".into();
    manifest["layers"][0]["size"] = SIZE.into();
    let (layer, manifest) = (layout.layer(0)?, manifest.to_string());
    let given_up = Arc::new(AtomicBool::new(false));
    let seen = given_up.clone();
    let address = registry::serve(move |request, stream| {
        let whole = |stream: &mut std::net::TcpStream, kind: &str, bytes: &[u8]| {
            write!(stream, "HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nContent-Length: {}\r\n\r\n", bytes.len())?;
            if request.starts_with("HEAD") { Ok(()) } else { stream.write_all(bytes) }
        };
        if request.contains("/manifests/") {
            return whole(stream, "application/vnd.oci.image.manifest.v1+json", manifest.as_bytes());
        }
        if !request.contains(layer.as_str()) {
            let bytes = if request.contains("/blobs/") { config.as_slice() } else { b"{}" };
            return whole(stream, "application/octet-stream", bytes);
        }
        write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: {SIZE}\r\n\r\n")?;
        stream.write_all(&tar_head("big", SIZE - 4096))?;
        let piece = vec![0; 64 << 10];
        for _ in 0..8000 {
            if let Err(error) = stream.write_all(&piece) {
                seen.store(true, Relaxed);
                return Err(error);
            }
            thread::sleep(Duration::from_millis(5));
        }
        Ok(())
    })?;
    let server = Server::start(sandbox)?;
    let mut client = server.send(&format!("POST /images/create?fromImage={address}/big&tag=latest"), "", "")?;
    same!(status(&read_head(&mut client)?)?, 200);
    let mut part = [0; 64];
    ensure!(client.read(&mut part)? > 0, "nothing is said");
    drop(client);
    host::until("the registry sees that nobody wants it", sandbox.seconds(30), || {
        Ok(given_up.load(Relaxed).then_some(()))
    })?;
    same!(server.ask("GET /images/json", "")?.1, json!([]));
    Ok(())
}

#[cfg(test)]
mod tests {
    /// The table names tests that there are.
    #[test]
    fn the_table_names_tests() {
        let names: Vec<&str> = crate::cases::all().map(|case| case.name).collect();
        let text = include_str!("../../../../docs/docker-api-bugs.md");
        let words = text.split(|letter: char| !(letter.is_ascii_lowercase() || matches!(letter, ':' | '_')));
        let modules: Vec<&str> = names.iter().filter_map(|name| Some(name.split_once("::")?.0)).collect();
        let named = words.filter(|word| word.split_once("::").is_some_and(|(module, _)| modules.contains(&module)));
        // A colon may follow a name.
        let named: Vec<&str> = named.map(|word| word.trim_end_matches(':')).collect();
        assert!(named.len() > 100);
        for word in named {
            assert!(names.contains(&word), "{word}");
        }
        assert_eq!(text.lines().filter(|line| line.starts_with("| ") && !line.starts_with("| |")).count(), 216);
    }
}
