//! File systems in files: a loop device for a moment, and a detached mount that keeps it (loop(4)).
//!
//! A device is made with `LO_FLAGS_AUTOCLEAR`, so it goes with its last user: whoever is killed at any moment leaves none. A file
//! has one device at most, since two would not know of each other's writes: whoever comes second takes the first's. Of what is only
//! read that is one superblock and one page cache for all who mount it.

use std::fs::{self, File};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use rustix::fs::{CWD, FlockOperation, Mode, OFlags};
use rustix::io::Errno;

use crate::error::{Error, Result};
use crate::mount::{Attributes, FileSystem};

// uapi/linux/loop.h
const LOOP_GET_STATUS64: libc::c_ulong = 0x4c05;
/// Linux 5.8.
const LOOP_CONFIGURE: libc::c_ulong = 0x4c0a;
const LOOP_CTL_GET_FREE: libc::c_ulong = 0x4c82;
const LO_FLAGS_READ_ONLY: u32 = 1;
const LO_FLAGS_AUTOCLEAR: u32 = 4;

const CONTROL: &str = "/dev/loop-control";

/// Others look for a free device at the same time.
const ATTEMPTS: usize = 100;

/// `struct loop_info64`.
#[repr(C)]
#[derive(Clone, Copy)]
struct Information {
    device: u64,
    inode: u64,
    real_device: u64,
    offset: u64,
    size_limit: u64,
    number: u32,
    encrypt_type: u32,
    encrypt_key_size: u32,
    flags: u32,
    file_name: [u8; 64],
    crypt_name: [u8; 64],
    encrypt_key: [u8; 32],
    init: [u64; 2],
}

impl Information {
    const NOTHING: Self = Self {
        device: 0,
        inode: 0,
        real_device: 0,
        offset: 0,
        size_limit: 0,
        number: 0,
        encrypt_type: 0,
        encrypt_key_size: 0,
        flags: 0,
        file_name: [0; 64],
        crypt_name: [0; 64],
        encrypt_key: [0; 32],
        init: [0; 2],
    };
}

/// `struct loop_config`.
#[repr(C)]
struct Configuration {
    file: u32,
    block_size: u32,
    information: Information,
    reserved: [u64; 8],
}

/// A detached mount of the ext4 file system in a regular file, which can be written. What is deleted in it is freed in the file.
///
/// A second mount of the same file, by whomever, is one more view of the same file system.
///
/// # Errors
/// `ENOENT` for `/dev/loop-control` where the kernel or this `/dev` has no loop devices; `EPERM` and `EACCES` in a user namespace;
/// `EINVAL` and `EUCLEAN` for a file that is no such file system.
pub fn mount_ext4(path: &Path) -> Result<OwnedFd> {
    let device = device_for(path, Use::Write)?;
    let system = FileSystem::open("ext4")?;
    system.set("source", &device.path)?;
    system.set_flag("discard")?;
    // The mount holds the device from here on.
    system.mount(Attributes::empty())
}

/// A detached read-only mount of the image of EROFS in a regular file, for kernels and file systems from which it cannot be mounted
/// without a device ([`crate::mount::erofs_image`]).
///
/// # Errors
/// As [`mount_ext4`]; `ENODEV` where the kernel has no EROFS.
pub fn mount_erofs(path: &Path) -> Result<OwnedFd> {
    let device = device_for(path, Use::Read)?;
    let system = FileSystem::open("erofs")?;
    system.set("source", &device.path)?;
    // Or the device is opened for writing, which a read-only one refuses with EACCES.
    system.set_flag("ro")?;
    system.mount(Attributes::MOUNT_ATTR_RDONLY)
}

/// What a device is for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Use {
    Read,
    Write,
}

impl Use {
    fn flags(self) -> OFlags {
        OFlags::CLOEXEC | if self == Use::Write { OFlags::RDWR } else { OFlags::RDONLY }
    }
}

