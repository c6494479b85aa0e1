//! Docker's default confinement, as the kernel shows it in `/proc/self/status`, and its switches.

use std::path::Path;

use anyhow::{Context, Result, ensure};

use crate::case::{cases, contains, same, skip};
use crate::host;
use crate::sandbox::Sandbox;

cases![security:
    default_capabilities, capabilities_dropped_and_added, no_capabilities_for_other_users, privileged [Root], seccomp,
    seccomp_blocks, no_new_privileges, masked_and_read_only_paths, namespaces_are_own, app_armor [Root], selinux [Root], descriptors_do_not_leak,
    session_key_ring, oom_score, devices_are_denied [Root], user_namespace [User], set_user_id_works,
];

/// Docker's fourteen capabilities.
const DEFAULT: u64 = 0xa804_25fb;

fn status(sandbox: &Sandbox, options: &[&str], name: &str) -> Result<String> {
    let mut all = vec!["--network", "none"];
    all.extend_from_slice(options);
    let text = sandbox.busybox(&all, "cat /proc/self/status")?;
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix(&format!("{name}:")))
        .with_context(|| format!("no {name} in {text}"))?;
    Ok(line.trim().to_owned())
}

fn mask(sandbox: &Sandbox, options: &[&str], name: &str) -> Result<u64> {
    Ok(u64::from_str_radix(&status(sandbox, options, name)?, 16)?)
}

fn default_capabilities(sandbox: &Sandbox) -> Result<()> {
    sandbox.load("busybox")?;
    for (name, wanted) in [("CapEff", DEFAULT), ("CapPrm", DEFAULT), ("CapBnd", DEFAULT), ("CapInh", 0), ("CapAmb", 0)]
    {
        same!(format!("{name} {:x}", mask(sandbox, &[], name)?), format!("{name} {wanted:x}"));
    }
    Ok(())
}

fn capabilities_dropped_and_added(sandbox: &Sandbox) -> Result<()> {
    sandbox.load("busybox")?;
    same!(mask(sandbox, &["--cap-drop", "ALL"], "CapBnd")?, 0);
    same!(mask(sandbox, &["--cap-drop", "all", "--cap-add", "CHOWN"], "CapEff")?, 1);
    same!(mask(sandbox, &["--cap-add", "CAP_NET_ADMIN"], "CapEff")?, DEFAULT | 1 << 12);
    same!(mask(sandbox, &["--cap-drop", "net_raw"], "CapEff")?, DEFAULT & !(1 << 13));
    Ok(())
}

fn no_capabilities_for_other_users(sandbox: &Sandbox) -> Result<()> {
    sandbox.load("busybox")?;
    same!(mask(sandbox, &["-u", "1000"], "CapEff")?, 0);
    same!(mask(sandbox, &["-u", "1000"], "CapBnd")?, DEFAULT);
    Ok(())
}

fn privileged(sandbox: &Sandbox) -> Result<()> {
    sandbox.load("busybox")?;
    let own = std::fs::read_to_string("/proc/self/status")?;
    let own = own.lines().find_map(|line| line.strip_prefix("CapBnd:")).context("no CapBnd")?.trim().to_owned();
    same!(status(sandbox, &["--privileged"], "CapEff")?, own);
    same!(status(sandbox, &["--privileged"], "Seccomp")?, "0");
    let text = sandbox.busybox(
        &["--network", "none", "--privileged"],
        "mount -t tmpfs none /tmp && echo mounted; test -w /proc/sys/kernel/domainname && echo writable",
    )?;
    same!(text, "mounted\nwritable");
    Ok(())
}

fn seccomp(sandbox: &Sandbox) -> Result<()> {
    sandbox.load("busybox")?;
    same!(status(sandbox, &[], "Seccomp")?, "2");
    same!(status(sandbox, &["--security-opt", "seccomp=unconfined"], "Seccomp")?, "0");
    let profile = r#"{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["mkdir","mkdirat"],"action":"SCMP_ACT_ERRNO","errnoRet":95}]}"#;
    let file = sandbox.file("profile.json", profile)?;
    let text =
        sandbox.busybox(&["--network", "none", "--security-opt", &format!("seccomp={file}")], "mkdir /x 2>&1; true")?;
    contains!(text, "not supported");
    let file = sandbox.file("broken.json", "{")?;
    sandbox
        .dhow(["run", "--rm", "--network", "none", "--security-opt", &format!("seccomp={file}"), "busybox", "true"])?
        .fails(125, &["seccomp"])
}

