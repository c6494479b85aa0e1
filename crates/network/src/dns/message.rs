//! The wire format, as far as a forwarder needs it: one question, an OPT record, answers of three types.
//!
//! Hostile input: every length is checked; compression pointers are not followed, because no resolver writes one into a
//! question.

/// Longest name in its textual form.
const NAME_MAX: usize = 253;
/// Size of the header.
const HEADER: usize = 12;
/// What a client takes that says nothing about it (RFC 1035, 4.2.1).
const PLAIN_UDP_SIZE: u16 = 512;
/// What we say that we take, safe from fragmentation (DNS flag day 2020).
const OUR_UDP_SIZE: u16 = 1232;

/// Record type A.
pub(crate) const A: u16 = 1;
/// Record type PTR.
pub(crate) const PTR: u16 = 12;
/// Record type AAAA.
pub(crate) const AAAA: u16 = 28;
/// Record type OPT.
const OPT: u16 = 41;
/// Question type "all".
pub(crate) const ANY: u16 = 255;
/// Class IN.
pub(crate) const IN: u16 = 1;

/// Response codes.
pub(crate) mod code {
    pub(crate) const NO_ERROR: u8 = 0;
    pub(crate) const FORMAT_ERROR: u8 = 1;
    pub(crate) const SERVER_FAILURE: u8 = 2;
    pub(crate) const NAME_ERROR: u8 = 3;
    pub(crate) const NOT_IMPLEMENTED: u8 = 4;
}

/// What stands in the first 12 bytes of a message that matters to us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Chosen by the asker.
    pub id: u16,
    /// It is a response.
    pub response: bool,
    /// The answer was cut to fit into a datagram.
    pub truncated: bool,
    /// The response code's lower four bits.
    pub code: u8,
    /// Number of answers.
    pub answers: u16,
}

impl Header {
    /// `None` if there are not even 12 bytes.
    pub fn read(message: &[u8]) -> Option<Header> {
        let header = message.get(..HEADER)?;
        Some(Header {
            id: u16_at(header, 0),
            response: header[2] & 0x80 != 0,
            truncated: header[2] & 0x02 != 0,
            code: header[3] & 0x0f,
            answers: u16_at(header, 6),
        })
    }
}

/// A question from a container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Query {
    /// Chosen by the asker.
    pub id: u16,
    /// 0 for a standard query.
    pub operation: u8,
    /// The asker wants recursion.
    pub recursion: bool,
    /// The name in lower case without its final dot.
    pub name: String,
    /// Record type asked for.
    pub kind: u16,
    /// Class asked for.
    pub class: u16,
    /// The question as it was written: its letters' case is given back.
    pub question: Vec<u8>,
    /// EDNS: the asker's version, if it sent an OPT record.
    pub edns: Option<u8>,
    /// Longest datagram that the asker takes.
    pub udp_size: u16,
}

/// Why a message is not a query that can be answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unreadable {
    /// Not a query at all: no answer is given, or two servers could talk for ever.
    Ignore,
    /// A query with this id that makes no sense.
    Malformed(u16),
}

fn u16_at(bytes: &[u8], offset: usize) -> u16 {
    bytes.get(offset..offset + 2).and_then(|piece| piece.try_into().ok()).map_or(0, u16::from_be_bytes)
}

impl Query {
    /// Reads a query.
    pub(crate) fn read(message: &[u8]) -> Result<Query, Unreadable> {
        let header = Header::read(message).ok_or(Unreadable::Ignore)?;
        if header.response {
            return Err(Unreadable::Ignore);
        }
        let malformed = Unreadable::Malformed(header.id);
        if u16_at(message, 4) != 1 {
            return Err(malformed);
        }
        let (name, end) = name_at(message, HEADER).ok_or(malformed)?;
        let question = message.get(HEADER..end + 4).ok_or(malformed)?.to_vec();
        let mut query = Query {
            id: header.id,
            operation: message[2] >> 3 & 0x0f,
            recursion: message[2] & 1 != 0,
            name,
            kind: u16_at(message, end),
            class: u16_at(message, end + 2),
            question,
            edns: None,
            udp_size: PLAIN_UDP_SIZE,
        };
        // A question has neither answers nor authorities; the OPT record is among the additional ones.
        if u16_at(message, 6) == 0 && u16_at(message, 8) == 0 {
            query.read_options(message, end + 4, u16_at(message, 10));
        }
        Ok(query)
    }

