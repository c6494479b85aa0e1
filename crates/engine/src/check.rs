//! `system check`: is what is on disk what the database says, to the last byte?
//!
//! Every blob is read and hashed. Every layer is walked (names and sizes) and its archive put together and hashed, which reads
//! every byte of every file that came from it. Every image has its documents and layers. Nothing unfinished or unnamed lies
//! around. Containers may run, pull and be removed meanwhile: what vanishes during the check is no finding, and what somebody
//! may be about to name is left alone.
//!
//! Repair removes: what is damaged goes, with the images that need it, unless a container does; then it is only named.

use crate::engine::Engine;
use crate::error::{Context, Result};
use crate::images::table;
use oci::digest::Digest;
use std::collections::BTreeSet;
use std::io::Read;
use store::StoreError;

/// What a check found.
#[derive(Clone, Debug, Default)]
pub struct Checked {
    /// Documents that were read.
    pub blobs: usize,
    /// Layers that were read.
    pub layers: usize,
    /// Images that were looked at.
    pub images: usize,
    /// What is wrong.
    pub findings: Vec<Finding>,
}

/// Something wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// One sentence.
    pub text: String,
    /// What was done about it; none if nothing was.
    pub repaired: Option<String>,
}

impl Checked {
    pub(crate) fn found(&mut self, text: String, repaired: Option<String>) {
        self.findings.push(Finding { text, repaired });
    }

    /// Is something wrong that is still there?
    pub fn is_damaged(&self) -> bool {
        self.findings.iter().any(|finding| finding.repaired.is_none())
    }
}

impl Engine {
    /// Checks everything, and repairs what can be repaired if asked to.
    ///
    /// # Errors
    /// When the check itself cannot go on; what it finds is no error.
    pub fn check(&self, repair: bool) -> Result<Checked> {
        self.put_right();
        let mut checked = Checked::default();
        let broken = self.check_content(&mut checked)?;
        self.check_images(&broken, repair, &mut checked)?;
        self.check_unnamed(repair, &mut checked)?;
        self.check_shifted(repair, &mut checked)?;
        self.check_merged(repair, &mut checked)?;
        self.check_staging(repair, &mut checked)?;
        Ok(checked)
    }

    /// Reads everything, and returns what is not what its name says.
    fn check_content(&self, checked: &mut Checked) -> Result<BTreeSet<String>> {
        let store = self.store()?;
        let mut broken = BTreeSet::new();
        for blob in store.blobs().list().internal(|| "cannot list the blobs".into())? {
            match store.blobs().verify(&blob) {
                Err(StoreError::NoSuchBlob(_)) => continue,
                Err(error) => {
                    checked.found(format!("blob {blob} is damaged: {}", crate::containers::chain(&error)), None);
                    broken.insert(blob.to_string());
                }
                Ok(()) => {}
            }
            checked.blobs += 1;
        }
        for layer in store.layers().list().internal(|| "cannot list the layers".into())? {
            match whole(store, &layer) {
                Ok(true) => checked.layers += 1,
                Ok(false) => {}
                Err(why) => {
                    checked.layers += 1;
                    checked.found(format!("layer {layer} is damaged: {why}"), None);
                    broken.insert(layer.to_string());
                }
            }
        }
        Ok(broken)
    }

    fn check_images(&self, broken: &BTreeSet<String>, repair: bool, checked: &mut Checked) -> Result<()> {
        let rows = table::all(self.database()?.read())?;
        for row in &rows {
            checked.images += 1;
            let mut bad = Vec::new();
            for part in row.layers.iter().chain([&row.id, &row.manifest]) {
                let is_layer = row.layers.contains(part);
                if broken.contains(part) {
                    bad.push(format!("{part} is damaged"));
                } else if !self.has_part(part, is_layer)? {
                    bad.push(format!("{part} is missing"));
                }
            }
            if bad.is_empty() {
                continue;
            }
            // Removed while we looked?
            if table::by_id(self.database()?.read(), &row.id)?.is_none() {
                continue;
            }
            let name = row.names.first().unwrap_or(&row.id);
            let repaired = match repair {
                true => self.give_up_image(row)?,
                false => None,
            };
            checked.found(format!("image {name} cannot be used: {}", bad.join(", ")), repaired);
        }
        if repair {
            self.remove_broken(broken, checked)?;
        }
        Ok(())
    }

    fn has_part(&self, part: &str, is_layer: bool) -> Result<bool> {
        let store = self.store()?;
        let Ok(digest) = part.parse::<Digest>() else { return Ok(false) };
        let found = if is_layer { store.layers().contains(&digest) } else { store.blobs().contains(&digest) };
        found.internal(|| format!("cannot look for {part}"))
    }

