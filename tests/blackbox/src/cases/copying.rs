//! `cp`: Docker's rules of names, both ways, and nothing that a container does leads it out of the container.

use anyhow::{Context, Result, ensure};
use std::path::Path;
use std::process::{Command, Stdio};

use crate::case::{cases, contains, same};
use crate::host;
use crate::sandbox::Sandbox;

cases![copying:
    names_into_a_container, names_out_of_a_container, refusals, links, owners_and_modes, streams, running, running_memory,
    volumes_of_a_stopped_container, read_only, absolute_links_inside, hostile_archive, swapped_links, magic_links, odd_names,
    nothing_is_run,
];

fn container(sandbox: &Sandbox) -> Result<()> {
    sandbox.load("busybox")?;
    sandbox.ok(["create", "--name", "box", "--network", "none", "busybox", "sleep", "1000"])?;
    Ok(())
}

fn source(sandbox: &Sandbox) -> Result<String> {
    sandbox.file("src/a", "a\n")?;
    sandbox.file("src/sub/b", "b\n")?;
    sandbox.file("file", "f\n")?;
    Ok(sandbox.path("files").to_string_lossy().into_owned())
}

/// The names of a tar stream of `cp`, sorted.
fn names(sandbox: &Sandbox, path: &str) -> Result<Vec<String>> {
    let archive = sandbox.path("files/listing.tar");
    let file = std::fs::File::create(&archive)?;
    let mut command = sandbox.command(["cp", path, "-"]);
    ensure!(command.stdout(file).status()?.success(), "cp {path} -");
    let text = host::succeed(Command::new("tar").arg("-tf").arg(&archive))?;
    let mut names: Vec<String> = text.lines().map(str::to_owned).collect();
    names.sort();
    Ok(names)
}

fn names_into_a_container(sandbox: &Sandbox) -> Result<()> {
    container(sandbox)?;
    let host = source(sandbox)?;
    for (from, to, list) in [
        ("file", "/tmp", "/tmp/file"),
        ("file", "/tmp/", "/tmp/file"),
        ("file", "/tmp/new", "/tmp/new"),
        ("src", "/one", "/one/a /one/sub/b"),
        ("src", "/one", "/one/a /one/src/a /one/src/sub/b /one/sub/b"),
        ("src/.", "/two", "/two/a /two/sub/b"),
        ("src/.", "/two/", "/two/a /two/sub/b"),
        ("src/", "/three/", "/three/a /three/sub/b"),
        ("file", "/one/a", "/one/a"),
    ] {
        sandbox.ok(["cp", &format!("{host}/{from}"), &format!("box:{to}")])?;
        for path in list.split(' ') {
            names(sandbox, &format!("box:{path}")).with_context(|| format!("{from} to {to}: {path}"))?;
        }
    }
    same!(names(sandbox, "box:/two")?, ["two/", "two/a", "two/sub/", "two/sub/b"]);
    same!(names(sandbox, "box:/two/.")?, ["./", "./a", "./sub/", "./sub/b"]);
    same!(names(sandbox, "box:two/sub/b")?, ["b"]);
    // What was copied is there when it runs.
    sandbox.ok(["start", "box"])?;
    same!(sandbox.ok(["exec", "box", "cat", "/one/a", "/two/sub/b"])?, "f\nb");
    Ok(())
}

fn names_out_of_a_container(sandbox: &Sandbox) -> Result<()> {
    container(sandbox)?;
    let host = source(sandbox)?;
    sandbox.ok(["cp", &format!("{host}/src"), "box:/src"])?;
    let exists = |path: &str| Path::new(&format!("{host}/{path}")).exists();
    std::fs::create_dir(format!("{host}/there"))?;
    for (from, to, made) in [
        ("/etc/passwd", "there", "there/passwd"),
        ("/etc/passwd", "there/x", "there/x"),
        ("/src", "there", "there/src/sub/b"),
        ("/src", "copy", "copy/sub/b"),
        ("/src/.", "content", "content/sub/b"),
        ("/src/.", "content/", "content/a"),
        ("/src/a", "file", "file"),
    ] {
        sandbox.ok(["cp", &format!("box:{from}"), &format!("{host}/{to}")])?;
        ensure!(exists(made), "{from} to {to}");
    }
    same!(std::fs::read_to_string(format!("{host}/file"))?, "a\n", "overwritten");
    ensure!(!exists("content/src"), "the content of a directory came with the directory");
    Ok(())
}

