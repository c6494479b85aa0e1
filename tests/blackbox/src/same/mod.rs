//! dhow beside Docker: the same command lines, the same answers.
//!
//! `tests/blackbox/transcripts` has command lines with what Docker answered, a file for each area. Two tests read each of them: one
//! plays it with dhow, everywhere; another with Debian's own docker, where its daemon can start, so that what is written there is
//! Docker's and not what somebody believes of it. With `DHOW_SAME_RECORD=DIRECTORY` the latter writes what it hears, of all areas or
//! of those in `DHOW_SAME_AREAS`.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::thread;
use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};

use crate::case::{Case, Need};
use crate::runner::NOTE;
use crate::sandbox::Sandbox;
use peer::Peer;
use play::Stage;
use transcript::{Answer, Item};
use wording::Likeness;

mod normal;
pub mod peer;
mod play;
mod transcript;
mod wording;

/// How many daemons work at the same time.
const SHARES: usize = 4;

/// Fewer cases than this are a mistake.
const LEAST_CASES: usize = 650;

/// Declares the transcripts, and for each its test.
macro_rules! areas {
    ($($name:ident),* $(,)?) => {
        const AREAS: &[(&str, &str)] =
            &[$((stringify!($name), include_str!(concat!("../../transcripts/", stringify!($name), ".txt")))),*];
        $(fn $name(sandbox: &Sandbox) -> Result<()> { with_dhow(sandbox, stringify!($name)) })*
        /// The tests of this module.
        pub const CASES: &[Case] = &[
            Case { name: "same::docker", test: with_docker, needs: &[Need::Root, Need::Long] },
            Case { name: "same::counted", test: counted, needs: &[] },
            $(Case { name: concat!("same::", stringify!($name)), test: $name, needs: &[Need::Root] }),*
        ];
    };
}

areas![
    attaching,
    copying,
    events,
    exec,
    formats,
    images,
    lifecycle,
    limits,
    listing,
    logs,
    mounts,
    networking,
    rename_update,
    restarts,
    security,
    settings,
    streams,
    usage,
    volumes,
];

fn items(area: &str) -> Result<Vec<Item>> {
    let (name, text) = AREAS.iter().find(|(name, _)| *name == area).context("no such transcript")?;
    transcript::parse(text).with_context(|| format!("transcripts/{name}.txt"))
}

/// What is wrong with an area's answers, and how many errors have words of dhow's own.
#[derive(Default)]
struct Report {
    wrong: String,
    count: usize,
    own_words: usize,
    cases: usize,
}

impl Report {
    fn compare(
        &mut self,
        area: &str,
        command: &transcript::Command,
        expected: &Answer,
        answer: &Answer,
        likeness: Likeness,
    ) {
        if likeness == Likeness::OwnWords {
            self.own_words += 1;
            words(&format!(
                "own words, {area}:{}: {}\n{}{}",
                command.line,
                command.text,
                expected.lines("  docker: "),
                answer.lines("  dhow: ")
            ));
        }
        if (&expected.stdout, expected.code) != (&answer.stdout, answer.code) || likeness == Likeness::Different {
            self.count += 1;
            // Writing to a string does not fail.
            _ = write!(
                self.wrong,
                "{area}.txt:{}: {}\n{}{}\n",
                command.line,
                command.text,
                expected.lines("  wanted: "),
                answer.lines("  answer: ")
            );
        }
    }

    fn count_cases(&mut self, items: &[Item]) {
        self.cases += items.iter().filter(|item| matches!(item, Item::Case(_))).count();
    }

    /// Fails if anything is wrong; else says what was compared.
    fn end(self) -> Result<()> {
        ensure!(self.count == 0, "{} answers differ:\n{}", self.count, self.wrong);
        let own_words = match self.own_words {
            0 => String::new(),
            count => format!(", {count} errors in dhow's own words"),
        };
        eprintln!("{NOTE}{} cases{own_words}", self.cases);
        Ok(())
    }
}

/// An area, played with dhow.
fn with_dhow(sandbox: &Sandbox, area: &str) -> Result<()> {
    let mut items = items(area)?;
    let dhow = sandbox.command::<&str>([]);
    let words: Vec<_> =
        std::iter::once(dhow.get_program()).chain(dhow.get_args()).map(|word| word.to_string_lossy()).collect();
    let stage = Stage::new(sandbox.path("files/stage"), &format!("exec {} \"$@\"", words.join(" ")))?;
    sandbox.ok(["load", "-i", &sandbox.archive("busybox", "docker")?])?;
    let mut report = Report::default();
    stage.play(area, &mut items, |command, answer| {
        let expected = command.difference.as_ref().map_or(&command.expected, |difference| &difference.answer);
        let likeness = wording::compare(&command.text, &expected.stderr, &answer.stderr);
        report.compare(area, command, expected, &answer, likeness);
    })?;
    report.count_cases(&items);
    report.end()
}

