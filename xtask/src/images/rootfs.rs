//! The trees that layers are packed from.

use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::command::{command, output, run};

/// No file of an image is newer: 2025-01-01.
pub const EPOCH: &str = "1735689600";

const INSTALL: &str = include_str!("files/install.sh");
/// What the recipes name by path, put into each tree that has packages.
const ENTRYPOINTS: &[(&str, &str)] =
    &[("postgres", include_str!("files/postgres.sh")), ("redis", include_str!("files/redis.sh"))];

/// What this module contributes to every recipe: a change here makes the layers anew.
pub fn recipe() -> String {
    format!("{INSTALL}{ENTRYPOINTS:?}")
}

/// Debian's static busybox, a hard link for each applet, and the files that make it a small system.
pub fn busybox(tree: &Path) -> Result<()> {
    for directory in ["bin", "dev", "etc", "home", "proc", "root", "sys", "tmp", "usr/bin", "usr/sbin", "var/www"] {
        fs::create_dir_all(tree.join(directory))?;
    }
    fs::set_permissions(tree.join("tmp"), fs::Permissions::from_mode(0o1777))?;
    fs::set_permissions(tree.join("root"), fs::Permissions::from_mode(0o700))?;
    let program = tree.join("bin/busybox");
    fs::copy("/bin/busybox", &program).context("copy /bin/busybox (package busybox-static)")?;
    for applet in output(&mut command("/bin/busybox", ["--list"]))?.lines().filter(|name| *name != "busybox") {
        fs::hard_link(&program, tree.join("bin").join(applet))?;
    }
    let accounts = [("root", 0, "/root", "/bin/sh"), ("daemon", 1, "/usr/sbin", "/bin/false")]
        .into_iter()
        .chain([("www-data", 33, "/var/www", "/bin/false"), ("nobody", 65534, "/home", "/bin/false")]);
    let (mut passwd, mut group) = (String::new(), String::new());
    for (name, id, home, shell) in accounts {
        passwd.push_str(&format!("{name}:x:{id}:{id}:{name}:{home}:{shell}\n"));
        group.push_str(&format!("{}:x:{id}:\n", if name == "nobody" { "nogroup" } else { name }));
    }
    group.push_str("audio:x:29:www-data\nusers:x:100:\n");
    fs::write(tree.join("etc/passwd"), passwd)?;
    fs::write(tree.join("etc/group"), group)?;
    Ok(())
}

/// A minimal Debian, with apt, as the image that most others start from.
pub fn debian(tree: &Path) -> Result<()> {
    let mut bootstrap = command(
        "mmdebstrap",
        ["--quiet", "--mode=root", "--variant=minbase", "--format=directory", "--dpkgopt=force-unsafe-io", "bookworm"],
    );
    bootstrap.arg(tree).args(mirror());
    run(bootstrap.env("SOURCE_DATE_EPOCH", EPOCH))?;
    // The machine's name and resolver are its own.
    for file in ["etc/hostname", "etc/resolv.conf"] {
        fs::write(tree.join(file), "")?;
    }
    fs::remove_dir_all(tree.join("dev"))?;
    fs::create_dir(tree.join("dev"))?;
    Ok(())
}

/// The archive that this machine installs bookworm from, as its apt knows it; none leaves the choice to mmdebstrap.
pub fn mirror() -> Option<String> {
    let format = "$(ORIGIN)|$(CODENAME)|$(SITE)";
    let listed = output(&mut command("apt-get", ["indextargets", "--format", format, "Created-By: Packages"])).ok()?;
    listed.lines().find_map(|line| line.strip_prefix("Debian|bookworm|")).map(str::to_owned)
}

/// What installing packages on the base adds to it.
pub fn packages(staging: &Path, base: &Path, packages: &[&str], script: &str) -> Result<PathBuf> {
    let [lower, upper, work, merged, files] =
        ["lower", "upper", "work", "merged", "files"].map(|name| staging.join(name));
    for directory in [&lower, &upper, &work, &merged, &files] {
        fs::create_dir(directory)?;
    }
    for (name, text) in ENTRYPOINTS {
        fs::write(files.join(name), text)?;
    }
    run(command("tar", ["--extract", "--numeric-owner", "--file"]).arg(base).arg("--directory").arg(&lower))?;
    run(command("unshare", ["--mount", "--pid", "--fork", "bash", "-euo", "pipefail", "-c", INSTALL, "install"])
        .arg(staging)
        .arg(script)
        .args(packages)
        .env("SOURCE_DATE_EPOCH", EPOCH))?;
    whiteouts(&upper)?;
    Ok(upper)
}

/// Turns overlayfs's marks of deletion into those of an image layer.
fn whiteouts(directory: &Path) -> Result<()> {
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        let (path, kind) = (entry.path(), entry.file_type()?);
        if kind.is_char_device() && fs::symlink_metadata(&path)?.rdev() == 0 {
            fs::remove_file(&path)?;
            let name = entry.file_name();
            fs::write(directory.join(format!(".wh.{}", name.to_str().context("a name that is not UTF-8")?)), "")?;
        } else if kind.is_dir() {
            if opaque(&path) {
                fs::write(path.join(".wh..wh..opq"), "")?;
            }
            whiteouts(&path)?;
        }
    }
    Ok(())
}

fn opaque(directory: &Path) -> bool {
    output(command("getfattr", ["--only-values", "--absolute-names", "--name=trusted.overlay.opaque"]).arg(directory))
        .is_ok_and(|value| value == "y")
}

/// A thousand small files in ten directories, and whiteouts and replacements for some of the layer below.
pub fn small_files(tree: &Path, number: u32) -> Result<()> {
    for directory in 0..10 {
        let path = tree.join(format!("data/{number:02}/{directory}"));
        fs::create_dir_all(&path)?;
        for file in 0..99 {
            fs::write(path.join(format!("file-{file:03}")), format!("layer {number}, file {file}\n").repeat(20))?;
        }
    }
    // What every layer replaces, and what each removes from the one below.
    fs::write(tree.join("data/newest"), format!("{number}\n"))?;
    if number > 1 {
        let below = tree.join(format!("data/{:02}/0", number - 1));
        fs::create_dir_all(&below)?;
        for file in 0..9 {
            fs::write(below.join(format!(".wh.file-{file:03}")), "")?;
        }
    }
    Ok(())
}
