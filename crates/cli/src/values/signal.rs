//! Signals by name or number: `TERM`, `SIGTERM`, `term`, `15`, `RTMIN+3`.

/// Linux's numbers, as all architectures but alpha, mips, parisc and sparc have them (signal(7)).
const NAMES: &[(&str, i32)] = &[
    ("HUP", 1),
    ("INT", 2),
    ("QUIT", 3),
    ("ILL", 4),
    ("TRAP", 5),
    ("ABRT", 6),
    ("IOT", 6),
    ("BUS", 7),
    ("FPE", 8),
    ("KILL", 9),
    ("USR1", 10),
    ("SEGV", 11),
    ("USR2", 12),
    ("PIPE", 13),
    ("ALRM", 14),
    ("TERM", 15),
    ("STKFLT", 16),
    ("CHLD", 17),
    ("CLD", 17),
    ("CONT", 18),
    ("STOP", 19),
    ("TSTP", 20),
    ("TTIN", 21),
    ("TTOU", 22),
    ("URG", 23),
    ("XCPU", 24),
    ("XFSZ", 25),
    ("VTALRM", 26),
    ("PROF", 27),
    ("WINCH", 28),
    ("IO", 29),
    ("POLL", 29),
    ("PWR", 30),
    ("SYS", 31),
];
/// The first real-time signal that the C library leaves to programs.
const RTMIN: i32 = 34;
const RTMAX: i32 = 64;

/// The signal's number.
pub fn number(text: &str) -> Result<i32, String> {
    let invalid = || format!("Invalid signal: {text}");
    if let Ok(number) = text.parse::<i32>() {
        return if (1..=RTMAX).contains(&number) { Ok(number) } else { Err(invalid()) };
    }
    let upper = text.to_ascii_uppercase();
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    if let Some((_, number)) = NAMES.iter().find(|(known, _)| *known == name) {
        return Ok(*number);
    }
    let real_time = if let Some(offset) = name.strip_prefix("RTMIN") {
        offset
            .strip_prefix('+')
            .map_or(Some(0), |text| text.parse().ok())
            .filter(|_| offset.is_empty() || offset.starts_with('+'))
            .map(|n: i32| RTMIN.saturating_add(n))
    } else if let Some(offset) = name.strip_prefix("RTMAX") {
        offset
            .strip_prefix('-')
            .map_or(Some(0), |text| text.parse().ok())
            .filter(|_| offset.is_empty() || offset.starts_with('-'))
            .map(|n: i32| RTMAX.saturating_sub(n))
    } else {
        None
    };
    real_time.filter(|number| (RTMIN..=RTMAX).contains(number)).ok_or_else(invalid)
}

/// The same text if it names a signal.
pub fn parse(text: &str) -> Result<String, String> {
    number(text).map(|_| text.to_owned())
}

/// The same for flags whose empty value means none.
pub fn parse_or_empty(text: &str) -> Result<String, String> {
    if text.is_empty() { Ok(String::new()) } else { parse(text) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn table() {
        for (text, expected) in [
            ("TERM", 15),
            ("SIGTERM", 15),
            ("sigterm", 15),
            ("9", 9),
            ("64", 64),
            ("RTMIN", 34),
            ("SIGRTMIN+3", 37),
            ("RTMAX", 64),
            ("RTMAX-1", 63),
            ("usr1", 10),
        ] {
            assert_eq!(number(text), Ok(expected), "{text}");
        }
        for text in ["", "0", "65", "-1", "FOO", "SIG", "RTMIN+31", "RTMIN3", "RTMAX+1", "RTMIN+-1", "SIGSIGTERM"] {
            assert_eq!(number(text), Err(format!("Invalid signal: {text}")), "{text}");
        }
    }
}
