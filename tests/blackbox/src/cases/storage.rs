//! What a container can write to: its own layer, bind mounts, volumes, tmpfs.

use anyhow::{Result, ensure};

use crate::case::{cases, contains, same, skip};
use crate::sandbox::Sandbox;

cases![storage:
    own_layer, read_only_root, tmpfs, bind_mount, bind_mount_by_mount_flag, missing_bind_source, file_bind_mount, named_volume,
    bind_options [Root], bad_mounts, tmpfs_options,
    mounts_do_not_reach_the_host, whiteouts_and_replacements, links_cannot_lead_a_mount_outside,
];

fn own_layer(sandbox: &Sandbox) -> Result<()> {
    sandbox.load("busybox")?;
    let id = sandbox.ok([
        "create",
        "--network",
        "none",
        "busybox",
        "sh",
        "-c",
        "ls /new 2>/dev/null; touch /new; rm /etc/group",
    ])?;
    same!(sandbox.ok(["start", "-a", &id])?, "");
    // What was written stays with the container, and stays out of the image.
    same!(sandbox.dhow(["start", "-a", &id])?.stdout, "/new\n");
    same!(sandbox.busybox(&["--network", "none"], "ls /etc/group; ls -d /new 2>/dev/null || true")?, "/etc/group");
    Ok(())
}

fn read_only_root(sandbox: &Sandbox) -> Result<()> {
    sandbox.load("busybox")?;
    let script = "touch /new 2>&1; touch /dev/shm/x && touch /scratch/x && echo elsewhere";
    let text = sandbox.busybox(&["--network", "none", "--read-only", "--tmpfs", "/scratch"], script)?;
    contains!(text, "Read-only file system");
    contains!(text, "elsewhere");
    Ok(())
}

fn tmpfs(sandbox: &Sandbox) -> Result<()> {
    sandbox.load("busybox")?;
    let script = "grep ' /scratch ' /proc/mounts; stat -c %a /scratch; df -k /scratch | tail -n 1 | awk '{print $2}'";
    let text = sandbox.busybox(&["--network", "none", "--tmpfs", "/scratch:size=1m,mode=700"], script)?;
    for wanted in ["tmpfs /scratch tmpfs", "nosuid", "nodev", "noexec", "\n700\n", "\n1024"] {
        contains!(text, wanted);
    }
    let text =
        sandbox.busybox(&["--network", "none", "--mount", "type=tmpfs,destination=/scratch,tmpfs-size=2m"], script)?;
    contains!(text, "\n2048");
    Ok(())
}

fn bind_mount(sandbox: &Sandbox) -> Result<()> {
    sandbox.load("busybox")?;
    sandbox.file("shared/in", "from outside")?;
    let directory = sandbox.path("files/shared");
    let volume = format!("{}:/data", directory.display());
    same!(
        sandbox.busybox(&["--network", "none", "-v", &volume], "cat /data/in; echo inside >/data/out")?,
        "from outside"
    );
    same!(std::fs::read_to_string(directory.join("out"))?, "inside\n");
    let output = sandbox.dhow([
        "run",
        "--rm",
        "--network",
        "none",
        "-v",
        &format!("{volume}:ro"),
        "busybox",
        "touch",
        "/data/x",
    ])?;
    same!(output.code, 1);
    contains!(output.stderr, "Read-only file system");
    Ok(())
}

fn bind_mount_by_mount_flag(sandbox: &Sandbox) -> Result<()> {
    sandbox.load("busybox")?;
    sandbox.file("shared/in", "from outside")?;
    let mount = format!("type=bind,source={},target=/a/new/place,readonly", sandbox.path("files/shared").display());
    same!(
        sandbox.busybox(
            &["--network", "none", "--mount", &mount],
            "cat /a/new/place/in; touch /a/new/place/x 2>/dev/null || true"
        )?,
        "from outside"
    );
    ensure!(!sandbox.path("files/shared/x").exists(), "written through a read-only mount");
    Ok(())
}

