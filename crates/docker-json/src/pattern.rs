//! Names with wildcards, as filters take them.

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
