//! Wall-clock time as text.

/// Length of [`now`]'s text: `2026-11-21T01:50:00.123456789Z`.
pub(crate) const TEXT_LENGTH: usize = 30;

/// Now in UTC as RFC 3339 with all nine digits, so that times sort as text and have one length.
///
/// Docker leaves trailing zeros out of its logs; its readers take both forms.
pub(crate) fn now() -> String {
    format!("{:.9}", jiff::Timestamp::now())
}

#[cfg(test)]
mod tests {
    #[test]
    fn has_nine_digits() {
        let text = super::now();
        assert_eq!(text.len(), super::TEXT_LENGTH, "{text}");
        assert!(text.ends_with('Z') && &text[19..20] == ".", "{text}");
    }
}
