//! Maps of sparse files: which ranges of the file have data in the archive.

/// A checked map: ascending, without overlap, inside the file.
#[derive(Debug, Default)]
pub(crate) struct Map {
    segments: Vec<(u64, u64)>,
    current: usize,
    within: u64,
}

impl Map {
    /// Checks alternating offsets and lengths against the file's size and the bytes that the archive holds for it.
    pub(crate) fn new(pairs: &[u64], real_size: u64, stored: u64) -> Result<Map, &'static str> {
        let (pairs, rest) = pairs.as_chunks::<2>();
        if !rest.is_empty() {
            return Err("sparse map (odd number of values)");
        }
        let mut end_before = 0;
        let mut total = 0_u64;
        let mut segments = Vec::with_capacity(pairs.len());
        for &[offset, length] in pairs {
            let end = offset.checked_add(length).ok_or("sparse map (overflow)")?;
            if offset < end_before || end > real_size {
                return Err("sparse map (overlapping or beyond the end)");
            }
            end_before = end;
            // No overflow: the segments do not overlap and end before real_size.
            total += length;
            if length > 0 {
                segments.push((offset, length));
            }
        }
        if total != stored {
            return Err("sparse map (does not add up to the stored size)");
        }
        Ok(Map { segments, current: 0, within: 0 })
    }

    /// Where the next stored byte belongs, and how many belong there in one piece.
    pub(crate) fn position(&self) -> Option<(u64, u64)> {
        let (offset, length) = self.segments.get(self.current)?;
        Some((offset + self.within, length - self.within))
    }

    /// `count` bytes, at most what [`Map::position`] said, have been taken.
    pub(crate) fn advance(&mut self, count: u64) {
        self.within += count;
        if self.segments.get(self.current).is_some_and(|(_, length)| self.within >= *length) {
            self.current += 1;
            self.within = 0;
        }
    }
}
