//! The 512-byte header block in its four dialects: v7, ustar (POSIX.1-1988), GNU and star.

use crate::entry::Time;

pub(crate) const BLOCK: usize = 512;

/// A header block, taken apart but not yet interpreted.
pub(crate) struct Fields {
    pub(crate) path: Vec<u8>,
    pub(crate) link: Vec<u8>,
    pub(crate) type_byte: u8,
    pub(crate) mode: u32,
    pub(crate) uid: u64,
    pub(crate) gid: u64,
    pub(crate) size: u64,
    pub(crate) mtime: Time,
    pub(crate) major: u32,
    pub(crate) minor: u32,
    pub(crate) dialect: Dialect,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Dialect {
    V7,
    Ustar,
    Gnu,
    Star,
}

/// Checks the sum and takes the block apart; the error says which field is wrong.
pub(crate) fn parse(block: &[u8; BLOCK]) -> Result<Fields, &'static str> {
    check_sum(block)?;
    let dialect = match (&block[257..263], &block[263..265], &block[508..512]) {
        (b"ustar\0", _, b"tar\0") => Dialect::Star,
        (b"ustar\0", _, _) => Dialect::Ustar,
        (b"ustar ", b" \0", _) => Dialect::Gnu,
        _ => Dialect::V7,
    };
    let device = |range| match dialect {
        Dialect::V7 => Ok(0),
        _ => number(&block[range]).and_then(|value| u32::try_from(value).ok()).ok_or("device number"),
    };
    let type_byte = block[156];
    let is_device = matches!(type_byte, b'3' | b'4');
    let id = |range| number(&block[range]).and_then(|value| u64::try_from(value).ok());
    Ok(Fields {
        path: path(block, dialect),
        link: text(&block[157..257]).to_vec(),
        type_byte,
        // Go and GNU tar keep the low bits of a mode that has the file type in it.
        mode: (number(&block[100..108]).ok_or("mode")? & 0o7777) as u32,
        uid: id(108..116).ok_or("owner")?,
        gid: id(116..124).ok_or("group")?,
        size: id(124..136).ok_or("size")?,
        mtime: Time { seconds: number(&block[136..148]).ok_or("time")?, nanoseconds: 0 },
        major: if is_device { device(329..337)? } else { 0 },
        minor: if is_device { device(337..345)? } else { 0 },
        dialect,
    })
}

/// The sum of all bytes with the sum's own field as spaces; old writers added signed bytes.
fn check_sum(block: &[u8; BLOCK]) -> Result<(), &'static str> {
    let stored = octal(&block[148..156]).ok_or("check sum")?;
    let spaces = 8 * i64::from(b' ');
    let rest = || block[..148].iter().chain(&block[156..]);
    let unsigned: i64 = rest().map(|&byte| i64::from(byte)).sum();
    if stored == unsigned + spaces {
        return Ok(());
    }
    let signed: i64 = rest().map(|&byte| i64::from(byte.cast_signed())).sum();
    if stored == signed + spaces { Ok(()) } else { Err("check sum") }
}

fn path(block: &[u8; BLOCK], dialect: Dialect) -> Vec<u8> {
    let name = text(&block[..100]);
    let prefix = match dialect {
        Dialect::V7 => &[][..],
        Dialect::Ustar => text(&block[345..500]),
        Dialect::Star => text(&block[345..476]),
        Dialect::Gnu => misplaced_prefix(block),
    };
    if prefix.is_empty() {
        return name.to_vec();
    }
    [prefix, b"/", name].concat()
}

/// Go before 1.8, and so Docker before 1.13, wrote ustar's prefix into headers with GNU's magic, where access and change
/// times belong. Layers of that age are still served; Go's reader makes the same guess.
fn misplaced_prefix(block: &[u8; BLOCK]) -> &[u8] {
    let times_valid = number(&block[345..357]).is_some() && number(&block[357..369]).is_some();
    let prefix = text(&block[345..500]);
    if times_valid || !prefix.is_ascii() { &[] } else { prefix }
}

/// Up to the first NUL.
pub(crate) fn text(field: &[u8]) -> &[u8] {
    &field[..field.iter().position(|&byte| byte == 0).unwrap_or(field.len())]
}

/// A number in octal digits or, with the top bit set, in GNU's base-256 (two's complement, big endian).
pub(crate) fn number(field: &[u8]) -> Option<i64> {
    let (&first, rest) = field.split_first()?;
    if first & 0x80 == 0 {
        return octal(field);
    }
    let negative = first & 0x40 != 0;
    // The flag bit is replaced by the sign.
    let start = if negative { i128::from(first) - 256 } else { i128::from(first & 0x7f) };
    let mut value = start;
    for &byte in rest {
        value = value.checked_mul(256)?.checked_add(i128::from(byte))?;
        if value > i128::from(i64::MAX) || value < i128::from(i64::MIN) {
            return None;
        }
    }
    i64::try_from(value).ok()
}

/// Octal digits with spaces and NULs around them; nothing at all is 0.
fn octal(field: &[u8]) -> Option<i64> {
    let padding = |byte: &u8| matches!(byte, b' ' | 0);
    let start = field.iter().position(|byte| !padding(byte)).unwrap_or(field.len());
    let end = field.iter().rposition(|byte| !padding(byte)).map_or(start, |last| last + 1);
    text(&field[start..end]).iter().try_fold(0_i64, |value, &byte| match byte {
        b'0'..=b'7' => value.checked_mul(8)?.checked_add(i64::from(byte - b'0')),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_as_writers_store_them() {
        assert_eq!(number(b"0000644\0"), Some(0o644));
        assert_eq!(number(b"   644 \0"), Some(0o644));
        assert_eq!(number(b"\0\0\0\0\0\0\0\0"), Some(0));
        assert_eq!(number(b"77777777"), Some(0o77_777_777));
        assert_eq!(number(&[0x80, 0, 0, 0, 0x80, 0, 0, 0]), Some(1 << 31));
        assert_eq!(number(&[0xff; 12]), Some(-1));
        assert_eq!(number(&[0x80, 0, 0, 0, 0x7f, 255, 255, 255, 255, 255, 255, 255]), Some(i64::MAX));
        assert_eq!(number(&[0x80, 0, 0, 0, 0x80, 0, 0, 0, 0, 0, 0, 0]), None);
        assert_eq!(number(b"12x4\0\0\0\0"), None);
        assert_eq!(number(b"1 2\0\0\0\0\0"), None);
    }
}