    fn read_options(&mut self, message: &[u8], mut offset: usize, count: u16) {
        for _ in 0..count.min(8) {
            let Some((_, end)) = name_at(message, offset) else { return };
            let Some(record) = message.get(end..end + 10) else { return };
            if u16_at(record, 0) == OPT {
                self.udp_size = u16_at(record, 2).max(PLAIN_UDP_SIZE);
                self.edns = Some(record[5]);
                return;
            }
            offset = end + 10 + usize::from(u16_at(record, 8));
        }
    }
}

/// A name without pointers: its text in lower case and the offset behind it. A byte that is no letter, digit, `-` or `_` is
/// written as in a zone file, so that it is never equal to a name of ours.
fn name_at(message: &[u8], mut offset: usize) -> Option<(String, usize)> {
    let mut name = String::new();
    loop {
        let length = usize::from(*message.get(offset)?);
        offset += 1;
        if length == 0 {
            return (name.len() <= NAME_MAX).then_some((name, offset));
        }
        if length > 63 {
            return None;
        }
        if !name.is_empty() {
            name.push('.');
        }
        for byte in message.get(offset..offset + length)? {
            match byte {
                b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' => {
                    name.push(char::from(byte.to_ascii_lowercase()))
                }
                other => name.push_str(&format!("\\{other:03}")),
            }
        }
        offset += length;
        if name.len() > NAME_MAX {
            return None;
        }
    }
}

/// A name as labels. `None` if a label is empty or too long.
fn write_name(bytes: &mut Vec<u8>, name: &str) -> Option<()> {
    for label in name.trim_end_matches('.').split('.') {
        let length = u8::try_from(label.len()).ok().filter(|length| (1..64).contains(length))?;
        bytes.push(length);
        bytes.extend_from_slice(label.as_bytes());
    }
    bytes.push(0);
    Some(())
}

/// An answer being written.
#[derive(Clone, Debug)]
pub struct Reply {
    bytes: Vec<u8>,
    answers: u16,
    limit: usize,
    edns: bool,
}

impl Reply {
    /// An answer to `query` that is at most `limit` bytes long.
    pub(crate) fn new(query: &Query, code: u8, limit: usize) -> Reply {
        let mut bytes = Vec::with_capacity(128);
        bytes.extend_from_slice(&query.id.to_be_bytes());
        // Response, the operation, recursion as wanted; recursion is available.
        bytes.push(0x80 | query.operation << 3 | u8::from(query.recursion));
        bytes.push(0x80 | code);
        bytes.extend_from_slice(&[0, 1, 0, 0, 0, 0, 0, 0]);
        bytes.extend_from_slice(&query.question);
        Reply { bytes, answers: 0, limit, edns: query.edns.is_some() }
    }

    /// An answer to what could not be read: the header alone.
    pub(crate) fn malformed(id: u16) -> Vec<u8> {
        let [high, low] = id.to_be_bytes();
        vec![high, low, 0x80, 0x80 | code::FORMAT_ERROR, 0, 0, 0, 0, 0, 0, 0, 0]
    }

    /// Adds an answer to the question's name. One that does not fit makes the answer truncated.
    pub(crate) fn add(&mut self, kind: u16, seconds: u32, data: &[u8]) {
        let reserve = if self.edns { 11 } else { 0 };
        if self.bytes.len() + 12 + data.len() + reserve > self.limit {
            self.bytes[2] |= 0x02;
            return;
        }
        // The name is a pointer to the question's.
        self.bytes.extend_from_slice(&[0xc0, HEADER as u8]);
        self.bytes.extend_from_slice(&kind.to_be_bytes());
        self.bytes.extend_from_slice(&IN.to_be_bytes());
        self.bytes.extend_from_slice(&seconds.to_be_bytes());
        self.bytes.extend_from_slice(&(data.len() as u16).to_be_bytes());
        self.bytes.extend_from_slice(data);
        self.answers += 1;
    }

