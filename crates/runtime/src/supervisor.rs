//! The program that answers for a system call filter (config-linux.md, "Seccomp", `listenerPath`).

use std::io::IoSlice;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};

use kernel::error::Error as SystemCall;
use oci::runtime::{ContainerProcessState, ContainerState, State};
use rustix::net::{
    AddressFamily, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketAddrUnix, SocketFlags, SocketType,
};
use rustix::process::Pid;

use crate::error::{During, Error, Result};
use crate::plan::{FilterPlan, ListenerPlan};

/// Where a filter's listener is sent, and what is said with it.
#[derive(Clone, Debug)]
pub(crate) struct Supervisor {
    listener: ListenerPlan,
    state: State,
}

impl Supervisor {
    /// `None` when the process's filter asks nobody.
    pub(crate) fn of(filter: Option<&FilterPlan>, status: ContainerState, container: Pid) -> Option<Self> {
        let listener = filter?.listener.clone()?;
        let state = State {
            oci_version: oci::runtime::VERSION.to_owned(),
            id: listener.container.clone(),
            status,
            pid: container.as_raw_nonzero().get().cast_unsigned(),
            bundle: listener.bundle.display().to_string(),
            annotations: listener.annotations.clone(),
        };
        Some(Self { listener, state })
    }
}

/// Sends the listener; the process runs into its filter as soon as it goes on, so this comes first.
pub(crate) fn hand_over(supervisor: Option<&Supervisor>, pid: Pid, listener: &OwnedFd) -> Result<()> {
    let Some(supervisor) = supervisor else {
        return Err(Error::Refused("the system call filter has a listener, and nobody to answer on it".to_owned()));
    };
    let message = ContainerProcessState {
        oci_version: oci::runtime::VERSION.to_owned(),
        fds: vec!["seccompFd".to_owned()],
        pid: pid.as_raw_nonzero().get().cast_unsigned(),
        metadata: supervisor.listener.metadata.clone(),
        state: supervisor.state.clone(),
    };
    let text = serde_json::to_vec(&message).map_err(|error| Error::Refused(error.to_string()))?;
    let socket = &supervisor.listener.socket;
    let fail = |call: &'static str| move |errno| SystemCall::new(format!("{call}({socket:?})"), errno);
    let work = || {
        let step = || "hand the system call filter's listener to its supervisor";
        let kind = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None);
        let connection = kind.map_err(fail("socket")).during(step)?;
        let address = SocketAddrUnix::new(socket).map_err(fail("sockaddr_un")).during(step)?;
        rustix::net::connect(&connection, &address)
            .map_err(fail("connect"))
            .during(|| "hand over the system call filter's listener: failed to connect with seccomp agent")?;
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut ancillary = SendAncillaryBuffer::new(&mut space);
        let descriptors = [listener.as_fd()];
        // The space is for exactly one, so it is never refused.
        let _ = ancillary.push(SendAncillaryMessage::ScmRights(&descriptors));
        rustix::net::sendmsg(&connection, &[IoSlice::new(&text)], &mut ancillary, SendFlags::NOSIGNAL)
            .map_err(fail("sendmsg"))
            .map(drop)
            .during(step)
    };
    work()
}
