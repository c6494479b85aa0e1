//! Facts of this machine that lowering depends on, read once per process.

use crate::error::{Context, Result};

/// What the kernel and our place in it allow.
#[derive(Clone, Debug)]
pub(crate) struct Host {
    /// We are root of a user namespace, not of the machine.
    pub user_namespace: bool,
    /// Only one id exists in our user namespace.
    pub single_id: bool,
    /// Group 5 (tty) exists in our user namespace.
    pub tty_group: bool,
    /// The last of the groups that exist in our user namespace from 0 on without a gap; at most what a sysctl takes.
    pub last_group: u32,
    /// Version of the running kernel.
    pub kernel: seccomp::KernelVersion,
    /// The AppArmor module is enabled.
    pub apparmor: bool,
    /// The SELinux module is enabled.
    pub selinux: bool,
}

impl Host {
    /// Reads the facts.
    pub(crate) fn read() -> Result<Host> {
        let map = |name: &str| {
            std::fs::read_to_string(format!("/proc/self/{name}")).internal(|| format!("cannot read /proc/self/{name}"))
        };
        Ok(Host {
            user_namespace: !is_initial(&map("uid_map")?),
            single_id: only_one(&map("uid_map")?),
            tty_group: contains(&map("gid_map")?, 5),
            last_group: last_of_first_range(&map("gid_map")?),
            kernel: kernel_version(),
            apparmor: kernel::lsm::apparmor_enabled(),
            selinux: kernel::lsm::selinux_enabled(),
        })
    }
}

/// The initial user namespace maps all ids onto themselves (user_namespaces(7)).
fn is_initial(map: &str) -> bool {
    map.split_ascii_whitespace().eq(["0", "0", "4294967295"])
}

/// Major and minor number; 0.0, older than any condition, where the release cannot be read.
fn kernel_version() -> seccomp::KernelVersion {
    let names = rustix::system::uname();
    let release = names.release().to_string_lossy();
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(|digits| digits.parse().unwrap_or(0));
    seccomp::KernelVersion(numbers.next().unwrap_or(0), numbers.next().unwrap_or(0))
}

fn only_one(map: &str) -> bool {
    map.lines().count() == 1 && map.split_ascii_whitespace().nth(2) == Some("1")
}

/// Ranges that follow one another without a gap count as one.
fn last_of_first_range(map: &str) -> u32 {
    let mut end = 0;
    for line in map.lines() {
        let numbers: Vec<u64> = line.split_ascii_whitespace().filter_map(|word| word.parse().ok()).collect();
        match numbers.as_slice() {
            [inside, _, count] if *inside == end => end = inside.saturating_add(*count),
            _ => break,
        }
    }
    u32::try_from(end.saturating_sub(1)).unwrap_or(u32::MAX).min(i32::MAX.cast_unsigned())
}

fn contains(map: &str, id: u64) -> bool {
    map.lines().any(|line| {
        let numbers: Vec<u64> = line.split_ascii_whitespace().filter_map(|word| word.parse().ok()).collect();
        matches!(numbers.as_slice(), [inside, _, count] if (*inside..inside.saturating_add(*count)).contains(&id))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn maps() {
        assert!(is_initial("         0          0 4294967295\n"));
        assert!(!is_initial("         0       1000          1\n"));
        assert!(contains("0 1000 1\n1 100000 65536\n", 5));
        assert!(!contains("0 1000 1\n", 5));
        let last =
            [("0 0 4294967295\n", 2_147_483_647), ("0 1000 1\n", 0), ("0 1000 1\n1 100000 65536\n", 65_536), ("", 0)];
        for (map, expected) in last {
            assert_eq!(last_of_first_range(map), expected, "{map}");
        }
    }
}
