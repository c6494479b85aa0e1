//! The Docker Engine API, used by newer programs that `cargo xtask test` installs from PyPI: Compose v5, docker-py 7,
//! testcontainers with real services and its own ways to wait for them.

use std::process::Command;

use anyhow::Result;

use crate::case::{cases, contains, same};
use crate::clients;
use crate::host;
use crate::sandbox::Sandbox;
use crate::server::Server;

cases![docker_newer: compose [Root], testcontainers [Root, Long], docker_py];

/// Runs a program of Python's environment against the server.
fn run(sandbox: &Sandbox, server: &Server<'_>, name: &str, words: &[&str]) -> Result<String> {
    let program = clients::find(&format!("python/bin/{name}"))?;
    let mut command = clients::command(sandbox, server, &program, words);
    command.env("COMPOSE_MENU", "false").env("COMPOSE_PROGRESS", "plain").env("RYUK_RECONNECTION_TIMEOUT", "1s");
    sandbox.finish_command(command, "")?.success()
}

const PROJECT: &str = r#"
name: shop
services:
  web:
    image: python:3.11
    command: ["python3", "-u", "-m", "http.server", "8000", "--directory", "/data"]
    volumes: ["data:/data", {type: tmpfs, target: /scratch}]
    ports: ["18081:8000"]
    environment: {GREETING: hello}
    labels: {purpose: test}
    depends_on: {redis: {condition: service_healthy}}
    networks: {front: {aliases: [shopfront]}, back: {}}
  redis:
    image: redis:7
    healthcheck: {test: ["CMD", "redis-cli", "ping"], interval: 1s, timeout: 3s, retries: 20}
    networks: [back]
    deploy: {replicas: 1, resources: {limits: {memory: 256M}}}
  once:
    image: redis:7
    command: ["redis-cli", "-h", "redis", "set", "seen", "yes"]
    depends_on: {redis: {condition: service_healthy}}
    networks: [back]
    profiles: [later]
volumes: {data: {}}
networks: {front: {}, back: {internal: true}}
"#;

fn compose(sandbox: &Sandbox) -> Result<()> {
    clients::find("python/bin/docker-compose")?;
    sandbox.load("redis")?;
    sandbox.load("python")?;
    sandbox.file("compose.yaml", PROJECT)?;
    let server = Server::start(sandbox)?;
    let compose = |words: &[&str]| run(sandbox, &server, "docker-compose", words);
    compose(&["up", "-d", "--pull", "never"])?;
    contains!(compose(&["ps", "--format", "{{.Service}} {{.State}} {{.Health}}"])?, "redis running healthy");
    same!(compose(&["exec", "-T", "web", "sh", "-c", "echo $GREETING > /data/page; getent hosts redis | wc -l"])?, "1");
    let page = host::until("the page", sandbox.seconds(30), || {
        let mut curl = Command::new("curl");
        Ok(host::succeed(curl.args(["-s", "-m", "5", "--fail", "http://127.0.0.1:18081/page"])).ok())
    })?;
    same!(page.trim(), "hello");
    contains!(compose(&["logs", "--no-color", "web"])?, "GET /page");
    same!(compose(&["run", "--rm", "-T", "once"])?.lines().last(), Some("OK"));
    same!(compose(&["exec", "-T", "redis", "redis-cli", "get", "seen"])?, "yes");
    // What has not changed stays; what has is made anew.
    let before = compose(&["ps", "-q"])?;
    compose(&["up", "-d", "--pull", "never"])?;
    same!(compose(&["ps", "-q"])?, before);
    sandbox.file("compose.yaml", PROJECT.replace("GREETING: hello", "GREETING: other"))?;
    compose(&["up", "-d", "--pull", "never"])?;
    same!(compose(&["exec", "-T", "web", "sh", "-c", "echo $GREETING; cat /data/page"])?, "other\nhello");
    compose(&["stop", "-t", "0"])?;
    compose(&["start"])?;
    compose(&["cp", "redis:/etc/hostname", "name"])?;
    contains!(compose(&["top"])?, "redis-server");
    compose(&["down", "-v", "-t", "0"])?;
    same!(server.ok(&["ps", "-aq"])?, "");
    same!(server.ok(&["volume", "ls", "-q"])?, "");
    same!(server.ok(&["network", "ls", "-q", "-f", "type=custom"])?, "");
    Ok(())
}

const SERVICES: &str = r#"
import faulthandler
faulthandler.dump_traceback_later(200, exit=True)
import psycopg2
from testcontainers.core.container import DockerContainer
from testcontainers.core.waiting_utils import wait_for_logs
from testcontainers.postgres import PostgresContainer
from testcontainers.redis import RedisContainer
with RedisContainer("redis:7") as redis:
    client = redis.get_client()
    client.set("a", "b")
    assert client.get("a") == b"b"
# The test image knows the superuser only.
with PostgresContainer("postgres:15", username="postgres", dbname="postgres", driver=None) as postgres:
    url = postgres.get_connection_url()
    with psycopg2.connect(url) as connection, connection.cursor() as cursor:
        cursor.execute("select 6 * 7")
        assert cursor.fetchone() == (42,)
with DockerContainer("busybox").with_command("sh -c 'sleep 0.3; echo ready; sleep 100'") as box:
    wait_for_logs(box, "ready", timeout=20)
    assert box.exec(["echo", "x"]).output == b"x\n"
# Nobody stops this one but the reaper, which itself is removed by a client that ends in peace.
DockerContainer("busybox").with_command("sleep 1000").start()
print("all well", flush=True)
import os
os._exit(0)
"#;

fn testcontainers(sandbox: &Sandbox) -> Result<()> {
    clients::find("python/bin/python3")?;
    for image in ["busybox", "redis", "postgres"] {
        sandbox.load(image)?;
    }
    clients::reaper(sandbox)?;
    let server = Server::start(sandbox)?;
    let script = sandbox.file("services.py", SERVICES)?;
    contains!(run(sandbox, &server, "python3", &["-W", "ignore", &script])?, "all well");
    clients::reaped(sandbox, &server)
}

const LIBRARY: &str = r#"
import docker
client = docker.from_env()
assert client.info()["OSType"] == "linux"
box = client.containers.create("busybox", "sh -c 'read x; echo got $x'", stdin_open=True, network_mode="none")
sock = client.api.attach_socket(box.id, {"stdin": 1, "stdout": 1, "stderr": 1, "stream": 1})
box.start()
sock._sock.sendall(b"words\n")
assert box.wait()["StatusCode"] == 0
assert box.logs() == b"got words\n"
stats = client.containers.run("busybox", "sleep 100", detach=True, network_mode="none")
one = stats.stats(stream=False)
assert one["cpu_stats"]["cpu_usage"]["total_usage"] > 0 and one["memory_stats"]["usage"] > 0, one
many = stats.stats(stream=True, decode=True)
assert next(many)["id"] == stats.id and next(many)["precpu_stats"]["cpu_usage"]["total_usage"] > 0
events = client.events(decode=True, filters={"container": stats.id, "event": "die"})
stats.kill()
assert next(events)["Actor"]["Attributes"]["exitCode"] == "137"
stats.remove(); box.remove()
assert client.images.get("busybox").history()[0]["Size"] > 0
print("all well")
"#;

fn docker_py(sandbox: &Sandbox) -> Result<()> {
    clients::find("python/bin/python3")?;
    sandbox.load("busybox")?;
    let server = Server::start(sandbox)?;
    let script = sandbox.file("library.py", LIBRARY)?;
    same!(run(sandbox, &server, "python3", &[&script])?, "all well");
    Ok(())
}
