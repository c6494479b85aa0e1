//! In which form new layers are stored: what the administrator wants, or what is best here.
//!
//! The word is in `$DHOW_STORAGE_BACKEND`, or in the file `backend` in the data root: `directories`, `erofs` or `auto`, which is
//! also what nothing means. Layers that are there already stay as they are, and both forms lie in one store side by side.

use crate::error::{Context, Error, Kind, Result};
use std::path::Path;
use store::Backend;

const VARIABLE: &str = "DHOW_STORAGE_BACKEND";
const FILE: &str = "backend";

/// The form for new layers in the store below `data`.
pub(crate) fn backend(data: &Path, user_namespace: bool) -> Result<Backend> {
    let (word, place) = match std::env::var_os(VARIABLE).filter(|value| !value.is_empty()) {
        Some(value) => (value.to_string_lossy().into_owned(), VARIABLE.to_owned()),
        None => {
            let file = data.join(FILE);
            let word = match std::fs::read_to_string(&file) {
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
                other => other.internal(|| format!("cannot read {}", file.display()))?,
            };
            (word, file.display().to_string())
        }
    };
    chosen(word.trim(), user_namespace).ok_or_else(|| match word.trim() {
        "erofs" => {
            Error::new(Kind::InvalidArgument, format!("{place} asks for EROFS images, which only root can mount"))
                .hint("use directories or auto as an ordinary user")
        }
        other => Error::new(Kind::InvalidArgument, format!("{place} asks for the unknown storage back end {other:?}"))
            .hint("directories, erofs and auto are known"),
    })
}

fn chosen(word: &str, user_namespace: bool) -> Option<Backend> {
    match word {
        // Images are written faster and removed at once, but each container that uses one has a page cache of its own for it
        // (docs/images.md), so they are for those who ask for them.
        "" | "auto" | "directories" => Some(Backend::Directory),
        "erofs" if !user_namespace => Some(Backend::Erofs),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words() {
        assert_eq!(chosen("", false), Some(Backend::Directory));
        assert_eq!(chosen("auto", true), Some(Backend::Directory));
        assert_eq!(chosen("directories", true), Some(Backend::Directory));
        assert_eq!(chosen("erofs", false), Some(Backend::Erofs));
        assert_eq!(chosen("erofs", true), None);
        assert_eq!(chosen("overlay2", false), None);
    }

    #[test]
    fn the_file_is_read_and_its_mistakes_are_told() {
        if std::env::var_os(VARIABLE).is_some() {
            return;
        }
        let base = tempfile::tempdir().unwrap();
        assert_eq!(backend(base.path(), false).unwrap(), Backend::Directory);
        std::fs::write(base.path().join(FILE), "erofs\n").unwrap();
        assert_eq!(backend(base.path(), false).unwrap(), Backend::Erofs);
        assert!(backend(base.path(), true).unwrap_err().to_string().contains("only root can mount"));
        std::fs::write(base.path().join(FILE), "zfs").unwrap();
        assert!(backend(base.path(), false).unwrap_err().to_string().contains("unknown storage back end \"zfs\""));
    }
}
