//! What once went wrong in programs of this kind, by its number: hostile bundles, hostile images, prying processes.
//!
//! Each fails when its guard is taken out of `runtime` or `kernel`. A *canary* is a directory of the host that nothing may
//! change.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use crate::case::{cases, contains, same};
use crate::cases::oci::Bundle;
use crate::host;
use crate::sandbox::Sandbox;

cases![hardening:
    cve_2019_5736_the_program_cannot_be_written, cve_2024_21626_no_descriptor_leads_out,
    cve_2026_41579_dev_is_a_link [Root], cve_2019_18837_links_in_the_image, cve_2023_27561_proc_is_a_link,
    cve_2025_31133_null_is_a_link, cve_2019_16884_nothing_over_proc, cve_2015_3630_kernel_tables_are_closed,
    cve_2021_43784_many_mappings, cve_2022_0811_parameters_of_the_host, cve_2022_24769_no_inheritable_capabilities,
    cve_2016_8867_users_have_no_capabilities [Root], cve_2024_40635_large_user_ids, cve_2025_4437_endless_passwd,
    cve_2018_20699_large_sets [Root], cve_2026_57231_variables_without_value, cve_2025_23266_hooks_have_a_clean_environment,
    cve_2026_55686_working_directory_is_a_link, cve_2020_15257_no_socket_without_a_path,
    cve_2024_25621_state_is_private, cve_2023_25173_groups_are_kept [Root], cve_2019_11245_the_user_stays, the_first_process_has_what_the_plan_says,
];

/// A directory of the host, and what is in it.
struct Canary {
    path: PathBuf,
    before: Vec<String>,
}

impl Canary {
    fn new(sandbox: &Sandbox) -> Result<Self> {
        let path = sandbox.path("files/canary");
        fs::create_dir_all(path.join("sub"))?;
        fs::write(path.join("file"), "as it was")?;
        let before = Self::look(&path)?;
        Ok(Self { path, before })
    }

    fn look(path: &Path) -> Result<Vec<String>> {
        let mut seen = vec![];
        for entry in fs::read_dir(path)? {
            let entry = entry?;
            let status = entry.path().symlink_metadata()?;
            seen.push(format!("{:?} {} {:o} {}", entry.file_name(), status.ino(), status.mode(), status.size()));
        }
        seen.sort();
        Ok(seen)
    }

    fn sings(&self) -> Result<()> {
        same!(Self::look(&self.path)?, self.before);
        same!(fs::read_to_string(self.path.join("file"))?, "as it was");
        Ok(())
    }
}

/// The root file system's own name for something, freed of what is there.
fn cleared(bundle: &Bundle<'_>, name: &str) -> Result<PathBuf> {
    let path = bundle.path("rootfs").join(name);
    if path.is_dir() && !path.is_symlink() {
        fs::remove_dir_all(&path)?;
    } else if path.symlink_metadata().is_ok() {
        fs::remove_file(&path)?;
    }
    Ok(path)
}

fn cve_2019_5736_the_program_cannot_be_written(sandbox: &Sandbox) -> Result<()> {
    let bundle = Bundle::new(sandbox, "exec sleep 1000")?;
    let program = std::env::var_os("DHOW_BIN").map(PathBuf::from).context("DHOW_BIN")?;
    let before = fs::read(&program)?;
    // A script whose interpreter is whoever executes it: the runtime itself, seen from inside.
    let script = bundle.path("rootfs/bin/trap");
    fs::write(&script, "#!/proc/self/exe\n")?;
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755))?;
    let writer = "echo x > /proc/self/exe; for p in /proc/[0-9]*; do echo x > $p/exe; done; true";
    bundle.detached(&["run", "-d", "one"])?;
    bundle.oci(&["exec", "one", "/bin/trap"])?;
    bundle.oci(&["exec", "one", "sh", "-c", writer])?;
    bundle.oci(&["delete", "-f", "one"])?.success()?;
    ensure!(fs::read(&program)? == before, "the program was changed");
    // Not even while a container waits, when this program's process is its first.
    bundle.detached(&["create", "two"])?;
    let pid = bundle.state("two")?["pid"].to_string();
    let exe = fs::read_link(format!("/proc/{pid}/exe"));
    if host::is_root() {
        ensure!(exe.as_ref().is_ok_and(|exe| exe != &program), "the waiting process runs the host's file: {exe:?}");
        ensure!(fs::File::options().write(true).open(format!("/proc/{pid}/exe")).is_err(), "it can be opened to write");
        // Not only because it runs at this moment (ETXTBSY), which will end.
        let mount = rustix::fs::statvfs(format!("/proc/{pid}/exe"))?;
        ensure!(
            mount.f_flag.contains(rustix::fs::StatVfsMountFlags::RDONLY),
            "it is seen through a mount to write through"
        );
    } else {
        ensure!(exe.is_err(), "a process that waits can be looked into: {exe:?}");
    }
    Ok(())
}

