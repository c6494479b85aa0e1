//! dhow's processes are killed, or their system calls fail, at one point after another (`crate::crash`).
//!
//! Here a sample, drawn anew from `DHOW_CRASH_SEED` for as long as `DHOW_CRASH_SECONDS` say; `cargo xtask crash` tries them all.
//! `DHOW_CRASH_VERBS` names the commands, separated by commas, and `DHOW_CRASH_POINT` is a part of a point's description.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

use crate::case::{cases, skip};
use crate::crash::faults::Point;
use crate::crash::verbs::{Tally, VERBS, Verb};
use crate::crash::world::World;
use crate::sandbox::Sandbox;

cases![crash: at_any_point [Root, Alone, Long]];

/// Seconds for the sample.
const USUAL: u64 = 10;
/// What takes longer waited for something, and is told.
const LONG: Duration = Duration::from_secs(5);

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok().and_then(|text| text.parse().ok())
}

/// xorshift64 (Marsaglia 2003): the same seed, the same points.
struct Dice(u64);

impl Dice {
    fn next(&mut self, below: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % below.max(1) as u64).unwrap_or(0)
    }
}

fn at_any_point(sandbox: &Sandbox) -> Result<()> {
    if sandbox.is_slow() {
        return skip("emulated processors are too slow for it");
    }
    let mut world = World::new(sandbox)?;
    let wanted = std::env::var("DHOW_CRASH_VERBS").unwrap_or_default();
    let chosen = |verb: &&Verb| wanted.is_empty() || wanted.split(',').any(|name| name == verb.name);
    let seed = number("DHOW_CRASH_SEED").unwrap_or(0x6468_6f77);
    let seconds = number("DHOW_CRASH_SECONDS").unwrap_or(USUAL);
    let mut queue: Vec<(&Verb, Point)> = vec![];
    for verb in VERBS.iter().filter(chosen) {
        if let Some(reason) = verb.missing() {
            eprintln!("{}: not tried: {reason}", verb.name);
            continue;
        }
        let points = verb.points(&world, sandbox)?;
        eprintln!("{}: {} points", verb.name, points.len());
        queue.extend(points.into_iter().map(|point| (verb, point)));
    }
    if let Ok(part) = std::env::var("DHOW_CRASH_POINT") {
        queue.retain(|(_, point)| point.to_string().contains(&part));
    }
    eprintln!("{} points in all", queue.len());
    shuffle(&mut queue, seed);
    let mut tallies: BTreeMap<&str, Tally> = BTreeMap::new();
    let until = (seconds > 0).then(|| Instant::now() + Duration::from_secs(seconds));
    for (verb, point) in queue {
        if until.is_some_and(|until| Instant::now() > until) {
            break;
        }
        let tally = tallies.entry(verb.name).or_default();
        let began = Instant::now();
        let attempt = verb.attempt(&world, sandbox, point);
        if began.elapsed() > LONG {
            eprintln!("{}: {point}: took {:.0} s", verb.name, began.elapsed().as_secs_f64());
        }
        match attempt {
            Ok(true) => tally.tried += 1,
            Ok(false) => tally.missed += 1,
            Err(error) => {
                tally.tried += 1;
                let text = format!("UNCLEAN {}: {point}: {error:#}", verb.name);
                eprintln!("{text}");
                tally.unclean.push(text);
                world.again()?;
            }
        }
    }
    world.end();
    report(&tallies, seed)
}

/// Fisher and Yates.
fn shuffle<T>(items: &mut [T], seed: u64) {
    let mut dice = Dice(seed.max(1));
    for last in (1..items.len()).rev() {
        items.swap(last, dice.next(last + 1));
    }
}

fn report(tallies: &BTreeMap<&str, Tally>, seed: u64) -> Result<()> {
    let mut text = format!("seed {seed}\n| command | points tried | clean | not reached |\n");
    let mut unclean = vec![];
    let (mut tried, mut missed) = (0, 0);
    for (name, tally) in tallies {
        let clean = tally.tried - u32::try_from(tally.unclean.len())?;
        writeln!(text, "| {name} | {} | {clean} | {} |", tally.tried, tally.missed)?;
        (tried, missed) = (tried + tally.tried, missed + tally.missed);
        unclean.extend(tally.unclean.iter().map(String::as_str));
    }
    writeln!(text, "| all | {tried} | {} | {missed} |", tried - u32::try_from(unclean.len())?)?;
    eprintln!("{text}");
    if let Some(path) = std::env::var_os("DHOW_CRASH_REPORT") {
        std::fs::write(path, format!("{text}\n{}\n", unclean.join("\n")))?;
    }
    if unclean.is_empty() {
        Ok(())
    } else {
        bail!("{text}{} points are unclean:\n{}", unclean.len(), unclean.join("\n"))
    }
}
