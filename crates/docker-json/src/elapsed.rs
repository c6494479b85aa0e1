//! Spans of time in words: `2 minutes`, `About an hour`, `3 weeks`.

use jiff::Timestamp;

/// The span in Docker's words.
pub fn words(nanoseconds: i128) -> String {
    let seconds = nanoseconds / 1_000_000_000;
    let minutes = seconds / 60;
    // Docker rounds hours to the nearest but truncates what is longer.
    let hours = (nanoseconds + 1_800_000_000_000).div_euclid(3_600_000_000_000);
    match seconds {
        ..1 => return "Less than a second".into(),
        1 => return "1 second".into(),
        2..60 => return format!("{seconds} seconds"),
        _ => {}
    }
    match minutes {
        1 => return "About a minute".into(),
        2..60 => return format!("{minutes} minutes"),
        _ => {}
    }
    match hours {
        1 => "About an hour".into(),
        ..48 => format!("{hours} hours"),
        48..336 => format!("{} days", hours / 24),
        336..1440 => format!("{} weeks", hours / 24 / 7),
        1440..17520 => format!("{} months", hours / 24 / 30),
        _ => format!("{} years", seconds / 3600 / 24 / 365),
    }
}

/// The words for the time from `start` to `now`; `None` when `start` is no time.
pub fn since(start: &str, now: Timestamp) -> Option<String> {
    let start: Timestamp = start.parse().ok()?;
    Some(words(now.as_nanosecond() - start.as_nanosecond()))
}

/// The same with `ago`, or `N/A` when `start` is no time.
pub fn ago(start: &str, now: Timestamp) -> String {
    since(start, now).map_or_else(|| "N/A".into(), |words| format!("{words} ago"))
}

/// A time as Go prints it by default, in UTC: `2026-11-21 01:53:33 +0000 UTC`.
pub fn go(time: &str) -> String {
    match time.parse::<Timestamp>() {
        Ok(time) => time.strftime("%Y-%m-%d %H:%M:%S +0000 UTC").to_string(),
        Err(_) => time.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn table() {
        const SECOND: i128 = 1_000_000_000;
        const HOUR: i128 = 3600 * SECOND;
        for (span, text) in [
            (-5 * SECOND, "Less than a second"),
            (SECOND / 2, "Less than a second"),
            (SECOND, "1 second"),
            (45 * SECOND, "45 seconds"),
            (60 * SECOND, "About a minute"),
            (119 * SECOND, "About a minute"),
            (3 * 60 * SECOND, "3 minutes"),
            (59 * 60 * SECOND, "59 minutes"),
            (HOUR, "About an hour"),
            (HOUR + 29 * 60 * SECOND, "About an hour"),
            (HOUR + 45 * 60 * SECOND, "2 hours"),
            (3 * HOUR, "3 hours"),
            (47 * HOUR, "47 hours"),
            (3 * 24 * HOUR, "3 days"),
            (15 * 24 * HOUR, "2 weeks"),
            (60 * 24 * HOUR, "2 months"),
            (23 * 30 * 24 * HOUR, "23 months"),
            (5 * 365 * 24 * HOUR, "5 years"),
        ] {
            assert_eq!(words(span), text);
        }
        let now = "2026-01-02T12:00:00Z".parse().unwrap();
        assert_eq!(ago("2026-01-02T11:58:00.123456789Z", now), "About a minute ago");
        assert_eq!(ago("", now), "N/A");
        assert_eq!(go("2026-01-02T12:00:01.5Z"), "2026-01-02 12:00:01 +0000 UTC");
    }
}