fn cve_2024_21626_no_descriptor_leads_out(sandbox: &Sandbox) -> Result<()> {
    let mut bundle = Bundle::new(sandbox, "pwd; ls; exec sleep 1000")?;
    for number in 3..24 {
        bundle.config["process"]["cwd"] = json!(format!("/proc/self/fd/{number}"));
        bundle.write()?;
        let output = bundle.oci(&["run", "one"])?;
        ensure!(output.code == 1, "descriptor {number} is a directory: {}", output.stdout);
    }
    bundle.config["process"]["cwd"] = json!("/");
    bundle.write()?;
    bundle.detached(&["run", "-d", "two"])?;
    for number in 3..24 {
        let output = bundle.oci(&["exec", "--cwd", &format!("/proc/self/fd/{number}"), "two", "pwd"])?;
        ensure!(output.code == 255, "descriptor {number} is a directory: {}", output.stdout);
    }
    // And none is left open in either.
    for process in ["1", "self"] {
        let list = bundle.oci(&["exec", "two", "ls", &format!("/proc/{process}/fd")])?.success()?;
        ensure!(list.lines().all(|fd| matches!(fd, "0" | "1" | "2" | "3")), "{process}: {list}");
    }
    Ok(())
}

fn cve_2026_41579_dev_is_a_link(sandbox: &Sandbox) -> Result<()> {
    let mut bundle = Bundle::new(sandbox, "ls /dev/")?;
    let canary = Canary::new(sandbox)?;
    symlink(&canary.path, cleared(&bundle, "dev")?)?;
    // Without a file system of its own, /dev is what the image says.
    let mounts = bundle.config["mounts"].as_array_mut().context("mounts")?;
    mounts.retain(|mount| !mount["destination"].as_str().unwrap_or_default().starts_with("/dev"));
    bundle.config["root"]["readonly"] = json!(false);
    bundle.write()?;
    bundle.oci(&["run", "one"])?;
    canary.sings()
}

fn cve_2019_18837_links_in_the_image(sandbox: &Sandbox) -> Result<()> {
    let canary = Canary::new(sandbox)?;
    let places =
        ["dev/pts", "dev/shm", "dev/mqueue", "sys/fs/cgroup", "etc/hosts", "etc/resolv.conf", "run/secrets", "mnt"];
    for (number, place) in places.into_iter().enumerate() {
        for up in ["", "../../../../../../../../.."] {
            let mut bundle = Bundle::again(sandbox, "true")?;
            let path = bundle.path("rootfs").join(place);
            fs::create_dir_all(path.parent().context("a parent")?)?;
            let path = cleared(&bundle, place)?;
            symlink(format!("{up}{}", canary.path.display()), path)?;
            let source = sandbox.file("source", "for the container")?;
            let mounts = bundle.config["mounts"].as_array_mut().context("mounts")?;
            mounts.push(json!({"destination": format!("/{place}/made"), "source": source, "options": ["bind"]}));
            bundle.config["root"]["readonly"] = json!(false);
            bundle.write()?;
            bundle.oci(&["run", &format!("c{number}")])?;
            canary.sings().with_context(|| format!("/{place} is a link to {up}{}", canary.path.display()))?;
        }
    }
    Ok(())
}

fn cve_2023_27561_proc_is_a_link(sandbox: &Sandbox) -> Result<()> {
    for place in ["proc", "sys"] {
        let bundle = Bundle::again(sandbox, "true")?;
        symlink("/tmp", cleared(&bundle, place)?)?;
        if place == "sys" && !host::is_root() {
            // An ordinary user's is a bind mount.
            continue;
        }
        bundle.oci(&["run", place])?.fails(1, &[&format!("/{place}"), "must be mounted on ordinary directory"])?;
    }
    Ok(())
}

