//! Checkpoints as archives: there and back where criu works, and everything around criu anywhere.

use std::fs::{self, File};
use std::io::Write as _;
use std::os::unix::process::CommandExt as _;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use crate::case::{cases, contains, same};
use crate::cases::checkpoints::criu;
use crate::host;
use crate::sandbox::Sandbox;

cases![checkpoint_archives:
    an_archive_goes_on_elsewhere [Root], what_fails_leaves_it_running [Root], a_checkpoint_without_a_name [Root],
    hostile_beginnings [Root], hostile_members [Root], hostile_content [Root], hostile_settings [Root], a_killed_import_leaves_nothing [Root], refusals,
];

/// Counts in its memory, and says so in a file of its own layer.
const COUNTER: &str = "echo data > /vol/file; chmod 700 /vol; chown 77:78 /vol; echo anon > /anon/file; rm /bin/wget; \
    i=0; while true; do i=$((i+1)); echo $i > /count; sleep 0.1; done";

fn counter(sandbox: &Sandbox, name: &str) -> Result<()> {
    sandbox.ok([
        "run",
        "-d",
        "--name",
        name,
        "--network",
        "none",
        "-v",
        "vol1:/vol",
        "-v",
        "/anon",
        "busybox",
        "sh",
        "-c",
        COUNTER,
    ])?;
    counts_beyond(sandbox, name, 5)
}

fn count(sandbox: &Sandbox, name: &str) -> Result<u64> {
    let text = sandbox.ok(["exec", name, "cat", "/count"])?;
    text.trim().parse().with_context(|| format!("{text:?} is no number"))
}

fn counts_beyond(sandbox: &Sandbox, name: &str, from: u64) -> Result<()> {
    host::until("counting", sandbox.seconds(20), || Ok((count(sandbox, name).unwrap_or(0) > from).then_some(())))
}

fn status(sandbox: &Sandbox, name: &str) -> Result<Value> {
    Ok(sandbox.inspect(name)?["State"]["Status"].clone())
}

fn an_archive_goes_on_elsewhere(sandbox: &Sandbox) -> Result<()> {
    criu()?;
    sandbox.load("busybox")?;
    counter(sandbox, "one")?;
    let path = |name: &str| sandbox.path(&format!("files/{name}")).display().to_string();
    // Left running, it goes on; each form can be read.
    for form in ["none", "gzip"] {
        let export = ["container", "checkpoint", "-R", "--compress", form, "--export"];
        same!(sandbox.ok([&export[..], &[&path(form), "one"]].concat())?, "one");
        same!(status(sandbox, "one")?, "running");
    }
    let now = count(sandbox, "one")?;
    counts_beyond(sandbox, "one", now)?;
    let start = fs::read(path("none"))?;
    contains!(String::from_utf8_lossy(&start[..512]), "dhow-checkpoint.json");
    same!(
        fs::metadata(path("none")).map(|about| std::os::unix::fs::PermissionsExt::mode(&about.permissions()) & 0o777)?,
        0o600
    );
    sandbox.ok(["container", "checkpoint", "--export", &path("zstd"), "one"])?;
    same!(status(sandbox, "one")?, "exited");
    let before: u64 = {
        let file = sandbox.path("files/count").display().to_string();
        sandbox.ok(["cp", "one:/count", &file])?;
        fs::read_to_string(file)?.trim().parse()?
    };
    // Beside the original it needs names of its own.
    let import = ["container", "restore", "--import"];
    sandbox.dhow([&import[..], &[&path("zstd")]].concat())?.fails(1, &["one", "already in use", "--name"])?;
    let output = sandbox.dhow([&import[..], &[&path("zstd"), "--name", "two"]].concat())?;
    output.fails(1, &["volume vol1", "--ignore-volumes"])?;
    sandbox.ok([&import[..], &[&path("zstd"), "--ignore-volumes", "--name", "two"]].concat())?;
    same!(status(sandbox, "two")?, "running");
    counts_beyond(sandbox, "two", before + 2)?;
    same!(sandbox.ok(["exec", "two", "cat", "/vol/file"])?, "data");
    sandbox.ok(["rm", "-f", "-v", "one", "two"])?;
    sandbox.ok(["volume", "rm", "vol1"])?;
    // And as if on another machine, from each form.
    for form in ["none", "gzip", "zstd"] {
        let id = sandbox.ok([&import[..], &[&path(form)]].concat())?;
        same!(sandbox.inspect("one")?["Id"], id.as_str());
        let now = count(sandbox, "one")?;
        ensure!(form != "zstd" || now >= before, "it began anew: {now} after {before}");
        counts_beyond(sandbox, "one", now)?;
        let script = "cat /vol/file /anon/file; stat -c '%a %u %g' /vol; ls /bin/wget";
        let output = sandbox.dhow(["exec", "one", "sh", "-c", script])?;
        same!(output.stdout, "data\nanon\n700 77 78\n", "{}", output.stderr);
        contains!(output.stderr, "No such file");
        same!(sandbox.ok(["checkpoint", "ls", "one"])?, "CHECKPOINT NAME");
        // What it changed is its own, as ever.
        contains!(sandbox.ok(["diff", "one"])?, "D /bin/wget");
        same!(sandbox.ok(["volume", "ls", "-q"])?.lines().count(), 2);
        sandbox.ok(["stop", "-t", "0", "one"])?;
        sandbox.ok(["start", "one"])?;
        sandbox.ok(["rm", "-f", "-v", "one"])?;
        same!(sandbox.ok(["volume", "ls", "-q"])?, "vol1");
        sandbox.ok(["volume", "rm", "vol1"])?;
    }
    contains!(sandbox.ok(["system", "check"])?, "0 problems");
    Ok(())
}