    /// Removes the rows of an image that cannot be used, unless a container needs what is left of it.
    fn give_up_image(&self, row: &table::Row) -> Result<Option<String>> {
        if !table::containers_of(self.database()?.read(), &row.id)?.is_empty() {
            return Ok(None);
        }
        self.database()?.write(|t| match table::containers_of(t, &row.id)?.is_empty() {
            true => table::delete(t, &row.id),
            false => Ok(()),
        })?;
        Ok(Some("removed; pull or load it again".into()))
    }

    /// Removes damaged parts that no image has any more.
    fn remove_broken(&self, broken: &BTreeSet<String>, checked: &mut Checked) -> Result<()> {
        let Some(_alone) = self.claim_unnamed_layers()? else { return Ok(()) };
        let (layers, blobs) = self.unnamed()?;
        let store = self.store()?;
        for digest in layers.iter().filter(|digest| broken.contains(&digest.to_string())) {
            store.layers().remove(digest).internal(|| format!("cannot remove layer {digest}"))?;
            checked.repaired(&digest.to_string());
        }
        for digest in blobs.iter().filter(|digest| broken.contains(&digest.to_string())) {
            store.blobs().remove(digest).internal(|| format!("cannot remove blob {digest}"))?;
            checked.repaired(&digest.to_string());
        }
        Ok(())
    }

    fn check_unnamed(&self, repair: bool, checked: &mut Checked) -> Result<()> {
        let (layers, blobs) = match self.claim_unnamed_layers()? {
            Some(_alone) => self.unnamed()?,
            // Somebody may be about to name them.
            None => return Ok(()),
        };
        if repair {
            self.collect_unnamed()?;
        }
        let repaired = || repair.then(|| "removed".to_owned());
        for layer in layers {
            checked.found(format!("layer {layer} belongs to no image"), repaired());
        }
        for blob in blobs {
            checked.found(format!("blob {blob} belongs to no image"), repaired());
        }
        Ok(())
    }

    /// The layers' forms with other owners. One that is not whole is made again when it is needed, unless it is in use now.
    fn check_shifted(&self, repair: bool, checked: &mut Checked) -> Result<()> {
        let store = self.store()?;
        let used = self.shifted_keys()?;
        let failed = || "cannot look at the layers' forms with other owners".to_owned();
        for form in store.layers().check_shifted().internal(failed)?.into_iter().filter(|form| !form.whole) {
            let repaired = repair && !used.contains(&form.key);
            if repaired {
                store.layers().remove_shifted(&form.key, &form.name).internal(failed)?;
            }
            let text = format!("the form {} of layers for the ids {} is damaged", form.name, form.key);
            checked.found(text, repaired.then(|| "removed".to_owned()));
        }
        Ok(())
    }

    fn check_staging(&self, repair: bool, checked: &mut Checked) -> Result<()> {
        let left = self.store()?.abandoned().internal(|| "cannot look into the staging directory".into())?;
        if left.is_empty() {
            return Ok(());
        }
        if repair {
            self.store()?.sweep().internal(|| "cannot sweep the staging directory".into())?;
        }
        for name in left {
            checked.found(format!("{name} is left of something unfinished"), repair.then(|| "removed".to_owned()));
        }
        Ok(())
    }
}

impl Checked {
    fn repaired(&mut self, digest: &str) {
        for finding in self.findings.iter_mut().filter(|finding| finding.repaired.is_none()) {
            let text = &finding.text;
            if text.starts_with(&format!("layer {digest} ")) || text.starts_with(&format!("blob {digest} ")) {
                finding.repaired = Some("removed".into());
            }
        }
    }
}

/// Whether a layer is what its name says, or why not; false if it vanished.
fn whole(store: &store::Store, layer: &Digest) -> std::result::Result<bool, String> {
    let told = |error: StoreError| match error {
        StoreError::NoSuchLayer(_) => Ok(false),
        error => Err(crate::containers::chain(&error)),
    };
    match store.layers().verify_tree(layer) {
        Ok(true) => {}
        Ok(false) => return Err("it has not the names and sizes that were unpacked".into()),
        Err(error) => return told(error),
    }
    let mut rebuilt = match store.layers().rebuild(layer) {
        Ok(rebuilt) => rebuilt,
        // Nothing more can be said of what an older version unpacked.
        Err(StoreError::NoRecipe(_)) => return Ok(true),
        Err(error) => return told(error),
    };
    let mut buffer = vec![0; 256 << 10];
    loop {
        match rebuilt.read(&mut buffer) {
            Ok(0) => return Ok(true),
            Ok(_) => {}
            // Removed under our hands?
            Err(_) if !store.layers().contains(layer).unwrap_or(true) => return Ok(false),
            Err(error) => return Err(error.to_string()),
        }
    }
}
