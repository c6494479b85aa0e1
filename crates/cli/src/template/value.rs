//! How Go prints and judges values.

use serde_json::Value;
use std::cmp::Ordering;

/// The text of a value: a string as it is, a list as `[a b]`, an object as `map[key:value]`.
pub fn text(value: &Value) -> String {
    match value {
        Value::Null => "<nil>".into(),
        Value::String(string) => string.clone(),
        Value::Bool(_) | Value::Number(_) => value.to_string(),
        Value::Array(values) => format!("[{}]", values.iter().map(text).collect::<Vec<_>>().join(" ")),
        Value::Object(map) => {
            let mut keys: Vec<&String> = map.keys().collect();
            keys.sort();
            let words: Vec<String> = keys.into_iter().map(|key| format!("{key}:{}", text(&map[key]))).collect();
            format!("map[{}]", words.join(" "))
        }
    }
}

/// Whether `if` takes the first branch.
pub fn truth(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::Bool(truth) => *truth,
        Value::Number(number) => number.as_f64() != Some(0.0),
        Value::String(string) => !string.is_empty(),
        Value::Array(values) => !values.is_empty(),
        Value::Object(map) => !map.is_empty(),
    }
}

/// Whether a missing key is a mistake: see the module `template`.
pub fn is_struct(map: &serde_json::Map<String, Value>) -> bool {
    !map.is_empty() && map.keys().all(|key| key.starts_with(|c: char| c.is_ascii_uppercase()))
}

/// The order of two numbers or two strings.
pub fn compare(a: &Value, b: &Value) -> Result<Ordering, String> {
    match (a, b) {
        (Value::String(a), Value::String(b)) => Ok(a.cmp(b)),
        (Value::Number(x), Value::Number(y)) => match (x.as_i64(), y.as_i64()) {
            (Some(x), Some(y)) => Ok(x.cmp(&y)),
            _ => x.as_f64().zip(y.as_f64()).and_then(|(x, y)| x.partial_cmp(&y)).ok_or_else(|| "not comparable".into()),
        },
        _ => Err("incompatible types for comparison".into()),
    }
}

/// Whether two values are equal; kinds that cannot be compared are an error.
pub fn equal(a: &Value, b: &Value) -> Result<bool, String> {
    match (a, b) {
        (Value::Bool(a), Value::Bool(b)) => Ok(a == b),
        (Value::Null, other) | (other, Value::Null) => Ok(other.is_null()),
        _ => compare(a, b).map(Ordering::is_eq),
    }
}
