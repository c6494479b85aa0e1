//! Names: how many questions per second a container's name server answers, and how long one takes.

use std::net::{SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use serde_json::{Value, json};

use super::super::peers::Engine;
use super::super::table::print;
use super::{inside, pid, remove, said, sleeper};
use crate::command::succeeds;

/// Questions that wait for their answer at the same time.
const AT_ONCE: u16 = 32;
const TIME: Duration = Duration::from_secs(2);

/// Measures, prints, and returns the results.
pub fn run(engines: &[Engine]) -> Result<Value> {
    let mut rows = vec![];
    let mut results = vec![];
    for engine in engines {
        match one(engine) {
            Ok((rate, latency)) => {
                rows.push(vec![engine.name.to_owned(), format!("{rate:.0}"), format!("{latency:.0}")]);
                results.push(json!({ "engine": engine.name, "per second": rate, "microseconds": latency }));
            }
            Err(error) => println!("bench: without names of {}: {error:#}", engine.name),
        }
    }
    println!();
    print(&["engine", "questions per second", "one question µs"], &rows);
    Ok(json!(results))
}

fn one(engine: &Engine) -> Result<(f64, f64)> {
    engine.output(engine.command(&["network", "create", "names"]))?;
    let server = sleeper(engine, &["--network", "names", "--name", "server"])?;
    let asker = sleeper(engine, &["--network", "names"])?;
    let own = std::env::current_exe()?;
    let result = (|| {
        let file = engine.output(engine.command(&["exec", &asker, "cat", "/etc/resolv.conf"]))?;
        let address = file.lines().find_map(|line| line.strip_prefix("nameserver ")).context("no name server")?;
        let words = [own.to_str().context("path")?, "bench", "network", "--ask", address.trim()];
        let text = said(inside(&pid(engine, &asker)?, &words))?;
        let mut numbers = text.split_whitespace().map(str::parse::<f64>);
        Ok((numbers.next().context("no rate")??, numbers.next().context("no latency")??))
    })();
    remove(engine, &[server, asker])?;
    succeeds(&mut engine.command(&["network", "rm", "names"]));
    result
}

/// In the network of a container: asks for `server` one question after another, then many at once; prints questions per second
/// and microseconds.
pub fn client(address: &str) -> Result<()> {
    let socket = UdpSocket::bind("0.0.0.0:0")?;
    socket.connect(SocketAddr::new(address.parse()?, 53))?;
    socket.set_read_timeout(Some(Duration::from_secs(1)))?;
    let mut buffer = [0; 512];
    let mut times = vec![];
    let started = Instant::now();
    while started.elapsed() < TIME / 2 {
        let before = Instant::now();
        socket.send(&question(1))?;
        socket.recv(&mut buffer).context("no answer")?;
        times.push(before.elapsed().as_secs_f64() * 1e6);
    }
    times.sort_by(f64::total_cmp);
    let mut answered = 0_u32;
    for number in 0..AT_ONCE {
        socket.send(&question(number))?;
    }
    let started = Instant::now();
    while started.elapsed() < TIME {
        match socket.recv(&mut buffer) {
            Ok(_) => answered += 1,
            // Lost: another takes its place.
            Err(error) if matches!(error.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut) => {}
            Err(error) => return Err(error.into()),
        }
        socket.send(&question(answered as u16))?;
    }
    println!("{} {}", f64::from(answered) / started.elapsed().as_secs_f64(), times[times.len() / 2]);
    Ok(())
}

/// The address of `server`, please.
fn question(number: u16) -> Vec<u8> {
    let mut message = number.to_be_bytes().to_vec();
    message.extend([1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 6]);
    message.extend(b"server");
    message.extend([0, 0, 1, 0, 1]);
    message
}
