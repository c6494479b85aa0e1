//! The AppArmor profile `dhow-default`, loaded into kernels that have AppArmor, once per boot.
//!
//! The text says in AppArmor's language what Docker's default says: everything but writes to the host's kernel
//! interfaces, mounts, and tracing of processes outside. Only Debian's `apparmor_parser` can compile it.

use crate::error::{Context, Error, Kind, Result};
use std::io::Write;
use std::process::{Command, Stdio};

/// Name of the profile.
pub(crate) const PROFILE: &str = "dhow-default";

const TEXT: &str = r#"
abi <abi/3.0>,
@{PROC}=/proc
profile dhow-default flags=(attach_disconnected,mediate_deleted) {
  network,
  capability,
  file,
  umount,
  # Signals and traces between processes of containers, and signals from outside.
  signal (receive) peer=unconfined,
  signal (send,receive) peer=dhow-default,
  ptrace (trace,read,tracedby,readby) peer=dhow-default,
  # The host's kernel interfaces: of /proc, a container may write to its own processes and its namespaces' sysctls.
  deny @{PROC}/* w,
  deny @{PROC}/{[^1-9],[^1-9][^0-9],[^1-9s][^0-9y][^0-9s],[^1-9][^0-9][^0-9][^0-9]*}/** w,
  deny @{PROC}/sys/[^k]** w,
  deny @{PROC}/sys/kernel/{?,??,[^s][^h][^m]**} w,
  deny @{PROC}/sysrq-trigger rwklx,
  deny @{PROC}/kcore rwklx,
  deny mount,
  deny /sys/[^f]*/** wklx,
  deny /sys/f[^s]*/** wklx,
  deny /sys/fs/[^c]*/** wklx,
  deny /sys/fs/c[^g]*/** wklx,
  deny /sys/fs/cg[^r]*/** wklx,
  deny /sys/firmware/** rwklx,
  deny /sys/devices/virtual/powercap/** rwklx,
  deny /sys/kernel/security/** rwklx,
}
"#;

/// Loads the profile unless the kernel has it.
pub(crate) fn ensure_loaded() -> Result<()> {
    let loaded = std::fs::read_to_string("/sys/kernel/security/apparmor/profiles").unwrap_or_default();
    if loaded.lines().any(|line| line.split(' ').next() == Some(PROFILE)) {
        return Ok(());
    }
    // AppArmor 3's own abi file is missing where only the parser is installed.
    let text = if std::path::Path::new("/etc/apparmor.d/abi/3.0").exists() {
        TEXT
    } else {
        TEXT.trim_start_matches("\nabi <abi/3.0>,")
    };
    let mut child = Command::new("apparmor_parser")
        .args(["--replace", "--quiet"])
        .env("PATH", "/usr/sbin:/sbin:/usr/bin:/bin")
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .kind(Kind::Unavailable, || "cannot start apparmor_parser".into())
        .map_err(|error| error.hint("install the package apparmor, or run with --security-opt apparmor=unconfined"))?;
    if let Some(mut stdin) = child.stdin.take() {
        stdin.write_all(text.as_bytes()).internal(|| "cannot hand the AppArmor profile to apparmor_parser".into())?;
    }
    let output = child.wait_with_output().internal(|| "cannot wait for apparmor_parser".into())?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(Error::new(Kind::Unavailable, format!("apparmor_parser refused the profile {PROFILE}: {}", said.trim())))
}
