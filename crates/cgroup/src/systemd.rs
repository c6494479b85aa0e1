//! The third back end: a scope unit made by systemd, in which groups are delegated to us.
//!
//! systemd wants to be the only writer of the tree on machines where it is the first process; an ordinary user gets a
//! group with limits from nobody else. So: one transient scope for each container, with the monitor in it and
//! `Delegate=yes`, and within the scope the v2 back end as everywhere ([`Hierarchy::beneath`]). Limits are written by us
//! there; [`properties`] says them to systemd too, for those who want them on the unit itself (runc's systemd driver).
//!
//! Spoken over D-Bus by our own crate [`dbus`], since no more than three methods of one object are needed. The whole
//! exchange is one write and a wait. org.freedesktop.systemd1(5), systemd.scope(5), systemd.resource-control(5).

mod annotations;
mod requests;

use crate::convert::{cpu_weight, io_weight};
use crate::delegation::own_group;
use crate::error::{Error, Invalid, Result};
use crate::hierarchy::{Hierarchy, Layout};
pub use annotations::from_annotations;
pub use dbus::Value;
use dbus::Writer;
use oci::runtime::LinuxResources;
use requests::Manager;
use rustix::process::Pid;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

/// Which systemd.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Bus {
    /// The machine's.
    System,
    /// The calling user's own (`$XDG_RUNTIME_DIR/bus`).
    User,
}

const IDLE: (&str, Value) = ("CPUWeight", Value::Number(0));

/// A running scope.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Scope {
    bus: Bus,
    unit: String,
}

/// Whether systemd is the first process here (sd_booted(3)).
pub fn running() -> bool {
    Path::new("/run/systemd/system").is_dir()
}

/// The slice and the unit of runc's notation `slice:prefix:name`, e.g. `system.slice:dhow:abc` to `system.slice` and
/// `dhow-abc.scope`. An empty slice is `system.slice` or, for the user's systemd, `user.slice`.
///
/// # Errors
/// [`Invalid`] for anything else.
pub fn scope_name(path: &str, bus: Bus) -> Result<(String, String), Invalid> {
    let refuse = || {
        Invalid::new(
            "cgroupsPath",
            format!("{path:?}"),
            "expected cgroupsPath to be of format \"slice:prefix:name\" for systemd cgroups",
        )
    };
    let [slice, prefix, name] = path.split(':').collect::<Vec<_>>()[..] else { return Err(refuse()) };
    let default = if bus == Bus::System { "system.slice" } else { "user.slice" };
    let slice = if slice.is_empty() { default } else { slice };
    let unit = if prefix.is_empty() { format!("{name}.scope") } else { format!("{prefix}-{name}.scope") };
    if name.is_empty() || !slice.ends_with(".slice") || !is_unit_name(slice) || !is_unit_name(&unit) {
        return Err(refuse());
    }
    Ok((slice.to_owned(), unit))
}

/// Where systemd makes the group of a unit in a slice: `a-b.slice` is within `a.slice` (systemd.slice(5)), and all of a user's are
/// below their `user@ID.service`, which is found from the group of this process. `None` if that belongs to no user.
pub fn group_of(bus: Bus, slice: &str, unit: &str) -> Option<String> {
    let mut path = if bus == Bus::System { String::new() } else { of_the_user(&own_group().ok()?)? };
    let name = slice.strip_suffix(".slice").unwrap_or(slice);
    let ends = name.match_indices('-').map(|(at, _)| at).chain([name.len()]);
    for end in ends.filter(|_| name != "-") {
        path.push_str(&format!("/{}.slice", &name[..end]));
    }
    Some(format!("{path}/{unit}"))
}

fn of_the_user(own: &str) -> Option<String> {
    let mut path = String::new();
    for part in own.split('/') {
        if let Some(id) = part.strip_prefix("user-").and_then(|part| part.strip_suffix(".slice")) {
            return Some(format!("{path}/{part}/user@{id}.service"));
        }
        path = format!("{path}/{part}");
    }
    None
}

/// systemd.unit(5): ASCII letters, digits and `:-_.\`; `@` marks templates.
fn is_unit_name(name: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b':' | b'-' | b'_' | b'.' | b'\\' | b'@');
    name.len() < 256 && name.bytes().all(plain)
}

