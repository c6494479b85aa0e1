//! Signals by name or number: `TERM`, `SIGTERM`, `term`, `15`, `RTMIN+3`.

/// The same text if it names a signal.
pub fn parse(text: &str) -> Result<String, String> {
    match kernel::signal_names::number(text) {
        Some(_) => Ok(text.to_owned()),
        None => Err(format!("Invalid signal: {text}")),
    }
}

/// The same for flags whose empty value means none.
pub fn parse_or_empty(text: &str) -> Result<String, String> {
    if text.is_empty() { Ok(String::new()) } else { parse(text) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_that_names_no_signal_is_said() {
        assert_eq!(parse("usr1"), Ok("usr1".to_owned()));
        assert_eq!(parse("FOO"), Err("Invalid signal: FOO".to_owned()));
        assert!(parse("").is_err());
        assert_eq!(parse_or_empty(""), Ok(String::new()));
    }
}
