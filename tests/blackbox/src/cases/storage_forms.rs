//! The two forms of a layer where the kernel or the file system does not have everything: images by loop device, images sealed by
//! fs-verity, and which form is chosen.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::case::{cases, contains, same, skip};
use crate::host;
use crate::sandbox::Sandbox;

cases![storage_forms:
    images_by_loop_device [Root], one_image_for_many_layers [Root, Long], images_where_they_can_be [Root], an_image_is_sealed [Root], words_for_a_form [Root],
];

/// A command with that word for the form of new layers.
fn with_form(sandbox: &Sandbox, form: &str, words: &[&str]) -> Result<crate::sandbox::Output> {
    let mut command = sandbox.command(words);
    command.env("DHOW_STORAGE_BACKEND", form);
    sandbox.finish_command(command, "")
}

/// Loads an image in a form.
fn load(sandbox: &Sandbox, name: &str, form: &str) -> Result<()> {
    let archive = sandbox.archive(name, "oci")?;
    let output = with_form(sandbox, form, &["load", "-i", &archive])?;
    if output.stderr.contains("EROFS images cannot be mounted here") {
        return skip("neither files nor loop devices are mounted as EROFS here");
    }
    output.success().map(drop)
}

/// The layers of the store: directory, and whether it is an image.
fn layers(sandbox: &Sandbox) -> Result<Vec<(std::path::PathBuf, bool)>> {
    let mut found = vec![];
    for entry in fs::read_dir(sandbox.path("data/layers"))? {
        let path = entry?.path();
        found.push((path.clone(), path.join("image.erofs").exists()));
    }
    Ok(found)
}

/// Loop devices with an image of the store behind them.
fn devices(sandbox: &Sandbox) -> Result<usize> {
    let names: Vec<String> = layers(sandbox)?
        .iter()
        .filter_map(|(path, _)| Some(format!("{}/image.erofs", path.file_name()?.to_str()?)))
        .collect();
    let mut found = 0;
    for entry in fs::read_dir("/sys/block")?.flatten() {
        let behind = fs::read_to_string(entry.path().join("loop/backing_file")).unwrap_or_default();
        found += usize::from(names.iter().any(|name| behind.trim_end().ends_with(name)));
    }
    Ok(found)
}

/// Something mounted over the data root as long as the test runs, in its own mount namespace.
struct Mounted(std::path::PathBuf);

impl Mounted {
    fn new(sandbox: &Sandbox, words: &[&str]) -> Result<Self> {
        let place = sandbox.path("data");
        fs::create_dir_all(&place)?;
        host::succeed(Command::new("mount").args(words).arg(&place))?;
        Ok(Self(place))
    }

    fn end(&self) -> Result<()> {
        host::succeed(Command::new("umount").arg(&self.0)).map(drop)
    }
}