impl Scope {
    /// Asks for a scope `unit` (ending in `.scope`) in `slice` with these processes in it, and waits until it is there.
    /// Whatever the scope still holds when it is stopped gets SIGTERM, then SIGKILL, from systemd.
    ///
    /// # Errors
    /// [`Error::Systemd`] with systemd's own words, [`Error::Invalid`] for names.
    pub fn start(bus: Bus, unit: &str, slice: &str, pids: &[Pid], more: &[(&str, Value)]) -> Result<Scope> {
        if !unit.ends_with(".scope") || !is_unit_name(unit) {
            return Err(Invalid::new("unit", format!("{unit:?}"), "it is not a scope's name").into());
        }
        if !slice.ends_with(".slice") || !is_unit_name(slice) {
            return Err(Invalid::new("slice", format!("{slice:?}"), "it is not a slice's name").into());
        }
        let pids = pids.iter().map(|pid| pid.as_raw_nonzero().get().cast_unsigned()).collect();
        let usual = [
            ("Description", Value::Text(format!("dhow container {unit}"))),
            ("Slice", Value::Text(slice.to_owned())),
            ("PIDs", Value::Numbers(pids)),
            ("Delegate", Value::Flag(true)),
            ("DefaultDependencies", Value::Flag(false)),
            // A controller that joins later would not know what was used before.
            ("MemoryAccounting", Value::Flag(true)),
            ("CPUAccounting", Value::Flag(true)),
            ("IOAccounting", Value::Flag(true)),
            ("TasksAccounting", Value::Flag(true)),
        ];
        let scope = Scope { bus, unit: unit.to_owned() };
        let ask = |more: &[(&str, Value)]| {
            // What is asked for takes the place of the usual.
            let usual = usual.iter().filter(|(name, _)| more.iter().all(|(other, _)| other != name));
            let mut body = Writer::default();
            body.text(unit);
            body.text("fail");
            body.array(8, |body| usual.chain(more).for_each(|(name, value)| body.property(name, value)));
            body.array(8, |_| {});
            Manager::open(&addresses(bus))?.job("StartTransientUnit", "ssa(sv)a(sa(sv))", &body, unit)
        };
        match or_without_idle(more, ask) {
            // One that failed, of a container that nobody has removed.
            Err(Error::Systemd { reason, .. }) if reason.contains("UnitExists") && scope.forget_failure().is_ok() => {
                or_without_idle(more, ask)?;
            }
            other => other?,
        }
        Ok(scope)
    }

    /// A unit that has failed is shown by systemd until this.
    fn forget_failure(&self) -> Result<()> {
        let mut body = Writer::default();
        body.text(&self.unit);
        Manager::open(&addresses(self.bus))?.call("ResetFailedUnit", "s", &body)
    }

    /// Stops the scope and waits until it is gone. One that is gone already is no error.
    ///
    /// # Errors
    /// [`Error::Systemd`].
    pub fn stop(&self) -> Result<()> {
        let mut body = Writer::default();
        body.text(&self.unit);
        body.text("replace");
        let gone = |result| match result {
            Err(Error::Systemd { reason, .. }) if reason.contains("NoSuchUnit") => Ok(()),
            result => result,
        };
        gone(Manager::open(&addresses(self.bus))?.job("StopUnit", "ss", &body, &self.unit))?;
        gone(self.forget_failure())
    }

    /// Changes properties of the unit until it ends, so that systemd, which writes limits anew whenever it is reloaded,
    /// knows them.
    ///
    /// # Errors
    /// [`Error::Systemd`].
    pub fn set(&self, properties: &[(&str, Value)]) -> Result<()> {
        if properties.is_empty() {
            return Ok(());
        }
        or_without_idle(properties, |properties: &[(&str, Value)]| {
            let mut body = Writer::default();
            body.text(&self.unit);
            body.flag(true);
            body.array(8, |body| properties.iter().for_each(|(name, value)| body.property(name, value)));
            Manager::open(&addresses(self.bus))?.call("SetUnitProperties", "sba(sv)", &body)
        })
    }

    /// Has systemd move a process of this user into the scope, or into the group `below` in it, and waits until it is there. The
    /// user's own systemd may do that out of any group: it asks the machine's, where the kernel does not let it
    /// (org.freedesktop.systemd1(5), `AttachProcessesToUnit`, systemd 238).
    ///
    /// # Errors
    /// [`Error::Systemd`].
    pub fn adopt(&self, pid: Pid, below: &str) -> Result<()> {
        let mut body = Writer::default();
        body.text(&self.unit);
        body.text(&if below.is_empty() { String::new() } else { format!("/{below}") });
        body.array(4, |body| body.number(pid.as_raw_nonzero().get().cast_unsigned()));
        let mut manager = Manager::open(&addresses(self.bus))?;
        manager.call("AttachProcessesToUnit", "ssau", &body)
    }

