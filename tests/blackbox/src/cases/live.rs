//! Mounts and published ports that a running container gets and loses, which Docker refuses.

use std::process::Command;

use anyhow::{Result, ensure};

use crate::case::{cases, contains, same};
use crate::host;
use crate::sandbox::Sandbox;

cases![live: mounts_come_and_go, mounts_are_recorded, mounts_stay_inside, ports_come_and_go [Root], ports_that_cannot [Root]];

fn shell(sandbox: &Sandbox, script: &str) -> Result<String> {
    sandbox.ok(["exec", "box", "sh", "-c", script])
}

fn mounts_come_and_go(sandbox: &Sandbox) -> Result<()> {
    sandbox.load("busybox")?;
    let file = sandbox.file("shared/file", "from the host\n")?;
    let directory = file.trim_end_matches("/file");
    sandbox.detached(&["--network", "none", "--name", "box"], "exec sleep 1000")?;
    let pid = sandbox.pid("box")?;
    // A directory, read-only; a single file; a volume that is made and filled; memory; an image.
    for mount in [
        format!("type=bind,src={directory},dst=/mnt/shared,ro"),
        format!("type=bind,src={file},dst=/etc/one-file"),
        "type=volume,src=data,dst=/etc/network".to_owned(),
        "type=tmpfs,dst=/memory,tmpfs-size=1m".to_owned(),
        "type=image,src=busybox,dst=/image".to_owned(),
    ] {
        sandbox.ok(["update", "--mount-add", &mount, "box"])?;
    }
    same!(shell(sandbox, "cat /mnt/shared/file /etc/one-file")?, "from the host\nfrom the host");
    ensure!(sandbox.dhow(["exec", "box", "touch", "/mnt/shared/new"])?.code != 0, "a read-only mount is written to");
    shell(sandbox, "echo kept > /etc/network/kept; test -x /image/bin/busybox; echo x > /memory/x")?;
    contains!(shell(sandbox, "grep ' /memory ' /proc/mounts")?, "size=1024k");
    // Nothing of it is in the machine's table.
    let table = std::fs::read_to_string("/proc/self/mountinfo")?;
    ensure!(!table.contains(" /mnt/shared ") && !table.contains(" /memory "), "the host has the mounts: {table}");
    for target in ["/mnt/shared", "/etc/one-file", "/memory", "/image"] {
        sandbox.ok(["update", "--mount-rm", target, "box"])?;
    }
    same!(
        shell(sandbox, "grep -c -e ' /mnt/shared ' -e one-file -e ' /memory ' -e ' /image ' /proc/mounts; true")?,
        "0"
    );
    same!(sandbox.pid("box")?, pid, "it is another process");
    sandbox.dhow(["update", "--mount-rm", "/mnt/shared", "box"])?.fails(1, &["has no mount on /mnt/shared"])?;
    let again = "type=tmpfs,dst=/etc/network";
    sandbox.dhow(["update", "--mount-add", again, "box"])?.fails(1, &["Duplicate mount point: /etc/network"])
}

fn mounts_are_recorded(sandbox: &Sandbox) -> Result<()> {
    sandbox.load("busybox")?;
    sandbox.detached(&["--network", "none", "--name", "box", "--stop-timeout", "0"], "exec sleep 1000")?;
    sandbox.ok(["update", "--mount-add", "type=volume,src=data,dst=/data", "box"])?;
    shell(sandbox, "echo kept > /data/file")?;
    let shown = ["inspect", "--format", "{{range .Mounts}}{{.Type}} {{.Destination}};{{end}}", "box"];
    same!(sandbox.ok(shown)?, "volume /data;");
    sandbox.dhow(["volume", "rm", "data"])?.fails(1, &["volume is in use"])?;
    sandbox.ok(["restart", "box"])?;
    same!(shell(sandbox, "cat /data/file")?, "kept");
    // Of one that does not run, only the record changes.
    sandbox.ok(["stop", "box"])?;
    sandbox.ok(["update", "--mount-add", "type=tmpfs,dst=/memory", "--mount-rm", "/data", "box"])?;
    sandbox.ok(["start", "box"])?;
    same!(shell(sandbox, "grep -c ' /memory ' /proc/mounts; test -e /data/file || echo gone")?, "1\ngone");
    sandbox.ok(["volume", "rm", "data"])?;
    // What cannot be mounted changes nothing.
    let wrong = "type=bind,src=/nowhere/at/all,dst=/wrong";
    sandbox.dhow(["update", "--mount-add", wrong, "box"])?.fails(1, &["bind source path does not exist: /nowhere"])?;
    ensure!(!sandbox.ok(shown)?.contains("/wrong"), "it is recorded");
    Ok(())
}

