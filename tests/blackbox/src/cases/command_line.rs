//! The command line around the verbs: `docker` as a name of dhow, `config.json`, completion, manual pages, contexts, sizes.

use crate::case::{cases, contains, same};
use crate::sandbox::Sandbox;
use anyhow::{Context, Result, ensure};
use serde_json::Value;
use std::os::unix::process::CommandExt as _;
use std::process::Command;

cases![command_line: called_docker, configuration, completion_of_names, a_shell_completes, manual, contexts, sizes];

/// The same command under another name.
fn docker(sandbox: &Sandbox, arguments: &[&str]) -> Command {
    let mut command = sandbox.command(arguments);
    command.arg0("docker");
    command
}

fn called_docker(sandbox: &Sandbox) -> Result<()> {
    let run = |arguments: &[&str]| sandbox.finish_command(docker(sandbox, arguments), "");
    let version = run(&["--version"])?.success()?;
    ensure!(version.starts_with("Docker version 28."), "{version}");
    contains!(version, ", build dhow-");
    let server =
        run(&["version", "--format", "{{.Server.Version}} {{.Client.APIVersion}} {{.Server.Os}}"])?.success()?;
    ensure!(server.starts_with("28.") && server.ends_with(" linux"), "{server}");
    let info = run(&[
        "info",
        "--format",
        "{{.ServerVersion}} {{.OSType}} {{.Driver}} {{.CgroupDriver}} {{.NCPU}} {{.Swarm.LocalNodeState}}",
    ])?;
    contains!(info.success()?, " linux overlayfs cgroupfs ");
    contains!(run(&["--help"])?.success()?, "Usage:  docker [OPTIONS] COMMAND");
    run(&["run"])?.fails(1, &["docker: error: ", "'docker run' requires"])?;
    let mut elsewhere = docker(sandbox, &["ps"]);
    elsewhere.env("DOCKER_HOST", "tcp://192.0.2.1:2376");
    sandbox.finish_command(elsewhere, "")?.fails(1, &["DOCKER_HOST is tcp://192.0.2.1:2376"])?;
    sandbox.load("busybox")?;
    same!(run(&["run", "--rm", "--network", "none", "busybox", "echo", "hello"])?.success()?, "hello");
    Ok(())
}

fn configuration(sandbox: &Sandbox) -> Result<()> {
    sandbox.load("busybox")?;
    let other = sandbox.path("other");
    std::fs::create_dir_all(&other)?;
    let text = r#"{"imagesFormat": "{{.Repository}}!", "psFormat": "{{.Names}}?", "networksFormat": "{{.Name}}", "volumesFormat": "{{.Name}}+"}"#;
    std::fs::write(other.join("config.json"), text)?;
    let other = other.to_str().context("not UTF-8")?;
    same!(sandbox.ok(["--config", other, "images"])?, "busybox!");
    same!(sandbox.ok(["--config", other, "images", "--format", "{{.Tag}}"])?, "latest");
    let id = sandbox.ok(["--config", other, "images", "-q"])?;
    ensure!(id.len() == 12, "{id}");
    sandbox.ok(["create", "--name", "box", "--network", "none", "busybox"])?;
    same!(sandbox.ok(["--config", other, "ps", "-a"])?, "box?");
    sandbox.ok(["volume", "create", "vol"])?;
    same!(sandbox.ok(["--config", other, "volume", "ls"])?, "vol+");
    std::fs::write(std::path::Path::new(other).join("config.json"), "{")?;
    let broken = sandbox.dhow(["--config", other, "ps", "-aq"])?;
    same!(broken.code, 0);
    sandbox.dhow(["-c", "elsewhere", "ps"])?.fails(1, &["context \"elsewhere\" is not supported"])?;
    sandbox.ok(["-c", "default", "ps"])?;
    Ok(())
}

fn completion_of_names(sandbox: &Sandbox) -> Result<()> {
    sandbox.load("busybox")?;
    sandbox.ok(["create", "--name", "first", "--network", "none", "busybox"])?;
    sandbox.ok(["volume", "create", "data"])?;
    let asked = |words: &[&str]| sandbox.ok([&["__completeNoDesc"], words].concat());
    same!(asked(&["start", "f"])?, "first\n:4");
    same!(asked(&["stop", ""])?, ":4");
    same!(asked(&["run", "--rm", "busy"])?, "busybox\nbusybox:latest\n:4");
    same!(asked(&["volume", "rm", ""])?, "data\n:4");
    same!(asked(&["cp", "fi"])?, "first:\n:2");
    same!(asked(&["run", "--network", "h"])?, "host\n:4");
    same!(asked(&["run", "--pull=al"])?, "always\n:4");
    same!(asked(&["container", "unp"])?, "unpause\n:4");
    contains!(sandbox.ok(["__complete", "run", "--cidf"])?, "--cidfile\tWrite the container ID to the file");
    Ok(())
}

