//! Images between programs: what dhow saves and pushes is read by umoci, skopeo, podman and docker as the same image, and what they
//! write is read by dhow as the same.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Result, ensure};

use crate::case::{cases, contains, same, skip};
use crate::host;
use crate::registry::Registry;
use crate::same::peer::Peer;
use crate::sandbox::Sandbox;

cases![image_peers: umoci, skopeo, podman [Root], docker [Root]];

fn needs(program: &str) -> Result<()> {
    if host::program(program).is_none() {
        return skip(format!("{program} is not installed"));
    }
    Ok(())
}

fn shell(script: &str, words: &[&Path]) -> Result<String> {
    host::succeed(Command::new("sh").args(["-euc", script, "sh"]).args(words))
}

/// Loads an archive that another program wrote; it must be the image that went there, and run.
fn comes_back(sandbox: &Sandbox, archive: &Path, id: &str, by: &str) -> Result<()> {
    sandbox.ok(["rmi", "-f", id])?;
    sandbox.ok(["load", "-i", &archive.display().to_string()])?;
    same!(sandbox.ok(["images", "-q", "--no-trunc", "-a"])?, id, "{by}");
    same!(sandbox.ok(["run", "--rm", "--network", "none", id, "echo", "runs"])?, "runs", "{by}");
    fs::remove_file(archive)?;
    Ok(())
}

/// It unpacks our layout to the tree that a container has, and what it makes of that is an image of ours with one layer more.
fn umoci(sandbox: &Sandbox) -> Result<()> {
    needs("umoci")?;
    sandbox.load("busybox")?;
    let (saved, layout, bundle) =
        (sandbox.path("files/saved.tar"), sandbox.path("files/layout"), sandbox.path("files/bundle"));
    fs::create_dir_all(&layout)?;
    sandbox.ok(["save", "--format", "oci-archive", "-o", &saved.display().to_string(), "busybox:latest"])?;
    shell("tar -xf \"$1\" -C \"$2\"", &[&saved, &layout])?;
    // It reads tags as the annotation has them.
    let tags = host::succeed(Command::new("umoci").args(["ls", "--layout"]).arg(&layout))?;
    let tag = tags.lines().next().unwrap_or_default().to_owned();
    ensure!(!tag.is_empty(), "umoci sees no tag in the layout");
    let image = format!("{}:{tag}", layout.display());
    let rootless: &[&str] = if host::is_root() { &[] } else { &["--rootless"] };
    host::succeed(Command::new("umoci").arg("unpack").args(rootless).args(["--image", &image]).arg(&bundle))?;
    let listing = "cd \"$1\" && { find . ! -path './etc/*' -type l -printf '%p %l\\n'; find . ! -path './etc/*' -type f -print0 | xargs -0 -r sha256sum; } | LC_ALL=C sort";
    let theirs = shell(listing, &[&bundle.join("rootfs")])?;
    let exported = sandbox.path("files/exported");
    fs::create_dir_all(&exported)?;
    let id = sandbox.ok(["create", "busybox"])?;
    let archive = sandbox.path("files/exported.tar");
    sandbox.ok(["export", "-o", &archive.display().to_string(), &id])?;
    shell("tar -xf \"$1\" -C \"$2\" --no-same-owner --exclude dev", &[&archive, &exported])?;
    let ours = shell(listing, &[&exported])?;
    ensure!(ours == theirs, "umoci unpacks another tree:\n{theirs}\nthan a container has:\n{ours}");
    fs::write(bundle.join("rootfs/made-by-umoci"), "yes\n")?;
    fs::remove_file(bundle.join("rootfs/bin/ls"))?;
    let more = format!("{}:more", layout.display());
    host::succeed(Command::new("umoci").args(["repack", "--image", &more]).arg(&bundle))?;
    host::succeed(Command::new("umoci").args(["config", "--config.env", "BY=umoci", "--image", &more]))?;
    host::succeed(Command::new("umoci").args(["rm", "--image", &image]))?;
    host::succeed(Command::new("umoci").args(["gc", "--layout"]).arg(&layout))?;
    let theirs = sandbox.path("files/theirs.tar");
    shell("tar -cf \"$1\" -C \"$2\" .", &[&theirs, &layout])?;
    let loaded = sandbox.ok(["load", "-i", &theirs.display().to_string()])?;
    let name = loaded.rsplit(": ").next().unwrap_or_default().trim().to_owned();
    let script = "cat /made-by-umoci; echo $BY; test ! -e /bin/ls && echo gone";
    same!(sandbox.ok(["run", "--rm", "--network", "none", &name, "sh", "-c", script])?, "yes\numoci\ngone");
    contains!(sandbox.ok(["system", "check"])?, ": 0 problems");
    Ok(())
}

