//! `secret` and `config`: a file for each verb, each twice.

mod create;
mod inspect;
mod ls;
mod rm;

use super::Group;
use engine::SecretKind;

/// Secrets.
pub const GROUP: Group = Group {
    name: "secret",
    about: "Manage secrets: documents for containers that nobody is shown",
    verbs: &[
        (&["create"], &create::SECRET),
        (&["inspect"], &inspect::SECRET),
        (&["ls", "list"], &ls::SECRET),
        (&["rm", "remove"], &rm::SECRET),
    ],
};

/// Configurations.
pub const CONFIG_GROUP: Group = Group {
    name: "config",
    about: "Manage configs: files for containers, apart from their images",
    verbs: &[
        (&["create"], &create::CONFIG),
        (&["inspect"], &inspect::CONFIG),
        (&["ls", "list"], &ls::CONFIG),
        (&["rm", "remove"], &rm::CONFIG),
    ],
};

/// One as `inspect` shows it.
pub fn value(
    engine: &engine::Engine,
    kind: SecretKind,
    name: &str,
) -> Result<serde_json::Value, crate::failure::Failure> {
    inspect::value(engine, kind, name, kind == SecretKind::Config)
}

/// The kind that a verb's function is for.
const fn kind(config: bool) -> SecretKind {
    if config { SecretKind::Config } else { SecretKind::Secret }
}
