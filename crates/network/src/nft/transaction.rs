//! Changes to a table, all or none: `NFNL_MSG_BATCH_BEGIN`, the messages, `NFNL_MSG_BATCH_END` in one datagram.

use super::expression::{Rule, Verdict};
use super::{INET, SUBSYSTEM, header};
use crate::netlink::{ACK, APPEND, CREATE, EXCLUSIVE, Failure, Request, Socket, acknowledgement};

const BATCH_BEGIN: u16 = 0x10;
const BATCH_END: u16 = 0x11;
/// `NFNL_SUBSYS_NFTABLES`, the resource of a batch.
const RESOURCE: u16 = 10;
/// `NFNL_BATCH_GENID`: refuse the batch (`ERESTART`) when the rules changed since they were read.
const BATCH_GENERATION: u16 = 1;

const NEWTABLE: u16 = SUBSYSTEM;
const DELTABLE: u16 = SUBSYSTEM | 2;
const NEWCHAIN: u16 = SUBSYSTEM | 3;
const NEWRULE: u16 = SUBSYSTEM | 6;
const DELRULE: u16 = SUBSYSTEM | 8;
const NEWSET: u16 = SUBSYSTEM | 9;
const NEWSETELEM: u16 = SUBSYSTEM | 12;
const DELSETELEM: u16 = SUBSYSTEM | 14;

/// A list of elements is cut at this size; an attribute cannot be longer than 65,535 bytes.
const LIST_MAX: usize = 48 << 10;

/// Numbers of data types as the program `nft` knows them; the kernel only keeps them.
pub(crate) mod data_type {
    pub(crate) const IPV4: u32 = 7;
    pub(crate) const IPV6: u32 = 8;
    pub(crate) const PROTOCOL: u32 = 12;
    pub(crate) const PORT: u32 = 13;
    pub(crate) const MARK: u32 = 19;
    pub(crate) const INTERFACE: u32 = 41;

    /// Several fields in a row.
    pub(crate) fn row(fields: &[u32]) -> u32 {
        fields.iter().fold(0, |all, field| all << 6 | field)
    }
}

/// Where a chain hooks in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Hook {
    /// `filter` or `nat`.
    pub(crate) kind: &'static str,
    /// `NF_INET_*`: 0 prerouting, 1 input, 2 forward, 3 output, 4 postrouting.
    pub(crate) number: u32,
    /// Lower comes first.
    pub(crate) priority: i32,
}

/// A chain; without hook it is reached by jumps only.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Chain {
    pub(crate) name: String,
    pub(crate) hook: Option<Hook>,
}

/// What a set maps its keys to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SetKind {
    /// Nothing: membership.
    Set,
    /// A value: data type and length in bytes.
    Map(u32, u32),
    /// A verdict.
    VerdictMap,
}

/// A set or map.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Set {
    pub(crate) name: &'static str,
    pub(crate) key_type: u32,
    /// Bytes, every field filled up to 4.
    pub(crate) key_length: u32,
    pub(crate) kind: SetKind,
    /// Keys are ranges.
    pub(crate) interval: bool,
}

/// An element of a set or map.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Element {
    /// A key.
    Key(Vec<u8>),
    /// A key and its value.
    Value(Vec<u8>, Vec<u8>),
    /// A key and its verdict.
    Verdict(Vec<u8>, Verdict),
    /// The end of the range that began with the element before (the first key that is outside).
    End(Vec<u8>),
}

impl Element {
    pub(crate) fn key(&self) -> &[u8] {
        match self {
            Element::Key(key) | Element::Value(key, _) | Element::Verdict(key, _) | Element::End(key) => key,
        }
    }
}

/// Changes that are made together, in tables of one name. They are of the family `inet` until [`Transaction::family`] says
/// otherwise.
#[derive(Debug)]
pub(crate) struct Transaction {
    family: u8,
    table: &'static str,
    messages: Vec<Request>,
    set_id: u32,
}

