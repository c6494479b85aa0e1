//! In which form new layers are stored: what the administrator wants, or what is best here.
//!
//! The word is in `$DHOW_STORAGE_BACKEND`, or in the file `backend` in the data root: `directories`, `erofs`, `prefer-erofs` or
//! `auto`, which is also what nothing means. Layers that are there already stay as they are, and both forms lie in one store side by side.

use crate::error::{Context, Error, Kind, Result};
use std::path::Path;
use store::{Backend, Store};

const VARIABLE: &str = "DHOW_STORAGE_BACKEND";
const FILE: &str = "backend";

/// What `auto` means for root; an ordinary user always has directories, since a user namespace mounts no images.
///
/// Images are loaded and removed sooner and take less room (`cargo xtask bench load`), and with one mount for all layers a start costs
/// some 0.3 ms more. But as long as kernels keep a page cache for each mount of a file, what a container reads first it copies once more:
/// a third more processor time for `python3 -c pass` (docs/images.md), which those who run more than they load pay for each time. With
/// `prefer-erofs` here it would be the other way round.
const AUTOMATIC: &str = "directories";

/// The form for new layers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    Directories,
    Images,
    /// Images where they can be mounted, directories elsewhere.
    ImagesIfPossible,
}

impl Form {
    pub(crate) fn of(self, store: Store) -> Store {
        match self {
            Form::Directories => store.with_backend(Backend::Directory),
            Form::Images => store.with_backend(Backend::Erofs),
            Form::ImagesIfPossible => store.with_backend_if_possible(Backend::Erofs),
        }
    }
}

/// The form for new layers in the store below `data`.
pub(crate) fn form(data: &Path, user_namespace: bool) -> Result<Form> {
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
            .hint("directories, erofs, prefer-erofs and auto are known"),
    })
}

fn chosen(word: &str, user_namespace: bool) -> Option<Form> {
    match if matches!(word, "" | "auto") { AUTOMATIC } else { word } {
        "directories" => Some(Form::Directories),
        "erofs" if !user_namespace => Some(Form::Images),
        "prefer-erofs" => Some(if user_namespace { Form::Directories } else { Form::ImagesIfPossible }),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words() {
        assert_eq!(chosen("", false), chosen(AUTOMATIC, false));
        assert_eq!(chosen("auto", true), Some(Form::Directories));
        assert_eq!(chosen("directories", true), Some(Form::Directories));
        assert_eq!(chosen("erofs", false), Some(Form::Images));
        assert_eq!(chosen("erofs", true), None);
        assert_eq!(chosen("prefer-erofs", false), Some(Form::ImagesIfPossible));
        assert_eq!(chosen("prefer-erofs", true), Some(Form::Directories));
        assert_eq!(chosen("overlay2", false), None);
    }

    #[test]
    fn the_file_is_read_and_its_mistakes_are_told() {
        if std::env::var_os(VARIABLE).is_some() {
            return;
        }
        let base = tempfile::tempdir().unwrap();
        assert_eq!(form(base.path(), false).unwrap(), chosen(AUTOMATIC, false).unwrap());
        std::fs::write(base.path().join(FILE), "erofs\n").unwrap();
        assert_eq!(form(base.path(), false).unwrap(), Form::Images);
        assert!(form(base.path(), true).unwrap_err().to_string().contains("only root can mount"));
        std::fs::write(base.path().join(FILE), "zfs").unwrap();
        assert!(form(base.path(), false).unwrap_err().to_string().contains("unknown storage back end \"zfs\""));
    }
}
