//! `dhow oci`: what the suites of other runtimes look at, and callers of runc have come to expect.

use std::fs;
use std::io::Read;
use std::os::unix::net::UnixListener;
use std::process::{Command, Stdio};

use anyhow::{Result, ensure};
use serde_json::{Value, json};

use crate::case::{cases, contains, same};
use crate::cases::oci::Bundle;
use crate::host;
use crate::sandbox::Sandbox;

cases![oci_suites:
    bind_mounts_are_as_their_options_say [Root], what_is_locked_stays [Root], the_engine_keeps_what_a_source_forbids [Root],
    filters_hold_in_hooks_of_the_start, a_supervisor_hears_at_the_creation, flags_of_a_filter,
    relative_paths_are_read_only, what_is_killed_while_it_is_removed_was_killed,
];

/// A tmpfs with these flags of its mount, for as long as the value lives; only this test's mount namespace has it.
struct Source(String);

impl Source {
    const PLACE: &str = "/mnt";

    fn new(flags: &str) -> Result<Self> {
        let mount = |words: &[&str]| host::succeed(Command::new("mount").args(words));
        mount(&["-t", "tmpfs", "-o", "diratime,strictatime", "tmpfs", Self::PLACE])?;
        let source = Self(Self::PLACE.to_owned());
        mount(&["--bind", "-o", &format!("remount,{flags}"), Self::PLACE])?;
        Ok(source)
    }
}

impl Drop for Source {
    fn drop(&mut self) {
        drop(Command::new("umount").arg(&self.0).status());
    }
}

/// The flags of /y in a container that has it from a source with `flags`, by `options`.
fn seen(bundle: &mut Bundle<'_>, flags: &str, options: &[&str]) -> Result<Vec<String>> {
    let source = Source::new(flags)?;
    let mount = json!({"destination": "/y", "type": "bind", "source": source.0, "options": options});
    let mounts = bundle.config["mounts"].as_array().cloned().unwrap_or_default();
    let others = mounts.into_iter().filter(|each| each["destination"] != "/y");
    bundle.config["mounts"] = others.chain([mount]).collect();
    bundle.write()?;
    let text = bundle.oci(&["run", "one"])?.success()?;
    let flags = text.split_whitespace().nth(3).unwrap_or_default();
    Ok(flags.split(',').map(str::to_owned).collect())
}

/// Flags of the source, options, flags that are there then, and flags that are not.
type Row<'a> = (&'a str, &'a [&'a str], &'a [&'a str], &'a [&'a str]);

fn check(bundle: &mut Bundle<'_>, table: &[Row<'_>]) -> Result<()> {
    for (flags, options, there, gone) in table {
        let found = seen(bundle, flags, options)?;
        let has = |flag: &&str| found.iter().any(|each| each == flag);
        ensure!(there.iter().all(has), "{flags} with {options:?} is {found:?}, without one of {there:?}");
        ensure!(!gone.iter().any(has), "{flags} with {options:?} is {found:?}, with one of {gone:?}");
    }
    Ok(())
}

const LOOK: &str = "while read line; do case \"$line\" in *' /y '*) echo $line;; esac; done < /proc/self/mounts";

/// As `mount -o remount,bind,…`: what is named is so and the rest is not, but for access times; without names it is as its
/// source.
fn bind_mounts_are_as_their_options_say(sandbox: &Sandbox) -> Result<()> {
    let mut bundle = Bundle::new(sandbox, LOOK)?;
    let forbidding: &[&str] = &["ro", "nosuid", "nodev", "noexec"];
    check(
        &mut bundle,
        &[
            (
                "ro,nosuid,nodev,noexec,nodiratime",
                &["bind"],
                &["ro", "nosuid", "nodev", "noexec", "nodiratime"],
                &["rw"],
            ),
            ("ro,nosuid,nodev,noexec", &["rbind", "rprivate"], forbidding, &["rw"]),
            ("ro,nosuid,nodev,noexec,nodiratime", &["bind", "dev"], &["rw", "nodiratime"], forbidding),
            ("ro,noexec", &["bind", "nosuid"], &["rw", "nosuid"], &["ro", "noexec"]),
            ("nosuid,nodev,noatime", &["bind", "ro", "atime"], &["ro", "noatime"], &["nosuid", "nodev", "relatime"]),
            ("noatime", &["bind", "relatime"], &["relatime"], &["noatime"]),
            ("noatime", &["bind", "nodiratime"], &["nodiratime", "relatime"], &["noatime"]),
            ("nodiratime", &["bind", "strictatime"], &["rw"], &["noatime", "relatime", "nodiratime"]),
            ("nosuid", &["bind", "rro"], &["ro", "nosuid"], &[]),
        ],
    )
}

