//! The netlink protocol (netlink(7)): messages, attributes and a socket that waits for its answers.
//!
//! Owns the encoding that rtnetlink and nfnetlink share. What the numbers mean stands in `links`, `addresses`,
//! `routes` and `nft`.

mod message;
mod socket;

pub(crate) use message::{Attributes, Request, byte_at, u32_at, u64_be};
pub(crate) use socket::{Failure, Family, Socket, acknowledgement};

/// `NLM_F_REQUEST`: every message to the kernel has it.
pub(crate) const REQUEST: u16 = 0x1;
/// `NLM_F_ACK`: answer even when all went well.
pub(crate) const ACK: u16 = 0x4;
/// `NLM_F_ROOT | NLM_F_MATCH`: the whole table.
pub(crate) const DUMP: u16 = 0x300;
/// `NLM_F_REPLACE`.
pub(crate) const REPLACE: u16 = 0x100;
/// `NLM_F_EXCL`.
pub(crate) const EXCLUSIVE: u16 = 0x200;
/// `NLM_F_CREATE`.
pub(crate) const CREATE: u16 = 0x400;
/// `NLM_F_APPEND`.
pub(crate) const APPEND: u16 = 0x800;
