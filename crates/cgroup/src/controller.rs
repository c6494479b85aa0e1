//! The controllers that dhow knows, under one name for v1 and v2.

use serde::{Deserialize, Serialize};
use std::fmt;

macro_rules! controllers {
    ($($(#[$doc:meta])* $name:ident = $v1:literal, $v2:literal;)*) => {
        /// A controller. `blkio` of v1 and `io` of v2 are one; `cpuacct` is separate, since v1 mounts it separately.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(rename_all = "snake_case")]
        pub enum Controller {
            $($(#[$doc])* $name,)*
        }

        impl Controller {
            const ALL: &[Controller] = &[$(Controller::$name,)*];

            /// The name in `/proc/PID/cgroup` and in the options of a v1 mount.
            pub fn v1_name(self) -> &'static str {
                match self { $(Controller::$name => $v1,)* }
            }

            /// The name in v2's `cgroup.controllers`.
            pub fn v2_name(self) -> &'static str {
                match self { $(Controller::$name => $v2,)* }
            }
        }
    };
}

controllers! {
    /// Processor time.
    Cpu = "cpu", "cpu";
    /// Accounting of processor time; part of the core in v2.
    Cpuacct = "cpuacct", "";
    /// Placement on processors and memory nodes.
    Cpuset = "cpuset", "cpuset";
    /// Memory and swap.
    Memory = "memory", "memory";
    /// Number of tasks.
    Pids = "pids", "pids";
    /// Block devices.
    Io = "blkio", "io";
    /// Huge pages.
    Hugetlb = "hugetlb", "hugetlb";
    /// RDMA.
    Rdma = "rdma", "rdma";
    /// Miscellaneous scalar resources (Linux 5.13).
    Misc = "misc", "misc";
    /// Device access; a BPF program in v2.
    Devices = "devices", "";
    /// Stopping processes; part of the core in v2.
    Freezer = "freezer", "";
    /// Class of network packets; v1 only.
    NetCls = "net_cls", "";
    /// Priority of network packets; v1 only.
    NetPrio = "net_prio", "";
}

impl Controller {
    /// By the name in /proc/self/cgroup or a v1 mount's options.
    pub(crate) fn from_v1_name(name: &str) -> Option<Controller> {
        Controller::ALL.iter().copied().find(|controller| controller.v1_name() == name)
    }

    /// By the name in v2's `cgroup.controllers`.
    pub(crate) fn from_v2_name(name: &str) -> Option<Controller> {
        Controller::ALL.iter().copied().find(|controller| !name.is_empty() && controller.v2_name() == name)
    }
}

impl fmt::Display for Controller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.v1_name())
    }
}
