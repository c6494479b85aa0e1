//! The OCI distribution specification 1.1 and Docker's token protocol: the JSON that registries answer with.

use crate::image::media_type;
use crate::lenient;
use serde::{Deserialize, Serialize};
use std::fmt;

/// The media types to accept in `GET /v2/<name>/manifests/<reference>`, as an `Accept` header.
///
/// Schema 1 is not in the list: a registry that has nothing else answers 404, or sends it all the same.
pub fn accept_manifests() -> String {
    [media_type::OCI_INDEX, media_type::OCI_MANIFEST, media_type::DOCKER_INDEX, media_type::DOCKER_MANIFEST].join(", ")
}

/// The body of a registry's refusal.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErrorBody {
    /// One or more reasons.
    #[serde(default, deserialize_with = "lenient::null_elements")]
    pub errors: Vec<ErrorEntry>,
}

/// One reason for a refusal. Written by the registry: shorten and escape it before showing it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErrorEntry {
    /// `MANIFEST_UNKNOWN`, `DENIED`, …
    #[serde(default, deserialize_with = "lenient::null_is_default")]
    pub code: String,
    /// For people.
    #[serde(default, deserialize_with = "lenient::null_is_default")]
    pub message: String,
}

impl fmt::Display for ErrorBody {
    /// All reasons in one line, without control characters, at most 300 characters.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let reasons: Vec<String> = self
            .errors
            .iter()
            .map(|entry| match (entry.code.is_empty(), entry.message.is_empty()) {
                (false, false) => format!("{}: {}", entry.code, entry.message),
                _ => format!("{}{}", entry.code, entry.message),
            })
            .filter(|reason| !reason.is_empty())
            .collect();
        let text = reasons.join("; ");
        let printable = text.chars().map(|character| if character.is_control() { ' ' } else { character });
        f.write_str(&printable.take(300).collect::<String>())
    }
}

/// The answer of `GET /v2/<name>/tags/list`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TagList {
    /// The repository.
    #[serde(default, deserialize_with = "lenient::null_is_default")]
    pub name: String,
    /// One page of its tags.
    #[serde(default, deserialize_with = "lenient::null_is_default")]
    pub tags: Vec<String>,
}

/// The answer of a token server (distribution's `docs/spec/auth/token.md` and `oauth.md`).
#[derive(Clone, Default, PartialEq, Eq, Deserialize)]
pub struct TokenAnswer {
    /// The bearer token.
    #[serde(default, deserialize_with = "lenient::null_is_default")]
    pub token: String,
    /// The same by its OAuth 2 name.
    #[serde(default, deserialize_with = "lenient::null_is_default")]
    pub access_token: String,
    /// Seconds for which the token is good; 60 when absent.
    #[serde(default)]
    pub expires_in: Option<u64>,
    /// An identity token to be kept instead of the password.
    #[serde(default, deserialize_with = "lenient::null_is_default")]
    pub refresh_token: String,
}

impl TokenAnswer {
    /// The token under either name, if there is one.
    pub fn bearer(&self) -> Option<&str> {
        [&self.token, &self.access_token].into_iter().find(|token| !token.is_empty()).map(String::as_str)
    }
}

impl fmt::Debug for TokenAnswer {
    /// Without the secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TokenAnswer").field("expires_in", &self.expires_in).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn error_bodies() {
        let text = "{\"errors\":[{\"code\":\"DENIED\",\"message\":\"no\\u001b[31m\",\"detail\":{\"a\":1}},null]}";
        let body: ErrorBody = serde_json::from_str(text).unwrap();
        assert_eq!(body.to_string(), "DENIED: no [31m");
        assert_eq!(serde_json::from_str::<ErrorBody>("{\"errors\":null}").unwrap().to_string(), "");
    }

    #[test]
    fn tokens_by_either_name() {
        let answer: TokenAnswer = serde_json::from_str("{\"access_token\":\"t\",\"expires_in\":300}").unwrap();
        assert_eq!(answer.bearer(), Some("t"));
        assert!(!format!("{answer:?}").contains("\"t\""));
        assert_eq!(TokenAnswer::default().bearer(), None);
    }
}