fn cve_2025_31133_null_is_a_link(sandbox: &Sandbox) -> Result<()> {
    let mut bundle =
        Bundle::new(sandbox, "cat /etc/masked; stat -c %t:%T /etc/masked; cat /proc/sys/kernel/core_pattern")?;
    fs::write(bundle.path("rootfs/etc/masked"), "secret\n")?;
    // The image's own null, where the container has no /dev of its own.
    symlink("/proc/sys/kernel/core_pattern", cleared(&bundle, "dev/null")?)?;
    let mounts = bundle.config["mounts"].as_array_mut().context("mounts")?;
    mounts.retain(|mount| mount["destination"] != "/dev");
    bundle.config["linux"]["maskedPaths"] = json!(["/etc/masked"]);
    bundle.write()?;
    let output = bundle.oci(&["run", "one"])?;
    ensure!(!output.stdout.contains("secret"), "{}", output.stdout);
    // Either refused, as the image's null is in the way, or masked with the true device.
    ensure!(output.code != 0 || output.stdout.starts_with("1:3\n"), "{}", output.stdout);
    Ok(())
}

fn cve_2019_16884_nothing_over_proc(sandbox: &Sandbox) -> Result<()> {
    let mut bundle = Bundle::new(sandbox, "true")?;
    let good = bundle.config.clone();
    for kind in ["tmpfs", "bind"] {
        bundle.config = good.clone();
        let mounts = bundle.config["mounts"].as_array_mut().context("mounts")?;
        mounts.push(match kind {
            "tmpfs" => json!({"destination": "/proc", "type": "tmpfs", "source": "tmpfs"}),
            _ => json!({"destination": "/proc", "source": "/tmp", "options": ["rbind"]}),
        });
        bundle.write()?;
        bundle.oci(&["run", "one"])?.fails(1, &["only procfs may be mounted on /proc"])?;
    }
    Ok(())
}

/// Also CVE-2018-10892 (`/proc/acpi`) and CVE-2020-8694 (`powercap`), as far as the lists of `spec` go.
fn cve_2015_3630_kernel_tables_are_closed(sandbox: &Sandbox) -> Result<()> {
    let script = "cat /proc/timer_list /proc/kcore /proc/keys | head -c 1; ls /proc/acpi /sys/firmware /proc/scsi 2>/dev/null | \
                  grep -v : ; echo x > /proc/sys/kernel/domainname; echo b > /proc/sysrq-trigger; true";
    let bundle = Bundle::new(sandbox, script)?;
    std::os::unix::fs::symlink("busybox", bundle.path("rootfs/bin/head"))?;
    std::os::unix::fs::symlink("busybox", bundle.path("rootfs/bin/grep"))?;
    let output = bundle.oci(&["run", "one"])?;
    same!((output.code, output.stdout.trim()), (0, ""));
    contains!(output.stderr, "domainname: Read-only file system");
    Ok(())
}

fn cve_2021_43784_many_mappings(sandbox: &Sandbox) -> Result<()> {
    let mut bundle = Bundle::new(sandbox, "true")?;
    let many: Vec<Value> =
        (0..3000).map(|number| json!({"containerID": number, "hostID": number + 100_000, "size": 1})).collect();
    let namespaces = bundle.config["linux"]["namespaces"].as_array_mut().context("namespaces")?;
    namespaces.retain(|namespace| namespace["type"] != "user");
    namespaces.push(json!({"type": "user"}));
    let good = bundle.config.clone();
    bundle.config["linux"]["uidMappings"] = json!(many);
    bundle.config["linux"]["gidMappings"] = json!(many);
    bundle.write()?;
    bundle.oci(&["run", "one"])?.fails(1, &["340"])?;
    // What a number of 16 bits does not hold.
    let long = format!("/{}", "x".repeat(70_000));
    let of_long = |pointer: &str, value: Value, words: &str| -> Result<()> {
        let mut other = good.clone();
        let namespaces = other["linux"]["namespaces"].as_array_mut().context("namespaces")?;
        if host::is_root() {
            namespaces.retain(|namespace| namespace["type"] != "user");
        }
        *other.pointer_mut(pointer).with_context(|| pointer.to_owned())? = value;
        fs::write(bundle.path("config.json"), other.to_string())?;
        bundle.oci(&["run", "one"])?.fails(1, &[words])
    };
    let mount = json!({"type": "bind", "source": long, "destination": "/x", "options": ["rbind"]});
    of_long("/mounts/0", mount, "ENAMETOOLONG")?;
    of_long("/hostname", json!(long), "EINVAL")?;
    of_long("/process/cwd", json!(long), "ENAMETOOLONG")
}

