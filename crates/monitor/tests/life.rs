//! Real monitors over real processes: start, output, input, exit, clients that come, go and die.

mod fixture;

use std::io::Write;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use fixture::{Fixture, everything, log_text};
use monitor::client::{self, Connection, Event};
use monitor::wire::{Attach, Streams};
use monitor::{Error, Exit, Kind};

#[test]
fn exit_codes_are_the_shells() {
    for (script, code, signal) in [("exit 0", 0, None), ("exit 41", 41, None), ("kill -9 $$", 137, Some(9))] {
        let fixture = Fixture::new(&["sh", "-c", script]);
        let (control, mut child) = fixture.spawn();
        let pid = control.started().unwrap();
        assert!(pid > 0);
        child.wait().unwrap();
        let exit = Exit::read(&fixture.plan.exit_record).unwrap().unwrap();
        assert_eq!((exit.exit_code, exit.signal), (code, signal), "{script}");
        assert!(!monitor::client::is_alive(&fixture.plan.run_directory));
        assert!(!fixture.plan.run_directory.join("monitor.sock").exists());
    }
}

#[test]
fn a_program_that_cannot_be_started_is_a_typed_error() {
    for (program, kind, code) in [("/no/such", Kind::NotFound, 127), ("/etc/passwd", Kind::NotExecutable, 126)] {
        let fixture = Fixture::new(&[program]);
        let (control, mut child) = fixture.spawn();
        let error = control.started().unwrap_err();
        assert_eq!(error.kind(), kind, "{error}");
        child.wait().unwrap();
        let exit = Exit::read(&fixture.plan.exit_record).unwrap().unwrap();
        assert_eq!(exit.exit_code, code);
        assert!(exit.error.unwrap().starts_with("start container: "));
    }
}

#[test]
fn the_control_connection_misses_nothing_and_its_end_means_clean() {
    let mut fixture = Fixture::new(&["sh", "-c", "echo out; echo err >&2; exit 3"]);
    fixture.plan.attach_control = Some(Attach { streams: Streams::OUTPUT, patience_seconds: None });
    let (mut control, _child) = fixture.spawn();
    control.started().unwrap();
    let (out, err, exit) = everything(&mut control);
    assert_eq!((&out[..], &err[..], exit.exit_code), (&b"out\n"[..], &b"err\n"[..], 3));
    assert!(fixture.plan.run_directory.join("cleaned").exists());
    assert_eq!(log_text(&fixture.plan.log.path, "stdout"), b"out\n");
    assert_eq!(log_text(&fixture.plan.log.path, "stderr"), b"err\n");
}

#[test]
fn input_goes_in_and_its_end_is_seen() {
    let mut fixture = Fixture::new(&["cat"]);
    (fixture.plan.stdin_open, fixture.plan.stdin_once) = (true, true);
    fixture.plan.attach_control = Some(Attach { streams: Streams::ALL, patience_seconds: None });
    let (mut control, _child) = fixture.spawn();
    control.started().unwrap();
    // Less than what the pipes on the way hold: this test writes everything before it reads.
    let input = vec![b'i'; 100_000];
    control.send_input(&input).unwrap();
    control.close_input().unwrap();
    let (out, _, exit) = everything(&mut control);
    assert!(out == input);
    assert_eq!(exit.exit_code, 0);
}

