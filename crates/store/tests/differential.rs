//! The same archives through our extractor, GNU tar, bsdtar and Python's tarfile: the same tree, or a reason with a name.
//!
//! Archives of random members by a fixed seed (`DHOW_FUZZ=N` for N of them), and a table of dialects and tricks. Where members
//! alone do not say what is meant, programs differ, and a layer has rules of its own; these are the reasons.

#![allow(clippy::print_stdout)] // SKIP lines.

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;
use support::{Member, Scratch, Tar, root, tree, view};

/// Why programs may see another tree than we do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Reason {
    /// A member's way leads through a link of the archive. We follow it inside the layer, as Docker does; GNU tar puts such
    /// links off, bsdtar removes them, Python follows.
    ThroughALink,
    /// A hard link to what is not there. We refuse the archive; others go on with an error.
    LinkToNothing,
    /// A directory with something in it makes room for another kind of file. In a layer the later member counts; others fail.
    ReplacesADirectory,
    /// A directory where another kind of file was. Python fails.
    BecomesADirectory,
    /// A hard link to a symbolic link: Python makes a copy of what it leads to.
    HardLinkToALink,
    /// A file over a link, or over a file with another name: Python writes through it. A hard link over a file: it copies.
    WritesThrough,
    /// A hard link over its own target.
    LinkToItself,
}

/// A file as all four can say it.
type Shape = (String, u32, (u32, u32), Vec<u8>, String);

fn shapes(directory: &Path) -> BTreeMap<String, Shape> {
    let mut all = tree(directory);
    all.remove(".");
    let shape = |seen: support::Seen| (seen.kind, seen.mode, seen.owner, seen.content, seen.same_as);
    all.into_iter().map(|(name, seen)| (name, shape(seen))).collect()
}

struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % limit
    }

    fn of<'a>(&mut self, list: &[&'a str]) -> &'a str {
        list[self.below(list.len() as u64) as usize]
    }
}

/// What the members so far have made, and what is special about them.
#[derive(Default)]
struct History<'a> {
    seen: BTreeMap<&'a str, u8>,
    linked: BTreeSet<&'a str>,
    reasons: BTreeSet<Reason>,
}

impl<'a> History<'a> {
    fn add(&mut self, name: &'a str, kind: u8, target: &'a str) {
        let (seen, linked, reasons) = (&mut self.seen, &mut self.linked, &mut self.reasons);
        let parents: Vec<&str> = name.match_indices('/').map(|(at, _)| &name[..at]).collect();
        for parent in &parents {
            match seen.get(parent) {
                Some(b'2') => drop(reasons.insert(Reason::ThroughALink)),
                Some(b'0') => drop(reasons.insert(Reason::BecomesADirectory)),
                _ => {}
            }
        }
        let is_full = seen.keys().any(|other| other.starts_with(name) && other[name.len()..].starts_with('/'));
        match (seen.get(name), kind) {
            (Some(b'5'), b'0' | b'1' | b'2') => drop(reasons.insert(Reason::ReplacesADirectory)),
            (None, b'0' | b'1' | b'2') if is_full => drop(reasons.insert(Reason::ReplacesADirectory)),
            (Some(b'0' | b'2'), b'5') => drop(reasons.insert(Reason::BecomesADirectory)),
            _ => {}
        }
        let is_over_a_link = kind == b'0' && (seen.get(name) == Some(&b'2') || linked.contains(name));
        if is_over_a_link || (kind == b'1' && seen.contains_key(name)) {
            reasons.insert(Reason::WritesThrough);
        }
        if kind == b'1' {
            linked.extend([name, target]);
        }
        let mut now = kind;
        if kind == b'1' {
            match seen.get(target) {
                _ if target == name => drop(reasons.insert(Reason::LinkToItself)),
                Some(b'0') => now = b'0',
                Some(b'2') => drop(reasons.insert(Reason::HardLinkToALink)),
                _ => drop(reasons.insert(Reason::LinkToNothing)),
            }
            if target.match_indices('/').any(|(at, _)| seen.get(&target[..at]) == Some(&b'2')) {
                reasons.insert(Reason::ThroughALink);
            }
        }
        if kind != b'5' {
            // What was below it is gone.
            seen.retain(|other, _| !(other.starts_with(name) && other[name.len()..].starts_with('/')));
        }
        seen.insert(name, now);
        for parent in parents {
            seen.entry(parent).or_insert(b'5');
        }
    }
}

