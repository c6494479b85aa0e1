//! `system df` and `system prune`.

pub mod df;
mod df_verbose;
pub mod prune;
