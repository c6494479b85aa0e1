//! Messages as they go over the wire: values, calls, replies, errors, signals. The D-Bus specification 0.43, "Message Format".

use crate::Value;

/// Far above any message that is sent to us; the specification allows 128 MiB.
const LARGEST: usize = 1 << 20;
/// Nobody waits for the reply.
pub const NO_REPLY: u8 = 1;
/// Who is called is not started for it.
pub const NO_START: u8 = 2;
/// Kind of a message.
pub const REPLY: u8 = 2;
/// Kind of a message.
pub const ERROR: u8 = 3;
/// Kind of a message.
pub const SIGNAL: u8 = 4;

/// Values one after another, each aligned as its type wants it.
#[derive(Clone, Debug, Default)]
pub struct Writer(Vec<u8>);

impl Writer {
    fn align(&mut self, to: usize) {
        self.0.resize(self.0.len().next_multiple_of(to), 0);
    }

    /// `u`
    pub fn number(&mut self, value: u32) {
        self.align(4);
        self.0.extend(value.to_le_bytes());
    }

    fn length(&mut self, length: usize) {
        // Every message is far smaller than 4 GiB; one that is not is refused by its receiver.
        self.number(u32::try_from(length).unwrap_or(u32::MAX));
    }

    /// `b`
    pub fn flag(&mut self, flag: bool) {
        self.number(u32::from(flag));
    }

    /// `s` or `o`
    pub fn text(&mut self, text: &str) {
        self.length(text.len());
        self.0.extend(text.as_bytes());
        self.0.push(0);
    }

    fn signature(&mut self, signature: &str) {
        self.0.push(u8::try_from(signature.len()).unwrap_or(u8::MAX));
        self.0.extend(signature.as_bytes());
        self.0.push(0);
    }

    /// An array of elements with this alignment: the length does not count the padding before the first.
    pub fn array(&mut self, alignment: usize, elements: impl FnOnce(&mut Writer)) {
        self.number(0);
        let at = self.0.len() - 4;
        self.align(alignment);
        let start = self.0.len();
        elements(self);
        let length = u32::try_from(self.0.len() - start).unwrap_or(u32::MAX);
        self.0[at..at + 4].copy_from_slice(&length.to_le_bytes());
    }

    /// `(sv)` or, in a dictionary, `{sv}`
    pub fn property(&mut self, name: &str, value: &Value) {
        self.align(8);
        self.text(name);
        match value {
            Value::Text(text) => {
                self.signature("s");
                self.text(text);
            }
            Value::Texts(texts) => {
                self.signature("as");
                self.array(4, |writer| texts.iter().for_each(|text| writer.text(text)));
            }
            Value::Flag(flag) => {
                self.signature("b");
                self.number(u32::from(*flag));
            }
            Value::Number(number) => {
                self.signature("t");
                self.align(8);
                self.0.extend(number.to_le_bytes());
            }
            Value::Small(number) => {
                self.signature("u");
                self.number(*number);
            }
            Value::Signed(number) => {
                self.signature("i");
                self.number(number.cast_unsigned());
            }
            Value::Numbers(numbers) => {
                self.signature("au");
                self.array(4, |writer| numbers.iter().for_each(|number| writer.number(*number)));
            }
            Value::Bytes(bytes) => {
                self.signature("ay");
                self.array(1, |writer| writer.0.extend(bytes));
            }
        }
    }
}

/// A call of a method.
#[derive(Clone, Copy, Debug)]
pub struct Call<'a> {
    /// Name on the bus of who is called; empty without a bus.
    pub destination: &'a str,
    /// The object.
    pub path: &'a str,
    /// The interface.
    pub interface: &'a str,
    /// The method.
    pub member: &'a str,
    /// [`NO_REPLY`], [`NO_START`].
    pub flags: u8,
    /// Types of what is in the body.
    pub signature: &'a str,
    /// The arguments; `None` for a method without.
    pub body: Option<&'a Writer>,
}

impl Call<'_> {
    pub(crate) fn encode(&self, serial: u32, out: &mut Vec<u8>) {
        let mut writer = Writer(vec![b'l', 1, self.flags, 1]);
        let body = self.body.map_or([].as_slice(), |body| &body.0);
        writer.length(body.len());
        writer.number(serial);
        writer.array(8, |writer| {
            let mut field = |code: u8, signature: &str, value: &str| {
                if value.is_empty() {
                    return;
                }
                writer.align(8);
                writer.0.push(code);
                writer.signature(signature);
                if signature == "g" { writer.signature(value) } else { writer.text(value) }
            };
            field(1, "o", self.path);
            field(2, "s", self.interface);
            field(3, "s", self.member);
            field(6, "s", self.destination);
            field(8, "g", self.signature);
        });
        writer.align(8);
        out.extend(writer.0);
        out.extend(body);
    }
}

/// A message that came in, as far as it is looked at.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Message {
    /// 1 call, [`REPLY`], [`ERROR`], [`SIGNAL`].
    pub kind: u8,
    /// Of a signal.
    pub member: String,
    /// Name of an error.
    pub error: String,
    /// Number of the call that is answered.
    pub reply_to: u32,
    /// The values.
    pub body: Vec<u8>,
}

impl Message {
    /// Its values from the first.
    pub fn reader(&self) -> Reader<'_> {
        Reader { bytes: &self.body, at: 0 }
    }
}

