//! What every layout must do, on the real kernel: run on the machine's own layout and, where it is a hybrid, on its v1
//! trees and its v2 tree alone. Needs root; every group is below `dhow-test-…`.

use crate::controller::Controller;
use crate::error::Error;
use crate::group::{Cgroup, Description, remove_if_empty};
use crate::hierarchy::{Hierarchy, Layout, Version};
use oci::runtime::LinuxResources;
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::fd::AsFd as _;
use rustix::process::Pid;
use std::io::Write as _;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

/// The layouts that this machine can play, with a name.
fn layouts() -> Vec<(&'static str, Hierarchy)> {
    if !rustix::process::geteuid().is_root() {
        skip("control groups need root");
        return Vec::new();
    }
    let Ok(whole) = Hierarchy::detect() else {
        skip("no control groups on this machine");
        return Vec::new();
    };
    let part = |version| {
        let mounts = whole.mounts.iter().filter(|mount| mount.version == version).cloned().collect();
        Hierarchy { mounts, base: String::new() }
    };
    match whole.layout() {
        Layout::Hybrid => vec![("v1", part(Version::V1)), ("v2", part(Version::V2)), ("hybrid", whole)],
        Layout::Unified => vec![("v2", whole)],
        Layout::Legacy => vec![("v1", whole)],
    }
}

#[allow(clippy::print_stdout, reason = "a test says why it is skipped")]
fn skip(reason: &str) {
    println!("SKIP: {reason}");
}

static COUNT: AtomicU32 = AtomicU32::new(0);

/// A group and a parent of its own, removed at the end.
struct Fixture {
    hierarchy: Hierarchy,
    parent: String,
    cgroup: Cgroup,
    children: Vec<Child>,
}

impl Fixture {
    fn new(hierarchy: &Hierarchy) -> Fixture {
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let parent = format!("/dhow-test-{}-{number}", std::process::id());
        let cgroup = Cgroup::create(hierarchy, &format!("{parent}/group")).unwrap();
        Fixture { hierarchy: hierarchy.clone(), parent, cgroup, children: Vec::new() }
    }

    /// Starts a shell that waits for a line before it runs `script`, in the group already.
    fn shell(&mut self, script: &str) -> &mut Child {
        let child = Command::new("/bin/sh")
            .args(["-c", &format!("read line; {script}")])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        self.cgroup.add(pid(&child)).unwrap();
        self.children.push(child);
        self.children.last_mut().unwrap()
    }

    fn has(&self, controller: Controller) -> bool {
        self.hierarchy.controllers().contains(&controller)
    }
}

fn pid(child: &Child) -> Pid {
    Pid::from_raw(child.id().try_into().unwrap()).unwrap()
}

fn go(child: &mut Child) {
    child.stdin.take().unwrap().write_all(b"\n").unwrap();
}

impl Drop for Fixture {
    fn drop(&mut self) {
        // The assertions are in the tests; here only nothing may stay.
        drop(self.cgroup.thaw());
        drop(self.cgroup.kill());
        for child in &mut self.children {
            drop(child.wait());
        }
        drop(self.cgroup.remove());
        remove_if_empty(&self.hierarchy, &self.parent).unwrap();
    }
}

fn resources(json: &str) -> LinuxResources {
    serde_json::from_str(json).unwrap()
}

fn value(cgroup: &Cgroup, file: &str) -> Option<String> {
    let groups = cgroup.limits().unwrap().groups;
    groups.into_iter().flat_map(|group| group.values).find(|value| value.file == file).map(|value| value.value)
}

