//! Volumes: what outlives a container, who fills it, who may remove it.

use anyhow::{Result, ensure};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::process::Stdio;

use crate::case::{cases, contains, same};
use crate::sandbox::Sandbox;

cases![volumes:
    named, anonymous, go_with_the_container, volumes_from, copy_up, copy_up_once, no_copy, subpath, subpath_stays_inside [Root],
    read_only, mount_flag, listing, inspecting, in_use, prune, prune_asks, names, driver_options, driver_bind, inspect_mounts,
    export_and_import, survives_a_kill [Root], set_user_id_is_out_of_reach [Root], a_database,
];

const NET: [&str; 2] = ["--network", "none"];

fn run(sandbox: &Sandbox, options: &[&str], script: &str) -> Result<String> {
    sandbox.busybox(&[&NET[..], options].concat(), script)
}

fn names_of(sandbox: &Sandbox) -> Result<Vec<String>> {
    Ok(sandbox.ok(["volume", "ls", "-q"])?.lines().map(str::to_owned).collect())
}

fn named(sandbox: &Sandbox) -> Result<()> {
    sandbox.load("busybox")?;
    same!(run(sandbox, &["-v", "data:/d"], "echo kept >/d/file; stat -c %a /d")?, "755");
    same!(run(sandbox, &["-v", "data:/elsewhere"], "cat /elsewhere/file")?, "kept");
    same!(names_of(sandbox)?, ["data"]);
    // A name without a meaning for the container's own files.
    same!(run(sandbox, &["-v", "data:/d"], "ls /")?.lines().filter(|name| *name == "elsewhere").count(), 0);
    same!(sandbox.ok(["volume", "rm", "data"])?, "data");
    same!(run(sandbox, &["-v", "data:/d"], "ls /d")?, "");
    Ok(())
}

fn anonymous(sandbox: &Sandbox) -> Result<()> {
    sandbox.load("busybox")?;
    let id =
        sandbox.ok(["create", "--network", "none", "-v", "/d", "busybox", "sh", "-c", "cat /d/x; echo again >/d/x"])?;
    let volumes = names_of(sandbox)?;
    same!(volumes.len(), 1);
    same!(volumes[0].len(), 64);
    sandbox.dhow(["start", "-a", &id])?;
    same!(sandbox.ok(["start", "-a", &id])?, "again");
    sandbox.ok(["rm", &id])?;
    same!(names_of(sandbox)?, volumes, "rm without -v keeps it");
    Ok(())
}

fn go_with_the_container(sandbox: &Sandbox) -> Result<()> {
    sandbox.load("busybox")?;
    run(sandbox, &["-v", "/gone", "-v", "kept:/d"], "touch /gone/x /d/x")?;
    same!(names_of(sandbox)?, ["kept"], "--rm");
    let id = sandbox.ok(["create", "--network", "none", "-v", "/gone", "-v", "kept:/d", "busybox"])?;
    same!(names_of(sandbox)?.len(), 2);
    sandbox.ok(["rm", "-v", &id])?;
    same!(names_of(sandbox)?, ["kept"], "rm -v");
    let id = sandbox.detached(&["--network", "none", "-v", "/gone"], "sleep 1000")?;
    sandbox.ok(["rm", "-f", "-v", &id])?;
    same!(names_of(sandbox)?, ["kept"], "rm -f -v");
    // A start that fails takes back what it made.
    let output = sandbox.dhow(["run", "--rm", "--network", "none", "-v", "/gone", "busybox", "/no/program"])?;
    same!(output.code, 127);
    same!(names_of(sandbox)?, ["kept"]);
    let left: Vec<_> = std::fs::read_dir(sandbox.path("data/volumes"))?.flatten().map(|e| e.file_name()).collect();
    same!(left.iter().filter(|name| name.len() == 64).count(), 0, "{left:?}");
    Ok(())
}

