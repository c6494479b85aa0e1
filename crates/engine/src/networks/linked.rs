//! Links on the default bridge, where names are nobody's: lines of the hosts file, as Docker has them. On other networks a container's
//! name server knows links (`names`).

use super::names::split_link;
use super::{Attached, DEFAULT, Endpoint};
use crate::containers::options::RestartPolicy;
use crate::containers::table::{self, Entry};
use crate::engine::Engine;
use crate::error::{Error, Kind, Result};

impl Engine {
    /// The lines of a container's links, looked up now: who is linked and starts again later may have another address.
    ///
    /// # Errors
    /// For a link to a container that does not run on the default bridge, where no restart policy is to bring this one back.
    pub(crate) fn link_lines(&self, entry: &Entry, all: &[Attached]) -> Result<Vec<String>> {
        let links = all.iter().filter(|each| each.network.name == DEFAULT).flat_map(|each| &each.request.links);
        let mut lines = Vec::new();
        for link in links {
            let (name, container) = split_link(link);
            let other = match self.linked(link) {
                // It was removed since, and with it the link.
                Err(error) if error.kind() == Kind::InvalidArgument => continue,
                other => other?,
            };
            let runs = self.running_state(&other.id)?.is_some();
            let place = other.endpoints.iter().find(|endpoint| endpoint.network == DEFAULT);
            let Some(place) = place.and_then(|endpoint| endpoint.place.as_ref()).filter(|_| runs) else {
                if entry.settings.restart != RestartPolicy::No {
                    // After a boot they come in any order, and one that failed for this would not be tried again.
                    continue;
                }
                let message =
                    format!("Cannot link to a non running container: /{} AS /{}/{name}", other.name, entry.name);
                return Err(Error::new(Kind::Conflict, message).hint(format!("start {container} first")));
            };
            let names = [name.as_str(), &other.settings.hostname, &other.name].join(" ");
            lines.extend(place.addresses().map(|address| format!("{}\t{names}", address.address())));
        }
        Ok(lines)
    }

    /// At creation, before anything is made: whom links on the default bridge name.
    ///
    /// # Errors
    /// For a link to a container that is not there.
    pub(crate) fn check_links(&self, endpoints: &[Endpoint]) -> Result<()> {
        let mut links = endpoints.iter().filter(|each| each.network == DEFAULT).flat_map(|each| &each.request.links);
        links.try_for_each(|link| self.linked(link).map(drop))
    }

    fn linked(&self, link: &str) -> Result<Entry> {
        let wanted = link.split_once(':').map_or(link, |(container, _)| container);
        table::find(self.database()?.read(), wanted).map_err(|error| {
            Error::caused(Kind::InvalidArgument, format!("could not get container for {wanted}"), error)
        })
    }
}