/// The archive is written while it stands still, so a full disk costs nothing.
fn what_fails_leaves_it_running(sandbox: &Sandbox) -> Result<()> {
    criu()?;
    sandbox.load("busybox")?;
    counter(sandbox, "one")?;
    sandbox.dhow(["container", "checkpoint", "--export", "/dev/full", "one"])?.fails(1, &["No space left"])?;
    same!(status(sandbox, "one")?, "running");
    let now = count(sandbox, "one")?;
    counts_beyond(sandbox, "one", now)?;
    // One that is frozen stays frozen, and its archive is as good.
    let path = sandbox.path("files/frozen").display().to_string();
    sandbox.ok(["pause", "one"])?;
    sandbox.ok(["container", "checkpoint", "--leave-running", "--ignore-volumes", "--export", &path, "one"])?;
    same!(status(sandbox, "one")?, "paused");
    sandbox.ok(["unpause", "one"])?;
    let now = count(sandbox, "one")?;
    counts_beyond(sandbox, "one", now)?;
    sandbox.ok(["container", "restore", "--import", &path, "--ignore-volumes", "--name", "two", "--keep"])?;
    same!(status(sandbox, "two")?, "running");
    same!(sandbox.ok(["checkpoint", "ls", "two"])?, "CHECKPOINT NAME\nimported");
    sandbox.ok(["rm", "-f", "-v", "one", "two"])?;
    // One that goes with its end is gone, and comes back from the archive.
    sandbox.ok(["run", "-d", "--rm", "-t", "--name", "three", "-p", "127.0.0.1:8080:80", "busybox", "sh"])?;
    sandbox.ok(["container", "checkpoint", "--export", &path, "three"])?;
    host::until("gone", sandbox.seconds(10), || Ok(sandbox.ok(["ps", "-aq"])?.is_empty().then_some(())))?;
    sandbox.ok(["container", "restore", "--import", &path])?;
    same!(status(sandbox, "three")?, "running");
    // Its place on the network is a new one, and its ports are published again.
    let address = sandbox.inspect("three")?["NetworkSettings"]["Networks"]["bridge"]["IPAddress"].clone();
    let address = address.as_str().context("no address")?.to_owned();
    contains!(sandbox.ok(["exec", "three", "ip", "-4", "addr", "show", "eth0"])?, format!("inet {address}/"));
    same!(sandbox.ok(["port", "three"])?, "80/tcp -> 127.0.0.1:8080");
    sandbox.ok([
        "exec",
        "three",
        "sh",
        "-c",
        "ping -c 1 -W 2 $(ip route | sed -n 's/default via \\([^ ]*\\).*/\\1/p')",
    ])?;
    sandbox.ok(["rm", "-f", "three"])?;
    sandbox.ok(["volume", "rm", "vol1"])?;
    Ok(())
}

