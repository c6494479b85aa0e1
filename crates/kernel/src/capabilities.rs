//! Capabilities: names, numbers, and the five sets of the calling thread (capabilities(7)).

use rustix::io::Errno;
use rustix::thread::{CapabilitySet as Bits, CapabilitySets};

use crate::error::{Error, Result};

/// Names in the order of their numbers.
const NAMES: [&str; 41] = [
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_DAC_READ_SEARCH",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_KILL",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SETPCAP",
    "CAP_LINUX_IMMUTABLE",
    "CAP_NET_BIND_SERVICE",
    "CAP_NET_BROADCAST",
    "CAP_NET_ADMIN",
    "CAP_NET_RAW",
    "CAP_IPC_LOCK",
    "CAP_IPC_OWNER",
    "CAP_SYS_MODULE",
    "CAP_SYS_RAWIO",
    "CAP_SYS_CHROOT",
    "CAP_SYS_PTRACE",
    "CAP_SYS_PACCT",
    "CAP_SYS_ADMIN",
    "CAP_SYS_BOOT",
    "CAP_SYS_NICE",
    "CAP_SYS_RESOURCE",
    "CAP_SYS_TIME",
    "CAP_SYS_TTY_CONFIG",
    "CAP_MKNOD",
    "CAP_LEASE",
    "CAP_AUDIT_WRITE",
    "CAP_AUDIT_CONTROL",
    "CAP_SETFCAP",
    "CAP_MAC_OVERRIDE",
    "CAP_MAC_ADMIN",
    "CAP_SYSLOG",
    "CAP_WAKE_ALARM",
    "CAP_BLOCK_SUSPEND",
    "CAP_AUDIT_READ",
    "CAP_PERFMON",
    "CAP_BPF",
    "CAP_CHECKPOINT_RESTORE",
];

/// A set of capabilities; bit *n* is capability *n*.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Set(u64);

impl Set {
    /// None.
    pub const EMPTY: Self = Self(0);
    /// Every capability that has a name here.
    pub const ALL: Self = Self((1 << NAMES.len()) - 1);
    /// `CAP_SYS_ADMIN`.
    pub const SYS_ADMIN: Self = Self(1 << 21);
    /// `CAP_SYS_RESOURCE`.
    pub const SYS_RESOURCE: Self = Self(1 << 24);

    /// From the number that `/proc/PID/status` prints in hexadecimal.
    #[must_use]
    pub const fn from_bits(bits: u64) -> Self {
        Self(bits)
    }

    /// The number that `/proc/PID/status` prints in hexadecimal.
    #[must_use]
    pub const fn bits(self) -> u64 {
        self.0
    }

    /// Whether every capability of `other` is in this set.
    #[must_use]
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// Those in both.
    #[must_use]
    pub const fn intersection(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    /// Those in either.
    #[must_use]
    pub const fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Those of this set that are not in `other`.
    #[must_use]
    pub const fn difference(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    /// The names of those in the set, in the order of their numbers.
    pub fn names(self) -> impl Iterator<Item = &'static str> {
        NAMES.iter().enumerate().filter(move |(number, _)| self.0 & (1 << number) != 0).map(|(_, name)| *name)
    }
}

/// The capability of a name such as `CAP_NET_RAW`, `net_raw` or `NET_RAW`.
#[must_use]
pub fn by_name(name: &str) -> Option<Set> {
    let upper = name.to_ascii_uppercase();
    let short = upper.strip_prefix("CAP_").unwrap_or(&upper);
    NAMES.iter().position(|each| &each[4..] == short).map(|number| Set(1 << number))
}

/// The sets that capget(2) knows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Thread {
    /// What the kernel checks.
    pub effective: Set,
    /// What may be raised.
    pub permitted: Set,
    /// What is kept over execve(2) of a program whose file allows it.
    pub inheritable: Set,
}

