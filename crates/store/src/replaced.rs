//! What an archive put in a place that it later took for something else.
//!
//! The tree must not show it, but its bytes belong to the archive: without them the archive could not be put together again
//! (module `rebuild`). So it goes to `replaced/` beside the tree, under a number. Real archives rarely have any.

use crate::directory::Directory;
use crate::error::{During, SystemError, quoted};
use crate::tally::{self, Tally};
use rustix::fd::{AsFd, BorrowedFd};
use rustix::fs::{self, AtFlags, FileType, Mode};
use rustix::io::Errno;

/// Beside an image instead of the directory: a line for each such file, the number of its inode in the image and its size in
/// bytes. The content itself stays in the image, where no name leads to it.
pub(crate) const LIST: &str = "replaced.list";

/// Beside the tree.
pub(crate) const NAME: &str = "replaced";

/// Takes `name` out of `parent`, a directory of the tree, and what is gone with it off the tally. `number` has not been used
/// before for this layer.
pub(crate) fn put_aside(
    parent: BorrowedFd<'_>,
    name: &[u8],
    layer: &Directory,
    number: u64,
    tally: &mut Tally,
) -> Result<(), SystemError> {
    let stat =
        fs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW).during(|| format!("fstatat(<layer>, {})", quoted(name)))?;
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile if stat.st_size > 0 => {}
        FileType::Directory => {
            let directory = fs::openat(parent, name, crate::directory::OPEN, Mode::empty())
                .during(|| format!("openat(<layer>, {}, O_DIRECTORY|O_NOFOLLOW)", quoted(name)))?;
            let inside = tally::measure(directory.as_fd(), "<layer>")?.tally;
            tally.names = tally.names.saturating_sub(inside.names);
            tally.bytes = tally.bytes.wrapping_sub(inside.bytes);
        }
        _ => {
            tally.remove(&stat);
            return match fs::unlinkat(parent, name, AtFlags::empty()) {
                Ok(()) | Err(Errno::NOENT) => Ok(()),
                Err(errno) => Err(SystemError::new(format!("unlinkat(<layer>, {})", quoted(name)), errno)),
            };
        }
    }
    let aside = layer.create(NAME)?;
    let new = number.to_string();
    fs::renameat(parent, name, &aside, new.as_str())
        .during(|| format!("renameat(<layer>, {}, {}, \"{new}\")", quoted(name), aside.label()))?;
    tally.remove(&stat);
    Ok(())
}
