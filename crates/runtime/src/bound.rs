//! The attributes of bind mounts. What a specification names is meant as `mount -o remount,bind,…` means it: the rest of what
//! the source has goes, but not what is locked because it comes from a mount namespace of another user namespace
//! (mount_namespaces(7)).

use std::os::fd::{AsRawFd, BorrowedFd};

use kernel::error::Error as SystemCall;
use kernel::mount::{self, Attributes, Change};
use rustix::io::Errno;

use crate::error::{During, Error, Result};
use crate::mounts::name;
use crate::plan::{AttributePlan, MountPlan, Mounted};

/// What forbids something, and is locked with a mount.
const LOCKABLE: Attributes = Attributes::MOUNT_ATTR_RDONLY
    .union(Attributes::MOUNT_ATTR_NOSUID)
    .union(Attributes::MOUNT_ATTR_NODEV)
    .union(Attributes::MOUNT_ATTR_NOEXEC);
/// Everything but how access times are noted.
const FORBIDDING: Attributes = LOCKABLE.union(Attributes::MOUNT_ATTR_NOSYMFOLLOW);
/// How access times are noted.
const TIMES: Attributes = Attributes::MOUNT_ATTR__ATIME.union(Attributes::MOUNT_ATTR_NODIRATIME);

/// The plan for options that name attributes. Access times stay as they are unless a way is chosen, and `nodiratime` is one, which
/// has relatime with it if no other does; `diratime`, like `atime`, is none: so it is with mount(2), and with runc.
pub(crate) fn named(sorted: AttributePlan, chooses_times: bool) -> AttributePlan {
    let set = Attributes::from_bits_retain(sorted.set);
    let mut clear = Attributes::from_bits_retain(sorted.clear).intersection(FORBIDDING);
    if chooses_times || set.contains(Attributes::MOUNT_ATTR_NODIRATIME) {
        clear |= TIMES;
    }
    AttributePlan { clear: clear.bits(), only: true, ..sorted }
}

/// Attributes first, so that the mount is never to be seen without them. `foreign`: its locks are not the kernel's, because
/// the container's maker has opened it for a user namespace that could not have.
pub(crate) fn attach(tree: BorrowedFd<'_>, target: BorrowedFd<'_>, plan: &MountPlan, foreign: bool) -> Result<()> {
    let step = || name(plan);
    let own = plan.attributes;
    let mut attached = false;
    if own.set != 0 || own.clear != 0 || own.only {
        match change_own(tree, plan, foreign) {
            // Linux before 5.12 can do it to one mount, attached.
            Err(error) if error.errno() == Some(Errno::NOSYS) => {
                mount::attach(tree, target).during(step)?;
                attached = true;
                remount(tree, plan, foreign)?;
            }
            other => other?,
        }
    }
    if own.set_below != 0 || own.clear_below != 0 {
        let (set, clear) = (Attributes::from_bits_retain(own.set_below), Attributes::from_bits_retain(own.clear_below));
        match mount::change(tree, &Change { set, clear, recursive: true, ..Change::default() }) {
            Err(error) if error.errno() == Errno::NOSYS => {
                if !attached {
                    mount::attach(tree, target).during(step)?;
                    attached = true;
                }
                remount_all(tree, (set, clear), error).during(step)?;
            }
            other => other.during(step)?,
        }
    }
    if attached { Ok(()) } else { mount::attach(tree, target).during(step) }
}

/// For kernels that cannot do it recursively: to an attached mount below which there is no other, where it is the same. `error` is
/// what they said.
pub(crate) fn remount_all(
    tree: BorrowedFd<'_>,
    (set, clear): (Attributes, Attributes),
    error: SystemCall,
) -> kernel::Result<()> {
    let link = format!("/proc/self/fdinfo/{}", tree.as_raw_fd());
    let read = |path: &str| std::fs::read_to_string(path);
    let (Ok(info), Ok(table)) = (read(&link), read("/proc/self/mountinfo")) else { return Err(error) };
    let Some(own) = info.lines().find_map(|line| line.strip_prefix("mnt_id:")) else { return Err(error) };
    // proc_pid_mountinfo(5): the second is the mount above.
    if table.lines().any(|line| line.split(' ').nth(1) == Some(own.trim())) {
        return Err(error);
    }
    mount::remount_exactly(tree, present(tree)?.difference(clear).union(set))
}

fn change_own(tree: BorrowedFd<'_>, plan: &MountPlan, foreign: bool) -> Result<()> {
    let step = || name(plan);
    let (set, clear) = own(plan);
    let change = |set, clear| mount::change(tree, &Change { set, clear, ..Change::default() });
    if !plan.attributes.only {
        return change(set, clear).during(step);
    }
    // Of what is not named this is the one that is never locked.
    let links = Attributes::MOUNT_ATTR_NOSYMFOLLOW.difference(set);
    if foreign {
        return change(set, clear.union(links)).during(step);
    }
    match change(set, clear.union(FORBIDDING.difference(set))) {
        Err(error) if error.errno() == Errno::PERM => {
            check_locked(plan, present(tree).during(step)?)?;
            change(set.difference(TIMES), links).during(step)
        }
        other => other.during(step),
    }
}