/// In a user namespace of its own a container cannot have what the host forbids: asked for by name that is an error.
fn what_is_locked_stays(sandbox: &Sandbox) -> Result<()> {
    let mut bundle = Bundle::new(sandbox, LOOK)?;
    // Root of the namespace owns nothing of the bundle.
    fs::create_dir(bundle.path("rootfs/y"))?;
    let namespaces = bundle.config["linux"]["namespaces"].as_array().cloned().unwrap_or_default();
    bundle.config["linux"]["namespaces"] = namespaces.into_iter().chain([json!({"type": "user"})]).collect();
    for ids in ["uidMappings", "gidMappings"] {
        bundle.config["linux"][ids] = json!([{"containerID": 0, "hostID": 100_000, "size": 65_536}]);
    }
    check(
        &mut bundle,
        &[
            ("ro,nosuid,noatime", &["bind"], &["ro", "nosuid", "noatime"], &["rw"]),
            ("ro,noexec,nodiratime", &["bind", "dev"], &["ro", "noexec", "nodiratime"], &["rw"]),
            ("nosuid,nodev,noatime", &["bind", "ro", "exec"], &["ro", "nosuid", "nodev", "noatime"], &[]),
            ("relatime", &["bind", "norelatime"], &["relatime"], &[]),
        ],
    )?;
    for (flags, option, locked) in [
        ("ro", "rw", "ro"),
        ("nosuid,nodev", "suid", "nosuid"),
        ("noatime", "relatime", "noatime"),
        ("strictatime", "nodiratime", "strictatime"),
        ("relatime", "strictatime", "relatime"),
    ] {
        let error =
            seen(&mut bundle, flags, &["bind", option]).err().map(|error| error.to_string()).unwrap_or_default();
        contains!(error, format!("cannot change locked flags {locked}: operation not permitted"));
        contains!(error, "run failed: unable to start container process: error during container init: error mounting");
    }
    Ok(())
}

/// A volume's options say whether it can be written, and nothing of what its source forbids.
fn the_engine_keeps_what_a_source_forbids(sandbox: &Sandbox) -> Result<()> {
    sandbox.load("busybox")?;
    for (flags, suffix, access) in [
        ("nosuid,nodev,noexec", ":ro", "ro"),
        ("nosuid,nodev,noexec", "", "rw"),
        ("ro,nosuid,nodev,noexec", ":rw", "ro"),
    ] {
        let source = Source::new(flags)?;
        let volume = format!("{}:/y{suffix}", source.0);
        let text = sandbox.busybox(&["--rm", "-v", &volume], "grep ' /y ' /proc/mounts")?;
        contains!(text, format!("{access},nosuid,nodev,noexec"));
    }
    Ok(())
}

fn kill(names: &[&str]) -> Value {
    json!({"defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_AARCH64"],
        "syscalls": [{"names": names, "action": "SCMP_ACT_KILL"}]})
}

/// They are a part of the container: its filter holds for them, and they have no more capabilities than it.
fn filters_hold_in_hooks_of_the_start(sandbox: &Sandbox) -> Result<()> {
    let mut bundle = Bundle::new(sandbox, "true")?;
    bundle.config["root"]["readonly"] = json!(false);
    bundle.config["process"]["rlimits"] = json!([{"type": "RLIMIT_CORE", "soft": 0, "hard": 0}]);
    bundle.config["linux"]["seccomp"] = kill(&["mkdir", "mkdirat"]);
    for no_new_privileges in [true, false] {
        bundle.config["process"]["noNewPrivileges"] = json!(no_new_privileges);
        let hook = |script: &str| json!({"startContainer": [{"path": "/bin/sh", "args": ["sh", "-c", script]}]});
        bundle.config["hooks"] = hook("exec /bin/busybox mkdir /new");
        bundle.write()?;
        bundle.oci(&["run", "one"])?.fails(1, &["error running startContainer hook #0", "bad system call"])?;
        bundle.config["hooks"] = hook("cat /proc/self/status > /tmp/seen");
        bundle.write()?;
        bundle.oci(&["run", "one"])?.success()?;
        let status = fs::read_to_string(bundle.path("rootfs/tmp/seen"))?;
        // CAP_KILL, CAP_NET_BIND_SERVICE and CAP_AUDIT_WRITE, as in the document that `spec` gives.
        contains!(status, "CapPrm:\t0000000020000420");
        contains!(status, "Seccomp:\t2");
        fs::remove_file(bundle.path("rootfs/tmp/seen"))?;
    }
    Ok(())
}