#[test]
fn a_hundred_megabytes_arrive_byte_for_byte_in_log_and_client() {
    let script = "i=0; while [ $i -lt 100 ]; do cat $0; i=$((i+1)); done";
    let mut fixture = Fixture::new(&["sh", "-c", script]);
    let mut text = Vec::new();
    for number in 0.. {
        let length = (number * 7919) % 3000;
        writeln!(text, "{number} {} \"é<漢>\"\t\\", "x".repeat(length)).unwrap();
        if text.len() >= 1 << 20 {
            break;
        }
    }
    let input = fixture.directory.path().join("input");
    std::fs::write(&input, &text).unwrap();
    fixture.command().push(input.to_str().unwrap().to_owned());
    fixture.plan.log.max_size = None;
    fixture.plan.attach_control = Some(Attach { streams: Streams::OUTPUT, patience_seconds: None });
    let (mut control, _child) = fixture.spawn();
    control.started().unwrap();
    let (out, _, exit) = everything(&mut control);
    assert_eq!(exit.exit_code, 0);
    let expected = text.repeat(100);
    assert!(out == expected);
    assert!(log_text(&fixture.plan.log.path, "stdout") == expected);
}

#[test]
fn two_clients_see_the_same_and_one_may_be_killed() {
    let mut fixture = Fixture::new(&["sh", "-c", "read x; seq 1 20000; read y"]);
    fixture.plan.stdin_open = true;
    let (control, _child) = fixture.spawn();
    control.started().unwrap();
    let attach = |streams| {
        let attach = Attach { streams, patience_seconds: None };
        Connection::open(&fixture.plan.run_directory).unwrap().attach(attach).unwrap()
    };
    let (mut first, mut second) = (attach(Streams::ALL), attach(Streams::OUTPUT));
    // A client that is joined, takes nothing and dies: the others wait for it only as long as it lives.
    let dead = attach(Streams::OUTPUT);
    first.send_input(b"go\n").unwrap();
    std::thread::sleep(Duration::from_millis(100));
    drop(dead);
    let seconds = std::thread::spawn(move || everything(&mut second));
    let expected: Vec<u8> = (1..=20000).flat_map(|n| format!("{n}\n").into_bytes()).collect();
    let mut out = Vec::new();
    while out.len() < expected.len() {
        match first.receive().unwrap().unwrap() {
            Event::Output(_, data) => out.extend_from_slice(data),
            other => panic!("{other:?}"),
        }
    }
    assert!(out == expected);
    first.send_input(b"end\n").unwrap();
    assert!(seconds.join().unwrap().0 == expected);
}

#[test]
fn a_slow_client_holds_the_process_until_its_patience_ends() {
    let mut fixture = Fixture::new(&["sh", "-c", "read x; yes | head -c 5000000; sleep 30"]);
    fixture.plan.stdin_open = true;
    fixture.plan.log.max_size = None;
    let (control, _child) = fixture.spawn();
    control.started().unwrap();
    let open = || Connection::open(&fixture.plan.run_directory).unwrap();
    let slow = Attach { streams: Streams::ALL, patience_seconds: Some(1) };
    let mut slow = open().attach(slow).unwrap();
    slow.send_input(b"go\n").unwrap();
    std::thread::sleep(Duration::from_millis(500));
    // Two bytes make one line of the log.
    let per_line = log_line_length();
    let logged = || std::fs::metadata(&fixture.plan.log.path).unwrap().len() / per_line * 2;
    let held = logged();
    assert!(held < 2_000_000, "the process should wait, but wrote {held}");
    // Requests are answered meanwhile.
    assert!(open().status().unwrap().pid > 0);
    let start = Instant::now();
    while logged() < 5_000_000 {
        assert!(start.elapsed() < Duration::from_secs(20), "{} bytes only", logged());
        std::thread::sleep(Duration::from_millis(20));
    }
    let mut taken = 0;
    while let Ok(Some(Event::Output(_, data))) = slow.receive() {
        taken += data.len();
    }
    assert!(taken < 2_000_000, "{taken}");
    open().signal(None, 9).unwrap();
}

#[test]
fn a_client_without_patience_is_waited_for_and_gets_everything() {
    let mut fixture = Fixture::new(&["sh", "-c", "head -c 3000000 /dev/zero; exit 5"]);
    fixture.plan.attach_control = Some(Attach { streams: Streams::OUTPUT, patience_seconds: None });
    let (mut control, _child) = fixture.spawn();
    control.started().unwrap();
    std::thread::sleep(Duration::from_millis(700));
    let (out, _, exit) = everything(&mut control);
    assert_eq!((out.len(), exit.exit_code), (3_000_000, 5));
}

