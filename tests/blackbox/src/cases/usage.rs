//! What is taken on disk, and giving it back: `system df`, `system prune`.

use anyhow::{Context, Result, ensure};
use std::process::Command;

use crate::case::{cases, contains, same};
use crate::host;
use crate::sandbox::Sandbox;

cases![usage: as_du_says [Root], forms, verbose, prune, prune_asks, prune_filters, image_mounts_keep_their_image];

/// Bytes of a size as it is shown.
fn bytes(text: &str) -> Result<f64> {
    let digits = text.find(|c: char| c.is_ascii_alphabetic()).context("no unit")?;
    let unit = match &text[digits..] {
        "B" => 1.0,
        "kB" => 1e3,
        "MB" => 1e6,
        "GB" => 1e9,
        other => anyhow::bail!("unit {other:?}"),
    };
    Ok(text[..digits].parse::<f64>()? * unit)
}

fn du(sandbox: &Sandbox, names: &[&str]) -> Result<f64> {
    let mut total = 0.0;
    for name in names {
        let text = host::succeed(Command::new("du").args(["-s", "--block-size=1"]).arg(sandbox.path(name)))?;
        total += text.split_whitespace().next().context("du says nothing")?.parse::<f64>()?;
    }
    Ok(total)
}

fn size(sandbox: &Sandbox, kind: &str) -> Result<f64> {
    let text = sandbox.ok(["system", "df", "--format", "{{.Type}}={{.Size}}"])?;
    bytes(text.lines().find_map(|line| line.strip_prefix(kind)?.strip_prefix('=')).context("no such type")?)
}

fn near(found: f64, wanted: f64) -> Result<()> {
    ensure!((found - wanted).abs() <= wanted * 0.001, "{found} is not {wanted}");
    Ok(())
}

/// moby#21925 and its kind: what is shown is what is taken.
fn as_du_says(sandbox: &Sandbox) -> Result<()> {
    sandbox.load("busybox")?;
    let script = "head -c 3000000 /dev/urandom >/x; ln /x /y; truncate -s 1G /sparse; head -c 700000 /dev/urandom >/v/z; seq 10000";
    let id = sandbox.ok(["create", "--network", "none", "-v", "data:/v", "busybox", "sh", "-c", script])?;
    sandbox.dhow(["start", "-a", &id])?;
    let container = format!("data/containers/{id}");
    near(size(sandbox, "Containers")?, du(sandbox, &[&container])?)?;
    near(size(sandbox, "Local Volumes")?, du(sandbox, &["data/volumes/data/_data"])?)?;
    near(size(sandbox, "Images")?, du(sandbox, &["data/layers", "data/blobs"])?)
}

fn forms(sandbox: &Sandbox) -> Result<()> {
    let empty = sandbox.ok(["system", "df"])?;
    let words = |line: &str| line.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
    same!(words(empty.lines().next().unwrap_or_default()), ["TYPE", "TOTAL", "ACTIVE", "SIZE", "RECLAIMABLE"]);
    same!(words(empty.lines().nth(2).unwrap_or_default()), ["Containers", "0", "0", "0B", "0B"]);
    sandbox.load("busybox")?;
    let id = sandbox.detached(&["--network", "none", "-v", "/d"], "sleep 1000")?;
    sandbox.ok(["create", "--network", "none", "busybox", "true"])?;
    same!(
        sandbox.ok(["system", "df", "--format", "{{.Type}} {{.TotalCount}} {{.Active}}"])?,
        "Images 1 1\nContainers 2 1\nLocal Volumes 1 1\nBuild Cache 0 0"
    );
    let json = sandbox.ok(["system", "df", "--format", "json"])?;
    let first: serde_json::Value = serde_json::from_str(json.lines().next().unwrap_or_default())?;
    same!((&first["Type"], &first["TotalCount"]), (&"Images".into(), &"1".into()));
    sandbox.ok(["rm", "-f", "-v", &id])?;
    Ok(())
}

fn verbose(sandbox: &Sandbox) -> Result<()> {
    sandbox.load("busybox")?;
    sandbox.ok(["create", "--name", "box", "--network", "none", "-v", "data:/d", "busybox", "true"])?;
    let text = sandbox.ok(["system", "df", "-v"])?;
    for title in
        ["Images space usage:", "Containers space usage:", "Local Volumes space usage:", "Build cache usage: 0B"]
    {
        contains!(text, title);
    }
    ensure!(text.lines().any(|line| line.starts_with("data ") && line.contains(" 1 ")), "{text}");
    ensure!(text.lines().any(|line| line.ends_with(" box")), "{text}");
    let json: serde_json::Value = serde_json::from_str(&sandbox.ok(["system", "df", "-v", "--format", "json"])?)?;
    same!(json["Volumes"][0]["Name"], "data");
    sandbox.dhow(["system", "df", "-v", "--format", "{{.X}}"])?.fails(1, &["--verbose"])
}

