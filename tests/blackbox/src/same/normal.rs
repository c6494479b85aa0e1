//! Makes two answers comparable: what differs from run to run becomes a word in angle brackets.

/// The lines of a text: identifiers, times, durations and sizes by their kind, `directory` as `<dir>`, columns two blanks apart.
pub fn text(raw: &str, directory: &str) -> Vec<String> {
    let mut lines: Vec<String> = raw.replace(directory, "<dir>").split('\n').map(line).collect();
    match lines.last_mut() {
        Some(last) if last.is_empty() => drop(lines.pop()),
        Some(last) => last.push_str("<no newline>"),
        None => {}
    }
    lines
}

/// What Docker's command line says of an error, without where to read on: that depends on its version, and dhow has its own.
pub fn errors(mut lines: Vec<String>) -> Vec<String> {
    let usage = lines.iter().position(|line| line.starts_with("Usage:")).unwrap_or(lines.len());
    lines.truncate(usage);
    lines.retain(|line| {
        let manual = ["See 'docker", "Run 'docker"].iter().any(|start| line.starts_with(start));
        // Docker 20.10 says so now and then, when a container is gone before it waits for it.
        let late = line.ends_with("level=error msg=\"error waiting for container: context canceled\"");
        !manual && !late
    });
    while lines.last().is_some_and(String::is_empty) {
        lines.pop();
    }
    lines
}

fn line(raw: &str) -> String {
    let mut made = String::new();
    let mut rest = raw;
    let mut before = ' ';
    while let Some(first) = rest.chars().next() {
        let fresh = !before.is_ascii_alphanumeric();
        let (length, replacement) = match known(rest).filter(|_| fresh) {
            Some((length, kind)) => (length, kind),
            None if rest.starts_with("  ") || first == '\t' => {
                (rest.len() - rest.trim_start_matches([' ', '\t']).len(), "  ")
            }
            None if first == '\r' => (1, "<cr>"),
            None => {
                made.push(first);
                before = first;
                rest = &rest[first.len_utf8()..];
                continue;
            }
        };
        made.push_str(replacement);
        before = rest[..length].chars().next_back().unwrap_or(' ');
        rest = &rest[length..];
    }
    made.trim_end().to_owned()
}

/// The length of what the text starts with and the word for it.
fn known(text: &str) -> Option<(usize, &'static str)> {
    identifier(text).or_else(|| time(text)).or_else(|| duration(text)).or_else(|| size(text))
}

/// Whether nothing follows that would belong to the same word.
fn ends(text: &str, length: usize) -> bool {
    !text[length..].starts_with(|next: char| next.is_ascii_alphanumeric())
}

fn identifier(text: &str) -> Option<(usize, &'static str)> {
    let length = text.bytes().take_while(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f')).count();
    let kind = match length {
        64 => "<id>",
        12 => "<short>",
        2 if text.len() >= 17
            && text.as_bytes()[..17]
                .iter()
                .enumerate()
                .all(|(at, &byte)| if at % 3 == 2 { byte == b':' } else { byte.is_ascii_hexdigit() }) =>
        {
            return ends(text, 17).then_some((17, "<mac>"));
        }
        _ => return None,
    };
    ends(text, length).then_some((length, kind))
}

/// Whether the text starts with this form, where `0` is any digit; returns its length.
fn form(text: &str, form: &str) -> Option<usize> {
    let fits = |(byte, wanted): (u8, u8)| if wanted == b'0' { byte.is_ascii_digit() } else { byte == wanted };
    (text.len() >= form.len() && text.bytes().zip(form.bytes()).all(fits)).then_some(form.len())
}

/// `2026-11-21T08:36:08.123Z` and `2026-11-21 08:36:08 +0000 UTC`. The year 1 is Docker's "never" and stays.
fn time(text: &str) -> Option<(usize, &'static str)> {
    let mut length = form(text, "0000-00-00T00:00:00").or_else(|| form(text, "0000-00-00 00:00:00"))?;
    if text.starts_with("0001-") {
        return None;
    }
    if text[length..].starts_with('.') {
        length += 1 + text[length + 1..].bytes().take_while(u8::is_ascii_digit).count();
    }
    for zone in ["Z", "+00:00", "-00:00", " +0000 UTC", " -0000 UTC"] {
        if let Some(more) = form(&text[length..], zone) {
            length += more;
            break;
        }
    }
    Some((length, "<time>"))
}

/// `Less than a second`, `About an hour`, `5 seconds`, each also with ` ago`.
fn duration(text: &str) -> Option<(usize, &'static str)> {
    let units = ["second", "minute", "hour", "day", "week", "month", "year"];
    let number = text.bytes().take_while(u8::is_ascii_digit).count();
    let start = ["Less than a ", "About a ", "About an "]
        .iter()
        .find(|start| text.starts_with(**start))
        .map(|start| start.len());
    let start = start.or_else(|| (number > 0 && text[number..].starts_with(' ')).then_some(number + 1))?;
    let unit = units.iter().find(|unit| text[start..].starts_with(**unit))?;
    let mut length = start + unit.len();
    for more in ["s", " ago"] {
        if text[length..].starts_with(more) {
            length += more.len();
        }
    }
    ends(text, length).then_some((length, "<while>"))
}

/// `4.17MB`, `12kB`; nothing is nothing and stays.
fn size(text: &str) -> Option<(usize, &'static str)> {
    let number = text.bytes().take_while(|byte| byte.is_ascii_digit() || *byte == b'.').count();
    let unit = ["kB", "MB", "GB", "KiB", "MiB", "GiB", "B"].iter().find(|unit| text[number..].starts_with(**unit))?;
    let length = number + unit.len();
    (number > 0 && &text[..number] != "0" && ends(text, length)).then_some((length, "<size>"))
}

#[cfg(test)]
mod tests {
    use super::{errors, text};

    #[test]
    fn errors_without_the_manual() {
        let said = "unknown flag: --x\nSee 'docker ps --help'.\n\nUsage:  docker ps\n\nList containers\n";
        assert_eq!(errors(text(said, "/x")), ["unknown flag: --x"]);
    }

    #[test]
    fn what_changes_has_a_name() {
        let id = "0123456789abcdef".repeat(4);
        for (raw, wanted) in [
            (format!("{id}\n"), "<id>"),
            (format!("sha256:{id}  {}\n", &id[..12]), "sha256:<id>  <short>"),
            (format!("x{id}\n"), &*format!("x{id}")),
            ("2026-11-21T08:36:08.12Z x 2026-11-21 08:36:08 +0000 UTC\n".into(), "<time> x <time>"),
            ("0001-01-01T00:00:00Z\n".into(), "0001-01-01T00:00:00Z"),
            ("Exited (0) 3 seconds ago     Up About a minute\n".into(), "Exited (0) <while>  Up <while>"),
            ("4.17MB 0B 12 B 5MBit\n".into(), "<size> 0B 12 B 5MBit"),
            ("02:42:ac:11:00:02\r\n".into(), "<mac><cr>"),
            ("a".into(), "a<no newline>"),
            ("/tmp/x/file\n".into(), "<dir>/file"),
        ] {
            assert_eq!(text(&raw, "/tmp/x"), [wanted], "{raw}");
        }
        assert_eq!(text("\n", "/x"), [""]);
        assert!(text("", "/x").is_empty());
    }
}
