//! The options of a mount, as fstab writes them, sorted into attributes, propagation and what the file system gets.

use kernel::mount::Attributes;

use crate::plan::{AttributePlan, Propagate, PropagationKind};

/// Options of one mount, sorted.
#[derive(Debug, Default)]
pub(crate) struct Sorted {
    pub attributes: AttributePlan,
    /// Some attribute of the mount itself is named.
    pub names_attributes: bool,
    /// A way to note access times is chosen; one that is taken away again says nothing, as with mount(8).
    pub chooses_times: bool,
    pub propagation: Option<Propagate>,
    /// `bind` or `rbind`; true when recursive.
    pub bind: Option<bool>,
    pub copy_up: bool,
    /// `idmap` or `ridmap`; true when recursive.
    pub id_map: Option<bool>,
    /// `x-dhow.subpath=PATH`: only that beneath the source of a bind.
    pub subpath: Option<String>,
    /// `x-dhow.layer=DIRECTORY`, topmost first: the source of a bind is an overlay of them.
    pub layers: Vec<std::path::PathBuf>,
    /// `x-dhow.outside`: mounted before there is a container.
    pub from_outside: bool,
    /// For the file system.
    pub data: Vec<(String, Option<String>)>,
}

/// Bits that an option sets and clears; a mount has one of three ways to note access times, so choosing one clears all.
fn attribute(name: &str) -> Option<(Attributes, Attributes)> {
    let none = Attributes::empty();
    let time = Attributes::MOUNT_ATTR__ATIME;
    Some(match name {
        "ro" => (Attributes::MOUNT_ATTR_RDONLY, none),
        "rw" => (none, Attributes::MOUNT_ATTR_RDONLY),
        "nosuid" => (Attributes::MOUNT_ATTR_NOSUID, none),
        "suid" => (none, Attributes::MOUNT_ATTR_NOSUID),
        "nodev" => (Attributes::MOUNT_ATTR_NODEV, none),
        "dev" => (none, Attributes::MOUNT_ATTR_NODEV),
        "noexec" => (Attributes::MOUNT_ATTR_NOEXEC, none),
        "exec" => (none, Attributes::MOUNT_ATTR_NOEXEC),
        "nodiratime" => (Attributes::MOUNT_ATTR_NODIRATIME, none),
        "diratime" => (none, Attributes::MOUNT_ATTR_NODIRATIME),
        "nosymfollow" => (Attributes::MOUNT_ATTR_NOSYMFOLLOW, none),
        "symfollow" => (none, Attributes::MOUNT_ATTR_NOSYMFOLLOW),
        "noatime" => (Attributes::MOUNT_ATTR_NOATIME, time),
        "strictatime" => (Attributes::MOUNT_ATTR_STRICTATIME, time),
        // What is taken away leaves the kernel's own choice, which has been relatime since Linux 2.6.30 (mount(8)).
        "relatime" | "norelatime" | "atime" | "nostrictatime" => (none, time),
        _ => return None,
    })
}

fn propagation(name: &str) -> Option<Propagate> {
    let (how, recursive) = match name {
        "shared" => (PropagationKind::Shared, false),
        "rshared" => (PropagationKind::Shared, true),
        "slave" => (PropagationKind::Slave, false),
        "rslave" => (PropagationKind::Slave, true),
        "private" => (PropagationKind::Private, false),
        "rprivate" => (PropagationKind::Private, true),
        "unbindable" => (PropagationKind::Unbindable, false),
        "runbindable" => (PropagationKind::Unbindable, true),
        _ => return None,
    };
    Some(Propagate { how, recursive })
}

/// All names that mean something here; everything else goes to the file system.
#[must_use]
pub fn mount_option_names() -> Vec<String> {
    const ATTRIBUTES: [&str; 18] = [
        "atime",
        "dev",
        "diratime",
        "exec",
        "noatime",
        "nodev",
        "nodiratime",
        "noexec",
        "norelatime",
        "nostrictatime",
        "nosuid",
        "nosymfollow",
        "relatime",
        "ro",
        "rw",
        "strictatime",
        "suid",
        "symfollow",
    ];
    const OTHERS: [&str; 8] = ["bind", "defaults", "idmap", "private", "rbind", "ridmap", "shared", "slave"];
    const MORE: [&str; 6] = ["rprivate", "rshared", "rslave", "runbindable", "tmpcopyup", "unbindable"];
    let recursive = ATTRIBUTES.iter().map(|name| format!("r{name}"));
    let plain = ATTRIBUTES.iter().chain(&OTHERS).chain(&MORE).map(|name| (*name).to_owned());
    let mut names: Vec<String> = plain.chain(recursive).collect();
    names.sort();
    names
}

