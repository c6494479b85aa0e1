//! A client on a real terminal: raw mode and its end, detach keys, sizes, signals, and pipes instead of a terminal.

mod fixture;

use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use fixture::{Fixture, log_text};
use monitor::client;
use rustix::process::{Pid, Signal};
use rustix::pty::OpenptFlags;
use rustix::termios::{LocalModes, Winsize};

/// A client on a terminal of its own.
struct OnTerminal {
    master: std::fs::File,
    slave: OwnedFd,
    child: Child,
    seen: String,
}

fn size(rows: u16, columns: u16) -> Winsize {
    Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 }
}

impl OnTerminal {
    fn attach(fixture: &Fixture, proxy: bool) -> Self {
        let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
        let master = rustix::pty::openpt(flags).unwrap();
        rustix::pty::unlockpt(&master).unwrap();
        let slave = rustix::pty::ioctl_tiocgptpeer(&master, flags).unwrap();
        rustix::termios::tcsetwinsize(&master, size(20, 70)).unwrap();
        let mut command = Command::new(fixture::example("attach"));
        command.arg(&fixture.plan.run_directory);
        if proxy {
            command.env("DHOW_TEST_PROXY", "1");
        }
        command.stdin(slave.try_clone().unwrap()).stdout(slave.try_clone().unwrap());
        let child = command.stderr(slave.try_clone().unwrap()).spawn().unwrap();
        Self { master: master.into(), slave, child, seen: String::new() }
    }

    fn write(&mut self, text: &str) {
        self.master.write_all(text.as_bytes()).unwrap();
    }

    /// Reads until the text has appeared.
    fn expect(&mut self, text: &str) {
        while !self.seen.contains(text) {
            let mut buffer = [0; 4096];
            let n = self.master.read(&mut buffer).unwrap();
            self.seen.push_str(&String::from_utf8_lossy(&buffer[..n]));
        }
        self.seen.clear();
    }

    fn is_raw(&self) -> bool {
        !rustix::termios::tcgetattr(&self.slave).unwrap().local_modes.contains(LocalModes::ICANON)
    }

    fn code(&mut self) -> Option<i32> {
        let start = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status.code();
            }
            assert!(start.elapsed() < Duration::from_secs(10), "the client does not end");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    fn signal(&self, signal: Signal) {
        rustix::process::kill_process(Pid::from_child(&self.child), signal).unwrap();
    }
}