/// And CVE-2022-0532.
fn cve_2022_0811_parameters_of_the_host(sandbox: &Sandbox) -> Result<()> {
    let mut bundle = Bundle::new(sandbox, "true")?;
    let before = fs::read_to_string("/proc/sys/kernel/core_pattern")?;
    for (name, value) in [
        ("kernel.core_pattern", "|/evil"),
        ("kernel.shm_rmid_forced", "1+kernel.core_pattern=|/evil"),
        ("kernel/../kernel/core_pattern", "|/evil"),
        ("net.ipv4.ip_forward/../../../kernel/core_pattern", "|/evil"),
    ] {
        bundle.config["linux"]["sysctl"] = json!({name: value});
        bundle.write()?;
        ensure!(bundle.oci(&["run", "one"])?.code == 1, "{name} = {value} was taken");
    }
    same!(fs::read_to_string("/proc/sys/kernel/core_pattern")?, before);
    Ok(())
}

fn status_of(bundle: &Bundle<'_>, words: &[&str]) -> Result<String> {
    bundle.oci(&[&["exec"], words, &["cat", "/proc/self/status"]].concat())?.success()
}

/// And CVE-2025-27612: a process that joins has no more than the first.
fn cve_2022_24769_no_inheritable_capabilities(sandbox: &Sandbox) -> Result<()> {
    let bundle = Bundle::new(sandbox, "exec sleep 1000")?;
    bundle.detached(&["run", "-d", "one"])?;
    let first = bundle.oci(&["exec", "one", "cat", "/proc/1/status"])?.success()?;
    for status in [first, status_of(&bundle, &["one"])?] {
        for line in
            ["CapInh:\t0000000000000000", "CapAmb:\t0000000000000000", "CapBnd:\t0000000020000420", "NoNewPrivs:\t1"]
        {
            contains!(status, line);
        }
    }
    Ok(())
}

/// And CVE-2018-10856, CVE-2021-20188, CVE-2026-30892.
fn cve_2016_8867_users_have_no_capabilities(sandbox: &Sandbox) -> Result<()> {
    let bundle = Bundle::new(sandbox, "exec sleep 1000")?;
    bundle.detached(&["run", "-d", "one"])?;
    for (user, uid, gid) in [("1", 1, 0), ("1000", 1000, 0), ("1000:50", 1000, 50)] {
        let status = status_of(&bundle, &["-u", user, "one"])?;
        contains!(status, format!("Uid:\t{uid}\t{uid}\t{uid}\t{uid}"));
        contains!(status, format!("Gid:\t{gid}\t{gid}\t{gid}\t{gid}"));
        contains!(status, "CapEff:\t0000000000000000");
        contains!(status, "CapPrm:\t0000000000000000");
    }
    Ok(())
}

fn cve_2024_40635_large_user_ids(sandbox: &Sandbox) -> Result<()> {
    let mut bundle = Bundle::new(sandbox, "id")?;
    for uid in [2_147_483_648_u32, u32::MAX] {
        bundle.config["process"]["user"] = json!({"uid": uid, "gid": 0});
        bundle.write()?;
        bundle.oci(&["run", "one"])?.fails(1, &["larger than 2147483647"])?;
    }
    Ok(())
}

/// And CVE-2024-9676, CVE-2016-3697, CVE-2026-46680, CVE-2026-47262: a passwd file that has no end, is a pipe, or names a number.
fn cve_2025_4437_endless_passwd(sandbox: &Sandbox) -> Result<()> {
    for kind in ["endless", "pipe", "names"] {
        let bundle = Bundle::again(sandbox, "echo $HOME")?;
        let passwd = cleared(&bundle, "etc/passwd")?;
        match kind {
            "endless" => fs::File::create(&passwd)?.set_len(10 << 30)?,
            "pipe" => drop(host::succeed(Command::new("mkfifo").arg(&passwd))?),
            _ => fs::write(&passwd, "0:x:1234:1234::/elsewhere:/bin/sh\nroot:x:0:0::/nowhere:/bin/sh\n")?,
        }
        let output = bundle.oci(&["run", kind])?.success()?;
        same!(output, if kind == "names" { "/nowhere" } else { "/" }, "{kind}");
    }
    Ok(())
}

fn cve_2018_20699_large_sets(sandbox: &Sandbox) -> Result<()> {
    let mut bundle = Bundle::new(sandbox, "true")?;
    bundle.config["linux"]["resources"] = json!({"cpu": {"mems": "1-9999999"}});
    bundle.write()?;
    bundle.oci(&["run", "one"])?.fails(1, &["cpu.mems"])
}