/// tmpfs is a file system whose files the kernel mounts only by a loop device.
fn images_by_loop_device(sandbox: &Sandbox) -> Result<()> {
    if !Path::new("/dev/loop-control").exists() {
        return skip("no loop devices here");
    }
    let mounted = Mounted::new(sandbox, &["-t", "tmpfs", "-o", "mode=700", "dhow-test"])?;
    load(sandbox, "busybox", "erofs")?;
    same!(devices(sandbox)?, 0);
    let script = "rm /etc/group; echo x >/etc/passwd; test ! -e /etc/group && cat /etc/passwd";
    same!(sandbox.busybox(&["--network", "none"], script)?, "x");
    let first = sandbox.detached(&["--network", "none"], "echo mine >/etc/own; exec sleep 1000")?;
    let second = sandbox.detached(&["--network", "none", "--read-only"], "exec sleep 1000")?;
    // One device, and so one page cache, for both.
    same!(devices(sandbox)?, 1);
    sandbox.ok(["exec", &second, "test", "!", "-e", "/etc/own"])?;
    let wanted = sandbox.ok(["exec", &second, "sha256sum", "/bin/busybox"])?;
    sandbox.ok(["kill", &first])?;
    sandbox.wait_for_state(&first, "exited")?;
    sandbox.ok(["cp", &format!("{first}:/etc/own"), &sandbox.path("files/own").display().to_string()])?;
    same!(fs::read_to_string(sandbox.path("files/own"))?, "mine\n");
    sandbox.ok(["start", &first])?;
    same!(sandbox.ok(["exec", &first, "sha256sum", "/bin/busybox"])?, wanted);
    contains!(sandbox.ok(["system", "check"])?, ": 0 problems");
    sandbox.ok(["rm", "-f", &first, &second])?;
    host::until("no loop device", sandbox.seconds(20), || Ok((devices(sandbox)? == 0).then_some(())))?;
    // Many layers, each with a device of its own.
    load(sandbox, "layers20", "erofs")?;
    let many = sandbox.ok(["create", "--network", "none", "layers20", "true"])?;
    let listed = sandbox.path("files/listed").display().to_string();
    sandbox.ok(["export", "-o", &listed, &many])?;
    ensure!(host::succeed(Command::new("tar").args(["-tf", &listed]))?.lines().count() > 10_000, "files are missing");
    sandbox.ok(["rm", &many])?;
    // Mounted in another container, of which the cgroup may open no device.
    let mount = "type=image,source=layers20,target=/image";
    same!(sandbox.busybox(&["--network", "none", "--mount", mount], "cat /image/data/newest")?, "20");
    sandbox.ok(["rmi", "-f", "busybox", "layers20"])?;
    same!(layers(sandbox)?.len(), 0);
    mounted.end()
}

/// The names of the merged images.
fn merged(sandbox: &Sandbox) -> Result<Vec<String>> {
    let Ok(entries) = fs::read_dir(sandbox.path("data/merged")) else { return Ok(vec![]) };
    entries.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned())).collect()
}

/// The layers of an image are one image for whoever starts a container, with what a container of directories shows.
fn one_image_for_many_layers(sandbox: &Sandbox) -> Result<()> {
    let list = |image: &str| {
        let id = sandbox.ok(["create", "--network", "none", image, "true"])?;
        let archive = sandbox.path(&format!("files/{image}.tar")).display().to_string();
        sandbox.ok(["export", "-o", &archive, &id])?;
        sandbox.ok(["rm", &id])?;
        host::succeed(Command::new("tar").args(["-tvf", &archive, "--numeric-owner", "--full-time"]))
    };
    fs::create_dir_all(sandbox.path("files"))?;
    load(sandbox, "layers20", "directories")?;
    let wanted = list("layers20")?;
    sandbox.ok(["rmi", "layers20"])?;
    load(sandbox, "layers20", "erofs")?;
    let names = merged(sandbox)?;
    let [name] = &names[..] else { return skip("images are not mounted from files here") };
    same!(list("layers20")?, wanted);
    if !Path::new("/bin/busybox").exists() {
        return skip("no /bin/busybox to look into the image with");
    }
    let volume = "/bin/busybox:/busybox:ro";
    let run = |script: &str| {
        let words = ["run", "--rm", "--network", "none", "-v", volume, "layers20", "/busybox", "sh", "-c", script];
        sandbox.ok(words)
    };
    // One lower directory.
    let lower = run("/busybox mount -t proc none /proc 2>/dev/null; /busybox grep ' / ' /proc/mounts")?;
    same!(lower.matches("lowerdir").count(), 1, "{lower}");
    let mount = "type=image,source=layers20,target=/image";
    let words = ["run", "--rm", "--network", "none", "-v", volume, "--mount", mount, "layers20", "/busybox"];
    same!(sandbox.ok([&words[..], &["cat", "/image/data/newest"]].concat())?, "20");
    // An image of the same layers keeps it, and what is missing is made again.
    sandbox.ok(["tag", "layers20", "another"])?;
    sandbox.ok(["rmi", "layers20"])?;
    sandbox.ok(["tag", "another", "layers20"])?;
    same!(merged(sandbox)?, names);
    fs::remove_dir_all(sandbox.path("data/merged"))?;
    same!(run("echo runs")?, "runs");
    same!(merged(sandbox)?, names);
    contains!(sandbox.ok(["system", "check"])?, ": 0 problems");
    // All that is on disk is told.
    let data = ["blobs", "layers", "merged"].map(|name| sandbox.path("data").join(name));
    let taken = host::succeed(Command::new("du").args(["-s", "-c", "-B1"]).args(&data))?;
    let taken: u64 = taken.lines().last().and_then(|line| line.split_whitespace().next()).context("du")?.parse()?;
    let told = sandbox.ok(["system", "df", "--format", "{{.Type}} {{.Size}}"])?;
    let shown = told.lines().find_map(|line| line.strip_prefix("Images ")).context("no images")?;
    let shown: f64 = shown.trim_end_matches("MB").parse().with_context(|| shown.to_owned())?;
    ensure!((shown - taken as f64 / 1e6).abs() < 0.1, "{shown} MB are shown, {taken} bytes there");
    // Damage is found; what is damaged goes, and the image stays.
    let file = sandbox.path("data/merged").join(name).join("merged.erofs");
    let mut bytes = fs::read(&file)?;
    let last = bytes.len() - 600;
    bytes[last] ^= 1;
    fs::write(&file, &bytes)?;
    contains!(sandbox.dhow(["system", "check"])?.stdout, &format!("the merged image {name} is damaged"));
    sandbox.ok(["system", "check", "--repair"])?;
    same!(merged(sandbox)?.len(), 0);
    same!(run("echo runs")?, "runs");
    same!(merged(sandbox)?, names);
    sandbox.ok(["rmi", "-f", "another", "layers20"])?;
    same!((merged(sandbox)?.len(), layers(sandbox)?.len()), (0, 0));
    Ok(())
}