fn seccomp_blocks(sandbox: &Sandbox) -> Result<()> {
    sandbox.load("busybox")?;
    // Neither a new user namespace nor a mount, as Docker's profile has it.
    let text = sandbox.busybox(&["--network", "none"], "unshare -U true 2>&1; mount -t tmpfs none /tmp 2>&1; true")?;
    same!(
        text.to_lowercase().matches("not permitted").count() + text.to_lowercase().matches("denied").count(),
        2,
        "{text}"
    );
    Ok(())
}

fn no_new_privileges(sandbox: &Sandbox) -> Result<()> {
    sandbox.load("busybox")?;
    same!(status(sandbox, &[], "NoNewPrivs")?, "0");
    same!(status(sandbox, &["--security-opt", "no-new-privileges"], "NoNewPrivs")?, "1");
    same!(status(sandbox, &["--security-opt", "no-new-privileges:true"], "NoNewPrivs")?, "1");
    same!(status(sandbox, &["--security-opt", "no-new-privileges=false"], "NoNewPrivs")?, "0");
    Ok(())
}

fn masked_and_read_only_paths(sandbox: &Sandbox) -> Result<()> {
    sandbox.load("busybox")?;
    // Opening is what must fail: nothing is written.
    let script = "head -c 1 /proc/kcore 2>/dev/null | wc -c; head -c 1 /proc/timer_list 2>/dev/null | wc -c
        ls /proc/acpi /sys/firmware 2>/dev/null | grep -v : | wc -w
        for f in /proc/sysrq-trigger /proc/sys/kernel/domainname /sys/kernel/uevent_helper; do
            test -e $f && (: >>$f) 2>/dev/null && echo writable $f; done
        for d in bus fs irq sys sysrq-trigger; do test ! -e /proc/$d || grep -q \"^proc /proc/$d proc ro,\" /proc/mounts || echo writable $d; done";
    same!(sandbox.busybox(&["--network", "none"], script)?, "0\n0\n0");
    Ok(())
}

fn namespaces_are_own(sandbox: &Sandbox) -> Result<()> {
    sandbox.load("busybox")?;
    let id = sandbox.detached(&["--network", "none"], "echo up; exec sleep 1000")?;
    sandbox.wait_for_log(&id, "up")?;
    let pid = sandbox.pid(&id)?.to_string();
    for kind in ["mnt", "pid", "net", "ipc", "uts", "cgroup"] {
        // On v1 Docker shares the cgroup namespace by default.
        if kind == "cgroup" && !host::pure_cgroup_v2() {
            continue;
        }
        ensure!(host::namespace(&pid, kind)? != host::namespace("self", kind)?, "the {kind} namespace is the host's");
    }
    Ok(())
}

fn app_armor(sandbox: &Sandbox) -> Result<()> {
    if !Path::new("/sys/kernel/security/apparmor").exists() {
        return skip("this kernel has no AppArmor");
    }
    sandbox.load("busybox")?;
    same!(sandbox.busybox(&["--network", "none"], "cat /proc/self/attr/current")?, "dhow-default (enforce)");
    same!(
        sandbox
            .busybox(&["--network", "none", "--security-opt", "apparmor=unconfined"], "cat /proc/self/attr/current")?,
        "unconfined"
    );
    let id = sandbox.detached(&["--network", "none"], "exec sleep 1000")?;
    same!(sandbox.ok(["exec", &id, "cat", "/proc/self/attr/current"])?, "dhow-default (enforce)");
    Ok(())
}

