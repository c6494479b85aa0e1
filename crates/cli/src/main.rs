//! wip
#![forbid(unsafe_code)]
mod display;
mod template;
mod values;
fn main() {}
