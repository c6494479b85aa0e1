//! How a rule is put together: chain and comment, what must match, what happens then.

use crate::nft::{Expression, KEY, Load, Operator, Rule, Verdict};

/// A rule being written.
#[derive(Clone)]
pub(super) struct Writer {
    pub(super) rule: Rule,
}

impl Writer {
    pub(super) fn new(chain: &str, comment: impl Into<String>) -> Writer {
        Writer { rule: Rule { chain: chain.to_owned(), comment: comment.into(), expressions: Vec::new() } }
    }

    pub(super) fn add(mut self, expressions: impl IntoIterator<Item = Expression>) -> Writer {
        self.rule.expressions.extend(expressions);
        self
    }

    pub(super) fn protocol(self, family: u8) -> Writer {
        self.add([Expression::Load(Load::NetworkProtocol, KEY), Expression::Compare(Operator::Equal, vec![family])])
    }

    pub(super) fn interface(self, load: Load, operator: Operator, name: &str) -> Writer {
        self.add([Expression::Load(load, KEY), Expression::Compare(operator, super::rules::interface_key(name))])
    }

    /// Some of these bits of a number in the machine's order are set.
    pub(super) fn any_bit(self, load: Load, bits: u32) -> Writer {
        self.add([
            Expression::Load(load, KEY),
            Expression::Bits(bits.to_ne_bytes().to_vec()),
            Expression::Compare(Operator::NotEqual, vec![0; 4]),
        ])
    }

    pub(super) fn loopback_network(self, offset: u32) -> Writer {
        // The first byte of the address is enough.
        self.add([Expression::Load(Load::Network(offset, 1), KEY), Expression::Compare(Operator::Equal, vec![127])])
    }

    pub(super) fn end(self, verdict: Verdict) -> Rule {
        self.add([Expression::Counter, Expression::Verdict(verdict)]).rule
    }

    pub(super) fn statement(self, expression: Expression) -> Rule {
        self.add([Expression::Counter, expression]).rule
    }
}
