//! Containers with ids of their own: `--userns` and its kin.

use std::os::unix::fs::{MetadataExt, chown};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::case::{cases, contains, same};
use crate::host;
use crate::sandbox::Sandbox;

cases![users:
    auto_hands_out_ranges [Root], files_have_the_containers_owners [Root], volumes_and_binds [Root],
    maps_by_hand [Root], root_keeps_its_id [Root], copying_while_it_runs [Root], a_killed_engine_loses_no_range [Root],
    modes_that_are_refused, users_without_a_range_are_told_why [User], a_map_that_changes_nothing [User],
];

const ALONE: [&str; 2] = ["--network", "none"];

/// Where the first range of a container's user ids begins outside.
fn begin(sandbox: &Sandbox, container: &str) -> Result<u32> {
    let maps = sandbox.inspect(container)?["HostConfig"]["IDMappings"]["UidMap"][0].take();
    let text = maps.as_str().with_context(|| format!("{container} has no maps"))?.to_owned();
    Ok(text.split(':').nth(1).context("no host id")?.parse()?)
}

fn auto_hands_out_ranges(sandbox: &Sandbox) -> Result<()> {
    sandbox.load("busybox")?;
    let create = |name: &str, mode: &str| {
        sandbox.ok([
            "create",
            "--name",
            name,
            "--network",
            "none",
            "--userns",
            mode,
            "busybox",
            "cat",
            "/proc/self/uid_map",
        ])
    };
    create("one", "auto")?;
    create("two", "auto:size=1000")?;
    create("three", "auto")?;
    let [one, two, three] = [begin(sandbox, "one")?, begin(sandbox, "two")?, begin(sandbox, "three")?];
    ensure!(two >= one + 65_536 && three >= two + 1000, "{one}, {two} and {three} overlap");
    same!(sandbox.inspect("one")?["HostConfig"]["UsernsMode"], "auto");
    let map = sandbox.ok(["start", "-a", "two"])?;
    same!(map.split_whitespace().collect::<Vec<_>>(), ["0", two.to_string().as_str(), "1000"]);
    // What one leaves, the next one gets; a container keeps its range from start to start.
    sandbox.ok(["rm", "one"])?;
    create("four", "auto:size=65536")?;
    same!(begin(sandbox, "four")?, one);
    same!(sandbox.ok(["start", "-a", "two"])?, map);
    let forced = ["--network", "none", "--userns", "auto:size=10,uidmapping=3:7:2"];
    let map = sandbox.busybox(
        &forced,
        "awk '{print $1, $3}' /proc/self/uid_map; id -u; awk 'NR == 2 {print $2}' /proc/self/uid_map",
    )?;
    same!(map, "0 3\n3 2\n5 5\n0\n7");
    Ok(())
}

fn files_have_the_containers_owners(sandbox: &Sandbox) -> Result<()> {
    sandbox.load("busybox")?;
    let script = "stat -c %u:%g / /bin/busybox /etc/hosts /etc/resolv.conf /dev/shm; echo x > /root/mine; chown 7:8 /root/mine; \
                  echo 127.0.0.9 me >> /etc/hosts && echo written; mkdir /home/new; stat -c %u:%g /root/mine /home/new; sleep 1000";
    let id = sandbox.detached(&["--name", "box", "--network", "none", "--userns", "auto"], script)?;
    let log = sandbox.wait_for_log("box", "written\n7:8\n0:0\n")?;
    same!(log, "0:0\n0:0\n0:0\n0:0\n0:0\nwritten\n7:8\n0:0\n");
    // Its processes are nobody's of the host.
    let process = std::fs::metadata(format!("/proc/{}", sandbox.pid("box")?))?;
    same!(process.uid(), begin(sandbox, "box")?);
    // Further ones are where it is.
    same!(sandbox.ok(["exec", "box", "sh", "-c", "id -u; stat -c %u:%g /root/mine"])?, "0\n7:8");
    same!(sandbox.ok(["exec", "-u", "7", "box", "cat", "/root/mine"]).is_err(), true, "/root is root's");
    same!(sandbox.ok(["exec", "-u", "1000:1000", "box", "id", "-u"])?, "1000");
    // On the disk, and in images and archives of it, its files keep the ids that it sees.
    let kept = std::fs::metadata(sandbox.path("data").join("containers").join(&id).join("upper/root/mine"))?;
    same!((kept.uid(), kept.gid()), (7, 8));
    contains!(sandbox.ok(["diff", "box"])?, "A /root/mine");
    sandbox.ok(["commit", "box", "became"])?;
    let owner = sandbox.ok(["run", "--rm", "--network", "none", "became", "stat", "-c", "%u:%g", "/root/mine"])?;
    same!(owner, "7:8");
    let again = ["run", "--rm", "--network", "none", "--userns", "auto", "became", "stat", "-c", "%u:%g", "/root/mine"];
    same!(sandbox.ok(again)?, "7:8");
    sandbox.ok(["restart", "-t", "0", "box"])?;
    same!(sandbox.ok(["exec", "box", "stat", "-c", "%u:%g", "/root/mine"])?, "7:8");
    // Written from outside, where it may be lowered, too.
    let score = ["--network", "none", "--userns", "auto", "--oom-score-adj", "300"];
    same!(sandbox.busybox(&score, "cat /proc/self/oom_score_adj")?, "300");
    Ok(())
}

