//! The programs that are compared: how each is started here, and what it needs to be ready.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

use super::Bench;
use crate::command::{command, output, run, succeeds, text};
use crate::images;

/// An engine with Docker's command line: dhow, podman or docker.
pub struct Engine {
    /// What it is called in tables.
    pub name: &'static str,
    program: PathBuf,
    globals: Vec<String>,
    /// The directory below the benchmark's own with all that it stores.
    pub store: &'static str,
    /// Options of `run` and `create` without which it does not work on this machine.
    extra: &'static [&'static str],
    /// The daemon, if it has one.
    pub daemon: Option<Daemon>,
}

impl Engine {
    /// `PROGRAM GLOBALS WORDS…`, silent.
    pub fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        command.args(&self.globals).args(words);
        command.env("PODMAN_IGNORE_CGROUPSV1_WARNING", "1");
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        command
    }

    /// `run OPTIONS busybox WORDS…`.
    pub fn run(&self, options: &[&str], words: &[&str]) -> Command {
        self.run_of(options, "busybox", words)
    }

    /// `run OPTIONS IMAGE WORDS…`.
    pub fn run_of(&self, options: &[&str], image: &str, words: &[&str]) -> Command {
        let mut command = self.command(&["run"]);
        command.args(self.extra).args(options).arg(image).args(words);
        command
    }

    /// `create OPTIONS busybox WORDS…`.
    pub fn create(&self, options: &[&str], words: &[&str]) -> Command {
        let mut command = self.command(&["create"]);
        command.args(self.extra).args(options).arg("busybox").args(words);
        command
    }

    /// Runs a command to its end and returns what it prints.
    pub fn output(&self, mut command: Command) -> Result<String> {
        Ok(output(&mut command)?.trim().to_owned())
    }

    /// Loads an image from its Docker archive.
    pub fn load(&self, name: &str) -> Result<()> {
        let archive = images::directory()?.join(format!("{name}.docker.tar"));
        output(self.command(&["load", "-i"]).arg(archive)).map(drop)
    }
}

/// A daemon; it ends when dropped.
pub struct Daemon(pub Child);

