//! Commands of the store that are killed, or find the disk full, at any of their steps: afterwards the store is sound, the same
//! command succeeds, and what lies on disk is what lies there without the accident, to the block.
//!
//! strace(1) does it: at the entry of the nth system call that changes something it kills the process, or lets that call (or
//! that one and all later ones) fail with ENOSPC. strace counts for each thread by itself. A sample by a fixed seed runs each
//! time; `DHOW_FAULTS=all` takes every step, and prints how many they were (docs/images.md has the numbers). Real full disks of
//! every size are in `image_store`.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use crate::case::{cases, same, skip};
use crate::host;
use crate::registry::Registry;
use crate::sandbox::Sandbox;

cases![store_faults: every_step [Root, Long]];

/// Calls that change files. `write` also talks to sockets and terminals, and openat(2) mostly reads; a process is killed at
/// them, but they are not made to fail.
const CHANGES: &str = "mkdir,mkdirat,mknodat,symlinkat,linkat,rename,renameat,renameat2,unlink,unlinkat,rmdir,ftruncate,\
    fallocate,pwrite64,pwritev,fsync,fdatasync,syncfs,fchmod,fchmodat,fchown,fchownat,utimensat,fsetxattr,setxattr,lsetxattr,\
    copy_file_range,flock";
const ALSO_KILLED_AT: &str = "write,writev,openat,sendto";
/// Calls that a full disk lets fail.
const NEED_ROOM: &str = "mkdir,mkdirat,mknodat,symlinkat,linkat,rename,renameat,renameat2,ftruncate,fallocate,pwrite64,pwritev,fsetxattr,setxattr,lsetxattr,copy_file_range";

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Fault {
    Kill,
    Full,
    FullFrom,
}

const FAULTS: [Fault; 3] = [Fault::Kill, Fault::Full, Fault::FullFrom];

impl Fault {
    fn calls(self) -> String {
        match self {
            Fault::Kill => format!("{CHANGES},{ALSO_KILLED_AT}"),
            Fault::Full | Fault::FullFrom => NEED_ROOM.to_owned(),
        }
    }

    fn injection(self, step: u32) -> String {
        let calls = self.calls();
        match self {
            Fault::Kill => format!("inject={calls}:signal=KILL:when={step}"),
            Fault::Full => format!("inject={calls}:error=ENOSPC:when={step}"),
            Fault::FullFrom => format!("inject={calls}:error=ENOSPC:when={step}+"),
        }
    }
}

/// A verb with what has to be there before it, and what it must leave.
struct Verb {
    name: &'static str,
    before: Vec<Vec<String>>,
    run: Vec<String>,
    /// Images afterwards.
    leaves: usize,
}

fn words(text: &[&str]) -> Vec<String> {
    text.iter().map(|word| (*word).to_owned()).collect()
}

struct Bench<'a> {
    sandbox: &'a Sandbox,
    /// What lies below the data root after each verb when nothing happens.
    usual: BTreeMap<&'static str, Vec<String>>,
    pushes: u32,
}

impl Bench<'_> {
    /// Everything below the data root that belongs to images, with the blocks that it takes. The database's pages and the
    /// names of marks differ from run to run.
    fn inventory(&self) -> Result<Vec<String>> {
        let data = self.sandbox.path("data");
        let mut found = Vec::new();
        for name in names(&data)? {
            match name.as_str() {
                "layers" | "blobs" | "merged" => {
                    let text = host::succeed(Command::new("du").args(["-s", "-B1"]).arg(data.join(&name)))?;
                    found.push(format!("{name} {}", text.split_whitespace().next().unwrap_or_default()));
                }
                "unsettled" => {
                    let what = |mark: String| mark.split('.').next().map(str::to_owned);
                    let marks: BTreeSet<String> = names(&data.join(&name))?.into_iter().filter_map(what).collect();
                    found.push(format!("marks of {marks:?}"));
                }
                name if name.starts_with("dhow.db") => {}
                _ => found.push(format!("{name} {:?}", names(&data.join(&name)).unwrap_or_default())),
            }
        }
        Ok(found)
    }

    fn images(&self) -> Result<BTreeSet<String>> {
        Ok(self.sandbox.ok(["images", "-q", "--no-trunc"])?.lines().map(str::to_owned).collect())
    }

    fn prepare(&mut self, verb: &Verb) -> Result<Vec<String>> {
        for image in self.images()? {
            self.sandbox.ok(["rmi", "-f", &image])?;
        }
        for command in &verb.before {
            self.sandbox.ok(command)?;
        }
        if verb.name != "push" {
            return Ok(verb.run.clone());
        }
        // Each to a repository of its own, so that there is everything to do.
        self.pushes += 1;
        let target = format!("{}{}", verb.run[2], self.pushes);
        self.sandbox.ok(["tag", "multi", &target])?;
        Ok(words(&["push", "-q", &target]))
    }

    /// The most steps that a thread of the verb has.
    fn steps(&mut self, verb: &Verb, fault: Fault) -> Result<u32> {
        let run = self.prepare(verb)?;
        let log = self.sandbox.path("files/steps");
        let command = self.traced(&run, fault, None, &log);
        let output = self.sandbox.finish_command(command, "")?;
        same!(output.code, 0, "{}", output.stderr);
        let mut counts: BTreeMap<String, u32> = BTreeMap::new();
        for line in fs::read_to_string(&log)?.lines().filter(|line| !line.contains("resumed>")) {
            *counts.entry(line.split(' ').next().unwrap_or_default().to_owned()).or_default() += 1;
        }
        let usual = self.inventory()?;
        self.usual.insert(verb.name, usual);
        Ok(counts.into_values().max().unwrap_or(0))
    }

    fn traced(&self, run: &[String], fault: Fault, step: Option<u32>, log: &Path) -> Command {
        let inner = self.sandbox.command(run);
        let mut command = Command::new("strace");
        let trace = format!("trace={}", fault.calls());
        command.args(["-f", "-qq", "--seccomp-bpf", "-e", "signal=none", "-e", &trace]);
        command.args(step.into_iter().flat_map(|step| ["-e".to_owned(), fault.injection(step)]));
        command.arg("-o").arg(log);
        command.arg(inner.get_program()).args(inner.get_args()).env_clear();
        for (name, value) in inner.get_envs() {
            if let Some(value) = value {
                command.env(name, value);
            }
        }
        command
    }

    fn accident(&mut self, verb: &Verb, fault: Fault, step: u32) -> Result<()> {
        let run = self.prepare(verb)?;
        let mut command = self.traced(&run, fault, Some(step), Path::new("/dev/null"));
        let output = command.output().context("strace")?;
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        ensure!(!said.contains("panicked"), "{said}");
        let check = self.sandbox.dhow(["system", "check"])?;
        same!(check.code, 0, "{} {}\nthe verb had said: {said}", check.stdout, check.stderr);
        let again = self.sandbox.dhow(&run)?;
        let is_done = verb.name == "rmi" && again.stderr.to_lowercase().contains("no such image");
        ensure!(again.code == 0 || is_done, "the same command fails: {}\nbefore it had said: {said}", again.stderr);
        same!(self.images()?.len(), verb.leaves);
        let check = self.sandbox.ok(["system", "check"])?;
        ensure!(check.contains(": 0 problems"), "{check}");
        let found = self.inventory()?;
        ensure!(Some(&found) == self.usual.get(verb.name), "left {found:?}, usually {:?}", self.usual.get(verb.name));
        Ok(())
    }
}