fn missing_bind_source(sandbox: &Sandbox) -> Result<()> {
    sandbox.load("busybox")?;
    let missing = sandbox.path("files/missing");
    let mount = format!("type=bind,src={},dst=/data", missing.display());
    sandbox
        .dhow(["run", "--rm", "--network", "none", "--mount", &mount, "busybox", "true"])?
        .fails(125, &[&missing.to_string_lossy()])?;
    // The short form makes a directory.
    sandbox.busybox(&["--network", "none", "-v", &format!("{}:/data", missing.display())], "test -d /data")?;
    ensure!(missing.is_dir(), "-v made no directory");
    sandbox.dhow(["run", "--rm", "-v", "/tmp:relative", "busybox", "true"])?.fails(125, &["relative"])
}

fn file_bind_mount(sandbox: &Sandbox) -> Result<()> {
    sandbox.load("busybox")?;
    let file = sandbox.file("one", "of its own\n")?;
    let options = ["--network", "none", "-v", &format!("{file}:/etc/one:ro")];
    same!(sandbox.busybox(&options, "cat /etc/one")?, "of its own");
    Ok(())
}

fn named_volume(sandbox: &Sandbox) -> Result<()> {
    sandbox.load("busybox")?;
    // A new volume starts with what the image has there.
    same!(
        sandbox.busybox(
            &["--network", "none", "-v", "filled:/etc"],
            "cut -d: -f1 /etc/passwd | head -n 1; echo new >/etc/new"
        )?,
        "root"
    );
    same!(sandbox.busybox(&["--network", "none", "-v", "filled:/elsewhere"], "cat /elsewhere/new")?, "new");
    Ok(())
}

fn mounts_do_not_reach_the_host(sandbox: &Sandbox) -> Result<()> {
    sandbox.load("busybox")?;
    let before = std::fs::read_to_string("/proc/self/mountinfo")?;
    let id = sandbox.detached(&["--network", "none", "--tmpfs", "/scratch"], "echo up; exec sleep 1000")?;
    sandbox.wait_for_log(&id, "up")?;
    same!(std::fs::read_to_string("/proc/self/mountinfo")?, before);
    // Nor do the host's reach the container.
    let inside = std::fs::read_to_string(format!("/proc/{}/mountinfo", sandbox.pid(&id)?))?;
    ensure!(!inside.contains(" /sys/kernel/security ") && !inside.contains(" /home "), "{inside}");
    Ok(())
}

/// Twenty layers, each replacing a file of the one below and removing nine.
fn whiteouts_and_replacements(sandbox: &Sandbox) -> Result<()> {
    sandbox.load("layers20")?;
    let busybox = "/bin/busybox";
    if !std::path::Path::new(busybox).exists() {
        return skip("no /bin/busybox to look into the image with");
    }
    let volume = format!("{busybox}:/busybox:ro");
    let script = "/busybox cat /data/newest; /busybox find /data -type f | /busybox wc -l; /busybox ls /data/07/0 | /busybox head -n 1";
    let text =
        sandbox.ok(["run", "--rm", "--network", "none", "-v", &volume, "layers20", "/busybox", "sh", "-c", script])?;
    same!(text, format!("20\n{}\nfile-009", 20 * 990 - 19 * 9 + 1));
    Ok(())
}

/// CVE-2019-16884, CVE-2021-30465 and their kind: an image's link where something is mounted leads nowhere but inside.
fn links_cannot_lead_a_mount_outside(sandbox: &Sandbox) -> Result<()> {
    sandbox.load("busybox")?;
    let outside = sandbox.path("files/outside");
    std::fs::create_dir_all(&outside)?;
    let script = format!("rm -rf /var/www && ln -s {} /var/www", outside.display());
    let id = sandbox.ok(["create", "--network", "none", "--tmpfs", "/var/www", "busybox", "true"])?;
    sandbox.ok(["rm", &id])?;
    let shared = sandbox.file("shared/text", "inside only")?;
    let volume = format!("{}:/var/www/deep", std::path::Path::new(&shared).parent().unwrap_or(&outside).display());
    let id = sandbox.ok([
        "create",
        "--network",
        "none",
        "-v",
        &volume,
        "busybox",
        "sh",
        "-c",
        &format!("cat {}/deep/text; {script}", outside.display()),
    ])?;
    // The first start lays the link; the second mounts through it.
    drop(sandbox.dhow(["start", "-a", &id])?);
    drop(sandbox.dhow(["start", "-a", &id])?);
    ensure!(std::fs::read_dir(&outside)?.next().is_none(), "something was made outside");
    Ok(())
}