/// Sorts; a later option overrides an earlier one.
pub(crate) fn sort(options: &[String]) -> Sorted {
    let mut sorted = Sorted::default();
    for option in options {
        sorted.take(option);
    }
    sorted
}

impl Sorted {
    fn take(&mut self, option: &str) {
        if let Some(found) = propagation(option) {
            self.propagation = Some(found);
            return;
        }
        // Before the recursive forms, because `rw` and `ro` begin with their letter too, and so does `relatime`.
        if let Some((set, clear)) = attribute(option) {
            self.names_attributes = true;
            match option {
                "noatime" | "relatime" | "strictatime" => self.chooses_times = true,
                "atime" | "norelatime" | "nostrictatime" => self.chooses_times = false,
                _ => {}
            }
            let own = &mut self.attributes;
            own.set = own.set & !clear.bits() | set.bits();
            own.clear = own.clear & !set.bits() | clear.bits();
            return;
        }
        if let Some((set, clear)) = option.strip_prefix('r').and_then(attribute) {
            let own = &mut self.attributes;
            own.set_below = own.set_below & !clear.bits() | set.bits();
            own.clear_below = own.clear_below & !set.bits() | clear.bits();
            return;
        }
        if let Some(path) = option.strip_prefix("x-dhow.subpath=") {
            self.subpath = Some(path.to_owned());
            return;
        }
        if let Some(path) = option.strip_prefix("x-dhow.layer=") {
            self.layers.push(path.into());
            return;
        }
        match option {
            "x-dhow.outside" => self.from_outside = true,
            "bind" => self.bind = Some(false),
            "rbind" => self.bind = Some(true),
            "tmpcopyup" => self.copy_up = true,
            "idmap" => self.id_map = Some(false),
            "ridmap" => self.id_map = Some(true),
            // What mount(8) itself takes out, and opposites of flags that nothing here sets.
            "" | "defaults" | "async" | "nodirsync" | "nolazytime" | "nomand" | "silent" | "loud" | "nofail"
            | "auto" | "noauto" | "user" | "nouser" | "_netdev" | "remount" | "noiversion" => {}
            _ => self.data.push(match option.split_once('=') {
                Some((key, value)) => (key.to_owned(), Some(value.to_owned())),
                None => (option.to_owned(), None),
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_names_are_understood() {
        for name in mount_option_names() {
            assert!(sort(std::slice::from_ref(&name)).data.is_empty(), "{name}");
        }
    }

    #[test]
    fn without_relatime_the_kernel_chooses() {
        let sorted = sort(&["norelatime", "rnorelatime"].map(str::to_owned));
        let (own, time) = (sorted.attributes, Attributes::MOUNT_ATTR__ATIME.bits());
        assert_eq!((own.set, own.clear, own.set_below, own.clear_below), (0, time, 0, time));
    }

    #[test]
    fn options_are_sorted_and_later_ones_win() {
        let options =
            ["nosuid", "rw", "ro", "noatime", "mode=755", "rslave", "rro", "rbind", "huge"].map(str::to_owned);
        let sorted = sort(&options);
        let wanted = Attributes::MOUNT_ATTR_NOSUID | Attributes::MOUNT_ATTR_RDONLY | Attributes::MOUNT_ATTR_NOATIME;
        assert_eq!(sorted.attributes.set, wanted.bits());
        assert_eq!(sorted.attributes.set_below, Attributes::MOUNT_ATTR_RDONLY.bits());
        assert_eq!(sorted.propagation, Some(Propagate { how: PropagationKind::Slave, recursive: true }));
        assert_eq!(sorted.bind, Some(true));
        assert_eq!(sorted.data, [("mode".into(), Some("755".into())), ("huge".into(), None)]);
    }
}