    /// Whose systemd it belongs to.
    pub fn bus(&self) -> Bus {
        self.bus
    }

    /// Its unit name.
    pub fn unit(&self) -> &str {
        &self.unit
    }
}

impl Hierarchy {
    /// Puts this process into a scope of its own and gives the trees with that scope as prefix.
    ///
    /// # Errors
    /// As [`Scope::start`]; [`Error::NotDelegated`] where v1 trees are mounted, which systemd does not delegate safely.
    pub fn in_own_scope(&self, bus: Bus, unit: &str, slice: &str) -> Result<(Hierarchy, Scope)> {
        if self.layout() != Layout::Unified {
            return Err(Error::NotDelegated { reason: "systemd delegates groups on pure cgroup v2 only".to_owned() });
        }
        // A failed scope would stay in systemd's memory until somebody resets it, and there may be nobody (systemd 236).
        let collect = ("CollectMode", Value::Text("inactive-or-failed".to_owned()));
        let scope = Scope::start(bus, unit, slice, &[rustix::process::getpid()], &[collect])?;
        Ok((self.beneath(&own_group()?)?, scope))
    }
}

/// systemd before 252 knows no idle groups; the kernel's file says it there alone.
fn or_without_idle(list: &[(&str, Value)], ask: impl Fn(&[(&str, Value)]) -> Result<()>) -> Result<()> {
    match ask(list) {
        Err(Error::Systemd { reason, .. }) if reason.contains("CPUWeight") && list.contains(&IDLE) => {
            ask(&list.iter().filter(|one| **one != IDLE).cloned().collect::<Vec<_>>())
        }
        other => other,
    }
}

fn addresses(bus: Bus) -> Vec<(PathBuf, bool)> {
    // The second of each is systemd's own socket: there without a message bus, and not a bus.
    match bus {
        Bus::System => vec![("/run/dbus/system_bus_socket".into(), true), ("/run/systemd/private".into(), false)],
        Bus::User => {
            let directory = std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from).unwrap_or_default();
            vec![(directory.join("bus"), true), (directory.join("systemd/private"), false)]
        }
    }
}

/// The quota as systemd will write it, which knows whole hundredths of a processor: rounded up.
pub fn round_quota(resources: &mut LinuxResources) {
    let Some(cpu) = &mut resources.cpu else { return };
    let period = cpu.period.filter(|period| *period != 0).unwrap_or(100_000);
    if let Some(quota) = cpu.quota.and_then(|quota| u64::try_from(quota).ok()).filter(|quota| *quota != 0) {
        let rounded = u128::from(per_second(quota, period)) * u128::from(period) / 1_000_000;
        cpu.quota = i64::try_from(rounded).ok().or(cpu.quota);
    }
}

/// Microseconds of a second.
fn per_second(quota: u64, period: u64) -> u64 {
    (quota.saturating_mul(1_000_000) / period).div_ceil(10_000) * 10_000
}

/// Whether the group runs only when nothing else does: for systemd the weight 0 (252), which is for no other value.
pub fn is_idle(resources: &LinuxResources) -> bool {
    resources.cpu.as_ref().and_then(|cpu| cpu.idle) == Some(1)
        || resources.unified.get("cpu.idle").is_some_and(|value| value.trim() == "1")
}

