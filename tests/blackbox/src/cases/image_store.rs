//! The store of images over time: history, prune, check, and what is left when something is killed or the disk is full.

use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::case::{cases, contains, same, skip};
use crate::host;
use crate::registry::Registry;
use crate::sandbox::Sandbox;

cases![image_store:
    history, image_filters, inspect_by_platform, prune_what_is_dangling, prune_all_but_used, prune_filters, prune_asks,
    check_of_a_sound_store, check_finds_and_repairs, killed_at_any_moment [Root], a_full_disk_leaves_nothing [Root],
    prune_beside_loads, diff_of_images,
];

fn history(sandbox: &Sandbox) -> Result<()> {
    sandbox.load("busybox")?;
    let text = sandbox.ok(["history", "busybox"])?;
    for word in ["IMAGE", "CREATED", "CREATED BY", "SIZE", "COMMENT"] {
        contains!(text, word);
    }
    let ids = sandbox.ok(["history", "-q", "--no-trunc", "busybox"])?;
    same!(ids.lines().next().map(str::to_owned), Some(sandbox.ok(["images", "-q", "--no-trunc", "busybox"])?));
    let sizes = sandbox.ok(["history", "-H=false", "--format", "{{.Size}}", "busybox"])?;
    let all: u64 = sizes.lines().filter_map(|line| line.parse::<u64>().ok()).sum();
    same!(sandbox.ok(["image", "inspect", "-f", "{{.Size}}", "busybox"])?, all.to_string());
    sandbox.dhow(["history", "nosuch"])?.fails(1, &["no such image", "nosuch"])
}

/// How many there are; `images -q` names one once for each of its names, as Docker does.
fn different_images(sandbox: &Sandbox) -> Result<usize> {
    let ids = sandbox.ok(["images", "-q"])?;
    Ok(ids.lines().collect::<std::collections::BTreeSet<_>>().len())
}

fn image_filters(sandbox: &Sandbox) -> Result<()> {
    sandbox.load("busybox")?;
    let count = |filter: &str| Ok::<_, anyhow::Error>(sandbox.ok(["images", "-q", "-f", filter])?.lines().count());
    for (filter, wanted) in [
        ("until=2000-01-01", 0),
        ("until=1s", 1),
        ("dangling=true", 0),
        ("dangling=false", 1),
        ("reference=busy*", 1),
        ("before=busybox", 0),
    ] {
        same!(count(filter)?, wanted, "{filter}");
    }
    sandbox.dhow(["images", "-f", "nosuch=1"])?.fails(1, &["invalid filter"])
}

fn inspect_by_platform(sandbox: &Sandbox) -> Result<()> {
    sandbox.load("busybox")?;
    sandbox.ok(["image", "inspect", "--platform", "linux/amd64", "busybox"])?;
    sandbox.dhow(["image", "inspect", "--platform", "linux/arm64", "busybox"])?.fails(1, &["no such image", "arm64"])
}

/// Two images under one name leave the first without one.
fn dangle(sandbox: &Sandbox) -> Result<String> {
    sandbox.load("multi")?;
    sandbox.load("busybox")?;
    let id = sandbox.ok(["images", "-q", "--no-trunc", "multi"])?;
    sandbox.ok(["tag", "busybox", "multi"])?;
    Ok(id)
}

fn prune_what_is_dangling(sandbox: &Sandbox) -> Result<()> {
    let id = dangle(sandbox)?;
    let text = sandbox.ok(["image", "prune", "-f"])?;
    contains!(text, "Deleted Images:");
    contains!(text, format!("deleted: {id}"));
    contains!(text, "Total reclaimed space: ");
    contains!(sandbox.ok(["image", "prune", "-f"])?, "Total reclaimed space: 0B");
    same!(different_images(sandbox)?, 1);
    same!(fs::read_dir(sandbox.path("data/layers"))?.count(), 1);
    contains!(sandbox.ok(["system", "check"])?, "1 images, 1 layers, 2 documents: 0 problems");
    Ok(())
}

