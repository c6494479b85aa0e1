//! What is remembered of each attachment: a file for each, written to another name first.

use super::{Attachment, NetworkList};
use crate::error::{Context, Kind, Result};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

#[derive(Clone, Debug)]
pub(super) struct Cache(PathBuf);

/// An attachment that was begun, and its result once it was made.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Entry {
    pub attachment: Attachment,
    pub list: NetworkList,
    pub result: Option<Value>,
}

impl Cache {
    pub(super) fn new(directory: PathBuf) -> Cache {
        Cache(directory)
    }

    /// None of the parts has a colon in it.
    fn path(&self, network: &str, attachment: &Attachment) -> PathBuf {
        self.0.join(format!("{network}:{}:{}", attachment.container, attachment.interface))
    }

    pub(super) fn read(&self, list: &NetworkList, attachment: &Attachment) -> Result<Option<Entry>> {
        read(&self.path(&list.name, attachment))
    }

    pub(super) fn write(&self, entry: &Entry) -> Result<()> {
        crate::directories::make(&self.0, 0o700)?;
        let path = self.path(&entry.list.name, &entry.attachment);
        let failed = || format!("cannot write {}", path.display());
        let new = path.with_file_name(format!(".{}", entry.attachment.container));
        let text = serde_json::to_vec(entry).internal(failed)?;
        std::fs::write(&new, text).and_then(|()| std::fs::rename(&new, &path)).internal(failed)
    }

    pub(super) fn remove(&self, network: &str, attachment: &Attachment) -> Result<()> {
        let path = self.path(network, attachment);
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                Err(error).internal(|| format!("cannot remove {}", path.display()))
            }
            _ => Ok(()),
        }
    }

    /// What is recorded of a network. Of a record that cannot be read (a power cut may have emptied it) the name says whose it is:
    /// that is enough to detach it.
    pub(super) fn of_network(&self, list: &NetworkList) -> Result<Vec<Entry>> {
        let entry = |path: &Path| match read(path) {
            Err(error) if error.kind() == Kind::Corrupt => {
                Ok(named(path).map(|attachment| Entry { attachment, list: list.clone(), result: None }))
            }
            other => other,
        };
        self.files(&list.name)?.iter().filter_map(|path| entry(path).transpose()).collect()
    }

    /// A network's configuration, as one of its attachments remembers it.
    pub(super) fn remembered(&self, network: &str) -> Option<NetworkList> {
        self.files(network).ok()?.iter().find_map(|path| read(path).ok().flatten()).map(|entry| entry.list)
    }

    fn files(&self, network: &str) -> Result<Vec<PathBuf>> {
        let prefix = format!("{network}:");
        let entries = crate::directories::entries(&self.0)?.into_iter();
        let own = entries.filter(|entry| entry.file_name().to_string_lossy().starts_with(&prefix));
        Ok(own.map(|entry| entry.path()).collect())
    }
}

/// Pod and interface of a record's name.
fn named(path: &Path) -> Option<Attachment> {
    let name = path.file_name()?.to_str()?;
    let mut parts = name.split(':').skip(1).map(str::to_owned);
    Some(Attachment { container: parts.next()?, interface: parts.next()?, ..Attachment::default() })
}

fn read(path: &Path) -> Result<Option<Entry>> {
    match std::fs::read(path) {
        Ok(text) => {
            serde_json::from_slice(&text).map(Some).kind(Kind::Corrupt, || format!("{} cannot be read", path.display()))
        }
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).internal(|| format!("cannot read {}", path.display())),
    }
}