/// The limits that systemd knows, as properties of a unit (cgroup v2).
///
/// # Errors
/// [`Invalid`], from the same check as everywhere.
pub fn properties(resources: &LinuxResources) -> Result<Vec<(&'static str, Value)>, Invalid> {
    crate::check(resources)?;
    let mut list = Vec::new();
    let amount = |amount: i64| Value::Number(u64::try_from(amount).unwrap_or(u64::MAX));
    let set = |value: Option<i64>| value.filter(|value| *value != 0);
    if let Some(memory) = &resources.memory {
        list.extend(set(memory.limit).map(|limit| ("MemoryMax", amount(limit))));
        list.extend(set(memory.reservation).map(|low| ("MemoryLow", amount(low))));
        let alone = |swap: i64| if swap < 0 { swap } else { swap - memory.limit.unwrap_or(0).max(0) };
        list.extend(set(memory.swap).map(|swap| ("MemorySwapMax", amount(alone(swap)))));
    }
    if let Some(cpu) = &resources.cpu {
        let weight = cpu.shares.filter(|shares| *shares != 0).map(cpu_weight);
        list.extend(weight.map(|weight| ("CPUWeight", Value::Number(weight))));
        let period = cpu.period.filter(|period| *period != 0).unwrap_or(100_000);
        let per_second = |quota: i64| match u64::try_from(quota) {
            Ok(quota) => self::per_second(quota, period),
            Err(_) => u64::MAX,
        };
        list.extend(set(cpu.quota).map(|quota| ("CPUQuotaPerSecUSec", Value::Number(per_second(quota)))));
        let period = cpu.period.filter(|period| *period != 0);
        list.extend(period.map(|period| ("CPUQuotaPeriodUSec", Value::Number(period))));
        let mask = |list: &Option<String>| list.as_deref().filter(|list| !list.is_empty()).map(bits);
        list.extend(mask(&cpu.cpus).map(|mask| ("AllowedCPUs", Value::Bytes(mask))));
        list.extend(mask(&cpu.mems).map(|mask| ("AllowedMemoryNodes", Value::Bytes(mask))));
    }
    if is_idle(resources) {
        list.retain(|(name, _)| *name != "CPUWeight");
        list.push(IDLE);
    }
    let pids = resources.pids.as_ref().and_then(|pids| pids.limit);
    list.extend(pids.map(|limit| ("TasksMax", amount(if limit <= 0 { -1 } else { limit }))));
    let weight = resources.block_io.as_ref().and_then(|io| io.weight).filter(|weight| *weight != 0);
    list.extend(weight.map(|weight| ("IOWeight", Value::Number(io_weight(weight)))));
    let unified = resources.unified.iter().flat_map(|(file, value)| unified(file, value.trim()));
    list.extend(unified.filter(|(name, _)| *name != "CPUWeight" || !is_idle(resources)));
    Ok(list)
}

/// A file of cgroup v2 as the properties that systemd has for it; the others it does not know, and leaves alone.
fn unified(file: &str, value: &str) -> Vec<(&'static str, Value)> {
    let name = match file {
        "cpu.weight" => "CPUWeight",
        "cpuset.cpus" => return vec![("AllowedCPUs", Value::Bytes(bits(value)))],
        "cpuset.mems" => return vec![("AllowedMemoryNodes", Value::Bytes(bits(value)))],
        "memory.high" => "MemoryHigh",
        "memory.low" => "MemoryLow",
        "memory.max" => "MemoryMax",
        "memory.min" => "MemoryMin",
        "memory.swap.max" => "MemorySwapMax",
        "pids.max" => "TasksMax",
        "cpu.max" => return cpu_max(value).unwrap_or_default(),
        _ => return Vec::new(),
    };
    let number = if value == "max" { Some(u64::MAX) } else { value.parse().ok() };
    number.map(|number| (name, Value::Number(number))).into_iter().collect()
}

fn cpu_max(value: &str) -> Option<Vec<(&'static str, Value)>> {
    let (quota, period) = value.split_once(' ').unwrap_or((value, "100000"));
    let period: u64 = period.trim().parse().ok().filter(|period| *period != 0)?;
    let per_second = match quota {
        "max" => u64::MAX,
        quota => self::per_second(quota.parse().ok()?, period),
    };
    Some(vec![("CPUQuotaPerSecUSec", Value::Number(per_second)), ("CPUQuotaPeriodUSec", Value::Number(period))])
}