/// The device of a file, made if it has none.
fn device_for(path: &Path, wanted: Use) -> Result<Device> {
    // A file that is written is ours by its name; one that is read may be named by its descriptor.
    let flags = wanted.flags() | if wanted == Use::Write { OFlags::NOFOLLOW } else { OFlags::empty() };
    let open_file = || {
        rustix::fs::openat(CWD, path, flags, Mode::empty())
            .map_err(|errno| Error::new(format!("open({path:?}, {flags:?})"), errno))
    };
    let file = open_file()?;
    // So that nobody else gives it a device between our look and our own. Through a descriptor of its own, with which it falls:
    // the device keeps the other one. An image that is read may be locked by whoever makes it.
    let lock = match wanted {
        Use::Write => open_file()?,
        Use::Read => open(CONTROL, Use::Read)?,
    };
    rustix::fs::flock(&lock, FlockOperation::LockExclusive)
        .map_err(|errno| Error::new(format!("flock(<{}>, LOCK_EX)", path.display()), errno))?;
    match device_of(path, &file, wanted)? {
        Some(device) => Ok(device),
        None => attach(file.as_fd(), wanted),
    }
}

/// A device with a file behind it, held by its descriptor.
struct Device {
    path: String,
    _open: OwnedFd,
}

/// The device that has this file behind it.
fn device_of(path: &Path, file: &OwnedFd, wanted: Use) -> Result<Option<Device>> {
    let status = File::from(file.try_clone().map_err(|_| Error::new("dup(<file>)", Errno::MFILE))?)
        .metadata()
        .map_err(|error| Error::new("fstat(<file>)", Errno::from_io_error(&error).unwrap_or(Errno::IO)))?;
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let Ok(blocks) = fs::read_dir("/sys/block") else { return Ok(None) };
    for entry in blocks.flatten() {
        let number = entry.file_name().to_string_lossy().into_owned();
        if !number.starts_with("loop") {
            continue;
        }
        // Others' devices are not opened: an open one does not go when its user wants it to.
        let behind = fs::read_to_string(entry.path().join("loop/backing_file")).unwrap_or_default();
        if !behind.trim_end().trim_end_matches(" (deleted)").ends_with(&name) {
            continue;
        }
        let Ok(device) = open(&format!("/dev/{number}"), wanted) else { continue };
        let mut information = Information::NOTHING;
        // SAFETY: the kernel writes at most a `loop_info64` to memory that is one and lives over the call.
        let result = unsafe { libc::ioctl(device.as_raw_fd(), LOOP_GET_STATUS64 as _, &raw mut information) };
        if result == 0 && (information.device, information.inode) == (status.dev(), status.ino()) {
            return Ok(Some(Device { path: format!("/dev/{number}"), _open: device }));
        }
    }
    Ok(None)
}

/// Puts a file behind a free device.
fn attach(file: BorrowedFd<'_>, wanted: Use) -> Result<Device> {
    let control = open(CONTROL, Use::Write)?;
    let flags = LO_FLAGS_AUTOCLEAR | if wanted == Use::Read { LO_FLAGS_READ_ONLY } else { 0 };
    let mut last = Errno::BUSY;
    for _ in 0..ATTEMPTS {
        // SAFETY: no argument, and the result is a number.
        let number = unsafe { libc::ioctl(control.as_raw_fd(), LOOP_CTL_GET_FREE as _) };
        if number < 0 {
            return Err(Error::new("ioctl(</dev/loop-control>, LOOP_CTL_GET_FREE)", last_errno()));
        }
        let path = format!("/dev/loop{number}");
        let device = open(&path, wanted)?;
        let configuration = Configuration {
            file: file.as_raw_fd().cast_unsigned(),
            // An image may have blocks of 512 bytes.
            block_size: if wanted == Use::Read { 512 } else { 4096 },
            information: Information { flags, ..Information::NOTHING },
            reserved: [0; 8],
        };
        // SAFETY: the kernel reads a `loop_config` from memory that is one and lives over the call; the file is open.
        let result = unsafe { libc::ioctl(device.as_raw_fd(), LOOP_CONFIGURE as _, &raw const configuration) };
        if result == 0 {
            return Ok(Device { path, _open: device });
        }
        last = last_errno();
        if last != Errno::BUSY {
            return Err(Error::new(format!("ioctl(<{path}>, LOOP_CONFIGURE, LO_FLAGS_AUTOCLEAR)"), last));
        }
    }
    Err(Error::new("ioctl(</dev/loop…>, LOOP_CONFIGURE)", last))
}

fn open(path: &str, wanted: Use) -> Result<OwnedFd> {
    rustix::fs::openat(CWD, path, wanted.flags(), Mode::empty())
        .map_err(|errno| Error::new(format!("open({path:?}, {:?})", wanted.flags()), errno))
}

fn last_errno() -> Errno {
    Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::IO)
}
