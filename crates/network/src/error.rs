//! What can go wrong, with a failed request to the kernel printed as strace prints a system call.

use crate::netlink::Failure;
use rustix::io::Errno;
use std::fmt;
use std::net::IpAddr;

/// An error of this crate.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The kernel refused a netlink request or a system call.
    #[error(transparent)]
    Kernel(#[from] Refusal),
    /// A name that cannot be a network interface's.
    #[error("{0:?} cannot be an interface name (1 to 15 bytes, no slash, space or colon, not . or ..)")]
    InterfaceName(String),
    /// There is a device of that name already and it is not ours to use.
    #[error("interface {name} exists and is {found}, wanted {wanted}")]
    Taken {
        /// The interface.
        name: String,
        /// The kind it has (`IFLA_INFO_KIND`), or "a device".
        found: String,
        /// The kind wanted.
        wanted: &'static str,
    },
    /// A subnet overlaps a route of the host.
    #[error("subnet {subnet} overlaps {other}, which belongs to {owner}")]
    Overlap {
        /// What was wanted.
        subnet: crate::Cidr,
        /// What is there.
        other: crate::Cidr,
        /// Interface or network that has it.
        owner: String,
    },
    /// No subnet of the pools is free.
    #[error("every subnet of the address pools is in use or overlaps a route of this machine")]
    PoolsExhausted,
    /// No address of the subnet is free.
    #[error("no free address in {0}")]
    SubnetExhausted(crate::Cidr),
    /// The address asked for is in use or not usable.
    #[error("address {address} is not usable in {subnet}: {reason}")]
    Address {
        /// What was asked for.
        address: IpAddr,
        /// The subnet.
        subnet: crate::Cidr,
        /// Why not.
        reason: &'static str,
    },
    /// Our tables are not there (flushed by another program, or never made): call `ensure_rules` with the whole ruleset.
    #[error("the nftables table inet {table} is gone or incomplete")]
    RulesGone {
        /// The table's name.
        table: &'static str,
        /// What the kernel said.
        #[source]
        source: Refusal,
    },
    /// The process could not return to the network namespace it came from; it must end.
    #[error("could not return to the original network namespace: {0}")]
    Stranded(Refusal),
    /// firewalld runs, and could not be asked to let containers out.
    #[error("firewalld could not be asked to let containers out: {0}")]
    Firewalld(#[source] dbus::Error),
    /// A published port cannot be put into the maps.
    #[error("port {port} cannot be published: {reason}")]
    Publish {
        /// In Docker's notation.
        port: String,
        /// Why not.
        reason: String,
    },
}

impl Error {
    /// The kernel's errno where the kernel refused.
    pub fn errno(&self) -> Option<Errno> {
        match self {
            Error::Kernel(refusal) | Error::Stranded(refusal) | Error::RulesGone { source: refusal, .. } => {
                Some(refusal.errno)
            }
            _ => None,
        }
    }
}

/// A request that the kernel refused: `RTM_NEWLINK(bridge dhow0): EEXIST (File exists)`.
#[derive(Clone, Debug)]
pub struct Refusal {
    /// The request with its important arguments.
    pub operation: String,
    /// The kernel's errno.
    pub errno: Errno,
    /// The kernel's own sentence (extended acknowledgement), where it has one.
    pub message: Option<String>,
}

impl std::error::Error for Refusal {}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // "File exists (os error 17)" without its tail.
        let text = std::io::Error::from_raw_os_error(self.errno.raw_os_error()).to_string();
        let text = text.split(" (os error").next().unwrap_or_default();
        match name(self.errno) {
            Some(name) => write!(f, "{}: {name} ({text})", self.operation)?,
            None => write!(f, "{}: errno {} ({text})", self.operation, self.errno.raw_os_error())?,
        }
        match &self.message {
            Some(message) => write!(f, ": {message}"),
            None => Ok(()),
        }
    }
}

/// Names the request in a failure.
pub(crate) fn refused(operation: impl Into<String>) -> impl FnOnce(Failure) -> Error {
    move |failure| {
        Error::Kernel(Refusal { operation: operation.into(), errno: failure.errno, message: failure.message })
    }
}

/// A failed system call.
pub(crate) fn failed(operation: impl Into<String>, errno: Errno) -> Error {
    Error::Kernel(Refusal { operation: operation.into(), errno, message: None })
}

/// A failed call of the standard library.
pub(crate) fn failed_io(operation: impl Into<String>, error: &std::io::Error) -> Error {
    failed(operation, error.raw_os_error().map_or(Errno::IO, Errno::from_raw_os_error))
}

/// Symbolic names of the errors that the calls of this crate give.
fn name(errno: Errno) -> Option<&'static str> {
    Some(match errno {
        Errno::PERM => "EPERM",
        Errno::NOENT => "ENOENT",
        Errno::INTR => "EINTR",
        Errno::IO => "EIO",
        Errno::BADF => "EBADF",
        Errno::AGAIN => "EAGAIN",
        Errno::NOMEM => "ENOMEM",
        Errno::ACCESS => "EACCES",
        Errno::BUSY => "EBUSY",
        Errno::EXIST => "EEXIST",
        Errno::NODEV => "ENODEV",
        Errno::INVAL => "EINVAL",
        Errno::MFILE => "EMFILE",
        Errno::NFILE => "ENFILE",
        Errno::NOSPC => "ENOSPC",
        Errno::ROFS => "EROFS",
        Errno::RANGE => "ERANGE",
        Errno::NAMETOOLONG => "ENAMETOOLONG",
        Errno::NOSYS => "ENOSYS",
        Errno::LOOP => "ELOOP",
        Errno::MSGSIZE => "EMSGSIZE",
        Errno::NOPROTOOPT => "ENOPROTOOPT",
        Errno::PROTONOSUPPORT => "EPROTONOSUPPORT",
        Errno::OPNOTSUPP => "EOPNOTSUPP",
        Errno::AFNOSUPPORT => "EAFNOSUPPORT",
        Errno::ADDRINUSE => "EADDRINUSE",
        Errno::ADDRNOTAVAIL => "EADDRNOTAVAIL",
        Errno::NETDOWN => "ENETDOWN",
        Errno::NETUNREACH => "ENETUNREACH",
        Errno::HOSTUNREACH => "EHOSTUNREACH",
        Errno::NOBUFS => "ENOBUFS",
        Errno::NXIO => "ENXIO",
        Errno::SRCH => "ESRCH",
        Errno::TIMEDOUT => "ETIMEDOUT",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prints_like_strace() {
        let refusal = Refusal { operation: "RTM_NEWLINK(bridge dhow0)".into(), errno: Errno::EXIST, message: None };
        assert_eq!(refusal.to_string(), "RTM_NEWLINK(bridge dhow0): EEXIST (File exists)");
        let refusal = Refusal { message: Some("Device does not exist".into()), ..refusal };
        assert_eq!(refusal.to_string(), "RTM_NEWLINK(bridge dhow0): EEXIST (File exists): Device does not exist");
    }
}
