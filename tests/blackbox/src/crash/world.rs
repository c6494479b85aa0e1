//! What the harness looks at after each point: the next command, `system check`, the container that has nothing to do with it
//! all, and whether anything is there that belongs to no container.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};

use crate::host;
use crate::sandbox::Sandbox;

/// The container that commands are tried on.
pub const VICTIM: &str = "victim";
/// The container that must not notice.
pub const BYSTANDER: &str = "bystander";
/// A volume that the victim uses.
pub const VOLUME: &str = "kept";
/// The checkpoint from which the victim goes on.
pub const CHECKPOINT: &str = "first";

/// Where the victim is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// There is none.
    Absent,
    /// Made, never started.
    Created,
    /// It runs until it is told to end.
    Running,
    /// It has ended.
    Exited,
    /// It has ended, and can go on from its checkpoint [`CHECKPOINT`].
    Checkpointed,
}

/// A sandbox with a bystander, whose containers have cgroups of their own.
pub struct World<'a> {
    sandbox: &'a Sandbox,
    parent: String,
    mounts: BTreeSet<String>,
    bystander: i64,
    began: String,
}

impl<'a> World<'a> {
    /// Loads the image and starts the bystander.
    pub fn new(sandbox: &'a Sandbox) -> Result<Self> {
        // No other test and no other run of this one has that parent.
        let parent =
            sandbox.directory().file_name().and_then(|name| name.to_str()).context("a directory without name")?;
        let mut world =
            Self { sandbox, parent: format!("/{parent}"), mounts: mounts()?, bystander: 0, began: String::new() };
        world.begin()?;
        Ok(world)
    }

    fn begin(&mut self) -> Result<()> {
        self.sandbox.load("busybox")?;
        self.sandbox.file("copied/file", "some text\n")?;
        let words = self.made(&["run", "-d"], BYSTANDER, &["sleep", "100000"]);
        self.sandbox.ok(&words)?;
        self.bystander = self.sandbox.pid(BYSTANDER)?;
        self.began = start_time(self.bystander).context("the bystander has no process")?;
        Ok(())
    }

    /// Ends everything and begins anew, after a point that left something behind.
    pub fn again(&mut self) -> Result<()> {
        self.end();
        for name in ["data", "run"] {
            let path = self.sandbox.path(name);
            if path.exists() {
                fs::remove_dir_all(&path).with_context(|| format!("remove {}", path.display()))?;
            }
        }
        self.begin()
    }