/// `prefer-erofs` without loop devices, on a file system that needs them: directories. `erofs` is refused there.
fn images_where_they_can_be(sandbox: &Sandbox) -> Result<()> {
    load(sandbox, "busybox", "prefer-erofs")?;
    ensure!(layers(sandbox)?.iter().all(|(_, image)| *image), "no images where they can be: {:?}", layers(sandbox)?);
    sandbox.ok(["rmi", "busybox"])?;
    let mounted = Mounted::new(sandbox, &["-t", "tmpfs", "-o", "mode=700", "dhow-test"])?;
    let file = sandbox.file("no-loop-control", "")?;
    host::succeed(Command::new("mount").args(["--bind", &file, "/dev/loop-control"]))?;
    let archive = sandbox.archive("busybox", "oci")?;
    with_form(sandbox, "erofs", &["load", "-i", &archive])?.fails(1, &["erofs images cannot be mounted here"])?;
    load(sandbox, "busybox", "prefer-erofs")?;
    ensure!(layers(sandbox)?.iter().all(|(_, image)| !*image), "an image that nobody can mount");
    same!(sandbox.busybox(&["--network", "none"], "echo runs")?, "runs");
    sandbox.ok(["rmi", "busybox"])?;
    host::succeed(Command::new("umount").arg("/dev/loop-control"))?;
    mounted.end()
}

