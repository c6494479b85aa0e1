//! `cargo xtask setup`: the Debian packages that tests and benchmarks need, each with its reason.

use std::collections::HashSet;

use anyhow::{Context, Result, bail};

use crate::command::{command, output, run as run_command, succeeds};
use crate::paths;

/// Which chores the packages are for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Set {
    /// `cargo xtask test`.
    Test,
    /// `cargo xtask bench`: the peers.
    Bench,
}

/// Package, what it is for, why.
const PACKAGES: &[(&str, Set, &str)] = &[
    ("apache2-utils", Set::Test, "htpasswd: a registry that asks for a password"),
    ("attr", Set::Test, "setfattr, getfattr: layers with extended attributes"),
    ("busybox-static", Set::Test, "the busybox image"),
    ("containernetworking-plugins", Set::Test, "CNI plugins"),
    ("crun", Set::Test, "another runtime, for --runtime; as a peer in benchmarks"),
    ("curl", Set::Test, "a client of the Docker API"),
    ("dbus-daemon", Set::Test, "a bus for firewalld"),
    ("docker-compose", Set::Test, "a client of the Docker API: Compose v1, on docker-py"),
    ("docker-registry", Set::Test, "the registry that images are pulled from"),
    ("docker.io", Set::Test, "the docker command line, a client of the Docker API; as a peer in benchmarks"),
    ("e2fsprogs", Set::Test, "mke2fs: the virtual machine's disk"),
    ("iproute2", Set::Test, "ip, ss: network namespaces for tests, and a second opinion on what dhow made"),
    ("iputils-ping", Set::Test, "ping: a container's address answers"),
    ("libarchive-tools", Set::Test, "bsdtar: archives made by a program that is not GNU tar"),
    ("libcap2-bin", Set::Test, "capsh, setcap: capabilities of files and processes"),
    ("mmdebstrap", Set::Test, "Debian root file systems for images and the virtual machine"),
    ("nftables", Set::Test, "nft: a second opinion on the firewall rules"),
    ("passt", Set::Test, "pasta: the network of an ordinary user's containers"),
    ("python3-dbus", Set::Test, "firewalld"),
    ("python3-docker", Set::Test, "a client of the Docker API"),
    ("python3-gi", Set::Test, "firewalld"),
    ("python3-venv", Set::Test, "newer clients of the Docker API, from PyPI"),
    ("skopeo", Set::Test, "pushes images to the registry, and makes archives as others make them"),
    ("procps", Set::Test, "ps, which the API's `top` asks"),
    ("strace", Set::Test, "system calls that fail on purpose"),
    ("uidmap", Set::Test, "newuidmap: an ordinary user's subordinate ids"),
    ("umoci", Set::Test, "layers made by another program"),
    ("xz-utils", Set::Test, "kernel modules of the virtual machine"),
    ("zstd", Set::Test, "zstd layers, the virtual machine's kernel"),
    ("conmon", Set::Bench, "podman's monitor"),
    ("containerd", Set::Bench, "docker's lower half"),
    ("gcc", Set::Bench, "compiles the floor program"),
    ("iperf3", Set::Bench, "throughput of networks"),
    ("libc6-dev", Set::Bench, "compiles the floor program"),
    ("netavark", Set::Bench, "podman's network"),
    ("podman", Set::Bench, "peer"),
    ("runc", Set::Bench, "peer"),
    ("valgrind", Set::Bench, "callgrind: a count of instructions that does not depend on the machine"),
];

/// The ordinary user that tests run as.
pub const USER: &str = "dhow-tester";

/// Installs what is missing; does nothing when nothing is. Makes the ordinary user that tests run as.
pub fn run(sets: &[Set]) -> Result<()> {
    let wanted: Vec<_> = PACKAGES.iter().filter(|(_, set, _)| sets.contains(set)).collect();
    let missing = missing(wanted.iter().map(|(name, ..)| *name))?;
    if missing.is_empty() {
        println!("setup: all {} packages are installed", wanted.len());
    } else {
        for (name, _, reason) in wanted.iter().filter(|(name, ..)| missing.contains(name)) {
            println!("setup: {name} is missing ({reason})");
        }
        install(&missing)?;
    }
    if paths::is_root() { make_user() } else { Ok(()) }
}

fn missing<'a>(names: impl Iterator<Item = &'a str>) -> Result<Vec<&'a str>> {
    if !succeeds(&mut command("dpkg-query", ["--version"])) {
        bail!("this is not a Debian system (no dpkg-query): install by hand what xtask/src/setup.rs lists");
    }
    let listed =
        output(&mut command("dpkg-query", ["--show", "--showformat=${db:Status-Status} ${binary:Package}\n"]))?;
    let installed: HashSet<&str> = listed
        .lines()
        .filter_map(|line| line.strip_prefix("installed "))
        .map(|name| name.split(':').next().unwrap_or(name))
        .collect();
    Ok(names.filter(|name| !installed.contains(name)).collect())
}

fn install(names: &[&str]) -> Result<()> {
    if !paths::is_root() {
        bail!("not root: run `apt-get install --no-install-recommends {}` as root", names.join(" "));
    }
    run_command(command("apt-get", ["update", "--quiet=2"]).env("DEBIAN_FRONTEND", "noninteractive"))?;
    // Services that packages would start (dockerd, docker-registry) are not wanted: a policy says so while they are installed.
    let policy = std::path::Path::new("/usr/sbin/policy-rc.d");
    let own_policy = !policy.exists();
    if own_policy {
        std::fs::write(policy, "#!/bin/sh\nexit 101\n")?;
        run_command(&mut command("chmod", ["755", "/usr/sbin/policy-rc.d"]))?;
    }
    let installed = run_command(
        command("apt-get", ["install", "--yes", "--quiet=2", "--no-install-recommends", "--option=Dpkg::Use-Pty=0"])
            .args(names)
            .env("DEBIAN_FRONTEND", "noninteractive"),
    );
    if own_policy {
        std::fs::remove_file(policy)?;
    }
    installed
}

/// An ordinary user with subordinate ids, which `useradd` hands out by itself.
fn make_user() -> Result<()> {
    if succeeds(&mut command("id", [USER])) {
        return Ok(());
    }
    println!("setup: making the user {USER}, as whom the tests of an ordinary user run");
    run_command(&mut command("useradd", ["--create-home", "--shell", "/bin/sh", USER]))?;
    let ids = std::fs::read_to_string("/etc/subuid").context("read /etc/subuid")?;
    if !ids.contains(USER) {
        bail!("useradd gave {USER} no subordinate ids: see SUB_UID_COUNT in /etc/login.defs");
    }
    Ok(())
}
