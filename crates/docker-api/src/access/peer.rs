//! A client, as the kernel or its certificate says who it is.

use super::policy::Tier;
use std::os::fd::AsFd;

/// Who a client is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Who {
    /// A process of this machine, as it was when it connected.
    User {
        /// User id, as this user namespace numbers them.
        uid: u32,
        /// Group ids: the process's own and its supplementary ones.
        groups: Vec<u32>,
        /// Process id, for the log only: it may be another's by now.
        pid: i32,
    },
    /// A client with a certificate that we trust: `sha256:…` of the certificate as it came (DER).
    Certificate(String),
    /// Somebody on this machine's loopback.
    Anonymous,
}

/// How a user namespace shows all users that it has no number for: nobody in particular (user_namespaces(7)).
const OVERFLOW: u32 = 65_534;

impl Who {
    /// Who is at the other end of a Unix socket; nobody known when the kernel does not say.
    pub fn at(socket: impl AsFd) -> Who {
        let Ok(credentials) = rustix::net::sockopt::socket_peercred(&socket) else { return Who::Anonymous };
        if credentials.uid.as_raw() == OVERFLOW {
            return Who::Anonymous;
        }
        let mut groups = vec![credentials.gid.as_raw()];
        // Before Linux 4.13 only the process's own group is known: less is allowed then, never more.
        groups.extend(kernel::peers::groups(socket.as_fd()).unwrap_or_default());
        Who::User { uid: credentials.uid.as_raw(), groups, pid: credentials.pid.as_raw_nonzero().get() }
    }
}

impl Who {
    /// The process that connected, if that is known.
    pub fn pid(&self) -> Option<i32> {
        match self {
            Who::User { pid, .. } => Some(*pid),
            _ => None,
        }
    }
}

impl std::fmt::Display for Who {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Who::User { uid, .. } => write!(f, "uid:{uid}"),
            Who::Certificate(digest) => write!(f, "certificate:{digest}"),
            Who::Anonymous => f.write_str("anonymous"),
        }
    }
}

/// A client with what it may do.
#[derive(Clone, Debug)]
pub struct Peer {
    /// Who it is.
    pub who: Who,
    /// What it may do.
    pub tier: Tier,
    /// The rule that says so, as refusals name it.
    pub rule: String,
}

impl Peer {
    /// What stands in the records of what it makes.
    pub fn owner(&self) -> String {
        self.who.to_string()
    }
}
