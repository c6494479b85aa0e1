//! Image references: `[host[:port]/]path[:tag][@digest]`, Docker's grammar and its short ("familiar") names.
//!
//! The grammar is that of the distribution project (github.com/distribution/reference, `regexp.go`); the short names
//! follow its `normalize.go`: `redis` means `docker.io/library/redis`, and the first component is a host only if it has
//! a dot or a colon, is `localhost`, or has an upper-case letter.
//!
//! ```text
//! reference   = name [":" tag] ["@" digest]
//! name        = [domain "/"] component *("/" component)
//! domain      = (label *("." label) / "[" IPv6 "]") [":" digits]       label: letters, digits, inner "-"
//! component   = alphanumeric *(separator alphanumeric)                 alphanumeric: a-z 0-9
//! separator   = "." / "_" / "__" / 1*"-"
//! tag         = [A-Za-z0-9_] *127[A-Za-z0-9_.-]
//! ```
//!
//! A [`Reference`] that exists is safe to put into a URL or a file name component by component: none is empty, `.` or `..`.

use crate::digest::Digest;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// Where a name without a host leads.
pub const DEFAULT_DOMAIN: &str = "docker.io";
/// The tag of a reference that has neither tag nor digest.
pub const DEFAULT_TAG: &str = "latest";
/// The longest path, in bytes (distribution/reference `RepositoryNameTotalLengthMax`).
pub const MAX_PATH: usize = 255;
/// The longest tag, in bytes.
pub const MAX_TAG: usize = 128;

const LEGACY_DOMAIN: &str = "index.docker.io";
const OFFICIAL: &str = "library/";

/// A complete image reference: the host is always known, the tag or the digest may be absent.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Reference {
    domain: String,
    path: String,
    tag: Option<String>,
    digest: Option<Digest>,
}

/// A string that is not an image reference; the text says what to change.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidReference {
    /// Nothing was given.
    #[error("an image reference is needed, for example redis or registry.example.com/team/app:1.2")]
    Empty,
    /// 64 hexadecimal digits are an image identifier, never a name.
    #[error("{0} looks like an image identifier, which cannot be used as an image name")]
    Identifier(String),
    /// The path has an upper-case letter.
    #[error("{given:?} is not an image reference: the name must be lowercase; try {suggestion:?}")]
    Uppercase {
        /// The text as it was given.
        given: String,
        /// The same with the path in lower case.
        suggestion: String,
    },
    /// The host is malformed.
    #[error(
        "{given:?} is not an image reference: {domain:?} is not a host name \
         (letters, digits, '-' and '.', or [IPv6], then an optional :port)"
    )]
    Domain {
        /// The text as it was given.
        given: String,
        /// The part that should be a host.
        domain: String,
    },
    /// A component of the path is malformed or empty.
    #[error(
        "{given:?} is not an image reference: {component:?} is not a valid part of a name \
         (a-z and 0-9, with single '.', '_', '__' or dashes between them)"
    )]
    Path {
        /// The text as it was given.
        given: String,
        /// The offending component.
        component: String,
    },
    /// The path is longer than [`MAX_PATH`].
    #[error("the image name has {length} characters, more than the {MAX_PATH} that registries accept")]
    TooLong {
        /// Bytes in the path.
        length: usize,
    },
    /// The tag is malformed.
    #[error(
        "{given:?} is not an image reference: {tag:?} is not a tag \
         (up to 128 letters, digits, '_', '.' and '-', not starting with '.' or '-')"
    )]
    Tag {
        /// The text as it was given.
        given: String,
        /// The offending tag.
        tag: String,
    },
    /// The digest is malformed or of an algorithm that we do not have.
    #[error(
        "{given:?} is not an image reference: {digest:?} is not a digest \
         (sha256: and 64, or sha512: and 128 lower-case hexadecimal digits)"
    )]
    Digest {
        /// The text as it was given.
        given: String,
        /// The offending digest.
        digest: String,
    },
    /// A scheme stands in front.
    #[error("{given:?} is not an image reference: leave out {scheme:?}")]
    Scheme {
        /// The text as it was given.
        given: String,
        /// `https://` or the like.
        scheme: String,
    },
}

