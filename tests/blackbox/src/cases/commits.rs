//! What a container became: `diff`, `commit`, `export`, `import`.

use anyhow::{Result, ensure};
use serde_json::{Value, json};
use std::process::Command;

use crate::case::{cases, contains, same};
use crate::host;
use crate::sandbox::Sandbox;

cases![commits:
    changes, no_changes, committed_image_runs, commit_changes_configuration, commit_without_changes, commit_of_a_running_container,
    commit_keeps_removals, commit_refusals, volumes_of_an_image, volume_over_proc, exported, imported, import_refusals,
    survives_a_kill [Root],
];

const WORK: &str =
    "rm -rf /var/spool; echo x >/new; echo y >>/etc/passwd; mkdir -p /a/b; touch /a/b/c; rm /etc/group; ln -s x /link";

fn worked(sandbox: &Sandbox, options: &[&str]) -> Result<()> {
    sandbox.load("busybox")?;
    let run = ["run", "--name", "box", "--network", "none"];
    sandbox.ok([&run, options, &["busybox", "sh", "-c", WORK]].concat())?;
    Ok(())
}

fn image(sandbox: &Sandbox, name: &str) -> Result<Value> {
    let mut all: Value = serde_json::from_str(&sandbox.ok(["image", "inspect", name])?)?;
    Ok(all[0].take())
}

fn changes(sandbox: &Sandbox) -> Result<()> {
    worked(sandbox, &["-v", "/vol"])?;
    let mut lines: Vec<String> = sandbox.ok(["diff", "box"])?.lines().map(str::to_owned).collect();
    lines.sort_by(|a, b| a[2..].cmp(&b[2..]));
    same!(
        lines,
        ["A /a", "A /a/b", "A /a/b/c", "C /etc", "D /etc/group", "C /etc/passwd", "A /link", "A /new", "A /vol"]
    );
    sandbox.dhow(["diff", "nobody"])?.fails(1, &["No such container: nobody"])
}

/// What the engine makes for a container is no change of it.
fn no_changes(sandbox: &Sandbox) -> Result<()> {
    sandbox.load("busybox")?;
    let id = sandbox.detached(&["--network", "none", "--init"], "sleep 1000")?;
    same!(sandbox.ok(["container", "diff", &id])?, "");
    sandbox.ok(["exec", &id, "sh", "-c", "touch /tmp/x"])?;
    same!(sandbox.ok(["diff", &id])?, "C /tmp\nA /tmp/x");
    Ok(())
}

fn committed_image_runs(sandbox: &Sandbox) -> Result<()> {
    worked(sandbox, &["-e", "X=1", "-l", "a=b", "-w", "/tmp"])?;
    let id = sandbox.ok(["commit", "-a", "me", "-m", "a message", "box", "mine:v1"])?;
    ensure!(id.starts_with("sha256:") && id.len() == 71, "{id}");
    let found = image(sandbox, "mine:v1")?;
    same!(found["Id"], json!(id));
    same!((&found["Author"], &found["Comment"]), (&json!("me"), &json!("a message")));
    same!(found["Config"]["Cmd"], json!(["sh", "-c", WORK]));
    same!(found["Config"]["Labels"]["a"], json!("b"));
    same!(found["Config"]["WorkingDir"], json!("/tmp"));
    same!(found["RootFS"]["Layers"].as_array().map(Vec::len), Some(2));
    // The container goes, its image stays.
    sandbox.ok(["rm", "box"])?;
    let run = ["run", "--rm", "--network", "none", "mine:v1", "sh", "-c", "cat /new; echo $X; pwd; ls /a/b"];
    same!(sandbox.ok(run)?, "x\n1\n/tmp\nc");
    // On it, the next one.
    sandbox.ok(["run", "--name", "again", "--network", "none", "mine:v1", "sh", "-c", "echo 2 >/new"])?;
    sandbox.ok(["commit", "again", "mine:v2"])?;
    same!(sandbox.ok(["run", "--rm", "--network", "none", "mine:v2", "cat", "/new"])?, "2");
    same!(image(sandbox, "mine:v2")?["RootFS"]["Layers"].as_array().map(Vec::len), Some(3));
    sandbox.ok(["rm", "again"])?;
    sandbox.ok(["rmi", "mine:v2"])?;
    same!(sandbox.ok(["run", "--rm", "--network", "none", "mine:v1", "cat", "/new"])?, "x");
    Ok(())
}

