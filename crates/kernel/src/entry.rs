//! The first instructions of the program, before the C library's.
//!
//! An OCI runtime is executed twice for each container, the second time from a file that cannot be written ([`crate::exe`]). The first time
//! needs nothing of the C library and of Rust's, whose own start asks the processor for its features by `CPUID` some thirty times (6 µs
//! each where a hypervisor answers), reads `/proc/self/maps` and touches ninety pages: a sixth of the time of an `exec`. So the first
//! execution goes straight to the second, from the entry point that the linker is told of (`build.rs` of the command line).
//!
//! Nothing here may use what the C library's start prepares: no thread-local storage, no allocation, no `errno`, and none of its string
//! functions, of which the compiler makes calls by itself for arrays and for loops that look like them. Whatever is not as
//! expected is left to the ordinary way, which does the same later and has words for its errors.

/// Environment variable of the second execution.
pub const SEALED: &str = "_DHOW_OCI_SEALED";

// Elsewhere the program begins with the C library.
#[cfg(all(target_arch = "x86_64", target_os = "linux", target_feature = "crt-static"))]
mod first;
#[cfg(all(target_arch = "x86_64", target_os = "linux", any(test, target_feature = "crt-static")))]
mod words;