#[test]
fn a_whole_life() {
    for (name, hierarchy) in layouts() {
        let mut fixture = Fixture::new(&hierarchy);
        if fixture.has(Controller::Memory) {
            let limits = r#"{"memory":{"limit":67108864,"swap":134217728},"cpu":{"quota":50000,"period":100000,"shares":512},
                "pids":{"limit":50}}"#;
            assert_eq!(fixture.cgroup.apply(&resources(limits)).unwrap(), [], "{name}");
            let limit = value(&fixture.cgroup, "memory.max").or(value(&fixture.cgroup, "memory.limit_in_bytes"));
            assert_eq!(limit.as_deref(), Some("67108864"), "{name}");
            assert_eq!(value(&fixture.cgroup, "pids.max").as_deref(), Some("50"), "{name}");
            let quota = value(&fixture.cgroup, "cpu.max").or(value(&fixture.cgroup, "cpu.cfs_quota_us")).unwrap();
            assert!(quota.starts_with("50000"), "{name}: {quota}");
        }
        let own = pid(fixture.shell("sleep 100"));
        assert_eq!(fixture.cgroup.processes().unwrap(), [own], "{name}");
        let stats = fixture.cgroup.stats().unwrap();
        assert_eq!(stats.pids.as_ref().unwrap().current, 1, "{name}");
        if fixture.has(Controller::Memory) {
            assert_eq!(stats.memory.as_ref().unwrap().limit, Some(67_108_864), "{name}");
        }
        assert!(stats.cpu.is_some(), "{name}");

        // As another process would find it, through JSON.
        let json = serde_json::to_string(fixture.cgroup.describe()).unwrap();
        let description: Description = serde_json::from_str(&json).unwrap();
        let mut again = Cgroup::open(&description).unwrap();
        assert_eq!(again.processes().unwrap(), [own], "{name}");
        let found = Cgroup::find(&hierarchy, &format!("{}/group", fixture.parent)).unwrap().unwrap();
        assert_eq!(found.describe(), &description, "{name}");
        let found = Cgroup::of_process(&hierarchy, own).unwrap().unwrap();
        assert_eq!(found.describe(), &description, "{name}");

        assert!(!again.frozen().unwrap(), "{name}");
        again.freeze().unwrap();
        assert!(again.frozen().unwrap(), "{name}");
        again.thaw().unwrap();
        assert!(!again.frozen().unwrap(), "{name}");

        // A frozen group can be killed.
        again.freeze().unwrap();
        again.kill().unwrap();
        assert!(!fixture.children[0].wait().unwrap().success(), "{name}");
        again.remove().unwrap();
        assert!(!Cgroup::open(&description).unwrap().exists(), "{name}");
        again.remove().unwrap();
    }
}

