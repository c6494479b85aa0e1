//! Removing all containers that do not run.

use super::record::{Container, Status};
use crate::engine::Engine;
use crate::error::{Context, Kind, Result};
use jiff::Timestamp;
use std::collections::BTreeSet;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// Which stopped containers go.
#[derive(Clone, Debug, Default)]
pub struct PruneFilter {
    /// Only those made before.
    pub until: Option<Timestamp>,
    /// Only those with all of these labels: a name, and a value if that matters.
    pub labels: Vec<(String, Option<String>)>,
    /// Only those with none of these.
    pub without_labels: Vec<(String, Option<String>)>,
}

/// What was removed.
#[derive(Clone, Debug, Default)]
pub struct Pruned {
    /// Identifiers.
    pub ids: Vec<String>,
    /// Bytes that their own files took.
    pub bytes: u64,
}

impl PruneFilter {
    fn matches(&self, container: &Container) -> bool {
        let labels = &container.settings.labels;
        let has = |(name, value): &(String, Option<String>)| {
            labels.get(name).is_some_and(|found| value.as_ref().is_none_or(|value| value == found))
        };
        let made = container.created_at.parse::<Timestamp>();
        self.until.is_none_or(|until| made.is_ok_and(|made| made < until))
            && self.labels.iter().all(has)
            && !self.without_labels.iter().any(has)
    }
}

impl Engine {
    /// Removes all stopped containers that the filter lets through.
    ///
    /// # Errors
    /// When one cannot be removed; those before it are gone.
    pub fn prune_containers(&self, filter: &PruneFilter) -> Result<Pruned> {
        let mut pruned = Pruned::default();
        for container in self.list(true)? {
            if !matches!(container.status, Status::Created | Status::Exited) || !filter.matches(&container) {
                continue;
            }
            let bytes = self.own_bytes(&container.id)?;
            match self.remove(&container.id, false, false) {
                Ok(()) => {
                    pruned.ids.push(container.id);
                    pruned.bytes += bytes;
                }
                // Started or removed in this moment.
                Err(error) if matches!(error.kind(), Kind::Conflict | Kind::NotFound) => {}
                Err(error) => return Err(error),
            }
        }
        self.record_event(
            crate::events::Type::Container,
            "prune",
            "",
            [("reclaimed".to_owned(), pruned.bytes.to_string())].into(),
        );
        Ok(pruned)
    }

    /// Bytes of the files that a container wrote.
    pub(super) fn own_bytes(&self, id: &str) -> Result<u64> {
        let failed = || format!("cannot find the files of container {id}");
        let writable = store::Writable::open(self.store()?, id).internal(failed)?;
        if writable.is_limited() {
            return writable.file_bytes().internal(failed);
        }
        let upper = writable.upper();
        let mut bytes = 0;
        add(&upper, &mut BTreeSet::new(), &mut bytes);
        Ok(bytes)
    }
}

/// Adds up a tree. Links are not followed; a file of several names counts once; what vanishes meanwhile counts nothing.
fn add(directory: &Path, seen: &mut BTreeSet<u64>, bytes: &mut u64) {
    let Ok(entries) = std::fs::read_dir(directory) else { return };
    for entry in entries.flatten() {
        let Ok(metadata) = entry.metadata() else { continue };
        if metadata.is_dir() {
            add(&entry.path(), seen, bytes);
        } else if metadata.is_file() && (metadata.nlink() == 1 || seen.insert(metadata.ino())) {
            *bytes += metadata.len();
        }
    }
}
