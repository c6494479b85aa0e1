//! The functions of Docker's templates and those of Go's that scripts use.

use super::evaluate::Datum;
use super::{printf, value};
use serde_json::Value;
use std::borrow::Cow;
use std::cmp::Ordering;

const NAMES: &[&str] = &[
    "and", "eq", "ge", "gt", "index", "join", "json", "le", "len", "lower", "lt", "ne", "not", "or", "pad", "print",
    "printf", "println", "slice", "split", "title", "truncate", "upper",
];

/// Whether there is a function of that name.
pub fn exists(name: &str) -> bool {
    NAMES.contains(&name)
}

/// Calls a function.
pub fn call<'d>(name: &str, arguments: Vec<Datum<'d>>) -> Result<Datum<'d>, String> {
    if name == "index" {
        return index(arguments).map_err(|error| format!("error calling index: {error}"));
    }
    let values: Vec<Value> = arguments.into_iter().map(|datum| datum.map_or(Value::Null, Cow::into_owned)).collect();
    let result = plain(name, &values).map_err(|error| format!("error calling {name}: {error}"))?;
    Ok(Some(Cow::Owned(result)))
}

fn plain(name: &str, values: &[Value]) -> Result<Value, String> {
    let arity = || format!("wrong number of args for {name}: got {}", values.len());
    Ok(match (name, values) {
        ("json", [value]) => Value::String(value.to_string()),
        ("lower", [value]) => string(value)?.to_lowercase().into(),
        ("upper", [value]) => string(value)?.to_uppercase().into(),
        ("title", [value]) => title(string(value)?).into(),
        ("split", [value, separator]) => split(string(value)?, string(separator)?),
        ("join", [list, separator]) => join(list, string(separator)?)?,
        ("pad", [value, before, after]) => pad(string(value)?, integer(before)?, integer(after)?),
        ("truncate", [value, length]) => string(value)?.chars().take(integer(length)?).collect::<String>().into(),
        ("len", [value]) => length(value)?.into(),
        ("slice", [value, bounds @ ..]) => slice(value, bounds)?,
        ("not", [value]) => (!value::truth(value)).into(),
        ("and", [.., last]) => values.iter().find(|v| !value::truth(v)).unwrap_or(last).clone(),
        ("or", [.., last]) => values.iter().find(|v| value::truth(v)).unwrap_or(last).clone(),
        ("eq", [first, others @ ..]) if !others.is_empty() => {
            let mut any = false;
            for other in others {
                any |= value::equal(first, other)?;
            }
            any.into()
        }
        ("ne", [a, b]) => (!value::equal(a, b)?).into(),
        ("lt", [a, b]) => (value::compare(a, b)? == Ordering::Less).into(),
        ("le", [a, b]) => (value::compare(a, b)? != Ordering::Greater).into(),
        ("gt", [a, b]) => (value::compare(a, b)? == Ordering::Greater).into(),
        ("ge", [a, b]) => (value::compare(a, b)? != Ordering::Less).into(),
        ("print", values) => print(values).into(),
        ("println", values) => {
            let words: Vec<String> = values.iter().map(value::text).collect();
            format!("{}\n", words.join(" ")).into()
        }
        ("printf", [format, values @ ..]) => printf::format(string(format)?, values).into(),
        _ => return Err(arity()),
    })
}

fn string(value: &Value) -> Result<&str, String> {
    value.as_str().ok_or_else(|| format!("expected string; found {}", value::text(value)))
}

fn integer(value: &Value) -> Result<usize, String> {
    let number = value.as_u64().and_then(|number| usize::try_from(number).ok());
    number.ok_or_else(|| format!("expected integer; found {}", value::text(value)))
}

/// The first letter of each word in upper case.
fn title(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut starts = true;
    for letter in text.chars() {
        if starts {
            out.extend(letter.to_uppercase())
        } else {
            out.push(letter)
        }
        starts = !letter.is_alphanumeric() && letter != '_' && letter != '\'';
    }
    out
}

fn split(text: &str, separator: &str) -> Value {
    if separator.is_empty() {
        return text.chars().map(String::from).collect();
    }
    text.split(separator).collect()
}

fn join(list: &Value, separator: &str) -> Result<Value, String> {
    match list {
        Value::Array(values) => Ok(values.iter().map(value::text).collect::<Vec<_>>().join(separator).into()),
        Value::Null => Ok("".into()),
        other => Err(format!("expected a list; found {}", value::text(other))),
    }
}

fn pad(text: &str, before: usize, after: usize) -> Value {
    if text.is_empty() { "".into() } else { format!("{}{text}{}", " ".repeat(before), " ".repeat(after)).into() }
}

fn length(value: &Value) -> Result<usize, String> {
    match value {
        Value::String(string) => Ok(string.len()),
        Value::Array(values) => Ok(values.len()),
        Value::Object(map) => Ok(map.len()),
        other => Err(format!("len of type {}", value::text(other))),
    }
}

fn slice(value: &Value, bounds: &[Value]) -> Result<Value, String> {
    let length = length(value)?;
    let start = bounds.first().map_or(Ok(0), integer)?;
    let end = bounds.get(1).map_or(Ok(length), integer)?;
    if start > end || end > length {
        return Err(format!("index out of range: {end}"));
    }
    match value {
        Value::String(string) => Ok(string.get(start..end).ok_or("slice inside of a character")?.into()),
        Value::Array(values) => Ok(values[start..end].to_vec().into()),
        _ => Err("cannot be sliced".into()),
    }
}

/// Go's `Sprint`: a space between two operands when neither is a string.
fn print(values: &[Value]) -> String {
    let mut out = String::new();
    for (number, value) in values.iter().enumerate() {
        if number > 0 && !value.is_string() && !values[number - 1].is_string() {
            out.push(' ');
        }
        out.push_str(&value::text(value));
    }
    out
}

/// Takes items of lists and maps. A key that a map of strings does not have gives an empty string, as in Go.
fn index(arguments: Vec<Datum<'_>>) -> Result<Datum<'_>, String> {
    let mut arguments = arguments.into_iter();
    let mut item = arguments.next().ok_or("wrong number of args for index: want at least 1 got 0")?;
    for key in arguments {
        let key = key.ok_or("index of nil")?;
        item = match item {
            Some(Cow::Borrowed(value)) => {
                one(value, &key)?.map_or_else(|| empty(value), |item| Some(Cow::Borrowed(item)))
            }
            Some(Cow::Owned(value)) => match one(&value, &key)? {
                Some(item) => Some(Cow::Owned(item.clone())),
                None => empty(&value),
            },
            None => return Err("index of untyped nil".into()),
        };
    }
    Ok(item)
}

fn one<'v>(value: &'v Value, key: &Value) -> Result<Option<&'v Value>, String> {
    match value {
        Value::Object(map) => Ok(map.get(string(key)?)),
        Value::Array(values) => {
            let at = integer(key)?;
            values.get(at).map(Some).ok_or_else(|| format!("reflect: slice index out of range: {at}"))
        }
        Value::Null => Err("index of nil pointer".into()),
        other => Err(format!("can't index item of type {}", value::text(other))),
    }
}

fn empty<'d>(map: &Value) -> Datum<'d> {
    let strings = map.as_object().is_some_and(|map| map.values().all(Value::is_string));
    Some(Cow::Owned(if strings { "".into() } else { Value::Null }))
}
