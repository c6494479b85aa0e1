//! Reading logs while and after they are written and rotated.

mod fixture;

use std::io::Write;
use std::time::{Duration, Instant};

use fixture::Fixture;
use monitor::client::Connection;
use monitor::log_file::LogFile;
use monitor::logs::{Next, Options, Reader};
use monitor::{LogPlan, Stream};

fn texts(options: Options) -> Vec<String> {
    let mut reader = Reader::open(options).unwrap();
    let mut texts = Vec::new();
    while let Some(entry) = reader.next_entry().unwrap() {
        texts.push(String::from_utf8(entry.text.to_owned()).unwrap());
    }
    texts
}

#[test]
fn following_across_many_rotations_loses_and_repeats_nothing() {
    let script = "i=0; while [ $i -lt 20000 ]; do echo line $i; i=$((i+1)); done";
    let mut fixture = Fixture::new(&["sh", "-c", script]);
    (fixture.plan.log.max_size, fixture.plan.log.max_file) = (Some(50_000), 1000);
    let (control, _child) = fixture.spawn();
    control.started().unwrap();
    let follow = Some(fixture.plan.run_directory.clone());
    let path = fixture.plan.log.path.clone();
    let followed = texts(Options { follow, ..Options::all(path.clone()) });
    let expected: Vec<String> = (0..20000).map(|n| format!("line {n}\n")).collect();
    assert!(followed == expected, "{} lines", followed.len());
    assert!(texts(Options::all(path.clone())) == expected);
    for lines in [0, 1, 7, 3000, 19_999, 20_000, 50_000] {
        let tail = texts(Options { tail: Some(lines as u64), ..Options::all(path.clone()) });
        assert!(tail == expected[20_000_usize.saturating_sub(lines)..], "{lines}");
    }
    assert!(std::fs::read_dir(fixture.directory.path()).unwrap().count() > 20);
}

#[test]
fn a_reader_that_was_overtaken_goes_on_with_the_oldest_file() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("x.log");
    let plan = LogPlan { max_size: Some(1000), max_file: 2, ..LogPlan::json_file(path.clone()) };
    let mut log = LogFile::open(&plan).unwrap();
    log.append(Stream::Stdout, b"first\n");
    let mut reader = Reader::open(Options::all(path)).unwrap();
    assert_eq!(reader.next_entry().unwrap().unwrap().text, b"first\n");
    for number in 0..200 {
        log.append(Stream::Stdout, format!("{number}\n").as_bytes());
    }
    let mut rest: Vec<u32> = Vec::new();
    while let Some(entry) = reader.next_entry().unwrap() {
        rest.push(std::str::from_utf8(entry.text).unwrap().trim().parse().unwrap());
    }
    // The file that was open is read to its end, then those that still are there; what lies between is gone.
    assert_eq!(rest[0], 0);
    assert_eq!(*rest.last().unwrap(), 199);
    assert!(rest.is_sorted() && rest.len() < 100, "{rest:?}");
}

#[test]
fn a_follower_sees_lines_at_once_and_the_end_when_the_monitor_dies() {
    let mut fixture = Fixture::new(&["cat"]);
    fixture.plan.stdin_open = true;
    fixture.plan.attach_control = Some(monitor::Attach {
        streams: monitor::Streams { stdin: true, ..Default::default() },
        patience_seconds: None,
    });
    let (control, mut child) = fixture.spawn();
    control.started().unwrap();
    let follow = Some(fixture.plan.run_directory.clone());
    let mut reader = Reader::open(Options { follow, ..Options::all(fixture.plan.log.path.clone()) }).unwrap();
    assert!(matches!(reader.try_next().unwrap(), Next::Pending));
    assert_eq!(reader.descriptors().count(), 2);
    control.send_input(b"hello\n").unwrap();
    let start = Instant::now();
    assert_eq!(reader.next_entry().unwrap().unwrap().text, b"hello\n");
    assert!(start.elapsed() < Duration::from_secs(1));
    child.kill().unwrap();
    assert!(reader.next_entry().unwrap().is_none());
    assert!(start.elapsed() < Duration::from_secs(2));
    // Without a monitor following ends at the end.
    let follow = Some(fixture.plan.run_directory.clone());
    assert_eq!(texts(Options { follow, ..Options::all(fixture.plan.log.path.clone()) }), ["hello\n"]);
}

#[test]
fn streams_and_times_choose() {
    let fixture = Fixture::new(&["sh", "-c", "echo a; sleep 0.3; echo b >&2; sleep 0.3; echo c"]);
    let (control, mut child) = fixture.spawn();
    control.started().unwrap();
    child.wait().unwrap();
    let all = || Options::all(fixture.plan.log.path.clone());
    assert_eq!(texts(all()), ["a\n", "b\n", "c\n"]);
    assert_eq!(texts(Options { stderr: false, ..all() }), ["a\n", "c\n"]);
    assert_eq!(texts(Options { stdout: false, ..all() }), ["b\n"]);
    let mut reader = Reader::open(Options { stdout: false, ..all() }).unwrap();
    let time: jiff::Timestamp = reader.next_entry().unwrap().unwrap().time.parse().unwrap();
    assert_eq!(texts(Options { since: Some(time), ..all() }), ["b\n", "c\n"]);
    assert_eq!(texts(Options { until: Some(time), ..all() }), ["a\n", "b\n"]);
    assert!(texts(Options::all("/no/such/file".into())).is_empty());
    std::fs::OpenOptions::new()
        .append(true)
        .open(&fixture.plan.log.path)
        .unwrap()
        .write_all(b"junk\n{\"log\":")
        .unwrap();
    assert_eq!(texts(all()).len(), 3);
}

#[test]
fn until_ends_a_follower() {
    let fixture = Fixture::new(&["sleep", "60"]);
    let (control, _child) = fixture.spawn();
    control.started().unwrap();
    let start = Instant::now();
    let until = jiff::Timestamp::now() + Duration::from_millis(300);
    let follow = Some(fixture.plan.run_directory.clone());
    assert!(texts(Options { follow, until: Some(until), ..Options::all(fixture.plan.log.path.clone()) }).is_empty());
    assert!((250..2000).contains(&start.elapsed().as_millis()));
    Connection::open(&fixture.plan.run_directory).unwrap().signal(None, 9).unwrap();
}