#[test]
fn stop_asks_first_and_kills_then() {
    let polite = Fixture::new(&["sh", "-c", "trap 'exit 7' TERM; while :; do sleep 0.05; done"]);
    let (control, _child) = polite.spawn();
    control.started().unwrap();
    std::thread::sleep(Duration::from_millis(100));
    let exit = Connection::open(&polite.plan.run_directory).unwrap().stop(None, Some(20)).unwrap();
    assert_eq!((exit.exit_code, exit.requested), (7, true));

    let stubborn = Fixture::new(&["sh", "-c", "trap '' TERM; while :; do sleep 0.05; done"]);
    let (control, _child) = stubborn.spawn();
    control.started().unwrap();
    std::thread::sleep(Duration::from_millis(100));
    let start = Instant::now();
    let exit = Connection::open(&stubborn.plan.run_directory).unwrap().stop(None, Some(1)).unwrap();
    assert_eq!((exit.exit_code, exit.signal), (137, Some(9)));
    assert!((900..3000).contains(&start.elapsed().as_millis()));
}

#[test]
fn signals_waits_and_wrong_requests() {
    let fixture = Fixture::new(&["sleep", "60"]);
    let (control, _child) = fixture.spawn();
    let pid = control.started().unwrap();
    let open = || Connection::open(&fixture.plan.run_directory).unwrap();
    let state = open().status().unwrap();
    assert_eq!((state.pid, state.id.as_str()), (pid, "test"));
    assert_eq!(monitor::State::read(&fixture.plan.run_directory).unwrap().unwrap(), state);
    assert_eq!(monitor::record::process_start_time(pid), Some(state.pid_start_time));
    assert_eq!(open().signal(None, 4000).unwrap_err().kind(), Kind::Invalid);
    assert_eq!(open().signal(Some("no"), 15).unwrap_err().kind(), Kind::Invalid);
    assert_eq!(open().resize(None, monitor::wire::Size { rows: 1, columns: 1 }).unwrap_err().kind(), Kind::Invalid);
    assert!(open().pause().is_err());
    assert_eq!(monitor::lock(&fixture.plan.run_directory).unwrap_err().kind(), Kind::Busy);
    let waiter = open();
    let waiting = std::thread::spawn(move || waiter.wait(None).unwrap());
    std::thread::sleep(Duration::from_millis(50));
    // A real-time signal, by its number.
    open().signal(None, 40).unwrap();
    let exit = waiting.join().unwrap();
    assert_eq!((exit.exit_code, exit.signal, exit.requested), (168, Some(40), false));
}

#[test]
fn garbage_on_the_socket_hurts_nobody() {
    let fixture = Fixture::new(&["sleep", "60"]);
    let (control, _child) = fixture.spawn();
    control.started().unwrap();
    let path = fixture.plan.run_directory.join("monitor.sock");
    for garbage in [&b"\0\0\0\x03{}x"[..], b"GET / HTTP/1.1\r\n\r\n", b"\xff\xff\xff\xff", b"\0\0\0\x02{}", b"\0"] {
        let mut socket = std::os::unix::net::UnixStream::connect(&path).unwrap();
        socket.write_all(garbage).unwrap();
    }
    let idle: Vec<_> = (0..300).map(|_| std::os::unix::net::UnixStream::connect(&path)).collect();
    drop(idle);
    let open = || Connection::open(&fixture.plan.run_directory).unwrap();
    assert!(open().status().unwrap().pid > 0);
    open().signal(None, 9).unwrap();
}

