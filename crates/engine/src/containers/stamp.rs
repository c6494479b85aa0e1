//! What an inspection was made from: who has asked before need not be told again what has not changed.
//!
//! An inspection is made of rows of the database and of what the container's monitor has written. Both are cheap to compare and dear to
//! read: settings are kilobytes of JSON, and whoever polls a container asks for the same again and again.

use super::glance::Glance;
use super::record::Container;
use super::table;
use crate::database::Version;
use crate::engine::Engine;
use crate::error::Result;
use crate::wal_head::Head;
use rustix::io::Errno;
use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

/// What an inspection was made from. As long as it is the same, so is what was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stamp {
    id: String,
    database: Version,
    /// The same as who has no connection sees it, where that can be seen.
    head: Option<Head>,
    run: PathBuf,
    /// The monitor's word; none where nobody has said anything.
    word: Option<Word>,
}

impl Stamp {
    /// The identifier of the container that was found.
    #[must_use]
    pub fn container(&self) -> &str {
        &self.id
    }

    /// By what others can tell that it is still so, without this engine; `None` where they cannot.
    #[must_use]
    pub fn glance(&self) -> Option<Glance> {
        Some(Glance::new(self.head.clone()?, self.run.clone(), self.word))
    }
}

/// A file that is never written twice, but replaced by another, and when it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Word {
    inode: u64,
    size: i64,
    changed: (i64, u64),
}

impl Word {
    /// What the monitor of a run has said last, or that nobody has said anything; `None` when that cannot be told.
    pub(super) fn of(run: &Path) -> Option<Option<Word>> {
        match rustix::fs::stat(run.join("state.json")) {
            Ok(file) => Some(Some(Word {
                inode: file.st_ino,
                size: file.st_size,
                changed: (file.st_ctime, file.st_ctime_nsec),
            })),
            Err(Errno::NOENT) => Some(None),
            Err(_) => None,
        }
    }

    /// How long ago it was said.
    fn age(&self) -> Option<Duration> {
        let since = Duration::new(u64::try_from(self.changed.0).ok()?, u32::try_from(self.changed.1).ok()?);
        SystemTime::now().duration_since(SystemTime::UNIX_EPOCH + since).ok()
    }
}

/// An answer to who has asked before.
#[derive(Clone, Debug)]
pub enum Inspected {
    /// What was found then.
    Same,
    /// This, and how to ask for it again; without the latter it may be another thing the next time.
    Anew(Box<Container>, Option<Stamp>),
}

/// A file that is younger may be replaced by another that looks the same: some file systems' clocks tick so seldom.
const TICK: Duration = Duration::from_millis(100);

impl Engine {
    /// As [`Engine::inspect`], for who may have asked before: `known` stands for what was found then, by this engine.
    ///
    /// # Errors
    /// Those of [`Engine::inspect`].
    pub fn inspect_again(&self, wanted: &str, known: Option<&Stamp>) -> Result<Inspected> {
        let held = self.put_right_and_see();
        // All are looked at before what they stand for is read: what changes in between is found by the next who asks.
        let (database, head) = self.database().and_then(|database| Ok((database.version()?, database.head())))?;
        let is_same = |known: &Stamp| known.database == database && known.head == head;
        if known.is_some_and(|known| is_same(known) && self.word(&known.id, &held) == Some(known.word)) {
            return Ok(Inspected::Same);
        }
        let entry = table::find(self.database()?.read(), wanted)?;
        let word = self.word(&entry.id, &held);
        let container = self.observe(entry)?;
        // A monitor that has not said when its container began is asked whether it lives.
        let word = word
            .filter(|word| word.is_none() || (container.status.is_running() && !container.run.started_at.is_empty()));
        let run = self.directories().container_run(&container.id);
        let stamp = word.map(|word| Stamp { id: container.id.clone(), database, head, run, word });
        Ok(Inspected::Anew(Box::new(container), stamp))
    }

