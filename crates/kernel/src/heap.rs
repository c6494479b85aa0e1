//! Giving memory back: the allocator's free pages, for processes that live long and idle.

/// Returns free pages of the heap to the kernel (malloc_trim(3)). Does nothing where the allocator has no such call.
pub fn trim() {
    #[cfg(target_env = "gnu")]
    // SAFETY: malloc_trim takes the allocator's own locks and touches only memory that nobody holds.
    unsafe {
        libc::malloc_trim(0);
    }
}
