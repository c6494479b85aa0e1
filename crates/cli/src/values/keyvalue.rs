//! `KEY=VALUE` words of labels, sysctls and log options, and the files that `--label-file` names.

use std::path::Path;

/// Reads a label: `KEY` alone has an empty value.
pub fn label(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').unwrap_or((text, ""));
    if key.trim().is_empty() {
        return Err(format!("invalid label '{text}': empty name"));
    }
    Ok((key.to_owned(), value.to_owned()))
}

/// Reads a kernel parameter.
pub fn sysctl(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err(format!("sysctl '{text}' is not allowed")),
    }
}

/// Reads an annotation.
pub fn annotation(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.trim().is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err(format!("{text} must be formatted as key=value")),
    }
}

/// Reads an option of the log driver.
pub fn log_option(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err(format!("invalid log option {text:?}: KEY=VALUE is expected")),
    }
}

/// Reads the lines of a file by the rules of Docker's environment and label files: a byte order mark and leading
/// white space are dropped, empty lines and lines starting with `#` are ignored, the rest of a line is taken as it
/// is, quotes and trailing blanks included. A name alone is kept if `missing` gives it a value.
///
/// `kind` names the file in errors: `env` or `label`.
pub fn file(path: &str, kind: &str, missing: impl Fn(&str) -> Option<String>) -> Result<Vec<(String, String)>, String> {
    let bytes = std::fs::read(Path::new(path))
        .map_err(|error| format!("open {path}: {}", super::environment::plain_error(&error)))?;
    lines(&bytes, missing).map_err(|error| format!("invalid {kind} file ({path}): {error}"))
}

/// The content of such a file.
pub fn lines(bytes: &[u8], missing: impl Fn(&str) -> Option<String>) -> Result<Vec<(String, String)>, String> {
    let bytes = bytes.strip_prefix("\u{feff}".as_bytes()).unwrap_or(bytes);
    let mut pairs = Vec::new();
    for (number, line) in bytes.split(|byte| *byte == b'\n').enumerate() {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        let line = std::str::from_utf8(line)
            .map_err(|_| format!("invalid utf8 bytes at line {}: {:?}", number + 1, String::from_utf8_lossy(line)))?
            .trim_start();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let (key, value) = match line.split_once('=') {
            Some((key, value)) => (key, Some(value.to_owned())),
            None => (line, None),
        };
        if key.is_empty() {
            return Err(format!("no variable name on line '{line}'"));
        }
        if key.contains([' ', '\t']) {
            return Err(format!("variable '{key}' contains whitespaces"));
        }
        if let Some(value) = value.or_else(|| missing(key)) {
            pairs.push((key.to_owned(), value));
        }
    }
    Ok(pairs)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words() {
        assert_eq!(label("a=b=c"), Ok(("a".into(), "b=c".into())));
        assert_eq!(label("a"), Ok(("a".into(), String::new())));
        assert_eq!(label(""), Err("invalid label '': empty name".into()));
        assert_eq!(label("=x"), Err("invalid label '=x': empty name".into()));
        assert_eq!(sysctl("foo"), Err("sysctl 'foo' is not allowed".into()));
        assert_eq!(sysctl("net.ipv4.ip_forward=1"), Ok(("net.ipv4.ip_forward".into(), "1".into())));
        assert!(log_option("max-size").is_err());
    }

    #[test]
    fn file_rules() {
        let known = |key: &str| (key == "HOME").then(|| "/root".to_owned());
        let text = "\u{feff}A=1\r\n\n  # note\n  B=\"x y\"  \nHOME\nUNSET\nC=\n#D=1\nE=a#b\n";
        let pairs = lines(text.as_bytes(), known).unwrap();
        let expected = [("A", "1"), ("B", "\"x y\"  "), ("HOME", "/root"), ("C", ""), ("E", "a#b")];
        assert_eq!(pairs, expected.map(|(k, v)| (k.to_owned(), v.to_owned())));
        assert_eq!(lines(b"=x", known), Err("no variable name on line '=x'".into()));
        assert_eq!(lines(b"a b=x", known), Err("variable 'a b' contains whitespaces".into()));
        assert_eq!(lines(b"a =x", known), Err("variable 'a ' contains whitespaces".into()));
        assert!(lines(b"A=1\n\xff=x", known).unwrap_err().starts_with("invalid utf8 bytes at line 2"));
        assert_eq!(file("/nonexistent/x", "env", known), Err("open /nonexistent/x: no such file or directory".into()));
    }
}
