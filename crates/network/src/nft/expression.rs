//! Rules and the expressions they are made of.
//!
//! A rule loads pieces of the packet into registers of 4 bytes (numbered 8 to 23), compares or looks them up, and ends in
//! a statement. An expression that does not match ends the rule.

use crate::netlink::Request;

/// First register of four bytes; the key of a look-up begins here.
pub(crate) const KEY: u32 = 8;
/// A register that the longest key does not reach.
pub(crate) const DEVICE: u32 = 16;

const NFTA_LIST_ELEM: u16 = 1;
const NFTA_EXPR_NAME: u16 = 1;
const NFTA_EXPR_DATA: u16 = 2;
const NFTA_DATA_VALUE: u16 = 1;
const NFTA_DATA_VERDICT: u16 = 2;
const NFTA_VERDICT_CODE: u16 = 1;
const NFTA_VERDICT_CHAIN: u16 = 2;

/// A rule of a chain. The comment is shown by `nft list` and identifies the rule when the table is read back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Rule {
    pub(crate) chain: String,
    pub(crate) comment: String,
    pub(crate) expressions: Vec<Expression>,
}

/// What becomes of a packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Drop,
    Accept,
    Return,
    Jump(String),
}

/// A piece of a packet or of what the kernel knows about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Load {
    /// `meta nfproto`, one byte.
    NetworkProtocol,
    /// `meta l4proto`, one byte.
    TransportProtocol,
    /// `meta iifname`, 16 bytes.
    InputInterface,
    /// `meta oifname`, 16 bytes.
    OutputInterface,
    /// `meta mark`, 4 bytes.
    Mark,
    /// `ct mark`, 4 bytes.
    ConnectionMark,
    /// `ct state`, 4 bytes.
    ConnectionState,
    /// `ct status`, 4 bytes.
    ConnectionStatus,
    /// `fib daddr type`, 4 bytes.
    DestinationType,
    /// A piece of the network header: offset and length.
    Network(u32, u32),
    /// `th dport`, 2 bytes.
    DestinationPort,
    /// A piece of the transport header: offset and length.
    Transport(u32, u32),
}

/// How a register is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Operator {
    Equal,
    NotEqual,
}

/// See the head of the module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Expression {
    /// Puts a piece into a register.
    Load(Load, u32),
    /// Compares the register [`KEY`] with a value.
    Compare(Operator, Vec<u8>),
    /// Keeps only the bits of the mask in [`KEY`].
    Bits(Vec<u8>),
    /// Is the key in the set?
    InSet(String),
    /// Is the key not in the set?
    NotInSet(String),
    /// What the map has for the key, into [`KEY`].
    Map(String),
    /// Does what the map says for the key.
    VerdictMap(String),
    /// Counts packets and bytes.
    Counter,
    /// Writes [`KEY`] into `ct mark`.
    SetConnectionMark,
    /// Writes [`KEY`] into `meta mark`.
    SetMark,
    /// A constant into a register.
    Immediate(Vec<u8>, u32),
    /// A copy of the packet to the gateway in [`KEY`] by the interface whose index is in [`DEVICE`]; only in tables of the
    /// families `ip` and `ip6`.
    Duplicate,
    /// Destination from [`KEY`], port from the register after the address; the family is `NFPROTO_*`.
    DestinationNat(u8),
    /// Writes [`KEY`] into the transport header and corrects the checksum, whose place is given.
    WriteTransport { offset: u32, length: u32, checksum: u32 },
    /// Source becomes the address of the interface that the packet leaves by.
    Masquerade,
    /// Ends the evaluation or goes to another chain.
    Verdict(Verdict),
}

