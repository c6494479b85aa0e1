//! The commands that are cut short, and the state that each begins in.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context, Result, bail, ensure};

use super::faults::{Fault, Place, Point, Role, points};
use super::tracer::{Traced, trace};
use super::world::{CHECKPOINT, State, VICTIM, World};
use crate::sandbox::Sandbox;

/// A command.
pub struct Verb {
    /// What it is called in reports.
    pub name: &'static str,
    /// The victim's state before.
    from: State,
    /// Whether the victim's monitor works on it.
    asks_monitor: bool,
    /// Whether all of dhow's processes that it starts end with it.
    ends: bool,
    /// Whether the victim must still run when only the command line is cut short.
    spares: bool,
    /// Whether criu does it.
    criu: bool,
    words: fn(&World<'_>, &Sandbox) -> Result<Vec<String>>,
}

fn plain(words: &[&str]) -> Result<Vec<String>> {
    Ok(words.iter().map(|word| (*word).to_owned()).collect())
}

fn file(sandbox: &Sandbox, name: &str) -> Result<String> {
    sandbox.path("files").join(name).to_str().map(str::to_owned).context("a name that is not UTF-8")
}

const fn verb(name: &'static str, from: State, words: fn(&World<'_>, &Sandbox) -> Result<Vec<String>>) -> Verb {
    Verb { name, from, asks_monitor: false, ends: true, spares: false, criu: false, words }
}

const fn with_monitor(verb: Verb) -> Verb {
    Verb { asks_monitor: true, ..verb }
}

const fn spares(verb: Verb) -> Verb {
    Verb { spares: true, ends: false, ..verb }
}

const fn stays(verb: Verb) -> Verb {
    Verb { ends: false, ..verb }
}

const fn by_criu(verb: Verb) -> Verb {
    Verb { criu: true, ..verb }
}

/// A name that no checkpoint has yet: one that a fault came too late for is there.
fn another() -> String {
    static MADE: AtomicU32 = AtomicU32::new(0);
    format!("c{}", MADE.fetch_add(1, Ordering::Relaxed))
}

/// All commands.
pub const VERBS: &[Verb] = &[
    verb("create", State::Absent, |world, _| Ok(world.made(&["create"], VICTIM, &["sleep", "100000"]))),
    stays(verb("start", State::Created, |_, _| plain(&["start", VICTIM]))),
    stays(verb("run -d", State::Absent, |world, _| Ok(world.made(&["run", "-d"], VICTIM, &["sleep", "100000"])))),
    verb("run --rm", State::Absent, |world, _| Ok(world.made(&["run", "--rm"], VICTIM, &["echo", "done"]))),
    spares(with_monitor(verb("exec", State::Running, |_, _| plain(&["exec", VICTIM, "echo", "done"])))),
    with_monitor(verb("stop", State::Running, |_, _| plain(&["stop", VICTIM]))),
    verb("rm", State::Exited, |_, _| plain(&["rm", "-v", VICTIM])),
    with_monitor(verb("rm -f", State::Running, |_, _| plain(&["rm", "-f", "-v", VICTIM]))),
    verb("prune", State::Exited, |_, _| plain(&["system", "prune", "-f", "--volumes"])),
    verb("commit", State::Exited, |_, _| plain(&["commit", VICTIM, "committed:latest"])),
    spares(with_monitor(verb("cp in", State::Running, |_, sandbox| {
        plain(&["cp", &file(sandbox, "copied")?, &format!("{VICTIM}:/copied")])
    }))),
    spares(with_monitor(verb("cp out", State::Running, |_, sandbox| {
        plain(&["cp", &format!("{VICTIM}:/etc"), &file(sandbox, "out")?])
    }))),
    by_criu(with_monitor(verb("checkpoint", State::Running, |_, _| {
        plain(&["checkpoint", "create", VICTIM, &another()])
    }))),
    by_criu(stays(verb("start --checkpoint", State::Checkpointed, |_, _| {
        plain(&["start", "--checkpoint", CHECKPOINT, VICTIM])
    }))),
    by_criu(with_monitor(verb("checkpoint --export", State::Running, |_, sandbox| {
        plain(&["container", "checkpoint", "--export", &file(sandbox, "exported.tar")?, VICTIM])
    }))),
    by_criu(stays(verb("restore --import", State::Absent, |world, _| {
        // The volume of the containers is there.
        let archive = world.archive()?;
        let words =
            ["container", "restore", "--allow-host", "--ignore-volumes", "--name", VICTIM, "--import", &archive];
        plain(&words)
    }))),
];

