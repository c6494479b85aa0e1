//! Points in time as `--since` and `--until` take them: seconds since 1970, a date and time, or a duration before now.

use super::duration;
use jiff::{Timestamp, civil, tz::TimeZone};

/// Reads a point in time, relative to `now`. A time without a zone is UTC, the only zone that dhow reads.
pub fn parse(text: &str, now: Timestamp) -> Result<Timestamp, String> {
    let invalid = || format!("failed to parse {text:?} as a point in time");
    // Docker: a bare 0 is no duration, but 1970.
    if text != "0"
        && let Ok(nanoseconds) = duration::parse(text)
    {
        let before = jiff::SignedDuration::from_nanos(nanoseconds);
        return now.checked_sub(before).map_err(|_| invalid());
    }
    if let Some(time) = unix(text) {
        return time.ok_or_else(invalid);
    }
    if let Ok(time) = text.parse::<Timestamp>() {
        return Ok(time);
    }
    let text = text.strip_suffix('Z').unwrap_or(text);
    let civil = match text.parse::<civil::DateTime>() {
        Ok(time) => time,
        // `2006-01-02T15`, which jiff does not know.
        Err(_) => format!("{text}:00").parse::<civil::DateTime>().map_err(|_| invalid())?,
    };
    TimeZone::UTC.to_timestamp(civil).map_err(|_| invalid())
}

/// `SECONDS[.FRACTION]`; `None` when the text has another form.
fn unix(text: &str) -> Option<Option<Timestamp>> {
    let (seconds, fraction) = text.split_once('.').unwrap_or((text, "0"));
    let digits = |part: &str| !part.is_empty() && part.bytes().all(|c| c.is_ascii_digit());
    if !digits(seconds) || !digits(fraction) || fraction.len() > 9 {
        return None;
    }
    let nanoseconds = format!("{fraction:0<9}").parse().ok()?;
    Some(seconds.parse().ok().and_then(|seconds| Timestamp::new(seconds, nanoseconds).ok()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn table() {
        let now: Timestamp = "2026-01-02T12:00:00Z".parse().unwrap();
        for (text, expected) in [
            ("0", "1970-01-01T00:00:00Z"),
            ("42m", "2026-01-02T11:18:00Z"),
            ("1.5s", "2026-01-02T11:59:58.5Z"),
            ("-10s", "2026-01-02T12:00:10Z"),
            ("1136073600", "2006-01-01T00:00:00Z"),
            ("1136073600.000000001", "2006-01-01T00:00:00.000000001Z"),
            ("2013-01-02T13:23:37Z", "2013-01-02T13:23:37Z"),
            ("2013-01-02T13:23:37.5+01:00", "2013-01-02T12:23:37.5Z"),
            ("2013-01-02T13:23:37", "2013-01-02T13:23:37Z"),
            ("2013-01-02T13:23", "2013-01-02T13:23:00Z"),
            ("2013-01-02T13", "2013-01-02T13:00:00Z"),
            ("2013-01-02", "2013-01-02T00:00:00Z"),
            ("2013-01-02Z", "2013-01-02T00:00:00Z"),
        ] {
            assert_eq!(parse(text, now).map(|time| time.to_string()), Ok(expected.to_owned()), "{text}");
        }
        for text in ["", "foo", "2013-13-02", "1.2.3"] {
            assert!(parse(text, now).is_err(), "{text}");
        }
    }
}