fn commit_changes_configuration(sandbox: &Sandbox) -> Result<()> {
    worked(sandbox, &[])?;
    sandbox.ok([
        "commit",
        "-c",
        "ENV Y=2 Z='a b'",
        "-c",
        "EXPOSE 80",
        "-c",
        "CMD [\"sh\",\"-c\",\"echo $Y$Z\"]",
        "--change",
        "USER 12:34",
        "box",
        "mine",
    ])?;
    same!(sandbox.ok(["run", "--rm", "--network", "none", "mine"])?, "2a b");
    same!(sandbox.ok(["run", "--rm", "--network", "none", "mine", "id", "-u"])?, "12");
    same!(image(sandbox, "mine")?["Config"]["ExposedPorts"], json!({"80/tcp": {}}));
    Ok(())
}

fn commit_without_changes(sandbox: &Sandbox) -> Result<()> {
    sandbox.load("busybox")?;
    sandbox.ok(["create", "--name", "box", "--network", "none", "busybox", "true"])?;
    sandbox.dhow(["start", "-a", "box"])?;
    sandbox.ok(["commit", "box", "same"])?;
    same!(image(sandbox, "same")?["RootFS"], image(sandbox, "busybox")?["RootFS"]);
    sandbox.busybox(&["--network", "none"], "true").map(drop)
}

/// Frozen while its files are read, where it has a cgroup, and going on afterwards.
fn commit_of_a_running_container(sandbox: &Sandbox) -> Result<()> {
    sandbox.load("busybox")?;
    let script = "echo one >/file; echo up; while :; do echo tick; sleep 0.1; done";
    let id = sandbox.detached(&["--network", "none"], script)?;
    sandbox.wait_for_log(&id, "up")?;
    sandbox.ok(["commit", &id, "live"])?;
    same!(sandbox.ok(["inspect", "-f", "{{.State.Status}}", &id])?, "running");
    sandbox.ok(["commit", "--pause=false", &id, "live2"])?;
    same!(sandbox.ok(["run", "--rm", "--network", "none", "live", "cat", "/file"])?, "one");
    Ok(())
}

fn commit_keeps_removals(sandbox: &Sandbox) -> Result<()> {
    sandbox.load("busybox")?;
    let script = "rm -rf /var && mkdir /var && echo new >/var/only; rm /etc/group; mknod /tmp/pipe p; chown 5:6 /tmp/pipe; chmod 4711 /bin/busybox";
    sandbox.ok(["run", "--name", "box", "--network", "none", "busybox", "sh", "-c", script])?;
    sandbox.ok(["commit", "box", "mine"])?;
    let look = "ls /var; ls /etc/group 2>&1 | grep -c 'No such'; stat -c '%F %u:%g' /tmp/pipe; stat -c %a /bin/busybox";
    same!(sandbox.ok(["run", "--rm", "--network", "none", "mine", "sh", "-c", look])?, "only\n1\nfifo 5:6\n4711");
    Ok(())
}

fn commit_refusals(sandbox: &Sandbox) -> Result<()> {
    worked(sandbox, &[])?;
    let before = sandbox.ok(["images", "-q"])?;
    sandbox.dhow(["commit", "-c", "RUN x", "box"])?.fails(1, &["run is not a valid change command"])?;
    sandbox.dhow(["commit", "nobody"])?.fails(1, &["No such container: nobody"])?;
    sandbox.dhow(["commit", "box", "BAD name"])?.fails(1, &["invalid reference format"])?;
    sandbox.dhow(["commit", "box", "x@sha256:aa"])?.fails(1, &["invalid reference format"])?;
    same!(sandbox.ok(["images", "-q"])?, before);
    // Without a name it is an image all the same.
    let id = sandbox.ok(["commit", "box"])?;
    contains!(sandbox.ok(["images"])?, &id[7..19]);
    Ok(())
}

/// The volumes that an image declares: one each, filled, gone with `rm -v`.
fn volumes_of_an_image(sandbox: &Sandbox) -> Result<()> {
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
        "mkdir -m 700 /data; echo seed >/data/x; chown 7:8 /data",
    ])?;
    sandbox.ok(["commit", "-c", "VOLUME /data", "-c", "VOLUME [\"/other\"]", "box", "db"])?;
    let script =
        "cat /data/x; stat -c '%u:%g %a' /data; grep -c -E ' /(data|other) ' /proc/mounts; echo more >>/data/x";
    same!(sandbox.ok(["run", "--name", "one", "--network", "none", "db", "sh", "-c", script])?, "seed\n7:8 700\n2");
    same!(sandbox.ok(["volume", "ls", "-q"])?.lines().count(), 2);
    same!(sandbox.ok(["start", "-a", "one"])?, "seed\nmore\n7:8 700\n2");
    // Somebody's own mount at the place is enough.
    sandbox.ok(["run", "--rm", "--network", "none", "-v", "mine:/data", "--tmpfs", "/other", "db", "true"])?;
    same!(sandbox.ok(["volume", "ls", "-q"])?.lines().count(), 3);
    sandbox.ok(["rm", "-v", "one"])?;
    same!(sandbox.ok(["volume", "ls", "-q"])?, "mine");
    Ok(())
}

