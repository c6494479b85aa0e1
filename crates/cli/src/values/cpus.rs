//! `--cpus 1.5`: a decimal number of processors, kept exactly as billionths.

/// Reads a decimal number; the result is in billionths of a processor.
pub fn parse(text: &str) -> Result<i64, String> {
    let invalid = || format!("failed to parse {text} as a rational number");
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let digits = |part: &str| part.bytes().all(|c| c.is_ascii_digit());
    if (whole.is_empty() && fraction.is_empty()) || !digits(whole) || !digits(fraction) {
        return Err(invalid());
    }
    let fraction = fraction.trim_end_matches('0');
    if fraction.len() > 9 {
        return Err("value is too precise".into());
    }
    let whole: i64 = if whole.is_empty() { 0 } else { whole.parse().map_err(|_| invalid())? };
    let fraction: i64 = format!("{fraction:0<9}").parse().map_err(|_| invalid())?;
    whole.checked_mul(1_000_000_000).and_then(|nano| nano.checked_add(fraction)).ok_or_else(invalid)
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn table() {
        for (text, nano) in [
            ("1", 1_000_000_000),
            ("0.5", 500_000_000),
            (".25", 250_000_000),
            ("2.", 2_000_000_000),
            ("1.50000000000", 1_500_000_000),
        ] {
            assert_eq!(parse(text), Ok(nano), "{text}");
        }
        assert_eq!(parse("abc"), Err("failed to parse abc as a rational number".into()));
        assert_eq!(parse("0.0000000001"), Err("value is too precise".into()));
        for text in ["", ".", "-1", "1.-5", "9999999999999"] {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
