//! The processes of a container that has no cgroup: an ordinary user's, to whom none is delegated.

use std::os::fd::AsFd;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use oci::runtime::LinuxNamespaceType;
use rustix::process::Pid;

use crate::error::Result;
use crate::kill::Signal;
use crate::process;
use crate::store::Container;

/// The first process and those that share with it a namespace that was made for the container: that of processes, or of mounts. Who has left
/// that for one of its own is not found; where it was of processes, it ends with the first all the same.
#[derive(Debug)]
pub(crate) struct Kin {
    first: Pid,
    namespace: Option<(&'static str, PathBuf)>,
}

impl Kin {
    /// `None` for a container that has ended.
    pub(crate) fn of(container: &Container) -> Result<Option<Self>> {
        let kinds = [(LinuxNamespaceType::Pid, "pid"), (LinuxNamespaceType::Mount, "mnt")];
        let own = kinds.into_iter().find(|(kind, _)| container.has_own(*kind));
        let Some(first) = container.record.pid() else { return Ok(None) };
        let namespace = own.and_then(|(_, kind)| Some((kind, process::namespace(first, kind)?)));
        // After it was looked at, so that it was the container's and not of whoever has the number now.
        Ok(container.open_process()?.map(|_| Self { first, namespace }))
    }

    pub(crate) fn processes(&self) -> Vec<Pid> {
        match &self.namespace {
            Some((kind, namespace)) => process::in_namespace(kind, namespace),
            None => vec![self.first],
        }
    }

    /// To each of them.
    pub(crate) fn send(&self, signal: Signal) {
        for pid in self.processes() {
            // Its number may be somebody else's by now: what has the namespace after the descriptor was had is the container's.
            if let Ok(process) = kernel::clone::open_pidfd(pid)
                && self.has(pid)
            {
                // It may end at any moment.
                drop(kernel::signals::send(process.as_fd(), signal));
            }
        }
    }

    fn has(&self, pid: Pid) -> bool {
        let namespace = self.namespace.as_ref();
        namespace.is_none_or(|(kind, namespace)| process::namespace(pid, kind).as_ref() == Some(namespace))
    }

    /// Ends them, and those that they start meanwhile.
    pub(crate) fn kill(&self) {
        let until = Instant::now() + Duration::from_secs(2);
        self.send(KILL);
        while self.namespace.is_some() && !self.processes().is_empty() && Instant::now() < until {
            std::thread::sleep(Duration::from_millis(1));
            self.send(KILL);
        }
    }
}

pub(crate) const KILL: Signal = 9;