fn volumes_and_binds(sandbox: &Sandbox) -> Result<()> {
    sandbox.load("busybox")?;
    // A volume is the same for containers with different ids, and has the ids that they see.
    let options = ["--network", "none", "--userns", "auto", "-v", "data:/data"];
    sandbox.busybox(&options, "echo x > /data/file && chown 3:4 /data/file && mkdir /data/sub")?;
    same!(sandbox.busybox(&["--network", "none", "-v", "data:/data"], "stat -c %u:%g /data/file")?, "3:4");
    sandbox.ok(["create", "--name", "spacer", "--network", "none", "--userns", "auto", "busybox"])?;
    same!(sandbox.busybox(&options, "stat -c %u:%g /data /data/file; cat /data/file")?, "0:0\n3:4\nx");
    let part =
        ["--network", "none", "--userns", "auto", "--mount", "type=volume,src=data,dst=/part,volume-subpath=sub"];
    same!(sandbox.busybox(&part, "stat -c %u:%g /part; touch /part/x && stat -c %u /part/x")?, "0:0\n0");
    let image = ["--network", "none", "--userns", "auto", "--mount", "type=image,src=busybox,dst=/other"];
    same!(sandbox.busybox(&image, "stat -c %u:%g /other/bin/busybox")?, "0:0");
    let image =
        ["--network", "none", "--userns", "auto", "--mount", "type=image,src=busybox,dst=/other,image-subpath=bin"];
    same!(sandbox.busybox(&image, "stat -c %u:%g /other/busybox")?, "0:0");
    // What is the host's stays the host's, unless it is said.
    let file = sandbox.file("shared/file", "x")?;
    let directory = sandbox.path("files/shared");
    chown(&directory, Some(0), Some(0))?;
    chown(&file, Some(5), Some(6))?;
    let plain = format!("{}:/host", directory.display());
    same!(
        sandbox.busybox(&["--network", "none", "--userns", "auto", "-v", &plain], "stat -c %u:%g /host/file")?,
        "65534:65534"
    );
    let mapped = format!("{}:/host:idmap", directory.display());
    let script = "stat -c %u:%g /host/file; touch /host/new";
    same!(sandbox.busybox(&["--network", "none", "--userns", "auto", "-v", &mapped], script)?, "5:6");
    same!(std::fs::metadata(directory.join("new"))?.uid(), 0);
    let long = format!("type=bind,src={},dst=/host,idmap", directory.display());
    same!(
        sandbox.busybox(&["--network", "none", "--userns", "auto", "--mount", &long], "stat -c %u:%g /host/file")?,
        "5:6"
    );
    sandbox
        .dhow(["create", "-v", &mapped, "busybox"])?
        .fails(1, &["idmap on /host needs a container with ids of its own"])?;
    // Secrets are the container's user's.
    sandbox.dhow_with_input("word", ["secret", "create", "word", "-"])?.success()?;
    let secret = ["--network", "none", "--userns", "auto", "--secret", "word,uid=7,gid=8,mode=0400"];
    same!(sandbox.busybox(&secret, "stat -c %u:%g:%a /run/secrets/word; cat /run/secrets/word")?, "7:8:400\nword");
    let far = ["create", "--userns", "auto:size=5", "--secret", "word,uid=7", "--name", "far", "busybox"];
    sandbox.ok(far)?;
    sandbox.dhow(["start", "far"])?.fails(1, &["secret word is to belong to 7:0"])
}

