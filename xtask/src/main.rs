//! Chores of the project: test images, tests, benchmarks.
fn main() {}
