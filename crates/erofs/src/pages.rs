//! Parts of an image that were read a moment ago, for who reads one inode after the other: those of a directory lie close together.

use crate::error::Error;
use crate::reader::read_exact;
use std::fs::File;
use std::sync::{Mutex, PoisonError};

const PAGE: u64 = 4096;
/// 256 KiB in all.
const MOST: usize = 64;

/// Each page has one place, by its number.
#[derive(Debug, Default)]
pub(crate) struct Pages(Mutex<Vec<(u64, Vec<u8>)>>);

impl Pages {
    /// Fills `out` from `at`, as [`read_exact`] does; what lies in two pages is read by itself.
    pub(crate) fn read(&self, file: &File, size: u64, (at, out): (u64, &mut [u8])) -> Result<(), Error> {
        let (number, within) = (at / PAGE, (at % PAGE) as usize);
        let end = within + out.len();
        let length = size.saturating_sub(number * PAGE).min(PAGE) as usize;
        if end > length {
            return read_exact(file, at, out);
        }
        let mut pages = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if pages.is_empty() {
            pages.resize_with(MOST, || (u64::MAX, Vec::new()));
        }
        let (held, bytes) = &mut pages[(number % MOST as u64) as usize];
        if *held != number {
            // Nothing is held if it fails.
            *held = u64::MAX;
            bytes.resize(length, 0);
            read_exact(file, number * PAGE, bytes)?;
            *held = number;
        }
        out.copy_from_slice(&bytes[within..end]);
        Ok(())
    }
}
