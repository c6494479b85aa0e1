//! `-a stdin|stdout|stderr`: which streams `run` attaches.

/// One of a process's three streams.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stream {
    /// Standard input.
    Stdin,
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

/// Reads a stream's name in any case.
pub fn parse(text: &str) -> Result<Stream, String> {
    match text.to_ascii_lowercase().as_str() {
        "stdin" => Ok(Stream::Stdin),
        "stdout" => Ok(Stream::Stdout),
        "stderr" => Ok(Stream::Stderr),
        _ => Err("valid streams are STDIN, STDOUT and STDERR".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        assert_eq!(parse("STDIN"), Ok(Stream::Stdin));
        assert_eq!(parse("stderr"), Ok(Stream::Stderr));
        assert!(parse("foo").is_err());
    }
}