/// Reads values; `None` where the message ends too early.
#[derive(Clone, Debug)]
pub struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    fn align(&mut self, to: usize) {
        self.at = self.at.next_multiple_of(to);
    }

    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let taken = self.bytes.get(self.at..self.at.checked_add(count)?)?;
        self.at += count;
        Some(taken)
    }

    fn byte(&mut self) -> Option<u8> {
        Some(self.take(1)?[0])
    }

    /// `u`
    pub fn number(&mut self) -> Option<u32> {
        self.align(4);
        Some(u32::from_le_bytes(self.take(4)?.try_into().ok()?))
    }

    /// `s` or `o`
    pub fn text(&mut self) -> Option<String> {
        let length = usize::try_from(self.number()?).ok()?;
        let text = String::from_utf8_lossy(self.take(length)?).into_owned();
        self.take(1)?;
        Some(text)
    }

    /// `as`
    pub fn texts(&mut self) -> Option<Vec<String>> {
        let length = usize::try_from(self.number()?).ok()?;
        let end = self.at.checked_add(length).filter(|end| *end <= self.bytes.len())?;
        let mut texts = Vec::new();
        while self.at < end {
            texts.push(self.text()?);
        }
        Some(texts)
    }

    fn signature(&mut self) -> Option<&'a [u8]> {
        let length = usize::from(self.byte()?);
        let text = self.take(length)?;
        self.take(1)?;
        Some(text)
    }
}

/// The fields of a header, and the length of it all, from the 16 bytes that every message begins with.
pub(crate) fn sizes(start: &[u8; 16]) -> Option<(usize, usize)> {
    if start[0] != b'l' || start[3] != 1 {
        return None;
    }
    let number = |at: usize| u32::from_le_bytes([start[at], start[at + 1], start[at + 2], start[at + 3]]) as usize;
    let (body, fields) = (number(4), number(12));
    (body <= LARGEST && fields <= LARGEST).then(|| (fields.next_multiple_of(8), body))
}

pub(crate) fn decode(kind: u8, fields: &[u8], body: Vec<u8>) -> Option<Message> {
    let mut message = Message { kind, body, ..Message::default() };
    let mut reader = Reader { bytes: fields, at: 0 };
    loop {
        reader.align(8);
        // The last fields are followed by padding to eight bytes, which is less than a field.
        if fields.len().saturating_sub(reader.at) < 8 {
            return Some(message);
        }
        let code = reader.byte()?;
        match (reader.signature()?, code) {
            (b"s" | b"o", _) => {
                let text = reader.text()?;
                match code {
                    3 => message.member = text,
                    4 => message.error = text,
                    _ => {}
                }
            }
            (b"u", 5) => message.reply_to = reader.number()?,
            (b"u", _) => drop(reader.number()?),
            (b"g", _) => drop(reader.signature()?),
            _ => return None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_as_it_goes_over_the_wire() {
        let mut body = Writer::default();
        body.text("x.scope");
        let mut out = Vec::new();
        let call = Call {
            destination: "org.a",
            path: "/o",
            interface: "org.b",
            member: "Go",
            flags: 0,
            signature: "s",
            body: Some(&body),
        };
        call.encode(7, &mut out);
        let (fields, length) = sizes(out[..16].try_into().unwrap()).unwrap();
        assert_eq!(16 + fields + length, out.len());
        assert_eq!(length, 12);
        let message = decode(out[1], &out[16..16 + fields], out[16 + fields..].to_vec()).unwrap();
        assert_eq!((message.kind, message.member.as_str()), (1, "Go"));
        assert_eq!(message.reader().text().as_deref(), Some("x.scope"));
    }

    #[test]
    fn lists_of_texts() {
        let texts = ["dhow-out".to_owned(), String::new(), "x".to_owned()];
        let mut body = Writer::default();
        body.property("ingress_zones", &Value::Texts(texts.to_vec()));
        // Name, signature, then the list.
        let mut reader = Reader { bytes: &body.0, at: 0 };
        assert_eq!(reader.text().as_deref(), Some("ingress_zones"));
        assert_eq!(reader.signature(), Some(b"as".as_slice()));
        assert_eq!(reader.texts().as_deref(), Some(texts.as_slice()));
        for end in 0..body.0.len() {
            // Cut off anywhere: no panic, and no list that is not there.
            let mut reader = Reader { bytes: &body.0[..end], at: 0 };
            let found = reader.text().and_then(|_| reader.signature()).and_then(|_| reader.texts());
            assert_eq!(found, None, "{end}");
        }
    }

    #[test]
    fn damaged_messages_are_refused_without_panic() {
        let mut out = Vec::new();
        Call { destination: "d", path: "/", interface: "i", member: "m", flags: 0, signature: "", body: None }
            .encode(1, &mut out);
        for at in 0..out.len() {
            for value in [0, 1, 0x7f, 0xff] {
                let mut bad = out.clone();
                bad[at] = value;
                if let Some((fields, _)) = sizes(bad[..16].try_into().unwrap()) {
                    drop(decode(bad[1], bad.get(16..16 + fields).unwrap_or(&[]), Vec::new()));
                }
            }
        }
        assert!(sizes(&[0xff; 16]).is_none());
    }
}
