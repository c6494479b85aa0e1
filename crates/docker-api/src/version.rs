//! Versions of the API: `/v1.41/…`, and paths without one, which mean the newest.

use crate::failure::Failure;

/// The oldest version that is answered, the one below which no Docker of the last ten years goes.
pub const OLDEST: Version = Version(24);
/// The newest version that is answered, and what paths without a version mean: Docker 29.8.
pub const NEWEST: Version = Version(56);

/// A version `1.N`; the number is N.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version(pub u16);

impl std::fmt::Display for Version {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "1.{}", self.0)
    }
}

/// Takes a version off a path. `None` for the version when the path has none.
///
/// # Errors
/// 400 for a version that is not answered, in the words by which clients negotiate.
pub fn split(path: &str) -> Result<(Version, &str), Failure> {
    let Some(rest) = path.strip_prefix("/v") else { return Ok((NEWEST, path)) };
    let (text, rest) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.') {
        // `/volumes` is no version.
        return Ok((NEWEST, path));
    }
    let Some(minor) = text.strip_prefix("1.").and_then(|minor| minor.parse().ok()) else {
        return Err(Failure::bad(format!("invalid API version {text}: versions are {OLDEST} to {NEWEST}")));
    };
    let version = Version(minor);
    if version < OLDEST {
        return Err(Failure::bad(format!(
            "client version {version} is too old. Minimum supported API version is {OLDEST}, please upgrade your client to a newer version"
        )));
    }
    if version > NEWEST {
        return Err(Failure::bad(format!(
            "client version {version} is too new. Maximum supported API version is {NEWEST}"
        )));
    }
    Ok((version, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn table() {
        assert_eq!(split("/v1.41/info").unwrap(), (Version(41), "/info"));
        assert_eq!(split("/v1.24").unwrap(), (Version(24), ""));
        assert_eq!(split("/info").unwrap(), (NEWEST, "/info"));
        assert_eq!(split("/volumes").unwrap(), (NEWEST, "/volumes"));
        assert_eq!(split("/version").unwrap(), (NEWEST, "/version"));
        for (path, words) in [("/v1.23/info", "too old"), ("/v1.99/info", "too new"), ("/v2.0/info", "invalid")] {
            assert!(split(path).unwrap_err().to_string().contains(words), "{path}");
        }
    }
}
