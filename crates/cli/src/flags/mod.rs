//! Flags that several verbs share.

pub mod attachment;
pub mod container;
pub mod format;
pub mod health;
pub mod io;
pub mod refused;
pub mod users;