    /// What a container's monitor has said last; `None` when that cannot be told for long.
    fn word(&self, id: &str, held: &HashSet<String>) -> Option<Option<Word>> {
        let word = Word::of(&self.directories().container_run(id))?;
        // What nobody holds may have ended without a word.
        let lasts = |word: &Word| held.contains(id) && word.age().is_some_and(|age| age > TICK);
        word.as_ref().is_none_or(lasts).then_some(word)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::containers::record::{Run, Settings};
    use crate::containers::table::Entry;
    use crate::engine::Config;

    fn engine(directory: &std::path::Path) -> Engine {
        let root = |name| directory.join(name);
        Engine::open(Config { data_root: root("data"), run_root: root("run"), program: None }).unwrap()
    }

    fn anew(engine: &Engine, wanted: &str, known: Option<&Stamp>) -> (Container, Stamp) {
        match engine.inspect_again(wanted, known).unwrap() {
            Inspected::Anew(container, stamp) => (*container, stamp.expect("it lasts")),
            Inspected::Same => panic!("it has changed"),
        }
    }

    fn is_same(engine: &Engine, known: &Stamp) -> bool {
        matches!(engine.inspect_again("box", Some(known)).unwrap(), Inspected::Same)
    }

    #[test]
    fn nothing_is_told_twice_until_it_changes() {
        let directory = tempfile::tempdir().unwrap();
        let (engine, other) = (engine(directory.path()), engine(directory.path()));
        let entry = Entry {
            id: "a".repeat(64),
            name: "box".into(),
            created_at: "2026-01-01T00:00:00Z".into(),
            settings: Settings { image_name: "image".into(), ..Settings::default() },
            run: None,
            endpoints: Vec::new(),
            published: None,
        };
        engine.database().unwrap().write(|t| table::insert(t, &entry)).unwrap();
        let (found, stamp) = anew(&engine, "box", None);
        assert_eq!(found.settings.image_name, "image");
        assert!(is_same(&engine, &stamp) && is_same(&engine, &stamp));
        let glance = stamp.glance().expect("the log has an index");
        assert!(glance.is_true() && glance.is_true());
        // Another engine does not know what this one has found.
        assert!(!is_same(&other, &stamp));
        // A change by this engine, and one by another.
        table::rename(&mut engine.database().unwrap(), &entry.id, "other").unwrap();
        assert!(!glance.is_true());
        assert!(engine.inspect_again("box", Some(&stamp)).is_err());
        table::rename(&mut other.database().unwrap(), &entry.id, "box").unwrap();
        let (_, stamp) = anew(&engine, "box", Some(&stamp));
        assert!(is_same(&engine, &stamp));
        let glance = stamp.glance().unwrap();
        assert!(glance.is_true());
        let run = Run { exit_code: 3, started_at: "x".into(), finished_at: "y".into(), ..Run::default() };
        table::set_run(&mut other.database().unwrap(), &entry.id, &run).unwrap();
        assert!(!glance.is_true());
        let (found, stamp) = anew(&engine, "box", Some(&stamp));
        assert_eq!(found.run.exit_code, 3);
        assert!(is_same(&engine, &stamp));
    }

    #[test]
    fn a_monitor_that_says_something_or_goes_is_seen_at_a_glance() {
        let directory = tempfile::tempdir().unwrap();
        let engine = engine(directory.path());
        engine.database().unwrap().write(|_| Ok(())).unwrap();
        let id = "b".repeat(64);
        let held = crate::containers::lock::claim(engine.directories(), &id).unwrap().expect("nobody holds it");
        let run = engine.directories().container_run(&id);
        let head = || engine.database().unwrap().head().expect("the log has an index");
        let silent = Glance::new(head(), run.clone(), None);
        assert!(silent.is_true());
        std::fs::write(run.join("state.json"), "one").unwrap();
        assert!(!silent.is_true(), "there is a word");
        let glance = Glance::new(head(), run.clone(), Word::of(&run).unwrap());
        assert!(glance.is_true() && glance.clone().is_true());
        std::fs::write(run.join("new.json"), "two").unwrap();
        std::fs::rename(run.join("new.json"), run.join("state.json")).unwrap();
        assert!(!glance.is_true(), "there is another");
        let glance = Glance::new(head(), run.clone(), Word::of(&run).unwrap());
        assert!(glance.is_true());
        drop(held);
        assert!(!glance.is_true(), "nobody holds it");
    }
}