/// The sets of the calling thread.
pub fn current() -> Result<Thread> {
    let sets = rustix::thread::capabilities(None).map_err(|errno| Error::new("capget(0)", errno))?;
    Ok(Thread {
        effective: Set(sets.effective.bits()),
        permitted: Set(sets.permitted.bits()),
        inheritable: Set(sets.inheritable.bits()),
    })
}

/// Replaces the sets of the calling thread (capset(2)).
pub fn set(sets: Thread) -> Result<()> {
    let raw = CapabilitySets {
        effective: Bits::from_bits_retain(sets.effective.0),
        permitted: Bits::from_bits_retain(sets.permitted.0),
        inheritable: Bits::from_bits_retain(sets.inheritable.0),
    };
    rustix::thread::set_capabilities(None, raw).map_err(|errno| {
        let Thread { effective, permitted, inheritable } = sets;
        let (effective, permitted, inheritable) = (effective.0, permitted.0, inheritable.0);
        Error::new(
            format!("capset(effective {effective:#x}, permitted {permitted:#x}, inheritable {inheritable:#x})"),
            errno,
        )
    })
}

/// Drops from the bounding set whatever is not in `keep`, including capabilities that are newer than this program.
///
/// Needs `CAP_SETPCAP`.
pub fn limit_bounding(keep: Set) -> Result<()> {
    for number in 0..64 {
        if keep.0 & (1 << number) != 0 {
            continue;
        }
        match rustix::thread::remove_capability_from_bounding_set(Bits::from_bits_retain(1 << number)) {
            Ok(()) => {}
            // Beyond the last capability of this kernel.
            Err(Errno::INVAL) => break,
            Err(errno) => return Err(Error::new(format!("prctl(PR_CAPBSET_DROP, {number})"), errno)),
        }
    }
    Ok(())
}

/// The bounding set of the calling thread.
#[must_use]
pub fn bounding() -> Set {
    let mut set = 0;
    for number in 0..64 {
        match rustix::thread::capability_is_in_bounding_set(Bits::from_bits_retain(1 << number)) {
            Ok(true) => set |= 1 << number,
            Ok(false) => {}
            Err(_) => break,
        }
    }
    Set(set)
}

/// Makes the ambient set of the calling thread exactly `wanted` (Linux 4.3).
///
/// Each must be permitted and inheritable.
pub fn set_ambient(wanted: Set) -> Result<()> {
    match rustix::thread::clear_ambient_capability_set() {
        Ok(()) => {}
        Err(errno) => return Err(Error::new("prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL)", errno)),
    }
    for name in wanted.names() {
        let Some(each) = by_name(name) else { continue };
        rustix::thread::configure_capability_in_ambient_set(Bits::from_bits_retain(each.0), true)
            .map_err(|errno| Error::new(format!("prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, {name})"), errno))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_numbers_agree() {
        assert_eq!(by_name("CAP_CHOWN").unwrap().bits(), 1);
        assert_eq!(by_name("sys_admin").unwrap(), Set::SYS_ADMIN);
        assert_eq!(by_name("CAP_SYS_RESOURCE").unwrap(), Set::SYS_RESOURCE);
        assert_eq!(by_name("CAP_CHECKPOINT_RESTORE").unwrap().bits(), 1 << 40);
        assert_eq!(by_name("CAP_NONE"), None);
        assert_eq!(Set::from_bits(0b10_0001).names().collect::<Vec<_>>(), ["CAP_CHOWN", "CAP_KILL"]);
    }

    #[test]
    fn the_current_sets_are_what_procfs_prints() {
        let status = std::fs::read_to_string("/proc/thread-self/status").unwrap();
        let field = |name: &str| {
            let line = status.lines().find(|line| line.starts_with(name)).unwrap();
            u64::from_str_radix(line.split_whitespace().nth(1).unwrap(), 16).unwrap()
        };
        let sets = current().unwrap();
        assert_eq!(sets.effective.bits(), field("CapEff"));
        assert_eq!(sets.permitted.bits(), field("CapPrm"));
        assert_eq!(bounding().bits(), field("CapBnd"));
    }
}