fn a_checkpoint_without_a_name(sandbox: &Sandbox) -> Result<()> {
    criu()?;
    sandbox.load("busybox")?;
    sandbox.ok(["run", "-d", "--name", "one", "--network", "none", "busybox", "sleep", "1000"])?;
    // The last one counts.
    sandbox.ok(["container", "checkpoint", "-R", "one"])?;
    same!(sandbox.ok(["container", "checkpoint", "one"])?, "one");
    same!(status(sandbox, "one")?, "exited");
    same!(sandbox.ok(["container", "restore", "one"])?, "one");
    same!(status(sandbox, "one")?, "running");
    sandbox.dhow(["container", "restore", "one"])?.fails(1, &["checkpoint", "does not exist"])?;
    sandbox.ok(["rm", "-f", "one"])?;
    Ok(())
}

/// A member of a tar archive: its name, its type, its content or the target of a link.
struct Member<'a>(&'a str, u8, &'a [u8]);

fn tar(members: &[Member<'_>], ended: bool) -> Vec<u8> {
    let mut bytes = Vec::new();
    for Member(name, kind, content) in members {
        let data: &[u8] = if *kind == b'0' { content } else { b"" };
        let mut block = [0_u8; 512];
        let mut put = |at: usize, text: &[u8]| block[at..at + text.len()].copy_from_slice(text);
        put(0, name.as_bytes());
        put(100, b"0000644\x000000000\x000000000\0");
        put(124, format!("{:011o}", data.len()).as_bytes());
        put(136, b"00000000000\0        ");
        put(156, &[*kind]);
        put(257, b"ustar\x0000");
        if *kind != b'0' {
            put(157, content);
        }
        let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
        block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        bytes.extend(block);
        bytes.extend(data);
        bytes.resize(bytes.len().next_multiple_of(512), 0);
    }
    if ended {
        bytes.resize(bytes.len() + 1024, 0);
    }
    bytes
}

/// The manifest of a container of busybox as it is on this machine.
fn manifest(sandbox: &Sandbox) -> Result<Value> {
    let text = sandbox.ok(["image", "inspect", "--format", "{{.Id}} {{json .RootFS.Layers}}", "busybox"])?;
    let (id, layers) = text.split_once(' ').context("no layers")?;
    let layers: Value = serde_json::from_str(layers)?;
    Ok(json!({
        "format": "dhow checkpoint", "version": 1, "id": "x", "name": "one", "rootFileSystem": false, "volumes": [],
        "settings": {
            "image_name": "busybox", "image_id": id, "layers": layers, "command": ["sleep", "1000"], "network": "none",
            "log_driver": "json-file", "shm_size": 1 << 20, "hostname": "box", "stop_timeout": 1,
        },
    }))
}

fn named_volume(name: &str) -> Value {
    json!({"type": "volume", "name": name, "target": "/vol", "read_only": false, "relabel": null})
}

/// The import fails with these words, without a panic, and nothing of it is left anywhere.
fn refused(sandbox: &Sandbox, what: &str, bytes: &[u8], words: &[&str]) -> Result<()> {
    let file = sandbox.file("hostile.tar", bytes)?;
    sandbox.dhow(["container", "restore", "--import", &file])?.fails(1, words).with_context(|| what.to_owned())?;
    nothing_is_left(sandbox).with_context(|| what.to_owned())
}

fn nothing_is_left(sandbox: &Sandbox) -> Result<()> {
    same!(sandbox.ok(["ps", "-aq"])?, "");
    same!(sandbox.ok(["volume", "ls", "-q"])?, "");
    let find = |root: &str, name: &str| -> Result<Vec<String>> {
        let Ok(entries) = fs::read_dir(sandbox.path(root).join(name)) else { return Ok(Vec::new()) };
        Ok(entries.flatten().map(|entry| entry.path().display().to_string()).collect())
    };
    for (root, name) in
        [("data", "containers"), ("data", "staging"), ("data", "volumes/.pending"), ("run", "containers")]
    {
        same!(find(root, name)?, Vec::<String>::new());
    }
    Ok(())
}

const FINE: Member<'_> = Member("checkpoint/inventory.img", b'0', b"no image of criu's");

/// The first member.
fn first(manifest: &[u8]) -> Member<'_> {
    Member("dhow-checkpoint.json", b'0', manifest)
}

