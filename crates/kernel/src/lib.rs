//! One thin safe function for each operation of the kernel that the rest of dhow needs and rustix does not have.
//!
//! The only crate with `unsafe`. It decides nothing, keeps no state and knows neither containers nor images;
//! but for [`entry`], which has its turn before anybody could tell it the verbs that it is for.

pub mod beneath;
pub mod bpf;
pub mod capabilities;
pub mod clone;
pub mod descriptors;
pub mod entry;
pub mod error;
pub mod exe;
pub mod heap;
pub mod inherited;
pub mod keyring;
pub mod loops;
pub mod lsm;
pub mod mount;
pub mod namespaces;
pub mod netlink;
pub mod peers;
pub mod prctl;
pub mod private_umask;
pub mod reaper;
pub mod seccomp;
pub mod signal_names;
pub mod signals;
pub mod small_file;
pub mod sockets;
pub mod terminal;
pub mod verity;

pub use error::{Error, Result};
