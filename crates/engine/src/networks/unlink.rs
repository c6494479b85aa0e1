//! Taking a link away: the name by which a container knows another (`--link CONTAINER:NAME`).

use super::names::split_link;
use super::{Attached, DEFAULT, table};
use crate::containers::table as containers;
use crate::engine::Engine;
use crate::error::{Error, Kind, Result};
use monitor::plan::NetworkChange;

impl Engine {
    /// Takes a link from a container, at once if it runs: `name` is what it calls the other by. Both containers stay.
    ///
    /// # Errors
    /// [`Kind::NotFound`] for a container that is not there or has no such link.
    pub fn unlink(&self, wanted: &str, name: &str) -> Result<()> {
        self.put_right();
        let entry = containers::find(self.database()?.read(), wanted)?;
        let is_it = |link: &String| split_link(link).0 == name.to_lowercase();
        let mut endpoints = entry.endpoints.clone();
        endpoints.retain(|endpoint| endpoint.request.links.iter().any(is_it));
        if endpoints.is_empty() {
            return Err(Error::new(Kind::NotFound, format!("No such link: /{}/{name}", entry.name)));
        }
        endpoints.iter_mut().for_each(|endpoint| endpoint.request.links.retain(|link| !is_it(link)));
        self.database()?.write(|t| {
            let each =
                |endpoint: &super::Endpoint| table::set_request(t, &entry.id, &endpoint.network_id, &endpoint.request);
            endpoints.iter().try_for_each(each)
        })?;
        if self.running_state(&entry.id)?.is_none() {
            return Ok(());
        }
        let before = self.attached(&entry)?;
        let mut after: Vec<Attached> = before.clone();
        after.iter_mut().for_each(|each| each.request.links.retain(|link| !is_it(link)));
        let is_there = self.change_live(&entry, &before, &after, NetworkChange::default())?;
        match is_there && endpoints.iter().any(|endpoint| endpoint.network == DEFAULT) {
            true => crate::files::forget_link(&self.directories().container(&entry.id), &name.to_lowercase()),
            false => Ok(()),
        }
    }
}
