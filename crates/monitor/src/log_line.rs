//! Taking a line of Docker's json-file log apart.
//!
//! Lines as we and Docker write them are read without a general parser, which is most of the speed of `dhow logs`; anything
//! else that is JSON (Docker's `attrs`, other orders) goes through one.

use crate::json_line::clean_blocks;
use crate::log_file::Stream;

/// A line of a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry<'a> {
    /// Which output it came from.
    pub stream: Stream,
    /// RFC 3339.
    pub time: &'a str,
    /// The text, with its newline if it is the end of a line.
    pub text: &'a [u8],
}

/// Room for the text and time of one entry, used again for the next.
#[derive(Debug, Default)]
pub(crate) struct Scratch {
    text: Vec<u8>,
    time: String,
}

impl Scratch {
    /// What [`parse`] found.
    pub(crate) fn entry(&self, stream: Stream) -> Entry<'_> {
        Entry { stream, time: &self.time, text: &self.text }
    }
}

/// Takes `line`, without its newline, apart into `scratch`. `None` when it is no log line.
pub(crate) fn parse(line: &[u8], scratch: &mut Scratch) -> Option<Stream> {
    scratch.text.clear();
    scratch.time.clear();
    if let Some((stream, time)) = fast(line, &mut scratch.text) {
        scratch.time.push_str(time);
        return Some(stream);
    }
    scratch.text.clear();
    let value: Foreign = serde_json::from_slice(line).ok()?;
    scratch.text.extend_from_slice(value.log.as_bytes());
    scratch.time = value.time;
    stream(value.stream.as_bytes())
}

#[derive(serde::Deserialize)]
struct Foreign {
    #[serde(default)]
    log: String,
    #[serde(default)]
    stream: String,
    #[serde(default)]
    time: String,
}

fn stream(name: &[u8]) -> Option<Stream> {
    match name {
        b"stdout" => Some(Stream::Stdout),
        b"stderr" => Some(Stream::Stderr),
        _ => None,
    }
}

fn fast<'a>(line: &'a [u8], text: &mut Vec<u8>) -> Option<(Stream, &'a str)> {
    let rest = unescape(line.strip_prefix(b"{\"log\":\"")?, text)?;
    let rest = rest.strip_prefix(b",\"stream\":\"")?;
    let (name, rest) = rest.split_at_checked(6)?;
    let rest = rest.strip_prefix(b"\",\"time\":\"")?;
    let time = rest.strip_suffix(b"\"}")?;
    if time.iter().any(|byte| matches!(byte, b'"' | b'\\')) {
        return None;
    }
    Some((stream(name)?, std::str::from_utf8(time).ok()?))
}

/// Appends the text of a JSON string to `out`; returns what follows its closing quote. `None` when it is malformed or needs
/// the general parser.
fn unescape<'a>(mut rest: &'a [u8], out: &mut Vec<u8>) -> Option<&'a [u8]> {
    loop {
        let plain = plain_prefix(rest);
        out.extend_from_slice(&rest[..plain]);
        rest = &rest[plain..];
        let (&byte, after) = rest.split_first()?;
        if byte == b'"' {
            return Some(after);
        }
        let (&escape, after) = after.split_first()?;
        rest = after;
        out.push(match escape {
            b'n' => b'\n',
            b'r' => b'\r',
            b't' => b'\t',
            b'b' => 8,
            b'f' => 12,
            b'"' | b'\\' | b'/' => escape,
            b'u' => {
                let (digits, after) = rest.split_at_checked(4)?;
                let code = u32::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?;
                // Halves of a surrogate pair: not written by us nor by Docker.
                let character = char::from_u32(code)?;
                out.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
                rest = after;
                continue;
            }
            _ => return None,
        });
    }
}

fn plain_prefix(text: &[u8]) -> usize {
    let special = |byte: u8| (byte == b'"') | (byte == b'\\');
    let done = clean_blocks::<32>(text, special);
    let done = done + clean_blocks::<8>(&text[done..], special);
    done + text[done..].iter().position(|&byte| special(byte)).unwrap_or(text.len() - done)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        for text in ["", "plain", "q\"b\\n\nr\rt\t\0\u{1b}", "<&> é 漢 😀 \u{2028}", &"x\"y".repeat(1000)] {
            for newline in [false, true] {
                let mut line = Vec::new();
                let suffix = crate::json_line::suffix("stderr", "2026-01-01T00:00:00Z");
                crate::json_line::append(&mut line, text.as_bytes(), newline, &suffix);
                line.pop();
                let mut scratch = Scratch::default();
                assert!(fast(&line, &mut Vec::new()).is_some());
                let stream = parse(&line, &mut scratch).unwrap();
                let entry = scratch.entry(stream);
                let expected = format!("{text}{}", if newline { "\n" } else { "" });
                assert_eq!((entry.stream, entry.time), (Stream::Stderr, "2026-01-01T00:00:00Z"));
                assert_eq!(std::str::from_utf8(entry.text).unwrap(), expected);
            }
        }
    }

    #[test]
    fn what_others_write_is_read_too() {
        let line = br#"{"stream":"stdout","log":"\ud83d\ude00\n","attrs":{"tag":"x"},"time":"2026-01-01T00:00:00Z"}"#;
        let mut scratch = Scratch::default();
        let stream = parse(line, &mut scratch).unwrap();
        assert_eq!(scratch.entry(stream).text, "😀\n".as_bytes());
        for broken in [&b""[..], b"{", b"{}", b"{\"log\":\"", b"{\"log\":\"\\", b"{\"log\":\"\\u12", b"[1]", b"\xff"] {
            assert_eq!(parse(broken, &mut Scratch::default()), None);
        }
    }
}