/// CVE-2015-3631: an image's volume over /proc is refused.
fn volume_over_proc(sandbox: &Sandbox) -> Result<()> {
    worked(sandbox, &[])?;
    for place in ["/proc", "/proc/self/attr", "//proc/./x", "/"] {
        sandbox.ok(["commit", "-c", &format!("VOLUME {place}"), "box", "evil"])?;
        sandbox.dhow(["run", "--rm", "--network", "none", "evil", "true"])?.fails(125, &["invalid mount target"])?;
    }
    Ok(())
}

fn exported(sandbox: &Sandbox) -> Result<()> {
    worked(sandbox, &["-v", "data:/vol"])?;
    let archive = sandbox.path("files/tree.tar");
    sandbox.ok(["export", "-o", &archive.to_string_lossy(), "box"])?;
    let list = host::succeed(Command::new("tar").arg("-tf").arg(&archive))?;
    for wanted in ["a/b/c", "etc/passwd", "new", "link", "vol/"] {
        ensure!(list.lines().any(|line| line.trim_start_matches("./") == wanted), "{wanted} is missing: {list}");
    }
    ensure!(!list.lines().any(|line| line.ends_with("etc/group") || line.contains(".wh.")), "{list}");
    // A file that cannot be finished leaves what was there.
    let kept = sandbox.file("kept.tar", "kept")?;
    sandbox.dhow(["export", "-o", &kept, "nobody"])?.fails(1, &["No such container: nobody"])?;
    same!(std::fs::read_to_string(&kept)?, "kept");
    Ok(())
}

fn imported(sandbox: &Sandbox) -> Result<()> {
    worked(sandbox, &[])?;
    let archive = sandbox.path("files/tree.tar").to_string_lossy().into_owned();
    sandbox.ok(["export", "-o", &archive, "box"])?;
    let id = sandbox.ok(["import", "-m", "hello", "-c", "CMD [\"cat\",\"/new\"]", &archive, "tree:x"])?;
    same!(sandbox.ok(["run", "--rm", "--network", "none", "tree:x"])?, "x");
    let found = image(sandbox, "tree:x")?;
    same!((&found["Id"], &found["Comment"], &found["Os"]), (&json!(id), &json!("hello"), &json!("linux")));
    same!(found["RootFS"]["Layers"].as_array().map(Vec::len), Some(1));
    // Compressed, from standard input, without a name.
    host::succeed(Command::new("gzip").arg(&archive))?;
    let input = std::fs::File::open(format!("{archive}.gz"))?;
    let output = sandbox.command(["image", "import", "--platform", "linux/arm64", "-"]).stdin(input).output()?;
    let id = String::from_utf8(output.stdout)?;
    same!(image(sandbox, id.trim())?["Architecture"], json!("arm64"));
    same!(image(sandbox, id.trim())?["Comment"], json!("Imported from -"));
    Ok(())
}

fn import_refusals(sandbox: &Sandbox) -> Result<()> {
    let junk = sandbox.file("junk", "no archive")?;
    sandbox.dhow(["import", "/no/such", "x"])?.fails(1, &["open /no/such"])?;
    sandbox.dhow(["import", &junk, "x"])?.fails(1, &["cannot import the archive"])?;
    sandbox.dhow(["import", "https://example.com/x.tar"])?.fails(1, &["URL"])?;
    sandbox.dhow(["import", "-c", "RUN x", &junk])?.fails(1, &["not a valid change command"])?;
    sandbox.dhow(["import", "--platform", "x", &junk])?.fails(1, &["platform"])?;
    same!(sandbox.ok(["images", "-q"])?, "");
    Ok(())
}

/// Killed while it commits: the container is as it was, and nothing is left in the store.
fn survives_a_kill(sandbox: &Sandbox) -> Result<()> {
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
        "for i in $(seq 400); do head -c 20000 /dev/urandom >/tmp/$i; done",
    ])?;
    for delay in [5, 15, 30, 60] {
        let mut child = sandbox.command(["commit", "box", "mine"]).stdout(std::process::Stdio::null()).spawn()?;
        std::thread::sleep(std::time::Duration::from_millis(delay));
        child.kill()?;
        child.wait()?;
        sandbox.ok(["ps", "-a"])?;
        let staging = sandbox.path("data/staging");
        same!(std::fs::read_dir(staging).map_or(0, Iterator::count), 0, "after {delay} ms");
    }
    sandbox.ok(["commit", "box", "mine"])?;
    same!(sandbox.ok(["run", "--rm", "--network", "none", "mine", "sh", "-c", "ls /tmp | wc -l"])?, "400");
    Ok(())
}