fn refusals(sandbox: &Sandbox) -> Result<()> {
    container(sandbox)?;
    let host = source(sandbox)?;
    let file = format!("{host}/file");
    let directory = format!("{host}/src");
    for (from, to, error) in [
        (file.as_str(), "box:/no/", "no such directory"),
        (&file, "box:/no/x", "Could not find the file /no in container box"),
        (&directory, "box:/etc/passwd", "cannot copy directory"),
        ("/no/such/file", "box:/tmp", "lstat /no/such/file: no such file or directory"),
        ("box:/nothing", &host, "Could not find the file /nothing in container box"),
        ("box:/etc", &file, "cannot copy directory"),
        ("box:/etc/passwd", "/no/such/x", "invalid output path: directory \"/no/such\" does not exist"),
        ("/a", "/b", "must specify at least one container source"),
        ("box:/a", "box:/b", "copying between containers is not supported"),
        (&file, "nobody:/x", "No such container: nobody"),
        ("nobody:/x", &host, "No such container: nobody"),
    ] {
        sandbox.dhow(["cp", from, to])?.fails(1, &[error])?;
    }
    // A directory is not replaced by a file of its name, nor the reverse.
    sandbox.ok(["cp", &directory, "box:/x"])?;
    std::fs::create_dir(format!("{host}/other"))?;
    std::fs::write(format!("{host}/other/sub"), "")?;
    sandbox
        .dhow(["cp", &format!("{host}/other/."), "box:/x"])?
        .fails(1, &["cannot overwrite directory with non-directory"])?;
    same!(names(sandbox, "box:/x")?, ["x/", "x/a", "x/sub/", "x/sub/b"]);
    Ok(())
}

fn links(sandbox: &Sandbox) -> Result<()> {
    container(sandbox)?;
    let host = source(sandbox)?;
    std::os::unix::fs::symlink("src", format!("{host}/link"))?;
    sandbox.ok(["cp", &format!("{host}/link"), "box:/one"])?;
    same!(names(sandbox, "box:/one")?, ["one"]);
    sandbox.ok(["cp", "-L", &format!("{host}/link"), "box:/two"])?;
    same!(names(sandbox, "box:/two")?, ["two/", "two/a", "two/sub/", "two/sub/b"]);
    // A link as the destination stands for what it leads to.
    sandbox.ok(["cp", &format!("{host}/src"), "box:/src"])?;
    sandbox.ok(["cp", &format!("{host}/file"), "box:/one"])?;
    same!(names(sandbox, "box:/src/file")?, ["file"]);
    // Out: the link itself, or what it leads to.
    std::fs::create_dir(format!("{host}/out"))?;
    sandbox.ok(["cp", "box:/one", &format!("{host}/out/one")])?;
    ensure!(Path::new(&format!("{host}/out/one")).is_symlink(), "the link was followed");
    sandbox.ok(["cp", "-L", "box:/one", &format!("{host}/out/followed")])?;
    ensure!(Path::new(&format!("{host}/out/followed/a")).is_file(), "the link was not followed");
    sandbox.ok(["cp", "box:/one/", &format!("{host}/out/slash")])?;
    ensure!(Path::new(&format!("{host}/out/slash/a")).is_file(), "the slash did not follow the link");
    Ok(())
}

fn owners_and_modes(sandbox: &Sandbox) -> Result<()> {
    sandbox.load("busybox")?;
    sandbox.ok(["create", "--name", "box", "--network", "none", "-u", "12:34", "busybox", "true"])?;
    let file = sandbox.file("file", "x")?;
    host::succeed(Command::new("chmod").args(["4710", &file]))?;
    host::succeed(Command::new("touch").args(["-d", "2001-02-03 04:05:06 UTC", &file]))?;
    sandbox.ok(["cp", &file, "box:/plain"])?;
    sandbox.ok(["cp", "-a", &file, "box:/archive"])?;
    let list = sandbox.path("files/list.tar");
    ensure!(sandbox.command(["cp", "box:/", "-"]).stdout(std::fs::File::create(&list)?).status()?.success(), "cp / -");
    let text = host::succeed(
        Command::new("tar").args(["--numeric-owner", "--utc", "-tvf"]).arg(&list).args(["./plain", "./archive"]),
    )?;
    let lines: Vec<String> = text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
    ensure!(lines.iter().any(|l| l == "-rws--x--- 12/34 1 2001-02-03 04:05 ./archive"), "{text}");
    ensure!(lines.iter().any(|l| l.starts_with("-rws--x--- ") && l.ends_with(" 2001-02-03 04:05 ./plain")), "{text}");
    // What comes out belongs to whoever asked.
    sandbox.ok(["cp", "box:/archive", &sandbox.path("files/back").to_string_lossy()])?;
    use std::os::unix::fs::MetadataExt;
    let (back, own) = (std::fs::metadata(sandbox.path("files/back"))?, std::fs::metadata(sandbox.path("files"))?);
    same!((back.uid(), back.mode() & 0o7777, back.mtime()), (own.uid(), 0o4710, 981_173_106));
    Ok(())
}