/// Through its hands as both kinds of archive, and compressed by it on the way.
fn skopeo(sandbox: &Sandbox) -> Result<()> {
    needs("skopeo")?;
    sandbox.load("multi")?;
    let id = sandbox.ok(["images", "-q", "--no-trunc"])?;
    let name = sandbox.ok(["images", "--format", "{{.Repository}}:{{.Tag}}"])?;
    let (ours, theirs) = (sandbox.path("files/ours.tar"), sandbox.path("files/theirs.tar"));
    fs::create_dir_all(sandbox.path("files"))?;
    for (from, to) in [
        ("docker-archive", "oci-archive"),
        ("oci-archive", "docker-archive"),
        ("docker-archive", "docker-archive"),
        ("oci-archive", "oci-archive"),
    ] {
        sandbox.ok(["save", "--format", from, "-o", &ours.display().to_string(), &name])?;
        let source = format!("{from}:{}", ours.display());
        let target = format!("{to}:{}:{name}", theirs.display());
        host::succeed(Command::new("skopeo").args(["--insecure-policy", "copy", "--quiet", &source, &target]))?;
        sandbox.ok(["rmi", "-f", &id])?;
        sandbox.ok(["load", "-i", &theirs.display().to_string()])?;
        let back = sandbox.ok(["images", "-q", "--no-trunc"])?;
        // Docker's format of a configuration is not that of OCI, so a change of formats is another image to skopeo, of the same layers.
        if from == to {
            same!(back, id, "{from} to {to}");
        }
        contains!(sandbox.ok(["system", "check"])?, ": 0 problems");
        sandbox.ok(["rmi", "-f", &back])?;
        fs::remove_file(&theirs)?;
        sandbox.load("multi")?;
    }
    Ok(())
}

/// Archives of both kinds in both directions, and by a registry in both directions.
fn podman(sandbox: &Sandbox) -> Result<()> {
    needs("podman")?;
    sandbox.load("busybox")?;
    let id = sandbox.ok(["images", "-q", "--no-trunc"])?;
    let (root, run) = (sandbox.path("files/podman"), sandbox.path("files/podman-run"));
    let podman = |words: &[&str]| {
        let mut command = Command::new("podman");
        command.arg("--root").arg(&root).arg("--runroot").arg(&run).args(["--storage-driver", "vfs"]).args(words);
        host::succeed(&mut command)
    };
    fs::create_dir_all(sandbox.path("files"))?;
    let ours = sandbox.path("files/ours.tar");
    sandbox.ok(["save", "-o", &ours.display().to_string(), "busybox:latest"])?;
    podman(&["load", "-q", "-i", &ours.display().to_string()])?;
    same!(podman(&["images", "-q", "--no-trunc"])?.trim(), id, "loaded by podman");
    for format in ["docker-archive", "oci-archive"] {
        let theirs = sandbox.path("files/theirs.tar");
        podman(&["save", "-q", "--format", format, "-o", &theirs.display().to_string(), "busybox:latest"])?;
        sandbox.ok(["rmi", "-f", &id])?;
        sandbox.ok(["load", "-i", &theirs.display().to_string()])?;
        // Only what podman calls by its own format is bit for bit the same: it writes configurations anew for the other.
        let names = sandbox.ok(["images", "--format", "{{.Repository}}:{{.Tag}}"])?;
        let name = names.lines().next().unwrap_or_default().to_owned();
        same!(sandbox.ok(["run", "--rm", "--network", "none", &name, "echo", "runs"])?, "runs", "{format}");
        sandbox.ok(["rmi", "-f", &name])?;
        fs::remove_file(&theirs)?;
        sandbox.load("busybox")?;
    }
    let registry = Registry::empty(sandbox, "pushed", None)?;
    let (first, second) = (format!("{}/first:1", registry.address), format!("{}/second:1", registry.address));
    sandbox.ok(["tag", "busybox", &first])?;
    sandbox.ok(["push", "-q", &first])?;
    podman(&["rmi", "-a", "-f"])?;
    podman(&["pull", "-q", "--tls-verify=false", &first])?;
    same!(podman(&["images", "-q", "--no-trunc"])?.trim(), id, "pulled by podman");
    podman(&["push", "-q", "--tls-verify=false", &first, &second])?;
    sandbox.ok(["rmi", "-f", &id])?;
    sandbox.ok(["pull", "-q", &second])?;
    same!(sandbox.ok(["images", "-q", "--no-trunc"])?, id, "pushed by podman");
    podman(&["rmi", "-a", "-f"])?;
    Ok(())
}

/// Debian's docker, with a daemon of its own: what it reads and writes are archives of its own format.
fn docker(sandbox: &Sandbox) -> Result<()> {
    let peer = Peer::start(&sandbox.path("files/docker"))?;
    sandbox.load("busybox")?;
    let id = sandbox.ok(["images", "-q", "--no-trunc"])?;
    let (ours, theirs) = (sandbox.path("files/ours.tar"), sandbox.path("files/theirs.tar"));
    sandbox.ok(["save", "-o", &ours.display().to_string(), "busybox:latest"])?;
    // What the stage hands back has no ids any more.
    let ids = sandbox.path("files/ids");
    let script = format!(
        "docker load -q -i {} && docker images -q --no-trunc >{} && docker save -o {} busybox:latest",
        ours.display(),
        ids.display(),
        theirs.display()
    );
    let output = peer.stage.run("images", &script)?;
    ensure!(output.code == 0, "docker: {:?} {:?}", output.stdout, output.stderr);
    same!(fs::read_to_string(&ids)?.trim(), id, "loaded by docker");
    comes_back(sandbox, &theirs, &id, "docker")
}
