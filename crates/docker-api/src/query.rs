//! What stands behind the question mark, with Docker's idea of a switch and of a number.

use crate::failure::Failure;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

/// The parameters of a request.
#[derive(Clone, Debug, Default)]
pub struct Query(Arc<Vec<Parameter>>);

/// One of them.
#[derive(Debug)]
struct Parameter {
    name: String,
    value: String,
    /// Somebody wanted it.
    read: AtomicBool,
}

impl Parameter {
    /// Its value, for somebody who wants it.
    fn read(&self) -> &str {
        self.read.store(true, Relaxed);
        &self.value
    }
}

impl Query {
    /// Takes the query of a URL apart.
    pub fn parse(text: &str) -> Query {
        let pairs = text.split('&').filter(|pair| !pair.is_empty()).map(|pair| {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            Parameter { name: decode(key, true), value: decode(value, true), read: AtomicBool::new(false) }
        });
        Query(Arc::new(pairs.collect()))
    }

    /// The names of the parameters that nobody wanted.
    pub fn unread(&self) -> Vec<&str> {
        self.0.iter().filter(|one| !one.read.load(Relaxed)).map(|one| one.name.as_str()).collect()
    }

    /// The first value of a parameter; empty is as good as absent.
    pub fn text(&self, key: &str) -> Option<&str> {
        let first = self.0.iter().find(|one| one.name == key)?;
        Some(first.read()).filter(|value| !value.is_empty())
    }

    /// All values of a parameter.
    pub fn all<'a>(&'a self, key: &'a str) -> impl Iterator<Item = &'a str> {
        self.0.iter().filter(move |one| one.name == key).map(Parameter::read)
    }

    /// A switch: on unless it says no.
    pub fn switch(&self, key: &str) -> bool {
        self.switch_or(key, false)
    }

    /// A switch with a default.
    pub fn switch_or(&self, key: &str, absent: bool) -> bool {
        self.text(key).map_or(absent, |value| {
            !matches!(value.trim().to_ascii_lowercase().as_str(), "" | "0" | "no" | "false" | "none")
        })
    }

    /// A number.
    ///
    /// # Errors
    /// 400 with the parameter's name.
    pub fn number<T: std::str::FromStr>(&self, key: &str) -> Result<Option<T>, Failure> {
        let Some(text) = self.text(key) else { return Ok(None) };
        text.parse().map(Some).map_err(|_| Failure::bad(format!("bad parameter {key}: {text:?} is not a number")))
    }
}

/// All parameters as they were understood; what is asked with the same ones is the same.
impl std::fmt::Display for Query {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.iter().try_for_each(|one| write!(f, "{:?}={:?}&", one.name, one.value))
    }
}

/// Percent decoding; in queries a plus sign is a space. What is no UTF-8 is replaced.
pub fn decode(text: &str, plus: bool) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, tail)) = rest.split_first() {
        rest = tail;
        match first {
            b'%' => match tail.split_at_checked(2).and_then(|(digits, after)| Some((hex(digits)?, after))) {
                Some((byte, after)) => {
                    bytes.push(byte);
                    rest = after;
                }
                None => bytes.push(b'%'),
            },
            b'+' if plus => bytes.push(b' '),
            other => bytes.push(other),
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

fn hex(digits: &[u8]) -> Option<u8> {
    let text = std::str::from_utf8(digits).ok().filter(|text| text.bytes().all(|byte| byte.is_ascii_hexdigit()))?;
    u8::from_str_radix(text, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn table() {
        let query = Query::parse("all=1&name=a%2Fb+c&force=false&t=5&t=6&empty=&bad=%zz&x");
        assert!(query.switch("all") && !query.switch("force") && !query.switch("absent") && !query.switch("empty"));
        assert!(query.switch_or("absent", true));
        assert_eq!(query.text("name"), Some("a/b c"));
        assert_eq!(query.text("bad"), Some("%zz"));
        assert_eq!(query.number::<i64>("t").unwrap(), Some(5));
        assert!(query.number::<i64>("name").is_err());
        // The second `t` is nobody's.
        assert_eq!(query.unread(), ["t", "x"]);
    }
}
