//! `-e KEY=VALUE`, `-e KEY` and `--env-file FILE`.

use super::keyvalue;

/// Accepts what `-e` accepts: anything with a name.
pub fn parse(text: &str) -> Result<String, String> {
    if text.is_empty() || text.starts_with('=') {
        return Err(format!("invalid environment variable: {text}"));
    }
    Ok(text.to_owned())
}

/// The variables of files and flags in Docker's order: files first, then flags, so that flags win. A name alone takes
/// its value from `lookup`, and is left out if there is none.
pub fn resolve(
    files: &[String],
    flags: &[String],
    lookup: impl Fn(&str) -> Option<String>,
) -> Result<Vec<String>, String> {
    let mut variables = Vec::new();
    for path in files {
        for (key, value) in keyvalue::file(path, "env", &lookup)? {
            variables.push(format!("{key}={value}"));
        }
    }
    for flag in flags {
        if flag.contains('=') {
            variables.push(flag.clone());
        } else if let Some(value) = lookup(flag) {
            variables.push(format!("{flag}={value}"));
        }
    }
    Ok(variables)
}

/// This process's own variable, if it is set and is UTF-8.
pub fn own(key: &str) -> Option<String> {
    std::env::var(key).ok()
}

/// The text of a system error without Rust's `(os error N)`, in lower case as C and Go programs print it.
pub fn plain_error(error: &std::io::Error) -> String {
    let text = error.to_string();
    let text = text.split(" (os error").next().unwrap_or_default();
    let mut letters = text.chars();
    match letters.next() {
        Some(first) => first.to_lowercase().chain(letters).collect(),
        None => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_come_after_files_and_names_alone_are_looked_up() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("env").display().to_string();
        std::fs::write(&path, "A=file\nB=file\n").unwrap();
        let flags = ["A=flag", "TERM", "UNSET", "EMPTY="].map(String::from);
        let lookup = |key: &str| (key == "TERM").then(|| "xterm".to_owned());
        assert_eq!(resolve(&[path], &flags, lookup).unwrap(), ["A=file", "B=file", "A=flag", "TERM=xterm", "EMPTY="]);
    }

    #[test]
    fn names() {
        assert_eq!(parse("=a"), Err("invalid environment variable: =a".into()));
        assert_eq!(parse("a"), Ok("a".into()));
        assert!(parse("").is_err());
    }
}