fn selinux(sandbox: &Sandbox) -> Result<()> {
    if !Path::new("/sys/fs/selinux/enforce").exists() {
        return skip("this kernel has no SELinux");
    }
    sandbox.load("busybox")?;
    let own = "tr -d '\\0' < /proc/self/attr/current";
    let label = |options: &[&str]| sandbox.busybox(&[&["--network", "none"], options].concat(), own);
    let (first, second) = (label(&[])?, label(&[])?);
    contains!(first, "system_u:system_r:container_t:s0:c");
    ensure!(first != second, "two containers have the same categories: {first}");
    same!(label(&["--security-opt", "label=level:s0:c1,c2"])?, "system_u:system_r:container_t:s0:c1,c2");
    ensure!(!label(&["--security-opt", "label=disable"])?.contains("container_t"), "label=disable has no effect");
    let id = sandbox.detached(&["--network", "none"], "exec sleep 1000")?;
    contains!(sandbox.ok(["exec", &id, "cat", "/proc/self/attr/current"])?, ":container_t:s0:c");
    // A file of the host is closed until it is labelled; `z` is for all containers, `Z` for one.
    sandbox.file("data/file", "content\n")?;
    let path = sandbox.path("files/data").display().to_string();
    let read = |how: &str| {
        let volume = format!("{path}:/data{how}");
        sandbox.dhow(["run", "--rm", "--network", "none", "-v", &volume, "busybox", "cat", "/data/file"])
    };
    ensure!(read("")?.code != 0, "a file of the host can be read without its label");
    same!(read(":z")?.success()?, "content");
    same!(read("")?.success()?, "content");
    same!(read(":Z")?.success()?, "content");
    ensure!(read("")?.code != 0, "another container can read what was labelled for one");
    let whole = sandbox.dhow(["run", "--rm", "--network", "none", "-v", "/etc:/data:z", "busybox", "true"])?;
    same!(whole.code, 125);
    contains!(whole.stderr, "cannot give /etc a label");
    Ok(())
}

/// CVE-2024-21626: no descriptor of the host is open in the container.
fn descriptors_do_not_leak(sandbox: &Sandbox) -> Result<()> {
    sandbox.load("busybox")?;
    // 3 is the directory that ls reads.
    same!(
        sandbox.busybox(
            &["--network", "none"],
            "ls /proc/self/fd | tr '\\n' ' '; cat /proc/1/environ | grep -c DHOW || true"
        )?,
        "0 1 2 3 0"
    );
    let id = sandbox.detached(&["--network", "none"], "exec sleep 1000")?;
    same!(sandbox.ok(["exec", &id, "ls", "/proc/self/fd"])?, "0\n1\n2\n3");
    sandbox.dhow(["run", "--rm", "--network", "none", "-w", "/proc/self/fd/7", "busybox", "true"])?.fails(125, &[])
}

fn session_key_ring(sandbox: &Sandbox) -> Result<()> {
    sandbox.load("busybox")?;
    same!(sandbox.busybox(&["--network", "none"], "test -e /proc/keys && cat /proc/keys | wc -l; true")?, "0");
    Ok(())
}

fn oom_score(sandbox: &Sandbox) -> Result<()> {
    sandbox.load("busybox")?;
    let own = std::fs::read_to_string("/proc/self/oom_score_adj")?.trim().to_owned();
    same!(sandbox.busybox(&["--network", "none"], "cat /proc/self/oom_score_adj")?, own);
    Ok(())
}

fn devices_are_denied(sandbox: &Sandbox) -> Result<()> {
    sandbox.load("busybox")?;
    // mknod is allowed (CAP_MKNOD), use is not: 1:1 is physical memory.
    let script = "mknod /mem c 1 1 && head -c 1 /mem 2>&1; mknod /null c 1 3 && echo x >/null && echo written";
    let text = sandbox.busybox(&["--network", "none"], script)?;
    contains!(text, "not permitted");
    contains!(text, "written");
    Ok(())
}

/// An ordinary user's container: root inside, himself outside.
fn user_namespace(sandbox: &Sandbox) -> Result<()> {
    sandbox.load("busybox")?;
    let map = sandbox.busybox(&["--network", "none"], "id -u; cat /proc/self/uid_map")?;
    let mut words = map.split_whitespace();
    same!((words.next(), words.next()), (Some("0"), Some("0")));
    let outside: u32 = words.next().context("no map")?.parse()?;
    let own = std::os::unix::fs::MetadataExt::uid(&std::fs::metadata("/proc/self")?);
    same!(outside, own);
    Ok(())
}

/// A set-user-id program gains privileges unless told otherwise.
fn set_user_id_works(sandbox: &Sandbox) -> Result<()> {
    sandbox.load("busybox")?;
    let script = "cp /bin/busybox /id-as-root 2>/dev/null; chmod 4755 /id-as-root; su -s /bin/sh www-data -c '/id-as-root id -u' || true";
    let output = sandbox.dhow(["run", "--rm", "--network", "none", "busybox", "sh", "-c", script])?;
    same!(output.code, 0);
    Ok(())
}