/// Before the container is started: one that nobody would answer for is not made.
fn a_supervisor_hears_at_the_creation(sandbox: &Sandbox) -> Result<()> {
    let mut bundle = Bundle::new(sandbox, "exec /bin/busybox mkdir /tmp/new")?;
    let socket = sandbox.path("files/agent.sock");
    for no_new_privileges in [true, false] {
        bundle.config["process"]["noNewPrivileges"] = json!(no_new_privileges);
        bundle.config["linux"]["seccomp"] = kill(&[]);
        bundle.config["linux"]["seccomp"]["syscalls"] =
            json!([{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_NOTIFY"}]);
        bundle.config["linux"]["seccomp"]["listenerPath"] = json!(socket);
        bundle.config["linux"]["seccomp"]["listenerMetadata"] = json!("of the test");
        bundle.write()?;
        bundle.oci(&["create", "one"])?.fails(1, &["failed to connect with seccomp agent"])?;
        bundle.oci(&["state", "one"])?.fails(1, &["does not exist"])?;
        let listener = UnixListener::bind(&socket)?;
        bundle.detached(&["create", "one"])?;
        listener.set_nonblocking(true)?;
        let (mut connection, _) = listener.accept()?;
        connection.set_nonblocking(false)?;
        let mut text = Vec::new();
        // What came along is thrown away, so that the calls in question fail.
        connection.read_to_end(&mut text)?;
        let text: Value = serde_json::from_slice(&text)?;
        same!(text["metadata"], "of the test");
        same!(text["state"]["status"], "creating");
        same!(text["pid"], bundle.state("one")?["pid"]);
        bundle.oci(&["start", "one"])?.success()?;
        bundle.wait_for_output("can't create directory '/tmp/new': Function not implemented")?;
        bundle.wait_for("one", "stopped")?;
        bundle.oci(&["delete", "one"])?.success()?;
        fs::remove_file(&socket)?;
    }
    Ok(())
}

/// None are not an empty list: before Linux 5.16 it decides whether a mitigation is paid for.
fn flags_of_a_filter(sandbox: &Sandbox) -> Result<()> {
    let mut bundle = Bundle::new(sandbox, "true")?;
    for (flags, number) in [
        (Value::Null, 4),
        (json!([]), 0),
        (json!(["SECCOMP_FILTER_FLAG_LOG"]), 2),
        (json!(["SECCOMP_FILTER_FLAG_LOG", "SECCOMP_FILTER_FLAG_SPEC_ALLOW"]), 6),
    ] {
        bundle.config["linux"]["seccomp"] = kill(&["mkdir"]);
        bundle.config["linux"]["seccomp"]["flags"] = flags;
        bundle.write()?;
        let output = bundle.oci(&["--debug", "run", "one"])?;
        same!(output.code, 0, "{}", output.stderr);
        contains!(output.stderr, format!("\"seccomp filter flags: {number}\""));
    }
    Ok(())
}

/// config-linux.md wants absolute ones, of the author; runc takes others from the root, and a place that cannot be written
/// harms nobody.
fn relative_paths_are_read_only(sandbox: &Sandbox) -> Result<()> {
    let mut bundle = Bundle::new(sandbox, "echo x > /tmp/file; echo y > /file && echo written")?;
    bundle.config["root"]["readonly"] = json!(false);
    bundle.config["linux"]["readonlyPaths"] = json!(["tmp", "not/there"]);
    bundle.write()?;
    let output = bundle.oci(&["run", "one"])?;
    contains!(output.stderr, "/tmp/file: Read-only file system");
    bundle.config["linux"]["readonlyPaths"] = json!([]);
    bundle.config["linux"]["maskedPaths"] = json!(["tmp"]);
    bundle.write()?;
    bundle.oci(&["run", "one"])?.fails(1, &["linux.maskedPaths", "is not absolute"])
}

/// `run` removes what has ended as soon as it has, while `kill` still looks whether it must be thawed.
fn what_is_killed_while_it_is_removed_was_killed(sandbox: &Sandbox) -> Result<()> {
    let bundle = Bundle::new(sandbox, "sleep 1000")?;
    for round in 0..20 {
        let id = format!("r{round}");
        let mut running = bundle.command(&["run", &id]).stdin(Stdio::null()).spawn()?;
        host::until("it runs", sandbox.seconds(10), || {
            let output = bundle.oci(&["state", &id])?;
            Ok(output.stdout.contains("\"running\"").then_some(()))
        })?;
        let killed = bundle.oci(&["kill", &id, "KILL"]);
        running.wait()?;
        killed?.success()?;
    }
    Ok(())
}