/// The script in the shell itself; the function that Readline would call is called by hand.
fn a_shell_completes(sandbox: &Sandbox) -> Result<()> {
    sandbox.load("busybox")?;
    sandbox.ok(["create", "--name", "first", "--network", "none", "busybox"])?;
    let script = sandbox.file("completion.bash", sandbox.ok(["completion", "bash"])?)?;
    let program = sandbox.command([""; 0]);
    let own: Vec<&str> = program.get_args().filter_map(|word| word.to_str()).collect();
    let line = format!("{} {} ", program.get_program().display(), own.join(" "));
    for (typed, expected) in [
        ("container star", "start "),
        ("start f", "first "),
        ("run busybox:l", "latest "),
        ("run --pull=ne", "never "),
        ("run --rea", "--read-only "),
    ] {
        let text = format!("{line}{typed}");
        let test = format!(
            "source {script}; COMP_LINE='{text}' COMP_POINT={}; _dhow; printf '%s ' \"${{COMPREPLY[@]}}\"",
            text.len()
        );
        let mut shell = Command::new("bash");
        shell.args(["--norc", "-c", &test]);
        same!(sandbox.finish_command(shell, "")?.stdout, expected, "{typed}");
    }
    sandbox.dhow(["completion", "tcsh"])?.fails(1, &["there is no completion for \"tcsh\""])?;
    Ok(())
}

fn manual(sandbox: &Sandbox) -> Result<()> {
    let directory = sandbox.path("man");
    sandbox.ok(["man", "-o", directory.to_str().context("not UTF-8")?])?;
    let page = std::fs::read_to_string(directory.join("dhow-run.1"))?;
    contains!(page, ".TH \"DHOW-RUN\" \"1\"");
    contains!(page, "\\fB\\-\\-memory\\fR");
    same!(page, format!("{}\n", sandbox.ok(["man", "run"])?));
    let pages = std::fs::read_dir(&directory)?.count();
    ensure!(pages > 120, "{pages} pages");
    sandbox.dhow(["man", "bogus"])?.fails(1, &["unknown command: dhow bogus"])
}

fn contexts(sandbox: &Sandbox) -> Result<()> {
    same!(sandbox.ok(["context", "show"])?, "default");
    same!(sandbox.ok(["context", "ls", "-q"])?, "default");
    let line: Value = serde_json::from_str(&sandbox.ok(["context", "ls", "--format", "json"])?)?;
    same!(line["Current"], true);
    let host = sandbox.ok(["context", "inspect", "-f", "{{.Endpoints.docker.Host}}"])?;
    ensure!(host.starts_with("unix://") && host.ends_with("/docker.sock"), "{host}");
    sandbox.ok(["context", "use", "default"])?;
    sandbox.dhow(["context", "use", "x"])?.fails(1, &["context \"x\": context not found"])
}

fn sizes(sandbox: &Sandbox) -> Result<()> {
    sandbox.load("busybox")?;
    let image: u64 = sandbox.ok(["image", "inspect", "-f", "{{.Size}}", "busybox"])?.parse()?;
    sandbox.ok([
        "run",
        "--name",
        "box",
        "--network",
        "none",
        "busybox",
        "sh",
        "-c",
        "head -c 100000 /dev/zero > /x",
    ])?;
    let line: Value = serde_json::from_str(&sandbox.ok(["ps", "-as", "--format", "json"])?)?;
    let text = line["Size"].as_str().unwrap_or_default().to_owned();
    ensure!(text.starts_with("100kB (virtual "), "{text}");
    same!(sandbox.ok(["ps", "-a", "--format", "{{.Size}}"])?, text);
    ensure!(sandbox.ok(["ps", "-as"])?.lines().next().is_some_and(|line| line.trim_end().ends_with("SIZE")));
    let seen: Value = serde_json::from_str(&sandbox.ok(["inspect", "-s", "box"])?)?;
    same!(seen[0]["SizeRw"], 100_000);
    same!(seen[0]["SizeRootFs"], 100_000 + image);
    Ok(())
}
