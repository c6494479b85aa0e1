//! The built program: what it prints, where, and how it ends, as far as no container has to run for it.
#![forbid(unsafe_code)]
#![allow(clippy::print_stderr, reason = "a skipped test says why")]

use std::fs::File;
use std::process::{Command, Output, Stdio};

struct Place(tempfile::TempDir);

impl Place {
    fn new() -> Place {
        Place(tempfile::tempdir().unwrap())
    }

    fn command(&self, line: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_dhow"));
        command
            .args(line.split(' ').filter(|word| !word.is_empty()))
            .env("DHOW_ROOT", self.0.path().join("data"))
            .env("DHOW_RUN_DIR", self.0.path().join("run"))
            .stdin(Stdio::null());
        command
    }

    fn run(&self, line: &str) -> (i32, String, String) {
        let Output { status, stdout, stderr } = self.command(line).output().unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        (status.code().unwrap_or(-1), text(stdout), text(stderr))
    }
}

/// Whether the engine can be opened here: as root, or where users may have namespaces.
fn possible(place: &Place) -> bool {
    let (status, _, stderr) = place.run("ps");
    if status != 0 {
        eprintln!("SKIP: the engine cannot be opened here: {stderr}");
    }
    status == 0
}

#[test]
fn mistakes_and_their_statuses() {
    let place = Place::new();
    for (line, status, text) in [
        ("run --bogus x", 125, "dhow: error: unknown flag: --bogus\n"),
        ("ps --bogus", 125, "dhow: error: unknown flag: --bogus\n"),
        ("run", 1, "dhow: error: 'dhow run' requires at least 1 argument\n"),
        ("nonsense", 1, "dhow: error: unknown command: dhow nonsense\n"),
        ("run -it x", 1, "dhow: error: the input device is not a TTY\n"),
        ("run -d -a stdout x", 1, "dhow: error: conflicting options: cannot specify both --attach and --detach\n"),
        ("run -v a:b:c:d x", 125, "dhow: error: invalid volume specification: 'a:b:c:d'"),
        ("run --env-file /nonexistent x", 125, "dhow: error: open /nonexistent: no such file or directory\n"),
    ] {
        let (found, stdout, stderr) = place.run(line);
        assert_eq!((found, stdout.as_str()), (status, ""), "{line}: {stderr}");
        assert!(stderr.starts_with(text), "{line}: {stderr}");
    }
    assert!(!place.0.path().join("data").exists(), "a mistake must not make directories");
}

#[test]
fn help_is_no_failure() {
    let place = Place::new();
    for line in
        ["", "--help", "help", "help run", "run --help", "container", "container ls --help", "ps -h", "-v", "version"]
    {
        let (status, stdout, stderr) = place.run(line);
        assert_eq!((status, stderr.as_str()), (0, ""), "{line}");
        assert!(!stdout.is_empty(), "{line}");
    }
    assert_eq!(place.run("version --format {{.Server.Version}}").1, concat!(env!("CARGO_PKG_VERSION"), "\n"));
}

#[test]
fn an_empty_place() {
    let place = Place::new();
    if !possible(&place) {
        return;
    }
    let table = "CONTAINER ID   IMAGE     COMMAND   CREATED   STATUS    PORTS     NAMES\n";
    for (line, status, stdout, stderr) in [
        ("ps -a", 0, table, ""),
        ("ps -aq", 0, "", ""),
        ("images", 0, "REPOSITORY   TAG       IMAGE ID   CREATED   SIZE\n", ""),
        ("inspect nosuch", 1, "[]\n", "dhow: error: No such object: nosuch\n"),
        ("container inspect nosuch", 1, "[]\n", "dhow: error: No such container: nosuch\n"),
        ("inspect -f {{.Id}} nosuch", 1, "\n", "dhow: error: No such object: nosuch\n"),
        ("rm -f nosuch", 0, "", "dhow: error: No such container: nosuch\n"),
        ("rm nosuch", 1, "", "dhow: error: No such container: nosuch\n"),
        ("stop a b", 1, "", "dhow: error: No such container: a\ndhow: error: No such container: b\n"),
        ("info -f {{.Containers}}", 0, "0\n", ""),
    ] {
        let (found, out, err) = place.run(line);
        assert_eq!((found, out.as_str(), err.as_str()), (status, stdout, stderr), "{line}");
    }
    let (status, _, stderr) = place.run("run --pull never nosuch");
    assert_eq!(status, 125);
    assert!(stderr.starts_with("dhow: error: No such image: nosuch"), "{stderr}");
}

#[test]
fn output_that_cannot_be_written() {
    let place = Place::new();
    let full = File::options().write(true).open("/dev/full").unwrap();
    let output = place.command("version").stdout(full).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(text.starts_with("dhow: error: standard output cannot be written\n  caused by: No space left"), "{text}");
    // A pipe that nobody reads ends it as SIGPIPE would, without a word.
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let output = place.command("version").stdout(writer).output().unwrap();
    assert_eq!((output.status.code(), output.stderr.as_slice()), (Some(141), &b""[..]));
}