    /// Adds a name as the answer.
    pub(crate) fn add_name(&mut self, kind: u16, seconds: u32, name: &str) {
        let mut data = Vec::new();
        if write_name(&mut data, name).is_some() {
            self.add(kind, seconds, &data);
        }
    }

    /// The finished message. `version` is whether we know the asker's version of EDNS (else `BADVERS`).
    pub(crate) fn finish(mut self, known_version: bool) -> Vec<u8> {
        self.bytes[6..8].copy_from_slice(&self.answers.to_be_bytes());
        if self.edns {
            self.bytes[11] = 1;
            self.bytes.extend_from_slice(&[0]);
            self.bytes.extend_from_slice(&OPT.to_be_bytes());
            self.bytes.extend_from_slice(&OUR_UDP_SIZE.to_be_bytes());
            // The upper bits of the response code (BADVERS is 16), version 0, no flags, no options.
            self.bytes.extend_from_slice(&[u8::from(!known_version), 0, 0, 0, 0, 0]);
        }
        self.bytes
    }
}

/// The same question from another asker: with another id.
pub(crate) fn with_id(message: &[u8], id: u16) -> Vec<u8> {
    let mut bytes = message.to_vec();
    if let Some(start) = bytes.get_mut(..2) {
        start.copy_from_slice(&id.to_be_bytes());
    }
    bytes
}

/// Whether a message repeats the question (the letters' case included, which makes a forged answer harder).
pub(crate) fn repeats(message: &[u8], question: &[u8]) -> bool {
    message.get(HEADER..HEADER + question.len()) == Some(question) && u16_at(message, 4) == 1
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A query as a resolver writes it.
    pub(crate) fn query(name: &str, kind: u16, edns: Option<u16>) -> Vec<u8> {
        let mut bytes = vec![0x12, 0x34, 1, 0, 0, 1, 0, 0, 0, 0, 0, u8::from(edns.is_some())];
        write_name(&mut bytes, name).unwrap();
        bytes.extend_from_slice(&kind.to_be_bytes());
        bytes.extend_from_slice(&IN.to_be_bytes());
        if let Some(size) = edns {
            bytes.push(0);
            bytes.extend_from_slice(&OPT.to_be_bytes());
            bytes.extend_from_slice(&size.to_be_bytes());
            bytes.extend_from_slice(&[0; 6]);
        }
        bytes
    }

    #[test]
    fn reads_a_query() {
        let read = Query::read(&query("WeB.Example.COM", AAAA, Some(4096))).unwrap();
        assert_eq!((read.name.as_str(), read.kind, read.udp_size, read.edns), ("web.example.com", AAAA, 4096, Some(0)));
        assert_eq!(Query::read(&query("web", A, None)).unwrap().udp_size, 512);
    }

    #[test]
    fn hostile_messages() {
        assert_eq!(Query::read(&[]), Err(Unreadable::Ignore));
        assert_eq!(Query::read(&[0; 11]), Err(Unreadable::Ignore));
        let mut response = query("web", A, None);
        response[2] |= 0x80;
        assert_eq!(Query::read(&response), Err(Unreadable::Ignore));
        let whole = query("web.example.com", A, Some(4096));
        for length in 12..whole.len() {
            let _no_panic = Query::read(&whole[..length]);
        }
        let mut pointer = query("web", A, None);
        pointer[12] = 0xc0;
        assert_eq!(Query::read(&pointer), Err(Unreadable::Malformed(0x1234)));
        let dots = query("a", A, None).iter().map(|byte| if *byte == b'a' { b'.' } else { *byte }).collect::<Vec<_>>();
        assert_eq!(Query::read(&dots).unwrap().name, "\\046");
    }

    #[test]
    fn an_answer_that_does_not_fit_is_truncated() {
        let read = Query::read(&query("web", A, None)).unwrap();
        let mut reply = Reply::new(&read, code::NO_ERROR, 60);
        for number in 0..10 {
            reply.add(A, 5, &[10, 0, 0, number]);
        }
        let bytes = reply.finish(true);
        let header = Header::read(&bytes).unwrap();
        assert!(header.truncated && header.answers == 2 && bytes.len() <= 60, "{header:?}");
    }

    proptest::proptest! {
        #[test]
        fn never_panics(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..600)) {
            let _read = Query::read(&bytes);
        }
    }
}
