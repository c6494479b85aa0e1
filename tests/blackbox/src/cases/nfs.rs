//! Volumes of a file server: a real one, the kernel's own, in this test's network namespace.
//!
//! Its exports are written to the kernel as rpc.mountd(8) would on being asked (`/proc/net/rpc`), so no package is needed. A new
//! server waits a minute and a half for clients of an older one before it lets files be opened: directories and links do here.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::case::{cases, same, skip};
use crate::host;
use crate::sandbox::Sandbox;

cases![nfs: a_volume_of_a_server [Root]];

/// NFS 4 alone, at port 2049 of loopback.
struct Server {
    /// Its file system of settings.
    settings: PathBuf,
    export: PathBuf,
}

impl Server {
    /// None where the kernel has no server, or no client.
    fn start(sandbox: &Sandbox) -> Result<Option<Server>> {
        for module in ["nfsd", "nfsv4"] {
            // Whether it is there shows below.
            drop(Command::new("modprobe").args(["-q", module]).status());
        }
        let known = fs::read_to_string("/proc/filesystems")?;
        if !["nfsd", "nfs4"].iter().all(|name| known.lines().any(|line| line.split('\t').nth(1) == Some(name))) {
            return Ok(None);
        }
        let server = Server { settings: sandbox.path("files/nfsd"), export: sandbox.path("files/export") };
        for (kind, place) in [("nfsd", &server.settings), ("tmpfs", &server.export)] {
            fs::create_dir_all(place)?;
            ensure!(Command::new("mount").args(["-t", kind, "none"]).arg(place).status()?.success(), "no {kind}");
        }
        std::os::unix::fs::symlink("from-the-server", server.export.join("hello"))?;
        for (name, text) in [("versions", "-2 -3 +4 +4.1 +4.2\n"), ("portlist", "tcp 2049\n"), ("threads", "2\n")] {
            fs::write(server.settings.join(name), text).with_context(|| format!("set {name}"))?;
        }
        // Until 2096; who the client is, what it may see (insecure, async, no_subtree_check, fsid: linux/nfsd/export.h), and
        // the path of file system 0, which is where it begins.
        let (until, path) = ("4000000000", server.export.display());
        for (cache, line) in [
            ("auth.unix.ip", format!("nfsd 127.0.0.1 {until} client\n")),
            ("nfsd.export", format!("client {path} {until} {} 65534 65534 0\n", 0x2 | 0x10 | 0x400 | 0x2000)),
            ("nfsd.fh", format!("client 1 \\x00000000 {until} {path}\n")),
        ] {
            fs::write(format!("/proc/net/rpc/{cache}/channel"), line).with_context(|| format!("fill {cache}"))?;
        }
        Ok(Some(server))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(fs::write(self.settings.join("threads"), "0\n"));
        for cache in ["auth.unix.ip", "nfsd.export", "nfsd.fh"] {
            // Lets go of the exported file system.
            drop(fs::write(format!("/proc/net/rpc/{cache}/flush"), "4000000000\n"));
        }
        for place in [&self.export, &self.settings] {
            drop(Command::new("umount").arg("--lazy").arg(place).status());
        }
    }
}

/// Connections to the server (proc_pid_net(5): the second address, and state 1).
fn connected() -> Result<bool> {
    let table = fs::read_to_string("/proc/net/tcp")?;
    Ok(table.lines().any(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        fields.get(2).is_some_and(|there| there.ends_with(":0801")) && fields.get(3) == Some(&"01")
    }))
}

fn monitor_of(sandbox: &Sandbox, id: &str) -> Result<rustix::process::Pid> {
    let state = fs::read(sandbox.path("run/containers").join(Path::new(id)).join("state.json"))?;
    let state: Value = serde_json::from_slice(&state)?;
    let pid = state["monitor_pid"].as_i64().and_then(|pid| rustix::process::Pid::from_raw(pid as i32));
    pid.context("no monitor")
}

fn a_volume_of_a_server(sandbox: &Sandbox) -> Result<()> {
    let Some(server) = Server::start(sandbox)? else { return skip("the kernel has no NFS") };
    sandbox.load("busybox")?;
    let create = |name: &str, kind: &str, options: &str| {
        let (kind, options) = (format!("type={kind}"), format!("o=addr=127.0.0.1,{options}"));
        sandbox.ok(["volume", "create", "-o", &kind, "-o", "device=:/", "-o", &options, name])
    };
    create("shared", "nfs4", "rw")?;
    create("sealed", "nfs", "ro,nfsvers=4.2")?;
    let options = ["--network", "none", "-v", "shared:/v", "-v", "sealed:/s"];
    let script = "grep -c ' /v nfs4 .*vers=4' /proc/mounts; readlink /v/hello; ln -s back /v/written; mkdir /v/made; \
                  chown 5:6 /v/made; readlink /s/written; mkdir /s/no 2>/dev/null || echo sealed; echo end; \
                  i=0; while mkdir /v/$((i=i+1)); do sleep 0.1; done";
    let id = sandbox.detached(&options, script)?;
    same!(sandbox.wait_for_log(&id, "end")?.trim(), "1\nfrom-the-server\nback\nsealed\nend");
    same!(fs::read_link(server.export.join("written"))?, Path::new("back"));
    let made = fs::metadata(server.export.join("made"))?;
    same!((made.uid(), made.gid()), (5, 6));
    ensure!(!fs::read_to_string("/proc/mounts")?.contains(" nfs4 "), "it is mounted on the host");
    // Ended in whatever way, nothing is mounted any more.
    ensure!(connected()?);
    rustix::process::kill_process(monitor_of(sandbox, &id)?, rustix::process::Signal::KILL)?;
    host::until("swept", sandbox.seconds(20), || Ok(sandbox.ok(["ps", "-q"])?.is_empty().then_some(())))?;
    host::until("unmounted", sandbox.seconds(20), || Ok((!connected()?).then_some(())))?;
    drop(server);
    Ok(())
}
