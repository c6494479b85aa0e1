//! Reading what the kernel writes: files of procfs and the like, whose size nobody can ask for.

use rustix::fd::AsFd;
use rustix::fs::{CWD, Mode, OFlags};
use rustix::io::Errno;

/// The whole text of a file that mostly has less than a page: two calls of read(2), where the standard library begins with 32 bytes and
/// doubles, and the kernel makes some of these texts anew for each call.
///
/// # Errors
/// That of open(2) or read(2).
pub fn read(path: &str) -> Result<String, Errno> {
    let file = rustix::fs::openat(CWD, path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
    read_from(&file, usize::MAX)
}

/// The text from where the file stands to its end, or until there are `enough` bytes or some more.
///
/// # Errors
/// That of read(2).
pub fn read_from(file: impl AsFd, enough: usize) -> Result<String, Errno> {
    let mut text = Vec::new();
    let mut buffer = [0; 4096];
    while text.len() < enough {
        match rustix::io::read(&file, &mut buffer) {
            Ok(0) => break,
            Ok(count) => text.extend_from_slice(&buffer[..count]),
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno),
        }
    }
    Ok(String::from_utf8_lossy(&text).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_of_a_file_is_read() {
        assert!(read("/proc/self/status").unwrap().contains("SigIgn:"));
        let long = read("/proc/self/smaps").unwrap();
        assert!(long.len() > 4096 && long.ends_with('\n'));
        assert_eq!(read("/proc/self/nothing").unwrap_err(), Errno::NOENT);
    }
}
