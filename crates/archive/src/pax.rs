//! Extended header records (POSIX.1-2001 pax): `<length> <key>=<value>\n`.

use crate::entry::Time;

/// What the records for one member say; `None` where they say nothing or reset a value with an empty one.
#[derive(Debug, Default)]
pub(crate) struct Records {
    pub(crate) path: Option<Vec<u8>>,
    pub(crate) link: Option<Vec<u8>>,
    pub(crate) size: Option<u64>,
    pub(crate) uid: Option<u64>,
    pub(crate) gid: Option<u64>,
    pub(crate) mtime: Option<Time>,
    pub(crate) xattrs: crate::entry::Attributes,
    pub(crate) sparse: Option<SparseRecords>,
}

/// GNU's sparse files in pax: formats 0.0 and 0.1 keep the map in records, 1.0 in front of the data.
#[derive(Debug, Default)]
pub(crate) struct SparseRecords {
    pub(crate) major: Option<u64>,
    pub(crate) minor: Option<u64>,
    pub(crate) name: Option<Vec<u8>>,
    pub(crate) real_size: Option<u64>,
    /// Alternating offsets and lengths.
    pub(crate) map: Vec<u64>,
}

/// Parses all records of one extended header; `segments` bounds the sparse map.
pub(crate) fn parse(mut rest: &[u8], segments: usize) -> Result<Records, &'static str> {
    let mut records = Records::default();
    while !rest.is_empty() {
        let (key, value, tail) = record(rest)?;
        rest = tail;
        apply(&mut records, key, value, segments)?;
    }
    Ok(records)
}

/// Key, value and the bytes after the record.
type Record<'a> = (&'a [u8], &'a [u8], &'a [u8]);

fn record(bytes: &[u8]) -> Result<Record<'_>, &'static str> {
    const MALFORMED: &str = "extended header record";
    let space = bytes.iter().take(20).position(|&byte| byte == b' ').ok_or(MALFORMED)?;
    let length = usize::try_from(decimal(&bytes[..space]).ok_or(MALFORMED)?).map_err(|_| MALFORMED)?;
    if length > bytes.len() || length < space + 4 || bytes[length - 1] != b'\n' {
        return Err(MALFORMED);
    }
    let body = &bytes[space + 1..length - 1];
    let equals = body.iter().position(|&byte| byte == b'=').ok_or(MALFORMED)?;
    let (key, value) = (&body[..equals], &body[equals + 1..]);
    // A NUL would end the name for the kernel and not for us.
    let names = matches!(key, b"path" | b"linkpath" | b"GNU.sparse.name");
    if key.is_empty() || key.contains(&0) || (names && value.contains(&0)) {
        return Err(MALFORMED);
    }
    Ok((key, value, &bytes[length..]))
}

fn apply(records: &mut Records, key: &[u8], value: &[u8], segments: usize) -> Result<(), &'static str> {
    let unsigned = |field| if value.is_empty() { Ok(None) } else { decimal(value).map(Some).ok_or(field) };
    match key {
        b"path" => records.path = some(value),
        b"linkpath" => records.link = some(value),
        b"size" => records.size = unsigned("extended size")?,
        b"uid" => records.uid = unsigned("extended owner")?,
        b"gid" => records.gid = unsigned("extended group")?,
        b"mtime" if value.is_empty() => records.mtime = None,
        b"mtime" => records.mtime = Some(time(value).ok_or("extended time")?),
        _ => {
            if let Some(name) = key.strip_prefix(b"SCHILY.xattr.") {
                set_xattr(records, name.to_vec(), value.to_vec());
            } else if let Some(name) = key.strip_prefix(b"LIBARCHIVE.xattr.") {
                let name = percent_decoded(name).ok_or("encoded attribute name")?;
                // bsdtar writes both forms; this one loses when they differ.
                if !records.xattrs.iter().any(|(known, _)| *known == name) {
                    records.xattrs.push((name, base64_decoded(value).ok_or("encoded attribute")?));
                }
            } else if let Some(name) = key.strip_prefix(b"GNU.sparse.") {
                sparse(records.sparse.get_or_insert_default(), name, value, segments)?;
            }
        }
    }
    Ok(())
}

fn some(value: &[u8]) -> Option<Vec<u8>> {
    if value.is_empty() { None } else { Some(value.to_vec()) }
}

fn set_xattr(records: &mut Records, name: Vec<u8>, value: Vec<u8>) {
    match records.xattrs.iter_mut().find(|(known, _)| *known == name) {
        Some((_, old)) => *old = value,
        None => records.xattrs.push((name, value)),
    }
}

fn sparse(sparse: &mut SparseRecords, name: &[u8], value: &[u8], segments: usize) -> Result<(), &'static str> {
    const INVALID: &str = "sparse map";
    let number = || decimal(value).ok_or(INVALID);
    match name {
        b"major" => sparse.major = Some(number()?),
        b"minor" => sparse.minor = Some(number()?),
        b"name" => sparse.name = some(value),
        b"realsize" | b"size" => sparse.real_size = Some(number()?),
        // Format 0.0: one pair of records for each segment.
        b"offset" if sparse.map.len().is_multiple_of(2) => sparse.map.push(number()?),
        b"numbytes" if !sparse.map.len().is_multiple_of(2) => sparse.map.push(number()?),
        b"offset" | b"numbytes" => return Err(INVALID),
        b"map" => {
            sparse.map = value
                .split(|&byte| byte == b',')
                .take(2 * segments + 1)
                .map(|number| decimal(number).ok_or(INVALID))
                .collect::<Result<_, _>>()?;
        }
        _ => {}
    }
    if sparse.map.len() > 2 * segments { Err("sparse map (too many segments)") } else { Ok(()) }
}

