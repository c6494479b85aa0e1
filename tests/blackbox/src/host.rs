//! The machine that the tests run on, as far as they look at it.

use std::fs;
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

/// Whether we are root, as the owner of our own `/proc` entry shows.
pub fn is_root() -> bool {
    fs::metadata("/proc/self").is_ok_and(|entry| entry.uid() == 0)
}

/// Whether cgroup v2 is the only one.
pub fn pure_cgroup_v2() -> bool {
    Path::new("/sys/fs/cgroup/cgroup.controllers").exists()
}

/// Runs a command and returns what it prints; fails with its errors.
pub fn succeed(command: &mut Command) -> Result<String> {
    let output = command.stdin(Stdio::null()).output().with_context(|| format!("start {command:?}"))?;
    if !output.status.success() {
        bail!("{command:?}: {}: {}", output.status, String::from_utf8_lossy(&output.stderr).trim_end());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// The rules of the table `inet dhow` without counters, and in no order: chains and elements stand in that of their making.
pub fn our_rules() -> Result<Vec<String>> {
    let text = succeed(Command::new("nft").args(["--stateless", "list", "table", "inet", "dhow"]))?;
    let mut parts: Vec<String> = text.split([',', '\n', '{', '}']).map(|part| part.trim().to_owned()).collect();
    parts.sort();
    Ok(parts)
}

/// A program's path, if it is installed.
pub fn program(name: &str) -> Option<PathBuf> {
    ["/usr/bin", "/usr/sbin", "/bin", "/sbin"].iter().map(|each| Path::new(each).join(name)).find(|path| path.exists())
}

/// Waits until the condition holds; fails after the time with what was waited for.
pub fn until<T>(what: &str, limit: Duration, mut condition: impl FnMut() -> Result<Option<T>>) -> Result<T> {
    let end = Instant::now() + limit;
    loop {
        if let Some(value) = condition()? {
            return Ok(value);
        }
        if Instant::now() > end {
            bail!("not within {} s: {what}", limit.as_secs());
        }
        thread::sleep(Duration::from_millis(20));
    }
}

/// Is this the virtual machine of `cargo xtask vm`, which has nothing that a test could spoil?
pub fn is_our_machine() -> bool {
    Path::new("/sys/firmware/qemu_fw_cfg/by_name/opt/dhow/job").exists()
}

/// The inode number that names a process's namespace: `net`, `pid`, …
pub fn namespace(process: &str, kind: &str) -> Result<String> {
    let link = format!("/proc/{process}/ns/{kind}");
    Ok(fs::read_link(&link).with_context(|| format!("read {link}"))?.to_string_lossy().into_owned())
}

/// The directory of a process's cgroup in the hierarchy that has the controller (with v2 there is one for all).
pub fn cgroup_of(process: i64, controller: &str) -> Result<PathBuf> {
    let text = fs::read_to_string(format!("/proc/{process}/cgroup"))?;
    for line in text.lines() {
        let mut fields = line.splitn(3, ':');
        let (Some(_), Some(controllers), Some(path)) = (fields.next(), fields.next(), fields.next()) else { continue };
        let path = path.trim_start_matches('/');
        if controllers.is_empty() && pure_cgroup_v2() {
            return Ok(Path::new("/sys/fs/cgroup").join(path));
        }
        if controllers.split(',').any(|each| each == controller) {
            return Ok(Path::new("/sys/fs/cgroup").join(controller).join(path));
        }
    }
    bail!("process {process} has no cgroup with {controller}: {text}")
}

/// Reads to the end in the background, so that a program that prints much does not stop.
pub fn reader(mut from: impl Read + Send + 'static) -> thread::JoinHandle<String> {
    thread::spawn(move || {
        let mut bytes = vec![];
        // What was read before an error is what the test looks at.
        drop(from.read_to_end(&mut bytes));
        String::from_utf8_lossy(&bytes).into_owned()
    })
}

/// A process that ends with the value.
pub struct Background(pub Child);

impl Drop for Background {
    fn drop(&mut self) {
        // Both fail only when the process has ended already.
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

/// Removes a test's directory, also where files of subordinate ids are in it, which their owner's owner cannot remove.
pub fn discard(directory: tempfile::TempDir) {
    let path = directory.path().to_owned();
    if directory.close().is_err() && !is_root() {
        // Best effort: what stays is in the temporary directory, under a name that says whose it is.
        drop(Command::new("unshare").args(["--map-auto", "--map-root-user", "rm", "-rf"]).arg(path).output());
    }
}
