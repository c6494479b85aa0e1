//! What this engine and this machine are.

use crate::containers::record::Status;
use crate::engine::Engine;
use crate::error::{Context, Result};

/// Version of dhow.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// What `dhow info` says.
#[derive(Clone, Debug)]
pub struct Info {
    /// Containers of each status.
    pub running: usize,
    /// Frozen ones.
    pub paused: usize,
    /// Those that do not run.
    pub stopped: usize,
    /// Number of images.
    pub images: usize,
    /// Where things are.
    pub data_root: std::path::PathBuf,
    /// Where things are while containers run.
    pub run_root: std::path::PathBuf,
    /// `1`, `2` or `hybrid`.
    pub cgroup_version: String,
    /// Security modules in use: `apparmor`, `selinux`, `seccomp`, `rootless`.
    pub security: Vec<String>,
    /// Runtimes of others that are configured.
    pub runtimes: Vec<crate::Runtime>,
    /// What the machine's configuration says of registries.
    pub registries: registry::Configured,
    /// Proxies to registries, without passwords.
    pub proxies: registry::Proxies,
    /// What is wrong with the machine's configuration, a sentence each.
    pub warnings: Vec<String>,
    /// Kernel release.
    pub kernel: String,
    /// Processor architecture as the kernel names it.
    pub architecture: String,
    /// Host name.
    pub hostname: String,
    /// Name of the distribution.
    pub operating_system: String,
    /// Processors.
    pub processors: usize,
    /// Bytes of memory.
    pub memory: u64,
}

impl Engine {
    /// Looks around.
    pub fn info(&self) -> Result<Info> {
        let mut statuses = Vec::new();
        self.each_line(crate::containers::Detail::NoNetworks, |container| statuses.push(container.status))?;
        let count = |status: Status| statuses.iter().filter(|each| **each == status).count();
        let (running, paused) = (count(Status::Running) + count(Status::Restarting), count(Status::Paused));
        let hierarchy = cgroup::Hierarchy::detect().internal(|| "cannot tell the cgroup version".into())?;
        let host = self.host()?;
        let mut security = vec!["seccomp".to_owned()];
        for (present, name) in
            [(host.apparmor, "apparmor"), (host.selinux, "selinux"), (host.user_namespace, "rootless")]
        {
            if present {
                security.push(name.to_owned());
            }
        }
        let registries = self.registry_options();
        let (configured, warnings) = match registry::Configured::read(&registries) {
            Ok(configured) => (configured, vec![]),
            Err(error) => {
                (registry::Configured::default(), vec![format!("WARNING: {}", crate::containers::chain(&error))])
            }
        };
        let names = rustix::system::uname();
        let text = |value: &std::ffi::CStr| value.to_string_lossy().into_owned();
        Ok(Info {
            running,
            paused,
            stopped: statuses.len() - running - paused,
            images: crate::images::table::count(self.database()?.read())?,
            data_root: self.directories().data.clone(),
            run_root: self.directories().run.clone(),
            cgroup_version: layout_name(hierarchy.layout()).to_owned(),
            security,
            runtimes: self.runtimes()?,
            registries: configured,
            proxies: registries.proxies.without_passwords(),
            warnings,
            kernel: text(names.release()),
            architecture: text(names.machine()),
            hostname: text(names.nodename()),
            operating_system: operating_system(),
            processors: std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
            memory: memory(),
        })
    }
}

fn layout_name(layout: cgroup::Layout) -> &'static str {
    match layout {
        cgroup::Layout::Unified => "2",
        cgroup::Layout::Legacy => "1",
        cgroup::Layout::Hybrid => "1 (hybrid)",
    }
}

fn operating_system() -> String {
    let text = std::fs::read_to_string("/etc/os-release").unwrap_or_default();
    let name = text.lines().find_map(|line| line.strip_prefix("PRETTY_NAME="));
    name.map_or_else(|| "Linux".into(), |name| name.trim_matches('"').to_owned())
}

pub(crate) fn memory() -> u64 {
    let text = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"));
    line.and_then(|line| line.split_ascii_whitespace().next()?.parse::<u64>().ok()).unwrap_or(0) * 1024
}
