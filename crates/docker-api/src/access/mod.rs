//! Who may do what: a client is known by its credentials, a policy gives it a tier, and the tier decides.
//!
//! ```text
//! peer (SO_PEERCRED, certificate) ── policy ──► tier ── route: may this operation be called, on this container?
//!                                                 └──── handlers: may this be made?  (what is checked is what is done)
//! ```
//!
//! - `policy`: the file; `peer`: a client; `tier`: operations; `creation`: what a container, volume or network may be
//!
//! Whose a container is stands in its record, where the front end's notes are, and never in a label: labels come from images,
//! too. Volumes and networks have labels from nobody but those who make them, so theirs stands in the label [`OWNER`], which
//! clients of less than the full tier cannot set.

mod creation;
mod peer;
mod policy;
mod tier;

pub use creation::usable;
pub use peer::{Peer, Who};
pub use policy::{Policy, PolicyError, Tier};
pub use tier::admit;

use crate::failure::Failure;
use hyper::StatusCode;
use std::collections::BTreeMap;

/// The label of volumes and networks that says whose they are.
pub const OWNER: &str = "io.dhow.owner";

impl Peer {
    /// 403 with the rule by which it is denied.
    pub fn denied(&self, what: &str) -> Failure {
        let message = format!("denied by {} (tier {}): {what}", self.rule, self.tier.name());
        Failure::new(StatusCode::FORBIDDEN, message)
    }

    /// Whether this client sees only its own things.
    pub fn is_confined(&self) -> bool {
        self.tier == Tier::Own
    }

    /// Whether something with these labels is this client's.
    pub fn owns(&self, labels: &BTreeMap<String, String>) -> bool {
        !self.is_confined() || labels.get(OWNER).is_some_and(|owner| *owner == self.owner())
    }

    /// Whether this client made a container.
    pub fn made(&self, container: &engine::Container) -> bool {
        container.settings.front_end.get("Owner").and_then(serde_json::Value::as_str) == Some(self.owner().as_str())
    }

    /// Puts this client's mark among labels of a volume or network that it makes.
    ///
    /// # Errors
    /// 403 when the mark was given, which only the full tier may do.
    pub fn mark(&self, labels: &mut BTreeMap<String, String>) -> Result<(), Failure> {
        if self.tier == Tier::Full {
            return Ok(());
        }
        if labels.contains_key(OWNER) {
            return Err(self.denied(&format!("the label {OWNER} is not yours to set")));
        }
        labels.insert(OWNER.to_owned(), self.owner());
        Ok(())
    }
}