fn cve_2026_57231_variables_without_value(sandbox: &Sandbox) -> Result<()> {
    let mut bundle = Bundle::new(sandbox, "")?;
    bundle.config["process"]["args"] = json!(["/bin/env"]);
    for entry in ["PATH", "*", "=x"] {
        bundle.config["process"]["env"] = json!([entry]);
        bundle.write()?;
        bundle.oci(&["run", "one"])?.fails(1, &["process.env"])?;
    }
    bundle.config["process"]["env"] = json!(["PATH=/bin"]);
    bundle.write()?;
    let mut command = bundle.command(&["run", "two"]);
    command.env("SECRET_OF_THE_HOST", "x");
    same!(host::succeed(&mut command)?, "PATH=/bin\nHOME=/\n");
    Ok(())
}

fn cve_2025_23266_hooks_have_a_clean_environment(sandbox: &Sandbox) -> Result<()> {
    let mut bundle = Bundle::new(sandbox, "true")?;
    let seen = sandbox.path("files/seen").display().to_string();
    bundle.config["process"]["env"] = json!(["PATH=/bin", "LD_PRELOAD=/evil.so"]);
    let script = format!("cat >/dev/null; tr '\\0' '\\n' < /proc/self/environ >> {seen}");
    let hook = json!([{"path": "/bin/sh", "args": ["sh", "-c", script]}]);
    bundle.config["hooks"] = json!({"createRuntime": hook, "createContainer": hook});
    bundle.write()?;
    bundle.oci(&["run", "one"])?.success()?;
    let seen = fs::read_to_string(&seen)?;
    ensure!(!seen.contains("LD_PRELOAD") && !seen.contains("_DHOW"), "{seen}");
    Ok(())
}

fn cve_2026_55686_working_directory_is_a_link(sandbox: &Sandbox) -> Result<()> {
    let mut bundle = Bundle::new(sandbox, "pwd; exec sleep 1")?;
    let canary = Canary::new(sandbox)?;
    symlink(&canary.path, bundle.path("rootfs/work"))?;
    bundle.config["process"]["cwd"] = json!("/work/deep/down");
    bundle.config["root"]["readonly"] = json!(false);
    bundle.write()?;
    bundle.oci(&["run", "one"])?.fails(1, &["/work/deep/down"])?;
    canary.sings()
}

fn cve_2020_15257_no_socket_without_a_path(sandbox: &Sandbox) -> Result<()> {
    let bundle = Bundle::new(sandbox, "exec sleep 1000")?;
    let abstract_sockets = || -> Result<usize> {
        let table = fs::read_to_string("/proc/net/unix")?;
        Ok(table
            .lines()
            .filter(|line| line.split_ascii_whitespace().nth(7).is_some_and(|name| name.starts_with('@')))
            .count())
    };
    let before = abstract_sockets()?;
    bundle.detached(&["create", "one"])?;
    same!(abstract_sockets()?, before);
    Ok(())
}

/// Modes of what is made, under a mask that forbids nothing.
/// And CVE-2022-2989 with its kin: a group that a file denies something to is not lost, whatever the process chooses to be.
fn cve_2023_25173_groups_are_kept(sandbox: &Sandbox) -> Result<()> {
    let script = "grep Groups /proc/self/status; cat /closed 2>&1; exec sleep 1000";
    let mut bundle = Bundle::new(sandbox, script)?;
    symlink("busybox", bundle.path("rootfs/bin/grep"))?;
    let closed = bundle.path("rootfs/closed");
    fs::write(&closed, "open\n")?;
    fs::set_permissions(&closed, PermissionsExt::from_mode(0o604))?;
    std::os::unix::fs::chown(&closed, Some(0), Some(5000))?;
    bundle.config["process"]["user"] = json!({"uid": 1000, "gid": 50, "additionalGids": [50, 5000]});
    bundle.write()?;
    bundle.detached(&["run", "-d", "one"])?;
    bundle.wait_for_output("Groups:\t50 5000")?;
    bundle.wait_for_output("can't open '/closed': Permission denied")?;
    let exec = bundle.oci(&["exec", "one", "cat", "/closed"])?;
    ensure!(exec.code == 1 && exec.stdout.is_empty(), "{}", exec.stdout);
    // The engine: the first group is one of the others as well, so that a change of it does not lose it.
    sandbox.load("busybox")?;
    let options = ["--network", "none", "--user", "1000:50", "--group-add", "77"];
    same!(sandbox.busybox(&options, "grep Groups /proc/self/status")?, "Groups:\t50 77 ");
    sandbox.detached(&[&options[..], &["--name", "box"]].concat(), "exec sleep 1000")?;
    same!(sandbox.ok(["exec", "box", "grep", "Groups", "/proc/self/status"])?, "Groups:\t50 77 ");
    same!(sandbox.ok(["exec", "-u", "7:8", "box", "grep", "Groups", "/proc/self/status"])?, "Groups:\t8 77 ");
    Ok(())
}