/// What is mounted below a bind mount: there or not, read-only or not.
fn bind_options(sandbox: &Sandbox) -> Result<()> {
    sandbox.load("busybox")?;
    let directory = sandbox.path("files/shared");
    std::fs::create_dir_all(directory.join("below"))?;
    let below = directory.join("below");
    crate::host::succeed(std::process::Command::new("mount").args(["-t", "tmpfs", "below"]).arg(&below))?;
    let source = format!("type=bind,src={},dst=/d", directory.display());
    let look = "touch /d/x 2>/dev/null && echo top; touch /d/below/x 2>/dev/null && echo below; grep -c ' /d/below ' /proc/mounts";
    let run = |options: &str| {
        let mount = format!("{source}{options}");
        let output =
            sandbox.dhow(["run", "--rm", "--network", "none", "--mount", &mount, "busybox", "sh", "-c", look])?;
        Ok::<_, anyhow::Error>(output.stdout.replace('\n', " "))
    };
    let found = [
        run("")?,
        run(",readonly")?,
        run(",readonly,bind-recursive=writable")?,
        run(",readonly,bind-recursive=readonly,bind-propagation=rprivate")?,
        run(",bind-recursive=disabled")?,
        run(",bind-nonrecursive")?,
    ];
    crate::host::succeed(std::process::Command::new("umount").arg(&below))?;
    same!(found, ["top below 1 ", "1 ", "below 1 ", "1 ", "top below 0 ", "top below 0 "]);
    // A missing source is made when that is asked for.
    let missing = sandbox.path("files/missing");
    let mount = format!("type=bind,src={},dst=/d,bind-create-src", missing.display());
    sandbox.busybox(&["--network", "none", "--mount", &mount], "touch /d/made")?;
    ensure!(missing.join("made").exists(), "the source was not made");
    Ok(())
}

fn bad_mounts(sandbox: &Sandbox) -> Result<()> {
    sandbox.load("busybox")?;
    for (mount, error) in [
        ("type=bind,dst=/d", "field Source must not be empty"),
        ("type=bind,src=relative,dst=/d", "mount path must be absolute"),
        ("type=tmpfs,src=/x,dst=/d", "field Source must not be specified"),
        ("type=tmpfs,dst=/d,bind-propagation=shared", "cannot mix 'bind-*' options"),
        ("type=bind,src=/tmp,dst=/d,bind-propagation=sideways", "invalid propagation value"),
        ("type=bind,src=/tmp,dst=/d,bind-recursive=readonly", "requires 'readonly'"),
        ("type=volume,dst=/d,volume-subpath=x", "Subpath"),
        ("type=image,dst=/d", "field Source must not be empty"),
        ("type=image,src=no-such,dst=/d", "No such image: no-such"),
        ("type=cluster,src=x1,dst=/d", "do not exist on this host"),
        ("type=nonsense,dst=/d", "mount type unknown"),
    ] {
        sandbox
            .dhow(["run", "--rm", "--network", "none", "--mount", mount, "busybox", "true"])?
            .fails(125, &[error])?;
    }
    let output = sandbox.dhow(["run", "--rm", "--network", "none", "--storage-opt", "inodes=1", "busybox", "true"])?;
    output.fails(125, &["unknown storage option: inodes"])
}

fn tmpfs_options(sandbox: &Sandbox) -> Result<()> {
    sandbox.load("busybox")?;
    let script =
        "stat -c '%a %u' /d; grep ' /d ' /proc/mounts | grep -o noexec; df -k /d | tail -n 1 | awk '{print $2}'";
    let run = |options: &[&str]| sandbox.busybox(&[&["--network", "none"], options].concat(), script);
    same!(run(&["--mount", "type=tmpfs,dst=/d,tmpfs-size=1m,tmpfs-mode=1770"])?, "1770 0\nnoexec\n1024");
    same!(run(&["--tmpfs", "/d:size=2m,exec,mode=700"])?, "700 0\n2048");
    sandbox.dhow(["run", "--rm", "--network", "none", "--tmpfs", "/d:bogus", "busybox", "true"])?.fails(125, &["bogus"])
}
