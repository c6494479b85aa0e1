//! As much of DER (ITU-T X.690) as keys and certificates need: definite lengths, one value after the other. No recursion.

/// Tags that we meet.
pub(crate) mod tag {
    pub(crate) const BOOLEAN: u8 = 0x01;
    pub(crate) const BIT_STRING: u8 = 0x03;
    pub(crate) const OCTET_STRING: u8 = 0x04;
    pub(crate) const OID: u8 = 0x06;
    pub(crate) const UTF8_STRING: u8 = 0x0c;
    pub(crate) const SEQUENCE: u8 = 0x30;
    /// `[3] EXPLICIT`: the extensions of a certificate.
    pub(crate) const EXTENSIONS: u8 = 0xa3;
    /// `[1] IMPLICIT`: an address for mail in a subject's alternative names.
    pub(crate) const MAIL: u8 = 0x81;
    /// `[6] IMPLICIT`: a URI there.
    pub(crate) const URI: u8 = 0x86;
}

/// Values that follow each other.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Values<'a>(&'a [u8]);

impl<'a> Values<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Values<'a> {
        Values(bytes)
    }

    /// The next value, with its tag; `None` at the end and for anything malformed, which ends it.
    pub(crate) fn next(&mut self) -> Option<(u8, &'a [u8])> {
        let result = split(self.0);
        match result {
            Some((tag, value, rest)) => {
                self.0 = rest;
                Some((tag, value))
            }
            None => {
                self.0 = &[];
                None
            }
        }
    }

    /// The next value if it has this tag.
    pub(crate) fn expect(&mut self, tag: u8) -> Option<&'a [u8]> {
        self.next().filter(|(found, _)| *found == tag).map(|(_, value)| value)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// Tag, value, and what follows.
fn split(bytes: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&tag, rest) = bytes.split_first()?;
    // Tags of several bytes are in nothing that we read.
    if tag & 0x1f == 0x1f {
        return None;
    }
    let (&first, rest) = rest.split_first()?;
    let (length, rest) = match first {
        0..=0x7f => (usize::from(first), rest),
        0x81..=0x83 => {
            let (digits, rest) = rest.split_at_checked(usize::from(first & 0x7f))?;
            let length = digits.iter().fold(0, |sum, digit| sum << 8 | usize::from(*digit));
            // DER: the shortest form, so that one value has one encoding.
            if length < 0x80 || digits[0] == 0 {
                return None;
            }
            (length, rest)
        }
        _ => return None,
    };
    let (value, rest) = rest.split_at_checked(length)?;
    Some((tag, value, rest))
}

/// The bytes of a bit string with a whole number of bytes.
pub(crate) fn whole_bytes(bits: &[u8]) -> Option<&[u8]> {
    bits.split_first().filter(|(unused, _)| **unused == 0).map(|(_, bytes)| bytes)
}

/// The contents of the PEM blocks (RFC 7468) of one kind; anything else beside them is text.
pub(crate) fn pem(text: &str, kind: &str) -> Option<Vec<Vec<u8>>> {
    use base64::Engine as _;
    let (begin, end) = (format!("-----BEGIN {kind}-----"), format!("-----END {kind}-----"));
    let mut blocks = Vec::new();
    let mut rest = text;
    while let Some((_, after)) = rest.split_once(begin.as_str()) {
        let (body, after) = after.split_once(end.as_str())?;
        let digits: String = body.chars().filter(|character| !character.is_ascii_whitespace()).collect();
        blocks.push(base64::engine::general_purpose::STANDARD.decode(digits).ok()?);
        rest = after;
        if blocks.len() > 20 {
            return None;
        }
    }
    Some(blocks)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths() {
        let mut values = Values::new(&[0x04, 0x01, 0xaa, 0x30, 0x00]);
        assert_eq!(values.next(), Some((0x04, &[0xaa][..])));
        assert_eq!(values.next(), Some((0x30, &[][..])));
        assert!(values.is_empty() && values.next().is_none());
        let long = [&[0x04, 0x81, 0x80][..], &[7; 0x80]].concat();
        assert_eq!(Values::new(&long).expect(0x04), Some(&[7; 0x80][..]));
        for bad in
            [&[0x04][..], &[0x04, 0x02, 0], &[0x04, 0x81, 0x01, 0], &[0x04, 0x80, 0], &[0x1f, 0x01, 0], &[4, 0x84]]
        {
            assert!(Values::new(bad).next().is_none(), "{bad:?}");
        }
    }

    #[test]
    fn blocks() {
        let text = "x\n-----BEGIN A-----\nAA\nAA\n-----END A-----\n-----BEGIN B-----\nAAEC\n-----END B-----\n";
        assert_eq!(pem(text, "A").unwrap(), [[0, 0, 0]]);
        assert_eq!(pem(text, "B").unwrap(), [[0, 1, 2]]);
        assert!(pem(text, "C").unwrap().is_empty());
        assert!(pem("-----BEGIN A-----AA", "A").is_none());
    }

    proptest::proptest! {
        #[test]
        fn noise_does_not_panic(bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..200)) {
            let mut values = Values::new(&bytes);
            while values.next().is_some() {}
        }
    }
}
