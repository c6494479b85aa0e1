//! An ordinary user becomes root of a user namespace of their own.
//!
//! Everything below then works as for root, with the power that the kernel gives such a root: over what this user and
//! their subordinate ids own. The mapping is `0 → the user` and `1… → the ranges of /etc/subuid and /etc/subgid`, written
//! by the set-user-id programs `newuidmap` and `newgidmap`; where there is no range, or no such program, one id is all.
//!
//! Namespaces are found again through any monitor that lives in one, the process that keeps the user's networks, or the first
//! command in them while it runs, so that all of a user's containers are in the same.

use crate::error::{Context, Error, Kind, Result};
use crate::users::subordinate;
use kernel::clone::Clone;
use kernel::namespaces::{self, Namespaces};
use rustix::fs::{CWD, FlockOperation, Mode, OFlags};
use rustix::process::{Pid, WaitOptions};
use std::fs;
use std::io::{Read, Seek, Write};
use std::os::fd::AsFd;
use std::path::Path;
use std::process::{Command, Stdio};

/// Moves this process into the user's namespaces. Must be called before a thread exists. Root stays where it is.
///
/// # Errors
/// [`Kind::Unavailable`] where the kernel or its configuration does not let users have namespaces.
pub fn enter(run_root: &Path) -> Result<()> {
    if rustix::process::geteuid().is_root() {
        return Ok(());
    }
    if join(run_root) {
        return Ok(());
    }
    // Two first commands at the same time must not make two namespaces: their containers could share no network.
    crate::directories::make(run_root, 0o700)?;
    let path = run_root.join("user-namespace");
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let file = rustix::fs::openat(CWD, &path, flags, Mode::from_raw_mode(0o600))
        .internal(|| format!("cannot open {}", path.display()))?;
    rustix::fs::flock(&file, FlockOperation::LockExclusive).internal(|| format!("cannot lock {}", path.display()))?;
    let mut file = fs::File::from(file);
    if join(run_root) || join_noted(&mut file) {
        return Ok(());
    }
    create()?;
    note(&mut file).internal(|| format!("cannot write {}", path.display()))
}

/// This process is the first in its namespace.
fn note(file: &mut fs::File) -> std::io::Result<()> {
    let namespace = fs::read_link("/proc/self/ns/user")?;
    file.set_len(0)?;
    file.rewind()?;
    writeln!(file, "{} {}", rustix::process::getpid().as_raw_nonzero(), namespace.display())
}

/// Joins the namespace of the command that made the last one, while it runs.
fn join_noted(file: &mut fs::File) -> bool {
    let mut text = String::new();
    if file.read_to_string(&mut text).is_err() {
        return false;
    }
    let Some((pid, namespace)) = text.trim().split_once(' ') else { return false };
    // By the namespace's own number it is certain that this is not another process of the same number.
    let is_same = fs::read_link(format!("/proc/{pid}/ns/user")).is_ok_and(|link| link.as_os_str() == namespace);
    is_same && pid.parse().is_ok_and(|pid| join_process(pid).is_ok())
}

/// Joins the namespaces of a container that runs, or of the process that keeps this user's networks; false when there is
/// none, or it has just ended.
fn join(run_root: &Path) -> bool {
    if crate::networks::user::holder(run_root)
        .is_some_and(|pid| is_role(pid, crate::roles::HOLDER) && join_process(pid).is_ok())
    {
        return true;
    }
    let Ok(entries) = fs::read_dir(run_root.join("containers")) else { return false };
    entries.flatten().any(|entry| {
        let state = monitor::State::read(&entry.path()).ok().flatten();
        state.is_some_and(|state| {
            is_role(state.monitor_pid, crate::roles::MONITOR) && join_process(state.monitor_pid).is_ok()
        })
    })
}

/// The number may have been given to another process since.
pub(crate) fn is_role(pid: i32, role: &str) -> bool {
    let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    line.split(|byte| *byte == 0).next() == Some(role.as_bytes())
}

fn join_process(pid: i32) -> kernel::Result<()> {
    let pid = Pid::from_raw(pid).ok_or_else(|| kernel::Error::new("setns(<no process>)", rustix::io::Errno::SRCH))?;
    let user = namespaces::open(pid, Namespaces::USER)?;
    namespaces::join(user.as_fd(), Namespaces::USER)?;
    // A mount namespace of our own, so that relative paths keep their meaning.
    namespaces::unshare(Namespaces::MOUNT)
}