const NO: &str = "no checkpoint of dhow";

/// Manifests as bytes: a plain one, one with a layer, one with a volume.
struct Manifests {
    good: Vec<u8>,
    rooted: Vec<u8>,
    volumed: Vec<u8>,
}

impl Manifests {
    fn of(plain: &Value) -> Self {
        let with = |change: &dyn Fn(&mut Value)| changed(plain, change);
        Self {
            good: with(&|_| ()),
            rooted: with(&|manifest| manifest["rootFileSystem"] = json!(true)),
            volumed: with(&|manifest| {
                manifest["volumes"] = json!([{"name": "vol1"}]);
                manifest["settings"]["mounts"] = json!([named_volume("vol1")]);
            }),
        }
    }
}

fn changed(plain: &Value, change: &dyn Fn(&mut Value)) -> Vec<u8> {
    let mut changed = plain.clone();
    change(&mut changed);
    changed.to_string().into_bytes()
}

fn hostile_beginnings(sandbox: &Sandbox) -> Result<()> {
    sandbox.load("busybox")?;
    let plain = manifest(sandbox)?;
    refused(sandbox, "empty", b"", &[NO])?;
    refused(sandbox, "noise", &[0x5a; 4096], &["archive cannot be read"])?;
    refused(sandbox, "cut gzip", &[0x1f, 0x8b, 8, 0, 0, 0], &["archive cannot be read"])?;
    refused(sandbox, "no manifest", &tar(&[Member("other", b'0', b"x")], true), &[NO, "begin with"])?;
    let link = Member("dhow-checkpoint.json", b'2', b"/etc/passwd");
    refused(sandbox, "a link", &tar(&[link], true), &[NO, "begin with"])?;
    refused(sandbox, "no JSON", &tar(&[first(b"{")], true), &[NO, "cannot be read"])?;
    let long = vec![b' '; (4 << 20) + 1];
    refused(sandbox, "too long", &tar(&[first(&long)], true), &[NO, "4194305 bytes"])?;
    let other = changed(&plain, &|manifest| manifest["format"] = json!("other"));
    refused(sandbox, "format", &tar(&[first(&other), FINE], true), &[NO, "its format is \"other\""])?;
    let newer = changed(&plain, &|manifest| manifest["version"] = json!(2));
    refused(sandbox, "version", &tar(&[first(&newer), FINE], true), &[NO, "version 2"])
}

fn hostile_members(sandbox: &Sandbox) -> Result<()> {
    sandbox.load("busybox")?;
    let Manifests { good, rooted, volumed } = &Manifests::of(&manifest(sandbox)?);
    for (name, kind) in [
        ("checkpoint/../../../../tmp/dhow-escaped", b'0'),
        ("/tmp/dhow-escaped", b'0'),
        ("../tmp/dhow-escaped", b'0'),
        ("checkpoint/a/b", b'0'),
        ("checkpoint/.hidden", b'0'),
        ("checkpoint/", b'5'),
        ("checkpoint/inventory.img", b'2'),
        ("checkpoint/inventory.img", b'1'),
        ("checkpoint/inventory.img", b'3'),
        ("checkpoint/inventory.img", b'6'),
        ("rootfs.tar", b'0'),
        ("volumes/vol1.tar", b'0'),
    ] {
        let content: &[u8] = if kind == b'0' { b"x" } else { b"/etc/passwd" };
        let bytes = tar(&[first(good), Member(name, kind, content)], true);
        refused(sandbox, name, &bytes, &[NO, "unexpected member"])?;
    }
    ensure!(!std::path::Path::new("/tmp/dhow-escaped").exists(), "it came out");
    refused(sandbox, "twice", &tar(&[first(good), FINE, FINE], true), &[NO, "comes twice"])?;
    refused(sandbox, "a second manifest", &tar(&[first(good), FINE, first(good)], true), &[NO, "unexpected member"])?;
    refused(sandbox, "no end", &tar(&[first(good), FINE], false), &[NO, "truncated"])?;
    let whole = tar(&[first(rooted), FINE, Member("rootfs.tar", b'0', &[0; 4096])], true);
    for cut in [700, 1030, whole.len() - 1024 - 512] {
        refused(sandbox, &format!("cut at {cut}"), &whole[..cut], &["truncated"])?;
    }
    refused(sandbox, "no image", &tar(&[first(good)], true), &[NO, "inventory.img"])?;
    refused(sandbox, "no layer", &tar(&[first(rooted), FINE], true), &[NO, "rootfs.tar"])?;
    refused(sandbox, "no volume", &tar(&[first(volumed), FINE], true), &[NO, "volumes/vol1.tar"])?;
    sandbox.ok(["system", "check"])?;
    Ok(())
}