fn prune_all_but_used(sandbox: &Sandbox) -> Result<()> {
    sandbox.load("busybox")?;
    sandbox.load("multi")?;
    let id = sandbox.ok(["create", "--network", "none", "busybox", "true"])?;
    contains!(sandbox.ok(["image", "prune", "-a", "-f"])?, "untagged: multi:latest");
    same!(sandbox.ok(["images", "--format", "{{.Repository}}"])?, "busybox");
    sandbox.ok(["start", "-a", &id])?;
    sandbox.ok(["rm", &id])?;
    sandbox.ok(["image", "prune", "-a", "-f"])?;
    same!(sandbox.ok(["images", "-q"])?, "");
    for directory in ["data/layers", "data/blobs/sha256"] {
        same!(fs::read_dir(sandbox.path(directory))?.count(), 0, "{directory}");
    }
    Ok(())
}

fn prune_filters(sandbox: &Sandbox) -> Result<()> {
    dangle(sandbox)?;
    for filter in ["until=2000-01-01", "label=nosuch", "dangling=maybe", "nosuch=1"] {
        let output = sandbox.dhow(["image", "prune", "-f", "--filter", filter])?;
        ensure!(!output.stdout.contains("deleted"), "{filter}: {}", output.stdout);
    }
    contains!(sandbox.ok(["image", "prune", "-f", "--filter", "label!=nosuch"])?, "deleted: sha256:");
    sandbox.ok(["image", "prune", "-f", "--filter", "dangling=false", "--filter", "until=1s"])?;
    same!(sandbox.ok(["images", "-q"])?, "");
    Ok(())
}

fn prune_asks(sandbox: &Sandbox) -> Result<()> {
    dangle(sandbox)?;
    let output = sandbox.dhow_with_input("n\n", ["image", "prune"])?;
    contains!(output.stdout, "WARNING! This will remove all dangling images.");
    same!(different_images(sandbox)?, 2);
    contains!(sandbox.dhow_with_input("y\n", ["image", "prune"])?.success()?, "Total reclaimed space: ");
    Ok(())
}

fn check_of_a_sound_store(sandbox: &Sandbox) -> Result<()> {
    contains!(sandbox.ok(["system", "check"])?, "0 images, 0 layers, 0 documents: 0 problems");
    sandbox.load("multi")?;
    sandbox.load("busybox")?;
    let id = sandbox.detached(&["--network", "none"], "sleep 60")?;
    contains!(sandbox.ok(["system", "check"])?, "2 images, 2 layers, 4 documents: 0 problems");
    sandbox.ok(["rm", "-f", &id])?;
    Ok(())
}

fn only(directory: &std::path::Path) -> Result<std::path::PathBuf> {
    Ok(fs::read_dir(directory)?.next().with_context(|| format!("{} is empty", directory.display()))??.path())
}

