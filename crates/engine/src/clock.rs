//! The time, as the records have it.

/// Now: RFC 3339, UTC, nine digits of a second.
pub(crate) fn now() -> String {
    jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%S.%9fZ").to_string()
}
