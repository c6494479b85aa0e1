//! Output as fast as a container can write it: every line is kept and none is torn, whoever reads and however slowly.
//!
//! `DHOW_LOG_MEGABYTES` (16) says how much each container writes.

use std::io::Read;
use std::time::Instant;

use anyhow::{Context, Result, ensure};

use crate::case::cases;
use crate::host;
use crate::sandbox::Sandbox;

cases![log_speed: no_line_is_lost_or_torn [Root]];

/// Bytes of a line.
const LINE: usize = 100;

/// Numbered lines.
fn lines(megabytes: usize) -> Vec<u8> {
    let mut text = Vec::with_capacity(megabytes << 20);
    for number in 0..(megabytes << 20) / LINE {
        let digits = format!("{number:010} ");
        text.extend_from_slice(digits.as_bytes());
        text.resize(text.len() + LINE - digits.len() - 1, b'a' + u8::try_from(number % 26).unwrap_or(0));
        text.push(b'\n');
    }
    text
}

/// Says where two texts part.
fn equal(what: &str, seen: &[u8], wanted: &[u8]) -> Result<()> {
    if seen == wanted {
        return Ok(());
    }
    let at = seen.iter().zip(wanted).take_while(|(one, other)| one == other).count();
    let line = |text: &[u8]| {
        let start = at - at % LINE;
        String::from_utf8_lossy(text.get(start..(start + LINE).min(text.len())).unwrap_or_default()).into_owned()
    };
    anyhow::bail!(
        "{what}: {} bytes in place of {}; line {} is {:?}, wanted {:?}",
        seen.len(),
        wanted.len(),
        at / LINE,
        line(seen),
        line(wanted)
    )
}

fn no_line_is_lost_or_torn(sandbox: &Sandbox) -> Result<()> {
    sandbox.load("busybox")?;
    let usual = if sandbox.is_slow() { 2 } else { 16 };
    let megabytes = std::env::var("DHOW_LOG_MEGABYTES").ok().and_then(|text| text.parse().ok()).unwrap_or(usual);
    let wanted = lines(megabytes);
    let file = sandbox.file("lines", &wanted)?;
    let mount = format!("{file}:/lines:ro");
    // The log is rotated some ten times meanwhile.
    let (size, count) = (format!("max-size={}m", (megabytes / 8).max(1)), "max-file=100");
    let base: [&str; 10] =
        ["--network", "none", "-v", &mount, "--log-opt", &size, "--log-opt", count, "--log-opt", "compress=false"];
    let logged = |name: &str| {
        let output = sandbox.command(["logs", name]).output()?;
        equal(&format!("the log of {name}"), &output.stdout, &wanted)
    };
    let rate = |name: &str, since: Instant| {
        let seconds = since.elapsed().as_secs_f64();
        eprintln!("{name}: {:.0} MB/s, with the container's start and end", wanted.len() as f64 / 1e6 / seconds);
    };

    let began = Instant::now();
    sandbox.ok([&["run", "-d", "--name", "alone"][..], &base, &["busybox", "cat", "/lines"]].concat())?;
    sandbox.ok(["wait", "alone"])?;
    rate("alone", began);
    logged("alone")?;

    let began = Instant::now();
    let output =
        sandbox.command([&["run", "--name", "read"][..], &base, &["busybox", "cat", "/lines"]].concat()).output()?;
    rate("read", began);
    equal("what an attached client got", &output.stdout, &wanted)?;
    logged("read")?;

    // Nobody takes a byte of it: the container ends all the same.
    let slow = ["--log-opt", "mode=non-blocking"];
    let began = Instant::now();
    let mut child =
        sandbox.spawn([&["run", "--name", "unread"][..], &base, &slow, &["busybox", "cat", "/lines"]].concat())?;
    // Who waits for a container that has not begun is told at once that it does not run.
    host::until("it has begun", sandbox.seconds(30), || {
        let output = sandbox.command(["inspect", "--format", "{{.State.Status}}", "unread"]).output()?;
        Ok((output.status.success() && output.stdout != b"created\n").then_some(()))
    })?;
    sandbox.ok(["wait", "unread"])?;
    rate("unread", began);
    logged("unread")?;
    // What came before it was cut off are whole lines in their order, up to the last one.
    let mut seen = vec![];
    child.stdout.take().context("no output")?.read_to_end(&mut seen)?;
    ensure!(wanted.starts_with(&seen), "the client got something else");
    child.wait()?;
    Ok(())
}
