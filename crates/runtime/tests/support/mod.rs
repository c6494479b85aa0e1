//! What the tests share: a root file system of busybox, a plan of an ordinary container, running it.
#![allow(dead_code, reason = "each test binary uses a part of it")]

use std::io::Read;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use oci::runtime::{Linux, LinuxCapabilities, LinuxNamespace, LinuxNamespaceType, Mount, Process, Root, Spec};
use runtime::{Plan, PlanOptions, RootSource, Started, Stdio};
use rustix::process::WaitOptions;

/// A directory with layers that vanishes with the value.
pub struct Bundle {
    pub path: tempfile::TempDir,
}

impl Bundle {
    pub fn new() -> Self {
        let path = tempfile::Builder::new().prefix("dhow-test-").tempdir().unwrap();
        for directory in ["lower/bin", "lower/etc", "lower/tmp", "upper", "work"] {
            std::fs::create_dir_all(path.path().join(directory)).unwrap();
        }
        let lower = path.path().join("lower");
        std::fs::copy("/bin/busybox", lower.join("bin/busybox")).unwrap();
        for name in [
            "sh", "true", "false", "cat", "id", "echo", "ls", "sleep", "mount", "touch", "hostname", "stat", "env",
            "pwd", "readlink", "kill", "tty", "dd", "mkdir", "wc", "grep", "ps", "test",
        ] {
            std::os::unix::fs::symlink("busybox", lower.join("bin").join(name)).unwrap();
        }
        std::fs::write(
            lower.join("etc/passwd"),
            "root:x:0:0:root:/root:/bin/sh\nuser:x:1000:1000::/home/user:/bin/sh\n",
        )
        .unwrap();
        std::fs::write(lower.join("etc/group"), "root:x:0:\nuser:x:1000:\ntape:x:26:user\n").unwrap();
        std::fs::write(lower.join("bin/plain"), "#!/bin/sh\necho no\n").unwrap();
        Self { path }
    }

    pub fn lower(&self) -> PathBuf {
        self.path.path().join("lower")
    }

    pub fn overlay(&self) -> RootSource {
        RootSource::Overlay {
            lower: vec![self.lower()],
            upper: Some(self.path.path().join("upper")),
            work: Some(self.path.path().join("work")),
            userxattr: false,
            volatile: false,
        }
    }

    pub fn options(&self) -> PlanOptions {
        PlanOptions {
            id: "test".into(),
            bundle: self.path.path().to_path_buf(),
            root: Some(self.overlay()),
            ..PlanOptions::default()
        }
    }

    pub fn plan(&self, spec: &Spec) -> Plan {
        runtime::plan(spec, &self.options()).unwrap()
    }
}

pub fn mount(kind: &str, source: &str, destination: &str, options: &[&str]) -> Mount {
    Mount {
        destination: destination.into(),
        kind: Some(kind.into()),
        source: Some(source.into()),
        options: options.iter().map(|each| (*each).to_owned()).collect(),
        ..Mount::default()
    }
}

pub const DOCKER_CAPABILITIES: [&str; 14] = [
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_FSETID",
    "CAP_FOWNER",
    "CAP_MKNOD",
    "CAP_NET_RAW",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SETFCAP",
    "CAP_SETPCAP",
    "CAP_NET_BIND_SERVICE",
    "CAP_SYS_CHROOT",
    "CAP_KILL",
    "CAP_AUDIT_WRITE",
];

