//! Floating point numbers as C's and Go's `%.Ng` prints them.

/// `value` with `digits` significant digits, without trailing zeros, with an exponent where that is how `%g` does it.
pub fn general(value: f64, digits: usize) -> String {
    if value == 0.0 || !value.is_finite() {
        return value.to_string();
    }
    let precision = digits.max(1);
    let scientific = format!("{value:.*e}", precision - 1);
    let (mantissa, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    if exponent < -4 || exponent >= precision as i32 {
        let sign = if exponent < 0 { '-' } else { '+' };
        return format!("{}e{sign}{:02}", trim(mantissa), exponent.abs());
    }
    let decimals = (precision as i32 - 1 - exponent).max(0) as usize;
    trim(&format!("{value:.decimals$}")).to_owned()
}

fn trim(text: &str) -> &str {
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.') } else { text }
}

#[cfg(test)]
mod tests {
    use super::general;

    #[test]
    fn table() {
        for (value, digits, text) in [
            (0.0, 3, "0"),
            (1.0, 3, "1"),
            (1.237, 3, "1.24"),
            (12.0, 3, "12"),
            (123.4, 3, "123"),
            (999.9, 3, "1e+03"),
            (0.00001, 3, "1e-05"),
            (74.95, 4, "74.95"),
            (1000.5, 4, "1000"),
            (0.5, 3, "0.5"),
        ] {
            assert_eq!(general(value, digits), text, "{value}");
        }
    }
}
