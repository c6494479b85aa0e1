//! fs-verity: a file that can never be written again, and whose every read is checked by the kernel against a tree of hashes
//! (Documentation/filesystems/fsverity.rst; Linux 5.4, on ext4 with the feature `verity`, f2fs and btrfs).

use std::os::fd::{AsRawFd, BorrowedFd};

use rustix::io::Errno;

use crate::error::{Error, Result};

// uapi/linux/fsverity.h
const FS_IOC_ENABLE_VERITY: libc::c_ulong = 0x4080_6685;
const FS_IOC_MEASURE_VERITY: libc::c_ulong = 0xc004_6686;
const FS_VERITY_HASH_ALG_SHA256: u32 = 1;

/// `struct fsverity_enable_arg`.
#[repr(C)]
struct Enable {
    version: u32,
    hash_algorithm: u32,
    block_size: u32,
    salt_size: u32,
    salt: u64,
    signature_size: u32,
    reserved: u32,
    signature: u64,
    more: [u64; 11],
}

/// `struct fsverity_digest`, with room for the longest one there is.
#[repr(C)]
struct Measured {
    algorithm: u16,
    size: u16,
    bytes: [u8; 64],
}

/// Seals a file, which is open for reading and nowhere for writing: SHA-256, blocks of 4 KiB, no salt, so that the same content has
/// the same digest everywhere. Reads the whole file, and waits until it and its hashes are on the disk.
///
/// # Errors
/// `ENOTTY` and `EOPNOTSUPP` where the file system or the kernel has no such feature, `EINVAL` for a file system with other blocks
/// (before Linux 6.3), `EEXIST` if it is sealed, `ETXTBSY` while somebody has it open for writing, `ENOSPC`.
pub fn seal(file: BorrowedFd<'_>) -> Result<()> {
    let wanted = Enable {
        version: 1,
        hash_algorithm: FS_VERITY_HASH_ALG_SHA256,
        block_size: 4096,
        salt_size: 0,
        salt: 0,
        signature_size: 0,
        reserved: 0,
        signature: 0,
        more: [0; 11],
    };
    // SAFETY: the kernel reads a `fsverity_enable_arg` from memory that is one and lives over the call; it names no other memory.
    let result = unsafe { libc::ioctl(file.as_raw_fd(), FS_IOC_ENABLE_VERITY as _, &raw const wanted) };
    if result == 0 { Ok(()) } else { Err(failed("FS_IOC_ENABLE_VERITY")) }
}

/// The SHA-256 digest of a sealed file's hashes; the kernel has it ready.
///
/// # Errors
/// `ENODATA` for a file that is not sealed, `ENOTTY` and `EOPNOTSUPP` where none can be; `EBADMSG` if it is sealed by other hashes.
pub fn measure(file: BorrowedFd<'_>) -> Result<[u8; 32]> {
    let mut measured = Measured { algorithm: 0, size: 64, bytes: [0; 64] };
    // SAFETY: the kernel writes a `fsverity_digest` with at most `size` bytes to memory that has them and lives over the call.
    let result = unsafe { libc::ioctl(file.as_raw_fd(), FS_IOC_MEASURE_VERITY as _, &raw mut measured) };
    if result != 0 {
        return Err(failed("FS_IOC_MEASURE_VERITY"));
    }
    let mut digest = [0; 32];
    if u32::from(measured.algorithm) != FS_VERITY_HASH_ALG_SHA256 || usize::from(measured.size) != digest.len() {
        return Err(Error::new("ioctl(<file>, FS_IOC_MEASURE_VERITY)", Errno::BADMSG));
    }
    digest.copy_from_slice(&measured.bytes[..32]);
    Ok(digest)
}

fn failed(what: &str) -> Error {
    let errno = Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::IO);
    Error::new(format!("ioctl(<file>, {what})"), errno)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsFd;

    /// Whatever the file system, it is one of the answers that the caller knows.
    #[test]
    fn a_file_that_cannot_be_sealed_says_so() {
        let unsealed = std::fs::File::open("/proc/self/status").unwrap();
        for error in [seal(unsealed.as_fd()).unwrap_err(), measure(unsealed.as_fd()).unwrap_err()] {
            assert!(matches!(error.errno(), Errno::NOTTY | Errno::OPNOTSUPP | Errno::INVAL), "{error}");
        }
    }
}
