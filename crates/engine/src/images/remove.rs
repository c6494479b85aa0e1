//! `rmi`: names go first; an image goes with its last name, a layer with its last image.

use super::{no_such_image, parse, table};
use crate::engine::Engine;
use crate::error::{Context, Error, Kind, Result};
use oci::digest::Digest;
use oci::reference::Reference;

/// One line of what a removal did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Removed {
    /// A name no longer exists.
    Untagged(String),
    /// An image or a layer no longer exists.
    Deleted(String),
}

impl Engine {
    /// Removes a name, and the image when it was the last; by identifier, the image with all its names.
    ///
    /// # Errors
    /// [`Kind::Conflict`] when a container uses the image, or several repositories name it and `force` is not set.
    pub fn remove_image(&self, wanted: &str, force: bool) -> Result<Vec<Removed>> {
        self.put_right();
        let row = self.find_image(wanted)?.ok_or_else(|| no_such_image(wanted))?;
        let done = self.remove_found(&row, wanted, force)?;
        for removed in &done {
            match removed {
                Removed::Untagged(name) => self.record_image("untag", &row.id, name),
                // Layers have no events.
                Removed::Deleted(id) if *id == row.id => self.record_image("delete", id, id),
                Removed::Deleted(_) => {}
            }
        }
        Ok(done)
    }

    fn remove_found(&self, row: &table::Row, wanted: &str, force: bool) -> Result<Vec<Removed>> {
        let short = row.id.trim_start_matches("sha256:").get(..12).unwrap_or(&row.id).to_owned();
        let by_name = parse(wanted).ok().map(canonical).filter(|name| row.names.contains(name));
        let tags: Vec<&String> = row.names.iter().filter(|name| !name.contains('@')).collect();
        if let Some(name) = &by_name
            && (tags.len() > 1 && !name.contains('@'))
        {
            self.database()?.write(|t| table::remove_name(t, name))?;
            return Ok(vec![Removed::Untagged(familiar(name))]);
        }
        if by_name.is_none() && tags.len() > 1 && !force {
            return Err(Error::new(
                Kind::Conflict,
                format!(
                    "conflict: unable to delete {short} (must be forced) - image is referenced in multiple repositories"
                ),
            ));
        }
        let users = table::containers_of(self.database()?.read(), &row.id)?;
        if let Some(user) = users.first() {
            return self.keep_for_container(row, wanted, &short, user, force, by_name);
        }
        let mut done: Vec<Removed> = row.names.iter().map(|name| Removed::Untagged(familiar(name))).collect();
        let mut unsettled = self.unsettle()?;
        let deleted = self.database()?.write(|t| {
            // A container made since we looked keeps the image.
            if !table::containers_of(t, &row.id)?.is_empty() {
                return Err(in_use(wanted, &short, "that was just created"));
            }
            table::delete(t, &row.id)
        });
        // Given back for the collection, which wants it alone; the mark stays until that is done.
        unsettled.release();
        deleted?;
        done.push(Removed::Deleted(row.id.clone()));
        let all = match self.collect_layers(row)? {
            Some((collected, removal)) => {
                done.extend(collected);
                // The mark is still there, the lock is not: others need not wait for the disk.
                removal.finish().internal(|| format!("cannot remove the layers of {}", row.id))?;
                true
            }
            None => false,
        };
        self.settle(unsettled, all)?;
        Ok(done)
    }

    /// Docker: with force, a name may go although a stopped container uses the image; the image itself stays.
    fn keep_for_container(
        &self,
        row: &table::Row,
        wanted: &str,
        short: &str,
        user: &str,
        force: bool,
        by_name: Option<String>,
    ) -> Result<Vec<Removed>> {
        let user = user.get(..12).unwrap_or(user);
        let running = self
            .lines(crate::containers::Detail::NoNetworks)?
            .iter()
            .any(|container| container.status.is_running() && container.settings.image_id == row.id);
        if running || !force {
            let what = if running { "running container" } else { "stopped container" };
            return Err(in_use(wanted, short, &format!("by {what} {user}")));
        }
        let names = by_name.map_or_else(|| row.names.clone(), |name| vec![name]);
        self.database()?.write(|t| names.iter().try_for_each(|name| table::remove_name(t, name)))?;
        Ok(names.iter().map(|name| Removed::Untagged(familiar(name))).collect())
    }

    /// Deletes a document that no image has any more, unless somebody may be about to record one that has it; then it is
    /// left to the next prune. The caller does not rely on layers at this moment.
    pub(crate) fn forget_document(&self, digest: &str) -> Result<()> {
        let Some(_alone) = self.claim_unnamed_layers()? else { return Ok(()) };
        let database = self.database()?;
        if !table::blob_in_use(database.read(), digest)?
            && let Ok(digest) = digest.parse::<Digest>()
        {
            let store = self.store()?;
            store.blobs().remove(&digest).internal(|| format!("cannot remove blob {digest}"))?;
            store.forget_marks(Some(&[digest])).internal(|| "cannot forget what is gone".into())?;
        }
        Ok(())
    }

    /// Deletes the documents that no image has any more, and takes its layers away.
    ///
    /// Whoever is about to record an image holds the store's lock shared from the moment it relies on a layer; while
    /// somebody does, nothing is deleted here: the next removal or sweep does it.
    ///
    /// Returns what went, and the layers whose files are still to go.
    fn collect_layers(&self, row: &table::Row) -> Result<Option<(Vec<Removed>, store::Removal<'_>)>> {
        let store = self.store()?;
        let Some(_alone) = self.claim_unnamed_layers()? else { return Ok(None) };
        let mut removal = store.layers().removal();
        let mut done = Vec::new();
        let database = self.database()?;
        let connection = database.read();
        let mut gone: Vec<Digest> = row.layers.iter().filter_map(|layer| layer.parse().ok()).collect();
        // First, so that there is none without its layers.
        gone.extend(self.forget_merged(connection, &row.layers)?);
        for diff_id in row.layers.iter().rev() {
            if table::layer_in_use(connection, diff_id)? {
                continue;
            }
            if let Ok(digest) = diff_id.parse::<Digest>() {
                removal.take(&digest).internal(|| format!("cannot remove layer {diff_id}"))?;
                done.push(Removed::Deleted(diff_id.clone()));
            }
        }
        for document in [&row.manifest, &row.id] {
            if !table::blob_in_use(connection, document)?
                && let Ok(digest) = document.parse::<Digest>()
            {
                store.blobs().remove(&digest).internal(|| format!("cannot remove blob {document}"))?;
                gone.push(digest);
            }
        }
        store.forget_marks(Some(&gone)).internal(|| "cannot forget what is gone".into())?;
        Ok(Some((done, removal)))
    }
}

fn canonical(reference: Reference) -> String {
    match reference.digest() {
        Some(digest) => format!("{}@{digest}", reference.name()),
        None => reference.or_latest().to_string(),
    }
}

fn familiar(name: &str) -> String {
    Reference::parse(name).map_or_else(|_| name.to_owned(), |reference| reference.familiar())
}

fn in_use(wanted: &str, short: &str, by: &str) -> Error {
    Error::new(
        Kind::Conflict,
        format!(
            "conflict: unable to remove repository reference {wanted:?} (must force) - image {short} is being used {by}"
        ),
    )
    .hint("remove the container first")
}
