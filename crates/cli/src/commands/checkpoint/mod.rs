//! `checkpoint`: a file for each verb.

mod create;
mod ls;
mod rm;

use super::Group;

/// The group.
pub const GROUP: Group = Group {
    name: "checkpoint",
    about: "Manage checkpoints",
    verbs: &[(&["create"], &create::VERB), (&["ls", "list"], &ls::VERB), (&["rm", "remove"], &rm::VERB)],
};