fn volumes_from(sandbox: &Sandbox) -> Result<()> {
    sandbox.load("busybox")?;
    sandbox.file("shared/text", "bound")?;
    let bind = format!("{}:/bound", sandbox.path("files/shared").display());
    sandbox.ok([
        "create",
        "--network",
        "none",
        "--name",
        "first",
        "-v",
        "/anonymous",
        "-v",
        "named:/named",
        "-v",
        &bind,
        "--tmpfs",
        "/t",
        "busybox",
    ])?;
    let script = "cat /bound/text; touch /anonymous/x /named/x && echo; grep -c ' /t ' /proc/mounts";
    let text =
        sandbox.dhow(["run", "--rm", "--network", "none", "--volumes-from", "first", "busybox", "sh", "-c", script])?;
    same!(text.stdout, "bound\n0\n");
    contains!(
        run(sandbox, &["--volumes-from", "first:ro"], "touch /named/y 2>&1; ls /anonymous")?,
        "Read-only file system\nx"
    );
    // The second keeps the anonymous volume in use.
    sandbox.ok(["create", "--network", "none", "--name", "second", "--volumes-from", "first", "busybox"])?;
    sandbox.ok(["rm", "-v", "first"])?;
    same!(names_of(sandbox)?.len(), 2);
    sandbox.ok(["rm", "-v", "second"])?;
    same!(names_of(sandbox)?, ["named"]);
    sandbox
        .dhow(["run", "--rm", "--network", "none", "--volumes-from", "nobody", "busybox"])?
        .fails(125, &["No such container: nobody"])
}

