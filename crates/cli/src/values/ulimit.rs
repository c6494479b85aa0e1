//! `--ulimit NAME=SOFT[:HARD]`.

use engine::containers::options::Ulimit;

/// The names that Linux knows, without `RLIMIT_` (getrlimit(2)).
const NAMES: &[&str] = &[
    "core",
    "cpu",
    "data",
    "fsize",
    "locks",
    "memlock",
    "msgqueue",
    "nice",
    "nofile",
    "nproc",
    "rss",
    "rtprio",
    "rttime",
    "sigpending",
    "stack",
];

/// Reads one limit. Without a hard limit it equals the soft one.
pub fn parse(text: &str) -> Result<Ulimit, String> {
    let (name, values) = text.split_once('=').ok_or_else(|| format!("invalid ulimit argument: {text}"))?;
    if !NAMES.contains(&name) {
        return Err(format!("invalid ulimit type: {name}"));
    }
    let number = |text: &str| match text.parse::<i64>() {
        Ok(number) if number >= -1 => Ok(number),
        _ => Err(format!("invalid ulimit value {text:?}: a number or -1 is expected")),
    };
    let mut parts = values.split(':');
    let soft = number(parts.next().unwrap_or_default())?;
    let hard = parts.next().map_or(Ok(soft), number)?;
    if parts.next().is_some() {
        return Err(format!("too many limit value arguments - {values}, can only have up to two, `soft[:hard]`"));
    }
    if hard != -1 && (soft == -1 || soft > hard) {
        return Err(format!("ulimit soft limit must be less than or equal to hard limit: {soft} > {hard}"));
    }
    Ok(Ulimit { name: name.to_owned(), soft, hard })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn table() {
        for (text, soft, hard) in
            [("nofile=1:2", 1, 2), ("nofile=7", 7, 7), ("core=-1", -1, -1), ("core=0:-1", 0, -1), ("nproc=5:5", 5, 5)]
        {
            let limit = parse(text).unwrap();
            assert_eq!((limit.soft, limit.hard), (soft, hard), "{text}");
        }
        for (text, error) in [
            ("nofile", "invalid ulimit argument: nofile"),
            ("x=1", "invalid ulimit type: x"),
            ("nofile=5:1", "ulimit soft limit must be less than or equal to hard limit: 5 > 1"),
            ("nofile=-1:5", "ulimit soft limit must be less than or equal to hard limit: -1 > 5"),
            ("nofile=1:2:3", "too many limit value arguments - 1:2:3, can only have up to two, `soft[:hard]`"),
            ("nofile=a", "invalid ulimit value \"a\": a number or -1 is expected"),
            ("nofile=", "invalid ulimit value \"\": a number or -1 is expected"),
        ] {
            assert_eq!(parse(text), Err(error.to_owned()), "{text}");
        }
    }
}