/// All areas, played with Docker: several daemons at once, each with its share.
fn with_docker(sandbox: &Sandbox) -> Result<()> {
    let archive = sandbox.archive("busybox", "docker")?;
    let results: Vec<Result<Report>> = thread::scope(|scope| {
        let start = |(number, areas)| {
            let directory = sandbox.path(&format!("files/docker{number}"));
            let archive = &archive;
            scope.spawn(move || with_daemon(&directory, archive, areas))
        };
        let running: Vec<_> = shares()?.into_iter().enumerate().map(start).collect();
        Ok::<_, anyhow::Error>(
            running.into_iter().map(|each| each.join().unwrap_or_else(|_| bail!("a panic"))).collect(),
        )
    })?;
    let mut all = Report::default();
    for result in results {
        let report = result?;
        all.wrong.push_str(&report.wrong);
        all.count += report.count;
        all.cases += report.cases;
    }
    all.end()
}

/// A daemon's share.
fn with_daemon(directory: &Path, archive: &str, areas: Vec<&str>) -> Result<Report> {
    let peer = Peer::start(directory)?;
    let loaded = peer.stage.run("start", &format!("docker load -i {archive}"))?;
    ensure!(loaded.code == 0, "docker load: {loaded:?}");
    let record = std::env::var_os("DHOW_SAME_RECORD");
    let mut report = Report::default();
    let wanted = std::env::var("DHOW_SAME_AREAS").ok();
    for area in areas {
        if wanted.as_ref().is_some_and(|wanted| !wanted.split(',').any(|each| each == area)) {
            continue;
        }
        let started = Instant::now();
        let mut items = items(area)?;
        peer.stage.play(area, &mut items, |command, answer| {
            let likeness = if command.expected.stderr == answer.stderr { Likeness::Same } else { Likeness::Different };
            report.compare(area, command, &command.expected, &answer, likeness);
            command.expected = answer;
        })?;
        if let Some(directory) = &record {
            fs::write(Path::new(directory).join(format!("{area}.txt")), transcript::write(&items))?;
        }
        report.count_cases(&items);
        peer.clear("busybox:latest")?;
        eprintln!("{area}: {:.1} s", started.elapsed().as_secs_f64());
    }
    Ok(report)
}

/// The areas, shared so that each daemon has about as much to do.
fn shares() -> Result<Vec<Vec<&'static str>>> {
    let mut sized = vec![];
    for (name, _) in AREAS {
        // A container's start costs as much as some ten other commands.
        let cost = |item: &Item| match item {
            Item::Command(command) => {
                1 + 5 * (command.text.matches("run ").count() + command.text.matches("start ").count())
            }
            _ => 0,
        };
        sized.push((items(name)?.iter().map(cost).sum::<usize>(), *name));
    }
    sized.sort_unstable_by(|one, other| other.cmp(one));
    let mut shares = vec![(0, vec![]); SHARES];
    for (cost, name) in sized {
        let Some(share) = shares.iter_mut().min_by_key(|(sum, _)| *sum) else { bail!("no shares") };
        share.0 += cost;
        share.1.push(name);
    }
    Ok(shares.into_iter().map(|(_, names)| names).collect())
}

/// There are as many cases as were promised, each with a name of its own and something to compare.
fn counted(_: &Sandbox) -> Result<()> {
    let (mut cases, mut commands, mut differences) = (BTreeSet::new(), 0, vec![]);
    for (area, _) in AREAS {
        let mut name = None;
        for item in items(area)? {
            match item {
                Item::Case(case) => {
                    ensure!(cases.insert((area, case.clone())), "two cases {case:?} in {area}.txt");
                    ensure!(name.is_none(), "{area}.txt: {name:?} has no command");
                    name = Some(case);
                }
                Item::Command(command) => {
                    (name, commands) = (None, commands + 1);
                    differences.extend(
                        command
                            .difference
                            .map(|difference| format!("{area}.txt:{}: {}", command.line, difference.reason)),
                    );
                }
                Item::Step(_) | Item::Remark(_) => {}
            }
        }
    }
    ensure!(cases.len() >= LEAST_CASES, "{} cases, wanted {LEAST_CASES}", cases.len());
    eprintln!("{}", differences.join("\n"));
    eprintln!("{NOTE}{} cases, {commands} commands, {} differences that are meant", cases.len(), differences.len());
    Ok(())
}

/// For who works on dhow's words: `DHOW_SAME_WORDS` is a file that gets every error that says the same in other words.
fn words(text: &str) {
    let Some(path) = std::env::var_os("DHOW_SAME_WORDS") else { return };
    if let Ok(mut file) = fs::OpenOptions::new().create(true).append(true).open(path) {
        drop(std::io::Write::write_all(&mut file, text.as_bytes()));
    }
}
