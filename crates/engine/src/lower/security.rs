//! What holds a container's processes back: capabilities, seccomp, labels, hidden paths.

use crate::containers::record::Settings;
use crate::error::{Context, Error, Kind, Result};
use crate::host::Host;
use oci::runtime::{LinuxCapabilities, LinuxSeccomp};
use runtime::FilterPlan;

/// Paths that would leak from or write to the host (moby, `oci/defaults.go`; CVE-2015-3630, CVE-2018-10892,
/// CVE-2020-8694, GHSA-6fw5-f8r9-fgfm).
const MASKED: &[&str] = &[
    "/proc/asound",
    "/proc/acpi",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/sys/firmware",
    "/sys/devices/virtual/powercap",
];

/// Paths that may be read.
const READ_ONLY: &[&str] = &["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

/// Which system calls are filtered.
#[derive(Clone, Debug, Default)]
pub(crate) enum Filter {
    /// None are.
    #[default]
    None,
    /// By the default profile, which is compiled without its document.
    Default,
    /// By the user's own.
    Profile(Box<LinuxSeccomp>),
}

/// What `--security-opt` and `--privileged` come to.
#[derive(Clone, Debug, Default)]
pub(crate) struct Confinement {
    /// The system call filter.
    pub filter: Filter,
    /// AppArmor profile.
    pub apparmor: Option<String>,
    /// SELinux label of processes.
    pub process_label: Option<String>,
    /// SELinux label of the root's files.
    pub mount_label: Option<String>,
    /// `no_new_privs`.
    pub no_new_privileges: bool,
    /// Kernel interfaces are neither masked nor read-only.
    pub all_paths: bool,
}

/// Reads the security options; an unknown one is an error, never ignored (CVE-2025-65105).
pub(crate) fn confinement(settings: &Settings, host: &Host) -> Result<Confinement> {
    let mut result = Confinement { all_paths: settings.privileged, ..Confinement::default() };
    let (mut seccomp, mut apparmor, mut label) = (None, None, Vec::new());
    for option in &settings.security_options {
        let (key, value) = option.split_once(['=', ':']).unwrap_or((option, ""));
        match (key, value) {
            ("no-new-privileges", "" | "true") => result.no_new_privileges = true,
            ("no-new-privileges", "false") => result.no_new_privileges = false,
            ("systempaths", "unconfined") => result.all_paths = true,
            // `writable_cgroups` reads it.
            ("writable-cgroups", "" | "true" | "false") => {}
            ("seccomp", value) if !value.is_empty() => seccomp = Some(value.to_owned()),
            ("apparmor", value) if !value.is_empty() => apparmor = Some(value.to_owned()),
            ("label", value) if !value.is_empty() => label.push(value.to_owned()),
            _ => {
                return Err(Error::new(Kind::InvalidArgument, format!("invalid --security-opt {option:?}"))
                    .hint("known are no-new-privileges, seccomp=, apparmor=, label=, systempaths=unconfined, writable-cgroups"));
            }
        }
    }
    result.filter = filter(seccomp.as_deref(), settings, host)?;
    result.apparmor = profile(apparmor, settings, host)?;
    selinux(&label, settings, host, &mut result)?;
    Ok(result)
}

/// Whether the container may make groups below its own: what was said last, otherwise if it is privileged.
pub(crate) fn writable_cgroups(settings: &Settings) -> bool {
    let said = settings.security_options.iter().rev().find_map(|option| match option.as_str() {
        "writable-cgroups" | "writable-cgroups=true" => Some(true),
        "writable-cgroups=false" => Some(false),
        _ => None,
    });
    said.unwrap_or(settings.privileged)
}

fn filter(asked: Option<&str>, settings: &Settings, host: &Host) -> Result<Filter> {
    match asked {
        Some("unconfined") => Ok(Filter::None),
        None | Some("builtin" | "default") if settings.privileged => Ok(Filter::None),
        None | Some("builtin" | "default") => Ok(Filter::Default),
        Some(path) => {
            // Docker's clients send the document itself.
            let is_document = path.trim_start().starts_with('{');
            let refused = || match is_document {
                true => "cannot use the seccomp profile".to_owned(),
                false => format!("cannot use the seccomp profile {path:?}"),
            };
            let text = match is_document {
                true => path.to_owned(),
                false => std::fs::read_to_string(path).kind(Kind::InvalidArgument, refused)?,
            };
            let profile = seccomp::from_docker(&text, &settings.capabilities, host.kernel, native()?)
                .kind(Kind::InvalidArgument, refused)?;
            Ok(profile.map_or(Filter::None, |profile| Filter::Profile(Box::new(profile))))
        }
    }
}

fn native() -> Result<oci::runtime::Arch> {
    seccomp::native().ok_or_else(|| {
        Error::new(Kind::Unavailable, "system calls cannot be filtered on this architecture")
            .hint("run with --security-opt seccomp=unconfined")
    })
}

impl Filter {
    /// The profile as a document; none when nothing is filtered.
    pub(crate) fn document(&self, settings: &Settings, host: &Host) -> Result<Option<LinuxSeccomp>> {
        Ok(match self {
            Filter::None => None,
            Filter::Default => Some(seccomp::default_profile(&settings.capabilities, host.kernel, native()?)),
            Filter::Profile(profile) => Some((**profile).clone()),
        })
    }

    /// The program that the kernel runs.
    pub(crate) fn program(&self, settings: &Settings, host: &Host) -> Result<Option<FilterPlan>> {
        let failed = || "cannot compile the seccomp profile".to_owned();
        let program = match self {
            Filter::None => return Ok(None),
            Filter::Default => seccomp::default_program(&settings.capabilities, host.kernel, native()?),
            Filter::Profile(profile) => seccomp::compile(profile, native()?),
        };
        let program = program.kind(Kind::InvalidArgument, failed)?;
        Ok(Some(FilterPlan { instructions: program.instructions, flags: program.flags, listener: None }))
    }
}

fn profile(asked: Option<String>, settings: &Settings, host: &Host) -> Result<Option<String>> {
    match asked.as_deref() {
        Some("unconfined") => Ok(host.apparmor.then(|| "unconfined".into())),
        Some(name) if !host.apparmor => Err(Error::new(
            Kind::Unavailable,
            format!("cannot apply the AppArmor profile {name:?}: AppArmor is not enabled in this kernel"),
        )),
        Some(_) => Ok(asked),
        None if !host.apparmor || host.user_namespace => Ok(None),
        None if settings.privileged => Ok(Some("unconfined".into())),
        None => Ok(Some(crate::apparmor::PROFILE.into())),
    }
}

fn selinux(options: &[String], settings: &Settings, host: &Host, result: &mut Confinement) -> Result<()> {
    if !host.selinux {
        return match options.iter().find(|option| *option != "disable") {
            Some(option) => Err(Error::new(
                Kind::Unavailable,
                format!("cannot apply the label option {option:?}: SELinux is not enabled in this kernel"),
            )),
            None => Ok(()),
        };
    }
    if options.iter().any(|option| option == "disable") || (settings.privileged && options.is_empty()) {
        return Ok(());
    }
    let (mut user, mut role, mut kind, mut level) =
        ("system_u".to_owned(), "system_r".to_owned(), "container_t".to_owned(), None);
    let mut file = "container_file_t".to_owned();
    for option in options {
        match option.split_once(':') {
            Some(("user", value)) => user = value.into(),
            Some(("role", value)) => role = value.into(),
            Some(("type", value)) => kind = value.into(),
            Some(("level", value)) => level = Some(value.to_owned()),
            Some(("filetype", value)) => file = value.into(),
            _ => return Err(Error::new(Kind::InvalidArgument, format!("invalid --security-opt label={option}"))),
        }
    }
    let level = level.unwrap_or_else(|| settings.selinux_level.clone());
    result.process_label = Some(format!("{user}:{role}:{kind}:{level}"));
    result.mount_label = Some(format!("{user}:object_r:{file}:{level}"));
    Ok(())
}

/// Two of 1,024 categories keep containers apart; drawn from the identifier, which is random.
pub(crate) fn selinux_level(id: &str) -> String {
    let hash = id.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |h, b| (h ^ u64::from(b)).wrapping_mul(0x0100_0000_01b3));
    let (first, second) = ((hash >> 8) % 1023, (hash >> 32) % 1023);
    let (low, high) = if first < second { (first, second) } else { (second, first + 1) };
    format!("s0:c{low},c{high}")
}