/// Docker's defaults: six namespaces, its mounts, capabilities, masked and read-only paths.
pub fn spec(arguments: &[&str]) -> Spec {
    use LinuxNamespaceType as Kind;
    let kinds = [Kind::Pid, Kind::Network, Kind::Ipc, Kind::Uts, Kind::Mount, Kind::Cgroup];
    let names: Vec<String> = DOCKER_CAPABILITIES.iter().map(|each| (*each).to_owned()).collect();
    let strings = |list: &[&str]| list.iter().map(|each| (*each).to_owned()).collect::<Vec<_>>();
    Spec {
        oci_version: "1.3.0".into(),
        process: Some(Process {
            args: strings(arguments),
            env: strings(&["PATH=/usr/bin:/bin"]),
            cwd: "/".into(),
            capabilities: Some(LinuxCapabilities {
                bounding: names.clone(),
                effective: names.clone(),
                permitted: names,
                ..LinuxCapabilities::default()
            }),
            ..Process::default()
        }),
        root: Some(Root { path: "rootfs".into(), readonly: false }),
        hostname: Some("box".into()),
        mounts: vec![
            mount("proc", "proc", "/proc", &["nosuid", "noexec", "nodev"]),
            mount("tmpfs", "tmpfs", "/dev", &["nosuid", "strictatime", "mode=755", "size=65536k"]),
            mount(
                "devpts",
                "devpts",
                "/dev/pts",
                &["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"],
            ),
            mount("sysfs", "sysfs", "/sys", &["nosuid", "noexec", "nodev", "ro"]),
            mount("mqueue", "mqueue", "/dev/mqueue", &["nosuid", "noexec", "nodev"]),
            mount("tmpfs", "shm", "/dev/shm", &["nosuid", "noexec", "nodev", "mode=1777", "size=65536k"]),
        ],
        linux: Some(Linux {
            namespaces: kinds.iter().map(|kind| LinuxNamespace { kind: *kind, path: None }).collect(),
            masked_paths: strings(&[
                "/proc/asound",
                "/proc/acpi",
                "/proc/kcore",
                "/proc/keys",
                "/proc/latency_stats",
                "/proc/timer_list",
                "/proc/timer_stats",
                "/proc/sched_debug",
                "/proc/scsi",
                "/sys/firmware",
                "/sys/devices/virtual/powercap",
            ]),
            readonly_paths: strings(&["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"]),
            ..Linux::default()
        }),
        ..Spec::default()
    }
}

pub struct Output {
    pub status: i32,
    pub text: String,
}

pub fn pipes() -> (Stdio, OwnedFd) {
    let (read, write) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).unwrap();
    let null = std::fs::OpenOptions::new().read(true).write(true).open("/dev/null").unwrap();
    (Stdio::Streams { stdin: null.into(), stdout: write.try_clone().unwrap(), stderr: write }, read)
}

/// Exit status, or 128 plus the signal.
pub fn wait(started: &Started) -> i32 {
    let (_, status) = rustix::process::waitpid(Some(started.pid), WaitOptions::empty()).unwrap().unwrap();
    status.exit_status().unwrap_or_else(|| 128 + status.terminating_signal().unwrap())
}

pub fn read(fd: OwnedFd) -> String {
    let mut text = Vec::new();
    // A terminal whose other end is closed answers EIO.
    drop(std::fs::File::from(fd).read_to_end(&mut text));
    String::from_utf8_lossy(&text).into_owned()
}

/// Creates, starts, reads everything, waits.
pub fn run(plan: &Plan) -> runtime::Result<Output> {
    let (stdio, output) = pipes();
    let started = runtime::run(plan, stdio, |_| Ok(()))?;
    let text = read(output);
    Ok(Output { status: wait(&started), text })
}

/// Runs a shell script in an ordinary container of a new bundle.
pub fn shell(script: &str) -> Output {
    let bundle = Bundle::new();
    run(&bundle.plan(&spec(&["sh", "-c", script]))).unwrap()
}

pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(error) = next {
        text = format!("{text}: {error}");
        next = error.source();
    }
    text
}

pub fn open(path: &Path) -> OwnedFd {
    use rustix::fs::{Mode, OFlags};
    rustix::fs::open(path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).unwrap()
}

pub fn borrow(fd: &OwnedFd) -> std::os::fd::BorrowedFd<'_> {
    fd.as_fd()
}

/// Runs a closure in a child process; gives whether it returned without panic.
pub fn in_child(namespaces: kernel::namespaces::Namespaces, work: impl FnOnce() -> i32) -> i32 {
    let child = kernel::clone::Clone { namespaces, ..Default::default() }.spawn(work).unwrap();
    let (_, status) =
        rustix::process::waitpid(Some(child.pid), rustix::process::WaitOptions::empty()).unwrap().unwrap();
    status.exit_status().unwrap_or(255)
}
