//! Names of signals: `TERM`, `SIGTERM`, `term`, `15`, `RTMIN+3`.
//!
//! signal(7).

/// Signals 1 to 31 without `SIG`, as all architectures but alpha, mips, parisc and sparc number them.
const NAMES: [&str; 31] = [
    "HUP", "INT", "QUIT", "ILL", "TRAP", "ABRT", "BUS", "FPE", "KILL", "USR1", "SEGV", "USR2", "PIPE", "ALRM", "TERM",
    "STKFLT", "CHLD", "CONT", "STOP", "TSTP", "TTIN", "TTOU", "URG", "XCPU", "XFSZ", "VTALRM", "PROF", "WINCH", "IO",
    "PWR", "SYS",
];

/// Second names.
const SYNONYMS: [(&str, i32); 3] = [("CLD", 17), ("IOT", 6), ("POLL", 29)];

/// The C library keeps 32 and 33 for itself; programs count from 34.
const REAL_TIME: std::ops::RangeInclusive<i32> = 34..=64;

/// The number of a signal, 1 to 64: by number or by name, in any case, with or without `SIG`. `None` for a text that names none.
#[must_use]
pub fn number(text: &str) -> Option<i32> {
    if let Ok(number) = text.parse::<i32>() {
        return (1..=*REAL_TIME.end()).contains(&number).then_some(number);
    }
    let upper = text.to_ascii_uppercase();
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    if let Some(position) = NAMES.iter().position(|known| *known == name) {
        return i32::try_from(position + 1).ok();
    }
    if let Some((_, number)) = SYNONYMS.iter().find(|(known, _)| *known == name) {
        return Some(*number);
    }
    let number = if let Some(rest) = name.strip_prefix("RTMIN") {
        REAL_TIME.start() + offset(rest, '+')?
    } else {
        REAL_TIME.end() - offset(name.strip_prefix("RTMAX")?, '-')?
    };
    REAL_TIME.contains(&number).then_some(number)
}

/// What follows `RTMIN` or `RTMAX`: nothing, or a sign and a number of two digits at most.
fn offset(rest: &str, sign: char) -> Option<i32> {
    if rest.is_empty() {
        return Some(0);
    }
    let digits = rest.strip_prefix(sign)?;
    let short = digits.len() <= 2 && digits.bytes().all(|byte| byte.is_ascii_digit());
    digits.parse().ok().filter(|_| short)
}

#[cfg(test)]
mod tests {
    use super::number;

    #[test]
    fn numbers_and_names() {
        for (text, expected) in [
            ("9", 9),
            ("64", 64),
            ("TERM", 15),
            ("sigterm", 15),
            ("SIGWINCH", 28),
            ("usr1", 10),
            ("IOT", 6),
            ("SIGPOLL", 29),
            ("SYS", 31),
            ("RTMIN", 34),
            ("SIGRTMIN+3", 37),
            ("RTMAX", 64),
            ("RTMAX-1", 63),
        ] {
            assert_eq!(number(text), Some(expected), "{text}");
        }
    }

    #[test]
    fn what_names_no_signal() {
        for text in [
            "",
            "0",
            "65",
            "-1",
            "FOO",
            "SIG",
            "SIGSIGTERM",
            "RTMIN3",
            "RTMIN-1",
            "RTMIN+31",
            "RTMIN+-1",
            "RTMIN+99999999999",
            "RTMAX+1",
            "RTMAX-31",
        ] {
            assert_eq!(number(text), None, "{text}");
        }
    }
}
