//! One line of output as one line of Docker's json-file log.
//!
//! `{"log":"text\n","stream":"stdout","time":"2026-11-21T01:50:00.123456789Z"}` and a newline. The text is escaped as
//! Docker does: besides what JSON demands also `<`, `>`, `&`, U+2028 and U+2029, and each byte that is not UTF-8 becomes
//! `\ufffd`. All other characters stand as they are.

/// What surrounds the text: the longest stream name, the time and the punctuation.
pub(crate) const OVERHEAD: usize = r#"{"log":"\n","stream":"stderr","time":""}"#.len() + crate::clock::TEXT_LENGTH + 8;
/// How much longer than its raw form text can become: `\u0000` for one byte.
pub(crate) const WORST: usize = 6;

/// What stands behind the text; the same for all lines that came together.
pub(crate) fn suffix(stream: &str, time: &str) -> String {
    format!("\",\"stream\":\"{stream}\",\"time\":\"{time}\"}}\n")
}

/// The same with Docker's `attrs`, a JSON object.
pub(crate) fn suffix_with(stream: &str, attributes: &str, time: &str) -> String {
    match attributes {
        "" => suffix(stream, time),
        _ => format!("\",\"stream\":\"{stream}\",\"attrs\":{attributes},\"time\":\"{time}\"}}\n"),
    }
}

/// Appends one log line. `newline` says whether the text ended in one (which is not part of `text`).
pub(crate) fn append(out: &mut Vec<u8>, text: &[u8], newline: bool, suffix: &str) {
    out.extend_from_slice(b"{\"log\":\"");
    escape(out, text);
    if newline {
        out.extend_from_slice(b"\\n");
    }
    out.extend_from_slice(suffix.as_bytes());
}

/// Bytes that cannot be copied as they are: control characters, the five that Docker escapes, and all beyond ASCII.
///
/// Without a branch, and two letters by one bit where they differ in one: otherwise the compiler looks at each byte by itself, which takes
/// six times as long. As signed numbers, bytes beyond ASCII are below the control characters.
const fn is_special(byte: u8) -> bool {
    (byte.cast_signed() < 0x20) | (byte | 2 == b'>') | (byte | 4 == b'&') | (byte == b'\\')
}

/// Length of the prefix that needs no work.
fn plain_prefix(text: &[u8]) -> usize {
    let done = clean_blocks::<32>(text, is_special);
    let done = done + clean_blocks::<8>(&text[done..], is_special);
    done + text[done..].iter().position(|&byte| is_special(byte)).unwrap_or(text.len() - done)
}

/// Length of the leading blocks in which no byte is special. Each block is looked at without an early exit, which the
/// compiler turns into vectors.
pub(crate) fn clean_blocks<const N: usize>(text: &[u8], special: impl Fn(u8) -> bool) -> usize {
    let (blocks, _) = text.as_chunks::<N>();
    let dirty = blocks.iter().position(|block| block.iter().fold(false, |any, &byte| any | special(byte)));
    dirty.unwrap_or(blocks.len()) * N
}

fn escape(out: &mut Vec<u8>, mut text: &[u8]) {
    loop {
        let plain = plain_prefix(text);
        out.extend_from_slice(&text[..plain]);
        text = &text[plain..];
        let Some(&byte) = text.first() else { return };
        let used = if byte < 0x80 {
            escape_ascii(out, byte);
            1
        } else {
            escape_beyond_ascii(out, text)
        };
        text = &text[used..];
    }
}

fn escape_ascii(out: &mut Vec<u8>, byte: u8) {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    match byte {
        b'"' | b'\\' => out.extend_from_slice(&[b'\\', byte]),
        b'\n' => out.extend_from_slice(b"\\n"),
        b'\r' => out.extend_from_slice(b"\\r"),
        _ => {
            out.extend_from_slice(b"\\u00");
            out.extend_from_slice(&[HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]]);
        }
    }
}