/// An empty volume gets the image's content with its owners, modes, links and times.
fn copy_up(sandbox: &Sandbox) -> Result<()> {
    sandbox.load("busybox")?;
    let list = "cd $1 && find . -exec stat -c '%n %u %g %a %s %h %Y' {} + | sort; readlink $(find . -type l) 2>/dev/null; true";
    let image = run(sandbox, &[], &format!("set -- /etc; {list}"))?;
    // What is generated for each container is in no image.
    let of_image = |text: &str| {
        let own = ["./hosts", "./hostname", "./resolv.conf", ". "];
        text.lines()
            .filter(|line| !own.iter().any(|name| line.starts_with(name)))
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    run(sandbox, &["-v", "etc:/etc"], "true")?;
    let volume = run(sandbox, &["-v", "etc:/x"], &format!("set -- /x; {list}"))?;
    same!(of_image(&volume), of_image(&image));
    // Every name of busybox is one file: the volume has one, too.
    let hosts = sandbox.path("data/volumes/etc/_data");
    same!(std::fs::metadata(&hosts)?.permissions().mode() & 0o7777, 0o755);
    run(sandbox, &["-v", "bin:/bin"], "true")?;
    let links = run(sandbox, &["-v", "bin:/x"], "stat -c %h /x/busybox")?;
    same!(links, run(sandbox, &[], "stat -c %h /bin/busybox")?);
    // The directory's own mode and owner: /tmp is sticky, /root is closed.
    run(sandbox, &["-v", "tmp:/tmp"], "true")?;
    same!(run(sandbox, &["-v", "tmp:/x"], "stat -c %a /x")?, run(sandbox, &[], "stat -c %a /tmp")?);
    Ok(())
}

/// CVE-2020-1726: what is in a volume is never replaced by what an image has.
fn copy_up_once(sandbox: &Sandbox) -> Result<()> {
    sandbox.load("busybox")?;
    run(sandbox, &["-v", "etc:/etc"], "rm -rf /etc/* 2>/dev/null; echo mine >/etc/passwd")?;
    same!(run(sandbox, &["-v", "etc:/etc"], "cat /etc/passwd")?, "mine");
    // One that was emptied by its container stays empty at the container's next start.
    let id = sandbox.ok([
        "create",
        "--network",
        "none",
        "-v",
        "www:/var",
        "busybox",
        "sh",
        "-c",
        "ls /var | wc -l; rm -rf /var/*",
    ])?;
    ensure!(sandbox.ok(["start", "-a", &id])? != "0", "not filled");
    same!(sandbox.ok(["start", "-a", &id])?, "0");
    Ok(())
}

fn no_copy(sandbox: &Sandbox) -> Result<()> {
    sandbox.load("busybox")?;
    same!(run(sandbox, &["-v", "a1:/var:nocopy"], "ls /var")?, "");
    same!(run(sandbox, &["--mount", "src=a2,dst=/var,volume-nocopy"], "ls /var")?, "");
    ensure!(!run(sandbox, &["--mount", "src=a3,dst=/var"], "ls /var")?.is_empty(), "not filled");
    Ok(())
}

fn subpath(sandbox: &Sandbox) -> Result<()> {
    sandbox.load("busybox")?;
    run(sandbox, &["-v", "data:/d"], "mkdir -p /d/a/b; echo deep >/d/a/b/c")?;
    same!(run(sandbox, &["--mount", "src=data,dst=/x,volume-subpath=a/b"], "cat /x/c; ls /x")?, "deep\nc");
    same!(run(sandbox, &["--mount", "src=data,dst=/x,volume-subpath=a/b/c"], "cat /x")?, "deep");
    let output = sandbox.dhow([
        "run",
        "--rm",
        "--network",
        "none",
        "--mount",
        "src=data,dst=/x,volume-subpath=no",
        "busybox",
        "true",
    ])?;
    // Docker's client makes 127 of these words.
    output.fails(127, &["cannot access path", "data/_data/no: no such file or directory"])?;
    for bad in ["../x", "/etc", "a/../../x"] {
        let mount = format!("src=data,dst=/x,volume-subpath={bad}");
        sandbox
            .dhow(["run", "--rm", "--network", "none", "--mount", &mount, "busybox", "true"])?
            .fails(125, &["subpath"])?;
    }
    Ok(())
}

/// CVE-2017-1002101, CVE-2021-25741: a link that a container has put into the volume leads nowhere outside of it.
fn subpath_stays_inside(sandbox: &Sandbox) -> Result<()> {
    sandbox.load("busybox")?;
    let secret = sandbox.file("outside/secret", "of the host")?;
    let outside = sandbox.path("files/outside");
    run(
        sandbox,
        &["-v", "data:/d"],
        &format!("ln -s {} /d/link; ln -s ../../../../../../{} /d/up", outside.display(), outside.display()),
    )?;
    for link in ["link", "up"] {
        let mount = format!("src=data,dst=/x,volume-subpath={link}");
        let output =
            sandbox.dhow(["run", "--rm", "--network", "none", "--mount", &mount, "busybox", "cat", "/x/secret"])?;
        ensure!(output.code != 0 && !output.stdout.contains("of the host"), "{}", output.stdout);
    }
    same!(std::fs::read_to_string(secret)?, "of the host");
    Ok(())
}

fn read_only(sandbox: &Sandbox) -> Result<()> {
    sandbox.load("busybox")?;
    run(sandbox, &["-v", "data:/d"], "touch /d/x")?;
    for options in [["-v", "data:/d:ro"], ["--mount", "src=data,dst=/d,readonly"]] {
        contains!(run(sandbox, &options, "touch /d/y 2>&1; ls /d")?, "Read-only file system\nx");
    }
    sandbox
        .dhow(["run", "--rm", "--network", "none", "-v", "data:/d:bogus", "busybox"])?
        .fails(125, &["invalid mode: bogus"])
}

fn mount_flag(sandbox: &Sandbox) -> Result<()> {
    sandbox.load("busybox")?;
    let mount = "type=volume,src=data,dst=/d,volume-label=a=b,volume-driver=local";
    run(sandbox, &["--mount", mount], "touch /d/x")?;
    same!(sandbox.ok(["volume", "inspect", "-f", "{{json .Labels}} {{.Driver}}", "data"])?, "{\"a\":\"b\"} local");
    sandbox
        .dhow(["run", "--rm", "--network", "none", "--mount", "src=x1,dst=/d,volume-driver=no-such", "busybox"])?
        .fails(125, &["no-such"])?;
    sandbox
        .dhow(["run", "--rm", "--network", "none", "-v", "x2:/d", "-v", "x3:/d", "busybox"])?
        .fails(125, &["Duplicate mount point: /d"])?;
    sandbox
        .dhow(["run", "--rm", "--network", "none", "--mount", "type=volume,src=x4", "busybox"])?
        .fails(125, &["target is required"])?;
    sandbox.dhow(["run", "--rm", "--network", "none", "-v", "x5:/proc", "busybox"])?.fails(125, &["/proc"])?;
    same!(names_of(sandbox)?, ["data"]);
    Ok(())
}

fn listing(sandbox: &Sandbox) -> Result<()> {
    same!(sandbox.ok(["volume", "ls"])?, "DRIVER    VOLUME NAME");
    sandbox.ok(["volume", "create", "--label", "tier=db", "bb"])?;
    sandbox.ok(["volume", "create", "aa"])?;
    same!(sandbox.ok(["volume", "ls"])?, "DRIVER    VOLUME NAME\nlocal     aa\nlocal     bb");
    same!(sandbox.ok(["volume", "ls", "-q", "-f", "label=tier"])?, "bb");
    same!(sandbox.ok(["volume", "ls", "-q", "-f", "label!=tier"])?, "aa");
    same!(sandbox.ok(["volume", "ls", "-q", "-f", "name=a"])?, "aa");
    same!(sandbox.ok(["volume", "ls", "-q", "-f", "driver=other"])?, "");
    same!(
        sandbox.ok(["volume", "list", "--format", "{{.Name}}:{{.Label \"tier\"}}:{{.Scope}}"])?,
        "aa::local\nbb:db:local"
    );
    sandbox.load("busybox")?;
    sandbox.ok(["create", "--network", "none", "-v", "aa:/d", "busybox"])?;
    same!(sandbox.ok(["volume", "ls", "-q", "-f", "dangling=true"])?, "bb");
    same!(sandbox.ok(["volume", "ls", "-q", "-f", "dangling=0"])?, "aa");
    sandbox.dhow(["volume", "ls", "-f", "bogus=1"])?.fails(1, &["invalid filter 'bogus'"])
}

fn inspecting(sandbox: &Sandbox) -> Result<()> {
    same!(sandbox.ok(["volume", "create", "data"])?, "data");
    same!(sandbox.ok(["volume", "create", "data"])?, "data", "again");
    let template = "{{.Name}} {{.Driver}} {{.Scope}} {{json .Labels}} {{json .Options}} {{.Mountpoint}}";
    let place = sandbox.path("data/volumes/data/_data");
    same!(
        sandbox.ok(["volume", "inspect", "-f", template, "data"])?,
        format!("data local local null null {}", place.display())
    );
    ensure!(place.is_dir(), "the mountpoint is missing");
    same!(sandbox.ok(["inspect", "--type", "volume", "-f", "{{.Name}}", "data"])?, "data");
    let output = sandbox.dhow(["volume", "inspect", "nothing"])?;
    same!(output.stdout, "[]\n");
    output.fails(1, &["get nothing: no such volume"])?;
    let name = sandbox.ok(["volume", "create"])?;
    same!(
        sandbox.ok(["volume", "inspect", "-f", "{{json .Labels}}", &name])?,
        "{\"com.docker.volume.anonymous\":\"\"}"
    );
    Ok(())
}

fn in_use(sandbox: &Sandbox) -> Result<()> {
    sandbox.load("busybox")?;
    let id = sandbox.ok(["create", "--network", "none", "-v", "data:/d", "busybox"])?;
    sandbox.dhow(["volume", "rm", "data"])?.fails(1, &["volume is in use", &id])?;
    sandbox.dhow(["volume", "rm", "-f", "data"])?.fails(1, &["volume is in use"])?;
    sandbox.ok(["rm", &id])?;
    sandbox.ok(["volume", "rm", "data"])?;
    sandbox.dhow(["volume", "rm", "data"])?.fails(1, &["no such volume"])?;
    same!(sandbox.ok(["volume", "rm", "-f", "data"])?, "data");
    Ok(())
}

fn prune(sandbox: &Sandbox) -> Result<()> {
    sandbox.load("busybox")?;
    run(sandbox, &["-v", "named:/d"], "head -c 100000 /dev/zero >/d/x")?;
    let id = sandbox.ok(["create", "--network", "none", "-v", "/used", "busybox"])?;
    let anonymous = sandbox.ok(["volume", "create"])?;
    let text = sandbox.ok(["volume", "prune", "-f"])?;
    same!(text, format!("Deleted Volumes:\n{anonymous}\n\nTotal reclaimed space: 4.096kB"));
    same!(names_of(sandbox)?.len(), 2);
    sandbox.ok(["volume", "create", "--label", "keep", "kept"])?;
    let text = sandbox.ok(["volume", "prune", "-af", "--filter", "label!=keep"])?;
    contains!(text, "Deleted Volumes:\nnamed\n");
    ensure!(!text.ends_with(": 0B"), "{text}");
    sandbox.ok(["rm", "-v", &id])?;
    same!(names_of(sandbox)?, ["kept"]);
    same!(sandbox.ok(["volume", "prune", "-f"])?, "Total reclaimed space: 0B");
    Ok(())
}

fn prune_asks(sandbox: &Sandbox) -> Result<()> {
    let name = sandbox.ok(["volume", "create"])?;
    let output = sandbox.dhow_with_input("n\n", ["volume", "prune"])?;
    contains!(output.stdout, "WARNING! This will remove anonymous local volumes not used by at least one container.");
    contains!(output.stdout, "Are you sure you want to continue? [y/N]");
    same!(output.code, 0);
    same!(names_of(sandbox)?, [name.as_str()]);
    contains!(sandbox.dhow_with_input("y\n", ["volume", "prune"])?.stdout, &name);
    same!(names_of(sandbox)?.len(), 0);
    Ok(())
}

fn names(sandbox: &Sandbox) -> Result<()> {
    sandbox.load("busybox")?;
    sandbox.dhow(["volume", "create", "x"])?.fails(1, &["volume name is too short"])?;
    for bad in ["a/b", ".hidden", "a b", "../x"] {
        sandbox.dhow(["volume", "create", bad])?.fails(1, &["includes invalid characters for a local volume name"])?;
    }
    sandbox
        .dhow(["run", "--rm", "--network", "none", "-v", "a/b:/d", "busybox"])?
        .fails(125, &["includes invalid characters"])?;
    sandbox
        .dhow(["run", "--rm", "--network", "none", "-v", "x:/d", "busybox"])?
        .fails(125, &["volume name is too short"])?;
    sandbox.dhow(["volume", "create", "-d", "nfs", "data"])?.fails(1, &["plugin \"nfs\" not found"])?;
    same!(names_of(sandbox)?.len(), 0);
    Ok(())
}

fn driver_options(sandbox: &Sandbox) -> Result<()> {
    sandbox.load("busybox")?;
    sandbox.ok(["volume", "create", "-o", "type=tmpfs", "-o", "device=tmpfs", "-o", "o=size=1m,mode=700", "memory"])?;
    let text = run(
        sandbox,
        &["-v", "memory:/d:nocopy"],
        "grep ' /d ' /proc/mounts; df -k /d | tail -n 1 | awk '{print $2}'; stat -c %a /d",
    )?;
    contains!(text, "tmpfs /d tmpfs");
    contains!(text, "\n1024\n700");
    sandbox.dhow(["volume", "create", "-o", "bogus=1", "bad"])?.fails(1, &["invalid option: \"bogus\""])?;
    sandbox.dhow(["volume", "create", "-o", "type=nfs", "bad"])?.fails(1, &["missing required option: \"device\""])?;
    sandbox.dhow(["volume", "create", "-o", "size=1x", "bad"])?.fails(1, &["invalid size: '1x'"])?;
    same!(names_of(sandbox)?, ["memory"]);
    same!(
        sandbox.ok(["volume", "inspect", "-f", "{{json .Options}}", "memory"])?,
        "{\"device\":\"tmpfs\",\"o\":\"size=1m,mode=700\",\"type\":\"tmpfs\"}"
    );
    Ok(())
}

/// A volume that is a directory of the host, filled from the image as any other.
fn driver_bind(sandbox: &Sandbox) -> Result<()> {
    sandbox.load("busybox")?;
    let directory = sandbox.path("files/host");
    std::fs::create_dir_all(&directory)?;
    let device = format!("device={}", directory.display());
    sandbox.ok(["volume", "create", "-o", "type=none", "-o", "o=bind", "-o", &device, "data"])?;
    run(sandbox, &["-v", "data:/etc"], "echo inside >/etc/out")?;
    same!(std::fs::read_to_string(directory.join("out"))?, "inside\n");
    ensure!(directory.join("passwd").exists(), "not filled");
    sandbox.ok(["volume", "rm", "data"])?;
    ensure!(directory.join("passwd").exists(), "the host's directory was removed");
    sandbox.ok(["volume", "create", "-o", "type=none", "-o", "o=bind,ro", "-o", &device, "sealed"])?;
    same!(run(sandbox, &["-v", "sealed:/d"], "cat /d/out; touch /d/no 2>/dev/null || echo sealed")?, "inside\nsealed");
    let missing = format!("device={}/missing", directory.display());
    sandbox.ok(["volume", "create", "-o", "type=none", "-o", "o=bind", "-o", &missing, "lost"])?;
    sandbox
        .dhow(["run", "--rm", "--network", "none", "-v", "lost:/d", "busybox"])?
        .fails(125, &["failed to mount local volume"])
}

fn inspect_mounts(sandbox: &Sandbox) -> Result<()> {
    sandbox.load("busybox")?;
    let id = sandbox.ok(["create", "--network", "none", "-v", "data:/d", "-v", "ro:/r:ro", "busybox"])?;
    let seen = sandbox.inspect(&id)?;
    let place = sandbox.path("data/volumes/data/_data");
    let expected = serde_json::json!([
        {"Type": "volume", "Name": "data", "Source": place, "Destination": "/d", "Driver": "local", "Mode": "z", "RW": true, "Propagation": ""},
        {"Type": "volume", "Name": "ro", "Source": sandbox.path("data/volumes/ro/_data"), "Destination": "/r", "Driver": "local",
         "Mode": "ro", "RW": false, "Propagation": ""},
    ]);
    same!(seen["Mounts"], expected);
    same!(seen["HostConfig"]["Binds"], serde_json::json!(["data:/d", "ro:/r:ro"]));
    same!(sandbox.ok(["ps", "-a", "--format", "{{.Mounts}} {{.LocalVolumes}}"])?, "data,ro 2");
    same!(sandbox.ok(["ps", "-aq", "--no-trunc", "--filter", "volume=data"])?, id);
    Ok(())
}

fn export_and_import(sandbox: &Sandbox) -> Result<()> {
    sandbox.load("busybox")?;
    run(
        sandbox,
        &["-v", "data:/d"],
        "mkdir -p /d/a; echo text >/d/a/b; ln /d/a/b /d/hard; ln -s a /d/soft; chmod 4755 /d/hard; chown 12:34 /d/a",
    )?;
    let archive = sandbox.path("files/backup.tar");
    let archive = archive.to_string_lossy();
    sandbox.ok(["volume", "export", "-o", &archive, "data"])?;
    sandbox.ok(["volume", "create", "copy"])?;
    sandbox.ok(["volume", "import", "copy", &archive])?;
    let list = "cd /d && find . -exec stat -c '%n %u %g %a %h %F' {} + | sort; cat hard; readlink soft";
    let original = run(sandbox, &["-v", "data:/d"], list)?;
    contains!(original, "./hard 0 0 4755 2 regular file");
    contains!(original, "./a 12 34 755");
    same!(run(sandbox, &["-v", "copy:/d"], list)?, original);
    sandbox.dhow(["volume", "import", "copy", "/no/such"])?.fails(1, &["/no/such"])?;
    sandbox.dhow(["volume", "export", "nothing"])?.fails(1, &["no such volume"])
}

/// Killed in the middle of filling a volume: the next user finds it empty or full, never in between.
fn survives_a_kill(sandbox: &Sandbox) -> Result<()> {
    const SCRIPT: &str = "/busybox find /data/19 -type f | /busybox wc -l";
    sandbox.load("layers20")?;
    let busybox = "/bin/busybox";
    if !std::path::Path::new(busybox).exists() {
        return crate::case::skip("no /bin/busybox to look into the image with");
    }
    let program = format!("{busybox}:/busybox:ro");
    let all = ["run", "--rm", "--network", "none", "-v", &program, "layers20", "/busybox", "sh", "-c", SCRIPT];
    let full = sandbox.ok(all)?;
    for (round, delay) in [15_u64, 30, 60, 120].into_iter().enumerate() {
        let volume = format!("data{round}:/data/19");
        let mut command = sandbox.command([
            "create",
            "--network",
            "none",
            "-v",
            &volume,
            "-v",
            &program,
            "--network",
            "none",
            "layers20",
            "/busybox",
        ]);
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
        std::thread::sleep(std::time::Duration::from_millis(delay));
        child.kill()?;
        child.wait()?;
        let run = [
            "run",
            "--rm",
            "--network",
            "none",
            "-v",
            &volume,
            "-v",
            &program,
            "layers20",
            "/busybox",
            "sh",
            "-c",
            SCRIPT,
        ];
        same!(sandbox.ok(run)?, full, "killed after {delay} ms");
        let inside: Vec<_> = std::fs::read_dir(sandbox.path(&format!("data/volumes/data{round}")))?
            .flatten()
            .map(|e| e.file_name())
            .collect();
        same!(inside, ["_data"]);
    }
    Ok(())
}

/// CVE-2021-41091: a set-user-id program in a volume cannot be reached by the machine's users.
fn set_user_id_is_out_of_reach(sandbox: &Sandbox) -> Result<()> {
    sandbox.load("busybox")?;
    run(sandbox, &["-v", "data:/d"], "cp /bin/busybox /d/su && chmod 4755 /d/su")?;
    let mode = std::fs::metadata(sandbox.path("data/volumes"))?.mode();
    same!(mode & 0o077, 0);
    Ok(())
}

/// A database's files outlive its container, with the image's owner and mode on the volume.
fn a_database(sandbox: &Sandbox) -> Result<()> {
    sandbox.load("busybox")?;
    let script = "if [ -e /var/db/log ]; then cat /var/db/log; else echo first >/var/db/log; sync; fi";
    let run = |name: &str| {
        sandbox.ok(["run", "--name", name, "--network", "none", "-v", "db:/var/db", "busybox", "sh", "-c", script])
    };
    same!(run("one")?, "");
    sandbox.ok(["rm", "one"])?;
    same!(run("two")?, "first");
    Ok(())
}
