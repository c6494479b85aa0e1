//! Truth values as `--flag=VALUE` takes them: the words of Go's strconv.ParseBool.

/// Reads `1`, `t`, `true`, `0`, `f`, `false` in Go's capitalisations.
pub fn parse(text: &str) -> Result<bool, String> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
        _ => Err(format!("strconv.ParseBool: parsing {text:?}: invalid syntax")),
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn words() {
        assert_eq!(super::parse("True"), Ok(true));
        assert_eq!(super::parse("0"), Ok(false));
        assert!(super::parse("yes").is_err());
        assert!(super::parse("tRUE").is_err());
    }
}