impl Expression {
    /// The kernel's name, as it is read back.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Expression::Load(load, _) => match load {
                Load::ConnectionMark | Load::ConnectionState | Load::ConnectionStatus => "ct",
                Load::DestinationType => "fib",
                Load::Network(..) | Load::DestinationPort | Load::Transport(..) => "payload",
                _ => "meta",
            },
            Expression::Compare(..) => "cmp",
            Expression::Bits(_) => "bitwise",
            Expression::InSet(_) | Expression::NotInSet(_) | Expression::Map(_) | Expression::VerdictMap(_) => "lookup",
            Expression::Counter => "counter",
            Expression::SetConnectionMark => "ct",
            Expression::SetMark => "meta",
            Expression::Immediate(..) | Expression::Verdict(_) => "immediate",
            Expression::DestinationNat(_) => "nat",
            Expression::Masquerade => "masq",
            Expression::Duplicate => "dup",
            Expression::WriteTransport { .. } => "payload",
        }
    }

    /// Writes `NFTA_LIST_ELEM` with name and data.
    pub(crate) fn write(&self, request: &mut Request) {
        request.nest(NFTA_LIST_ELEM, |element| {
            element.text(NFTA_EXPR_NAME, self.name()).nest(NFTA_EXPR_DATA, |data| self.data(data));
        });
    }

    fn data(&self, data: &mut Request) {
        match self {
            Expression::Load(load, register) => load_data(*load, *register, data),
            Expression::Compare(operator, value) => {
                let operator = u32::from(*operator == Operator::NotEqual);
                data.be32(1, KEY).be32(2, operator).nest(3, |piece| {
                    piece.bytes(NFTA_DATA_VALUE, value);
                });
            }
            Expression::Bits(mask) => {
                data.be32(1, KEY).be32(2, KEY).be32(3, mask.len() as u32);
                data.nest(4, |piece| {
                    piece.bytes(NFTA_DATA_VALUE, mask);
                });
                data.nest(5, |piece| {
                    piece.bytes(NFTA_DATA_VALUE, &vec![0; mask.len()]);
                });
            }
            Expression::InSet(set) => {
                data.text(1, set).be32(2, KEY);
            }
            Expression::NotInSet(set) => {
                data.text(1, set).be32(2, KEY).be32(5, 1);
            }
            Expression::Map(set) => {
                data.text(1, set).be32(2, KEY).be32(3, KEY);
            }
            Expression::VerdictMap(set) => {
                data.text(1, set).be32(2, KEY).be32(3, 0);
            }
            // The kernel wants the attribute to be there, even empty.
            Expression::Counter | Expression::Masquerade => {}
            Expression::Duplicate => {
                data.be32(1, KEY).be32(2, DEVICE);
            }
            Expression::WriteTransport { offset, length, checksum } => {
                data.be32(2, 2).be32(3, *offset).be32(4, *length).be32(5, KEY).be32(6, 1).be32(7, *checksum);
            }
            Expression::SetConnectionMark => {
                // NFT_CT_MARK; the source register has a number of its own (NFTA_CT_SREG).
                data.be32(2, 3).be32(4, KEY);
            }
            Expression::SetMark => {
                data.be32(2, 3).be32(3, KEY);
            }
            Expression::Immediate(value, register) => {
                data.be32(1, *register).nest(2, |piece| {
                    piece.bytes(NFTA_DATA_VALUE, value);
                });
            }
            Expression::DestinationNat(family) => {
                let port = if *family == super::IPV6 { KEY + 4 } else { KEY + 1 };
                // NFT_NAT_DNAT; the range's ends are the same register.
                data.be32(1, 1).be32(2, u32::from(*family)).be32(3, KEY).be32(5, port);
            }
            Expression::Verdict(verdict) => {
                data.be32(1, 0).nest(2, |piece| verdict.write(piece));
            }
        }
    }
}

fn load_data(load: Load, register: u32, data: &mut Request) {
    let mut meta = |key: u32| {
        data.be32(2, key).be32(1, register);
    };
    match load {
        Load::Mark => meta(3),
        Load::InputInterface => meta(6),
        Load::OutputInterface => meta(7),
        Load::NetworkProtocol => meta(15),
        Load::TransportProtocol => meta(16),
        Load::ConnectionMark => {
            data.be32(1, register).be32(2, 3);
        }
        Load::ConnectionState => {
            data.be32(1, register).be32(2, 0);
        }
        Load::ConnectionStatus => {
            data.be32(1, register).be32(2, 2);
        }
        Load::DestinationType => {
            // NFT_FIB_RESULT_ADDRTYPE, NFTA_FIB_F_DADDR.
            data.be32(1, register).be32(2, 3).be32(3, 1 << 1);
        }
        Load::Network(offset, length) => {
            data.be32(1, register).be32(2, 1).be32(3, offset).be32(4, length);
        }
        Load::DestinationPort => load_data(Load::Transport(2, 2), register, data),
        Load::Transport(offset, length) => {
            data.be32(1, register).be32(2, 2).be32(3, offset).be32(4, length);
        }
    }
}

impl Verdict {
    /// Writes `NFTA_DATA_VERDICT`.
    pub(crate) fn write(&self, request: &mut Request) {
        let (code, chain) = match self {
            Verdict::Drop => (0i32, None),
            Verdict::Accept => (1, None),
            Verdict::Jump(chain) => (-3, Some(chain)),
            Verdict::Return => (-5, None),
        };
        request.nest(NFTA_DATA_VERDICT, |verdict| {
            verdict.be32(NFTA_VERDICT_CODE, code.cast_unsigned());
            if let Some(chain) = chain {
                verdict.text(NFTA_VERDICT_CHAIN, chain);
            }
        });
    }
}
