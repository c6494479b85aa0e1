//! One message: a 16-byte header, a fixed header of the protocol, attributes aligned to 4 bytes.
//!
//! The decoder never trusts a length: what does not fit ends the iteration.

/// `NLA_F_NESTED`; nf_tables insists on it, rtnetlink accepts it.
const NESTED: u16 = 0x8000;
/// Without `NLA_F_NESTED` and `NLA_F_NET_BYTEORDER`.
const TYPE_MASK: u16 = 0x3fff;
/// Size of `struct nlmsghdr`.
const HEADER: usize = 16;

/// A message being written.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    bytes: Vec<u8>,
}

impl Request {
    /// An empty message of type `kind`; the socket fills in length and sequence number.
    pub(crate) fn new(kind: u16, flags: u16) -> Request {
        let mut bytes = Vec::with_capacity(256);
        bytes.extend_from_slice(&0u32.to_ne_bytes());
        bytes.extend_from_slice(&kind.to_ne_bytes());
        bytes.extend_from_slice(&(flags | super::REQUEST).to_ne_bytes());
        bytes.extend_from_slice(&[0; 8]);
        Request { bytes }
    }

    /// Appends a fixed header as it is.
    pub(crate) fn raw(&mut self, header: &[u8]) -> &mut Request {
        self.bytes.extend_from_slice(header);
        self.align();
        self
    }

    /// Appends an attribute.
    pub(crate) fn bytes(&mut self, kind: u16, payload: &[u8]) -> &mut Request {
        // An attribute is at most 65,535 bytes long; callers that write lists cut them up (`nft::transaction`).
        let length = u16::try_from(payload.len() + 4).unwrap_or(u16::MAX);
        self.bytes.extend_from_slice(&length.to_ne_bytes());
        self.bytes.extend_from_slice(&kind.to_ne_bytes());
        self.bytes.extend_from_slice(&payload[..usize::from(length) - 4]);
        self.align();
        self
    }

    /// An attribute of one byte.
    pub(crate) fn u8(&mut self, kind: u16, value: u8) -> &mut Request {
        self.bytes(kind, &[value])
    }

    /// An attribute of two bytes in the machine's order.
    pub(crate) fn u16(&mut self, kind: u16, value: u16) -> &mut Request {
        self.bytes(kind, &value.to_ne_bytes())
    }

    /// An attribute of four bytes in the machine's order (rtnetlink).
    pub(crate) fn u32(&mut self, kind: u16, value: u32) -> &mut Request {
        self.bytes(kind, &value.to_ne_bytes())
    }

    /// An attribute of four bytes in network order (nf_tables).
    pub(crate) fn be32(&mut self, kind: u16, value: u32) -> &mut Request {
        self.bytes(kind, &value.to_be_bytes())
    }

    /// A string with its final NUL.
    pub(crate) fn text(&mut self, kind: u16, value: &str) -> &mut Request {
        let mut payload = Vec::with_capacity(value.len() + 1);
        payload.extend_from_slice(value.as_bytes());
        payload.push(0);
        self.bytes(kind, &payload)
    }

    /// An attribute that holds what `fill` writes.
    pub(crate) fn nest(&mut self, kind: u16, fill: impl FnOnce(&mut Request)) -> &mut Request {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(&[0, 0]);
        self.bytes.extend_from_slice(&(kind | NESTED).to_ne_bytes());
        fill(self);
        let length = u16::try_from(self.bytes.len() - start).unwrap_or(u16::MAX);
        self.bytes[start..start + 2].copy_from_slice(&length.to_ne_bytes());
        self
    }

    /// Adds flags to those given at the start.
    pub(crate) fn add_flags(&mut self, flags: u16) {
        let all = u16_at(&self.bytes, 6) | flags;
        self.bytes[6..8].copy_from_slice(&all.to_ne_bytes());
    }

    /// Length so far, for those who cut lists up.
    pub(crate) fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Writes length and sequence number and returns the finished message.
    pub(crate) fn finish(&mut self, sequence: u32) -> &[u8] {
        let length = u32::try_from(self.bytes.len()).unwrap_or(u32::MAX);
        self.bytes[0..4].copy_from_slice(&length.to_ne_bytes());
        self.bytes[8..12].copy_from_slice(&sequence.to_ne_bytes());
        &self.bytes
    }

    fn align(&mut self) {
        while !self.bytes.len().is_multiple_of(4) {
            self.bytes.push(0);
        }
    }
}

/// One received message.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Message<'a> {
    pub(crate) kind: u16,
    pub(crate) flags: u16,
    pub(crate) sequence: u32,
    pub(crate) payload: &'a [u8],
}

/// The messages of one datagram.
pub(crate) struct Messages<'a>(pub(crate) &'a [u8]);

