//! `checkpoint`: a file for each verb.

pub mod container;
mod create;
mod ls;
pub mod restore;
mod rm;

use super::Group;

/// The group.
pub const GROUP: Group = Group {
    name: "checkpoint",
    about: "Manage checkpoints",
    verbs: &[(&["create"], &create::VERB), (&["ls", "list"], &ls::VERB), (&["rm", "remove"], &rm::VERB)],
};