/// Sorted names in a directory.
fn names(directory: &Path) -> Result<Vec<String>> {
    let entries = fs::read_dir(directory)?.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()));
    let mut names = entries.collect::<Result<Vec<_>>>()?;
    names.sort();
    Ok(names)
}

fn every_step(sandbox: &Sandbox) -> Result<()> {
    if host::program("strace").is_none() {
        return skip("strace is not installed");
    }
    let origin = Registry::start(sandbox, &["multi"], None)?;
    let target = Registry::empty(sandbox, "target", None)?;
    let archive = sandbox.archive("multi", "oci")?;
    let remote = format!("{}/library/multi", origin.address);
    let pushed = format!("{}/multi", target.address);
    let saved = sandbox.path("files/saved.tar").to_string_lossy().into_owned();
    let load = words(&["load", "-q", "-i", &archive]);
    let verbs = [
        Verb { name: "load", before: vec![], run: load.clone(), leaves: 1 },
        Verb { name: "pull", before: vec![], run: words(&["pull", "-q", &remote]), leaves: 1 },
        Verb { name: "push", before: vec![load.clone()], run: words(&["push", "-q", &pushed]), leaves: 1 },
        Verb { name: "prune", before: vec![load.clone()], run: words(&["image", "prune", "-a", "-f"]), leaves: 0 },
        Verb { name: "rmi", before: vec![load.clone()], run: words(&["rmi", "multi"]), leaves: 0 },
        Verb { name: "save", before: vec![load], run: words(&["save", "-o", &saved, "multi"]), leaves: 1 },
    ];
    let mut bench = Bench { sandbox, usual: BTreeMap::new(), pushes: 0 };
    let mut points = Vec::new();
    for (index, verb) in verbs.iter().enumerate() {
        for fault in FAULTS {
            let steps = bench.steps(verb, fault)?;
            eprintln!("{} {fault:?}: {steps} steps", verb.name);
            points.extend((1..=steps).map(|step| (index, fault, step)));
        }
    }
    let only = std::env::var("DHOW_FAULTS").unwrap_or_default();
    let limit = if only.is_empty() { Duration::from_secs(7) } else { Duration::MAX };
    if only.is_empty() {
        shuffle(&mut points);
    }
    let start = Instant::now();
    let mut done: BTreeMap<(usize, Fault), u32> = BTreeMap::new();
    for (index, fault, step) in points {
        let verb = &verbs[index];
        if start.elapsed() > limit {
            break;
        }
        if !matches!(only.as_str(), "" | "all") && only != verb.name {
            continue;
        }
        bench.accident(verb, fault, step).with_context(|| format!("{} with {fault:?} at step {step}", verb.name))?;
        *done.entry((index, fault)).or_default() += 1;
    }
    for ((index, fault), count) in done {
        eprintln!("{} {fault:?}: {count} accidents", verbs[index].name);
    }
    Ok(())
}

/// The same order each time, and no order at all.
fn shuffle<T>(points: &mut [T]) {
    let mut state = 0x5851_f42d_4c95_7f2d_u64;
    for last in (1..points.len()).rev() {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let other = (state >> 33) as usize % (last + 1);
        points.swap(last, other);
    }
}