fn streams(sandbox: &Sandbox) -> Result<()> {
    container(sandbox)?;
    let host = source(sandbox)?;
    for (name, flag) in [("plain", "-cf"), ("gzip", "-czf")] {
        let archive = format!("{host}/{name}.tar");
        host::succeed(Command::new("tar").args([flag, &archive, "-C", &host, "src"]))?;
        sandbox.ok(["cp", &format!("{host}/src"), &format!("box:/{name}")])?;
        let mut command = sandbox.command(["cp", "-", &format!("box:/{name}")]);
        let output = command.stdin(std::fs::File::open(&archive)?).output()?;
        ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        same!(names(sandbox, &format!("box:/{name}/src/sub/b"))?, ["b"]);
    }
    let output = sandbox.dhow_with_input("no archive at all, and longer than nothing", ["cp", "-", "box:/tmp"])?;
    output.fails(1, &["archive"])?;
    sandbox
        .dhow_with_input("", ["cp", "-", "box:/missing"])?
        .fails(1, &["destination \"box:/missing\" must be a directory"])
}

fn running(sandbox: &Sandbox) -> Result<()> {
    container(sandbox)?;
    let host = source(sandbox)?;
    sandbox.ok(["start", "box"])?;
    sandbox.ok(["cp", &format!("{host}/src"), "box:/new"])?;
    same!(sandbox.ok(["exec", "box", "cat", "/new/sub/b"])?, "b");
    sandbox.ok(["exec", "box", "sh", "-c", "echo out >/made"])?;
    sandbox.ok(["cp", "box:/made", &format!("{host}/made")])?;
    same!(std::fs::read_to_string(format!("{host}/made"))?, "out\n");
    // Of everything, what the kernel shows of itself is left out: no process, no device of it.
    let all = names(sandbox, "box:/")?;
    ensure!(
        all.iter().any(|name| name == "./proc/") && !all.iter().any(|name| name.starts_with("./proc/1")),
        "proc was copied"
    );
    Ok(())
}

/// What Docker cannot: a running container's memory.
fn running_memory(sandbox: &Sandbox) -> Result<()> {
    sandbox.load("busybox")?;
    let id = sandbox
        .detached(&["--network", "none", "--tmpfs", "/scratch"], "echo text >/scratch/x; echo up; exec sleep 1000")?;
    sandbox.wait_for_log(&id, "up")?;
    let out = sandbox.path("files/x");
    sandbox.ok(["cp", &format!("{id}:/scratch/x"), &out.to_string_lossy()])?;
    same!(std::fs::read_to_string(&out)?, "text\n");
    sandbox.ok(["cp", &out.to_string_lossy(), &format!("{id}:/scratch/y")])?;
    same!(sandbox.ok(["exec", &id, "cat", "/scratch/y"])?, "text");
    Ok(())
}

fn volumes_of_a_stopped_container(sandbox: &Sandbox) -> Result<()> {
    sandbox.load("busybox")?;
    sandbox.file("shared/text", "bound\n")?;
    let bind = format!("{}:/bound:ro", sandbox.path("files/shared").display());
    sandbox.ok([
        "create",
        "--name",
        "box",
        "--network",
        "none",
        "-v",
        "data:/deep/data",
        "-v",
        &bind,
        "busybox",
        "true",
    ])?;
    let file = sandbox.file("file", "f\n")?;
    sandbox.ok(["cp", &file, "box:/deep/data/x"])?;
    same!(std::fs::read_to_string(sandbox.path("data/volumes/data/_data/x"))?, "f\n");
    same!(names(sandbox, "box:/deep")?, ["deep/", "deep/data/", "deep/data/x"]);
    same!(names(sandbox, "box:/bound")?, ["bound/", "bound/text"]);
    sandbox.dhow(["cp", &file, "box:/bound/x"])?.fails(1, &["read-only"])?;
    same!(std::fs::read_dir(sandbox.path("files/shared"))?.count(), 1);
    Ok(())
}