/// Decimal digits, nothing else, at most `i64::MAX` as for Go.
pub(crate) fn decimal(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() {
        return None;
    }
    let value = digits.iter().try_fold(0_u64, |value, &byte| match byte {
        b'0'..=b'9' => value.checked_mul(10)?.checked_add(u64::from(byte - b'0')),
        _ => None,
    })?;
    (value <= i64::MAX.unsigned_abs()).then_some(value)
}

/// `[-]seconds[.fraction]`; digits after the ninth are cut off.
fn time(text: &[u8]) -> Option<Time> {
    let (negative, text) = match text.strip_prefix(b"-") {
        Some(rest) => (true, rest),
        None => (false, text),
    };
    let point = text.iter().position(|&byte| byte == b'.');
    let (whole, fraction) = match point {
        Some(at) => (&text[..at], &text[at + 1..]),
        None => (text, &[][..]),
    };
    let seconds = i64::try_from(decimal(whole)?).ok()?;
    if !fraction.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let digit = |at: usize| fraction.get(at).map_or(0, |byte| u32::from(byte - b'0'));
    let nanoseconds = (0..9).fold(0, |value, at| value * 10 + digit(at));
    Some(match (negative, nanoseconds) {
        (false, _) => Time { seconds, nanoseconds },
        (true, 0) => Time { seconds: -seconds, nanoseconds },
        (true, _) => Time { seconds: -seconds - 1, nanoseconds: 1_000_000_000 - nanoseconds },
    })
}

fn percent_decoded(text: &[u8]) -> Option<Vec<u8>> {
    let nibble = |byte: u8| char::from(byte).to_digit(16);
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.iter().copied();
    while let Some(byte) = bytes.next() {
        match byte {
            b'%' => {
                let value = nibble(bytes.next()?)? * 16 + nibble(bytes.next()?)?;
                out.push(u8::try_from(value).ok().filter(|&byte| byte != 0)?);
            }
            _ => out.push(byte),
        }
    }
    Some(out)
}

/// Base64 with or without padding.
fn base64_decoded(text: &[u8]) -> Option<Vec<u8>> {
    let trimmed = &text[..text.iter().rposition(|&byte| byte != b'=').map_or(0, |last| last + 1)];
    let mut out = Vec::with_capacity(trimmed.len() / 4 * 3 + 3);
    let mut bits = 0_u32;
    let mut count = 0;
    for &byte in trimmed {
        let value = match byte {
            b'A'..=b'Z' => byte - b'A',
            b'a'..=b'z' => byte - b'a' + 26,
            b'0'..=b'9' => byte - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => return None,
        };
        bits = (bits << 6) | u32::from(value);
        count += 6;
        if count >= 8 {
            count -= 8;
            out.push((bits >> count) as u8);
            bits &= (1 << count) - 1;
        }
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_are_parsed_exactly() {
        let records = parse(b"9 path=a\n13 size=1234\n30 mtime=1700000000.123456789\n7 uid=\n", 10);
        // The time's record is 30 bytes long only if counted right.
        let records = records.unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(records.path.as_deref(), Some(&b"a"[..]));
        assert_eq!(records.size, Some(1234));
        assert_eq!(records.mtime, Some(Time { seconds: 1_700_000_000, nanoseconds: 123_456_789 }));
        assert_eq!(records.uid, None);
    }

    #[test]
    fn malformed_records_are_refused() {
        for bad in [
            &b"8 path=a\n"[..],
            b"99 path=a\n",
            b"path=a\n",
            b"9 path=a ",
            b"-9 path=a\n",
            b"6 =ab\n",
            b"10 path=\0a\n",
            b"11 size=-1\n",
            b"27 size=18446744073709551615\n",
            b"18446744073709551616 a=b\n",
        ] {
            assert!(parse(bad, 10).is_err(), "{}", bad.escape_ascii());
        }
    }

    #[test]
    fn times_before_the_epoch() {
        assert_eq!(time(b"-1.25"), Some(Time { seconds: -2, nanoseconds: 750_000_000 }));
        assert_eq!(time(b"-3"), Some(Time { seconds: -3, nanoseconds: 0 }));
        assert_eq!(time(b"1.9999999999"), Some(Time { seconds: 1, nanoseconds: 999_999_999 }));
        assert_eq!(time(b"1.x"), None);
        assert_eq!(time(b""), None);
    }

    #[test]
    fn libarchive_encodings() {
        assert_eq!(base64_decoded(b"AQAAAg").as_deref(), Some(&[1, 0, 0, 2][..]));
        assert_eq!(base64_decoded(b"aGk=").as_deref(), Some(&b"hi"[..]));
        assert_eq!(percent_decoded(b"user.a%20b").as_deref(), Some(&b"user.a b"[..]));
        assert_eq!(percent_decoded(b"user.%0"), None);
    }
}