impl Drop for Daemon {
    fn drop(&mut self) {
        // By its own means first, so that its containers and mounts are cleaned up.
        drop(command("kill", ["-TERM", &self.0.id().to_string()]).status());
        let until = Instant::now() + Duration::from_secs(20);
        while Instant::now() < until && matches!(self.0.try_wait(), Ok(None)) {
            thread::sleep(Duration::from_millis(50));
        }
        // Both fail only when the process has ended already.
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

fn words(of: &[(&str, &Path)], rest: &[&str]) -> Vec<String> {
    let named = of.iter().flat_map(|(name, path)| [(*name).to_owned(), path.display().to_string()]);
    named.chain(rest.iter().map(|&word| word.to_owned())).collect()
}

/// dhow, as it was built.
pub fn dhow(bench: &Bench) -> Engine {
    let globals = words(&[("--root", &bench.path("dhow/data")), ("--run-dir", &bench.path("dhow/run"))], &[]);
    Engine { name: "dhow", program: bench.dhow.clone(), globals, store: "dhow/data", extra: &[], daemon: None }
}

/// The same with layers as EROFS images.
pub fn dhow_with_images(bench: &Bench) -> Result<Engine> {
    let data = bench.path("dhow-erofs/data");
    fs::create_dir_all(&data)?;
    fs::write(data.join("backend"), "erofs\n")?;
    let globals = words(&[("--root", &data), ("--run-dir", &bench.path("dhow-erofs/run"))], &[]);
    let store = "dhow-erofs/data";
    Ok(Engine { name: "dhow erofs", program: bench.dhow.clone(), globals, store, extra: &[], daemon: None })
}

/// Debian's podman, with crun. Its limits cannot be raised above this machine's, so they are lowered.
pub fn podman(bench: &Bench) -> Engine {
    let directories = [bench.path("podman/root"), bench.path("podman/run"), bench.path("podman/tmp")];
    let globals = words(
        &[("--root", &directories[0]), ("--runroot", &directories[1]), ("--tmpdir", &directories[2])],
        &["--storage-driver", "overlay", "--cgroup-manager", "cgroupfs", "--runtime", "/usr/bin/crun"],
    );
    let extra = &["--ulimit", "nproc=1000:1000", "--ulimit", "nofile=2000:2000"];
    Engine { name: "podman", program: "/usr/bin/podman".into(), globals, store: "podman/root", extra, daemon: None }
}

/// Debian's docker with a daemon of its own.
pub fn docker(bench: &Bench) -> Result<Engine> {
    let directory = bench.path("docker");
    fs::create_dir_all(&directory)?;
    let socket = format!("unix://{}/docker.sock", directory.display());
    let log = fs::File::create(directory.join("log"))?;
    let child = command("dockerd", ["--host", &socket, "--exec-opt", "native.cgroupdriver=cgroupfs", "--data-root"])
        .arg(directory.join("data"))
        .arg("--exec-root")
        .arg(directory.join("exec"))
        .arg("--pidfile")
        .arg(directory.join("pid"))
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        .spawn()
        .context("start dockerd (package docker.io)")?;
    let mut engine = Engine {
        name: "docker",
        program: "/usr/bin/docker".into(),
        globals: vec!["--host".into(), socket],
        store: "docker/data",
        extra: &[],
        daemon: Some(Daemon(child)),
    };
    let until = Instant::now() + Duration::from_secs(60);
    while !succeeds(&mut engine.command(&["version"])) {
        let ended = match &mut engine.daemon {
            Some(daemon) => daemon.0.try_wait()?.is_some(),
            None => true,
        };
        if ended || Instant::now() > until {
            let log = fs::read_to_string(directory.join("log")).unwrap_or_default();
            bail!("dockerd does not answer: {}", log.lines().rev().take(5).collect::<Vec<_>>().join(" / "));
        }
        thread::sleep(Duration::from_millis(100));
    }
    Ok(engine)
}

/// A bundle for OCI runtimes: busybox's tree and a configuration that runs `true`.
pub fn bundle(bench: &Bench) -> Result<PathBuf> {
    let bundle = bench.path("bundle");
    let tree = bundle.join("rootfs");
    fs::create_dir_all(&tree)?;
    let layer = images::directory()?.join("layers/busybox.tar");
    run(command("tar", ["-xf"]).arg(layer).arg("-C").arg(&tree))?;
    run(command("crun", ["spec"]).current_dir(&bundle))?;
    let file = bundle.join("config.json");
    let mut spec: Value = serde_json::from_slice(&fs::read(&file)?)?;
    spec["process"]["args"] = json!(["/bin/true"]);
    spec["process"]["terminal"] = json!(false);
    // Limits above the machine's own cannot be set.
    spec["process"]["rlimits"] = json!([]);
    spec["linux"]["cgroupsPath"] = json!("/dhow-bench");
    fs::write(file, spec.to_string())?;
    Ok(bundle)
}

/// The floor program, compiled, as a command that runs `true`.
pub fn floor(bench: &Bench, bundle: &Path) -> Result<impl Fn() -> Command + use<>> {
    let (source, program) = (bench.path("floor.c"), bench.path("floor"));
    fs::write(&source, include_str!("floor.c"))?;
    run(command("gcc", ["-O2", "-Wall", "-Werror", "-static", "-o"]).arg(&program).arg(&source))?;
    let directories = ["floor-upper", "floor-work", "floor-root"].map(|name| bench.path(name));
    for directory in &directories {
        fs::create_dir(directory)?;
    }
    let lower = bundle.join("rootfs");
    Ok(move || {
        let mut floor = Command::new(&program);
        floor.arg(&lower).args(&directories).arg("/bin/true");
        floor
    })
}

/// Runs a command that must succeed and returns how long it took, in milliseconds.
pub fn time(command: &mut Command) -> Result<f64> {
    let errors = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let started = Instant::now();
    let status = errors.status().with_context(|| format!("start {}", text(command)))?;
    let elapsed = started.elapsed().as_secs_f64() * 1e3;
    if !status.success() {
        // Once more, to see what it says.
        let said =
            command.stderr(Stdio::piped()).output().map(|output| String::from_utf8_lossy(&output.stderr).into_owned());
        bail!("{}: {status}: {}", text(command), said.unwrap_or_default().trim_end());
    }
    Ok(elapsed)
}
