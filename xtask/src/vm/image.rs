//! Makes what the machine boots: QEMU and virtiofsd, a kernel, a disk. Once, about a minute and a half.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use crate::command::{command, run, text};
use crate::images::mirror;
use crate::paths::{self, Staging};

/// What the machine has, beside what is always there.
const PACKAGES: &[&str] = &[
    // A system as containers' engines meet it.
    "systemd-sysv",
    "udev",
    "dbus-user-session",
    "libpam-systemd",
    "kmod",
    "mount",
    "procps",
    // Confinement.
    "apparmor",
    "selinux-policy-default",
    "policycoreutils",
    "selinux-utils",
    // What dhow calls or its tests look with.
    "uidmap",
    "passt",
    "iproute2",
    "iputils-ping",
    "nftables",
    "busybox-static",
    "e2fsprogs",
    "strace",
];

/// QEMU 10 and not bookworm's 7.2, which crashes a guest with two processors now and then (its emulation of cmpxchg16b). The
/// kernel is only unpacked: it boots without an initial RAM disk, as NVMe, ext4 and virtiofs are built in.
const TOOLS: &str = "qemu-system-x86,virtiofsd,linux-image-cloud-amd64";

const FILES: &[(&str, &str)] = &[
    ("dhow-vm.service", include_str!("guest/dhow-vm.service")),
    ("fstab", include_str!("guest/fstab")),
    ("init", include_str!("guest/init")),
    ("job", include_str!("guest/job")),
    ("prepare.sh", include_str!("guest/prepare.sh")),
];

/// The directory with `tools`, `vmlinux` and `disk.img`, made if it is not there or was made by another recipe.
pub fn directory() -> Result<PathBuf> {
    let cache = paths::cache()?;
    let directory = cache.join("vm");
    let recipe = format!("{PACKAGES:?} {TOOLS} {FILES:?}");
    if fs::read_to_string(directory.join("recipe")).is_ok_and(|made| made == recipe) {
        return Ok(directory);
    }
    if !paths::is_root() {
        bail!("the virtual machine is not made yet, and making it needs root: `cargo xtask vm -- true` as root");
    }
    eprintln!("vm: making the machine's disk, once");
    let staging = Staging::new(&cache, "vm")?;
    make(staging.path()).context("make the virtual machine")?;
    if directory.exists() {
        fs::remove_dir_all(&directory)?;
    }
    fs::create_dir(&directory)?;
    for name in ["tools", "vmlinux", "disk.img"] {
        fs::rename(staging.path().join(name), directory.join(name))?;
    }
    fs::write(directory.join("recipe"), recipe)?;
    Ok(directory)
}

fn make(work: &Path) -> Result<()> {
    let (root, tools, files) = (work.join("root"), work.join("tools"), work.join("files"));
    fs::create_dir(&files)?;
    for (name, contents) in FILES {
        fs::write(files.join(name), contents)?;
    }
    let mut fetch = bootstrap("extract", TOOLS, &tools);
    let mut fetching = fetch.stdin(Stdio::null()).spawn().context("start mmdebstrap")?;
    run(&mut bootstrap("minbase", &PACKAGES.join(","), &root))?;
    let status = fetching.wait()?;
    if !status.success() {
        bail!("{}: {status}", text(&fetch));
    }
    fs::rename(tools.join("usr/lib/modules"), root.join("usr/lib/modules"))?;
    kernel(&tools.join("boot"), &work.join("vmlinux"))?;
    fs::remove_dir_all(tools.join("boot"))?;
    run(command("bash", ["-euo", "pipefail"]).arg(files.join("prepare.sh")).arg(&root).arg(&files))?;
    fs::File::create(work.join("disk.img"))?.set_len(8 << 30)?;
    run(command("mke2fs", ["-q", "-t", "ext4", "-O", "^has_journal", "-d"])
        .arg(&root)
        .arg(work.join("disk.img"))
        .arg("8G"))
}

fn bootstrap(variant: &str, packages: &str, directory: &Path) -> Command {
    let mut bootstrap = command("mmdebstrap", ["--quiet", "--mode=root", "--format=directory"]);
    bootstrap
        .args(["--aptopt=APT::Install-Recommends \"false\"", "--dpkgopt=force-unsafe-io"])
        .args(["man", "doc", "locale"].map(|name| format!("--dpkgopt=path-exclude=/usr/share/{name}/*")))
        .arg(format!("--variant={variant}"))
        .arg(format!("--include={packages}"))
        .arg("trixie")
        .arg(directory)
        .args(mirror());
    bootstrap
}

/// Takes the kernel proper out of its self-extracting image, where it is one zstd frame: QEMU boots it directly, and the
/// emulated processor need not inflate it.
fn kernel(boot: &Path, to: &Path) -> Result<()> {
    let image = fs::read_dir(boot)?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .find(|path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("vmlinuz-")))
        .context("the kernel package has no vmlinuz")?;
    let bytes = fs::read(image)?;
    const MAGIC: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];
    let start =
        bytes.windows(4).position(|window| window == MAGIC).context("the kernel is not compressed with zstd")?;
    let mut zstd = Command::new("zstd")
        .args(["--decompress", "--stdout", "--quiet"])
        .stdin(Stdio::piped())
        .stdout(fs::File::create(to)?)
        .stderr(Stdio::null())
        .spawn()
        .context("start zstd")?;
    // What follows the frame is no zstd: the program says so at its end, or closes its input before ours ends.
    drop(zstd.stdin.take().context("zstd has no input")?.write_all(&bytes[start..]));
    zstd.wait()?;
    if !fs::read(to)?.starts_with(b"\x7fELF") {
        bail!("no kernel found in the package's image");
    }
    Ok(())
}
