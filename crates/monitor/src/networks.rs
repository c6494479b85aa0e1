//! The container's networks as its monitor has them: joined at its start, and by request while it runs.

use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};

use kernel::namespaces::{self, Namespaces};
use rustix::io::Errno;
use rustix::net::SocketType;
use rustix::process::Pid;

use crate::error::{Error, Kind};
use crate::guard::{Guard, Healer};
use crate::launch;
use crate::names::NameServer;
use crate::plan::{Launch, NetworkChange};
use crate::supervisor::{CONTAINER, Monitor};

/// What a monitor holds for its container's networks.
#[derive(Debug, Default)]
pub(crate) struct Networks {
    /// Host ports that are taken.
    pub(crate) ports: Vec<OwnedFd>,
    /// Who passes on what comes to them, where the kernel does not.
    pub(crate) relay: Option<network::Relay>,
    /// Who answers names.
    pub(crate) names: Option<NameServer>,
    /// Who watches over the rules.
    pub(crate) guard: Option<Guard>,
}

impl Monitor {
    /// Keeps sockets that are bound to published ports as long as this monitor lives; the handover brought them.
    pub fn hold_ports(&mut self, sockets: Vec<OwnedFd>) {
        self.networks.ports.extend(sockets);
    }

    /// Takes part in watching over the firewall's rules. That it cannot is no reason not to run a container: they are looked
    /// at again when the next one starts.
    pub fn watch_rules(&mut self, lock: &std::path::Path, healer: Healer) {
        self.networks.guard = Guard::open(lock, healer).ok();
    }

    /// The container has ended for good, and what it had is about to be given back: rules are watched over no longer.
    pub fn watch_no_longer(&self) {
        self.networks.guard.iter().for_each(Guard::conclude);
    }

    /// Joins or leaves a network.
    pub(crate) fn change_network(&mut self, change: NetworkChange) -> Result<(), Error> {
        let pid = self.sessions.get(&CONTAINER).filter(|session| session.exit.is_none()).map(|session| session.pid);
        let pid = pid.and_then(Pid::from_raw);
        let pid = pid.ok_or_else(|| Error::refused(Kind::NotRunning, "the container is not running"))?;
        let failed = |source: Box<dyn std::error::Error + Send + Sync>| Error::Launch { kind: Kind::Failed, source };
        let namespace = match namespaces::open(pid, Namespaces::NETWORK) {
            // It has ended and is not reaped yet: such a process has no namespaces any more (namespaces(7)).
            Err(error) if error.errno() == Errno::NOENT => {
                return Err(Error::refused(Kind::NotRunning, "the container has ended"));
            }
            opened => opened.map_err(|error| failed(error.into()))?,
        };
        let work = || -> Result<(), network::Error> {
            change.attachments.iter().try_for_each(|each| network::attach(each, namespace.as_fd()))?;
            change.direct.iter().try_for_each(|each| network::attach_direct(each, namespace.as_fd()))?;
            change.detach.iter().try_for_each(|name| network::detach(name))?;
            change.remove.iter().try_for_each(|name| network::remove_inside(name, namespace.as_fd()))?;
            network::reroute(&change.routes, namespace.as_fd())
        };
        let held = change.hold.iter().map(|(protocol, address, port)| network::hold(*protocol, *address, *port));
        let held = held.collect::<Result<Vec<_>, _>>().map_err(|error| failed(error.into()))?;
        work().map_err(|error| failed(error.into()))?;
        self.networks.ports.extend(held.into_iter().map(|(socket, _)| socket));
        self.networks
            .ports
            .retain(|socket| !change.let_go.iter().any(|(protocol, port)| holds(socket, *protocol, *port)));
        match (&mut self.networks.names, change.names.clone()) {
            (Some(server), Some(plan)) => server.set_plan(plan),
            (None, Some(plan)) => {
                let server = NameServer::open(namespace.as_fd(), plan).map_err(|error| failed(error.into()))?;
                self.networks.names = Some(server);
            }
            // resolv.conf of a container that runs still says that it is here.
            (_, None) => {}
        }
        if let (Some(relay), Some(targets)) = (&mut self.networks.relay, &change.relay_targets) {
            relay.set_targets(targets.clone());
        }
        // For a restart under this monitor.
        if let Launch::Container(container) = &mut self.plan.launch {
            container.attachments.retain(|each| !change.detach.contains(&each.host_interface));
            container.direct.retain(|each| !change.remove.contains(&each.container_interface));
            container.attachments.extend(change.attachments);
            container.direct.extend(change.direct);
            launch::set_gateways(container, &change.routes);
            if change.names.is_some() {
                container.names = change.names;
            }
            if let (Some(relay), Some(targets)) = (&mut container.relay, change.relay_targets) {
                relay.targets = targets;
            }
        }
        Ok(())
    }
}

/// Whether a socket holds this port of the host.
fn holds(socket: &OwnedFd, protocol: network::Protocol, port: u16) -> bool {
    let kind = match protocol {
        network::Protocol::Tcp => SocketType::STREAM,
        network::Protocol::Udp => SocketType::DGRAM,
        network::Protocol::Sctp => SocketType::SEQPACKET,
    };
    let bound = rustix::net::getsockname(socket).ok().and_then(|address| SocketAddr::try_from(address).ok());
    rustix::net::sockopt::socket_type(socket) == Ok(kind) && bound.is_some_and(|address| address.port() == port)
}
