//! Images sealed by fs-verity, where their file system has it: what a container reads is what was imported, or an error.
//!
//! The digest is that of the whole content and stands in the layer's record. It is compared whenever the image is about to be
//! mounted; that costs one open(2) and one ioctl(2), since the kernel checks blocks as they are read. A store that was copied has
//! lost its seals: such an image is sealed again, and must then have the digest that it had.

use crate::directory::Directory;
use crate::error::SystemError;
use oci::digest::Digest;
use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::OFlags;
use rustix::io::Errno;
use std::time::Duration;

/// How often a program that was just started by another thread is waited for: until it executes, it has our files open too.
const ATTEMPTS: u32 = 100;

/// Seals the image of that name. `None` where the file system or the kernel cannot.
pub(crate) fn seal(layer: &Directory, name: &str) -> Result<Option<Digest>, SystemError> {
    let image = layer.file(name, OFlags::RDONLY)?;
    Ok(if enable(&image)? { Some(measure(&image)?) } else { None })
}

/// Compares an image with what was noted when it was sealed.
///
/// # Errors
/// `EUCLEAN` for one that is another now.
pub(crate) fn check(layer: &Directory, name: &str, noted: &Digest) -> Result<(), SystemError> {
    let image = layer.file(name, OFlags::RDONLY)?;
    let found = match measure(&image) {
        Err(error) if error.errno() == Errno::NODATA => match enable(&image)? {
            true => measure(&image)?,
            false => return Ok(()),
        },
        // It lies on another file system than it was stored on.
        Err(error) if is_missing(error.errno()) => return Ok(()),
        other => other?,
    };
    if found == *noted {
        return Ok(());
    }
    let call = format!("fs-verity of {}/{}: {found} in place of {noted}", layer.label(), name);
    Err(SystemError::new(call, Errno::UCLEAN))
}

fn is_missing(errno: Errno) -> bool {
    matches!(errno, Errno::NOTTY | Errno::OPNOTSUPP | Errno::INVAL)
}

/// False where it cannot be done.
fn enable(image: &OwnedFd) -> Result<bool, SystemError> {
    let mut attempts = 0;
    loop {
        match kernel::verity::seal(image.as_fd()) {
            Ok(()) => return Ok(true),
            Err(error) if error.errno() == Errno::EXIST => return Ok(true),
            Err(error) if is_missing(error.errno()) => return Ok(false),
            Err(error) if error.errno() == Errno::TXTBSY && attempts < ATTEMPTS => {
                attempts += 1;
                std::thread::sleep(Duration::from_millis(10));
            }
            Err(error) => return Err(SystemError::new(error.call(), error.errno())),
        }
    }
}

fn measure(image: &OwnedFd) -> Result<Digest, SystemError> {
    let failed = |errno| SystemError::new("ioctl(<image>, FS_IOC_MEASURE_VERITY)", errno);
    let bytes = kernel::verity::measure(image.as_fd()).map_err(|error| failed(error.errno()))?;
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha256:{hex}").parse().map_err(|_| failed(Errno::BADMSG))
}