/// A client that has pipes in place of a terminal.
fn attach_by_pipes(fixture: &Fixture) -> Child {
    let mut command = Command::new(fixture::example("attach"));
    command.arg(&fixture.plan.run_directory);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

/// A container with a terminal.
fn with_terminal(script: &str) -> (Fixture, Child) {
    let mut fixture = Fixture::new(&["sh", "-c", script]);
    (fixture.plan.terminal, fixture.plan.stdin_open) = (true, true);
    let (control, child) = fixture.spawn();
    control.started().unwrap();
    (fixture, child)
}

#[test]
fn keys_go_in_detaching_leaves_and_the_next_client_sees_the_end() {
    let (fixture, mut monitor) = with_terminal("read x; echo got $x; read y; echo got $y; exit 5");
    let mut first = OnTerminal::attach(&fixture, false);
    first.write("hello\r");
    first.expect("got hello");
    assert!(first.is_raw());
    first.write("\x10");
    std::thread::sleep(Duration::from_millis(30));
    first.write("\x11");
    assert_eq!(first.code(), Some(200));
    assert!(!first.is_raw());

    let mut second = OnTerminal::attach(&fixture, false);
    second.write("again\r");
    second.expect("got again");
    assert_eq!(second.code(), Some(5));
    assert!(!second.is_raw());
    monitor.wait().unwrap();
}

#[test]
fn sizes_follow_the_window() {
    let (fixture, _monitor) = with_terminal("while read x; do stty size; done");
    let mut client = OnTerminal::attach(&fixture, false);
    client.write("a\r");
    client.expect("20 70");
    rustix::termios::tcsetwinsize(&client.master, size(31, 91)).unwrap();
    // Sent by the kernel to a terminal's foreground group; this client's terminal controls nobody.
    client.signal(Signal::WINCH);
    std::thread::sleep(Duration::from_millis(100));
    client.write("b\r");
    client.expect("31 91");
    // ctrl-d: the container's terminal, not this one, makes an end of it.
    client.write("\x04");
    assert_eq!(client.code(), Some(0));
}

#[test]
fn a_signal_ends_the_client_and_restores_the_terminal() {
    let (fixture, _monitor) = with_terminal("sleep 60");
    let mut client = OnTerminal::attach(&fixture, false);
    while !client.is_raw() {
        std::thread::sleep(Duration::from_millis(5));
    }
    client.signal(Signal::TERM);
    assert_eq!(client.code(), None);
    assert!(!client.is_raw());
    assert!(client::status(&fixture.plan.run_directory).unwrap().pid > 0);
    let mut killed = OnTerminal::attach(&fixture, false);
    std::thread::sleep(Duration::from_millis(100));
    killed.child.kill().unwrap();
    killed.child.wait().unwrap();
    assert!(client::status(&fixture.plan.run_directory).unwrap().pid > 0);
    client::signal(&fixture.plan.run_directory, None, 9).unwrap();
}

#[test]
fn signals_are_passed_on() {
    // Not SIGINT, which a test that was started in the background ignores, and so does a shell below it, whatever it traps.
    let mut fixture = Fixture::new(&["sh", "-c", "trap 'exit 77' TERM; echo ready; while :; do sleep 0.02; done"]);
    fixture.plan.stdin_open = true;
    let (control, _monitor) = fixture.spawn();
    control.started().unwrap();
    let mut client = OnTerminal::attach(&fixture, true);
    while log_text(&fixture.plan.log.path, "stdout").is_empty() {
        std::thread::sleep(Duration::from_millis(5));
    }
    std::thread::sleep(Duration::from_millis(100));
    assert!(!client.is_raw());
    client.signal(Signal::TERM);
    assert_eq!(client.code(), Some(77));
}

#[test]
fn pipes_carry_megabytes_both_ways() {
    let mut fixture = Fixture::new(&["sh", "-c", "cat; echo end >&2; exit 6"]);
    (fixture.plan.stdin_open, fixture.plan.stdin_once) = (true, true);
    let (control, _monitor) = fixture.spawn();
    control.started().unwrap();
    let mut child = attach_by_pipes(&fixture);
    let input: Vec<u8> = (0..6_000_000_u32).map(|n| (n % 251) as u8).collect();
    let mut stdin = child.stdin.take().unwrap();
    let copy = input.clone();
    let writer = std::thread::spawn(move || stdin.write_all(&copy).unwrap());
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap();
    assert!(output.stdout == input);
    assert_eq!((&output.stderr[..], output.status.code()), (&b"end\n"[..], Some(6)));
}

#[test]
fn a_client_that_fell_behind_shows_everything_without_more_output() {
    // Each line is a frame of its own, and nothing follows the last one.
    let script = "echo ready; read go; seq 100 | while read n; do echo $n; sleep 0.002; done; exec sleep 1000";
    let mut fixture = Fixture::new(&["sh", "-c", script]);
    fixture.plan.stdin_open = true;
    let (control, _monitor) = fixture.spawn();
    control.started().unwrap();
    let mut child = attach_by_pipes(&fixture);
    let client = Pid::from_child(&child);
    // It is joined when its input arrives; it takes no output then.
    while log_text(&fixture.plan.log.path, "stdout").is_empty() {
        std::thread::sleep(Duration::from_millis(5));
    }
    child.stdin.as_mut().unwrap().write_all(b"go\n").unwrap();
    while !String::from_utf8_lossy(&log_text(&fixture.plan.log.path, "stdout")).contains("\n1\n") {
        std::thread::sleep(Duration::from_millis(1));
    }
    rustix::process::kill_process(client, Signal::STOP).unwrap();
    while !String::from_utf8_lossy(&log_text(&fixture.plan.log.path, "stdout")).contains("\n100\n") {
        std::thread::sleep(Duration::from_millis(5));
    }
    rustix::process::kill_process(client, Signal::CONT).unwrap();
    let mut output = child.stdout.take().unwrap();
    let (seen, all) = std::sync::mpsc::channel();
    let reader = std::thread::spawn(move || {
        let mut text = String::new();
        while !text.ends_with("\n100\n") {
            let mut buffer = [0; 4096];
            let n = output.read(&mut buffer).unwrap();
            assert!(n > 0, "only {text}");
            text.push_str(std::str::from_utf8(&buffer[..n]).unwrap());
        }
        seen.send(()).unwrap();
    });
    let result = all.recv_timeout(Duration::from_secs(10));
    client::signal(&fixture.plan.run_directory, None, 9).unwrap();
    child.wait().unwrap();
    drop(reader.join());
    result.expect("lines that the client has read wait for more");
}
