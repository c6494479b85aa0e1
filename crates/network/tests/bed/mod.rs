//! A bed of network namespaces for the tests: each test makes its own "host", containers and neighbours, so that nothing
//! of the machine's own network is touched. They end with the test.
#![allow(dead_code, reason = "every test file uses its own part")]
#![allow(clippy::print_stderr, reason = "a skipped test says why")]

use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{CWD, Mode, OFlags};
use rustix::thread::{LinkNameSpaceType, UnshareFlags, move_into_link_name_space};
use std::process::Command;

/// A network namespace.
pub struct Netns {
    fd: OwnedFd,
}

impl AsFd for Netns {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl Netns {
    /// A fresh one, with nothing but a loopback device that is down.
    pub fn new() -> Netns {
        let make = || {
            #[expect(deprecated, reason = "the safe form; only the network namespace of this thread changes")]
            rustix::thread::unshare(UnshareFlags::NEWNET).expect("unshare(CLONE_NEWNET)");
            rustix::fs::openat(CWD, "/proc/thread-self/ns/net", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
                .unwrap()
        };
        Netns { fd: std::thread::spawn(make).join().unwrap() }
    }

    /// A fresh one with its loopback device up.
    pub fn host() -> Netns {
        let netns = Netns::new();
        network::loopback_up(netns.as_fd()).unwrap();
        netns
    }

    /// Runs `work` on a thread of its own inside.
    pub fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        std::thread::scope(|scope| {
            let inside = || {
                move_into_link_name_space(self.fd.as_fd(), Some(LinkNameSpaceType::Network)).unwrap();
                work()
            };
            match scope.spawn(inside).join() {
                Ok(value) => value,
                Err(panic) => std::panic::resume_unwind(panic),
            }
        })
    }

    /// Runs a program inside and returns what it printed; a failure is a panic with its complaint.
    pub fn sh(&self, command: &str) -> String {
        self.run(|| {
            let output = Command::new("sh").args(["-c", command]).output().unwrap();
            let complaint = String::from_utf8_lossy(&output.stderr).into_owned();
            assert!(output.status.success(), "{command}: {complaint}");
            String::from_utf8_lossy(&output.stdout).into_owned()
        })
    }

    /// Runs a program inside; whether it ended well.
    pub fn ok(&self, command: &str) -> bool {
        self.run(|| Command::new("sh").args(["-c", command]).output().unwrap().status.success())
    }
}

/// Whether the test can run here; says why not.
pub fn can_run(programs: &[&str]) -> bool {
    if !rustix::process::geteuid().is_root() {
        eprintln!("SKIP: needs root for network namespaces");
        return false;
    }
    for program in programs {
        if Command::new("sh")
            .args(["-c", &format!("command -v {program} >/dev/null")])
            .status()
            .map_or(true, |s| !s.success())
        {
            eprintln!("SKIP: {program} is not installed");
            return false;
        }
    }
    true
}
