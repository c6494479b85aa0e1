//! A checkpoint as one file, for another time or another machine.
//!
//! A tar archive, plain or compressed, whose members are regular files in this order and nothing else:
//!
//! ```text
//! dhow-checkpoint.json      the manifest: format and version, the container's settings, what else there is
//! checkpoint/<name>         the files of criu, flat
//! rootfs.tar                what the container changed, as an OCI layer (absent with --ignore-rootfs)
//! volumes/<name>.tar        a volume's content (absent with --ignore-volumes)
//! ```
//!
//! An exported container is frozen from before its processes are written until the archive is: all three belong together, and
//! when anything fails it goes on as if nothing had happened.
//!
//! An imported archive is hostile: its members have no say in where anything goes, its manifest is checked field by field
//! (`host`), and layers must be those of an image that is here. What it holds of processes is criu's to judge, and criu
//! believes its files: whoever imports an archive runs a program of its maker as root.
//!
//! What a kill of an import leaves: criu's files in the store's `staging`; the files of a container without a row, and
//! volumes without one. The sweep removes all of it. The rows of container and volumes come in one transaction, last.

mod export;
mod host;
mod import;

pub use export::{ArchiveCompression, CheckpointExport};
pub use import::CheckpointImport;

use super::record::Settings;
use crate::volumes::Carried;
use serde::{Deserialize, Serialize};

const FORMAT: &str = "dhow checkpoint";
const VERSION: u32 = 1;
const MANIFEST: &str = "dhow-checkpoint.json";
const IMAGES: &str = "checkpoint";
const ROOT: &str = "rootfs.tar";
const VOLUMES: &str = "volumes";
/// What criu writes about itself, for whoever looks for the reason of a failure.
const LOGS: &[&str] = &["dump.log", "stats-dump"];

/// The first member of an archive.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Manifest {
    format: String,
    version: u32,
    /// When it was written, RFC 3339.
    created: String,
    id: String,
    name: String,
    tcp_established: bool,
    file_locks: bool,
    /// Whether there is [`ROOT`].
    root_file_system: bool,
    /// The volumes whose content there is, in the order of their members.
    volumes: Vec<Carried>,
    settings: Settings,
}

/// Whether a name can be one of criu's files: no path, no hidden file, nothing that a terminal would take for a command.
fn is_image_name(name: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-');
    name.len() <= 200
        && name.bytes().all(plain)
        && name.bytes().next().is_some_and(|first| first.is_ascii_alphanumeric())
}

#[cfg(test)]
mod tests {
    use super::is_image_name;

    #[test]
    fn names() {
        for good in ["inventory.img", "pages-1.img", "tmpfs-dev-43.tar.gz.img", "descriptors.json"] {
            assert!(is_image_name(good), "{good}");
        }
        for bad in ["", ".", "..", ".x", "a/b", "../x", "a\n", "-x", "ä", &"a".repeat(201)] {
            assert!(!is_image_name(bad), "{bad}");
        }
    }
}
