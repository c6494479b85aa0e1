//! The Docker Engine API, used by programs that know nothing of dhow: docker-py, Compose.

use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde_json::json;

use crate::case::{cases, contains, same, skip};
use crate::host;
use crate::registry::Registry;
use crate::sandbox::Sandbox;
use crate::server::Server;

cases![docker_clients: images_go_out, what_a_container_became, docker_py [Root], compose [Root]];

fn images_go_out(sandbox: &Sandbox) -> Result<()> {
    let registry = Registry::empty(sandbox, "target", None)?;
    sandbox.load("busybox")?;
    let server = Server::start(sandbox)?;
    let archive = sandbox.path("files/saved.tar");
    let archive = archive.to_str().context("UTF-8")?;
    server.ok(&["save", "-o", archive, "busybox"])?;
    let name = format!("{}/mine/box:v1", registry.address);
    server.ok(&["tag", "busybox", &name])?;
    let pushed = server.docker(&["push", &name])?;
    contains!(pushed.success()?, "digest: sha256:");
    server.ok(&["rmi", "-f", &name])?;
    server.ok(&["rmi", "-f", "busybox"])?;
    contains!(server.ok(&["load", "-i", archive])?, "Loaded image: busybox:latest");
    same!(server.ask("GET /images/nosuch/get", "")?.0, 404);
    let account = json!({"username": "a", "password": "b", "serveraddress": registry.address});
    same!(server.ask("POST /auth", &account.to_string())?.1["Status"], "Login Succeeded");
    Ok(())
}

fn what_a_container_became(sandbox: &Sandbox) -> Result<()> {
    sandbox.load("busybox")?;
    let server = Server::start(sandbox)?;
    let change = "echo kept > /new; rm /etc/group";
    server.ok(&["run", "--name", "box", "--network", "none", "busybox", "sh", "-c", change])?;
    let (code, changes) = server.ask("GET /containers/box/changes", "")?;
    same!(code, 200);
    let wanted = json!([{"Path": "/etc", "Kind": 0}, {"Path": "/etc/group", "Kind": 2}, {"Path": "/new", "Kind": 1}]);
    same!(changes, wanted);
    let id = server.ok(&["commit", "-m", "why", "-c", "CMD [\"cat\", \"/new\"]", "box", "made:1"])?;
    contains!(id, "sha256:");
    same!(server.ok(&["run", "--rm", "--network", "none", "made:1"])?, "kept");
    same!(server.ask("POST /commit?container=nosuch", "")?.0, 404);
    same!(server.ask("POST /commit?container=box&changes=NOSUCH+x", "")?.0, 400);
    let asked = json!({"Cmd": ["sh", "-c", "echo \"$WORDS\""], "Env": ["WORDS=two \"words\""], "Labels": {"a b": "c"}, "User": "1"});
    let (code, made) = server.ask("POST /commit?container=box&repo=asked", &asked.to_string())?;
    same!((code, made["Id"].is_string()), (201, true));
    same!(server.ok(&["run", "--rm", "--network", "none", "asked"])?, "two \"words\"");
    same!(server.ok(&["inspect", "-f", "{{json .Config.Labels}} {{.Config.User}}", "asked"])?, "{\"a b\":\"c\"} 1");
    let check = json!({"Test": ["CMD-SHELL", "cat /new\ntrue"], "Interval": 5_000_000_000_u64, "Retries": 2});
    let asked = json!({"Healthcheck": check, "OnBuild": ["RUN a"], "Shell": ["/bin/ash", "-c"], "Env": ["TWO=a\nb"]});
    let (code, made) = server.ask("POST /commit?container=box&repo=more", &asked.to_string())?;
    same!(code, 201, "{made}");
    let config = server.ask("GET /images/more/json", "")?.1["Config"].clone();
    same!((&config["OnBuild"], &config["Shell"]), (&asked["OnBuild"], &asked["Shell"]));
    same!(config["Healthcheck"], asked["Healthcheck"]);
    ensure!(config["Env"].as_array().is_some_and(|env| env.contains(&json!("TWO=a\nb"))), "{config}");
    same!(server.ask("POST /commit?container=box", "{\"OnBuild\": [\"FROM a\"]}")?.0, 400);

    let archive = sandbox.path("files/box.tar");
    let archive = archive.to_str().context("UTF-8")?;
    server.ok(&["export", "-o", archive, "box"])?;
    server.docker(&["export", "-o", archive, "nosuch"])?.fails(1, &["No such container"])?;
    server.ok(&["import", "-c", "CMD cat /new", archive, "imported:1"])?;
    same!(server.ok(&["run", "--rm", "--network", "none", "imported:1"])?, "kept");
    same!(server.ask("POST /images/create?fromSrc=-", "no archive")?.0, 500);
    server.ok(&["rm", "box"])?;
    Ok(())
}

const DOCKER_PY: &str = r#"
import docker, io, tarfile
client = docker.from_env()
assert client.ping() and client.version()["ApiVersion"]
network = {"network_mode": "none"}
assert client.containers.run("busybox", "echo hi", remove=True, **network) == b"hi\n"
try:
    client.containers.run("busybox", "sh -c 'echo bad >&2; exit 3'", remove=True, **network)
    raise SystemExit("no ContainerError")
except docker.errors.ContainerError as error:
    assert error.exit_status == 3 and error.stderr == b"bad\n", error