fn read_only(sandbox: &Sandbox) -> Result<()> {
    sandbox.load("busybox")?;
    sandbox.ok([
        "create",
        "--name",
        "box",
        "--network",
        "none",
        "--read-only",
        "-v",
        "data:/d",
        "busybox",
        "sleep",
        "1000",
    ])?;
    let file = sandbox.file("file", "f\n")?;
    for _ in 0..2 {
        sandbox.dhow(["cp", &file, "box:/x"])?.fails(1, &["read-only"])?;
        sandbox.ok(["cp", &file, "box:/d/x"])?;
        sandbox.dhow(["start", "box"])?;
    }
    Ok(())
}

/// What the fix of CVE-2026-41568 broke elsewhere: absolute links inside of the container are good.
fn absolute_links_inside(sandbox: &Sandbox) -> Result<()> {
    sandbox.load("busybox")?;
    let script = "mkdir -p /real/deep; ln -s /real /abs; ln -s ../../../../../real /up; echo up; exec sleep 1000";
    let id = sandbox.detached(&["--network", "none"], script)?;
    sandbox.wait_for_log(&id, "up")?;
    let file = sandbox.file("file", "f\n")?;
    for state in ["running", "stopped"] {
        for path in ["/abs/deep/one", "/up/deep/two"] {
            sandbox.ok(["cp", &file, &format!("{id}:{path}-{state}")])?;
        }
        sandbox.ok(["stop", "-t", "0", &id])?;
    }
    let all = names(sandbox, &format!("{id}:/real/deep"))?;
    same!(all, ["deep/", "deep/one-running", "deep/one-stopped", "deep/two-running", "deep/two-stopped"]);
    Ok(())
}

/// An archive with `..` and links in it stays where it is unpacked, on both sides.
fn hostile_archive(sandbox: &Sandbox) -> Result<()> {
    container(sandbox)?;
    let outside = sandbox.path("files/outside");
    std::fs::create_dir_all(&outside)?;
    let work = sandbox.path("files/work");
    std::fs::create_dir_all(work.join("d"))?;
    std::fs::write(work.join("x"), "evil")?;
    let tar = |name: &str, arguments: &[&str]| {
        let archive = sandbox.path(&format!("files/{name}.tar"));
        host::succeed(Command::new("tar").arg("-cPf").arg(&archive).arg("-C").arg(&work).args(arguments))?;
        Ok::<_, anyhow::Error>(archive)
    };
    let dots = tar("dots", &["--transform", "s,^x$,../../../../../../tmp/evil,", "x"])?;
    let mut command = sandbox.command(["cp", "-", "box:/tmp"]);
    let output = command.stdin(std::fs::File::open(&dots)?).output()?;
    same!(output.status.code(), Some(1));
    contains!(String::from_utf8_lossy(&output.stderr), "..");
    // A link to outside, then a file through it.
    std::os::unix::fs::symlink(&outside, work.join("link"))?;
    let through = sandbox.path("files/through.tar");
    host::succeed(Command::new("tar").arg("-cf").arg(&through).arg("-C").arg(&work).arg("link"))?;
    std::fs::remove_file(work.join("link"))?;
    std::fs::create_dir(work.join("link"))?;
    std::fs::write(work.join("link/evil"), "evil")?;
    host::succeed(Command::new("tar").arg("-rf").arg(&through).arg("-C").arg(&work).arg("link/evil"))?;
    let mut command = sandbox.command(["cp", "-", "box:/tmp"]);
    command.stdin(std::fs::File::open(&through)?).stdout(Stdio::null()).stderr(Stdio::null()).status()?;
    ensure!(std::fs::read_dir(&outside)?.next().is_none(), "written outside of the container");
    // Out of a container with such links, onto the host.
    let script = format!("mkdir /evil; ln -s {} /evil/link; echo x >/evil/file", outside.display());
    sandbox.ok(["run", "--name", "evil", "--network", "none", "busybox", "sh", "-c", &script])?;
    sandbox.ok(["cp", "evil:/evil", &sandbox.path("files").to_string_lossy()])?;
    sandbox.ok([
        "run",
        "--name",
        "evil2",
        "--network",
        "none",
        "busybox",
        "sh",
        "-c",
        "mkdir -p /evil/link; echo x >/evil/link/canary",
    ])?;
    drop(sandbox.dhow(["cp", "evil2:/evil", &sandbox.path("files").to_string_lossy()])?);
    ensure!(std::fs::read_dir(&outside)?.next().is_none(), "written outside of the destination");
    Ok(())
}

