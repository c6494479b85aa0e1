//! Secrets and configs: files of containers that are in no image and no record of them; devices by CDI.

use crate::case::{cases, contains, same, skip};
use crate::host;
use crate::sandbox::Sandbox;
use anyhow::{Result, ensure};
use serde_json::Value;

cases![secrets: files_and_variables, kept_apart, in_use, verbs, devices_by_cdi, a_described_device];

fn files_and_variables(sandbox: &Sandbox) -> Result<()> {
    sandbox.load("busybox")?;
    sandbox.dhow_with_input("s3cret\n", ["secret", "create", "password", "-"])?.success()?;
    let file = sandbox.file("site.conf", "listen 80;\n")?;
    sandbox.ok(["config", "create", "site", &file])?;
    let base = ["--network", "none"];
    let run = |options: &[&str], script: &str| sandbox.busybox(&[&base[..], options].concat(), script);
    same!(
        run(&["--secret", "password"], "cat /run/secrets/password; stat -c '%a %u %g' /run/secrets/password")?,
        "s3cret\n444 0 0"
    );
    same!(
        run(
            &["--secret", "password,target=/etc/app/key,uid=7,gid=8,mode=0400", "--user", "7:8"],
            "cat /etc/app/key; stat -c '%a %u %g' /etc/app/key"
        )?,
        "s3cret\n400 7 8"
    );
    same!(run(&["--config", "site,target=/etc/nginx/site.conf"], "cat /etc/nginx/site.conf")?, "listen 80;");
    same!(run(&["--config", "site"], "cat /site")?, "listen 80;");
    same!(run(&["--secret", "password,type=env,target=PW"], "echo $PW")?, "s3cret");
    // Nobody writes to it, and a root file system that cannot be written is no obstacle.
    same!(
        run(&["--read-only", "--secret", "password"], "echo x > /run/secrets/password || cat /run/secrets/password")?,
        "s3cret"
    );
    sandbox.dhow(["run", "--rm", "--secret", "bogus", "busybox", "true"])?.fails(125, &["no such secret: bogus"])?;
    sandbox
        .dhow(["run", "--rm", "--secret", "password,mode=9", "busybox", "true"])?
        .fails(125, &["invalid mode \"9\" of secret \"password\""])
}

fn kept_apart(sandbox: &Sandbox) -> Result<()> {
    sandbox.load("busybox")?;
    sandbox.dhow_with_input("hidden-word", ["secret", "create", "key", "-"])?.success()?;
    sandbox.detached(
        &["--network", "none", "--name", "box", "--secret", "key", "--secret", "key,type=env,target=KEY"],
        "trap 'exit 0' TERM; while :; do sleep 0.1; done",
    )?;
    same!(sandbox.ok(["exec", "box", "sh", "-c", "cat /run/secrets/key; echo /$KEY"])?, "hidden-word/hidden-word");
    for place in [
        vec!["inspect", "box"],
        vec!["secret", "inspect", "key"],
        vec!["run", "--dry-run", "--network", "none", "--secret", "key", "busybox"],
    ] {
        let text = sandbox.ok(&place)?;
        ensure!(!text.contains("hidden-word"), "{place:?} shows it");
    }
    contains!(sandbox.ok(["secret", "inspect", "--showsecret", "key"])?, "hidden-word");
    // It comes back with the container, and is in no image of it.
    sandbox.ok(["stop", "box"])?;
    sandbox.ok(["start", "box"])?;
    same!(sandbox.ok(["exec", "box", "cat", "/run/secrets/key"])?, "hidden-word");
    same!(sandbox.ok(["diff", "box"])?, "");
    sandbox.ok(["commit", "box", "made"])?;
    let archive = sandbox.path("made.tar");
    sandbox.ok(["save", "-o", archive.to_str().unwrap_or_default(), "made"])?;
    let bytes = std::fs::read(&archive)?;
    ensure!(!bytes.windows(11).any(|window| window == b"hidden-word"), "the image has it");
    sandbox.ok(["rm", "-f", "box"])?;
    Ok(())
}

fn in_use(sandbox: &Sandbox) -> Result<()> {
    sandbox.load("busybox")?;
    sandbox.dhow_with_input("1", ["secret", "create", "key", "-"])?.success()?;
    sandbox.ok(["create", "--name", "box", "--network", "none", "--secret", "key", "busybox"])?;
    sandbox.dhow(["secret", "rm", "key"])?.fails(1, &["secret 'key' is in use by the following container: "])?;
    sandbox.dhow_with_input("2", ["secret", "create", "--replace", "key", "-"])?.fails(1, &["is in use"])?;
    sandbox.ok(["rm", "box"])?;
    sandbox.dhow_with_input("2", ["secret", "create", "--replace", "key", "-"])?.success()?;
    same!(sandbox.ok(["secret", "inspect", "--showsecret", "-f", "{{.Spec.SecretData}}", "key"])?, "2");
    same!(sandbox.ok(["secret", "rm", "key"])?, "key");
    sandbox.dhow(["secret", "rm", "key"])?.fails(1, &["no such secret: key"])
}