box = client.containers.run("busybox", "sleep 1000", detach=True, name="box", labels={"a": "b"}, **network)
assert [c.name for c in client.containers.list(filters={"label": "a=b"})] == ["box"]
code, output = box.exec_run(["sh", "-c", "echo out; echo err >&2; exit 4"], demux=True)
assert (code, output) == (4, (b"out\n", b"err\n")), (code, output)
code, stream = box.exec_run("seq 3", stream=True)
assert b"".join(stream) == b"1\n2\n3\n"
socket = box.exec_run("cat", stdin=True, socket=True).output._sock
socket.sendall(b"typed\n")
assert socket.recv(8)[0] == 1 and socket.recv(100) == b"typed\n"
socket.close()
packed = io.BytesIO()
with tarfile.open(fileobj=packed, mode="w") as archive:
    info = tarfile.TarInfo("x"); info.size = 2
    archive.addfile(info, io.BytesIO(b"ok"))
assert box.put_archive("/tmp", packed.getvalue())
bits, stat = box.get_archive("/tmp/x")
assert stat["name"] == "x" and stat["size"] == 2, stat
with tarfile.open(fileobj=io.BytesIO(b"".join(bits))) as archive:
    assert archive.extractfile("x").read() == b"ok"
box.reload(); assert box.status == "running"
box.pause(); box.reload(); assert box.status == "paused"; box.unpause()
assert box.top()["Titles"]
box.rename("other"); box.reload(); assert box.name == "other"
box.stop(timeout=0)
assert box.wait()["StatusCode"] == 137
box.remove()
try:
    client.containers.get("box")
    raise SystemExit("no NotFound")
except docker.errors.NotFound:
    pass
talker = client.containers.create("busybox", "sh -c 'echo 1; echo 2 >&2'", **network)
stream = talker.attach(stream=True, stdout=True, stderr=True, logs=True)
talker.start()
assert sorted(stream) == [b"1\n", b"2\n"]
assert talker.logs(stdout=True, stderr=False) == b"1\n"
talker.remove()
image = client.images.get("busybox")
assert image.tags == ["busybox:latest"] and image.tag("box", "v1")
client.images.remove("box:v1")
assert client.volumes.list() == [] and client.df()["Images"]
print("all well")
"#;

fn docker_py(sandbox: &Sandbox) -> Result<()> {
    sandbox.load("busybox")?;
    let server = Server::start(sandbox)?;
    let script = sandbox.file("client.py", DOCKER_PY)?;
    let known = Command::new("/usr/bin/python3").args(["-c", "import docker"]).output();
    if !known.is_ok_and(|output| output.status.success()) {
        return skip("python3-docker is not installed");
    }
    let mut command = Command::new("/usr/bin/python3");
    command.arg(script).env("DOCKER_HOST", format!("unix://{}", server.socket.display()));
    command.env("DOCKER_CONFIG", sandbox.path("docker"));
    same!(sandbox.finish_command(command, "")?.success()?, "all well");
    Ok(())
}

const COMPOSE: &str = r#"
version: "3.8"
services:
  web:
    image: python:3.11
    command: ["python3", "-u", "/app/app.py"]
    volumes: ["./app:/app:ro", "data:/data"]
    ports: ["18080:8000"]
    depends_on: [redis]
  redis:
    image: redis:7
volumes: {data: {}}
"#;

const COUNTER: &str = r#"
import http.server, socket
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        redis = socket.create_connection(("redis", 6379)); redis.sendall(b"INCR hits\r\n")
        body = ("hits " + redis.recv(100).decode().strip().lstrip(":")).encode(); redis.close()
        open("/data/last", "wb").write(body)
        self.send_response(200); self.send_header("Content-Length", str(len(body))); self.end_headers(); self.wfile.write(body)
http.server.HTTPServer(("", 8000), Handler).serve_forever()
"#;

fn compose(sandbox: &Sandbox) -> Result<()> {
    let Some(program) = host::program("docker-compose") else { return skip("docker-compose is not installed") };
    sandbox.load("redis")?;
    sandbox.load("python")?;
    let server = Server::start(sandbox)?;
    sandbox.file("project/docker-compose.yml", COMPOSE)?;
    sandbox.file("project/app/app.py", COUNTER)?;
    let run = |words: &[&str]| {
        let mut command = Command::new(&program);
        command.args(words).current_dir(sandbox.path("files/project"));
        command.env("DOCKER_HOST", format!("unix://{}", server.socket.display()));
        command.env("DOCKER_CONFIG", sandbox.path("docker"));
        sandbox.finish_command(command, "")?.success()
    };
    run(&["up", "-d"])?;
    for count in 1..=2 {
        let page = host::until("the page", sandbox.seconds(30), || {
            let mut curl = Command::new("curl");
            let answer = host::succeed(curl.args(["-s", "-m", "5", "--fail", "http://127.0.0.1:18080/"]));
            Ok(answer.ok())
        })?;
        same!(page, format!("hits {count}"));
    }
    contains!(run(&["ps"])?, "Up");
    contains!(run(&["logs", "web"])?, "GET /");
    same!(run(&["exec", "-T", "redis", "redis-cli", "get", "hits"])?, "2");
    // What has not changed stays as it is.
    let before = server.ok(&["ps", "-q", "--no-trunc"])?;
    run(&["up", "-d"])?;
    same!(server.ok(&["ps", "-q", "--no-trunc"])?, before);
    run(&["down", "-v", "-t", "0"])?;
    same!(server.ok(&["ps", "-aq"])?, "");
    same!(server.ok(&["volume", "ls", "-q"])?, "");
    Ok(())
}