/// CVE-2018-15664: a container exchanges a directory for a link while files are copied through it.
fn swapped_links(sandbox: &Sandbox) -> Result<()> {
    sandbox.load("busybox")?;
    let canary = sandbox.file("outside/x", "of the host")?;
    let outside = sandbox.path("files/outside");
    let script = format!(
        "mkdir /d /kept; echo inside >/d/x; echo inside >/kept/x; echo up
         while :; do mv /d /was; ln -s {} /d; rm /d; mv /was /d; done",
        outside.display()
    );
    let id = sandbox.detached(&["--network", "none"], &script)?;
    sandbox.wait_for_log(&id, "up")?;
    let file = sandbox.file("new", "new")?;
    let out = sandbox.path("files/out");
    for _ in 0..40 {
        drop(sandbox.dhow(["cp", &format!("{id}:/d/x"), &out.to_string_lossy()])?);
        if out.exists() {
            same!(std::fs::read_to_string(&out)?, "inside\n");
        }
        drop(sandbox.dhow(["cp", &file, &format!("{id}:/d/y")])?);
    }
    same!(std::fs::read_to_string(&canary)?, "of the host");
    same!(std::fs::read_dir(&outside)?.count(), 1, "something was made on the host");
    Ok(())
}

/// A link of procfs is a way to any file; it leads nowhere here.
fn magic_links(sandbox: &Sandbox) -> Result<()> {
    container(sandbox)?;
    sandbox.ok(["start", "box"])?;
    for path in ["/proc/1/root/etc/passwd", "/proc/1/cwd/etc/passwd", "/proc/self/exe/", "/dev/fd/1/"] {
        let output = sandbox.dhow(["cp", &format!("box:{path}"), &sandbox.path("files/x").to_string_lossy()])?;
        ensure!(output.code == 1, "{path} was copied");
    }
    Ok(())
}

fn odd_names(sandbox: &Sandbox) -> Result<()> {
    container(sandbox)?;
    let directory = sandbox.path("files/odd");
    std::fs::create_dir_all(&directory)?;
    use std::os::unix::ffi::OsStrExt;
    let bytes: Vec<&[u8]> = vec![b"new\nline", b"\xff\xfe not utf-8", b"-dash", b"colon:name", b"*", b"sp ace"];
    for name in &bytes {
        std::fs::create_dir(directory.join(std::ffi::OsStr::from_bytes(name)))?;
        std::fs::write(directory.join(std::ffi::OsStr::from_bytes(name)).join("x"), name)?;
    }
    sandbox.ok(["cp", &directory.to_string_lossy(), "box:/odd"])?;
    let back = sandbox.path("files/back");
    sandbox.ok(["cp", "box:/odd", &back.to_string_lossy()])?;
    for name in &bytes {
        same!(std::fs::read(back.join(std::ffi::OsStr::from_bytes(name)).join("x"))?, name.to_vec());
    }
    // No pattern is expanded (CVE-2019-18466).
    sandbox.dhow(["cp", "box:/od*", &back.to_string_lossy()])?.fails(1, &["Could not find the file /od*"])
}

/// CVE-2019-14271: nothing of the container is executed or loaded, so a container without any program is as good.
fn nothing_is_run(sandbox: &Sandbox) -> Result<()> {
    sandbox.load("busybox")?;
    let id = sandbox.detached(&["--network", "none"], "echo up; exec sleep 1000")?;
    sandbox.wait_for_log(&id, "up")?;
    sandbox.ok(["exec", &id, "/bin/busybox", "rm", "-rf", "/bin", "/lib", "/sbin", "/usr"])?;
    let file = sandbox.file("file", "f\n")?;
    sandbox.ok(["cp", &file, &format!("{id}:/x")])?;
    same!(names(sandbox, &format!("{id}:/x"))?, ["x"]);
    // An ordinary user may have no cgroup to pause by.
    drop(sandbox.dhow(["pause", &id])?);
    sandbox.ok(["cp", &file, &format!("{id}:/y")])?;
    same!(names(sandbox, &format!("{id}:/y"))?, ["y"]);
    Ok(())
}