#[test]
fn memory_over_the_limit_is_killed_and_reported() {
    for (name, hierarchy) in layouts() {
        let mut fixture = Fixture::new(&hierarchy);
        if !fixture.has(Controller::Memory) {
            continue;
        }
        fixture.cgroup.apply(&resources(r#"{"memory":{"limit":16777216,"swap":16777216}}"#)).unwrap();
        let watch = fixture.cgroup.oom_watch().unwrap().unwrap();
        assert_eq!(fixture.cgroup.oom_kills().unwrap(), 0);
        let child = fixture.shell("head -c 64M /dev/zero | tail");
        go(child);
        let timeout = Timespec { tv_sec: 10, tv_nsec: 0 };
        let ready = rustix::event::poll(&mut [PollFd::new(&watch, PollFlags::IN)], Some(&timeout)).unwrap();
        assert_eq!(ready, 1, "{name}: not announced");
        assert!(!fixture.children[0].wait().unwrap().success(), "{name}");
        watch.drain().unwrap();
        assert_eq!(fixture.cgroup.oom_kills().unwrap(), 1, "{name}");
        assert_eq!(fixture.cgroup.stats().unwrap().memory.unwrap().oom_kills, 1, "{name}");
    }
}

#[test]
fn tasks_over_the_limit_are_refused() {
    for (name, hierarchy) in layouts() {
        let mut fixture = Fixture::new(&hierarchy);
        if !fixture.has(Controller::Pids) {
            continue;
        }
        fixture.cgroup.apply(&resources(r#"{"pids":{"limit":3}}"#)).unwrap();
        // With the shell itself, two more may be; the third fork fails and ends the shell.
        let child = fixture.shell("sleep 0.2 & sleep 0.2 & sleep 0.2 & wait; exit 0");
        go(child);
        assert!(!fixture.children[0].wait().unwrap().success(), "{name}");
    }
}

#[test]
fn devices_are_denied_unless_named() {
    for (name, hierarchy) in layouts() {
        let mut fixture = Fixture::new(&hierarchy);
        let rules = LinuxResources { devices: crate::default_device_rules(), ..Default::default() };
        assert_eq!(fixture.cgroup.apply(&rules).unwrap(), [], "{name}");
        let node = std::env::temp_dir().join(format!("dhow-test-device-{}-{name}", std::process::id()));
        drop(std::fs::remove_file(&node));
        // A loop device: made (allowed), opened (not allowed). Null and zero can be used.
        let script =
            format!("true < /dev/null && head -c 1 /dev/zero && mknod {0} c 1 11 && ! head -c 1 {0}", node.display());
        let child = fixture.shell(&script);
        go(child);
        let status = fixture.children[0].wait().unwrap();
        drop(std::fs::remove_file(&node));
        assert!(status.success(), "{name}");
        let limits = fixture.cgroup.limits().unwrap();
        let programs = limits.groups.iter().filter_map(|group| group.device_programs.clone()).flatten().count();
        assert_eq!(programs == 1, hierarchy.layout() == Layout::Unified, "{name}");

        // An update replaces the rules; a device more.
        let mut more = rules.clone();
        more.devices
            .push(serde_json::from_str(r#"{"allow":true,"type":"c","major":1,"minor":11,"access":"rw"}"#).unwrap());
        fixture.cgroup.apply(&more).unwrap();
        let child = fixture.shell("exec 3< /dev/kmsg");
        go(child);
        assert!(fixture.children[1].wait().unwrap().success(), "{name}: allowed by the update");
        fixture.cgroup.apply(&rules).unwrap();
        let child = fixture.shell("exec 3< /dev/kmsg");
        go(child);
        assert!(!fixture.children[2].wait().unwrap().success(), "{name}: taken back by the update");
        let limits = fixture.cgroup.limits().unwrap();
        assert!(limits.groups.iter().filter_map(|group| group.device_programs.as_ref()).all(|ids| ids.len() <= 1));
    }
}

#[test]
fn a_limit_that_comes_later_reaches_the_running() {
    for (name, hierarchy) in layouts() {
        let mut fixture = Fixture::new(&hierarchy);
        if !fixture.has(Controller::Cpuset) || !fixture.has(Controller::Memory) {
            continue;
        }
        fixture.cgroup.apply(&resources(r#"{"memory":{"limit":33554432,"swap":33554432}}"#)).unwrap();
        let child = fixture.shell("sleep 100 & wait");
        go(child);
        while fixture.cgroup.processes().unwrap().len() < 2 {
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
        let processes = fixture.cgroup.processes().unwrap();
        let update =
            r#"{"memory":{"limit":67108864,"swap":100000000},"cpu":{"cpus":"0","period":50000,"quota":20000}}"#;
        fixture.cgroup.apply(&resources(update)).unwrap();
        let affinity = rustix::thread::sched_getaffinity(Some(processes[0])).unwrap();
        assert_eq!(affinity.count(), 1, "{name}");
        // Every directory has everybody.
        for joined in &fixture.cgroup.joined {
            let text = joined.directory.read("cgroup.procs").unwrap();
            assert_eq!(text.lines().count(), processes.len(), "{name} {:?}", joined.directory.path());
        }
        // And back down, and a period alone keeps the quota.
        fixture
            .cgroup
            .apply(&resources(r#"{"memory":{"limit":33554432,"swap":33554432},"cpu":{"period":40000}}"#))
            .unwrap();
        let quota = value(&fixture.cgroup, "cpu.max").or(value(&fixture.cgroup, "cpu.cfs_quota_us")).unwrap();
        assert!(quota.starts_with("20000"), "{name}: {quota}");
    }
}

#[test]
fn groups_made_inside_are_listed_killed_and_removed() {
    for (name, hierarchy) in layouts() {
        let mut fixture = Fixture::new(&hierarchy);
        let child = fixture.shell("sleep 100");
        let child = pid(child);
        // As a container does that owns its tree.
        for joined in &fixture.cgroup.joined {
            let directory = &joined.directory;
            directory.make("inner").unwrap();
            let inner = directory.child("inner").unwrap();
            inner.make("deep").unwrap();
            (0..6).for_each(|number| inner.make(&format!("empty-{number}")).unwrap());
            let deep = inner.child("deep").unwrap();
            deep.write("cgroup.procs", &child.as_raw_nonzero().to_string()).unwrap();
        }
        assert_eq!(fixture.cgroup.processes().unwrap(), [child], "{name}");
        // Somebody else's path is not ours to take.
        let again = Cgroup::create(&hierarchy, &format!("{}/group", fixture.parent));
        assert!(matches!(again, Err(Error::Occupied { .. })), "{name}: {again:?}");
        for joined in &fixture.cgroup.joined {
            let inner = joined.directory.child("inner").unwrap();
            assert_eq!(inner.children().unwrap().len(), 7, "{name}: what is empty there is not ours either");
        }
        fixture.cgroup.kill().unwrap();
        fixture.children[0].wait().unwrap();
        fixture.cgroup.remove().unwrap();
        assert!(!Cgroup::open(fixture.cgroup.describe()).unwrap().exists(), "{name}");
    }
}

#[test]
fn limits_of_a_group_that_is_taken_hold() {
    for (name, hierarchy) in layouts() {
        let mut fixture = Fixture::new(&hierarchy);
        let path = format!("{}/group", fixture.parent);
        let limits = |cgroup: &mut Cgroup| {
            cgroup.make_everywhere().unwrap();
            value(cgroup, "pids.max")
        };
        let devices = |list: &str| resources(&format!(r#"{{"devices":[{{"allow":false}}{list}]}}"#));
        fixture.cgroup.make_everywhere().unwrap();
        let pids = fixture.has(Controller::Pids);
        if pids {
            assert_eq!(fixture.cgroup.apply(&resources(r#"{"pids":{"limit":50}}"#)).unwrap(), [], "{name}");
        }
        fixture.cgroup.apply(&devices("")).unwrap();
        let mut taken = Cgroup::take_or_create(&hierarchy, &path).unwrap();
        assert_eq!(limits(&mut taken), pids.then(|| "50".to_owned()), "{name}");
        // Its rules for devices are in place of what was there.
        taken.apply(&devices(r#",{"allow":true,"type":"c","major":1,"minor":3,"access":"rwm"}"#)).unwrap();
        for joined in &taken.joined {
            match joined.directory.read_if_there("devices.list").unwrap() {
                Some(list) => assert_eq!(list, "c 1:3 rwm\n", "{name}"),
                None if joined.version == Version::V2 => {
                    let programs = kernel::bpf::device_programs(joined.directory.as_fd()).unwrap();
                    assert!(programs.len() <= 1, "{name}: {programs:?}");
                }
                None => {}
            }
        }
        // Nobody could enter a group of v2 that is prepared for groups inside.
        for joined in &taken.joined {
            joined.directory.make("inner").unwrap();
        }
        let max = pids.then(|| "max".to_owned());
        assert_eq!(limits(&mut Cgroup::take_or_create(&hierarchy, &path).unwrap()), max, "{name}");
        assert_eq!(limits(&mut Cgroup::create(&hierarchy, &path).unwrap()), max, "{name}");
    }
}

#[test]
fn what_cannot_be_had_is_named() {
    for (name, hierarchy) in layouts() {
        let mut fixture = Fixture::new(&hierarchy);
        let mut refusal = |json: &str| fixture.cgroup.apply(&resources(json)).unwrap_err();
        if !hierarchy.controllers().contains(&Controller::Rdma) {
            let error = refusal(r#"{"rdma":{"mlx5_0":{"hcaHandles":3}}}"#);
            let text =
                "rdma cannot be set here (controller rdma): no mounted tree of control groups has this controller";
            assert_eq!(error.to_string(), text, "{name}");
        }
        if hierarchy.controllers().contains(&Controller::Cpuset) {
            let error = refusal(r#"{"cpu":{"cpus":"8000"}}"#);
            assert!(matches!(error, Error::Set { .. }), "{name}: {error}");
            assert!(error.to_string().contains("; available: "), "{name}: {error}");
        }
        if hierarchy.layout() == Layout::Unified && hierarchy.controllers().contains(&Controller::Memory) {
            let error = refusal(r#"{"memory":{"swappiness":5}}"#);
            assert!(error.to_string().ends_with("cgroup v2 has no such limit"), "{name}: {error}");
        }
        assert!(matches!(refusal(r#"{"cpu":{"cpus":"1-9999999"}}"#), Error::Invalid(_)), "{name}");
        assert!(matches!(Cgroup::create(&hierarchy, "/dhow-test/../x"), Err(Error::Path { .. })), "{name}");
    }
}

/// `cargo test -p cgroup -- --ignored --nocapture`: medians of the parts that stand on the start path.
#[test]
#[ignore = "a measurement"]
#[allow(clippy::print_stdout, reason = "a measurement prints")]
fn measure() {
    use std::time::{Duration, Instant};
    let limits =
        r#"{"memory":{"limit":67108864,"swap":134217728},"cpu":{"quota":50000,"period":100000},"pids":{"limit":50}}"#;
    for (name, _) in layouts() {
        for (what, json) in [("devices only", "{}"), ("-m --cpus --pids-limit", limits)] {
            let mut wanted = resources(json);
            wanted.devices = crate::default_device_rules();
            let mut times: Vec<[Duration; 5]> = Vec::new();
            for _ in 0..200 {
                let start = Instant::now();
                Hierarchy::detect().unwrap();
                let detect = start.elapsed();
                let hierarchy = layouts().into_iter().find(|(other, _)| *other == name).unwrap().1;
                let start = Instant::now();
                let mut cgroup = Cgroup::create(&hierarchy, "/dhow-test-measure/x").unwrap();
                let create = start.elapsed();
                if !hierarchy.controllers().contains(&Controller::Memory) {
                    wanted = LinuxResources { devices: wanted.devices, ..Default::default() };
                }
                let start = Instant::now();
                cgroup.apply(&wanted).unwrap();
                let apply = start.elapsed();
                let mut child = Command::new("/bin/sleep").arg("100").spawn().unwrap();
                let start = Instant::now();
                cgroup.add_to_rest(pid(&child)).unwrap();
                let add = start.elapsed();
                cgroup.kill().unwrap();
                child.kill().unwrap();
                child.wait().unwrap();
                let start = Instant::now();
                cgroup.remove().unwrap();
                times.push([detect, create, apply, add, start.elapsed()]);
            }
            let median = |part: usize| {
                let mut all: Vec<Duration> = times.iter().map(|times| times[part]).collect();
                all.sort();
                all[all.len() / 2]
            };
            println!(
                "{name}, {what}: detect {:?}, create {:?}, apply {:?}, add to rest {:?}, remove {:?}",
                median(0),
                median(1),
                median(2),
                median(3),
                median(4)
            );
        }
        let hierarchy = layouts().into_iter().find(|(other, _)| *other == name).unwrap().1;
        remove_if_empty(&hierarchy, "/dhow-test-measure").unwrap();
    }
}

#[test]
fn a_group_that_was_given_to_us_with_processes_in_it() {
    for (name, hierarchy) in layouts() {
        if hierarchy.layout() != Layout::Unified || !hierarchy.controllers().contains(&Controller::Memory) {
            continue;
        }
        let mut given = Fixture::new(&hierarchy);
        let child = pid(given.shell("sleep 100"));
        // As for the container's own root: its parent hands nothing down yet.
        let inside = hierarchy.beneath(&given.cgroup.describe().path).unwrap();
        let mut cgroup = Cgroup::create(&inside, "/dhow/x").unwrap();
        let limits = r#"{"memory":{"limit":33554432},"cpu":{"quota":50000},"pids":{"limit":5}}"#;
        cgroup.apply(&resources(limits)).unwrap();
        assert_eq!(value(&cgroup, "memory.max").as_deref(), Some("33554432"), "{name}");
        let again = Cgroup::open(cgroup.describe()).unwrap();
        again.remove().unwrap();
        assert_eq!(given.cgroup.processes().unwrap(), [child], "{name}");
    }
}

/// Delegated by whoever started us, or else through the user's systemd.
#[test]
fn an_ordinary_user() {
    if rustix::process::geteuid().is_root() {
        return skip("for ordinary users");
    }
    let hierarchy = Hierarchy::detect().unwrap();
    let unit = format!("dhow-test-{}.scope", std::process::id());
    let (hierarchy, scope) = match hierarchy.obtain(&unit) {
        Ok(obtained) => obtained,
        Err(Error::NotDelegated { reason }) => return skip(&reason),
        Err(error) => panic!("{error}"),
    };
    let mut fixture = Fixture::new(&hierarchy);
    fixture.cgroup.apply(&resources(r#"{"memory":{"limit":33554432},"pids":{"limit":5}}"#)).unwrap();
    let child = pid(fixture.shell("sleep 100"));
    assert_eq!(fixture.cgroup.processes().unwrap(), [child]);
    assert_eq!(value(&fixture.cgroup, "memory.max").as_deref(), Some("33554432"));
    fixture.cgroup.freeze().unwrap();
    fixture.cgroup.kill().unwrap();
    assert_eq!(scope.is_some(), hierarchy.base().contains(&unit));
    // The scope, in which this process is now, is found without asking again.
    let again = Hierarchy::detect().unwrap().delegated().unwrap();
    assert!(scope.is_none() || again.base() == hierarchy.base(), "{} {}", again.base(), hierarchy.base());
}

#[test]
fn groups_below_others_are_found_again() {
    for (name, hierarchy) in layouts() {
        let fixture = Fixture::new(&hierarchy);
        let mut below = hierarchy.clone();
        for mount in &mut below.mounts {
            mount.above = fixture.parent.trim_start_matches('/').to_owned();
        }
        let mut cgroup = Cgroup::create(&below, "one/two").unwrap();
        cgroup.make_everywhere().unwrap();
        let end = format!("{}/one/two", fixture.parent);
        assert_eq!(cgroup.directories().len(), hierarchy.mounts().len(), "{name}");
        assert!(cgroup.directories().iter().all(|(_, path)| path.to_string_lossy().ends_with(&end)), "{name}");
        let mut child = Command::new("/bin/sleep").arg("100").spawn().unwrap();
        cgroup.add(pid(&child)).unwrap();
        let json = serde_json::to_string(cgroup.describe()).unwrap();
        let mut again = Cgroup::open(&serde_json::from_str(&json).unwrap()).unwrap();
        assert_eq!(again.processes().unwrap(), [pid(&child)], "{name}");
        again.kill().unwrap();
        child.wait().unwrap();
        again.remove().unwrap();
        assert!(!Cgroup::open(cgroup.describe()).unwrap().exists(), "{name}");
        remove_if_empty(&hierarchy, &format!("{}/one", fixture.parent)).unwrap();
        let mut wrong = cgroup.describe().clone();
        wrong.mounts[0].above = "../..".to_owned();
        assert!(matches!(Cgroup::open(&wrong), Err(Error::Path { .. })), "{name}");
    }
}
