//! Sizes in bytes: `64m`, `1.5g`, `10 MiB`. Units are powers of 1024 whatever they are called, as in Docker.

/// Reads a size that is not negative.
pub fn parse(text: &str) -> Result<u64, String> {
    let invalid = || format!("invalid size: '{text}'");
    let end = text.rfind(|c: char| c.is_ascii_digit() || c == '.' || c == ' ').ok_or_else(invalid)?;
    let (number, suffix) =
        if text.as_bytes()[end] == b' ' { (&text[..end], &text[end + 1..]) } else { text.split_at(end + 1) };
    if !number.bytes().all(|c| c.is_ascii_digit() || c == b'.') {
        return Err(invalid());
    }
    let number: f64 = number.parse().map_err(|_| invalid())?;
    let suffix_error = || format!("invalid suffix: '{suffix}'");
    let factor = match suffix.to_ascii_lowercase().as_str() {
        "" | "b" => 1u64,
        "k" | "kb" | "kib" => 1 << 10,
        "m" | "mb" | "mib" => 1 << 20,
        "g" | "gb" | "gib" => 1 << 30,
        "t" | "tb" | "tib" => 1 << 40,
        "p" | "pb" | "pib" => 1 << 50,
        _ => return Err(suffix_error()),
    };
    let bytes = number * factor as f64;
    if !bytes.is_finite() || bytes >= i64::MAX as f64 {
        return Err(invalid());
    }
    Ok(bytes as u64)
}

/// Reads a size for a limit that is kept as a signed number.
pub fn limit(text: &str) -> Result<i64, String> {
    parse(text).map(u64::cast_signed)
}

/// Reads a size in which `-1` stands for no limit.
pub fn or_unlimited(text: &str) -> Result<i64, String> {
    if text == "-1" { Ok(-1) } else { limit(text) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn table() {
        for (text, bytes) in [
            ("0", 0),
            ("32", 32),
            ("32b", 32),
            ("32B", 32),
            ("32k", 32 << 10),
            ("32K", 32 << 10),
            ("32kb", 32 << 10),
            ("32KiB", 32 << 10),
            ("32 Kb", 32 << 10),
            ("64m", 64 << 20),
            ("0.5g", 512 << 20),
            ("1.5g", 1536 << 20),
            ("1t", 1 << 40),
            ("1P", 1 << 50),
            ("32.3", 32),
            (".5m", 512 << 10),
        ] {
            assert_eq!(parse(text), Ok(bytes), "{text}");
        }
    }

    #[test]
    fn refusals() {
        for (text, error) in [
            ("", "invalid size: ''"),
            ("foo", "invalid size: 'foo'"),
            ("-1", "invalid size: '-1'"),
            ("hello", "invalid size: 'hello'"),
            (" 32", "invalid size: ' 32'"),
            ("1.1.1k", "invalid size: '1.1.1k'"),
            ("32kk", "invalid suffix: 'kk'"),
            ("32x", "invalid suffix: 'x'"),
            ("32kbx", "invalid suffix: 'kbx'"),
            ("99999999p", "invalid size: '99999999p'"),
        ] {
            assert_eq!(parse(text), Err(error.to_owned()), "{text}");
        }
        assert_eq!(or_unlimited("-1"), Ok(-1));
        assert_eq!(or_unlimited("1k"), Ok(1024));
        assert!(or_unlimited("-2").is_err());
    }
}
