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
    for place in ["proc", "dev", "sys"] {
        std::fs::create_dir_all(floor.lower().join(place)).unwrap();
    }
    let merged = floor.path.path().join("merged");
    std::fs::create_dir_all(&merged).unwrap();
    let root = merged.to_str().unwrap().to_owned();
    let base = floor.path.path().to_str().unwrap().to_owned();
    let options = format!("lowerdir={base}/lower,upperdir={base}/upper,workdir={base}/work");

    let stdio = |pipe| if pipe { support::pipes().0 } else { Stdio::Inherit };
    let container = runtime::create(&ours_sleeping(&floor), stdio(true), |_| Ok(())).unwrap().start().unwrap();
    let exec_plan = ExecPlan { process: full.process.clone(), cgroup: full.cgroup.clone(), keyring: None };

    let mut results: [(&str, Vec<Duration>); 5] = [
        ("fork and exec", Vec::new()),
        ("floor: namespaces and mounts", Vec::new()),
        ("runtime: the same", Vec::new()),
        ("runtime: with masked and read-only paths", Vec::new()),
        ("runtime: exec", Vec::new()),
    ];
    let start = |plan: &runtime::Plan| {
        let started = runtime::create(plan, Stdio::Inherit, |_| Ok(())).unwrap().start().unwrap();
        assert_eq!(support::wait(&started), 0);
    };
    let mut processor = [0; 5];
    for _ in 0..rounds() {
        let mut measure = |index: usize, work: &dyn Fn()| {
            let (before, ticks) = (Instant::now(), processor_ticks());
            // Ten at once, because the kernel counts processor time in hundredths of a second.
            (0..10).for_each(|_| work());
            results[index].1.push(before.elapsed() / 10);
            processor[index] += processor_ticks() - ticks;
        };
        measure(0, &|| spawn(Namespaces::NONE, || execute("/bin/busybox")));
        measure(1, &|| spawn(six(), || floor_child(&root, &options)));
        measure(2, &|| start(&bare));
        measure(3, &|| start(&full));
        measure(4, &|| {
            let target = support::borrow(&container.pidfd);
            let started = runtime::exec(&exec_plan, target, container.pid, Stdio::Inherit).unwrap();
            assert_eq!(support::wait(&started), 0);
        });
    }
    rustix::process::pidfd_send_signal(&container.pidfd, rustix::process::Signal::KILL).unwrap();
    support::wait(&container);
    let floor_median = median(&mut results[1].1.clone());
    for (index, (name, mut times)) in results.into_iter().enumerate() {
        let median = median(&mut times);
        println!(
            "{name:42} median {:5} µs, least {:5} µs, {:.2} of the floor; processor {:5} µs, {:.2} of the floor",
            median.as_micros(),
            times[0].as_micros(),
            median.as_secs_f64() / floor_median.as_secs_f64(),
            processor[index] * 10_000 / (rounds() as u64 * 10),
            processor[index] as f64 / processor[1] as f64,
        );
    }
}

/// User and system time of this process and its children that were waited for, in hundredths of a second (proc(5)).
fn processor_ticks() -> u64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let fields = stat.rsplit_once(')').unwrap().1.split_whitespace();
    fields.skip(11).take(4).map(|field| field.parse::<u64>().unwrap()).sum()
}

fn ours_sleeping(bundle: &Bundle) -> runtime::Plan {
    let mut options = bundle.options();
    options.root = Some(runtime::RootSource::Directory { path: bundle.lower() });
    runtime::plan(&spec(&["sleep", "1000"]), &options).unwrap()
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
