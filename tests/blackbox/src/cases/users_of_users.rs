//! Containers of ordinary users with ids of their own: what they see, what is on the disk, and what stays of it.

use std::fs;
use std::os::unix::fs::MetadataExt;

use anyhow::{Context, Result, ensure};

use crate::case::{cases, contains, same, skip};
use crate::host;
use crate::sandbox::Sandbox;

cases![users_of_users:
    the_user_stays_the_user [User], set_user_id_bits_stay [User], auto_and_maps [User],
    what_was_changed_keeps_its_owners [User], copies_in_and_out [User], volumes_and_images [User],
    runs_again_and_goes [User], the_copies_go_with_their_image [User], a_kill_leaves_nothing [User],
    beside_other_containers [User, Lan],
];

const KEPT: [&str; 4] = ["--network", "none", "--userns", "keep-id"];
const AUTO: [&str; 4] = ["--network", "none", "--userns", "auto"];

fn with<'a>(options: &[&'a str], more: &[&'a str]) -> Vec<&'a str> {
    [options, more].concat()
}

fn own() -> Result<(u32, u32)> {
    let status = fs::metadata("/proc/self")?;
    Ok((status.uid(), status.gid()))
}

fn the_user_stays_the_user(sandbox: &Sandbox) -> Result<()> {
    sandbox.load("busybox")?;
    let (uid, gid) = own()?;
    let name = std::process::Command::new("id").arg("-un").output()?.stdout;
    let name = String::from_utf8(name)?.trim().to_owned();
    sandbox.file("mine/file", "x")?;
    let mount = format!("{}:/mine", sandbox.path("files/mine").display());
    let script = "id -u; id -g; whoami; stat -c %u:%g /bin/busybox /mine/file /etc/hosts /etc/passwd; touch /mine/made; \
                  echo $HOME; touch /denied 2>/dev/null || echo denied";
    let seen = sandbox.busybox(&with(&KEPT, &["-v", &mount]), script)?;
    let expected = format!("{uid}\n{gid}\n{name}\n0:0\n{uid}:{gid}\n0:0\n0:0\n/\ndenied");
    same!(seen, expected);
    let made = fs::metadata(sandbox.path("files/mine/made"))?;
    same!((made.uid(), made.gid()), (uid, gid));
    // The same user under another number, or as root; and somebody else.
    let as_other = ["--network", "none", "--userns", "keep-id:uid=7,gid=8", "-v", &mount];
    same!(sandbox.busybox(&as_other, "id -u; id -g; stat -c %u:%g /mine/file /bin/busybox")?, "7\n8\n7:8\n0:0");
    let as_root = ["--network", "none", "--userns", "keep-id:uid=0,gid=0", "-v", &mount];
    same!(sandbox.busybox(&as_root, "id -u; stat -c %u:%g /mine/file /bin/busybox")?, "0\n0:0\n0:0");
    let somebody = with(&KEPT, &["--user", "3:4", "-v", &mount]);
    same!(sandbox.busybox(&somebody, "id -u; id -g; stat -c %u /mine/file")?, format!("3\n4\n{uid}"));
    // Whom the image names.
    sandbox.ok(["create", "--name", "box", "busybox"])?;
    sandbox.ok(["commit", "--change", "USER 5", "box", "five"])?;
    same!(sandbox.ok(["run", "--rm", "--network", "none", "--userns", "keep-id", "five", "id", "-u"])?, "5");
    let without = ["--network", "none", "--userns", "nomap", "-v", &mount];
    same!(sandbox.busybox(&without, "id -u; stat -c %u:%g /mine/file /bin/busybox")?, "0\n65534:65534\n0:0");
    Ok(())
}

fn set_user_id_bits_stay(sandbox: &Sandbox) -> Result<()> {
    sandbox.load("busybox")?;
    let script = "cp /bin/busybox /bin/program && chmod 4755 /bin/program && chgrp 9 /var && chmod 2775 /var";
    sandbox.ok(["run", "--name", "made", "--network", "none", "busybox", "sh", "-c", script])?;
    sandbox.ok(["commit", "made", "image"])?;
    // Of a layer, and one that was just made.
    let seen = "stat -c '%a %u:%g %n' /bin/program /var; cp /bin/program /tmp/mine; stat -c %a /tmp/mine";
    let run =
        |mode: &str| sandbox.ok(["run", "--rm", "--network", "none", "--userns", mode, "image", "sh", "-c", seen]);
    same!(run("keep-id")?.trim(), "4755 0:0 /bin/program\n2775 0:9 /var\n755");
    same!(run("auto")?.trim(), "4755 0:0 /bin/program\n2775 0:9 /var\n755");
    Ok(())
}

fn auto_and_maps(sandbox: &Sandbox) -> Result<()> {
    sandbox.load("busybox")?;
    let map = "awk '{print $1\":\"$2\":\"$3}' /proc/self/uid_map";
    let one = sandbox.detached(&with(&AUTO, &["--name", "one"]), "sleep 1000")?;
    let outside =
        |id: &str| -> Result<String> { Ok(sandbox.inspect(id)?["HostConfig"]["IDMappings"]["UidMap"].to_string()) };
    let first = outside(&one)?;
    contains!(first, "0:1:1024");
    contains!(first, "65534:1025:1");
    same!(sandbox.busybox(&["--network", "none", "--userns", "auto:size=20"], map)?, "0:1026:20");
    same!(sandbox.ok(["exec", "one", "stat", "-c", "%u:%g", "/bin/busybox", "/", "/etc/hosts"])?, "0:0\n0:0\n0:0");
    same!(sandbox.busybox(&["--network", "none", "--userns", "0:5:50"], &format!("{map}; id -u"))?, "0:5:50\n0");
    same!(sandbox.busybox(&["--network", "none", "--uidmap", "0:7:9"], map)?, "0:7:9");
    let beyond = ["create", "--userns", "0:1:100000000", "busybox"];
    sandbox.dhow(beyond)?.fails(1, &["this user does not have"])?;
    let mount = format!("{}:/x:idmap", sandbox.path("files").display());
    let mapped = ["create", "--userns", "auto", "-v", &mount, "busybox"];
    sandbox.dhow(mapped)?.fails(1, &["idmap on /x cannot work for an ordinary user"])?;
    sandbox.ok(["rm", "-f", "one"])?;
    same!(sandbox.ok(["system", "check"])?.contains("0 problems"), true);
    Ok(())
}

fn what_was_changed_keeps_its_owners(sandbox: &Sandbox) -> Result<()> {
    sandbox.load("busybox")?;
    let script = "mkdir /data && touch /data/a /data/b && chown 33:44 /data/a && chown 5:6 /data /home && rm /bin/vi \
                  && ln /data/a /data/c && chmod 4711 /data/b";
    let run = [&["run", "--name", "box", "--user", "0"][..], &KEPT, &["busybox", "sh", "-c", script]].concat();
    sandbox.ok(run)?;
    let changes = sandbox.ok(["diff", "box"])?;
    for line in ["A /data", "A /data/a", "D /bin/vi", "C /home", "C /etc/passwd"] {
        ensure!(changes.lines().any(|each| each == line), "no {line} in {changes}");
    }
    ensure!(!changes.contains("/root") && !changes.contains("/usr\n"), "{changes}");
    sandbox.ok(["commit", "box", "became"])?;
    let look = "stat -c '%u:%g %h %a' /data/a /data/b; stat -c '%u:%g %a' /data /home; test -e /bin/vi || echo gone";
    let expected = "33:44 2 644\n0:0 1 4711\n5:6 755\n5:6 755\ngone";
    for mode in ["host", "keep-id", "auto", "nomap"] {
        let again = ["run", "--rm", "--network", "none", "--userns", mode, "became", "sh", "-c", look];
        same!(sandbox.ok(again)?, expected, "{mode}");
    }
    let out = sandbox.path("files/box.tar").display().to_string();
    sandbox.ok(["export", "-o", &out, "box"])?;
    let listed = std::process::Command::new("tar").args(["--numeric-owner", "-tvf", &out]).output()?;
    let listed = String::from_utf8(listed.stdout)?;
    for (name, owner) in [(" data/a", "33/44"), (" home/", "5/6"), (" bin/busybox", "0/0"), (" etc/passwd", "0/0")] {
        let line = listed.lines().find(|line| line.contains(name)).with_context(|| format!("no {name}: {listed}"))?;
        contains!(line, owner);
    }
    Ok(())
}

fn copies_in_and_out(sandbox: &Sandbox) -> Result<()> {
    sandbox.load("busybox")?;
    let (uid, gid) = own()?;
    let file = sandbox.file("in", "text")?;
    for (mode, user) in [("keep-id", format!("{uid}:{gid}")), ("auto", "0:0".to_owned())] {
        let run = ["run", "-d", "--name", "box", "--network", "none", "--userns", mode, "busybox", "sleep", "1000"];
        sandbox.ok(run)?;
        sandbox.ok(["exec", "--user", "0", "box", "sh", "-c", "mkdir /d && touch /d/f && chown 3:4 /d/f"])?;
        sandbox.ok(["cp", &file, "box:/tmp/one"])?;
        sandbox.ok(["cp", "-a", &file, "box:/tmp/two"])?;
        let tar = sandbox.ok(["cp", "box:/d", "-"]);
        ensure!(tar.is_ok_and(|tar| tar.contains("0000003\x000000004")), "{mode}: another owner in the archive");
        sandbox.ok(["stop", "-t", "0", "box"])?;
        sandbox.ok(["cp", &file, "box:/tmp/three"])?;
        let out = sandbox.path("files").join(format!("out-{mode}"));
        sandbox.ok(["cp", "box:/tmp/two", &out.display().to_string()])?;
        let status = fs::metadata(&out)?;
        same!((status.uid(), status.gid(), status.len()), (uid, gid, 4), "{mode}");
        sandbox.ok(["start", "box"])?;
        let look = ["exec", "box", "stat", "-c", "%u:%g", "/tmp/one", "/tmp/two", "/tmp/three", "/d/f", "/tmp"];
        let two = if mode == "keep-id" { user.as_str() } else { "0:0" };
        same!(sandbox.ok(look)?, format!("0:0\n{two}\n0:0\n3:4\n0:0"), "{mode}");
        sandbox.ok(["rm", "-f", "box"])?;
    }
    Ok(())
}

fn volumes_and_images(sandbox: &Sandbox) -> Result<()> {
    sandbox.load("busybox")?;
    let (uid, gid) = own()?;
    let kept = with(&KEPT, &["-v", "kept:/new", "-v", "filled:/etc", "-v", "/anonymous"]);
    let look = "stat -c %u:%g /new /etc /etc/group /anonymous; touch /new/file && stat -c %u:%g /new/file";
    let user = format!("{uid}:{gid}");
    same!(sandbox.busybox(&kept, look)?, format!("{user}\n0:0\n0:0\n{user}\n{user}"));
    let auto = with(&AUTO, &["-v", "other:/new"]);
    same!(sandbox.busybox(&auto, "touch /new/file; stat -c %u:%g /new /new/file")?, "0:0\n0:0");
    let image = with(&KEPT, &["--mount", "type=image,src=busybox,dst=/image"]);
    same!(sandbox.busybox(&image, "stat -c %u:%g /image/bin/busybox; /image/bin/busybox echo runs")?, "0:0\nruns");
    let part = with(&KEPT, &["--mount", "type=image,src=busybox,dst=/image,image-subpath=bin"]);
    same!(sandbox.busybox(&part, "/image/busybox echo runs")?, "runs");
    sandbox.ok(["volume", "rm", "kept", "filled", "other"])?;
    Ok(())
}

fn runs_again_and_goes(sandbox: &Sandbox) -> Result<()> {
    sandbox.load("busybox")?;
    let run = with(&KEPT, &["--name", "box", "--restart", "on-failure:2"]);
    sandbox.detached(&run, "echo x >> /tmp/runs; id -u; exit 1")?;
    sandbox.wait_for_state("box", "exited")?;
    let uid = own()?.0.to_string();
    same!(sandbox.ok(["logs", "box"])?.lines().filter(|line| *line == uid).count(), 3);
    sandbox.ok(["cp", "box:/tmp/runs", &sandbox.path("files/runs").display().to_string()])?;
    same!(fs::read_to_string(sandbox.path("files/runs"))?, "x\nx\nx\n");
    sandbox.dhow(["start", "-a", "box"])?.fails(1, &[])?;
    sandbox.ok(["rm", "-f", "box"])?;
    // What nobody outside could remove.
    sandbox
        .busybox(&with(&KEPT, &["--user", "0"]), "mkdir -p /a/b && touch /a/b/c && chown -R 9:9 /a && chmod 0 /a/b")?;
    let left = fs::read_dir(sandbox.path("data/containers"))?.count();
    same!(left, 0);
    Ok(())
}

fn forms(sandbox: &Sandbox) -> Result<usize> {
    let mut count = 0;
    for key in fs::read_dir(sandbox.path("data/shifted")).into_iter().flatten() {
        count += fs::read_dir(key?.path())?.count();
    }
    Ok(count)
}

fn the_copies_go_with_their_image(sandbox: &Sandbox) -> Result<()> {
    sandbox.load("busybox")?;
    sandbox.ok(["run", "--name", "made", "--network", "none", "busybox", "cp", "/bin/busybox", "/other"])?;
    sandbox.ok(["commit", "made", "second"])?;
    sandbox.ok(["rm", "made"])?;
    let run = |mode: &str, image: &str| {
        sandbox.ok(["run", "--rm", "--network", "none", "--userns", mode, image, "sh", "-c", "cat /etc/passwd | wc -l"])
    };
    for mode in ["keep-id", "auto"] {
        run(mode, "busybox")?;
        run(mode, "second")?;
    }
    same!(forms(sandbox)?, 4);
    // What has no container that needs it can be had back.
    let used = || sandbox.ok(["system", "df", "--format", "{{.Type}} {{.Size}}"]);
    let before = used()?;
    let du = |names: &[&str]| -> Result<u64> {
        let mut du = std::process::Command::new("du");
        du.args(["-s", "-c", "--block-size=1"]).args(names.iter().map(|name| sandbox.path(&format!("data/{name}"))));
        let text = String::from_utf8(du.output()?.stdout)?;
        Ok(text.lines().last().and_then(|line| line.split_whitespace().next()).context("no sum")?.parse()?)
    };
    let megabytes = du(&["blobs", "layers", "shifted"])? as f64 / 1e6;
    let shown = before.lines().find_map(|line| line.strip_prefix("Images ")).context("no images")?;
    let shown: f64 = shown.trim_end_matches("MB").parse().with_context(|| shown.to_owned())?;
    ensure!((shown - megabytes).abs() < 0.1, "{shown} MB are shown, {megabytes} there");
    contains!(sandbox.ok(["system", "check"])?, "0 problems");
    sandbox.ok(["rmi", "second"])?;
    same!(forms(sandbox)?, 2);
    sandbox.ok(["create", "--name", "box", "--userns", "keep-id", "busybox"])?;
    sandbox.ok(["image", "prune", "-f"])?;
    same!(forms(sandbox)?, 1);
    sandbox.ok(["rm", "box"])?;
    sandbox.ok(["image", "prune", "-f"])?;
    same!(forms(sandbox)?, 0);
    contains!(sandbox.ok(["system", "check"])?, "0 problems");
    Ok(())
}

fn a_kill_leaves_nothing(sandbox: &Sandbox) -> Result<()> {
    sandbox.load("layers20")?;
    // Twenty thousand files: somewhere among them.
    for wait in [150, 400] {
        let words = [&["create", "--name", "box"][..], &KEPT, &["layers20", "true"]].concat();
        let mut child = sandbox.spawn(words)?;
        std::thread::sleep(std::time::Duration::from_millis(wait));
        child.kill()?;
        child.wait()?;
        sandbox.dhow(["rm", "-f", "box"])?;
        contains!(sandbox.ok(["system", "check"])?, "0 problems");
        same!(fs::read_dir(sandbox.path("data/staging"))?.count(), 0);
    }
    Ok(())
}

fn beside_other_containers(sandbox: &Sandbox) -> Result<()> {
    sandbox.load("busybox")?;
    let uid = own()?.0.to_string();
    sandbox.detached(&["--name", "plain", "--network", "none"], "sleep 1000")?;
    let shared = ["--userns", "keep-id", "--network", "container:plain"];
    same!(sandbox.busybox(&shared, "id -u")?, uid);
    let processes = ["create", "--userns", "keep-id", "--pid", "container:plain", "busybox"];
    sandbox.dhow(processes)?.fails(1, &["exclude each other"])?;
    let host = ["--userns", "keep-id", "--network", "host", "--pid", "host", "--ipc", "host", "--uts", "host"];
    same!(sandbox.busybox(&host, "id -u")?, uid);
    if host::program("pasta").is_none() {
        return skip("pasta is not installed (package passt)");
    }
    sandbox.detached(
        &["--name", "web", "--userns", "keep-id"],
        "mkdir /tmp/w && id -u > /tmp/w/uid && httpd -f -p 8080 -h /tmp/w",
    )?;
    let address = sandbox.ok(["inspect", "-f", "{{.NetworkSettings.IPAddress}}", "web"])?;
    let ask =
        format!("for i in 1 2 3 4 5 6 7 8 9; do wget -q -O - http://{address}:8080/uid && break; sleep 0.3; done");
    same!(sandbox.busybox(&["--userns", "auto"], &ask)?, uid);
    Ok(())
}
