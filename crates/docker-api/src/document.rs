//! A request's content as a document: that it says it is one, and what is wrong with it in the words of Docker's server, by which clients
//! and their tests tell what happened.

use crate::failure::Failure;
use hyper::HeaderMap;
use hyper::header::CONTENT_TYPE;
use serde::de::DeserializeOwned;

/// Refuses content that does not say it is JSON. A page in a browser can send anything else to any server without asking first.
///
/// # Errors
/// 400 for another type, for none, and for one that is none.
pub fn check_type(headers: &HeaderMap, content: &[u8]) -> Result<(), Failure> {
    let said = headers.get(CONTENT_TYPE).map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned());
    let said = match said {
        None if content.is_empty() => return Ok(()),
        said => said.unwrap_or_default(),
    };
    let essence = said.split(';').next().unwrap_or_default().trim();
    if essence.eq_ignore_ascii_case("application/json") {
        return Ok(());
    }
    let problem = if essence.is_empty() { "malformed" } else { "unsupported" };
    Err(Failure::bad(format!("{problem} Content-Type header ({said}): must be 'application/json'")))
}

/// Reads a document, with the names of its fields in any mixture of small and capital letters.
///
/// # Errors
/// 400 for what is not such a document.
pub fn read<T: DeserializeOwned>(content: &[u8]) -> Result<T, Failure> {
    let content = crate::spelling::corrected(content);
    serde_json::from_slice(&content).map_err(|error| Failure::bad(sentence(&error, &content)))
}

fn sentence(error: &serde_json::Error, content: &[u8]) -> String {
    let said = error.to_string();
    if said.starts_with("trailing characters") {
        return "unexpected content after JSON".into();
    }
    match error.classify() {
        serde_json::error::Category::Eof => "invalid JSON: unexpected EOF".into(),
        serde_json::error::Category::Syntax => match expected(&said).zip(byte(error, content)) {
            Some((place, byte)) => format!("invalid JSON: invalid character {:?} {place}", char::from(byte)),
            None => format!("invalid JSON: {said}"),
        },
        _ => format!("invalid JSON: {said}"),
    }
}

/// What Go's parser says it looked for where this one wanted something.
fn expected(said: &str) -> Option<&'static str> {
    const WORDS: [(&str, &str); 5] = [
        ("key must be a string", "looking for beginning of object key string"),
        ("expected value", "looking for beginning of value"),
        ("expected `:`", "after object key"),
        ("expected `,` or `}`", "after object key:value pair"),
        ("expected `,` or `]`", "after array element"),
    ];
    WORDS.iter().find(|(ours, _)| said.starts_with(ours)).map(|(_, theirs)| *theirs)
}

/// The byte at which the parser stopped.
fn byte(error: &serde_json::Error, content: &[u8]) -> Option<u8> {
    let line = content.split(|&byte| byte == b'\n').nth(error.line().checked_sub(1)?)?;
    line.get(error.column().checked_sub(1)?).copied().filter(u8::is_ascii)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;

    fn said(content: &str) -> String {
        read::<Value>(content.as_bytes()).unwrap_err().message
    }

    #[test]
    fn what_is_wrong_is_said_as_docker_says_it() {
        assert_eq!(
            said("{invalid json"),
            "invalid JSON: invalid character 'i' looking for beginning of object key string"
        );
        assert_eq!(said("{\"a\" 1}"), "invalid JSON: invalid character '1' after object key");
        assert_eq!(said("{\"a\":1\n \"b\":2}"), "invalid JSON: invalid character '\"' after object key:value pair");
        assert_eq!(said("[1 2]"), "invalid JSON: invalid character '2' after array element");
        assert_eq!(said("?"), "invalid JSON: invalid character '?' looking for beginning of value");
        assert_eq!(said("{} {}"), "unexpected content after JSON");
        assert_eq!(said("{\"a\""), "invalid JSON: unexpected EOF");
    }

    #[test]
    fn only_json_is_a_document() {
        let check = |kind: Option<&str>, content: &str| {
            let mut headers = HeaderMap::new();
            if let Some(kind) = kind {
                headers.insert(CONTENT_TYPE, kind.parse().unwrap());
            }
            check_type(&headers, content.as_bytes()).map_err(|failure| failure.message)
        };
        assert_eq!(check(None, ""), Ok(()));
        assert_eq!(check(Some("application/json"), "{}"), Ok(()));
        assert_eq!(check(Some("application/JSON; charset=utf-8"), "{}"), Ok(()));
        assert_eq!(
            check(Some("text/plain"), "{}").unwrap_err(),
            "unsupported Content-Type header (text/plain): must be 'application/json'"
        );
        assert!(check(None, "{}").is_err());
        assert!(check(Some("text/plain"), "").is_err());
    }
}
