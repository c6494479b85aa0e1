//! What once went wrong in programs of this kind, by its number, where something moves while it is looked at: paths that
//! are exchanged during a start, processes of a container that pry into one that joins it, files of procfs that are covered.
//!
//! Each fails when its guard is taken out of `runtime` or `kernel`.

use std::fs;
use std::os::fd::AsRawFd;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use anyhow::{Context, Result, ensure};
use rustix::fs::{CWD, FileType, Mode, RenameFlags};
use serde_json::{Value, json};

use crate::case::{cases, contains, same, skip};
use crate::cases::oci::Bundle;
use crate::host;
use crate::sandbox::Sandbox;

cases![hostile:
    cve_2021_30465_mount_points_are_exchanged, cve_2024_45310_nothing_is_made_outside_in_a_race,
    cve_2025_52565_console_is_a_link, cve_2025_52881_parameters_are_not_redirected [Root],
    cve_2019_19921_labels_are_not_redirected [Root], ghsa_3q8j_read_only_paths_are_exchanged,
    ghsa_3q8j_what_is_covered_is_covered_by_itself, cve_2025_31133_null_is_exchanged [Root],
    cve_2016_9962_a_joining_process_cannot_be_looked_into, cve_2023_25809_cgroups_are_read_only,
    cve_2025_47291_limits_hold_in_a_user_namespace [Root], cve_2025_65105_profiles_are_not_ignored,
    ghsa_g54h_devices_are_denied_by_default [Root], cve_2023_2431_an_empty_profile_is_none,
    cve_2026_23953_lines_in_names, cve_2023_6476_annotations_change_nothing, no_pivot_shows_no_other_procfs [Root],
    cve_2015_3627_the_working_directory_is_inside,
];

/// Exchanges two names for each other as fast as it can, until it is dropped.
struct Racer {
    stop: Arc<AtomicBool>,
    turns: Arc<AtomicU64>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Racer {
    fn new(one: PathBuf, other: PathBuf) -> Self {
        let (stop, turns) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let (stopped, counted) = (Arc::clone(&stop), Arc::clone(&turns));
        let thread = std::thread::spawn(move || {
            while !stopped.load(Ordering::Relaxed) {
                if rustix::fs::renameat_with(CWD, &one, CWD, &other, RenameFlags::EXCHANGE).is_ok() {
                    counted.fetch_add(1, Ordering::Relaxed);
                }
            }
        });
        Self { stop, turns, thread: Some(thread) }
    }

    /// Waits until it has come to speed.
    fn runs(&self) -> Result<()> {
        host::until("names are exchanged", std::time::Duration::from_secs(20), || Ok(self.ran().ok()))
    }

    /// A race that nobody ran proves nothing.
    fn ran(&self) -> Result<()> {
        ensure!(self.turns.load(Ordering::Relaxed) > 100, "nothing was exchanged");
        Ok(())
    }
}

impl Drop for Racer {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}

/// A directory of the host with one file, and whether it is still so.
struct Canary(PathBuf);

impl Canary {
    fn new(sandbox: &Sandbox) -> Result<Self> {
        let path = sandbox.path("files/canary");
        fs::create_dir_all(&path)?;
        fs::write(path.join("file"), "as it was")?;
        Ok(Self(path))
    }