    /// Ends everything that runs here: all processes of this process namespace but this one.
    pub fn end(&self) {
        self.sandbox.clear();
        for pid in processes().into_iter().map(|process| process.pid) {
            let pid = nix::unistd::Pid::from_raw(pid);
            nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL).unwrap_or_default();
        }
        // Those that are gone only now hold their cgroups until then.
        let gone = host::until("no cgroups", self.sandbox.seconds(5), || {
            let left = self.groups();
            // The deepest first; one that is in use stays, and so does what is above it.
            left.iter().rev().for_each(|path| drop(fs::remove_dir(path)));
            Ok(left.is_empty().then_some(()))
        });
        drop(gone);
    }

    /// The words of `run` or `create` with everything that a container can leave behind.
    pub fn made(&self, verb: &[&str], name: &str, program: &[&str]) -> Vec<String> {
        let mut words: Vec<String> = verb.iter().map(|word| (*word).to_owned()).collect();
        let volume = format!("{VOLUME}:/kept");
        words.extend(["--name", name, "--cgroup-parent", &self.parent, "--network", "bridge"].map(str::to_owned));
        if name != BYSTANDER {
            words.extend(["-v", &volume, "-v", "/anonymous", "--stop-timeout", "0"].map(str::to_owned));
        }
        words.push("busybox".into());
        words.extend(program.iter().map(|word| (*word).to_owned()));
        words
    }

    /// Brings the victim into a state.
    pub fn bring(&self, state: State) -> Result<()> {
        let found = self.victim()?;
        let wanted = match state {
            State::Absent => "",
            State::Created => "created",
            State::Running => "running",
            State::Exited | State::Checkpointed => "exited",
        };
        if found == wanted && (state != State::Checkpointed || self.has_checkpoint()?) {
            return Ok(());
        }
        if !found.is_empty() {
            self.sandbox.ok(["rm", "-f", "-v", VICTIM])?;
        }
        let words = match state {
            State::Absent => return Ok(()),
            State::Created => self.made(&["create"], VICTIM, &["sleep", "100000"]),
            State::Running => self.made(&["run", "-d"], VICTIM, &["sleep", "100000"]),
            State::Exited => self.made(&["run"], VICTIM, &["sh", "-c", "echo changed > /file"]),
            State::Checkpointed => {
                self.bring(State::Running)?;
                ["checkpoint", "create", VICTIM, CHECKPOINT].map(str::to_owned).into()
            }
        };
        self.sandbox.ok(&words).map(drop)
    }

    fn has_checkpoint(&self) -> Result<bool> {
        Ok(self.sandbox.ok(["checkpoint", "ls", VICTIM])?.lines().any(|line| line == CHECKPOINT))
    }

    /// The archive of a container that ran, made when it is first asked for.
    pub fn archive(&self) -> Result<String> {
        let path = self.sandbox.path("files/archived.tar").display().to_string();
        if !Path::new(&path).exists() {
            self.sandbox.ok(self.made(&["run", "-d"], "archived", &["sleep", "100000"]))?;
            self.sandbox.ok(["container", "checkpoint", "--export", &path, "archived"])?;
            self.sandbox.ok(["rm", "-f", "-v", "archived"])?;
        }
        Ok(path)
    }

    /// The victim's state; empty if there is none.
    fn victim(&self) -> Result<String> {
        let listed = self.list()?;
        Ok(listed.into_iter().find(|each| each.name == VICTIM).map(|each| each.state).unwrap_or_default())
    }

    /// Waits until the victim does not run any more. A process that its monitor was about to make a session of holds the monitor's
    /// lock until it notices: so long the victim seems to run.
    pub fn ended(&self) -> Result<()> {
        host::until("the victim has ended", self.sandbox.seconds(5), || Ok((self.victim()? != "running").then_some(())))
    }

    fn list(&self) -> Result<Vec<Listed>> {
        let output =
            self.sandbox.command(["ps", "-a", "--no-trunc", "--format", "{{.ID}} {{.Names}} {{.State}}"]).output()?;
        ensure!(output.status.success(), "ps: {}", String::from_utf8_lossy(&output.stderr));
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let listed = text.lines().filter_map(|line| {
            let mut words = line.split(' ').map(str::to_owned);
            Some(Listed { id: words.next()?, name: words.next()?, state: words.next()? })
        });
        Ok(listed.collect())
    }

    /// The monitor of the victim, if it runs.
    pub fn monitor(&self) -> Result<i32> {
        let pid: i64 = self.sandbox.ok(["inspect", "--format", "{{.State.Pid}}", VICTIM])?.parse()?;
        let processes = processes();
        let found = processes.iter().find(|process| i64::from(process.pid) == pid).map(|process| process.parent);
        found.context("the victim has no process")
    }

    /// Everything that must hold after any point.
    pub fn look(&self) -> Result<()> {
        // The next command, whatever it is, puts right what was left; this one also looks.
        self.sandbox.ok(["system", "check"])?;
        ensure!(start_time(self.bystander).as_ref() == Some(&self.began), "the bystander does not run any more");
        Ok(())
    }

    /// Whether something is there that belongs to no container, nor to a command.
    pub fn nothing_left(&self) -> Result<()> {
        let mut left = vec![];
        let settled = host::until("nothing is left", self.sandbox.seconds(5), || {
            left = self.left()?;
            Ok(left.is_empty().then_some(()))
        });
        if settled.is_err() {
            bail!("left behind: {}", left.join(", "));
        }
        Ok(())
    }

    fn left(&self) -> Result<Vec<String>> {
        let listed = self.list()?;
        let all: BTreeSet<String> = listed.iter().map(|each| each.id.clone()).collect();
        let lives = |each: &&Listed| matches!(each.state.as_str(), "running" | "paused" | "restarting");
        let running: BTreeSet<String> = listed.iter().filter(lives).map(|each| each.id.clone()).collect();
        let volumes = self.ids(&["volume", "ls", "-q"])?;
        let mut left = vec![];
        for (directory, known) in [
            ("data/containers", &all),
            ("run/containers", &running),
            ("data/staging", &BTreeSet::new()),
            ("data/volumes/.pending", &BTreeSet::new()),
            ("data/volumes", &volumes),
        ] {
            let unknown = entries(&self.sandbox.path(directory)).into_iter().filter(|name| !known.contains(name));
            left.extend(unknown.filter(|name| name != ".pending").map(|name| format!("{directory}/{name}")));
        }
        for id in &all {
            let path = format!("data/containers/{id}/checkpoints");
            let partial = entries(&self.sandbox.path(&path)).into_iter().filter(|name| name.starts_with('.'));
            left.extend(partial.map(|name| format!("{path}/{name}")));
        }
        let groups = self.groups();
        let unknown = groups.iter().filter(|path| {
            let below: Vec<String> =
                path.components().map(|part| part.as_os_str().to_string_lossy().into_owned()).collect();
            let inside = below.iter().skip_while(|part| **part != self.parent[1..]).nth(1);
            inside.is_some_and(|id| !running.contains(id))
        });
        left.extend(unknown.map(|path| format!("cgroup {}", path.display())));
        left.extend(mounts()?.difference(&self.mounts).map(|line| format!("mount {line}")));
        left.extend(self.links(running.len())?);
        left.extend(self.strays(running.len()));
        Ok(left)
    }

    fn ids(&self, words: &[&str]) -> Result<BTreeSet<String>> {
        let output = self.sandbox.command(words).output()?;
        ensure!(output.status.success(), "{words:?}: {}", String::from_utf8_lossy(&output.stderr));
        Ok(String::from_utf8_lossy(&output.stdout).lines().map(str::to_owned).collect())
    }

    /// Links on the host's side; each running container has one.
    fn links(&self, running: usize) -> Result<Vec<String>> {
        let text = fs::read_to_string("/proc/net/dev")?;
        let names = text.lines().filter_map(|line| line.split_once(':').map(|(name, _)| name.trim().to_owned()));
        let pairs: Vec<String> = names.filter(|name| name.starts_with("veth")).collect();
        Ok(if pairs.len() > running { pairs.into_iter().map(|name| format!("link {name}")).collect() } else { vec![] })
    }

    /// Processes outside of all containers, and monitors that have none.
    fn strays(&self, running: usize) -> Vec<String> {
        let processes = processes();
        let is_monitor = |pid: i32| processes.iter().any(|process| process.pid == pid && process.is_monitor);
        let monitors = processes.iter().filter(|process| process.is_monitor && !is_monitor(process.parent)).count();
        let own = i32::try_from(std::process::id()).unwrap_or(0);
        let is_outside = |process: &&Process| (process.parent == own || process.parent <= 1) && !process.is_monitor;
        let outside = processes.iter().filter(is_outside);
        let mut left: Vec<String> =
            outside.map(|process| format!("process {} {}", process.pid, process.name)).collect();
        if monitors > running {
            left.push(format!("{monitors} monitors of {running} containers"));
        }
        left
    }

    fn groups(&self) -> Vec<PathBuf> {
        let mut all = vec![];
        let hierarchies =
            entries(Path::new("/sys/fs/cgroup")).into_iter().map(|name| Path::new("/sys/fs/cgroup").join(name));
        let mut waiting: Vec<PathBuf> = hierarchies
            .chain(["/sys/fs/cgroup".into()])
            .map(|root: PathBuf| root.join(&self.parent[1..]))
            .filter(|path| path.is_dir())
            .collect();
        while let Some(path) = waiting.pop() {
            let below = entries(&path).into_iter().map(|name| path.join(name)).filter(|path| path.is_dir());
            waiting.extend(below);
            all.push(path);
        }
        all
    }
}