impl Reference {
    /// Parses what a user typed, short names included, and adds nothing: `redis` has no tag.
    ///
    /// Use [`Reference::or_latest`] for Docker's default tag.
    pub fn parse(text: &str) -> Result<Reference, InvalidReference> {
        if text.is_empty() {
            return Err(InvalidReference::Empty);
        }
        let given = || shortened(text);
        if let Some(end) = text.find("://") {
            return Err(InvalidReference::Scheme { given: given(), scheme: shortened(&text[..end + 3]) });
        }
        if is_identifier(text) {
            return Err(InvalidReference::Identifier(text.to_owned()));
        }
        let (rest, digest) = match text.split_once('@') {
            Some((rest, digest)) => {
                let parsed = digest
                    .parse()
                    .map_err(|_| InvalidReference::Digest { given: given(), digest: shortened(digest) })?;
                (rest, Some(parsed))
            }
            None => (text, None),
        };
        let (domain, remainder) = split_domain(rest);
        let (path, tag) = match remainder.split_once(':') {
            Some((path, tag)) => (path, Some(tag)),
            None => (remainder, None),
        };
        if !is_domain(domain) {
            return Err(InvalidReference::Domain { given: given(), domain: shortened(domain) });
        }
        check_path(text, path)?;
        if let Some(tag) = tag.filter(|tag| !is_tag(tag)) {
            return Err(InvalidReference::Tag { given: given(), tag: shortened(tag) });
        }
        let path = match domain == DEFAULT_DOMAIN && !path.contains('/') {
            true => format!("{OFFICIAL}{path}"),
            false => path.to_owned(),
        };
        if path.len() > MAX_PATH {
            return Err(InvalidReference::TooLong { length: path.len() });
        }
        Ok(Reference { domain: domain.to_owned(), path, tag: tag.map(str::to_owned), digest })
    }

    /// The host and port of the registry as the user named it, such as `docker.io`, `localhost:5000` or `[::1]:5000`.
    pub fn domain(&self) -> &str {
        &self.domain
    }

    /// The repository within the registry, such as `library/redis`.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// The tag, if one was given or set.
    pub fn tag(&self) -> Option<&str> {
        self.tag.as_deref()
    }

    /// The digest, if one was given or set.
    pub fn digest(&self) -> Option<&Digest> {
        self.digest.as_ref()
    }

    /// `domain/path`, without tag and digest.
    pub fn name(&self) -> String {
        format!("{}/{}", self.domain, self.path)
    }

    /// The name as Docker shows it: without `docker.io/` and `library/` where they go without saying; no tag, no digest.
    pub fn familiar_name(&self) -> String {
        if self.domain != DEFAULT_DOMAIN {
            return self.name();
        }
        match self.path.strip_prefix(OFFICIAL) {
            Some(short) if !short.contains('/') => short.to_owned(),
            _ => self.path.clone(),
        }
    }

    /// The whole reference as Docker shows it: `redis:7` for `docker.io/library/redis:7`.
    pub fn familiar(&self) -> String {
        self.with_suffix(self.familiar_name())
    }

    /// The same reference with [`DEFAULT_TAG`] if it has neither tag nor digest, as Docker's commands read a name.
    pub fn or_latest(mut self) -> Reference {
        if self.tag.is_none() && self.digest.is_none() {
            self.tag = Some(DEFAULT_TAG.to_owned());
        }
        self
    }

    /// The same repository with this tag and no digest.
    ///
    /// # Errors
    /// [`InvalidReference::Tag`] when the text is not a tag.
    pub fn with_tag(&self, tag: &str) -> Result<Reference, InvalidReference> {
        if !is_tag(tag) {
            return Err(InvalidReference::Tag { given: shortened(tag), tag: shortened(tag) });
        }
        Ok(Reference { tag: Some(tag.to_owned()), digest: None, ..self.clone() })
    }

    /// The same repository with this digest and no tag.
    pub fn with_digest(&self, digest: Digest) -> Reference {
        Reference { tag: None, digest: Some(digest), ..self.clone() }
    }

    /// The same repository without tag and digest.
    pub fn without_version(&self) -> Reference {
        Reference { tag: None, digest: None, ..self.clone() }
    }

    /// What names the manifest in `GET /v2/<path>/manifests/<this>`: the digest before the tag, `latest` without either.
    pub fn version(&self) -> String {
        match (&self.digest, &self.tag) {
            (Some(digest), _) => digest.to_string(),
            (None, Some(tag)) => tag.clone(),
            (None, None) => DEFAULT_TAG.to_owned(),
        }
    }

    fn with_suffix(&self, mut text: String) -> String {
        if let Some(tag) = &self.tag {
            text.push(':');
            text.push_str(tag);
        }
        if let Some(digest) = &self.digest {
            text.push('@');
            text.push_str(&digest.to_string());
        }
        text
    }
}

impl fmt::Display for Reference {
    /// The full form, `docker.io/library/redis:7`; parsing it again gives the same reference.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.with_suffix(self.name()))
    }
}