/// A container puts links where something is mounted: they are followed within its root, and procfs is not covered.
fn mounts_stay_inside(sandbox: &Sandbox) -> Result<()> {
    sandbox.load("busybox")?;
    let file = sandbox.file("secret", "from the host\n")?;
    let outside = sandbox.path("files/outside");
    std::fs::create_dir(&outside)?;
    sandbox.detached(&["--network", "none", "--name", "box"], "exec sleep 1000")?;
    let target = outside.display();
    shell(
        sandbox,
        &format!(
            "ln -s {target} /link; ln -s ../../../../..{target} /up; ln -s /proc/self/attr /attr; ln -s /proc /proc2"
        ),
    )?;
    for (number, link) in ["/link", "/up"].iter().enumerate() {
        let mount = format!("type=bind,src={file},dst={link}/file{number}");
        sandbox.ok(["update", "--mount-add", &mount, "box"])?;
        same!(shell(sandbox, &format!("cat {target}/file{number}"))?, "from the host");
    }
    same!(std::fs::read_dir(&outside)?.count(), 0, "something was made on the host");
    for link in ["/attr/exec", "/proc2/sys", "/proc/1"] {
        let mount = format!("type=bind,src={file},dst={link}");
        let output = sandbox.dhow(["update", "--mount-add", &mount, "box"])?;
        ensure!(output.code == 1, "{link}: exit code {}: {}", output.code, output.stderr);
    }
    same!(shell(sandbox, "grep -c ' /proc/' /proc/mounts >/dev/null; cat /proc/1/comm")?, "sleep");
    Ok(())
}

fn get(port: u16) -> String {
    let script = format!(
        "for i in 1 2 3; do curl --silent --max-time 1 --noproxy '*' http://127.0.0.1:{port}/ && exit; done; true"
    );
    host::succeed(Command::new("sh").args(["-c", &script])).unwrap_or_default().trim().to_owned()
}

fn ports_come_and_go(sandbox: &Sandbox) -> Result<()> {
    if host::program("curl").is_none() {
        return crate::case::skip("no curl");
    }
    sandbox.load("busybox")?;
    let serve = "echo here >/index.html; exec httpd -f -p 80 -h /";
    sandbox.detached(&["--name", "box", "--stop-timeout", "0", "-p", "8080:80"], serve)?;
    let pid = sandbox.pid("box")?;
    sandbox.ok(["update", "--publish-add", "8081:80", "box"])?;
    same!((get(8080), get(8081)), ("here".to_owned(), "here".to_owned()));
    contains!(sandbox.ok(["port", "box"])?, "80/tcp -> 0.0.0.0:8081");
    // It is taken, by name.
    let taken = ["run", "--rm", "-p", "8081:80", "busybox", "true"];
    sandbox.dhow(taken)?.fails(125, &["port is already allocated"])?;
    sandbox.ok(["restart", "box"])?;
    same!((get(8080), get(8081)), ("here".to_owned(), "here".to_owned()));
    ensure!(sandbox.pid("box")? != pid, "it was not restarted");
    // Both lead to the same port, and go together.
    sandbox.ok(["update", "--publish-rm", "80", "box"])?;
    same!((get(8080), get(8081)), (String::new(), String::new()));
    same!(sandbox.ok(["port", "box"])?, "");
    sandbox.ok(taken)?;
    sandbox.ok(["update", "--publish-add", "80", "box"])?;
    let chosen =
        sandbox.ok(["inspect", "-f", "{{(index (index .NetworkSettings.Ports \"80/tcp\") 0).HostPort}}", "box"])?;
    same!(get(chosen.parse()?), "here");
    // Stopped, started: as recorded.
    sandbox.ok(["stop", "box"])?;
    sandbox.ok(["update", "--publish-rm", "80/tcp", "--publish-add", "8082:80", "box"])?;
    sandbox.ok(["start", "box"])?;
    same!(get(8082), "here");
    Ok(())
}

fn ports_that_cannot(sandbox: &Sandbox) -> Result<()> {
    sandbox.load("busybox")?;
    sandbox.detached(&["--name", "box", "-p", "8080:80"], "exec sleep 1000")?;
    sandbox.detached(&["--name", "other", "--network", "none"], "exec sleep 1000")?;
    let refused: [(&[&str], &str); 5] = [
        (&["--publish-add", "8080:80", "box"], "published already"),
        (&["--publish-add", "8080:81", "box"], "port is already allocated"),
        (&["--publish-rm", "81", "box"], "does not publish its port 81/tcp"),
        (&["--publish-rm", "http", "box"], "invalid port"),
        (&["--publish-add", "8081:80", "other"], "no network of its own"),
    ];
    for (words, said) in refused {
        sandbox.dhow([&["update"], words].concat())?.fails(1, &[said])?;
    }
    same!(sandbox.ok(["port", "box"])?, "80/tcp -> 0.0.0.0:8080\n80/tcp -> [::]:8080");
    Ok(())
}
