//! What a start costs: create, start and wait for `true`, beside a floor of the same namespaces and mounts by bare calls.
//!
//! `cargo bench -p runtime` prints medians and minima in microseconds, measured in turns so that both meet the same load.
#![allow(clippy::print_stdout, reason = "it reports on standard output")]

#[path = "../tests/support/mod.rs"]
mod support;

use std::time::{Duration, Instant};

use kernel::clone::Clone as Cloning;
use kernel::namespaces::Namespaces;
use runtime::{ExecPlan, Stdio};
use rustix::mount::{MountFlags, MountPropagationFlags, UnmountFlags};
use support::{Bundle, spec};

fn rounds() -> usize {
    std::env::args().filter_map(|each| each.parse().ok()).next().unwrap_or(40)
}

const NAMES: [&str; 8] = [
    "fork and exec",
    "floor: namespaces and mounts",
    "runtime: the same",
    "runtime: with masked and read-only paths",
    "runtime: the same, create and start apart",
    "runtime: exec",
    "runtime: in all hierarchies of cgroup v1",
    "kernel: seal this program",
];

fn main() {
    if !rustix::process::geteuid().is_root() {
        println!("SKIP: start: needs root");
        return;
    }
    let (ours, floor) = (Bundle::new(), Bundle::new());
    let mut bare = spec(&["/bin/true"]);
    bare.linux.as_mut().unwrap().masked_paths.clear();
    bare.linux.as_mut().unwrap().readonly_paths.clear();
    let bare = ours.plan(&bare);
    let full = ours.plan(&spec(&["/bin/true"]));
    let in_cgroups = runtime::Plan { cgroup: cgroups(), ..full.clone() };
    let (root, options) = floor_paths(&floor);
    let container = runtime::run(&sleeping(&floor), support::pipes().0, |_| Ok(())).unwrap();
    let exec_plan = ExecPlan {
        process: full.process.clone(),
        cgroup: full.cgroup.clone(),
        keyring: None,
        no_other_cgroup: false,
        own_namespaces: Vec::new(),
        in_foreign_mounts: false,
    };
    let ended_well = |started: runtime::Started| assert_eq!(support::wait(&started), 0);
    let start = |plan: &runtime::Plan| ended_well(runtime::run(plan, Stdio::Inherit, |_| Ok(())).unwrap());
    let works: [&dyn Fn(); 8] = [
        &|| spawn(Namespaces::NONE, || execute("/bin/busybox")),
        &|| spawn(six(), || floor_child(&root, &options)),
        &|| start(&bare),
        &|| start(&full),
        &|| ended_well(runtime::create(&full, Stdio::Inherit, |_| Ok(())).unwrap().start().unwrap()),
        &|| {
            let target = support::borrow(&container.pidfd);
            ended_well(runtime::exec(&exec_plan, target, container.pid, Stdio::Inherit).unwrap());
        },
        &|| start(&in_cgroups),
        &|| drop(kernel::exe::sealed_self().unwrap()),
    ];
    let mut times = vec![Vec::new(); works.len()];
    let mut processor = [0; 8];
    for _ in 0..rounds() {
        for (index, work) in works.iter().enumerate() {
            let (before, ticks) = (Instant::now(), processor_ticks());
            // Ten at once, because the kernel counts processor time in hundredths of a second.
            (0..10).for_each(|_| work());
            times[index].push(before.elapsed() / 10);
            processor[index] += processor_ticks() - ticks;
        }
    }
    rustix::process::pidfd_send_signal(&container.pidfd, rustix::process::Signal::KILL).unwrap();
    support::wait(&container);
    for (_, directory) in &in_cgroups.cgroup.legacy {
        while std::fs::remove_dir(directory).is_err() {
            std::thread::sleep(Duration::from_millis(20));
        }
    }
    report(&mut times, &processor);
}

fn report(times: &mut [Vec<Duration>], processor: &[u64]) {
    let medians: Vec<Duration> = times.iter_mut().map(|times| median(times)).collect();
    for (index, name) in NAMES.iter().enumerate() {
        println!(
            "{name:42} median {:5} µs, least {:5} µs, {:.2} of the floor; processor {:5} µs, {:.2} of the floor",
            medians[index].as_micros(),
            times[index][0].as_micros(),
            medians[index].as_secs_f64() / medians[1].as_secs_f64(),
            processor[index] * 10_000 / (rounds() as u64 * 10),
            processor[index] as f64 / processor[1] as f64,
        );
    }
}