/// The same to a mount that is attached, for kernels without mount_setattr(2).
fn remount(tree: BorrowedFd<'_>, plan: &MountPlan, foreign: bool) -> Result<()> {
    let step = || name(plan);
    let (set, clear) = own(plan);
    let present = present(tree).during(step)?;
    let kept = present.difference(clear).union(set);
    if !plan.attributes.only || foreign {
        return mount::remount_exactly(tree, kept).during(step);
    }
    match mount::remount_exactly(tree, kept.difference(FORBIDDING).union(set)) {
        Err(error) if error.errno() == Errno::PERM => {
            check_locked(plan, present)?;
            mount::remount_exactly(tree, present.difference(Attributes::MOUNT_ATTR_NOSYMFOLLOW).union(set)).during(step)
        }
        other => other.during(step),
    }
}

fn own(plan: &MountPlan) -> (Attributes, Attributes) {
    (Attributes::from_bits_retain(plan.attributes.set), Attributes::from_bits_retain(plan.attributes.clear))
}

/// What is asked for by name and cannot be had is an error; what is only not named stays.
fn check_locked(plan: &MountPlan, present: Attributes) -> Result<()> {
    let (set, clear) = own(plan);
    let mut locked = present & clear & LOCKABLE;
    if clear.contains(TIMES) && present & TIMES != set & TIMES {
        locked |= present & TIMES;
        if locked.is_empty() {
            return Err(refused(plan, "relatime".to_owned()));
        }
    }
    match locked.is_empty() {
        true => Ok(()),
        false => Err(refused(plan, words(locked))),
    }
}

fn refused(plan: &MountPlan, flags: String) -> Error {
    let source_path = match &plan.what {
        Mounted::Bind { source, .. } => source.display().to_string(),
        Mounted::FileSystem { name, .. } => name.clone(),
        Mounted::Cgroup => "cgroup".to_owned(),
    };
    Error::Locked { source_path, destination: plan.destination.clone(), flags }
}

fn words(attributes: Attributes) -> String {
    let names = [
        ("ro", Attributes::MOUNT_ATTR_RDONLY),
        ("nosuid", Attributes::MOUNT_ATTR_NOSUID),
        ("nodev", Attributes::MOUNT_ATTR_NODEV),
        ("noexec", Attributes::MOUNT_ATTR_NOEXEC),
        ("noatime", Attributes::MOUNT_ATTR_NOATIME),
        ("strictatime", Attributes::MOUNT_ATTR_STRICTATIME),
        ("nodiratime", Attributes::MOUNT_ATTR_NODIRATIME),
    ];
    let present: Vec<&str> = names.iter().filter(|(_, one)| attributes.contains(*one)).map(|(name, _)| *name).collect();
    present.join(",")
}

/// The attributes that a mount has, with how it notes access times.
fn present(mount: BorrowedFd<'_>) -> kernel::Result<Attributes> {
    use rustix::fs::StatVfsMountFlags as Flags;
    let flags = rustix::fs::fstatvfs(mount).map_err(|errno| SystemCall::new("fstatvfs(<mount>)", errno))?.f_flag;
    let strict = !flags.intersects(Flags::NOATIME | Flags::RELATIME);
    let times = if strict { Attributes::MOUNT_ATTR_STRICTATIME } else { Attributes::empty() };
    Ok(crate::root::present_attributes(mount)? | times)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(options: &[&str]) -> AttributePlan {
        let options: Vec<String> = options.iter().map(|&option| option.to_owned()).collect();
        let sorted = crate::mount_options::sort(&options);
        named(sorted.attributes, sorted.chooses_times)
    }

    #[test]
    fn access_times_stay_unless_a_way_is_chosen() {
        for options in [&["atime"][..], &["norelatime"], &["diratime"], &["noatime", "atime"], &["ro"]] {
            assert_eq!(of(options).clear & TIMES.bits(), 0, "{options:?}");
            assert_eq!(of(options).set & TIMES.bits(), 0, "{options:?}");
        }
        for (options, set) in [
            (&["relatime"][..], Attributes::empty()),
            (&["noatime"], Attributes::MOUNT_ATTR_NOATIME),
            (&["nodiratime"], Attributes::MOUNT_ATTR_NODIRATIME),
            (&["nodiratime", "norelatime"], Attributes::MOUNT_ATTR_NODIRATIME),
            (&["strictatime"], Attributes::MOUNT_ATTR_STRICTATIME),
        ] {
            assert_eq!((of(options).set, of(options).clear), (set.bits(), TIMES.bits()), "{options:?}");
        }
    }

    #[test]
    fn what_is_taken_away_by_name_is_remembered() {
        let plan = of(&["rw", "suid", "nodev"]);
        assert_eq!(plan.set, Attributes::MOUNT_ATTR_NODEV.bits());
        assert_eq!(plan.clear, (Attributes::MOUNT_ATTR_RDONLY | Attributes::MOUNT_ATTR_NOSUID).bits());
        assert!(plan.only);
    }
}
