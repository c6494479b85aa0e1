//! The keys by which a person leaves an attached terminal, in Docker's notation: `ctrl-p,ctrl-q`.

use crate::error::{Error, Kind};

/// A sequence of keys. Without any, nothing detaches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DetachKeys(Vec<u8>);

impl Default for DetachKeys {
    /// `ctrl-p,ctrl-q`.
    fn default() -> Self {
        Self(vec![0x10, 0x11])
    }
}

impl std::str::FromStr for DetachKeys {
    type Err = Error;

    /// Single characters, or `ctrl-` and one of a letter, `@`, `[`, `\`, `]`, `^`, `_`; separated by commas. Nothing at all
    /// is no sequence.
    fn from_str(text: &str) -> Result<Self, Error> {
        if text.is_empty() {
            return Ok(Self(Vec::new()));
        }
        text.split(',').map(|key| byte(key, text)).collect::<Result<_, _>>().map(Self)
    }
}

fn byte(key: &str, whole: &str) -> Result<u8, Error> {
    let control = key.strip_prefix("ctrl-");
    match (control.unwrap_or(key).as_bytes(), control.is_some()) {
        ([letter @ (b'a'..=b'z' | b'A'..=b'Z')], true) => Ok(letter.to_ascii_lowercase() - b'a' + 1),
        ([b'@'], true) => Ok(0),
        ([sign @ b'['..=b'_'], true) => Ok(sign - b'@'),
        ([plain @ 0x20..0x7f], false) => Ok(*plain),
        _ => Err(Error::refused(
            Kind::Invalid,
            format!(
                "{key:?} in the detach keys {whole:?} is neither a character nor ctrl- with a-z, @, [, \\, ], ^ or _"
            ),
        )),
    }
}

/// Looks for the sequence in what is typed.
#[derive(Clone, Debug)]
pub struct Matcher {
    keys: Vec<u8>,
    held: Vec<u8>,
}

impl Matcher {
    /// Looks for `keys`.
    #[must_use]
    pub fn new(keys: DetachKeys) -> Self {
        Self { keys: keys.0, held: Vec::new() }
    }

    /// Appends to `out` what is input for the process. The beginning of a sequence is held back until it is clear that it is
    /// none. Returns whether the sequence is complete; what follows it is dropped.
    pub fn feed(&mut self, typed: &[u8], out: &mut Vec<u8>) -> bool {
        if self.keys.is_empty() {
            out.extend_from_slice(typed);
            return false;
        }
        for &byte in typed {
            self.held.push(byte);
            while !self.keys.starts_with(&self.held) {
                out.push(self.held.remove(0));
            }
            if self.held == self.keys {
                self.held.clear();
                return true;
            }
        }
        false
    }

    /// The input has ended: what was held back is input after all.
    pub fn finish(&mut self, out: &mut Vec<u8>) {
        out.append(&mut self.held);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_notation_is_dockers() {
        let keys = |text: &str| text.parse::<DetachKeys>().map(|keys| keys.0).map_err(|error| error.to_string());
        assert_eq!(keys("ctrl-p,ctrl-q").unwrap(), DetachKeys::default().0);
        assert_eq!(keys("ctrl-@,a,ctrl-[,ctrl-\\,ctrl-],ctrl-^,ctrl-_").unwrap(), [0, b'a', 27, 28, 29, 30, 31]);
        assert!(keys("").unwrap().is_empty());
        assert!(keys("ctrl-1").unwrap_err().contains("\"ctrl-1\""));
        assert!(keys("a,,b").is_err());
        assert!(keys("ab").is_err());
        assert!(keys("é").is_err());
    }

    #[test]
    fn the_sequence_is_found_and_everything_else_passes() {
        let run = |keys: &str, pieces: &[&[u8]]| {
            let mut matcher = Matcher::new(keys.parse().unwrap());
            let mut out = Vec::new();
            let found = pieces.iter().any(|piece| matcher.feed(piece, &mut out));
            if !found {
                matcher.finish(&mut out);
            }
            (found, out)
        };
        assert_eq!(run("ctrl-p,ctrl-q", &[b"ab\x10", b"\x11c"]), (true, b"ab".to_vec()));
        assert_eq!(run("ctrl-p,ctrl-q", &[b"\x10\x10\x11"]), (true, b"\x10".to_vec()));
        assert_eq!(run("ctrl-p,ctrl-q", &[b"\x10", b"x\x11"]), (false, b"\x10x\x11".to_vec()));
        assert_eq!(run("ctrl-p,ctrl-q", &[b"x\x10"]), (false, b"x\x10".to_vec()));
        assert_eq!(run("a,a,b", &[b"aaab"]), (true, b"a".to_vec()));
        assert_eq!(run("", &[b"\x10\x11"]), (false, b"\x10\x11".to_vec()));
    }
}