fn maps_by_hand(sandbox: &Sandbox) -> Result<()> {
    sandbox.load("busybox")?;
    let words = |text: String| text.split_whitespace().collect::<Vec<_>>().join(" ");
    let script = "cat /proc/self/uid_map /proc/self/gid_map; stat -c %u:%g /bin/busybox";
    let maps = sandbox.busybox(&["--network", "none", "--userns", "0:200000:65536"], script)?;
    same!(words(maps), "0 200000 65536 0 200000 65536 0:0");
    let maps = sandbox.busybox(&["--network", "none", "--userns", "0:200000:1000,1000:5000:1"], script)?;
    same!(words(maps), "0 200000 1000 1000 5000 1 0 200000 1000 1000 5000 1 0:0");
    let maps = sandbox.busybox(&["--network", "none", "--uidmap", "0:300000:10", "--gidmap", "0:400000:20"], script)?;
    same!(words(maps), "0 300000 10 0 400000 20 0:0");
    let maps = sandbox.busybox(&["--network", "none", "--uidmap", "0:300000:10"], script)?;
    same!(words(maps), "0 300000 10 0 300000 10 0:0");
    // A range as a user of the machine has it.
    let file = std::fs::read_to_string("/etc/subuid").unwrap_or_default();
    let own = file.lines().map(|line| line.split(':').collect::<Vec<_>>()).find(|fields| fields.len() == 3);
    if let Some([name, first, count]) = own.as_deref() {
        let maps = sandbox.busybox(&["--network", "none", "--subuidname", name], "head -n 1 /proc/self/uid_map")?;
        same!(words(maps), format!("0 {first} {count}"));
    }
    // On a network, with another container's network, and with everything of the host's that there is.
    sandbox.detached(&["--name", "box", "--userns", "auto"], "sleep 1000")?;
    contains!(sandbox.ok(["exec", "box", "ip", "addr"])?, "eth0");
    let joined = ["--network", "container:box", "--userns", "auto"];
    contains!(sandbox.busybox(&joined, "ip addr; echo here")?, "here");
    let host = ["--network", "host", "--pid", "host", "--ipc", "host", "--uts", "host", "--userns", "auto"];
    same!(sandbox.busybox(&host, "id -u; echo here")?, "0\nhere");
    let terminal = ["run", "--rm", "-t", "--network", "none", "--userns", "auto", "--read-only", "busybox", "tty"];
    same!(sandbox.ok(terminal)?.trim(), "/dev/pts/0");
    let privileged = ["--privileged", "--network", "none", "--userns", "auto"];
    same!(sandbox.busybox(&privileged, "mount -t tmpfs none /home && echo mounted")?, "mounted");
    Ok(())
}

fn root_keeps_its_id(sandbox: &Sandbox) -> Result<()> {
    sandbox.load("busybox")?;
    let words = |text: String| text.split_whitespace().collect::<Vec<_>>().join(" ");
    let own = std::fs::read_link("/proc/self/ns/user")?.display().to_string();
    let options = ["--network", "none", "--userns", "keep-id"];
    let seen =
        sandbox.busybox(&options, "cat /proc/self/uid_map; readlink /proc/self/ns/user; stat -c %u /bin/busybox")?;
    ensure!(!seen.contains(&own), "it is the host's: {seen}");
    ensure!(words(seen.clone()).starts_with("0 0 4294967295") && seen.ends_with("\n0"), "{seen}");
    // As somebody else, whose files are those of the host's root.
    let file = sandbox.file("mine/file", "x")?;
    chown(&file, Some(0), Some(0))?;
    let mount = format!("{}:/mine", sandbox.path("files/mine").display());
    let script = "id -u; id -g; stat -c %u:%g /mine/file /bin/busybox";
    let seen =
        sandbox.busybox(&["--network", "none", "--userns", "keep-id:uid=1000,gid=1001", "-v", &mount], script)?;
    same!(seen, "1000\n1001\n1000:1001\n0:0");
    sandbox.dhow(["create", "--userns", "nomap", "busybox"])?.fails(1, &["--userns nomap", "root of the machine"])
}