fn prune(sandbox: &Sandbox) -> Result<()> {
    sandbox.load("busybox")?;
    let running = sandbox.detached(&["--network", "none", "-v", "/used"], "sleep 1000")?;
    let stopped = sandbox.ok(["create", "--network", "none", "-v", "/unused", "-v", "named:/n", "busybox", "true"])?;
    sandbox.ok(["commit", &stopped])?;
    let text = sandbox.ok(["system", "prune", "-f"])?;
    contains!(text, format!("Deleted Containers:\n{stopped}\n"));
    contains!(text, "Deleted Images:\n");
    contains!(text, "Total reclaimed space: ");
    same!(sandbox.ok(["volume", "ls", "-q"])?.lines().count(), 3, "without --volumes they stay");
    contains!(sandbox.ok(["system", "prune", "-f", "--volumes"])?, "Deleted Volumes:\n");
    same!(sandbox.ok(["volume", "ls", "-q"])?.lines().count(), 2);
    same!(sandbox.ok(["images", "-q"])?.lines().count(), 1, "it is in use");
    sandbox.ok(["rm", "-f", "-v", &running])?;
    contains!(sandbox.ok(["system", "prune", "-af"])?, "untagged: busybox:latest");
    same!(sandbox.ok(["images", "-q"])?, "");
    same!(sandbox.ok(["system", "prune", "-af"])?, "Total reclaimed space: 0B");
    // Networks of nobody go as well.
    if sandbox.dhow(["network", "create", "lonely"])?.code == 0 {
        contains!(sandbox.ok(["system", "prune", "-f"])?, "Deleted Networks:\nlonely\n");
    }
    // Nothing is left but the named volume: moby#43586.
    same!(std::fs::read_dir(sandbox.path("data/layers"))?.count(), 0);
    Ok(())
}

fn prune_asks(sandbox: &Sandbox) -> Result<()> {
    sandbox.load("busybox")?;
    sandbox.ok(["create", "--network", "none", "busybox", "true"])?;
    let output = sandbox.dhow_with_input("n\n", ["system", "prune", "-a", "--volumes"])?;
    same!(output.code, 0);
    for line in [
        "WARNING! This will remove:",
        "  - all stopped containers",
        "  - all anonymous volumes not used by at least one container",
        "  - all images without at least one container associated to them",
        "Are you sure you want to continue? [y/N]",
    ] {
        contains!(output.stdout, line);
    }
    same!(sandbox.ok(["ps", "-aq"])?.lines().count(), 1);
    Ok(())
}

fn prune_filters(sandbox: &Sandbox) -> Result<()> {
    sandbox.load("busybox")?;
    sandbox.ok(["create", "--name", "kept", "--network", "none", "-l", "keep", "busybox", "true"])?;
    sandbox.ok(["create", "--name", "gone", "--network", "none", "busybox", "true"])?;
    sandbox.ok(["system", "prune", "-f", "--filter", "until=1h"])?;
    same!(sandbox.ok(["ps", "-aq"])?.lines().count(), 2, "they are younger");
    sandbox.ok(["system", "prune", "-f", "--filter", "label!=keep"])?;
    same!(sandbox.ok(["ps", "-a", "--format", "{{.Names}}"])?, "kept");
    sandbox.dhow(["system", "prune", "-f", "--volumes", "--filter", "until=1h"])?.fails(1, &["until", "--volumes"])?;
    sandbox.dhow(["system", "prune", "-f", "--filter", "bogus=1"])?.fails(1, &["invalid filter 'bogus'"])
}

/// An image that is mounted in a container is in use, and read-only there.
fn image_mounts_keep_their_image(sandbox: &Sandbox) -> Result<()> {
    sandbox.load("busybox")?;
    sandbox.ok([
        "run",
        "--name",
        "box",
        "--network",
        "none",
        "busybox",
        "sh",
        "-c",
        "mkdir -p /deep/er; echo inside >/deep/er/x; ln -s /etc /deep/out",
    ])?;
    sandbox.ok(["commit", "box", "content"])?;
    sandbox.ok(["rm", "box"])?;
    let mount = "type=image,src=content,dst=/i";
    let script = "cat /i/deep/er/x; touch /i/y 2>&1 | grep -o 'Read-only.*'";
    same!(sandbox.busybox(&["--network", "none", "--mount", mount], script)?, "inside\nRead-only file system");
    let sub = "type=image,src=content,dst=/i,image-subpath=deep/er";
    same!(sandbox.busybox(&["--network", "none", "--mount", sub], "cat /i/x; ls /i")?, "inside\nx");
    // A link of the image leads nowhere but into the image.
    let link = "type=image,src=content,dst=/i,image-subpath=deep/out";
    same!(sandbox.busybox(&["--network", "none", "--mount", link], "ls -d /i/passwd")?, "/i/passwd");
    let id = sandbox.ok(["create", "--network", "none", "--mount", mount, "busybox", "true"])?;
    same!(sandbox.inspect(&id)?["Mounts"][0]["Type"], "image");
    sandbox
        .dhow(["rmi", "content"])?
        .fails(1, &["in use", "used"])
        .or_else(|_| sandbox.dhow(["rmi", "content"])?.fails(1, &["being used"]))?;
    let list = sandbox.path("files/list.tar");
    ensure!(
        sandbox
            .command(["cp", &format!("{id}:/i/deep"), "-"])
            .stdout(std::fs::File::create(&list)?)
            .status()?
            .success(),
        "cp"
    );
    contains!(host::succeed(Command::new("tar").arg("-tf").arg(&list))?, "deep/er/x");
    sandbox.ok(["rm", &id])?;
    sandbox.ok(["rmi", "content"])?;
    sandbox
        .dhow(["run", "--rm", "--network", "none", "--mount", mount, "busybox", "true"])?
        .fails(125, &["No such image: content"])
}
