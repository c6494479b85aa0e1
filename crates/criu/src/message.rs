//! Protocol buffers, as far as criu's RPC goes: numbers, flags, strings and messages in messages
//! (protobuf.dev, "Encoding").

/// A message being written.
#[derive(Clone, Debug, Default)]
pub(crate) struct Writer(Vec<u8>);

impl Writer {
    pub(crate) fn into_bytes(self) -> Vec<u8> {
        self.0
    }

    fn variable(&mut self, mut value: u64) {
        loop {
            let low = (value & 0x7f) as u8;
            value >>= 7;
            if value == 0 {
                return self.0.push(low);
            }
            self.0.push(low | 0x80);
        }
    }

    /// A number; negative ones are written in 64 bits, as `int32` wants it.
    pub(crate) fn number(&mut self, field: u32, value: i64) {
        self.variable(u64::from(field) << 3);
        self.variable(value.cast_unsigned());
    }

    /// A flag that is set; one that is not is left out, as that is its default everywhere.
    pub(crate) fn flag(&mut self, field: u32, value: bool) {
        if value {
            self.number(field, 1);
        }
    }

    pub(crate) fn bytes(&mut self, field: u32, value: &[u8]) {
        self.variable(u64::from(field) << 3 | 2);
        self.variable(value.len() as u64);
        self.0.extend_from_slice(value);
    }

    pub(crate) fn text(&mut self, field: u32, value: &str) {
        self.bytes(field, value.as_bytes());
    }

    pub(crate) fn message(&mut self, field: u32, value: Self) {
        self.bytes(field, &value.0);
    }
}

/// A field that was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Value<'a> {
    Number(u64),
    Bytes(&'a [u8]),
}

impl Value<'_> {
    /// As `int32` and its kin are meant: the low half of what was written.
    pub(crate) fn int(self) -> i32 {
        match self {
            Self::Number(value) => (value & 0xffff_ffff) as u32 as i32,
            Self::Bytes(_) => 0,
        }
    }

    pub(crate) fn text(self) -> String {
        match self {
            Self::Number(_) => String::new(),
            Self::Bytes(bytes) => String::from_utf8_lossy(bytes).into_owned(),
        }
    }
}

/// The fields of a message with their numbers; `None` for what is no message.
pub(crate) fn fields(mut rest: &[u8]) -> Option<Vec<(u64, Value<'_>)>> {
    let mut found = Vec::new();
    while !rest.is_empty() {
        let tag = variable(&mut rest)?;
        let value = match tag & 7 {
            0 => Value::Number(variable(&mut rest)?),
            1 => Value::Bytes(take(&mut rest, 8)?),
            2 => {
                let length = usize::try_from(variable(&mut rest)?).ok()?;
                Value::Bytes(take(&mut rest, length)?)
            }
            5 => Value::Bytes(take(&mut rest, 4)?),
            _ => return None,
        };
        found.push((tag >> 3, value));
    }
    Some(found)
}

fn take<'a>(rest: &mut &'a [u8], length: usize) -> Option<&'a [u8]> {
    let (taken, left) = rest.split_at_checked(length)?;
    *rest = left;
    Some(taken)
}

fn variable(rest: &mut &[u8]) -> Option<u64> {
    let mut value = 0u64;
    for shift in (0..64).step_by(7) {
        let (&byte, left) = rest.split_first()?;
        *rest = left;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let mut inner = Writer::default();
        inner.text(2, "pipe:[1]");
        let mut writer = Writer::default();
        writer.number(1, 300);
        writer.number(2, -1);
        writer.flag(3, false);
        writer.flag(4, true);
        writer.message(27, inner);
        let bytes = writer.into_bytes();
        // The example of protobuf's own documentation for 300.
        assert_eq!(bytes[..3], [0x08, 0xac, 0x02]);
        let all = fields(&bytes).unwrap();
        assert_eq!(all.iter().map(|(number, _)| *number).collect::<Vec<_>>(), [1, 2, 4, 27]);
        assert_eq!((all[0].1.int(), all[1].1.int(), all[2].1.int()), (300, -1, 1));
        let Value::Bytes(inner) = all[3].1 else { panic!("no message") };
        assert_eq!(fields(inner).unwrap(), [(2, Value::Bytes(b"pipe:[1]"))]);
    }

    #[test]
    fn what_is_no_message_is_refused() {
        for bad in [&[0x08][..], &[0x12, 0x05, 0x00], &[0x80; 11], &[0x0f], &[0x09, 1, 2]] {
            assert_eq!(fields(bad), None, "{bad:?}");
        }
    }
}