impl FromStr for Reference {
    type Err = InvalidReference;

    fn from_str(text: &str) -> Result<Reference, InvalidReference> {
        Reference::parse(text)
    }
}

impl Serialize for Reference {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Reference {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Reference, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// Whether the text has the form of a complete image or container identifier: 64 lower-case hexadecimal digits.
pub fn is_identifier(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte))
}

/// Whether the text is a valid tag.
pub fn is_tag(text: &str) -> bool {
    let word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    let mut bytes = text.bytes();
    text.len() <= MAX_TAG
        && bytes.next().is_some_and(word)
        && bytes.all(|byte| word(byte) || byte == b'.' || byte == b'-')
}

/// Splits off the registry; what remains is the path with its tag.
fn split_domain(name: &str) -> (&str, &str) {
    let Some((first, rest)) = name.split_once('/') else {
        return (DEFAULT_DOMAIN, name);
    };
    if first == LEGACY_DOMAIN {
        return (DEFAULT_DOMAIN, rest);
    }
    let is_domain =
        first == "localhost" || first.contains(['.', ':', '[']) || first.bytes().any(|byte| byte.is_ascii_uppercase());
    match is_domain {
        true => (first, rest),
        false => (DEFAULT_DOMAIN, name),
    }
}

/// Whether the text is `host[:port]` with a host name, an IPv4 address or a bracketed IPv6 address.
pub fn is_domain(domain: &str) -> bool {
    let (host_is_valid, port) = match domain.strip_prefix('[') {
        Some(rest) => match rest.split_once(']') {
            Some((address, after)) => (
                address.parse::<std::net::Ipv6Addr>().is_ok(),
                after.strip_prefix(':').or(match after.is_empty() {
                    true => None,
                    false => Some("not a port"),
                }),
            ),
            None => return false,
        },
        None => match domain.split_once(':') {
            Some((host, port)) => (is_host_name(host), Some(port)),
            None => (is_host_name(domain), None),
        },
    };
    let is_port =
        |port: &str| !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit()) && port.parse::<u16>().is_ok();
    host_is_valid && port.is_none_or(is_port)
}

fn is_host_name(host: &str) -> bool {
    // 253: RFC 1035 2.3.4, so that no later layer has to ask again.
    let is_label = |label: &str| {
        !label.is_empty()
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
    };
    host.len() <= 253 && host.split('.').all(is_label)
}

fn check_path(given: &str, path: &str) -> Result<(), InvalidReference> {
    if path.bytes().any(|byte| byte.is_ascii_uppercase()) {
        let suggestion = shortened(&given.replacen(path, &path.to_ascii_lowercase(), 1));
        return Err(InvalidReference::Uppercase { given: shortened(given), suggestion });
    }
    match path.split('/').find(|component| !is_component(component)) {
        Some(component) => Err(InvalidReference::Path { given: shortened(given), component: shortened(component) }),
        None => Ok(()),
    }
}

fn is_component(component: &str) -> bool {
    let alphanumeric = |byte: u8| byte.is_ascii_digit() || byte.is_ascii_lowercase();
    let bytes = component.as_bytes();
    let ends = bytes.first().zip(bytes.last());
    if !ends.is_some_and(|(first, last)| alphanumeric(*first) && alphanumeric(*last)) {
        return false;
    }
    // Both ends are alphanumeric, so what lies between two alphanumeric runs is a separator.
    bytes
        .split(|byte| alphanumeric(*byte))
        .filter(|run| !run.is_empty())
        .all(|run| matches!(run, b"." | b"_" | b"__") || run.iter().all(|byte| *byte == b'-'))
}

