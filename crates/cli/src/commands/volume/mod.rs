//! `volume`: a file for each verb.

mod create;
mod export;
mod import;
mod inspect;
mod ls;
mod prune;
mod rm;

use super::Group;

/// The group.
pub const GROUP: Group = Group {
    name: "volume",
    about: "Manage volumes",
    verbs: &[
        (&["create"], &create::VERB),
        (&["export"], &export::VERB),
        (&["import"], &import::VERB),
        (&["inspect"], &inspect::VERB),
        (&["ls", "list"], &ls::VERB),
        (&["prune"], &prune::VERB),
        (&["rm", "remove"], &rm::VERB),
    ],
};