/// Layers and volumes that want out, or are none.
fn hostile_content(sandbox: &Sandbox) -> Result<()> {
    sandbox.load("busybox")?;
    let Manifests { rooted, volumed, .. } = &Manifests::of(&manifest(sandbox)?);
    let inner = |members: &[Member<'_>]| tar(members, true);
    for (what, layer) in [
        ("up", inner(&[Member("../../dhow-escaped", b'0', b"x")])),
        ("through a link", inner(&[Member("link", b'2', b"/tmp"), Member("link/dhow-escaped", b'0', b"x")])),
        ("a link to nothing", inner(&[Member("hard", b'1', b"../../../../etc/passwd")])),
        ("noise", vec![0x5a; 4096]),
    ] {
        let bytes = tar(&[first(rooted), FINE, Member("rootfs.tar", b'0', &layer)], true);
        // What stays inside is no error of the archive's; then it is criu that refuses its files.
        refused(sandbox, what, &bytes, &["dhow: error"])?;
        let bytes = tar(&[first(volumed), FINE, Member("volumes/vol1.tar", b'0', &layer)], true);
        refused(sandbox, what, &bytes, &["dhow: error"])?;
    }
    ensure!(!std::path::Path::new("/tmp/dhow-escaped").exists(), "it came out");
    // All is well but criu's files.
    let layer = inner(&[Member("file", b'0', b"x")]);
    let all = [first(volumed), FINE, Member("volumes/vol1.tar", b'0', &layer)];
    refused(sandbox, "nonsense for criu", &tar(&all, true), &["dhow: error"])?;
    sandbox.ok(["system", "check"])?;
    Ok(())
}

fn hostile_settings(sandbox: &Sandbox) -> Result<()> {
    sandbox.load("busybox")?;
    let plain = manifest(sandbox)?;
    let bind = json!({
        "type": "bind", "path": "/etc", "create": false, "propagation": null, "recursive": false,
        "target": "/mnt", "read_only": false, "relabel": null,
    });
    let (no, more) = ("no checkpoint of dhow", "asks for more than one has by default");
    let stranger = format!("sha256:{}", "0".repeat(64));
    let cases: &[(&str, Value, &[&str])] = &[
        ("privileged", json!(true), &[more, "--privileged", "--allow-host"]),
        ("capabilities", json!(["CAP_SYS_ADMIN"]), &[more, "--cap-add CAP_SYS_ADMIN"]),
        ("mounts", json!([bind]), &[more, "/etc"]),
        ("devices", json!(["/dev/kmsg"]), &[more, "--device /dev/kmsg"]),
        ("network", json!("host"), &[more, "--network host"]),
        ("pid_mode", json!("host"), &[more, "--pid host"]),
        ("annotations", json!({"org.criu.config": "/tmp/x"}), &[more, "org.criu.config"]),
        ("security_options", json!(["seccomp=unconfined"]), &[more, "seccomp=unconfined"]),
        ("masked_paths", json!([]), &[more, "hidden"]),
        ("image_id", json!(stranger), &["is not here", "dhow pull busybox"]),
        ("image_id", json!("../../x"), &["is not here"]),
        ("layers", json!([stranger]), &[no, "layers"]),
        ("layers", json!(["../../x"]), &[no, "layers"]),
        ("mounts", json!([named_volume("../x")]), &["../x"]),
        ("networks", json!("x"), &[no, "cannot be read"]),
    ];
    let archive =
        |manifest: &Value| tar(&[Member("dhow-checkpoint.json", b'0', manifest.to_string().as_bytes()), FINE], true);
    for (field, value, words) in cases {
        let mut changed = plain.clone();
        changed["settings"][*field] = value.clone();
        refused(sandbox, field, &archive(&changed), words)?;
    }
    let mut changed = plain.clone();
    changed["name"] = json!("../x");
    refused(sandbox, "name", &archive(&changed), &["invalid container name"])?;
    let mut changed = plain.clone();
    changed["volumes"] = json!([{"name": "stranger"}]);
    refused(sandbox, "volume", &archive(&changed), &[no, "has no volume \"stranger\""])?;
    // A volume that is here is not an archive's to take.
    sandbox.ok(["volume", "create", "vol1"])?;
    let mut changed = plain;
    changed["settings"]["mounts"] = json!([named_volume("vol1")]);
    let file = sandbox.file("hostile.tar", archive(&changed))?;
    sandbox.dhow(["container", "restore", "--import", &file])?.fails(1, &["volume vol1", "exists already"])?;
    sandbox.ok(["volume", "rm", "vol1"])?;
    nothing_is_left(sandbox)
}

/// Killed in the middle of an archive, when there are files of criu's, a layer and half a volume.
fn a_killed_import_leaves_nothing(sandbox: &Sandbox) -> Result<()> {
    sandbox.load("busybox")?;
    let mut manifest = manifest(sandbox)?;
    manifest["rootFileSystem"] = json!(true);
    manifest["volumes"] = json!([{"name": "vol1"}]);
    manifest["settings"]["mounts"] = json!([named_volume("vol1")]);
    let layer = tar(&[Member("file", b'0', &[b'x'; 100_000])], true);
    let bytes = tar(
        &[
            Member("dhow-checkpoint.json", b'0', manifest.to_string().as_bytes()),
            FINE,
            Member("rootfs.tar", b'0', &layer),
            Member("volumes/vol1.tar", b'0', &layer),
        ],
        true,
    );
    let fifo = sandbox.path("files/fifo");
    ensure!(Command::new("mkfifo").arg(&fifo).status()?.success(), "mkfifo");
    let mut command = sandbox.command(["container", "restore", "--import", &fifo.display().to_string()]);
    let mut child =
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).process_group(0).spawn()?;
    let mut writer = File::options().write(true).open(&fifo)?;
    writer.write_all(&bytes[..bytes.len() - 50_000])?;
    let pending = sandbox.path("data/volumes/.pending/vol1");
    host::until("half a volume", sandbox.seconds(20), || {
        std::thread::sleep(Duration::from_millis(20));
        Ok(pending.exists().then_some(()))
    })?;
    child.kill()?;
    child.wait()?;
    drop(writer);
    nothing_is_left(sandbox)?;
    sandbox.ok(["system", "check"])?;
    Ok(())
}

