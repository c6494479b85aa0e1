//! How values look on a terminal: Docker's sizes, durations, tables and progress lines, byte for byte.

pub mod amount;
pub mod number;
pub mod ports;
pub mod progress;
pub mod table;
