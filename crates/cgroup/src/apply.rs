//! Writes limits into a container's groups: at the start, and again for an update of a running one.

use crate::check::check;
use crate::controller::Controller;
use crate::devices;
use crate::error::{Error, FailedCall, Invalid, Result};
use crate::files::{Directory, read_path};
use crate::group::Cgroup;
use crate::hierarchy::Version;
use crate::table::{Missing, ROWS, Row, SAME_QUOTA, Write};
use oci::runtime::{LinuxDeviceCgroup, LinuxResources};
use rustix::fd::AsFd;
use rustix::io::Errno;

/// A wish that was let pass without being enforced, since nothing is lost by it or nothing can be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unenforced {
    /// Which limit, as the runtime specification names it.
    pub limit: &'static str,
    /// Why not.
    pub reason: &'static str,
}

/// A write that the kernel refused and that is tried once more after those that follow it.
type Deferred = (&'static Row, usize, Write);

impl Cgroup {
    /// Sets all limits that `resources` names and leaves the others. Returns what could not be enforced without harm:
    /// a swap limit on a kernel that does not account for swap, kernel memory, device rules in a user namespace.
    ///
    /// # Errors
    /// [`Error::Invalid`] before anything is touched; [`Error::Unsupported`] for a limit that this machine does not
    /// have; [`Error::Set`] for a value that the kernel refuses. Limits before the failed one stay.
    pub fn apply(&mut self, resources: &LinuxResources) -> Result<Vec<Unenforced>> {
        self.check_usage(resources)?;
        let mut unenforced = Vec::new();
        let mut deferred: Vec<Deferred> = Vec::new();
        for row in ROWS {
            if (row.asked)(resources) {
                self.apply_row(row, resources, &mut deferred, &mut unenforced)?;
            }
        }
        for (row, at, write) in deferred {
            put(row, &self.joined[at].directory, &write)?;
        }
        if resources.memory.as_ref().is_some_and(|memory| memory.kernel.is_some_and(|kernel| kernel > 0)) {
            unenforced.push(Unenforced { limit: "memory.kernel", reason: "the kernel has no such limit since 5.4" });
        }
        for (file, value) in &resources.unified {
            self.apply_unified(file, value)?;
        }
        if !resources.devices.is_empty() {
            self.apply_devices(&resources.devices, &mut unenforced)?;
        }
        self.bring_in()?;
        Ok(unenforced)
    }

    /// Whether these limits may be set (`checkBeforeUpdate`): for those who tell somebody else of them before [`Cgroup::apply`].
    ///
    /// # Errors
    /// As that.
    pub fn check_usage(&self, resources: &LinuxResources) -> Result<()> {
        check(resources)?;
        self.check_memory(resources)
    }

    /// "checkBeforeUpdate": v2 would reclaim and then kill until the new limit is met; v1 refuses by itself.
    fn check_memory(&self, resources: &LinuxResources) -> Result<()> {
        let Some(memory) = resources.memory.as_ref().filter(|memory| memory.check_before_update == Some(true)) else {
            return Ok(());
        };
        if let (Some(limit), Some(v2)) = (memory.swap.filter(|limit| *limit > 0), self.v2()) {
            let read =
                |file| v2.directory.read_if_there(file).map(|text| text.and_then(|text| text.trim().parse().ok()));
            let both = read("memory.current")?.unwrap_or(0) + read("memory.swap.current")?.unwrap_or(0);
            if both > limit {
                let reason = format!("rejecting memory+swap limit: {both} bytes are in use, and a check was asked for");
                return Err(Invalid::new("memory.swap", limit, reason).into());
            }
        }
        let (Some(limit), Some(v2)) = (memory.limit.filter(|limit| *limit > 0), self.v2()) else { return Ok(()) };
        let current = v2.directory.read_if_there("memory.current")?;
        let current: i64 = current.and_then(|text| text.trim().parse().ok()).unwrap_or(0);
        if current > limit {
            let reason = format!(
                "rejecting memory limit: {current} bytes are in use, and a check before the update was asked for"
            );
            return Err(Invalid::new("memory.limit", limit, reason).into());
        }
        Ok(())
    }

    fn apply_row(
        &mut self,
        row: &'static Row,
        resources: &LinuxResources,
        deferred: &mut Vec<Deferred>,
        unenforced: &mut Vec<Unenforced>,
    ) -> Result<()> {
        let at = self.require(row.limit, row.controller)?;
        let version = self.joined[at].version;
        let lower = match version {
            Version::V1 => row.v1,
            Version::V2 => row.v2,
        };
        let Some(lower) = lower else {
            let version = if version == Version::V1 { "v1" } else { "v2" };
            return Err(unsupported(row.limit, row.controller, format!("cgroup {version} has no such limit")));
        };
        for mut write in lower(resources) {
            let directory = &self.joined[at].directory;
            if row.limit == "cpu.quota" && write.value.starts_with(SAME_QUOTA) {
                let current = directory.read_if_there("cpu.max")?.unwrap_or_default();
                let quota = current.split_ascii_whitespace().next().unwrap_or("max");
                write.value = write.value.replacen(SAME_QUOTA, quota, 1);
            }
            match put(row, directory, &write) {
                Ok(()) => {}
                // Memory cannot exceed memory and swap, whichever of the two is raised first; nor a quota its period, or
                // both together the group above.
                Err(Error::Set { source, .. })
                    if PAIRS.contains(&row.limit) && version == Version::V1 && source.errno() == Errno::INVAL =>
                {
                    deferred.push((row, at, write));
                }
                Err(Error::Unsupported { .. }) if row.limit == "memory.swap" => {
                    let reason = "this kernel does not account for swap";
                    unenforced.push(Unenforced { limit: row.limit, reason });
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn require(&mut self, limit: &str, controller: Controller) -> Result<usize> {
        match self.controller(controller) {
            Ok(Some(at)) => Ok(at),
            Ok(None) => Err(unsupported(limit, controller, "no mounted tree of control groups has this controller")),
            Err(Error::Unsupported { reason, .. }) => Err(unsupported(limit, controller, reason)),
            Err(error) => Err(error),
        }
    }

    fn apply_unified(&mut self, file: &str, value: &str) -> Result<()> {
        let prefix = file.split('.').next().unwrap_or("");
        let limit = format!("unified[{file:?}]");
        let controller = Controller::from_v2_name(prefix);
        let at = match controller {
            Some(controller) => self.require(&limit, controller)?,
            None => self.joined.iter().position(|joined| joined.version == Version::V2).unwrap_or(0),
        };
        let controller = controller.unwrap_or(Controller::Misc);
        let Some(joined) = self.joined.get(at).filter(|joined| joined.version == Version::V2) else {
            return Err(unsupported(
                &limit,
                controller,
                "it is a file of cgroup v2, and this controller is with v1 here",
            ));
        };
        for line in value.lines().filter(|line| !line.is_empty()) {
            let source = match joined.directory.write(file, line) {
                Ok(()) => continue,
                Err(failed) => failed,
            };
            return Err(match source.errno() {
                Errno::NOENT => unsupported(&limit, controller, format!("this kernel has no such file: {source}")),
                _ => Error::Set { limit, controller, value: value.to_owned(), hint: String::new(), source },
            });
        }
        Ok(())
    }

    fn apply_devices(&mut self, list: &[LinuxDeviceCgroup], unenforced: &mut Vec<Unenforced>) -> Result<()> {
        let rules = devices::lower(list)?;
        let controller = Controller::Devices;
        if let Some(at) = self.controller(controller)? {
            let lists = rules.v1().map_err(|line| {
                unsupported("devices", controller, format!("cgroup v1 cannot take back a part of a wider rule: {line}"))
            })?;
            return write_lists(&self.joined[at].directory, &lists, self.fresh && !self.takes);
        }
        let Some(v2) = self.v2() else {
            return Err(unsupported("devices", controller, "no mounted tree of control groups has this controller"));
        };
        match attach(&v2.directory, &rules, self.fresh && !self.takes) {
            Err(Error::Devices { source, .. })
                if matches!(source.errno(), Errno::PERM | Errno::ACCESS) && in_user_namespace() =>
            {
                let reason = "bpf(2) is not allowed in a user namespace, which cannot make device nodes either";
                unenforced.push(Unenforced { limit: "devices", reason });
                Ok(())
            }
            result => result,
        }
    }
}

/// Limits of v1 that stand in two files and must agree all the time, so that one order or the other is right.
const PAIRS: [&str; 4] = ["memory.limit", "cpu.quota", "cpu.realtimePeriod", "cpu.realtimeRuntime"];

fn unsupported(limit: &str, controller: Controller, reason: impl Into<String>) -> Error {
    Error::Unsupported { limit: limit.to_owned(), controller, reason: reason.into() }
}

fn put(row: &Row, directory: &Directory, write: &Write) -> Result<()> {
    let refused = |source: FailedCall, value: &str| match source.errno() {
        Errno::NOENT => unsupported(row.limit, row.controller, format!("this kernel has no such file: {source}")),
        _ => Error::Set {
            limit: row.limit.to_owned(),
            controller: row.controller,
            value: value.to_owned(),
            hint: hint(row.limit, directory),
            source,
        },
    };
    match directory.write(&write.file, &write.value) {
        Ok(()) => Ok(()),
        Err(failed) if failed.errno() == Errno::NOENT => match &write.missing {
            Missing::Skip => Ok(()),
            Missing::Refuse => Err(refused(failed, &write.value)),
            Missing::Instead(file, value) => directory.write(file, value).map_err(|failed| refused(failed, value)),
        },
        Err(failed) => Err(refused(failed, &write.value)),
    }
}

/// What would have been accepted, where that is known.
fn hint(limit: &str, directory: &Directory) -> String {
    let files: &[&str] = match limit {
        "cpu.cpus" => &["../cpuset.cpus.effective", "../cpuset.effective_cpus"],
        "cpu.mems" => &["../cpuset.mems.effective", "../cpuset.effective_mems"],
        _ => return String::new(),
    };
    let available = files.iter().find_map(|file| directory.read(file).ok());
    available.map_or_else(String::new, |list| format!("; available: {}", list.trim()))
}

/// A fresh group allows everything. On an update, only the difference is written, so that no access is lost meanwhile.
fn write_lists(directory: &Directory, lists: &devices::Lists, fresh: bool) -> Result<()> {
    const EVERYTHING: &str = "a *:* rwm";
    let failed = |source| Error::Devices { path: directory.path().to_owned(), log: String::new(), source };
    let current = if fresh { EVERYTHING.to_owned() } else { directory.read("devices.list").map_err(failed)? };
    let current: Vec<&str> = current.lines().collect();
    let (reset, except) =
        if lists.default_allow { ("devices.allow", "devices.deny") } else { ("devices.deny", "devices.allow") };
    let same_mode = !lists.default_allow && current != [EVERYTHING];
    if !same_mode {
        directory.write(reset, "a").map_err(failed)?;
    }
    let put = |file: &str, lines: &mut dyn Iterator<Item = &str>| -> Result<()> {
        let fd = directory.writer(file).map_err(failed)?;
        for line in lines {
            directory.write_to(&fd, file, line).map_err(failed)?;
        }
        Ok(())
    };
    put(except, &mut lists.exceptions.iter().map(String::as_str).filter(|line| !same_mode || !current.contains(line)))?;
    if same_mode {
        let gone = |line: &&str| !lists.exceptions.iter().any(|wanted| wanted == line);
        put(reset, &mut current.iter().copied().filter(gone))?;
    }
    Ok(())
}

/// Loads the program for `rules` and attaches it in place of those that are there.
fn attach(directory: &Directory, rules: &devices::Rules, fresh: bool) -> Result<()> {
    let failed = |call: &str, errno| Error::Devices {
        path: directory.path().to_owned(),
        log: String::new(),
        source: FailedCall::new(call, errno),
    };
    let program = rules.program();
    let program = kernel::bpf::load_cgroup_device(&program).map_err(|rejected| {
        let log = if rejected.log.is_empty() { String::new() } else { format!(": {}", rejected.log) };
        let call = format!("bpf(BPF_PROG_LOAD, {{BPF_PROG_TYPE_CGROUP_DEVICE, {} instructions}})", rejected.count);
        let source = FailedCall::new(call, rejected.errno);
        Error::Devices { path: directory.path().to_owned(), log, source }
    })?;
    let cgroup = directory.as_fd();
    let path = directory.path().display();
    let attached = match fresh {
        true => Vec::new(),
        false => kernel::bpf::device_programs(cgroup)
            .map_err(|errno| failed(&format!("bpf(BPF_PROG_QUERY, <{path}>, BPF_CGROUP_DEVICE)"), errno))?,
    };
    let mut old = Vec::new();
    for id in attached {
        match kernel::bpf::program_by_id(id) {
            Ok(program) => old.push(program),
            Err(Errno::NOENT) => {}
            Err(errno) => return Err(failed(&format!("bpf(BPF_PROG_GET_FD_BY_ID, {id})"), errno)),
        }
    }
    let call = format!("bpf(BPF_PROG_ATTACH, <{path}>, BPF_CGROUP_DEVICE, BPF_F_ALLOW_MULTI)");
    // Linux 5.6 replaces in one step. Before: both are attached for a moment, and both must allow.
    let mut first = old.first();
    if let Some(replaced) = first
        && kernel::bpf::attach_device(cgroup, program.as_fd(), Some(replaced.as_fd())).is_err()
    {
        first = None;
    }
    if first.is_none() {
        kernel::bpf::attach_device(cgroup, program.as_fd(), None).map_err(|errno| failed(&call, errno))?;
    }
    for program in &old[usize::from(first.is_some())..] {
        match kernel::bpf::detach_device(cgroup, program.as_fd()) {
            Ok(()) | Err(Errno::NOENT) => {}
            Err(errno) => return Err(failed(&format!("bpf(BPF_PROG_DETACH, <{path}>)"), errno)),
        }
    }
    Ok(())
}

/// Whether user ids are mapped other than one to one.
fn in_user_namespace() -> bool {
    let map = read_path("/proc/self/uid_map").unwrap_or_default();
    map.split_ascii_whitespace().collect::<Vec<_>>() != ["0", "0", "4294967295"]
}