/// Up to a dozen members over few names, so that they meet; and what is special about them.
fn archive(random: &mut Random) -> (Vec<u8>, BTreeSet<Reason>) {
    const NAMES: [&str; 9] = ["a", "a/b", "a/b/c", "a/d", "e", "e/f", "e/f/g", "h", "i"];
    let mut tar = Tar::default();
    let mut history = History::default();
    let mut attributes: BTreeMap<&str, (u32, u64, u64)> = BTreeMap::new();
    for number in 0..2 + random.below(10) {
        let name = random.of(&NAMES);
        let is_parent = NAMES.iter().any(|other| other.len() > name.len() && other.starts_with(name));
        // Mostly what makes sense.
        let kind = match random.below(8) {
            0 => [b'0', b'5', b'2', b'1'][random.below(4) as usize],
            _ if is_parent => b'5',
            pick => [b'0', b'0', b'0', b'2', b'1'][pick as usize % 5],
        };
        let files: Vec<&str> = history.seen.iter().filter(|(_, kind)| **kind == b'0').map(|(name, _)| *name).collect();
        let target = match random.below(6) {
            1.. if !files.is_empty() => random.of(&files),
            _ => random.of(&NAMES),
        };
        history.add(name, kind, target);
        let data = format!("{number} {name}");
        let mode = [0o644, 0o600, 0o755, 0o4755, 0o1777][random.below(5) as usize];
        let mut own = (mode, random.below(3) * 1000, random.below(3) * 1000);
        if kind == b'1' {
            // As programs write it; Python would believe another.
            own = attributes.get(target).copied().unwrap_or(own);
        }
        attributes.insert(name, own);
        tar = tar.member(Member {
            path: name.as_bytes(),
            kind,
            link: if matches!(kind, b'1' | b'2') { target.as_bytes() } else { b"" },
            data: if kind == b'0' { data.as_bytes() } else { b"" },
            mode: own.0,
            uid: own.1,
            gid: own.2,
            ..Member::default()
        });
    }
    (tar.end(), history.reasons)
}

/// Each program unpacks `N.tar` into `PROGRAM-N`; which of them are installed.
fn unpack_all(directory: &Path, count: usize) -> Vec<&'static str> {
    let python = r#"
import os, sys, tarfile
for n in range(int(sys.argv[1])):
    os.mkdir(f"python-{n}")
    try:
        with tarfile.open(f"{n}.tar") as archive:
            archive.errorlevel = 1
            try: archive.extractall(f"python-{n}", numeric_owner=True, filter="fully_trusted")
            except TypeError: archive.extractall(f"python-{n}", numeric_owner=True)
    except Exception as error:
        open(f"python-{n}.failed", "w").write(repr(error))
"#;
    let shell = |program: &str, flags: &str| {
        format!(
            "n=0; while [ $n -lt {count} ]; do mkdir {program}-$n; {program} {flags} -xpf $n.tar -C {program}-$n 2>{program}-$n.failed \
             && rm {program}-$n.failed; n=$((n+1)); done"
        )
    };
    let is_there = |program: &str| {
        let found = Command::new(program).arg("--version").output().is_ok();
        if !found {
            println!("SKIP: {program} is not installed");
        }
        found
    };
    let mut there = Vec::new();
    for (program, flags) in [("tar", "--numeric-owner --same-owner --overwrite-dir"), ("bsdtar", "--numeric-owner")] {
        if is_there(program) {
            let script = shell(program, flags);
            assert!(Command::new("sh").args(["-c", &script]).current_dir(directory).status().unwrap().success());
            there.push(program);
        }
    }
    if is_there("python3") {
        let output =
            Command::new("python3").args(["-c", python, &count.to_string()]).current_dir(directory).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        there.push("python");
    }
    there
}

/// Parents that no member names get modes of each program's own choice.
fn without_modes_of_directories(mut shapes: BTreeMap<String, Shape>) -> BTreeMap<String, Shape> {
    for shape in shapes.values_mut().filter(|shape| shape.0.contains("irectory")) {
        (shape.1, shape.2) = (0, (0, 0));
    }
    shapes
}

