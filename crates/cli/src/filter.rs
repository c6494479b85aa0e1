//! `--filter KEY=VALUE`: values of one key are alternatives, keys must all hold; several labels must all hold.

use std::collections::BTreeMap;

/// The filters of a command line, checked against the keys that a list knows.
#[derive(Debug, Default)]
pub struct Filters {
    values: Vec<(String, String)>,
}

impl Filters {
    /// Reads the flags.
    pub fn new(flags: &[String], known: &[&str]) -> Result<Filters, String> {
        let mut values = Vec::new();
        for flag in flags {
            let (key, value) = flag
                .split_once('=')
                .ok_or("invalid argument for --filter: bad format of filter (expected name=value)")?;
            let key = key.trim().to_ascii_lowercase();
            if !known.contains(&key.as_str()) {
                return Err(format!("invalid filter '{key}'"));
            }
            values.push((key, value.trim().to_owned()));
        }
        Ok(Filters { values })
    }

    /// The values of one key.
    pub fn of<'a>(&'a self, key: &'a str) -> impl Iterator<Item = &'a str> {
        self.values.iter().filter(move |(name, _)| name == key).map(|(_, value)| value.as_str())
    }

    /// Whether a key was given.
    pub fn has(&self, key: &str) -> bool {
        self.of(key).next().is_some()
    }

    /// Whether no filter on `key` was given, or one of them holds.
    pub fn any(&self, key: &str, mut holds: impl FnMut(&str) -> bool) -> bool {
        !self.has(key) || self.of(key).any(&mut holds)
    }

    /// Whether all filters on `label` hold, and none on `label!` does.
    pub fn labels(&self, labels: &BTreeMap<String, String>) -> bool {
        let has = |wanted: &str| match wanted.split_once('=') {
            Some((key, value)) => labels.get(key).is_some_and(|found| found == value),
            None => labels.contains_key(wanted),
        };
        self.of("label").all(has) && !self.of("label!").any(has)
    }
}

/// Whether `pattern` is found in `text`: a small part of regular expressions, `^`, `$`, `.`, `*`, `+`, `?`, sets in
/// brackets and alternatives by `|` at the top, because a whole engine for them would cost more than the list.
pub fn found(pattern: &str, text: &str) -> bool {
    pattern.split('|').any(|branch| {
        let (anchored, branch) = match branch.strip_prefix('^') {
            Some(rest) => (true, rest),
            None => (false, branch),
        };
        let pattern: Vec<char> = branch.chars().collect();
        let text: Vec<char> = text.chars().collect();
        let starts = if anchored { 0..1 } else { 0..text.len() + 1 };
        starts.into_iter().any(|start| here(&pattern, &text[start..]))
    })
}

/// Matches at the beginning of `text`.
fn here(pattern: &[char], text: &[char]) -> bool {
    let Some(length) = atom(pattern) else { return pattern.is_empty() || (pattern == ['$'] && text.is_empty()) };
    let (one, rest) = pattern.split_at(length);
    let matches = |letter: &char| single(one, *letter);
    let (least, most, rest) = match rest.first() {
        Some('*') => (0, usize::MAX, &rest[1..]),
        Some('+') => (1, usize::MAX, &rest[1..]),
        Some('?') => (0, 1, &rest[1..]),
        _ => (1, 1, rest),
    };
    let longest = text.iter().take(most).take_while(|letter| matches(letter)).count();
    (least..=longest).rev().any(|count| here(rest, &text[count..]))
}

/// Length of the first element of a pattern that stands for one letter.
fn atom(pattern: &[char]) -> Option<usize> {
    match pattern.first()? {
        '$' if pattern.len() == 1 => None,
        '\\' if pattern.len() > 1 => Some(2),
        // A bracket right after the opening one is a letter of the set.
        '[' => Some(pattern.iter().skip(2).position(|letter| *letter == ']').map_or(1, |at| at + 3)),
        _ => Some(1),
    }
}

fn single(atom: &[char], letter: char) -> bool {
    match atom {
        ['.'] => true,
        ['\\', escaped] => *escaped == letter,
        ['[', '^', set @ .., ']'] => !in_set(set, letter),
        ['[', set @ .., ']'] => in_set(set, letter),
        [plain] => *plain == letter,
        _ => false,
    }
}

fn in_set(set: &[char], letter: char) -> bool {
    match set {
        [first, '-', last, rest @ ..] => (*first..=*last).contains(&letter) || in_set(rest, letter),
        [first, rest @ ..] => *first == letter || in_set(rest, letter),
        [] => false,
    }
}

/// Whether a name with wildcards (`*` and `?` within a part, `[…]`) describes all of `text`: Go's path.Match, which
/// image filters use.
pub fn describes(pattern: &str, text: &str) -> bool {
    let mut translated = String::from("^");
    for letter in pattern.chars() {
        match letter {
            '*' => translated.push_str("[^/]*"),
            '?' => translated.push_str("[^/]"),
            '.' | '+' | '$' | '^' => translated.extend(['\\', letter]),
            other => translated.push(other),
        }
    }
    translated.push('$');
    found(&translated, text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reading() {
        let flags = ["status=running", "status=paused", "label=a=b", "label=c"].map(String::from);
        let filters = Filters::new(&flags, &["status", "label"]).unwrap();
        assert!(filters.any("status", |value| value == "paused"));
        assert!(!filters.any("status", |value| value == "exited"));
        assert!(filters.any("name", |_| false));
        let labels = |pairs: &[(&str, &str)]| pairs.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect();
        assert!(filters.labels(&labels(&[("a", "b"), ("c", "")])));
        assert!(!filters.labels(&labels(&[("a", "b")])));
        assert!(!filters.labels(&labels(&[("a", "x"), ("c", "")])));
        assert_eq!(Filters::new(&["foo=1".into()], &[]).unwrap_err(), "invalid filter 'foo'");
        assert!(Filters::new(&["foo".into()], &["foo"]).is_err());
    }

    #[test]
    fn patterns() {
        for (pattern, text, expected) in [
            ("ott", "brave_otter", true),
            ("^ott", "brave_otter", false),
            ("^/?brave_otter$", "/brave_otter", true),
            ("^brave$", "brave_otter", false),
            ("b.*r$", "brave_otter", true),
            ("web-[0-9]+$", "web-12", true),
            ("web-[0-9]+$", "web-x", false),
            ("web-[^0-9]", "web-x", true),
            ("a|b$", "xb", true),
            ("a\\.b", "a.b", true),
            ("a\\.b", "axb", false),
            ("", "x", true),
            ("x*", "", true),
            ("[]]", "]", true),
        ] {
            assert_eq!(found(pattern, text), expected, "{pattern} {text}");
        }
    }

    #[test]
    fn wildcards() {
        assert!(describes("bus*", "busybox"));
        assert!(describes("*box:1.?", "busybox:1.3"));
        assert!(!describes("*", "a/b"));
        assert!(describes("*/*", "a/b"));
        assert!(!describes("bus", "busybox"));
    }
}
