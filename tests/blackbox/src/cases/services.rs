//! Programs that people run in containers: redis, nginx, postgres, a python script.

use std::fs;

use anyhow::{Result, ensure};

use crate::case::{cases, contains, same, skip};
use crate::host;
use crate::sandbox::Sandbox;

cases![services:
    redis, redis_on_its_address [Root], nginx_serves_a_mounted_page, postgres_keeps_its_data [Alone, Long],
    python_within_limits [Alone, Long],
];

/// With a network of its own where there is one, else none: a service answers on loopback all the same.
fn network() -> [&'static str; 2] {
    ["--network", if host::is_root() { "bridge" } else { "none" }]
}

fn start(sandbox: &Sandbox, options: &[&str], image: &str) -> Result<String> {
    sandbox.ok([&["run", "-d"], &network()[..], options, &[image]].concat())
}

fn redis(sandbox: &Sandbox) -> Result<()> {
    sandbox.load("redis")?;
    let id = start(sandbox, &[], "redis:7")?;
    sandbox.wait_for_log(&id, "Ready to accept connections")?;
    same!(sandbox.ok(["exec", &id, "redis-cli", "ping"])?, "PONG");
    same!(sandbox.ok(["exec", &id, "redis-cli", "set", "key", "value"])?, "OK");
    same!(sandbox.ok(["exec", &id, "redis-cli", "get", "key"])?, "value");
    // It does not run as root, though the container started so.
    let status = fs::read_to_string(format!("/proc/{}/status", sandbox.pid(&id)?))?;
    ensure!(!status.contains("Uid:\t0\t"), "redis runs as root");
    sandbox.ok(["stop", &id])?;
    same!(sandbox.ok(["wait", &id])?, "0");
    Ok(())
}

fn redis_on_its_address(sandbox: &Sandbox) -> Result<()> {
    sandbox.load("redis")?;
    let id = start(sandbox, &[], "redis:7")?;
    sandbox.wait_for_log(&id, "Ready to accept connections")?;
    let inspected = sandbox.inspect(&id)?;
    let Some(address) = inspected["NetworkSettings"]["Networks"]["bridge"]["IPAddress"].as_str() else {
        anyhow::bail!("inspect names no address: {}", inspected["NetworkSettings"])
    };
    let client = ["run", "--rm", "--entrypoint", "redis-cli", "redis:7", "-h", address, "ping"];
    same!(sandbox.ok(client)?, "PONG");
    Ok(())
}

fn nginx_serves_a_mounted_page(sandbox: &Sandbox) -> Result<()> {
    sandbox.load("nginx")?;
    sandbox.load("busybox")?;
    sandbox.file("html/index.html", "the mounted page\n")?;
    let volume = format!("{}:/usr/share/nginx/html:ro", sandbox.path("files/html").display());
    let id = start(sandbox, &["-v", &volume], "nginx")?;
    let page = if host::is_root() {
        let address = sandbox.ok(["inspect", "--format", "{{.NetworkSettings.Networks.bridge.IPAddress}}", &id])?;
        let client = format!(
            "for i in 1 2 3 4 5 6 7 8 9 10 11 12; do wget -q -O - http://{address}/ 2>/dev/null && exit; sleep 0.5; done; exit 1"
        );
        sandbox.busybox(&[], &client)?
    } else {
        // No address outside: asked from inside, with what the shell has.
        let client = "exec 3<>/dev/tcp/127.0.0.1/80 && printf 'GET / HTTP/1.0\\r\\n\\r\\n' >&3 && cat <&3 | tail -n 1";
        host::until("nginx answers", sandbox.seconds(20), || {
            let asked = sandbox.dhow(["exec", &id, "bash", "-c", client])?;
            Ok((asked.code == 0).then(|| asked.stdout.trim().to_owned()))
        })?
    };
    same!(page, "the mounted page");
    contains!(sandbox.ok(["logs", &id])?, "GET /");
    sandbox.ok(["stop", &id])?;
    same!(sandbox.ok(["wait", &id])?, "0");
    Ok(())
}

fn postgres_keeps_its_data(sandbox: &Sandbox) -> Result<()> {
    sandbox.load("postgres")?;
    let data = sandbox.path("files/pgdata");
    fs::create_dir(&data)?;
    let volume = format!("{}:/var/lib/postgresql/data", data.display());
    let id = start(sandbox, &["--name", "db", "-e", "POSTGRES_PASSWORD=secret", "-v", &volume], "postgres:15")?;
    let query = |text: &str| sandbox.dhow(["exec", "-u", "postgres", "db", "psql", "-Atc", text]);
    let ready =
        || host::until("postgres answers", sandbox.seconds(60), || Ok((query("select 1")?.code == 0).then_some(())));
    ready()?;
    query("create table kept (word text); insert into kept values ('still here')")?.success()?;
    sandbox.ok(["stop", "-t", "60", &id])?;
    // An orderly shutdown on the image's own signal.
    same!(sandbox.ok(["inspect", "--format", "{{.State.ExitCode}}", "db"])?, "0");
    sandbox.ok(["start", "db"])?;
    ready()?;
    same!(query("select word from kept")?.success()?, "still here");
    sandbox.ok(["rm", "-f", "db"])?;
    // A new container on the same data.
    start(sandbox, &["--name", "db", "-v", &volume], "postgres:15")?;
    ready()?;
    same!(query("select word from kept")?.success()?, "still here");
    sandbox.ok(["rm", "-f", "-v", "db"])?;
    Ok(())
}

fn python_within_limits(sandbox: &Sandbox) -> Result<()> {
    if !host::is_root() && !host::pure_cgroup_v2() {
        return skip("an ordinary user gets no cgroup v1 of his own");
    }
    sandbox.load("python")?;
    sandbox.file("code/eat.py", "import sys\nblocks = []\nfor _ in range(int(sys.argv[1])):\n    blocks.append(bytearray(b'x') * (1 << 20))\nprint(len(blocks))\n")?;
    sandbox.file(
        "code/fork.py",
        "import os, time\ncount = 0\ntry:\n    while count < 200:\n        if os.fork() == 0:\n            time.sleep(5)\n            os._exit(0)\n        count += 1\nexcept OSError as error:\n    print(count, error.strerror)\n",
    )?;
    let volume = format!("{}:/code:ro", sandbox.path("files/code").display());
    let limits = [
        "--network",
        "none",
        "-m",
        "64m",
        "--memory-swap",
        "64m",
        "--cpus",
        "0.5",
        "--pids-limit",
        "50",
        "-v",
        &volume,
    ];
    let run = |name: &str, words: &[&str]| {
        sandbox.dhow([&["run", "--name", name], &limits[..], &["python:3.11", "python3"], words].concat())
    };
    same!(run("small", &["/code/eat.py", "20"])?.success()?, "20");
    same!(run("large", &["/code/eat.py", "200"])?.code, 137);
    same!(sandbox.ok(["inspect", "--format", "{{.State.OOMKilled}}", "large"])?, "true");
    same!(sandbox.ok(["inspect", "--format", "{{.State.OOMKilled}}", "small"])?, "false");
    let forks = run("forks", &["/code/fork.py"])?.success()?;
    let count: u32 = forks.split(' ').next().unwrap_or_default().parse()?;
    ensure!((40..50).contains(&count), "{forks}");
    Ok(())
}