impl Transaction {
    /// Changes of `inet TABLE`.
    pub(crate) fn new(table: &'static str) -> Transaction {
        Transaction { family: INET, table, messages: Vec::new(), set_id: 0 }
    }

    /// What follows is for the table of this family.
    pub(crate) fn family(&mut self, family: u8) {
        self.family = family;
    }

    /// Nothing to do?
    pub(crate) fn is_empty(&self) -> bool {
        self.messages.is_empty()
    }

    fn message(&mut self, kind: u16, flags: u16) -> &mut Request {
        let mut request = Request::new(kind, flags);
        request.raw(&header(self.family, 0));
        self.messages.push(request);
        let last = self.messages.len() - 1;
        &mut self.messages[last]
    }

    /// Makes the table unless it is there.
    pub(crate) fn add_table(&mut self) {
        let table = self.table;
        self.message(NEWTABLE, CREATE).text(1, table).be32(2, 0);
    }

    /// Makes the table; `EEXIST` if it is there.
    pub(crate) fn add_new_table(&mut self) {
        let table = self.table;
        self.message(NEWTABLE, CREATE | EXCLUSIVE).text(1, table).be32(2, 0);
    }

    /// Makes the table, which is this socket's until it is closed (`NFT_TABLE_F_OWNER`, Linux 5.12); `EEXIST` if it is there.
    pub(crate) fn add_owned_table(&mut self) {
        let table = self.table;
        self.message(NEWTABLE, CREATE | EXCLUSIVE).text(1, table).be32(2, 2);
    }

    /// Removes the table and all that is in it. An error when it is not there: add it before.
    pub(crate) fn delete_table(&mut self) {
        let table = self.table;
        self.message(DELTABLE, 0).text(1, table);
    }

    /// Makes a chain.
    pub(crate) fn add_chain(&mut self, chain: &Chain) {
        let table = self.table;
        let message = self.message(NEWCHAIN, CREATE);
        message.text(1, table).text(3, &chain.name);
        if let Some(hook) = &chain.hook {
            message.nest(4, |piece| {
                piece.be32(1, hook.number).be32(2, hook.priority.cast_unsigned());
            });
            // Policy NF_ACCEPT.
            message.be32(5, 1).text(7, hook.kind);
        }
    }

    /// Adds a rule at the end of its chain.
    pub(crate) fn add_rule(&mut self, rule: &Rule) {
        self.rule(CREATE | APPEND, rule);
    }

    /// Adds a rule at the beginning of its chain.
    pub(crate) fn insert_rule(&mut self, rule: &Rule) {
        self.rule(CREATE, rule);
    }

    /// Removes a rule.
    pub(crate) fn delete_rule(&mut self, chain: &str, handle: u64) {
        let table = self.table;
        self.message(DELRULE, 0).text(1, table).text(2, chain).bytes(3, &handle.to_be_bytes());
    }

    fn rule(&mut self, flags: u16, rule: &Rule) {
        let table = self.table;
        let message = self.message(NEWRULE, flags);
        message.text(1, table).text(2, &rule.chain).nest(4, |list| {
            for expression in &rule.expressions {
                expression.write(list);
            }
        });
        message.bytes(7, &comment(&rule.comment));
    }

    /// Makes a set.
    pub(crate) fn add_set(&mut self, set: &Set) {
        self.set_id += 1;
        let (table, id) = (self.table, self.set_id);
        let flags = u32::from(set.interval) << 2 | u32::from(set.kind != SetKind::Set) << 3;
        let message = self.message(NEWSET, CREATE);
        message.text(1, table).text(2, set.name).be32(3, flags).be32(4, set.key_type).be32(5, set.key_length);
        match set.kind {
            SetKind::Set => {}
            SetKind::Map(kind, length) => {
                message.be32(6, kind).be32(7, length);
            }
            SetKind::VerdictMap => {
                message.be32(6, 0xffff_ff00);
            }
        }
        message.be32(10, id);
        if matches!(set.key_type, data_type::INTERFACE | data_type::MARK) {
            // For `nft list`: NFTNL_UDATA_SET_KEYBYTEORDER, 4 bytes, the machine's order; without it names are shown empty.
            message.bytes(13, &[0, 4, 1, 0, 0, 0]);
        }
    }