/// A checked list such as `0-3,7` as a bit mask, lowest first.
fn bits(list: &str) -> Vec<u8> {
    let mut mask = Vec::new();
    for part in list.trim().split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (Ok(first), Ok(last)) = (first.parse::<usize>(), last.parse::<usize>()) else { continue };
        // `check` has bounded the numbers.
        for bit in first..=last.min(8191) {
            if mask.len() <= bit / 8 {
                mask.resize(bit / 8 + 1, 0);
            }
            mask[bit / 8] |= 1 << (bit % 8);
        }
    }
    mask
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_as_properties() {
        let json = r#"{"memory":{"limit":67108864,"swap":134217728},"cpu":{"shares":1024,"quota":50000,"period":100000,
            "cpus":"0-1,9"},"pids":{"limit":0}}"#;
        let list = properties(&serde_json::from_str(json).unwrap()).unwrap();
        let expected = [
            ("MemoryMax", Value::Number(67_108_864)),
            ("MemorySwapMax", Value::Number(67_108_864)),
            ("CPUWeight", Value::Number(100)),
            ("CPUQuotaPerSecUSec", Value::Number(500_000)),
            ("CPUQuotaPeriodUSec", Value::Number(100_000)),
            ("AllowedCPUs", Value::Bytes(vec![3, 2])),
            ("TasksMax", Value::Number(u64::MAX)),
        ];
        assert_eq!(list, expected);
        // A quota comes with its period, or systemd writes it anew with another.
        let list = properties(&serde_json::from_str(r#"{"unified":{"cpu.max":"5000 50000"}}"#).unwrap()).unwrap();
        let expected = [("CPUQuotaPerSecUSec", Value::Number(100_000)), ("CPUQuotaPeriodUSec", Value::Number(50_000))];
        assert_eq!(list, expected);
    }

    #[test]
    fn names_of_scopes() {
        let name = |path| scope_name(path, Bus::System).ok();
        let both = |slice: &str, unit: &str| Some((slice.to_owned(), unit.to_owned()));
        assert_eq!(name("machine.slice:dhow:abc"), both("machine.slice", "dhow-abc.scope"));
        assert_eq!(name("::abc"), both("system.slice", "abc.scope"));
        for bad in
            ["", "/dhow/abc", "a:b", "a.slice:b:", "x:dhow:abc", "a.slice:b:c/../d", "a.slice:b:c:d", "é.slice:b:c"]
        {
            assert_eq!(name(bad), None, "{bad}");
        }
    }

    #[test]
    fn quotas_are_those_of_systemd() {
        let rounded = |json| {
            let mut resources = serde_json::from_str(json).unwrap();
            round_quota(&mut resources);
            resources.cpu.unwrap().quota
        };
        assert_eq!(rounded(r#"{"cpu":{"quota":600000,"period":900000}}"#), Some(603_000));
        assert_eq!(rounded(r#"{"cpu":{"quota":50000}}"#), Some(50_000));
        assert_eq!(rounded(r#"{"cpu":{"quota":-1,"period":900000}}"#), Some(-1));
    }

    #[test]
    fn places_of_units() {
        let of = |slice| group_of(Bus::System, slice, "x.scope").unwrap();
        assert_eq!(of("system.slice"), "/system.slice/x.scope");
        assert_eq!(of("a-b-c.slice"), "/a.slice/a-b.slice/a-b-c.slice/x.scope");
        assert_eq!(of("-.slice"), "/x.scope");
        let user = "/user.slice/user-7.slice/user@7.service";
        for own in
            ["user.slice/user-7.slice/session-3.scope", "user.slice/user-7.slice/user@7.service/app.slice/a.scope"]
        {
            assert_eq!(of_the_user(own).as_deref(), Some(user));
        }
        assert_eq!(of_the_user("system.slice/ssh.service"), None);
    }

    #[test]
    fn a_scope_comes_and_goes() {
        #[allow(clippy::print_stdout, reason = "a test says why it is skipped")]
        let skip = |reason: &str| println!("SKIP: {reason}");
        if !running() || !rustix::process::geteuid().is_root() {
            return skip("needs root, and systemd as the first process");
        }
        let mut child = std::process::Command::new("/bin/sleep").arg("100").spawn().unwrap();
        let pid = Pid::from_raw(child.id().try_into().unwrap()).unwrap();
        let unit = format!("dhow-test-{}.scope", std::process::id());
        let limits = properties(&serde_json::from_str(r#"{"pids":{"limit":17}}"#).unwrap()).unwrap();
        let scope = Scope::start(Bus::System, &unit, "system.slice", &[pid], &limits).unwrap();
        let group = std::fs::read_to_string(format!("/proc/{}/cgroup", child.id())).unwrap();
        assert!(group.contains(&format!("/system.slice/{unit}")), "{group}");
        let hierarchy = Hierarchy::detect().unwrap();
        if hierarchy.layout() == Layout::Unified {
            let max = std::fs::read_to_string(format!("/sys/fs/cgroup/system.slice/{unit}/pids.max")).unwrap();
            assert_eq!(max.trim(), "17");
            // A container's group inside, limited, though the scope has a process of its own.
            let inside = hierarchy.beneath(&format!("/system.slice/{unit}")).unwrap();
            let mut cgroup = crate::Cgroup::create(&inside, "container").unwrap();
            cgroup
                .apply(&serde_json::from_str(r#"{"memory":{"limit":33554432},"pids":{"limit":5}}"#).unwrap())
                .unwrap();
            cgroup.remove().unwrap();
        }
        let again = Scope::start(Bus::System, &unit, "system.slice", &[pid], &[]).unwrap_err();
        assert!(again.to_string().contains(&unit), "{again}");
        scope.stop().unwrap();
        assert!(!child.wait().unwrap().success());
        scope.stop().unwrap();
    }
}
