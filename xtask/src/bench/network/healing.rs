//! How long published ports and isolation are gone after another program flushed all rules.

use std::net::{SocketAddr, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use serde_json::{Value, json};

use super::super::peers::Engine;
use super::super::table::{Samples, print};
use super::{remove, said};
use crate::command::command;

/// Flushes.
const TIMES: usize = 20;
/// How long the rules may be gone.
const PATIENCE: Duration = Duration::from_secs(5);

/// Measures, prints, and returns the samples. The peers do not notice a flush.
pub fn run(engine: &Engine) -> Result<Value> {
    let serve = ["nc", "-ll", "-p", "80", "-e", "true"];
    let id = engine.output(engine.run(&["-d", "-p", "9090:80"], &serve))?;
    let port = SocketAddr::from(([127, 0, 0, 1], 9090));
    // Refused while the rules are gone: nobody listens on the host.
    let is_open = || TcpStream::connect_timeout(&port, Duration::from_secs(1)).is_ok();
    let back = || {
        let started = Instant::now();
        while !is_open() {
            if started.elapsed() > PATIENCE {
                return None;
            }
            thread::sleep(Duration::from_micros(200));
        }
        Some(started.elapsed().as_secs_f64() * 1e3)
    };
    back().context("the published port does not open")?;
    let mut samples = Samples { name: "published port open again after nft flush ruleset".into(), values: vec![] };
    for _ in 0..TIMES {
        said(command("nft", ["flush", "ruleset"]))?;
        samples.values.push(back().context("the rules did not come back")?);
        thread::sleep(Duration::from_millis(50));
    }
    println!();
    print(
        &["after nft flush ruleset", "ms"],
        &[vec!["published port open again".into(), format!("{:.1}", samples.median())]],
    );
    remove(engine, &[id])?;
    Ok(json!(samples.json()))
}
