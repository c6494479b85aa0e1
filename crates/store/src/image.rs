//! Layers as images of EROFS: one file each, made in one pass by `imager`, mounted without being unpacked.
//!
//! A mount is detached (fsmount(2)): it has no place in any mount table, and it goes with its last descriptor, so a killed process
//! leaves none. All that reads trees works on the descriptor of its root as on that of a directory.

use crate::Store;
use crate::directory::{Directory, OPEN};
use crate::error::{During, EntryError, StoreError, SystemError};
use crate::record;
use crate::staging::StagedFile;
use erofs::{Blocks, Image, Limits, Meta, Writer};
use rustix::fd::OwnedFd;
use rustix::fs::{self, Mode, OFlags};
use rustix::io::Errno;
use std::fs::File;
use std::os::fd::AsRawFd;
use std::path::Path;

/// The empty file for an image, in the directory of a layer that is being made.
pub(crate) fn create(layer: &Directory) -> Result<File, StoreError> {
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL;
    let file = layer.file(record::IMAGE, flags);
    file.map(File::from).map_err(|source| StoreError::System { doing: "make the layer's image", source })
}

/// The root directory of the image at `path`.
pub(crate) fn mount(path: &Path) -> Result<OwnedFd, SystemError> {
    let mounted = kernel::mount::erofs_image(path).map_err(|error| SystemError::new(error.call(), error.errno()))?;
    // The mount's own descriptor is an O_PATH one. The open directory keeps the mount alive, as it would after umount2(2).
    fs::openat(&mounted, c".", OPEN, Mode::empty()).during(|| format!("openat(<mount of {path:?}>, \".\")"))
}

/// The image of a layer for our own reader.
pub(crate) fn open(layer: &Directory) -> Result<Image, erofs::Error> {
    match layer.file(record::IMAGE, OFlags::RDONLY) {
        Ok(file) => Image::open(File::from(file)),
        Err(error) => Err(erofs::Error::File { call: "open", source: error.errno().into() }),
    }
}

/// As the failure of a system call: the kernel's word where there is one, else what it says of damaged file systems.
pub(crate) fn failed(layer: &Directory, error: &erofs::Error) -> SystemError {
    let errno = error.io().and_then(Errno::from_io_error).unwrap_or(Errno::UCLEAN);
    SystemError::new(format!("read {}/{} ({error})", layer.label(), record::IMAGE), errno)
}

/// Does the kernel say so of an image that is not what it was?
pub(crate) fn is_damage(errno: Errno) -> bool {
    matches!(errno, Errno::UCLEAN | Errno::BADMSG | Errno::IO | Errno::INVAL | Errno::NOENT | Errno::OPNOTSUPP)
}

/// Mounts an image without files, so that nothing is stored that nobody can use.
/// The blocks that images have here: small ones where they can be mounted from files, which merged images want (`merged`).
pub(crate) fn try_mount(store: &Store) -> Result<Result<Blocks, SystemError>, StoreError> {
    let system = |source| StoreError::System { doing: "try to mount an image", source };
    let staged = StagedFile::new(store, "probe").map_err(system)?;
    let path = format!("/proc/self/fd/{}", staged.fd.as_raw_fd());
    let written = |blocks| {
        let file = staged.fd.try_clone().map_err(|source| erofs::Error::File { call: "open", source })?;
        Writer::with_blocks(File::from(file), Meta::default(), Limits::default(), blocks).finish()
    };
    let tried = written(Blocks::Sectors).and_then(|_| {
        if kernel::mount::erofs_files(Path::new(&path), &[]).is_ok() {
            return Ok(Ok(Blocks::Sectors));
        }
        written(Blocks::Pages)?;
        Ok(kernel::mount::erofs_image(Path::new(&path)).map(|_| Blocks::Pages))
    });
    staged.discard().map_err(system)?;
    match tried {
        Ok(tried) => Ok(tried.map_err(|error| SystemError::new(error.call(), error.errno()))),
        Err(error) => match error.into() {
            EntryError::System(source) => Err(system(source)),
            source => Err(StoreError::Entry { path: "\"/\"".to_owned(), source }),
        },
    }
}
