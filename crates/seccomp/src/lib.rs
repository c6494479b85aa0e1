//! seccomp
#![forbid(unsafe_code)]