fn cve_2019_11245_the_user_stays(sandbox: &Sandbox) -> Result<()> {
    sandbox.load("busybox")?;
    sandbox.ok(["create", "--name", "base", "--network", "none", "busybox", "true"])?;
    sandbox.ok(["commit", "--change", "USER 1000:50", "base", "of-somebody"])?;
    let run = ["run", "-d", "--name", "box", "--network", "none", "of-somebody", "sh", "-c", "id -u; exec sleep 1000"];
    sandbox.ok(run)?;
    for expected in ["1000\n", "1000\n1000\n", "1000\n1000\n1000\n"] {
        sandbox.wait_for_log("box", expected)?;
        same!(sandbox.ok(["exec", "box", "id", "-u"])?, "1000");
        sandbox.ok(["restart", "-t", "0", "box"])?;
    }
    Ok(())
}

fn cve_2024_25621_state_is_private(sandbox: &Sandbox) -> Result<()> {
    let bundle = Bundle::new(sandbox, "exec sleep 1000")?;
    let command = bundle.command(&["create", "one"]);
    let words: Vec<_> = [command.get_program()].into_iter().chain(command.get_args()).map(ToOwned::to_owned).collect();
    let output = sandbox.path("files/output");
    fs::remove_dir(sandbox.path("files/state"))?;
    let script = format!("umask 0; exec \"$@\" >{} 2>&1", output.display());
    let mut masked = Command::new("sh");
    masked.args(["-c", &script, "sh"]).args(words).current_dir(bundle.place());
    host::succeed(&mut masked)?;
    let state = sandbox.path("files/state");
    for path in [state.clone(), state.join("one")] {
        same!(path.metadata()?.mode() & 0o7777, 0o700, "{}", path.display());
    }
    same!(state.join("one/state.json").metadata()?.mode() & 0o7777, 0o600);
    Ok(())
}

/// The auditor: what the first process finds, against what was asked for.
fn the_first_process_has_what_the_plan_says(sandbox: &Sandbox) -> Result<()> {
    let script = "cat /proc/self/status; echo limits; cat /proc/self/limits; echo descriptors; ls /proc/self/fd; echo environment; \
                  env; echo directory; pwd; echo mounts; cat /proc/self/mounts";
    let mut bundle = Bundle::new(sandbox, script)?;
    bundle.config["process"]["rlimits"] = json!([{"type": "RLIMIT_NOFILE", "soft": 100, "hard": 200}]);
    bundle.config["process"]["user"]["umask"] = json!(0o27);
    bundle.config["linux"]["seccomp"] = json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [
        {"names": ["keyctl"], "action": "SCMP_ACT_ERRNO"}]});
    bundle.write()?;
    let text = bundle.oci(&["run", "one"])?.success()?;
    for line in [
        "Umask:\t0027",
        "Pid:\t1",
        "Seccomp:\t2",
        "NoNewPrivs:\t1",
        "CapEff:\t0000000020000420",
        "SigBlk:\t0000000000000000",
        "SigIgn:\t0000000000000000",
        "\nPATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin\n",
        "\nTERM=xterm\n",
        "directory\n/\n",
        "descriptors\n0\n1\n2\n3\nenvironment",
    ] {
        contains!(text, line);
    }
    let limits = text.lines().find(|line| line.starts_with("Max open files")).context("no limit")?;
    same!(limits.split_ascii_whitespace().collect::<Vec<_>>()[3..5], ["100", "200"]);
    // Nothing of the host's mounts but what the plan has.
    let (_, mounts) = text.split_once("mounts\n").context("no mounts")?;
    for line in mounts.lines() {
        let place = line.split(' ').nth(1).unwrap_or_default();
        ensure!(
            ["/", "/proc", "/dev", "/sys"].iter().any(|known| place == *known
                || place.strip_prefix(known).is_some_and(|rest| *known != "/" && rest.starts_with('/'))),
            "{line}"
        );
    }
    Ok(())
}