/// What became of the points that were tried.
#[derive(Debug, Default)]
pub struct Tally {
    /// Points that were reached.
    pub tried: u32,
    /// Points that this run did not reach: the order of calls is not always the same.
    pub missed: u32,
    /// What was not clean.
    pub unclean: Vec<String>,
}

impl Verb {
    /// Why it cannot be tried here, if so.
    pub fn missing(&self) -> Option<String> {
        let works = if self.criu { crate::cases::checkpoints::criu() } else { Ok(()) };
        works.err().map(|reason| reason.to_string())
    }

    /// The points of this command, from one run without a fault.
    pub fn points(&self, world: &World<'_>, sandbox: &Sandbox) -> Result<Vec<Point>> {
        world.bring(self.from)?;
        let traced = self.traced(world, sandbox, None)?;
        ensure!(traced.status == 0, "{} fails under the tracer: {}", self.name, traced.errors);
        let mut calls: BTreeMap<(Role, i64), u32> = BTreeMap::new();
        for seen in &traced.seen {
            let Place { role, call, .. } = seen.place;
            *calls.entry((role, call)).or_default() += 1;
        }
        for role in [Role::Client, Role::Monitor, Role::Child] {
            let number: u32 = calls.iter().filter(|((each, _), _)| *each == role).map(|(_, count)| count).sum();
            eprintln!("{}: {number} calls of {role:?}", self.name);
        }
        Ok(points(&traced.seen))
    }

    fn traced(&self, world: &World<'_>, sandbox: &Sandbox, point: Option<Point>) -> Result<Traced> {
        let command = sandbox.command((self.words)(world, sandbox)?);
        let beside = if self.asks_monitor { vec![world.monitor()?] } else { vec![] };
        trace(&command, &beside, self.ends, point, &sandbox.path("files"))
    }

    /// Tries a point. Returns whether it was reached.
    pub fn attempt(&self, world: &World<'_>, sandbox: &Sandbox, point: Point) -> Result<bool> {
        world.bring(self.from).context("before")?;
        let traced = self.traced(world, sandbox, Some(point)).context("the tracer")?;
        if traced.hung {
            bail!("it hangs");
        }
        // Without memory for its stacks' guards the standard library ends a program where it stands, in that file of its own.
        let panicked = traced.errors.contains("panicked") && !traced.errors.contains("pal/unix/stack_overflow.rs");
        ensure!(!panicked, "a panic: {}", traced.errors);
        let by_client_alone = point.place.role == Role::Client && point.fault != Fault::KillAll;
        world
            .look()
            .with_context(|| format!("the next command (status {}: {})", traced.status, traced.errors.trim()))?;
        if self.spares && by_client_alone {
            let state = sandbox.ok(["inspect", "--format", "{{.State.Status}}", VICTIM])?;
            ensure!(state == "running", "the victim is {state}");
        }
        if self.asks_monitor && point.fault == Fault::KillAll && traced.hit {
            world.ended().context("its monitor was killed")?;
        }
        world.bring(self.from).context("bringing the victim back")?;
        sandbox.ok((self.words)(world, sandbox)?).context("the same command again")?;
        world.nothing_left()?;
        Ok(traced.hit)
    }
}
