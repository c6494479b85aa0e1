//! `org.systemd.property.NAME`: properties of the scope that a container's annotations ask for, with values in the text form of
//! GVariant. podman says its stop signal and its patience so, for the day when the machine goes down.

use crate::error::Invalid;
use dbus::Value;
use std::collections::BTreeMap;

const PREFIX: &str = "org.systemd.property.";

/// The properties among the annotations. Time spans may be in seconds: `TimeoutStopSec` is `TimeoutStopUSec` in microseconds.
///
/// # Errors
/// [`Invalid`] for a name that is none, and for values of types that no such property has.
pub fn from_annotations(annotations: &BTreeMap<String, String>) -> Result<Vec<(String, Value)>, Invalid> {
    let ours = annotations.iter().filter_map(|(key, text)| Some((key.strip_prefix(PREFIX)?, text.trim())));
    ours.map(|(name, text)| {
        let refuse = || Invalid::new(format!("annotation {PREFIX}{name}"), text, "it is not a property of systemd");
        let letters = name.bytes().all(|byte| byte.is_ascii_alphabetic());
        if name.len() < 3 || !letters || !name.starts_with(|first: char| first.is_ascii_uppercase()) {
            return Err(refuse());
        }
        match name.strip_suffix("Sec").filter(|start| !start.ends_with('U')) {
            Some(start) => Ok((format!("{start}USec"), microseconds(text).ok_or_else(refuse)?)),
            None => Ok((name.to_owned(), value(text).ok_or_else(refuse)?)),
        }
    })
    .collect()
}

fn microseconds(text: &str) -> Option<Value> {
    let number = text.rsplit_once(' ').map_or(text, |(_, number)| number);
    let seconds: f64 = number.parse().ok().filter(|seconds| (0.0..1e12).contains(seconds))?;
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "bounded above")]
    Some(Value::Number((seconds * 1e6) as u64))
}

fn value(text: &str) -> Option<Value> {
    match text {
        "true" => return Some(Value::Flag(true)),
        "false" => return Some(Value::Flag(false)),
        _ => {}
    }
    if let Some(inside) = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')) {
        let parts = inside.split(',').map(str::trim).filter(|part| !part.is_empty());
        return parts.map(quoted).collect::<Option<_>>().map(Value::Texts);
    }
    match text.split_once(' ') {
        Some(("uint64" | "@t", number)) => number.trim().parse().ok().map(Value::Number),
        Some(("uint32" | "@u", number)) => number.trim().parse().ok().map(Value::Small),
        Some(("int32" | "@i", number)) => number.trim().parse().ok().map(Value::Signed),
        Some(("string" | "@s", text)) => quoted(text.trim()).map(Value::Text),
        _ => quoted(text).map(Value::Text).or_else(|| text.parse().ok().map(Value::Signed)),
    }
}

/// Without escapes, which no name of a unit and no word of systemd needs.
fn quoted(text: &str) -> Option<String> {
    let inside = ['\'', '"'].into_iter().find_map(|quote| text.strip_prefix(quote)?.strip_suffix(quote))?;
    (!inside.contains(['\\', '\'', '"'])).then(|| inside.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn properties_in_annotations() {
        let of = |name: &str, text: &str| {
            let all = [(format!("{PREFIX}{name}"), text.to_owned()), ("other".to_owned(), "x".to_owned())];
            from_annotations(&all.into()).ok().and_then(|mut list| list.pop())
        };
        let is = |name: &str, value: Value| Some((name.to_owned(), value));
        assert_eq!(of("TimeoutStopUSec", "uint64 7000000"), is("TimeoutStopUSec", Value::Number(7_000_000)));
        assert_eq!(of("TimeoutStopSec", "1.5"), is("TimeoutStopUSec", Value::Number(1_500_000)));
        assert_eq!(of("KillSignal", "15"), is("KillSignal", Value::Signed(15)));
        assert_eq!(of("SendSIGHUP", "true"), is("SendSIGHUP", Value::Flag(true)));
        assert_eq!(of("CollectMode", "'inactive'"), is("CollectMode", Value::Text("inactive".to_owned())));
        let units = vec!["a.service".to_owned(), "b.service".to_owned()];
        assert_eq!(of("After", "['a.service', \"b.service\"]"), is("After", Value::Texts(units)));
        for (name, text) in
            [("Ab", "1"), ("lower", "1"), ("With-Dash", "1"), ("Open", "'x"), ("ASec", "-1"), ("Any", "{}")]
        {
            assert_eq!(of(name, text), None, "{name} {text}");
        }
    }
}