fn entries(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
}

fn mounts() -> Result<BTreeSet<String>> {
    let text = fs::read_to_string("/proc/self/mountinfo")?;
    Ok(text.lines().map(|line| line.split(' ').skip(3).collect::<Vec<_>>().join(" ")).collect())
}

struct Listed {
    id: String,
    name: String,
    state: String,
}

struct Process {
    pid: i32,
    parent: i32,
    name: String,
    is_monitor: bool,
}

/// All processes of this process namespace that live, but this one.
fn processes() -> Vec<Process> {
    let own = std::process::id().to_string();
    let names = entries(Path::new("/proc")).into_iter().filter(|name| name.bytes().all(|byte| byte.is_ascii_digit()));
    let process = |name: String| {
        let stat = fs::read_to_string(format!("/proc/{name}/stat")).ok()?;
        let (head, tail) = stat.rsplit_once(") ")?;
        let mut fields = tail.split(' ');
        // What has ended waits only for its parent, which may be this program.
        if matches!(fields.next()?, "Z" | "X") {
            return None;
        }
        let words = fs::read(format!("/proc/{name}/cmdline")).unwrap_or_default();
        Some(Process {
            pid: name.parse().ok()?,
            parent: fields.next()?.parse().ok()?,
            name: head.split_once('(')?.1.to_owned(),
            is_monitor: words.starts_with(b"dhow-monitor"),
        })
    };
    // The first process is the shell that reaps; kernel threads are not in a process namespace.
    names.filter(|name| *name != own && name != "1").filter_map(process).collect()
}

/// When a process began, with which its number is unique.
fn start_time(pid: i64) -> Option<String> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let tail = stat.rsplit_once(") ")?.1;
    if tail.starts_with('Z') {
        return None;
    }
    tail.split(' ').nth(19).map(str::to_owned)
}