    /// Adds elements. One that is there already with the same value is left; with another value the transaction fails
    /// with `EEXIST`.
    pub(crate) fn add_elements(&mut self, set: &str, elements: &[Element]) {
        self.elements(NEWSETELEM, CREATE, set, elements);
    }

    /// Removes elements; `ENOENT` for one that is not there.
    pub(crate) fn delete_elements(&mut self, set: &str, elements: &[Element]) {
        self.elements(DELSETELEM, 0, set, elements);
    }

    fn elements(&mut self, kind: u16, flags: u16, set: &str, elements: &[Element]) {
        let table = self.table;
        let mut rest = elements;
        while !rest.is_empty() {
            let message = self.message(kind, flags);
            message.text(1, table).text(2, set);
            let mut written = 0;
            message.nest(3, |list| {
                let start = list.len();
                for element in rest {
                    list.nest(1, |piece| element.write(piece, kind == DELSETELEM));
                    written += 1;
                    if list.len() - start > LIST_MAX {
                        break;
                    }
                }
            });
            rest = &rest[written..];
        }
    }

    /// Sends the transaction. With `generation`, only if the rules are still of that generation.
    pub(crate) fn commit(mut self, socket: &mut Socket, generation: Option<u32>) -> Result<(), Failure> {
        let mut datagram = Vec::new();
        let mut begin = Request::new(BATCH_BEGIN, 0);
        begin.raw(&header(0, RESOURCE));
        if let Some(generation) = generation {
            begin.be32(BATCH_GENERATION, generation);
        }
        let first = socket.next_sequence();
        datagram.extend_from_slice(begin.finish(first));
        if let Some(last) = self.messages.last_mut() {
            // One answer is enough; refusals come without being asked for.
            last.add_flags(ACK);
        }
        let mut last = first;
        for message in &mut self.messages {
            last = socket.next_sequence();
            datagram.extend_from_slice(message.finish(last));
        }
        let mut end = Request::new(BATCH_END, 0);
        end.raw(&header(0, RESOURCE));
        datagram.extend_from_slice(end.finish(socket.next_sequence()));
        socket.send(&datagram)?;
        let mut failure: Option<Failure> = None;
        let mut done = false;
        while !done {
            socket.receive(|message| {
                let index = message.sequence.wrapping_sub(first) as usize;
                if index > self.messages.len() {
                    return;
                }
                let answer = acknowledgement(message);
                // A refusal of the batch itself is the only answer there is.
                done |= message.sequence == last || (message.sequence == first && answer.is_err());
                if let Err(refusal) = answer {
                    failure.get_or_insert(refusal);
                }
            })?;
        }
        failure.map_or(Ok(()), Err)
    }
}

impl Element {
    fn write(&self, piece: &mut Request, without_value: bool) {
        if let Element::End(_) = self {
            // NFT_SET_ELEM_INTERVAL_END.
            piece.be32(3, 1);
        }
        piece.nest(1, |key| {
            key.bytes(1, self.key());
        });
        match self {
            Element::Value(_, value) if !without_value => {
                piece.nest(2, |data| {
                    data.bytes(1, value);
                });
            }
            Element::Verdict(_, verdict) if !without_value => {
                piece.nest(2, |data| verdict.write(data));
            }
            _ => {}
        }
    }
}

/// A comment as the program `nft` stores it (`NFTNL_UDATA_RULE_COMMENT`): type 0, length, text with NUL.
fn comment(text: &str) -> Vec<u8> {
    let text = &text.as_bytes()[..text.len().min(127)];
    let mut bytes = vec![0, text.len() as u8 + 1];
    bytes.extend_from_slice(text);
    bytes.push(0);
    bytes
}