impl<'a> Iterator for Messages<'a> {
    type Item = Message<'a>;

    fn next(&mut self) -> Option<Message<'a>> {
        let header = self.0.get(..HEADER)?;
        let length = usize::try_from(u32_at(header, 0)).ok()?;
        let payload = self.0.get(HEADER..length)?;
        let message =
            Message { kind: u16_at(header, 4), flags: u16_at(header, 6), sequence: u32_at(header, 8), payload };
        self.0 = self.0.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some(message)
    }
}

/// The attributes in a piece of a message: type without its flag bits, and payload.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Attributes<'a>(pub(crate) &'a [u8]);

impl<'a> Attributes<'a> {
    /// The payload of the last attribute of this type (the kernel, too, lets the last one win).
    pub(crate) fn find(self, kind: u16) -> Option<&'a [u8]> {
        self.filter(|(found, _)| *found == kind).last().map(|(_, payload)| payload)
    }

    /// The nested attributes of the attribute of this type; none if it is not there.
    pub(crate) fn nested(self, kind: u16) -> Attributes<'a> {
        Attributes(self.find(kind).unwrap_or_default())
    }

    /// A string up to its NUL; what is not UTF-8 is replaced.
    pub(crate) fn text(self, kind: u16) -> Option<String> {
        let bytes = self.find(kind)?;
        let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
        Some(String::from_utf8_lossy(&bytes[..end]).into_owned())
    }

    /// Four bytes in the machine's order.
    pub(crate) fn u32(self, kind: u16) -> Option<u32> {
        Some(u32::from_ne_bytes(self.find(kind)?.get(..4)?.try_into().ok()?))
    }

    /// Four bytes in network order.
    pub(crate) fn be32(self, kind: u16) -> Option<u32> {
        Some(u32_be(self.find(kind)?))
    }
}

impl<'a> Iterator for Attributes<'a> {
    type Item = (u16, &'a [u8]);

    fn next(&mut self) -> Option<(u16, &'a [u8])> {
        let header = self.0.get(..4)?;
        let length = usize::from(u16_at(header, 0));
        let payload = self.0.get(4..length)?;
        let kind = u16_at(header, 2) & TYPE_MASK;
        self.0 = self.0.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((kind, payload))
    }
}

/// The byte at `offset`, 0 where there is none.
pub(crate) fn byte_at(bytes: &[u8], offset: usize) -> u8 {
    bytes.get(offset).copied().unwrap_or_default()
}

/// Two bytes in the machine's order, 0 where there are none.
pub(crate) fn u16_at(bytes: &[u8], offset: usize) -> u16 {
    bytes.get(offset..offset + 2).and_then(|piece| piece.try_into().ok()).map_or(0, u16::from_ne_bytes)
}

/// Four bytes in the machine's order, 0 where there are none.
pub(crate) fn u32_at(bytes: &[u8], offset: usize) -> u32 {
    bytes.get(offset..offset + 4).and_then(|piece| piece.try_into().ok()).map_or(0, u32::from_ne_bytes)
}

/// Four bytes in network order, 0 where there are none.
pub(crate) fn u32_be(bytes: &[u8]) -> u32 {
    bytes.get(..4).and_then(|piece| piece.try_into().ok()).map_or(0, u32::from_be_bytes)
}

/// Eight bytes in network order, 0 where there are none.
pub(crate) fn u64_be(bytes: &[u8]) -> u64 {
    bytes.get(..8).and_then(|piece| piece.try_into().ok()).map_or(0, u64::from_be_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_come_back_as_written() {
        let mut request = Request::new(16, 0);
        request.raw(&[0; 4]).text(3, "eth0").nest(18, |inner| {
            inner.u32(1, 7).u8(2, 9);
        });
        let bytes = request.finish(5).to_vec();
        let message = Messages(&bytes).next().unwrap();
        assert_eq!((message.kind, message.flags, message.sequence), (16, 1, 5));
        let attributes = Attributes(&message.payload[4..]);
        assert_eq!(attributes.text(3).as_deref(), Some("eth0"));
        assert_eq!(attributes.nested(18).u32(1), Some(7));
        assert_eq!(attributes.nested(18).find(2), Some(&[9u8][..]));
    }

    #[test]
    fn hostile_lengths_end_the_iteration() {
        for length in [0u16, 3, 200, u16::MAX] {
            let mut bytes = length.to_ne_bytes().to_vec();
            bytes.extend_from_slice(&[1, 0, 0, 0]);
            assert_eq!(Attributes(&bytes).count(), 0, "{length}");
        }
        for length in [0u32, 15, 200, u32::MAX] {
            let mut bytes = length.to_ne_bytes().to_vec();
            bytes.extend_from_slice(&[0; 12]);
            assert_eq!(Messages(&bytes).count(), 0, "{length}");
        }
    }
}
