//! What a monitor gives back when nothing was asked of it for a while.
//!
//! A start and a session go deep and leave pages of stack and heap that the waiting afterwards does not need, and so do the buffers
//! that output went through. There is a monitor for each container, so it gives them back; a second later, so that short containers and
//! sessions do not pay for it.

use std::time::{Duration, Instant};

use crate::supervisor::{Monitor, Occurrence, READ};

/// From the last request to the rest.
const AFTER: Duration = Duration::from_secs(1);

/// Output that goes through the first page of a buffer leaves nothing worth giving back.
const LITTLE: usize = 4 << 10;

impl Monitor {
    /// So much output came at once: there may be something to give back.
    pub(crate) fn rest_after_output(&mut self, bytes: usize) {
        if bytes > LITTLE {
            self.rest_later();
        }
    }

    /// Something was asked of this monitor: it rests a while after it.
    pub(crate) fn rest_later(&mut self) {
        self.rest = Some(Instant::now() + AFTER);
    }

    /// Gives unused memory back when it is time to.
    pub(crate) fn rest_if_due(&mut self) {
        if self.rest.is_some_and(|at| Instant::now() >= at) {
            self.rest = None;
            // First, as what it gives back is memory too.
            self.notify(&Occurrence::Resting);
            self.buffer = Vec::new();
            self.log.rest();
            kernel::heap::let_go_of_stack();
            // After that, as finding the stack took a little of the heap.
            kernel::heap::trim();
            // And this last: what it may lie in now are pages that nobody has touched.
            self.buffer = Vec::with_capacity(READ);
        }
    }
}