fn verbs(sandbox: &Sandbox) -> Result<()> {
    let file = sandbox.file("a", "text")?;
    let id = sandbox.ok(["config", "create", "-l", "tier=web", "one", &file])?;
    ensure!(id.len() == 25, "{id}");
    sandbox.dhow(["config", "create", "one", &file])?.fails(1, &["config one already exists"])?;
    // The two kinds have names of their own.
    sandbox.ok(["secret", "create", "one", &file])?;
    same!(sandbox.ok(["config", "ls", "-q", "--filter", "label=tier"])?, id);
    same!(sandbox.ok(["config", "ls", "--format", "{{.Name}} {{.Labels}}"])?, "one tier=web");
    let seen: Value = serde_json::from_str(&sandbox.ok(["config", "inspect", &id[..6]])?)?;
    same!(seen[0]["Spec"]["Data"], "dGV4dA==");
    contains!(sandbox.ok(["config", "inspect", "--pretty", "one"])?, "Labels:\n - tier=web\n");
    let long = sandbox.file("long", vec![b'x'; (500 << 10) + 1])?;
    sandbox.dhow(["secret", "create", "two", &long])?.fails(1, &["at most 512000 bytes"])?;
    sandbox.dhow(["secret", "create", "a/b", &file])?.fails(1, &["invalid secret name \"a/b\""])?;
    sandbox.ok(["config", "rm", "one"])?;
    same!(sandbox.ok(["config", "ls", "-q"])?, "");
    same!(sandbox.ok(["secret", "ls", "--format", "{{.Name}}"])?, "one");
    Ok(())
}

/// Without descriptions on this machine: what is asked for is named, and nothing is made.
fn devices_by_cdi(sandbox: &Sandbox) -> Result<()> {
    sandbox.load("busybox")?;
    for options in [["--device", "nobody.example/gpu=all"], ["--gpus", "device=nobody"]] {
        sandbox
            .dhow([&["run", "--rm", "--network", "none"], &options[..], &["busybox", "true"]].concat())?
            .fails(125, &["CDI device injection failed: unresolvable CDI devices "])?;
    }
    same!(sandbox.ok(["ps", "-aq"])?, "");
    Ok(())
}

const DESCRIPTION: &str = r#"
cdiVersion: "0.6.0"
kind: vendor.example/gpu
containerEdits:
  env: [DRIVER=1]
devices:
  - name: "0"
    containerEdits:
      env: [GPU=zero]
      deviceNodes:
        - {path: /dev/gpu0, hostPath: /dev/null, permissions: rw}
      mounts:
        - {hostPath: /etc/passwd, containerPath: /usr/lib/vendor, options: [ro, nosuid, nodev, bind]}
      hooks:
        - {hookName: createRuntime, path: /bin/sh, args: [sh, -c, "cat > /run/cdi/state"]}
      additionalGids: [44]
"#;

/// A description in a /run of this test's own: node, mount, variable, group and hook, of `run` and of `exec`.
fn a_described_device(sandbox: &Sandbox) -> Result<()> {
    if !host::is_root() {
        return skip("only root can have a /run of its own here");
    }
    sandbox.load("busybox")?;
    let mut mount = std::process::Command::new("mount");
    mount.args(["-t", "tmpfs", "tmpfs", "/run"]);
    sandbox.finish_command(mount, "")?.success()?;
    std::fs::create_dir("/run/cdi")?;
    std::fs::write("/run/cdi/vendor.yaml", DESCRIPTION)?;
    std::fs::write("/run/cdi/nvidia.yaml", DESCRIPTION.replace("vendor.example", "nvidia.com"))?;
    let script =
        "echo $GPU $DRIVER; id -G; stat -c '%F %t,%T' /dev/gpu0; echo x > /dev/gpu0 && head -c 4 /usr/lib/vendor";
    let base = ["--network", "none"];
    for options in [["--device", "vendor.example/gpu=0"], ["--gpus", "device=0"]] {
        let seen = sandbox.busybox(&[&base[..], &options[..]].concat(), script)?;
        same!(seen, "zero 1\n0 44\ncharacter special file 1,3\nroot");
    }
    contains!(std::fs::read_to_string("/run/cdi/state")?, "\"status\":\"creating\"");
    sandbox.detached(&["--network", "none", "--name", "box", "--device", "vendor.example/gpu=0"], "exec sleep 1000")?;
    same!(sandbox.ok(["exec", "box", "sh", "-c", "echo $GPU"])?, "zero");
    let seen = sandbox.inspect("box")?;
    same!(seen["HostConfig"]["DeviceRequests"][0]["DeviceIDs"][0], "vendor.example/gpu=0");
    same!(seen["HostConfig"]["Devices"].as_array().map(Vec::len), Some(0));
    sandbox.dhow(["run", "--rm", "--device", "vendor.example/gpu=1", "busybox", "true"])?.fails(
        125,
        &["unresolvable CDI devices vendor.example/gpu=1", "described are: nvidia.com/gpu=0, vendor.example/gpu=0"],
    )?;
    let mut unmount = std::process::Command::new("umount");
    unmount.args(["-l", "/run"]);
    sandbox.finish_command(unmount, "")?.success().map(drop)
}