fn check_finds_and_repairs(sandbox: &Sandbox) -> Result<()> {
    let layers = sandbox.path("data/layers");
    for damage in
        ["content", "missing file", "extra file", "recipe", "record", "blob", "no layer", "stray layer", "stray"]
    {
        sandbox.load("busybox")?;
        let layer = only(&layers)?;
        let (file, image) = (layer.join("tree/bin/busybox"), layer.join("image.erofs"));
        let change = |path: &std::path::Path| -> Result<()> {
            let mut bytes = fs::read(path)?;
            let middle = bytes.len() / 2;
            bytes[middle] ^= 1;
            Ok(fs::write(path, bytes)?)
        };
        match damage {
            // The other form of a layer: its content, its end, its beginning.
            "content" if image.exists() => change(&image)?,
            "missing file" if image.exists() => fs::write(&image, &fs::read(&image)?[..100_000])?,
            "extra file" if image.exists() => fs::write(&image, vec![0; 100_000])?,
            "content" => change(&file)?,
            "missing file" => fs::remove_file(&file)?,
            "extra file" => fs::write(layer.join("tree/extra"), "x")?,
            "recipe" => change(&layer.join("recipe"))?,
            "record" => fs::write(layer.join("layer.json"), "{")?,
            "blob" => change(&only(&sandbox.path("data/blobs/sha256"))?)?,
            "no layer" => fs::remove_dir_all(&layer)?,
            "stray layer" => {
                host::succeed(Command::new("cp").arg("-a").arg(&layer).arg(layers.join("0".repeat(64))))?;
            }
            _ => fs::create_dir_all(sandbox.path("data/staging/layer-left/tree"))?,
        }
        if damage != "stray" {
            let output = sandbox.dhow(["system", "check"])?;
            same!(output.code, 1, "{damage}: {}", output.stdout);
            contains!(output.stderr, "--repair");
        }
        let output = sandbox.dhow(["system", "check", "--repair"])?;
        same!(output.code, 0, "{damage}: {}", output.stdout);
        contains!(sandbox.ok(["system", "check"])?, ": 0 problems");
        // Whatever it was, the same command puts everything right.
        sandbox.load("busybox")?;
        same!(sandbox.busybox(&["--network", "none"], "echo runs")?, "runs", "{damage}");
        contains!(sandbox.ok(["system", "check"])?, "1 images, 1 layers, 2 documents: 0 problems");
        sandbox.ok(["rmi", "busybox"])?;
    }
    // What a container needs is named and stays.
    sandbox.load("busybox")?;
    let id = sandbox.ok(["create", "--network", "none", "busybox", "echo", "here"])?;
    fs::write(only(&layers)?.join("recipe"), "x")?;
    same!(sandbox.dhow(["system", "check", "--repair"])?.code, 1);
    same!(sandbox.ok(["start", "-a", &id])?, "here");
    Ok(())
}

/// Each verb is killed at twelve moments spread over its life; afterwards the store is sound and the verb works.
fn killed_at_any_moment(sandbox: &Sandbox) -> Result<()> {
    let origin = Registry::start(sandbox, &["multi"], None)?;
    let target = Registry::empty(sandbox, "target", None)?;
    let archive = sandbox.archive("multi", "oci")?;
    let remote = format!("{}/library/multi", origin.address);
    let pushed = format!("{}/multi", target.address);
    let saved = sandbox.path("files/saved.tar").to_string_lossy().into_owned();
    let verbs: [(&str, Vec<&str>, Vec<&str>); 5] = [
        ("load", vec!["load", "-q", "-i", &archive], vec!["rmi", "multi"]),
        ("pull", vec!["pull", "-q", &remote], vec!["rmi", &remote]),
        ("save", vec!["save", "-o", &saved, "multi"], vec![]),
        ("push", vec!["push", "-q", &pushed], vec![]),
        ("rmi", vec!["rmi", "-f", "multi", &pushed], vec!["load", "-q", "-i", &archive]),
    ];
    let moments = if sandbox.is_slow() { 3 } else { 12 };
    for (name, verb, back) in &verbs {
        if *name == "save" {
            sandbox.ok(["load", "-q", "-i", &archive])?;
            sandbox.ok(["tag", "multi", &pushed])?;
        }
        let start = std::time::Instant::now();
        sandbox.ok(verb)?;
        let whole = start.elapsed();
        for moment in 0..moments {
            if !back.is_empty() {
                // From where it has something to do; it may have come that far or not.
                drop(sandbox.dhow(back)?);
            }
            let mut child = sandbox.spawn(verb)?;
            std::thread::sleep(whole * moment / moments + Duration::from_micros(500));
            child.kill()?;
            let status = child.wait()?;
            ensure!(status.signal() == Some(9) || status.code().is_some(), "{name}: {status}");
            let output = sandbox.dhow(["system", "check"])?;
            same!(output.code, 0, "{name} killed at moment {moment}: {}", output.stdout);
            if !back.is_empty() {
                drop(sandbox.dhow(back)?);
            }
            if *name != "rmi" {
                sandbox.ok(verb)?;
            }
        }
    }
    sandbox.ok(["image", "prune", "-a", "-f"])?;
    same!(fs::read_dir(sandbox.path("data/layers"))?.count(), 0);
    same!(fs::read_dir(sandbox.path("data/staging"))?.count(), 0);
    Ok(())
}