fn create() -> Result<()> {
    let (uid, gid) = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
    let name = user_name(uid);
    let uids = subordinate("/etc/subuid", Some(uid), name.as_deref());
    let gids = subordinate("/etc/subgid", Some(uid), name.as_deref());
    if !uids.is_empty() && !gids.is_empty() && program("newuidmap") && program("newgidmap") {
        return with_ranges(&mapping(uid, &uids), &mapping(gid, &gids));
    }
    unshare()?;
    // The kernel lets a user map their one id alone, and the group only after giving up setgroups(2) (user_namespaces(7)).
    put("/proc/self/setgroups", "deny")?;
    put("/proc/self/uid_map", &format!("0 {uid} 1"))?;
    put("/proc/self/gid_map", &format!("0 {gid} 1"))
}

fn unshare() -> Result<()> {
    namespaces::unshare(Namespaces::USER | Namespaces::MOUNT).map_err(|error| {
        Error::caused(Kind::Unavailable, "this system does not let ordinary users have user namespaces", error).hint(
            "allow them with `sysctl kernel.unprivileged_userns_clone=1`, `sysctl user.max_user_namespaces=15000` or \
             `sysctl kernel.apparmor_restrict_unprivileged_userns=0`, or run dhow as root",
        )
    })
}

/// A child that stays outside writes the maps: the programs must see our namespace from its parent.
fn with_ranges(uids: &[String], gids: &[String]) -> Result<()> {
    let (go, gone) =
        rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).internal(|| "cannot make a pipe".into())?;
    let target = rustix::process::getpid().as_raw_nonzero().to_string();
    let mut gone = Some(gone);
    let child = Clone::default()
        .spawn(|| {
            // The child's copy would keep the end of file away.
            drop(gone.take());
            let mut byte = [0];
            // End of file means that there is no namespace to map.
            if rustix::io::read(&go, &mut byte) != Ok(1) {
                return 3;
            }
            let map = |program: &str, ranges: &[String]| {
                let mut command = Command::new(program);
                command.arg(&target).args(ranges).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
                command.status().is_ok_and(|status| status.success())
            };
            if !map("newuidmap", uids) {
                return 1;
            }
            if map("newgidmap", gids) { 0 } else { 2 }
        })
        .internal(|| "cannot start a helper".into())?;
    let unshared = unshare();
    if let (Ok(()), Some(gone)) = (&unshared, &gone) {
        rustix::io::write(gone, b"!").internal(|| "cannot tell the helper".into())?;
    }
    drop(gone);
    let status = rustix::process::waitpid(Some(child.pid), WaitOptions::empty())
        .internal(|| "cannot wait for the helper".into())?;
    unshared?;
    let failed = |program: &str| {
        Err(Error::new(Kind::Unavailable, format!("{program} did not map the ids that /etc/subuid and /etc/subgid give to this user"))
            .hint("see that /etc/subuid and /etc/subgid are right and newuidmap and newgidmap are set-user-id (package uidmap)"))
    };
    match status.and_then(|(_, status)| status.exit_status()) {
        Some(0) => Ok(()),
        Some(2) => failed("newgidmap"),
        _ => failed("newuidmap"),
    }
}

/// Arguments of newuidmap(1): triples of first id inside, first id outside, count.
fn mapping(own: u32, ranges: &[(u32, u32)]) -> Vec<String> {
    let mut arguments = vec!["0".to_owned(), own.to_string(), "1".to_owned()];
    let mut inside: u32 = 1;
    for &(first, count) in ranges {
        arguments.extend([inside.to_string(), first.to_string(), count.to_string()]);
        inside = inside.saturating_add(count);
    }
    arguments
}

fn user_name(uid: u32) -> Option<String> {
    let text = fs::read_to_string("/etc/passwd").ok()?;
    text.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)?.parse() == Ok(uid)).then(|| name.to_owned())
    })
}

fn program(name: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|directory| directory.join(name).is_file())
}

fn put(path: &str, text: &str) -> Result<()> {
    let mut file = fs::OpenOptions::new().write(true).open(path).internal(|| format!("cannot open {path}"))?;
    file.write_all(text.as_bytes()).internal(|| format!("cannot write {text:?} to {path}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_of_the_mappers() {
        assert_eq!(mapping(1000, &[(100_000, 10), (5, 2)]), ["0", "1000", "1", "1", "100000", "10", "11", "5", "2"]);
    }
}