/// Where the floor program mounts its overlay, and with which options.
fn floor_paths(bundle: &Bundle) -> (String, String) {
    for place in ["proc", "dev", "sys"] {
        std::fs::create_dir_all(bundle.lower().join(place)).unwrap();
    }
    let base = bundle.path.path().to_str().unwrap().to_owned();
    let root = format!("{base}/merged");
    std::fs::create_dir_all(&root).unwrap();
    (root, format!("lowerdir={base}/lower,upperdir={base}/upper,workdir={base}/work"))
}

/// User and system time of this process and its children that were waited for, in hundredths of a second (proc(5)).
fn processor_ticks() -> u64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let fields = stat.rsplit_once(')').unwrap().1.split_whitespace();
    fields.skip(11).take(4).map(|field| field.parse::<u64>().unwrap()).sum()
}

fn sleeping(bundle: &Bundle) -> runtime::Plan {
    let mut options = bundle.options();
    options.root = Some(runtime::RootSource::Directory { path: bundle.lower() });
    runtime::plan(&spec(&["sleep", "1000"]), &options).unwrap()
}

/// A group in every hierarchy of v1, beside the one that this process is in.
fn cgroups() -> runtime::CgroupPlan {
    let mut plan = runtime::CgroupPlan::default();
    for line in std::fs::read_to_string("/proc/self/cgroup").unwrap().lines() {
        let mut fields = line.splitn(3, ':').skip(1);
        let (name, path) = (fields.next().unwrap().trim_start_matches("name="), fields.next().unwrap());
        let parent = std::path::Path::new("/sys/fs/cgroup").join(name).join(path.trim_start_matches('/'));
        let directory = parent.join(format!("dhow-test-{}", std::process::id()));
        if name.is_empty() || name == "cpuset" || std::fs::create_dir(&directory).is_err() {
            continue;
        }
        plan.legacy.push((name.to_owned(), directory));
    }
    plan
}

fn median(times: &mut [Duration]) -> Duration {
    times.sort_unstable();
    times[times.len() / 2]
}

fn six() -> Namespaces {
    Namespaces::PID | Namespaces::NETWORK | Namespaces::IPC | Namespaces::UTS | Namespaces::MOUNT | Namespaces::CGROUP
}

fn spawn(namespaces: Namespaces, child: impl FnOnce() -> i32) {
    let child = Cloning { namespaces, ..Cloning::default() }.spawn(child).unwrap();
    let (_, status) =
        rustix::process::waitpid(Some(child.pid), rustix::process::WaitOptions::empty()).unwrap().unwrap();
    assert_eq!(status.exit_status(), Some(0));
}

fn execute(path: &str) -> i32 {
    let path = std::ffi::CString::new(path).unwrap();
    let arguments = kernel::exe::Strings::new(["true"]).unwrap();
    let environment = kernel::exe::Strings::new([]).unwrap();
    match kernel::exe::execute(&path, &arguments, &environment) {
        Ok(never) => match never {},
        Err(_) => 127,
    }
}

/// The least that a container needs, by mount(2).
fn floor_child(root: &str, options: &str) -> i32 {
    let none = MountFlags::empty();
    let data = |text: &str| std::ffi::CString::new(text).unwrap();
    rustix::mount::mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC).unwrap();
    rustix::mount::mount("overlay", root, "overlay", none, Some(data(options).as_c_str())).unwrap();
    rustix::process::chdir(root).unwrap();
    let mount = |kind: &str, target: &str, options: &str| {
        rustix::mount::mount(kind, target, kind, none, Some(data(options).as_c_str())).unwrap();
    };
    mount("proc", "proc", "");
    mount("tmpfs", "dev", "mode=755");
    for name in ["dev/pts", "dev/mqueue", "dev/shm"] {
        std::fs::create_dir(name).unwrap();
    }
    mount("devpts", "dev/pts", "newinstance,ptmxmode=0666,mode=620,gid=5");
    mount("sysfs", "sys", "");
    mount("mqueue", "dev/mqueue", "");
    mount("tmpfs", "dev/shm", "mode=1777");
    let devices = [("null", 1, 3), ("zero", 1, 5), ("full", 1, 7), ("random", 1, 8), ("urandom", 1, 9), ("tty", 5, 0)];
    for (name, major, minor) in devices {
        let (kind, mode) = (rustix::fs::FileType::CharacterDevice, rustix::fs::Mode::from_raw_mode(0o666));
        let number = rustix::fs::makedev(major, minor);
        rustix::fs::mknodat(rustix::fs::CWD, format!("dev/{name}").as_str(), kind, mode, number).unwrap();
    }
    rustix::process::pivot_root(".", ".").unwrap();
    rustix::mount::unmount(".", UnmountFlags::DETACH).unwrap();
    rustix::system::sethostname(b"box").unwrap();
    execute("/bin/true")
}
