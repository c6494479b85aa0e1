//! A table that other programs cannot flush, so that translated connections go on while ours is away.
//!
//! `nft flush ruleset` takes the last chain of kind `nat` away, and with it the kernel's hooks for translation, and the last
//! rule that asks for connection tracking. Packets of connections that were translated until then would reach the host itself,
//! which answers with a reset. The tracker's entries stay; only somebody must keep the hooks.
//!
//! Linux 5.12: a table with the flag `owner` belongs to the socket that made it. A flush of all rules passes it by, and the
//! kernel removes it when the socket is closed. Before that, there is none, and such connections are reset.

use crate::nft::{Chain, Expression, Hook, KEY, Load, Operator, Rule, Transaction, Verdict};
use crate::{error::Error, error::refused, nft};

use crate::netlink::Socket;

/// The table, family `inet`.
const TABLE: &str = "dhow_hold";
/// Its only chain.
const CHAIN: &str = "hold";
/// After ours of kind `nat`, before anybody would notice: it changes nothing.
const PRIORITY: i32 = -99;

/// Makes the table; it is there as long as the value.
///
/// # Errors
/// The kernel's refusal: `EINVAL` or `EOPNOTSUPP` before Linux 5.12, `EEXIST` or `EPERM` while another process has it.
pub(super) fn open() -> Result<Socket, Error> {
    let mut transaction = Transaction::new(TABLE);
    transaction.add_owned_table();
    let hook = Hook { kind: "nat", number: 0, priority: PRIORITY };
    transaction.add_chain(&Chain { name: CHAIN.to_owned(), hook: Some(hook) });
    // What looks at a connection keeps the tracker; no connection has this mark and is new.
    transaction.add_rule(&Rule {
        chain: CHAIN.to_owned(),
        comment: "keeps the translation of connections while other programs load their rules".to_owned(),
        expressions: vec![
            Expression::Load(Load::ConnectionMark, KEY),
            Expression::Compare(Operator::Equal, super::rules::HELD.to_ne_bytes().to_vec()),
            Expression::Verdict(Verdict::Return),
        ],
    });
    let mut socket = nft::open()?;
    transaction.commit(&mut socket, None).map_err(refused("NFT_MSG_NEWTABLE(inet dhow_hold, owner)"))?;
    Ok(socket)
}
