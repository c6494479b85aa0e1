//! Giving memory back, for processes that live long and idle: the allocator's free pages, and the program's own.

use std::ops::Range;

/// Returns free pages of the heap to the kernel (malloc_trim(3)). Does nothing where the allocator has no such call.
pub fn trim() {
    #[cfg(target_env = "gnu")]
    // SAFETY: malloc_trim takes the allocator's own locks and touches only memory that nobody holds.
    unsafe {
        libc::malloc_trim(0);
    }
}

/// A variable of the environment that has a process of this program give freed pieces of its heap back to the whole, in place of keeping
/// lists of them by size (`tcache_count` and `mxfast`, read once when it begins). The first kind of list outlives [`trim`], and with the second
/// what lives long comes to lie at more places: a monitor at rest has 60 KiB of heap with both, 76 without the first, 40 without either.
/// It costs a start four instructions in a hundred. Without effect on another allocator.
pub const WITHOUT_CACHES: (&str, &str) = ("GLIBC_TUNABLES", "glibc.malloc.tcache_count=0:glibc.malloc.mxfast=0");

/// Has the allocator keep little of what is freed, from now on, for a server whose answers are large now and then: as many arenas as
/// `arenas`, each piece of 128 KiB or more a mapping of its own that goes when it is freed, and no more than a mebibyte kept at the end of
/// an arena (mallopt(3)). Left to itself glibc has eight arenas for each processor, and learns from the first large piece that is freed
/// to keep all of that size. Does nothing where the allocator has no such call.
pub fn keep_little(arenas: i32) {
    #[cfg(target_env = "gnu")]
    for (parameter, value) in
        [(libc::M_ARENA_MAX, arenas), (libc::M_MMAP_THRESHOLD, 128 << 10), (libc::M_TRIM_THRESHOLD, 1 << 20)]
    {
        // SAFETY: mallopt takes two numbers and the allocator's own lock. One that it does not know changes nothing.
        unsafe {
            libc::mallopt(parameter, value);
        }
    }
    #[cfg(not(target_env = "gnu"))]
    let _ = arenas;
}

/// Lets go of the pages of this program's instructions: they stay in the page cache, where all processes of the program
/// find them, and are mapped again when they are executed. Says whether there was anything to let go of.
pub fn let_go_of_program() -> bool {
    let here = let_go_of_program as *const () as usize;
    let Ok(maps) = std::fs::read_to_string("/proc/self/maps") else { return false };
    let Some(range) = maps.lines().filter_map(instructions).find(|range| range.contains(&here)) else { return false };
    // SAFETY: the mapping holds `here`, is the program's, is private, of a file, and was never writable (`r-xp`), so its
    // pages are the file's, and madvise(2) has them read from there again, whoever executes them meanwhile.
    unsafe {
        let start = std::ptr::with_exposed_provenance_mut(range.start);
        rustix::mm::madvise(start, range.len(), rustix::mm::Advice::LinuxDontNeed).is_ok()
    }
}

/// Gives back the pages below this thread's stack pointer: what deeper calls used, which is nobody's when they have returned. For a
/// process that goes deep once and then waits for days, in its first thread. Says whether there was anything to give back.
#[inline(never)]
pub fn let_go_of_stack() -> bool {
    let here = 0_u8;
    let here = std::ptr::from_ref(std::hint::black_box(&here)).expose_provenance();
    let Ok(maps) = std::fs::read_to_string("/proc/self/maps") else { return false };
    let stack = maps.lines().find(|line| line.ends_with("[stack]")).and_then(addresses);
    let Some(range) = stack.filter(|range| range.contains(&here)) else { return false };
    // This function's own frame reaches below `here`, by some hundred bytes; nothing else runs on this stack while the kernel works.
    // SAFETY: sysconf takes a number and touches no memory of ours.
    let page = usize::try_from(unsafe { libc::sysconf(libc::_SC_PAGESIZE) }).unwrap_or(64 << 10);
    let end = (here & !(page - 1)).saturating_sub(page);
    if end <= range.start {
        return false;
    }
    // SAFETY: the range lies in this thread's stack, whole pages below every live frame (stacks grow downwards here): calls to
    // come write there before they read, and find zeros in new pages.
    unsafe {
        let start = std::ptr::with_exposed_provenance_mut(range.start);
        rustix::mm::madvise(start, end - range.start, rustix::mm::Advice::LinuxDontNeed).is_ok()
    }
}

/// The addresses that a line of /proc/PID/maps (proc(5)) begins with.
fn addresses(line: &str) -> Option<Range<usize>> {
    let (start, end) = line.split_ascii_whitespace().next()?.split_once('-')?;
    let number = |text| usize::from_str_radix(text, 16).ok();
    Some(number(start)?..number(end)?)
}

/// The addresses of a line of /proc/PID/maps (proc(5)), if it is of a file's instructions that cannot be written.
fn instructions(line: &str) -> Option<Range<usize>> {
    let mut words = line.split_ascii_whitespace();
    let (_, access, inode) = (words.next()?, words.next()?, words.nth(2)?);
    (access == "r-xp" && inode != "0").then(|| addresses(line)).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Bytes of this process's memory that are no file's.
    #[cfg(target_env = "gnu")]
    fn anonymous() -> usize {
        let status = std::fs::read_to_string("/proc/self/status").unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).unwrap();
        line.trim().trim_end_matches(" kB").parse::<usize>().unwrap() << 10
    }

    #[test]
    #[cfg(target_env = "gnu")]
    fn large_pieces_are_given_back_when_they_are_freed() {
        const PIECE: usize = 8 << 20;
        keep_little(2);
        let before = anonymous();
        // The first that is freed would teach the allocator to keep such pieces among the others, where what lies behind them keeps
        // them from being given back: without the call above some 100 MiB stay.
        let mut behind = Vec::new();
        for _ in 0..3 {
            let pieces: Vec<Vec<u8>> = (0..8).map(|_| vec![1; PIECE]).collect();
            behind.push(std::hint::black_box(vec![1_u8; 64 << 10]));
            assert!(anonymous() > before + 7 * PIECE);
            drop(std::hint::black_box(pieces));
        }
        assert!(anonymous() < before + PIECE * 2);
        drop(behind);
    }

    #[test]
    fn only_the_first_threads_stack_is_known() {
        // Tests run in threads of their own, whose stacks have no name and may lie beside others: theirs are left alone.
        assert!(!let_go_of_stack());
        let range = addresses("7ffeca833000-7ffeca854000 rw-p 00000000 00:00 0                          [stack]");
        assert_eq!(range, Some(0x7ffe_ca83_3000..0x7ffe_ca85_4000));
    }

    #[test]
    fn a_program_goes_on_without_its_pages() {
        for _ in 0..3 {
            assert!(let_go_of_program());
        }
        trim();
        assert_eq!(
            instructions("00400000-00452000 r-xp 00000000 08:02 173521 /usr/bin/dbus"),
            Some(0x40_0000..0x45_2000)
        );
        assert_eq!(instructions("00e03000-00e24000 rw-p 00000000 00:00 0 [heap]"), None);
        assert_eq!(instructions("7ffc0000-7ffc2000 r-xp 00000000 00:00 0 [vdso]"), None);
    }
}