/// The text for an error message: at most 160 characters of what may be megabytes.
fn shortened(text: &str) -> String {
    text.chars().take(160).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const HEX: &str = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";

    #[test]
    fn short_names_and_full_names() {
        let digest = format!("sha256:{HEX}");
        let table = [
            ("redis", "docker.io/library/redis", "redis"),
            ("redis:7", "docker.io/library/redis:7", "redis:7"),
            ("library/redis", "docker.io/library/redis", "redis"),
            ("docker.io/redis", "docker.io/library/redis", "redis"),
            ("index.docker.io/library/redis:7", "docker.io/library/redis:7", "redis:7"),
            ("team/app", "docker.io/team/app", "team/app"),
            ("docker.io/library/a/b", "docker.io/library/a/b", "library/a/b"),
            ("localhost/x", "localhost/x", "localhost/x"),
            ("localhost:5000/x", "localhost:5000/x", "localhost:5000/x"),
            ("localhost:5000", "docker.io/library/localhost:5000", "localhost:5000"),
            ("example.com/a/b/c:t", "example.com/a/b/c:t", "example.com/a/b/c:t"),
            ("127.0.0.1:5000/a", "127.0.0.1:5000/a", "127.0.0.1:5000/a"),
            ("[::1]:5000/a:b", "[::1]:5000/a:b", "[::1]:5000/a:b"),
            ("[fe80::1]/a", "[fe80::1]/a", "[fe80::1]/a"),
            ("Upper/app", "Upper/app", "Upper/app"),
            ("a/b_c.d__e---f", "docker.io/a/b_c.d__e---f", "a/b_c.d__e---f"),
            ("xn--n3h.com/myimage:xn--n3h.com", "xn--n3h.com/myimage:xn--n3h.com", "xn--n3h.com/myimage:xn--n3h.com"),
        ];
        for (given, full, familiar) in table {
            let reference: Reference = given.parse().unwrap_or_else(|error| panic!("{given}: {error}"));
            assert_eq!(reference.to_string(), full, "{given}");
            assert_eq!(reference.familiar(), familiar, "{given}");
            assert_eq!(full.parse::<Reference>().unwrap(), reference);
            assert_eq!(familiar.parse::<Reference>().unwrap(), reference);
        }
        let both: Reference = format!("redis:7@{digest}").parse().unwrap();
        assert_eq!(both.tag(), Some("7"));
        assert_eq!(both.version(), digest);
        assert_eq!(both.familiar(), format!("redis:7@{digest}"));
        assert_eq!(Reference::parse("redis").unwrap().or_latest().to_string(), "docker.io/library/redis:latest");
        assert_eq!(both.clone().or_latest(), both);
    }

    #[test]
    fn refusals_say_what_to_do() {
        let long = format!("example.com/{}", "a".repeat(256));
        let table = [
            ("", "is needed"),
            (HEX, "image identifier"),
            ("https://example.com/a", "leave out \"https://\""),
            ("example.com/Team/App:1", "try \"example.com/team/app:1\""),
            ("Redis", "try \"redis\""),
            ("exa_mple.com/a", "is not a host name"),
            ("-a.com/a", "is not a host name"),
            ("a.com:99999/a", "is not a host name"),
            ("a.com:/a", "is not a host name"),
            ("[::1/a", "is not a host name"),
            ("[::1]x/a", "is not a host name"),
            ("[::g]/a", "is not a host name"),
            ("a.com/", "\"\" is not a valid part"),
            ("a.com//b", "\"\" is not a valid part"),
            ("a/../b", "\"..\" is not a valid part"),
            ("a___b", "\"a___b\" is not a valid part"),
            ("a..b/c/d/é", "is not"),
            ("a b", "is not a valid part"),
            ("a:", "\"\" is not a tag"),
            ("a:-x", "is not a tag"),
            ("a:b:c", "is not a tag"),
            ("a@sha256:12", "is not a digest"),
            ("a@sha384:12", "is not a digest"),
            ("a@", "is not a digest"),
            (&long, "256 characters"),
        ];
        for (given, expected) in table {
            let error = given.parse::<Reference>().expect_err(given).to_string();
            assert!(error.contains(expected), "{given}: {error}");
        }
        assert!(Reference::parse(&format!("a:{}", "t".repeat(128))).is_ok());
        assert!(Reference::parse(&format!("a:{}", "t".repeat(129))).is_err());
        assert!(Reference::parse(&format!("example.com/{}", "a".repeat(255))).is_ok());
        // docker.io adds "library/", which counts.
        assert!(Reference::parse(&"a".repeat(250)).is_err());
    }

    proptest! {
        #[test]
        fn any_text_is_parsed_or_refused(text in any::<String>()) {
            if let Ok(reference) = text.parse::<Reference>() {
                prop_assert_eq!(reference.to_string().parse::<Reference>().unwrap(), reference);
            }
        }

        #[test]
        fn near_references_round_trip(text in "([a-zA-Z0-9.:\\[\\]-]{1,12}/)?[a-z0-9._/-]{1,20}(:[A-Za-z0-9_.-]{1,5})?") {
            if let Ok(reference) = text.parse::<Reference>() {
                prop_assert_eq!(&reference.to_string().parse::<Reference>().unwrap(), &reference);
                prop_assert_eq!(&reference.familiar().parse::<Reference>().unwrap(), &reference);
                prop_assert!(reference.path().split('/').all(|part| !part.is_empty() && part != "." && part != ".."));
            }
        }
    }
}
