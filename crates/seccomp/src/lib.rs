//! System call filters: from a profile to a program for seccomp(2), and the default profile. Pure.
//!
//! Owns the numbers of system calls, the compiler to classic BPF, and the rules that a container gets when nothing else
//! is said. Does not load anything (`kernel::seccomp` does) and reads no files.
//!
//! A program for the default profile takes some ten microseconds to make: [`default_program`] knows its calls by their
//! rows in the table of numbers and never touches a name.
#![forbid(unsafe_code)]

mod arch;
mod compile;
mod default;
mod docker;
mod emit;
mod names;
mod numbers;
mod program;
#[cfg(test)]
mod simulate;

pub use arch::native;
pub use compile::{Error, compile};
pub use default::{KernelVersion, default_profile, default_program};
pub use docker::{DockerError, from_docker};
pub use program::{
    FLAG_LOG, FLAG_NEW_LISTENER, FLAG_SPEC_ALLOW, FLAG_TSYNC, FLAG_TSYNC_ESRCH, FLAG_WAIT_KILLABLE_RECV, Program,
};