fn copying_while_it_runs(sandbox: &Sandbox) -> Result<()> {
    sandbox.load("busybox")?;
    sandbox.detached(&["--name", "box", "--network", "none", "--userns", "auto", "-v", "/volume"], "sleep 1000")?;
    let file = sandbox.file("in/file", "text")?;
    chown(&file, Some(3), Some(4))?;
    let directory = sandbox.path("files/in");
    for place in ["/root", "/volume", "/dev/shm"] {
        sandbox.ok(["cp", "-a", &directory.display().to_string(), &format!("box:{place}/dir")])?;
        let found = sandbox.ok([
            "exec",
            "box",
            "stat",
            "-c",
            "%u:%g",
            &format!("{place}/dir"),
            &format!("{place}/dir/file"),
        ])?;
        same!(found, "0:0\n3:4", "{place}");
        sandbox.ok(["exec", "box", "sh", "-c", &format!("echo more >> {place}/dir/file")])?;
        let out = sandbox.path("files").join(format!("out{}", place.replace('/', "-")));
        sandbox.ok(["cp", "-a", &format!("box:{place}/dir"), &out.display().to_string()])?;
        let status = std::fs::metadata(out.join("file"))?;
        same!((status.uid(), status.gid(), status.len()), (3, 4, 9), "{place}");
    }
    // Made of nothing, in directories that are not there.
    sandbox.ok(["cp", &file, "box:/new-name"])?;
    same!(sandbox.ok(["exec", "box", "stat", "-c", "%u", "/new-name"])?.len(), 1);
    sandbox.ok(["stop", "-t", "0", "box"])?;
    sandbox.ok(["cp", &file, "box:/stopped"])?;
    sandbox.ok(["start", "box"])?;
    same!(sandbox.ok(["exec", "box", "stat", "-c", "%u:%g", "/stopped", "/root/dir/file"])?, "3:4\n3:4");
    Ok(())
}

fn a_killed_engine_loses_no_range(sandbox: &Sandbox) -> Result<()> {
    sandbox.load("busybox")?;
    let id = sandbox.detached(&["--rm", "--network", "none", "--userns", "auto"], "sleep 1000")?;
    let first = begin(sandbox, &id)?;
    let state: Value =
        serde_json::from_slice(&std::fs::read(sandbox.path("run/containers").join(&id).join("state.json"))?)?;
    let monitor = state["monitor_pid"].as_i64().and_then(|pid| rustix::process::Pid::from_raw(pid as i32));
    rustix::process::kill_process(monitor.context("no monitor")?, rustix::process::Signal::KILL)?;
    host::until("swept", sandbox.seconds(10), || Ok(sandbox.ok(["ps", "-aq"])?.is_empty().then_some(())))?;
    sandbox.ok(["create", "--name", "next", "--network", "none", "--userns", "auto", "busybox"])?;
    same!(begin(sandbox, "next")?, first);
    same!(sandbox.dhow(["system", "check"])?.code, 0);
    Ok(())
}

fn modes_that_are_refused(sandbox: &Sandbox) -> Result<()> {
    sandbox.load("busybox")?;
    for (flags, error) in [
        (&["--userns", "nosuch"][..], "--userns: invalid USER mode: nosuch"),
        (&["--userns", "auto:size=0"], "size \"0\" is no number of ids"),
        (&["--userns", "auto:color=red"], "unknown option \"color\""),
        (&["--userns", "0:1:2,1:9:4"], "the maps 0:1:2 and 1:9:4 overlap"),
        (&["--userns", "5:1:2"], "leaves out 0"),
        (&["--userns", "container:x"], "is not supported"),
        (&["--userns", "private"], "needs --uidmap"),
        (&["--userns", "auto", "--uidmap", "0:1:2"], "exclude each other"),
        (&["--uidmap", "x"], "\"x\" is no map of ids"),
        (&["--subuidname", "nobody-has-this-name"], "/etc/subuid has no ids for that name"),
    ] {
        let words = [&["create"], flags, &["busybox", "true"]].concat();
        sandbox.dhow(words)?.fails(1, &[error])?;
    }
    same!(sandbox.ok(["ps", "-aq"])?, "");
    Ok(())
}

fn users_without_a_range_are_told_why(sandbox: &Sandbox) -> Result<()> {
    sandbox.load("busybox")?;
    for mode in ["auto", "keep-id", "nomap", "0:1:100"] {
        let mut command = sandbox.command(["create", "--userns", mode, "busybox", "true"]);
        // Without newuidmap there is one id, whatever /etc/subuid has.
        command.env("PATH", sandbox.path("files"));
        sandbox.finish_command(command, "")?.fails(1, &["needs more ids than this user has"])?;
    }
    same!(sandbox.ok(["ps", "-aq"])?, "");
    Ok(())
}

fn a_map_that_changes_nothing(sandbox: &Sandbox) -> Result<()> {
    sandbox.load("busybox")?;
    let options = [&ALONE[..], &["--userns", "0:0:1"]].concat();
    let seen =
        sandbox.busybox(&options, "cat /proc/self/uid_map; stat -c %u:%g /bin/busybox; touch /x && echo made")?;
    same!(seen.split_whitespace().collect::<Vec<_>>(), ["0", "0", "1", "0:0", "made"]);
    Ok(())
}