/// On a file system with fs-verity an image cannot be written, and another in its place is not used.
fn an_image_is_sealed(sandbox: &Sandbox) -> Result<()> {
    let disk = sandbox.path("files/disk");
    fs::create_dir_all(sandbox.path("files"))?;
    fs::File::create(&disk)?.set_len(256 << 20)?;
    host::succeed(Command::new("mkfs.ext4").args(["-q", "-b", "4096", "-O", "verity"]).arg(&disk))?;
    let Ok(mounted) = Mounted::new(sandbox, &["-o", "loop", &disk.display().to_string()]) else {
        return skip("this kernel does not mount ext4 with the feature verity");
    };
    load(sandbox, "busybox", "erofs")?;
    let (layer, _) = layers(sandbox)?.pop().context("no layer")?;
    let record: Value = serde_json::from_str(&fs::read_to_string(layer.join("layer.json"))?)?;
    let Some(digest) = record["verity"].as_str() else {
        sandbox.ok(["rmi", "busybox"])?;
        mounted.end()?;
        return skip("this kernel has no fs-verity (CONFIG_FS_VERITY)");
    };
    ensure!(digest.starts_with("sha256:") && digest.len() == 71, "the digest is {digest}");
    let image = layer.join("image.erofs");
    let refused = fs::File::options().write(true).open(&image).err().and_then(|error| error.raw_os_error());
    same!(refused, Some(1), "EPERM for whoever writes");
    same!(sandbox.busybox(&["--network", "none"], "echo runs")?, "runs");
    contains!(sandbox.ok(["system", "check"])?, ": 0 problems");
    a_merged_image_is_sealed(sandbox)?;
    // A copy is sealed again when it is used.
    let bytes = fs::read(&image)?;
    fs::remove_file(&image)?;
    fs::write(&image, &bytes)?;
    same!(sandbox.busybox(&["--network", "none"], "echo runs")?, "runs");
    ensure!(fs::File::options().write(true).open(&image).is_err(), "the copy is not sealed");
    // Another is not used, by its first byte that nobody looks at.
    let mut other = bytes.clone();
    other[0] ^= 1;
    fs::remove_file(&image)?;
    fs::write(&image, &other)?;
    let said = sandbox.dhow(["run", "--rm", "--network", "none", "busybox", "true"])?;
    said.fails(125, &["fs-verity", digest])?;
    let output = sandbox.dhow(["system", "check"])?;
    same!(output.code, 1, "{}", output.stdout);
    sandbox.ok(["system", "check", "--repair"])?;
    load(sandbox, "busybox", "erofs")?;
    same!(sandbox.busybox(&["--network", "none"], "echo runs")?, "runs");
    sandbox.ok(["rmi", "busybox"])?;
    mounted.end()
}

/// So is what is merged of two layers.
fn a_merged_image_is_sealed(sandbox: &Sandbox) -> Result<()> {
    sandbox.ok(["run", "--name", "made", "--network", "none", "busybox", "cp", "/bin/busybox", "/other"])?;
    with_form(sandbox, "erofs", &["commit", "made", "second"])?.success()?;
    sandbox.ok(["rm", "made"])?;
    let run = ["run", "--rm", "--network", "none", "second", "echo", "runs"];
    same!(sandbox.ok(run)?, "runs");
    let names = merged(sandbox)?;
    let [name] = &names[..] else { return Ok(()) };
    let file = sandbox.path("data/merged").join(name).join("merged.erofs");
    ensure!(fs::File::options().write(true).open(&file).is_err(), "the merged image is not sealed");
    let mut other = fs::read(&file)?;
    other[0] ^= 1;
    fs::remove_file(&file)?;
    fs::write(&file, &other)?;
    sandbox.dhow(run)?.fails(125, &["fs-verity"])?;
    contains!(sandbox.dhow(["system", "check"])?.stdout, &format!("the merged image {name} is damaged"));
    sandbox.ok(["system", "check", "--repair"])?;
    same!(sandbox.ok(run)?, "runs");
    sandbox.ok(["rmi", "second"])?;
    same!(merged(sandbox)?.len(), 0);
    Ok(())
}

fn words_for_a_form(sandbox: &Sandbox) -> Result<()> {
    let archive = sandbox.archive("busybox", "oci")?;
    with_form(sandbox, "zfs", &["load", "-i", &archive])?.fails(1, &["zfs", "prefer-erofs"])?;
    load(sandbox, "busybox", "directories")?;
    ensure!(layers(sandbox)?.iter().all(|(_, image)| !*image), "an image in place of a directory");
    // What is there stays what it is.
    load(sandbox, "busybox", "prefer-erofs")?;
    ensure!(layers(sandbox)?.iter().all(|(_, image)| !*image), "a layer was stored again");
    Ok(())
}
