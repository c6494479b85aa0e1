//! What criu is asked for: `criu_opts` of its rpc.proto, as far as it is used.

use std::os::fd::{AsRawFd, BorrowedFd};

use crate::message::Writer;

/// What is to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Write a tree of processes into files.
    Dump,
    /// Write its memory only, and let it go on.
    PreDump,
    /// Bring it back.
    Restore,
    /// Say which version it is.
    Version,
}

impl Action {
    /// `criu_req_type`. A pre-dump is the single one, which does not wait for a request to go on.
    pub(crate) fn number(self) -> i64 {
        match self {
            Self::Dump => 1,
            Self::Restore => 2,
            Self::Version => 10,
            Self::PreDump => 13,
        }
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Dump => "DUMP",
            Self::PreDump => "PRE_DUMP",
            Self::Restore => "RESTORE",
            Self::Version => "VERSION",
        }
    }
}

/// What criu does with control groups (criu(8), `--manage-cgroups`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CgroupMode {
    /// Nothing: processes stay where they are put.
    Ignore,
    /// Groups that are missing are made, with their properties; those that exist are left as they are.
    #[default]
    Soft,
    /// As `Soft`, and properties are always restored.
    Full,
    /// All groups must be missing.
    Strict,
}

impl CgroupMode {
    /// By the name that runc has for it; an empty one is the default.
    #[must_use]
    pub fn by_name(name: &str) -> Option<Self> {
        match name {
            "" | "soft" => Some(Self::Soft),
            "ignore" => Some(Self::Ignore),
            "full" => Some(Self::Full),
            "strict" => Some(Self::Strict),
            _ => None,
        }
    }

    /// `criu_cg_mode`.
    fn number(self) -> i64 {
        match self {
            Self::Ignore => 0,
            Self::Soft => 3,
            Self::Full => 4,
            Self::Strict => 5,
        }
    }
}

/// The options of one dump or restore. Descriptors are of this process; criu opens them through `/proc`.
#[derive(Clone, Debug, Default)]
pub struct Options<'a> {
    /// Directory of the image files.
    pub images: Option<BorrowedFd<'a>>,
    /// Directory of the log and of other files; that of the images by default.
    pub work: Option<BorrowedFd<'a>>,
    /// Where `before` has left the new process is that directory: one in another mount namespace, in which criu can mount.
    pub works_where_it_is: bool,
    /// Name of the log in the working directory.
    pub log_file: String,
    /// First process of the tree to dump.
    pub pid: Option<i32>,
    /// Mount point of the root file system, as criu sees it.
    pub root: Option<String>,
    /// Let the processes go on after the dump.
    pub leave_running: bool,
    /// Unix sockets may be connected to the outside.
    pub ext_unix_sk: bool,
    /// With established TCP connections.
    pub tcp_established: bool,
    /// Without those that are just being established.
    pub tcp_skip_in_flight: bool,
    /// The session's leader is outside.
    pub shell_job: bool,
    /// With file locks.
    pub file_locks: bool,
    /// Give removed files that are open a name.
    pub link_remap: bool,
    /// Drop pages from an older image that a newer one has.
    pub auto_dedup: bool,
    /// Memory comes when it is asked for (userfaultfd(2)).
    pub lazy_pages: bool,
    /// Keep track of changed memory, for a later dump on top of this one.
    pub track_memory: bool,
    /// The older image, relative to this one's directory.
    pub parent: Option<String>,
    /// Address and port of the server that takes memory.
    pub page_server: Option<(String, u16)>,
    /// Mount points in the container that come from outside, each with its name in the image or its place on the host.
    pub external_mounts: Vec<(String, String)>,
    /// Other things that come from outside, in criu's notation.
    pub external: Vec<String>,
    /// Descriptors that stand for things from outside.
    pub inherited: Vec<(String, BorrowedFd<'a>)>,
    /// What is done with control groups.
    pub cgroups: CgroupMode,
    /// Where each controller's groups are to be on restore.
    pub cgroup_roots: Vec<(String, String)>,
    /// Group whose freezer stops the processes for the dump.
    pub freeze_cgroup: Option<String>,
    /// The network namespace is made, and filled by somebody else.
    pub empty_network: bool,
    /// Another profile than the dumped one: `apparmor:NAME`, `selinux:LABEL`.
    pub lsm_profile: Option<String>,
    /// Another SELinux context for mounts.
    pub lsm_mount_context: Option<String>,
    /// A file of criu's with more options.
    pub config_file: Option<String>,
}

impl Options<'_> {
    /// `criu_opts`.
    pub(crate) fn encode(&self, action: Action) -> Writer {
        let mut to = Writer::default();
        to.number(1, self.images.map_or(-1, |fd| fd.as_raw_fd().into()));
        if let Some(pid) = self.pid {
            to.number(2, pid.into());
        }
        for (field, value) in [
            (3, self.leave_running),
            (4, self.ext_unix_sk),
            (5, self.tcp_established),
            (6, action == Action::Restore),
            (7, self.shell_job),
            (8, self.file_locks),
            (12, true),
            (15, self.track_memory),
            (16, self.auto_dedup),
            (18, self.link_remap),
            (24, true),
            (26, action == Action::Restore),
            (46, self.tcp_skip_in_flight),
            (48, self.lazy_pages),
            (50, true),
        ] {
            to.flag(field, value);
        }
        // Warnings and what led to an error.
        to.number(9, 4);
        to.text(10, &self.log_file);
        if let Some((address, port)) = &self.page_server {
            let mut server = Writer::default();
            server.text(1, address);
            server.number(2, (*port).into());
            to.message(11, server);
        }
        for (field, value) in [
            (13, &self.root),
            (14, &self.parent),
            (44, &self.freeze_cgroup),
            (51, &self.config_file),
            (53, &self.lsm_profile),
            (63, &self.lsm_mount_context),
        ] {
            if let Some(value) = value {
                to.text(field, value);
            }
        }
        if let Some(work) = self.work {
            to.number(17, work.as_raw_fd().into());
        }
        self.encode_lists(&mut to);
        to.number(34, self.cgroups.number());
        if !self.tcp_established {
            /// Without connections that live on, there is nothing to keep packets from, and no iptables is needed.
            const SKIP: i64 = 3;
            to.number(64, SKIP);
        }
        if self.empty_network {
            /// `CLONE_NEWNET`.
            const NETWORK: i64 = 0x4000_0000;
            to.number(38, NETWORK);
        }
        to
    }

    fn encode_lists(&self, to: &mut Writer) {
        let pair = |first: &str, second: &str| {
            let mut pair = Writer::default();
            pair.text(1, first);
            pair.text(2, second);
            pair
        };
        for (key, value) in &self.external_mounts {
            to.message(23, pair(key, value));
        }
        for (controller, path) in &self.cgroup_roots {
            to.message(25, pair(controller, path));
        }
        for (key, fd) in &self.inherited {
            let mut inherited = Writer::default();
            inherited.text(1, key);
            inherited.number(2, fd.as_raw_fd().into());
            to.message(27, inherited);
        }
        for each in &self.external {
            to.text(37, each);
        }
    }
}