#[test]
fn strangers_descriptors_are_not_kept() {
    let fixture = Fixture::new(&["sleep", "60"]);
    let lock = monitor::lock(&fixture.plan.run_directory).unwrap();
    // Not close-on-exec, as a careless parent's.
    let mut command = std::process::Command::new("sh");
    command.args(["-c", "exec 9</etc/passwd; exec \"$0\""]).arg(fixture::example("monitor"));
    let (control, child) = monitor::handover::spawn(command, lock.as_fd(), &fixture.plan).unwrap();
    control.started().unwrap();
    let open: Vec<_> = std::fs::read_dir(format!("/proc/{}/fd", child.id()))
        .unwrap()
        .filter_map(|entry| std::fs::read_link(entry.unwrap().path()).ok())
        .collect();
    assert!(!open.iter().any(|path| path.ends_with("passwd")), "{open:?}");
    client::signal(&fixture.plan.run_directory, None, 9).unwrap();
}

#[test]
fn sigterm_to_the_monitor_stops_the_container_and_sighup_does_not() {
    let fixture = Fixture::new(&["sleep", "60"]);
    let (control, mut child) = fixture.spawn();
    control.started().unwrap();
    let monitor = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(monitor, rustix::process::Signal::HUP).unwrap();
    std::thread::sleep(Duration::from_millis(100));
    assert!(Connection::open(&fixture.plan.run_directory).unwrap().status().unwrap().pid > 0);
    rustix::process::kill_process(monitor, rustix::process::Signal::TERM).unwrap();
    child.wait().unwrap();
    assert_eq!(Exit::read(&fixture.plan.exit_record).unwrap().unwrap().signal, Some(15));
}

#[test]
fn a_killed_monitor_is_noticed() {
    let mut fixture = Fixture::new(&["sleep", "1"]);
    fixture.plan.attach_control = Some(Attach { streams: Streams::OUTPUT, patience_seconds: None });
    let (mut control, mut child) = fixture.spawn();
    control.started().unwrap();
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(control.receive().unwrap().is_none());
    assert!(!monitor::client::is_alive(&fixture.plan.run_directory));
    let error = Connection::open(&fixture.plan.run_directory).unwrap_err();
    assert!(matches!(&error, Error::NoMonitor { .. }), "{error}");
    assert_eq!(Exit::read(&fixture.plan.exit_record).unwrap(), None);
}

#[test]
fn output_of_those_left_behind_does_not_keep_the_monitor() {
    let mut fixture = Fixture::new(&["sh", "-c", "sleep 5 & echo done"]);
    fixture.plan.attach_control = Some(Attach { streams: Streams::OUTPUT, patience_seconds: None });
    let start = Instant::now();
    let (mut control, mut child) = fixture.spawn();
    control.started().unwrap();
    let (out, _, _) = everything(&mut control);
    drop(control);
    child.wait().unwrap();
    assert_eq!(out, b"done\n");
    assert!(start.elapsed() < Duration::from_secs(2));
}

#[test]
fn a_restart_keeps_socket_log_and_waiting_clients() {
    let fixture = Fixture::new(&["sh", "-c", "echo run; sleep 0.2; exit 1"]);
    let (control, mut child) = fixture.spawn_with(|command| command.env("DHOW_TEST_RESTARTS", "2"));
    let first = control.started().unwrap();
    let open = || Connection::open(&fixture.plan.run_directory).unwrap();
    assert_eq!(open().wait(None).unwrap().exit_code, 1);
    assert_eq!(open().attach(Attach::default()).unwrap_err().kind(), Kind::NotRunning);
    // Asked between two runs: the next one is meant.
    assert_eq!(open().wait(None).unwrap().exit_code, 1);
    let state = open().status().unwrap();
    assert_ne!(state.pid, first);
    child.wait().unwrap();
    assert_eq!(log_text(&fixture.plan.log.path, "stdout"), b"run\nrun\nrun\n");
}

fn log_line_length() -> u64 {
    r#"{"log":"y\n","stream":"stdout","time":"2026-11-21T01:50:00.123456789Z"}"#.len() as u64 + 1
}
