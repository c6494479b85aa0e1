//! The OCI runtime specification 1.3, as far as this branch needs it.

pub mod resources;
pub mod seccomp;

pub use resources::*;
pub use seccomp::*;