/// A process that is not root gets its capabilities only by what it executes, so the inheritable and ambient sets stay
/// empty (CVE-2022-24769, CVE-2016-8867).
pub(crate) fn capabilities(settings: &Settings) -> LinuxCapabilities {
    let all = settings.capabilities.clone();
    LinuxCapabilities { bounding: all.clone(), effective: all.clone(), permitted: all, ..LinuxCapabilities::default() }
}

/// Masked and read-only paths.
pub(crate) fn hidden_paths(settings: &Settings, confinement: &Confinement) -> (Vec<String>, Vec<String>) {
    let or = |asked: &Option<Vec<String>>, default: &[&str]| match asked {
        Some(paths) => paths.clone(),
        None if confinement.all_paths => Vec::new(),
        None => default.iter().map(|&path| path.to_owned()).collect(),
    };
    (or(&settings.masked_paths, MASKED), or(&settings.readonly_paths, READ_ONLY))
}

impl Settings {
    /// The paths that are covered, and those that are read-only, as they were asked for or by default; `None` where a
    /// privileged container has neither.
    pub fn hidden_paths(&self) -> Option<(Vec<String>, Vec<String>)> {
        let all_paths =
            self.privileged || self.security_options.iter().any(|option| option == "systempaths=unconfined");
        if self.privileged && self.masked_paths.is_none() && self.readonly_paths.is_none() {
            return None;
        }
        Some(hidden_paths(self, &Confinement { all_paths, ..Confinement::default() }))
    }
}
