//! cgroup
#![forbid(unsafe_code)]