    fn sings(&self) -> Result<()> {
        let names: Vec<_> = fs::read_dir(&self.0)?.flatten().map(|entry| entry.file_name()).collect();
        same!(names, ["file"]);
        same!(fs::read_to_string(self.0.join("file"))?, "as it was");
        Ok(())
    }
}

fn mounts<'a>(bundle: &'a mut Bundle<'_>) -> Result<&'a mut Vec<Value>> {
    bundle.config["mounts"].as_array_mut().context("mounts")
}

/// A volume of two containers: one moves a directory in it, the other has a mount point there. And CVE-2015-1335,
/// CVE-2015-3629, CVE-2021-25741.
fn cve_2021_30465_mount_points_are_exchanged(sandbox: &Sandbox) -> Result<()> {
    let mut bundle = Bundle::new(sandbox, "ls /volume/place/inner 2>/dev/null; true")?;
    let canary = Canary::new(sandbox)?;
    let volume = sandbox.path("files/volume");
    fs::create_dir_all(volume.join("place/inner"))?;
    symlink(&canary.0, volume.join("link"))?;
    let source = sandbox.path("files/source");
    fs::create_dir(&source)?;
    fs::write(source.join("mounted"), "")?;
    let list = mounts(&mut bundle)?;
    list.push(json!({"destination": "/volume", "source": volume, "options": ["rbind"]}));
    list.push(json!({"destination": "/volume/place/inner", "source": source, "options": ["rbind", "ro"]}));
    list.push(json!({"destination": "/volume/place/inner2", "type": "tmpfs", "source": "tmpfs"}));
    bundle.config["root"]["readonly"] = json!(false);
    bundle.write()?;
    let racer = Racer::new(volume.join("place"), volume.join("link"));
    for number in 0..25 {
        bundle.oci(&["run", &format!("c{number}")])?;
        canary.sings().with_context(|| format!("in start {number}"))?;
    }
    racer.ran()
}

/// Missing mount points and files in a volume that is being changed. And CVE-2026-55686.
fn cve_2024_45310_nothing_is_made_outside_in_a_race(sandbox: &Sandbox) -> Result<()> {
    let mut bundle = Bundle::new(sandbox, "true")?;
    let canary = Canary::new(sandbox)?;
    let volume = sandbox.path("files/volume");
    fs::create_dir_all(volume.join("place"))?;
    symlink(&canary.0, volume.join("link"))?;
    let file = sandbox.file("source", "for the container")?;
    let list = mounts(&mut bundle)?;
    list.push(json!({"destination": "/volume", "source": volume, "options": ["rbind"]}));
    list.push(json!({"destination": "/volume/place/a/b/file", "source": file, "options": ["bind"]}));
    list.push(json!({"destination": "/volume/place/c/d", "type": "tmpfs", "source": "tmpfs"}));
    bundle.config["root"]["readonly"] = json!(false);
    bundle.write()?;
    let racer = Racer::new(volume.join("place"), volume.join("link"));
    for number in 0..25 {
        bundle.oci(&["run", &format!("c{number}")])?;
        canary.sings().with_context(|| format!("in start {number}"))?;
        for made in ["a", "c"] {
            // Made in the volume's own directory, whichever name it has now; away again, so that it is missing next time.
            drop(fs::remove_dir_all(volume.join("place").join(made)));
            drop(fs::remove_dir_all(volume.join("link").join(made)));
        }
        canary.sings()?;
    }
    racer.ran()
}

/// The image's own /dev/console, /dev/pts and /dev/ptmx lead elsewhere while a terminal is made.
fn cve_2025_52565_console_is_a_link(sandbox: &Sandbox) -> Result<()> {
    let mut bundle = Bundle::new(sandbox, "true")?;
    let canary = Canary::new(sandbox)?;
    let rootfs = bundle.path("rootfs");
    mounts(&mut bundle)?.retain(|mount| !mount["destination"].as_str().unwrap_or_default().starts_with("/dev"));
    bundle.config["root"]["readonly"] = json!(false);
    bundle.config["process"]["terminal"] = json!(true);
    bundle.write()?;
    for name in ["console", "ptmx", "pts"] {
        let path = rootfs.join("dev").join(name);
        drop(fs::remove_dir_all(&path));
        drop(fs::remove_file(&path));
        symlink(canary.0.join("file"), path)?;
    }
    let socket = sandbox.path("files/console").display().to_string();
    let listener = std::os::unix::net::UnixListener::bind(&socket)?;
    listener.set_nonblocking(true)?;
    bundle.oci(&["run", "--detach", "--console-socket", &socket, "one"])?;
    canary.sings()
}

/// A parameter's file is covered by the time that it is written: the write goes to the true one. And CVE-2025-62596.
fn cve_2025_52881_parameters_are_not_redirected(sandbox: &Sandbox) -> Result<()> {
    let mut bundle =
        Bundle::new(sandbox, "umount /proc/sys/net/ipv4/ip_forward 2>/dev/null; cat /proc/sys/net/ipv4/ip_forward")?;
    let decoy = sandbox.file("decoy", "0\n")?;
    mounts(&mut bundle)?.push(json!({
        "destination": "/proc/sys/net/ipv4/ip_forward", "source": decoy, "options": ["bind"],
    }));
    bundle.config["linux"]["sysctl"] = json!({"net.ipv4.ip_forward": "1"});
    bundle.write()?;
    let output = bundle.oci(&["run", "one"])?;
    same!(fs::read_to_string(&decoy)?, "0\n", "{}", output.stderr);
    // In the true file, and not through what covers it: seen in the same namespace from outside.
    let namespaces = bundle.config["linux"]["namespaces"].as_array().context("namespaces")?;
    ensure!(namespaces.iter().any(|each| each["type"] == "network"), "the template has a network namespace");
    bundle.script("exec sleep 100")?;
    if output.code == 0 {
        bundle.detached(&["run", "-d", "two"])?;
        let pid = bundle.state("two")?["pid"].to_string();
        let seen = host::succeed(std::process::Command::new("nsenter").args([
            "-t",
            &pid,
            "-n",
            "cat",
            "/proc/sys/net/ipv4/ip_forward",
        ]))?;
        same!(seen, "1\n");
    }
    Ok(())
}

/// A label that is written to a file of procfs which the container has covered is written nowhere. Without AppArmor and
/// SELinux a profile is refused, which [`cve_2025_65105_profiles_are_not_ignored`] has; here nothing may be redirected.
fn cve_2019_19921_labels_are_not_redirected(sandbox: &Sandbox) -> Result<()> {
    let mut bundle = Bundle::new(sandbox, "true")?;
    let decoy = sandbox.path("files/attr");
    fs::create_dir_all(decoy.join("apparmor"))?;
    for name in ["current", "exec", "apparmor/exec", "oom_score_adj"] {
        fs::write(decoy.join(name), "")?;
    }
    let list = mounts(&mut bundle)?;
    list.push(json!({"destination": "/proc/self/attr", "source": decoy, "options": ["rbind"]}));
    bundle.config["process"]["apparmorProfile"] = json!("unconfined-by-nobody");
    bundle.config["process"]["selinuxLabel"] = json!("system_u:system_r:container_t:s0");
    bundle.write()?;
    bundle.oci(&["run", "one"])?.fails(1, &[])?;
    for name in ["current", "exec", "apparmor/exec"] {
        same!(fs::read_to_string(decoy.join(name))?, "", "{name}");
    }
    Ok(())
}

/// Between a bind mount and its being read-only lies no second resolution of the path. And CVE-2025-62161.
fn ghsa_3q8j_read_only_paths_are_exchanged(sandbox: &Sandbox) -> Result<()> {
    let mut bundle =
        Bundle::new(sandbox, "for p in a b; do echo x > /volume/$p/file; done 2>/dev/null; cat /volume/?/file")?;
    let volume = sandbox.path("files/volume");
    for name in ["a", "b"] {
        fs::create_dir_all(volume.join(name))?;
        fs::write(volume.join(name).join("file"), format!("{name}\n"))?;
    }
    let canary = Canary::new(sandbox)?;
    mounts(&mut bundle)?.push(json!({"destination": "/volume", "source": volume, "options": ["rbind"]}));
    bundle.config["linux"]["readonlyPaths"] = json!(["/volume/a", "/volume/b"]);
    bundle.config["linux"]["maskedPaths"] = json!(["/volume/link/file"]);
    symlink(&canary.0, volume.join("link"))?;
    bundle.write()?;
    // By descriptor, as the names tell nothing while they are exchanged.
    let directories = [fs::File::open(volume.join("a"))?, fs::File::open(volume.join("b"))?];
    let files: Vec<_> =
        directories.iter().map(|d| PathBuf::from(format!("/proc/self/fd/{}/file", d.as_raw_fd()))).collect();
    let racer = Racer::new(volume.join("a"), volume.join("b"));
    for number in 0..15 {
        let output = bundle.oci(&["run", &format!("c{number}")])?;
        if output.code == 0 {
            // Whichever of the two was covered by which name: one of them the container was told is read-only.
            let changed = files.iter().filter(|file| fs::read_to_string(file).is_ok_and(|text| text == "x\n"));
            ensure!(changed.count() < 2, "both were written: {output:?}");
        }
        canary.sings()?;
        for file in &files {
            fs::write(file, "as it was\n")?;
        }
    }
    racer.ran()
}

/// What is made read-only is put over itself and nothing else, whatever the name led to in between: else one of the two is seen
/// twice, and the other one not at all. The names stand still before anybody looks.
fn ghsa_3q8j_what_is_covered_is_covered_by_itself(sandbox: &Sandbox) -> Result<()> {
    let mut bundle = Bundle::new(sandbox, "cat /volume/a/file /volume/b/file")?;
    let volume = sandbox.path("files/volume");
    for name in ["a", "b"] {
        fs::create_dir_all(volume.join(name))?;
        fs::write(volume.join(name).join("file"), name)?;
    }
    mounts(&mut bundle)?.push(json!({"destination": "/volume", "source": volume, "options": ["rbind"]}));
    bundle.config["linux"]["readonlyPaths"] = json!(["/volume/a"]);
    bundle.write()?;
    for number in 0..20 {
        let id = format!("c{number}");
        let racer = Racer::new(volume.join("a"), volume.join("b"));
        racer.runs()?;
        bundle.detached(&["create", &id])?;
        drop(racer);
        let before = bundle.output().len();
        bundle.oci(&["start", &id])?.success()?;
        bundle.wait_for(&id, "stopped")?;
        let seen = bundle.output().split_off(before);
        ensure!(seen == "ab" || seen == "ba", "{number}: the container sees {seen:?}");
        bundle.oci(&["delete", &id])?.success()?;
    }
    Ok(())
}

/// The null that a path is hidden with is the host's: in the container's own /dev another name takes its place all the time.
fn cve_2025_31133_null_is_exchanged(sandbox: &Sandbox) -> Result<()> {
    let mut bundle = Bundle::new(sandbox, "stat -c %t:%T /etc/masked")?;
    fs::write(bundle.path("rootfs/etc/masked"), "secret\n")?;
    let devices = sandbox.path("files/dev");
    fs::create_dir(&devices)?;
    for (name, minor) in [("null", 3), ("zero", 5), ("full", 7), ("random", 8), ("urandom", 9)] {
        let device = rustix::fs::makedev(1, minor);
        rustix::fs::mknodat(CWD, devices.join(name), FileType::CharacterDevice, Mode::from_raw_mode(0o666), device)?;
    }
    symlink("/proc/sys/kernel/core_pattern", devices.join("other"))?;
    let list = mounts(&mut bundle)?;
    list.retain(|mount| !mount["destination"].as_str().unwrap_or_default().starts_with("/dev"));
    list.push(json!({"destination": "/dev", "source": devices, "options": ["rbind"]}));
    bundle.config["linux"]["maskedPaths"] = json!(["/etc/masked"]);
    bundle.write()?;
    let racer = Racer::new(devices.join("null"), devices.join("other"));
    let mut masked = 0;
    for number in 0..40 {
        let output = bundle.oci(&["run", &format!("c{number}")])?;
        // Where a link stands in the way of a device the container may be refused.
        if output.code == 0 {
            masked += 1;
            same!(output.stdout, "1:3\n", "{number}");
        }
    }
    ensure!(masked > 0, "no container ran");
    racer.ran()
}

/// A process that joins may not be traced and its descriptors not be opened from inside before it is the program.
fn cve_2016_9962_a_joining_process_cannot_be_looked_into(sandbox: &Sandbox) -> Result<()> {
    // Whatever it can open in another process it says. (With CAP_SYS_PTRACE over the host it could open everything.)
    let script = "cd /proc; while true; do for p in [0-9]*; do case $p in 1|$$) continue;; esac; \
                  for f in $p/fd/*; do t=$(readlink $f 2>/dev/null) && echo \"seen $t\"; done; done; done";
    let mut bundle = Bundle::new(sandbox, script)?;
    symlink("busybox", bundle.path("rootfs/bin/readlink"))?;
    if host::is_root() {
        for set in ["bounding", "effective", "permitted"] {
            bundle.config["process"]["capabilities"][set] = json!(["CAP_DAC_OVERRIDE", "CAP_FOWNER", "CAP_KILL"]);
        }
    }
    bundle.write()?;
    bundle.detached(&["run", "-d", "one"])?;
    for _ in 0..20 {
        bundle.oci(&["exec", "one", "true"])?.success()?;
    }
    let seen = bundle.output();
    // Its own, as a program, are streams; anything of the runtime's is a directory, a socket, a namespace, a file in memory.
    for line in seen.lines().filter(|line| line.starts_with("seen ")) {
        let target = &line[5..];
        let runtimes = target.starts_with("socket:")
            || target.contains("memfd:")
            || target.contains(":[") && !target.starts_with("pipe:")
            || target.contains("cgroup")
            || target.contains("pidfd");
        ensure!(!runtimes, "a process of the container saw {target}");
    }
    Ok(())
}

fn cve_2023_25809_cgroups_are_read_only(sandbox: &Sandbox) -> Result<()> {
    let mut bundle = Bundle::new(
        sandbox,
        "for d in /sys/fs/cgroup /sys/fs/cgroup/*; do mkdir $d/made 2>/dev/null && echo $d; done; true",
    )?;
    symlink("busybox", bundle.path("rootfs/bin/mkdir"))?;
    let namespaces = bundle.config["linux"]["namespaces"].as_array_mut().context("namespaces")?;
    namespaces.retain(|namespace| namespace["type"] != "cgroup");
    bundle.write()?;
    let output = bundle.oci(&["run", "one"])?;
    same!((output.code, output.stdout.as_str()), (0, ""), "{}", output.stderr);
    Ok(())
}

fn cve_2025_47291_limits_hold_in_a_user_namespace(sandbox: &Sandbox) -> Result<()> {
    let mut bundle = Bundle::new(sandbox, "exec sleep 1000")?;
    let namespaces = bundle.config["linux"]["namespaces"].as_array_mut().context("namespaces")?;
    namespaces.push(json!({"type": "user"}));
    let map = json!([{"containerID": 0, "hostID": 100_000, "size": 65536}]);
    bundle.config["linux"]["uidMappings"] = map.clone();
    bundle.config["linux"]["gidMappings"] = map;
    bundle.config["linux"]["resources"]["memory"] = json!({"limit": 33_554_432});
    bundle.config["linux"]["resources"]["pids"] = json!({"limit": 21});
    bundle.write()?;
    bundle.detached(&["run", "-d", "one"])?;
    let pid = bundle.state("one")?["pid"].as_i64().context("a pid")?;
    for (controller, files, value) in
        [("memory", ["memory.max", "memory.limit_in_bytes"], "33554432"), ("pids", ["pids.max", "pids.max"], "21")]
    {
        let directory = host::cgroup_of(pid, controller)?;
        let text = files.iter().find_map(|file| fs::read_to_string(directory.join(file)).ok()).context("no limit")?;
        same!(text.trim(), value, "{controller} in {}", directory.display());
    }
    Ok(())
}

/// A profile that cannot be applied is refused. And CVE-2025-64750.
fn cve_2025_65105_profiles_are_not_ignored(sandbox: &Sandbox) -> Result<()> {
    let mut bundle = Bundle::new(sandbox, "true")?;
    for (field, value) in [("apparmorProfile", "no-such-profile"), ("selinuxLabel", "no:such:label:s0")] {
        let good = bundle.config.clone();
        bundle.config["process"][field] = json!(value);
        bundle.write()?;
        let output = bundle.oci(&["run", "one"])?;
        ensure!(output.code == 1, "{field}: {output:?}");
        bundle.config = good;
    }
    bundle.config["linux"]["seccomp"] = json!({"defaultAction": "SCMP_ACT_NONSENSE"});
    bundle.write()?;
    bundle.oci(&["run", "one"])?.fails(1, &["SCMP_ACT_NONSENSE"])
}

/// A list of rules that allows a few things allows nothing else.
fn ghsa_g54h_devices_are_denied_by_default(sandbox: &Sandbox) -> Result<()> {
    // The driver of /dev/fuse lets everybody open it; that of /dev/kmsg has a rule of its own.
    if !Path::new("/dev/fuse").exists() {
        return skip("there is no /dev/fuse");
    }
    let mut bundle = Bundle::new(sandbox, "(exec 3</dev/copy) && echo opened; echo x > /dev/null && echo null")?;
    bundle.config["linux"]["devices"] = json!([{"path": "/dev/copy", "type": "c", "major": 10, "minor": 229}]);
    bundle.config["linux"]["resources"]["devices"] =
        json!([{"allow": true, "type": "c", "major": 1, "minor": 5, "access": "rwm"}]);
    bundle.write()?;
    let listed = bundle.oci(&["run", "one"])?;
    // No rule at all means the same.
    bundle.config["linux"]["resources"]["devices"] = json!([]);
    bundle.write()?;
    let none = bundle.oci(&["run", "two"])?;
    for output in [none, listed] {
        contains!(output.stderr, "Operation not permitted");
        same!(output.stdout, "null\n");
    }
    Ok(())
}

fn cve_2023_2431_an_empty_profile_is_none(sandbox: &Sandbox) -> Result<()> {
    let mut bundle = Bundle::new(sandbox, "true")?;
    for profile in [json!({}), json!({"defaultAction": ""}), json!("")] {
        bundle.config["linux"]["seccomp"] = profile.clone();
        bundle.write()?;
        let output = bundle.oci(&["run", "one"])?;
        ensure!(output.code == 1, "{profile}: {output:?}");
    }
    Ok(())
}

/// What is given to the container as text is no more than text in it. And CVE-2022-4318.
fn cve_2026_23953_lines_in_names(sandbox: &Sandbox) -> Result<()> {
    let mut bundle = Bundle::new(sandbox, "cat /etc/passwd; echo \"$HOME\" | head -n 1")?;
    symlink("busybox", bundle.path("rootfs/bin/head"))?;
    fs::write(bundle.path("rootfs/etc/passwd"), "root:x:0:0::/root:/bin/sh\n")?;
    bundle.config["process"]["env"] = json!(["PATH=/bin", "HOME=x:/:/bin/sh\nroot2::0:0"]);
    bundle.write()?;
    let output = bundle.oci(&["run", "one"])?.success()?;
    same!(output, "root:x:0:0::/root:/bin/sh\nx:/:/bin/sh");
    // The state's text for a hook stays one value.
    bundle.config["annotations"] = json!({"a\n\"status\": \"forged\"": "x\", \"pid\": 1"});
    bundle.config["hooks"] = json!({"createRuntime": [{"path": "/bin/sh", "args": ["sh", "-c", "cat > state.seen"]}]});
    bundle.write()?;
    bundle.oci(&["run", "two"])?;
    let seen = [bundle.path("state.seen"), sandbox.path("state.seen"), PathBuf::from("/state.seen")];
    if let Some(path) = seen.iter().find(|path| path.exists()) {
        let state: Value = serde_json::from_str(&fs::read_to_string(path)?)?;
        same!(state["status"], "creating");
        same!(state["annotations"]["a\n\"status\": \"forged\""], "x\", \"pid\": 1");
    }
    Ok(())
}

/// Annotations are for others to read. And CVE-2024-3154: none of them is a property of a systemd unit here.
fn cve_2023_6476_annotations_change_nothing(sandbox: &Sandbox) -> Result<()> {
    let mut bundle = Bundle::new(sandbox, "cat /proc/self/status")?;
    let caps = |text: &str| text.lines().filter(|line| line.starts_with("Cap")).collect::<Vec<_>>().join(" ");
    let before = caps(&bundle.oci(&["run", "one"])?.success()?);
    bundle.config["annotations"] = json!({
        "org.systemd.property.ExecStopPost": "['/bin/touch /evil']", "io.katacontainers.config": "x",
        "run.oci.keep_original_groups": "1", "run.oci.hooks.stderr": "/evil", "run.oci.mount_context_type": "x",
        "io.kubernetes.cri-o.UnifiedCgroup.x": "memory.max=max", "run.oci.handler": "krun",
    });
    bundle.write()?;
    same!(caps(&bundle.oci(&["run", "two"])?.success()?), before);
    ensure!(!Path::new("/evil").exists(), "an annotation was executed");
    Ok(())
}

/// What `--no-pivot` leaves mounted out of sight is no procfs that lets another be mounted.
fn no_pivot_shows_no_other_procfs(sandbox: &Sandbox) -> Result<()> {
    let mut bundle = Bundle::new(sandbox, "unshare -Urpmf sh -c 'mount -t proc none /proc && echo mounted'")?;
    for name in ["unshare", "mount"] {
        symlink("busybox", bundle.path("rootfs/bin").join(name))?;
    }
    for set in ["bounding", "permitted", "effective"] {
        let list = bundle.config["process"]["capabilities"][set].as_array_mut().context("capabilities")?;
        list.push(json!("CAP_SETFCAP"));
    }
    bundle.write()?;
    for words in [&["run", "--no-pivot", "one"][..], &["run", "two"]] {
        let output = bundle.oci(words)?;
        ensure!(!output.stdout.contains("mounted"), "{words:?}: {output:?}");
    }
    Ok(())
}

/// Whatever the caller stands in and holds open, the program starts where it was told to, with what it was given.
fn cve_2015_3627_the_working_directory_is_inside(sandbox: &Sandbox) -> Result<()> {
    let bundle = Bundle::new(sandbox, "ls -l /proc/self/cwd /proc/self/root; ls /proc/self/fd; ls ..")?;
    let secret = sandbox.path("files/secret");
    fs::create_dir(&secret)?;
    fs::write(secret.join("word"), "")?;
    let command = bundle.command(&["run", "--bundle", &bundle.place(), "one"]);
    let mut line = vec![command.get_program().to_owned()];
    line.extend(command.get_args().map(ToOwned::to_owned));
    let output = std::process::Command::new("sh")
        .args(["-c", "exec 5<. 6<word 7<.. && exec \"$@\"", "sh"])
        .args(line)
        .current_dir(&secret)
        .output()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    ensure!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
    contains!(text, "/proc/self/cwd -> /\n");
    ensure!(!text.contains("secret") && !text.contains("word"), "{text}");
    ensure!(!text.lines().any(|line| matches!(line, "5" | "6" | "7")), "descriptors leaked: {text}");
    Ok(())
}
