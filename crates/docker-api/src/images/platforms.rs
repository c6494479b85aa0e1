//! `platform` and `platforms` of requests: the JSON object of OCI, or the words of before, `os/architecture/variant`.

use crate::failure::Failure;
use crate::query::Query;
use engine::Image;
use oci::platform::Platform;

/// The platforms that a parameter names.
///
/// # Errors
/// 400 for what is no platform.
pub fn asked(query: &Query, key: &str) -> Result<Vec<Platform>, Failure> {
    query.all(key).filter(|text| !text.is_empty()).map(platform).collect()
}

/// The one platform that a parameter names.
///
/// # Errors
/// 400 for what is no platform, 501 for several.
pub fn one(query: &Query, key: &str) -> Result<Option<Platform>, Failure> {
    match asked(query, key)?.as_slice() {
        [] => Ok(None),
        [one] => Ok(Some(one.clone())),
        _ => Err(Failure::unsupported("more than one platform of an image")),
    }
}

fn platform(text: &str) -> Result<Platform, Failure> {
    let invalid = || Failure::bad(format!("invalid platform: {text:?}"));
    // The words of containerd's library.
    let refused = || match text.contains('/') || text.trim().is_empty() {
        true => {
            Failure::bad(format!("{text:?} is an invalid OS component or architecture of a platform: invalid argument"))
        }
        false => Failure::bad(format!("{text:?}: unknown operating system or architecture: invalid argument")),
    };
    if !text.starts_with('{') {
        return text.parse().map_err(|_| refused());
    }
    let platform: Platform = serde_json::from_str(text).map_err(|_| invalid())?;
    let whole = !platform.os.is_empty() && !platform.architecture.is_empty();
    if whole {
        Ok(platform)
    } else {
        Err(Failure::bad(format!("invalid platform: {text}: os and architecture are required")))
    }
}

/// An image here is for one platform: that must be the one that was asked for.
///
/// # Errors
/// 404 in Docker's words.
pub fn check(image: &Image, name: &str, wanted: &[Platform]) -> Result<(), Failure> {
    match wanted.iter().find(|wanted| wanted.rank(&image.config.platform).is_none()) {
        None => Ok(()),
        Some(other) => Err(Failure::missing(format!(
            "image with reference {name} was found but its platform ({}) does not match the specified platform ({other})",
            image.config.platform
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms() {
        let query = Query::parse(
            "p=%7B%22os%22%3A%22linux%22%2C%22architecture%22%3A%22arm64%22%7D&p=linux/amd64&q=&x=%7B&y=%7B%7D",
        );
        let names: Vec<String> = asked(&query, "p").unwrap().iter().map(ToString::to_string).collect();
        assert_eq!(names, ["linux/arm64", "linux/amd64"]);
        assert!(asked(&query, "q").unwrap().is_empty() && one(&query, "none").unwrap().is_none());
        assert!(one(&query, "p").is_err() && asked(&query, "x").is_err() && asked(&query, "y").is_err());
    }
}
