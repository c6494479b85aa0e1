//! Go's `printf` for strings, numbers and truth values.

use super::value;
use serde_json::Value;

/// Formats values; a verb without a value prints `%!v(MISSING)` as in Go.
pub fn format(template: &str, values: &[Value]) -> String {
    let mut out = String::new();
    let mut values = values.iter();
    let mut rest = template;
    while let Some(start) = rest.find('%') {
        out.push_str(&rest[..start]);
        rest = &rest[start + 1..];
        let end = rest.find(|c: char| !"-+ #0123456789.".contains(c)).unwrap_or(rest.len());
        let (spec, tail) = rest.split_at(end);
        let Some(verb) = tail.chars().next() else {
            out.push_str("%!(NOVERB)");
            return out;
        };
        rest = &tail[verb.len_utf8()..];
        if verb == '%' {
            out.push('%');
            continue;
        }
        match values.next() {
            Some(value) => out.push_str(&padded(spec, &verb_text(verb, spec, value))),
            None => out.push_str(&format!("%!{verb}(MISSING)")),
        }
    }
    out.push_str(rest);
    out
}

fn verb_text(verb: char, spec: &str, value: &Value) -> String {
    let precision = spec.split_once('.').map(|(_, digits)| digits.parse::<usize>().unwrap_or(0));
    match (verb, value) {
        ('v' | 'd', _) => value::text(value),
        ('s', _) => {
            let text = value::text(value);
            precision.map_or(text.clone(), |length| text.chars().take(length).collect())
        }
        ('t', Value::Bool(truth)) => truth.to_string(),
        ('q', _) => format!("{:?}", value::text(value)),
        ('f', Value::Number(number)) => format!("{:.*}", precision.unwrap_or(6), number.as_f64().unwrap_or(0.0)),
        ('x', Value::Number(number)) => format!("{:x}", number.as_i64().unwrap_or(0)),
        ('o', Value::Number(number)) => format!("{:o}", number.as_i64().unwrap_or(0)),
        ('x', Value::String(text)) => text.bytes().map(|byte| format!("{byte:02x}")).collect(),
        _ => format!("%!{verb}({})", value::text(value)),
    }
}

fn padded(spec: &str, text: &str) -> String {
    let left = spec.contains('-');
    let flags = spec.trim_start_matches(['-', '+', ' ', '#']);
    let zero = flags.starts_with('0') && !left;
    let width: usize = flags.split('.').next().and_then(|digits| digits.parse().ok()).unwrap_or(0);
    match (left, zero) {
        (true, _) => format!("{text:<width$}"),
        (false, true) => format!("{text:0>width$}"),
        (false, false) => format!("{text:>width$}"),
    }
}