#[test]
fn random_archives_give_the_same_tree_everywhere() {
    if !root() {
        return;
    }
    let count = std::env::var("DHOW_FUZZ").ok().and_then(|text| text.parse().ok()).unwrap_or(120);
    let mut random = Random(0x0dd_ba11);
    let scratch = Scratch::new();
    let work = scratch.path().join("work");
    std::fs::create_dir(&work).unwrap();
    let archives: Vec<_> = (0..count).map(|_| archive(&mut random)).collect();
    for (n, (bytes, _)) in archives.iter().enumerate() {
        std::fs::write(work.join(format!("{n}.tar")), bytes).unwrap();
    }
    let programs = unpack_all(&work, count);
    let (mut plain, mut named) = (0, BTreeMap::<Reason, u32>::new());
    for (n, (bytes, reasons)) in archives.iter().enumerate() {
        let ours = scratch.store.layers().import(None, &bytes[..]);
        for reason in reasons {
            *named.entry(*reason).or_default() += 1;
        }
        if !reasons.is_empty() {
            // Whatever it is, the store stays sound.
            assert!(scratch.is_clean());
            continue;
        }
        let ours = ours.unwrap_or_else(|error| panic!("{n}: {}", support::chain(&error)));
        let ours = without_modes_of_directories(shapes(&view(&ours)));
        for program in &programs {
            let failed = std::fs::read_to_string(work.join(format!("{program}-{n}.failed")));
            assert!(failed.is_err(), "{program} fails with {n}: {failed:?}");
            let theirs = without_modes_of_directories(shapes(&work.join(format!("{program}-{n}"))));
            assert_eq!(ours, theirs, "{program}, archive {n}");
        }
        plain += 1;
    }
    println!("{plain} of {count} archives gave one tree; reasons of the others: {named:?}");
    assert!(plain * 4 > count, "only {plain} archives without a reason");
}

/// Name, archive, whether we take it, programs whose tree is another, and why.
type Row = (&'static str, Vec<u8>, bool, &'static [&'static str], &'static str);

fn tricks() -> Vec<Row> {
    let file = |name: &str, data: &str| Tar::default().file(name, data);
    vec![
        ("a name twice", file("f", "one").file("f", "two").end(), true, &[], ""),
        ("a leading slash", file("/etc/x", "x").end(), true, &["python"], "Python writes to the host's /etc: not run"),
        ("dots and slashes", file("./a//./b", "x").end(), true, &[], ""),
        (
            "dot dot",
            file("a/../b", "x").end(),
            false,
            &["tar", "bsdtar", "python"],
            "we refuse every `..`; GNU tar leaves the member out, bsdtar too, Python makes it",
        ),
        (
            "the size of the extended header counts",
            Tar::default().pax(&[("size", b"4")]).raw(b'0', b"p", b"data", &Member::default()).file("q", "y").end(),
            true,
            &[],
            "",
        ),
        (
            "a path of the extended header",
            Tar::default().pax(&[("path", b"real")]).file("fake", "x").end(),
            true,
            &[],
            "",
        ),
        (
            "a link of the extended header",
            Tar::default().pax(&[("linkpath", b"to")]).symlink("l", "x").end(),
            true,
            &[],
            "",
        ),
        ("something after the end", [file("a", "1").end(), file("b", "2").end()].concat(), true, &[], ""),
        (
            "a hard link to what comes later",
            Tar::default().hard_link("l", "f").file("f", "x").end(),
            false,
            &["tar", "bsdtar", "python"],
            "we refuse; others go on without the link",
        ),
        (
            "a file with a slash at its end",
            file("d/", "").end(),
            true,
            &["tar", "bsdtar"],
            "of type 0 it is a file for us, Go and Python; of type NUL, as before 1988, a directory for all",
        ),
        (
            "an old directory",
            Tar::default().member(Member { path: b"d/", kind: 0, mode: 0o755, ..Member::default() }).end(),
            true,
            &[],
            "",
        ),
        (
            "an unknown type",
            Tar::default().member(Member { path: b"z", kind: b'Z', data: b"x", ..Member::default() }).end(),
            false,
            &["tar", "bsdtar", "python"],
            "we refuse types that we do not know; others take them for files",
        ),
    ]
}

/// Archives that programs read differently, and what we make of them.
#[test]
fn tricks_and_who_falls_for_them() {
    if !root() {
        return;
    }
    let table = tricks();
    let scratch = Scratch::new();
    let work = scratch.path().join("work");
    std::fs::create_dir(&work).unwrap();
    for (n, (name, bytes, ..)) in table.iter().enumerate() {
        let dangerous = *name == "a leading slash";
        std::fs::write(work.join(format!("{n}.tar")), if dangerous { b"" } else { &bytes[..] }).unwrap();
    }
    let programs = unpack_all(&work, table.len());
    for (n, (name, bytes, taken, differ, why)) in table.iter().enumerate() {
        let ours = scratch.store.layers().import(None, &bytes[..]);
        assert_eq!(ours.is_ok(), *taken, "{name}: {ours:?}");
        if *name == "a leading slash" {
            continue;
        }
        let ours = ours.map(|layer| without_modes_of_directories(shapes(&view(&layer)))).ok();
        for program in &programs {
            let theirs = without_modes_of_directories(shapes(&work.join(format!("{program}-{n}"))));
            let is_same = ours.as_ref() == Some(&theirs);
            assert_eq!(
                is_same,
                !differ.contains(program),
                "{name}, {program} ({why}): ours {ours:?}, theirs {theirs:?}"
            );
        }
    }
}