fn a_full_disk_leaves_nothing(sandbox: &Sandbox) -> Result<()> {
    if std::env::var_os("DHOW_STORAGE_BACKEND").is_some_and(|word| word == "erofs") {
        return skip("the kernel mounts no EROFS images from the tmpfs that plays the disk");
    }
    let registry = Registry::start(sandbox, &["busybox"], None)?;
    let remote = format!("{}/library/busybox", registry.address);
    let archive = sandbox.archive("busybox", "oci")?;
    let data = sandbox.path("data");
    fs::create_dir_all(&data)?;
    for verb in [["load", "-q", "-i", &archive], ["pull", "-q", "--", &remote]] {
        let mut failed = 0;
        for size in (200..3400).step_by(200) {
            host::succeed(
                Command::new("mount").args(["-t", "tmpfs", "-o", &format!("size={size}k"), "dhow-test"]).arg(&data),
            )?;
            let output = sandbox.dhow(verb)?;
            if output.code != 0 {
                failed += 1;
                let said = output.stderr.to_lowercase();
                ensure!(
                    said.contains("full") || said.contains("enospc") || said.contains("no space"),
                    "{}",
                    output.stderr
                );
                ensure!(!said.contains("panicked"), "{}", output.stderr);
                let left = fs::read_dir(data.join("layers")).map_or(0, Iterator::count);
                same!(left, 0, "{size} KiB: a layer is there after {}", output.stderr);
                // With more room the same command succeeds.
                host::succeed(Command::new("mount").args(["-o", "remount,size=20m"]).arg(&data))?;
                contains!(sandbox.ok(["system", "check"])?, ": 0 problems");
                sandbox.ok(verb)?;
            }
            contains!(sandbox.ok(["system", "check"])?, "1 images, 1 layers, 2 documents: 0 problems");
            host::succeed(Command::new("umount").arg(&data))?;
        }
        ensure!(failed >= 3, "only {failed} attempts met a full disk");
    }
    Ok(())
}

/// Prunes beside loads take nothing that a load relies on.
fn prune_beside_loads(sandbox: &Sandbox) -> Result<()> {
    let archive = sandbox.archive("busybox", "oci")?;
    let rounds = if sandbox.is_slow() { 5 } else { 25 };
    for _ in 0..rounds {
        let loads = [0, 1].map(|_| sandbox.spawn(["load", "-q", "-i", &archive]));
        let prunes = [0, 1].map(|_| sandbox.spawn(["image", "prune", "-a", "-f"]));
        for child in loads.into_iter().chain(prunes) {
            let output = child?.wait_with_output()?;
            ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        }
        contains!(sandbox.ok(["system", "check"])?, ": 0 problems");
        sandbox.ok(["load", "-q", "-i", &archive])?;
        same!(sandbox.busybox(&["--network", "none"], "echo runs")?, "runs");
    }
    Ok(())
}

fn diff_of_images(sandbox: &Sandbox) -> Result<()> {
    sandbox.load("busybox")?;
    sandbox.load("multi")?;
    same!(sandbox.ok(["image", "diff", "busybox", "busybox"])?, "");
    // The second image is the first and one file.
    contains!(sandbox.ok(["image", "diff", "multi", "busybox"])?, "A /README");
    contains!(sandbox.ok(["image", "diff", "busybox", "multi"])?, "D /README");
    let top = sandbox.ok(["image", "diff", "multi"])?;
    contains!(top, "A /README");
    let all: serde_json::Value = serde_json::from_str(&sandbox.ok(["image", "diff", "--format", "json", "multi"])?)?;
    ensure!(all["added"].as_array().is_some_and(|added| added.iter().any(|path| path == "/README")), "{all}");
    sandbox.dhow(["image", "diff", "busybox", "nosuch"])?.fails(1, &["no such image", "nosuch"])
}