fn refusals(sandbox: &Sandbox) -> Result<()> {
    let checkpoint = |words: &[&str]| sandbox.dhow([&["container", "checkpoint"], words].concat());
    let restore = |words: &[&str]| sandbox.dhow([&["container", "restore"], words].concat());
    let file = sandbox.path("files/archive").display().to_string();
    checkpoint(&["--export", &file, "nobody"])?.fails(1, &["nobody"])?;
    checkpoint(&["--export", &file, "one", "two"])?.fails(1, &["--export"])?;
    checkpoint(&["--export", &file, "--compress", "xz", "one"])?.fails(1, &["xz", "none, gzip or zstd"])?;
    checkpoint(&["--ignore-rootfs", "one"])?.fails(1, &["--export"])?;
    restore(&[])?.fails(1, &["--import"])?;
    restore(&["--name", "two", "one"])?.fails(1, &["--import"])?;
    restore(&["--import", &file, "one"])?.fails(1, &["--import"])?;
    restore(&["--import", "/nowhere/x"])?.fails(1, &["/nowhere/x"])?;
    restore(&["one"])?.fails(1, &[if crate::host::is_root() { "one" } else { "needs root of the machine" }])?;
    ensure!(!std::path::Path::new(&file).exists(), "something was written");
    Ok(())
}