/// Copies the characters beyond ASCII at the start of `text`, or escapes one byte of something else. Returns how much.
fn escape_beyond_ascii(out: &mut Vec<u8>, text: &[u8]) -> usize {
    let run = text.iter().position(|&byte| byte < 0x80).unwrap_or(text.len());
    let valid = match std::str::from_utf8(&text[..run]) {
        Ok(valid) => valid,
        Err(error) if error.valid_up_to() == 0 => {
            out.extend_from_slice(b"\\ufffd");
            return 1;
        }
        // The part that was found valid a moment ago is valid again; an empty one would only repeat the loop.
        Err(error) => std::str::from_utf8(&text[..error.valid_up_to()]).unwrap_or_default(),
    };
    for piece in valid.split_inclusive(['\u{2028}', '\u{2029}']) {
        if let Some(before) = piece.strip_suffix('\u{2028}') {
            out.extend_from_slice(before.as_bytes());
            out.extend_from_slice(b"\\u2028");
        } else if let Some(before) = piece.strip_suffix('\u{2029}') {
            out.extend_from_slice(before.as_bytes());
            out.extend_from_slice(b"\\u2029");
        } else {
            out.extend_from_slice(piece.as_bytes());
        }
    }
    valid.len()
}

/// Position of the first newline.
pub(crate) fn find_newline(text: &[u8]) -> Option<usize> {
    let done = clean_blocks::<64>(text, |byte| byte == b'\n');
    let done = done + clean_blocks::<8>(&text[done..], |byte| byte == b'\n');
    text[done..].iter().position(|&byte| byte == b'\n').map(|at| done + at)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(text: &[u8], newline: bool) -> String {
        let mut out = Vec::new();
        append(&mut out, text, newline, &suffix("stdout", "T"));
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn looks_as_docker_writes_it() {
        assert_eq!(line(b"hello", true), "{\"log\":\"hello\\n\",\"stream\":\"stdout\",\"time\":\"T\"}\n");
        assert_eq!(line(b"", false), "{\"log\":\"\",\"stream\":\"stdout\",\"time\":\"T\"}\n");
    }

    #[test]
    fn escapes_as_docker_does() {
        let text = |bytes: &[u8]| {
            let mut out = Vec::new();
            escape(&mut out, bytes);
            String::from_utf8(out).unwrap()
        };
        assert_eq!(text(b"a\"b\\c\r\t\x00\x1b\x7f"), "a\\\"b\\\\c\\r\\u0009\\u0000\\u001b\x7f");
        assert_eq!(text(b"<a>&"), "\\u003ca\\u003e\\u0026");
        assert_eq!(text("grün 漢 😀".as_bytes()), "grün 漢 😀");
        assert_eq!(text("a\u{2028}b\u{2029}\u{2030}".as_bytes()), "a\\u2028b\\u2029\u{2030}");
        assert_eq!(text(b"\xff\xfea"), "\\ufffd\\ufffda");
        // A surrogate, an overlong form and a cut-off character: one replacement for each byte, as Go counts.
        assert_eq!(text(b"\xed\xa0\x80"), "\\ufffd\\ufffd\\ufffd");
        assert_eq!(text(b"\xc0\xaf"), "\\ufffd\\ufffd");
        assert_eq!(text(b"x\xe6\xbc"), "x\\ufffd\\ufffd");
        assert_eq!(text("é\u{301}".as_bytes()).as_bytes(), "é\u{301}".as_bytes());
        assert_eq!(text(b"\xc3\xa9\xff\xc3\xa9"), "é\\ufffdé");
    }

    #[test]
    fn any_text_comes_back_and_stays_within_the_bound() {
        let mut state = 1_u32;
        for round in 0..400 {
            let bytes: Vec<u8> = (0..round)
                .map(|_| {
                    state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                    (state >> 24) as u8
                })
                .collect();
            let mut out = Vec::new();
            append(&mut out, &bytes, true, &suffix("stderr", &crate::clock::now()));
            assert!(out.len() <= bytes.len() * WORST + OVERHEAD);
            let value: serde_json::Value = serde_json::from_slice(&out).unwrap();
            let text = value["log"].as_str().unwrap();
            if let Ok(valid) = std::str::from_utf8(&bytes) {
                assert_eq!(text, format!("{valid}\n"));
            }
        }
    }

    #[test]
    fn special_are_these() {
        for byte in 0..=u8::MAX {
            let expected = !(0x20..0x80).contains(&byte) || b"\"\\<>&".contains(&byte);
            assert_eq!(is_special(byte), expected, "{byte}");
        }
    }

    #[test]
    fn newlines_are_found_wherever_they_are() {
        for at in 0..300 {
            let mut text = vec![b'x'; 300];
            text[at] = b'\n';
            assert_eq!(find_newline(&text), Some(at));
            assert_eq!(find_newline(&text[..at]), None);
        }
    }
}
