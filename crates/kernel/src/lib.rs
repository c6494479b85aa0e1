//! kernel
pub mod heap;
pub mod signals;
