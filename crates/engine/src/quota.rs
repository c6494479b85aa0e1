//! `--storage-opt size=`: how much a container may write to its own layer.
//!
//! A layer with a size is a sparse file with an ext4 file system in it (`store::Writable::create_limited`), mounted on a loop device
//! that goes with its last user. Nothing is asked of the file system below, and nothing is left by whoever is killed. `df` in the
//! container shows the size, and what is deleted is freed on the host.

use crate::containers::record::Settings;
use crate::engine::Engine;
use crate::error::{Error, Kind, Result};
use std::collections::BTreeMap;

const SIZE: &str = "size";

fn invalid(message: impl Into<String>) -> Error {
    Error::new(Kind::InvalidArgument, message)
}

/// The options as they are recorded; those that could not be used are refused.
pub(crate) fn options(asked: &BTreeMap<String, String>) -> Result<BTreeMap<String, String>> {
    let mut options = BTreeMap::new();
    for (key, value) in asked {
        // Docker takes the name in any case.
        if !key.eq_ignore_ascii_case(SIZE) {
            return Err(invalid(format!("unknown storage option: {key}")).hint("known is size"));
        }
        bytes(value)?;
        options.insert(SIZE.to_owned(), value.clone());
    }
    Ok(options)
}

/// Whether the container's own layer has a size.
pub(crate) fn is_limited(settings: &Settings) -> bool {
    limit(settings).is_ok_and(|limit| limit.is_some())
}

/// Bytes that the container may write; `None` for no limit, which is also what 0 means.
pub(crate) fn limit(settings: &Settings) -> Result<Option<u64>> {
    let size = settings.storage_options.get(SIZE).map(|text| bytes(text)).transpose()?;
    Ok(size.filter(|size| *size > 0))
}

/// A size as Docker has it: a number with a unit, powers of 1024 whatever they are called.
pub(crate) fn bytes(text: &str) -> Result<u64> {
    let wrong = || invalid(format!("invalid size: '{text}'")).hint("a number with a unit, such as 512m or 10G");
    let end = text.find(|letter: char| !letter.is_ascii_digit() && letter != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    let number: f64 = number.parse().map_err(|_| wrong())?;
    let unit = unit.strip_prefix(' ').unwrap_or(unit).to_ascii_lowercase();
    let power = match unit.trim_end_matches('b').trim_end_matches('i') {
        "" if unit.len() < 2 => 0,
        "k" => 10,
        "m" => 20,
        "g" => 30,
        "t" => 40,
        "p" => 50,
        _ => return Err(wrong()),
    };
    let bytes = number * (1_u64 << power) as f64;
    // What ext4 can hold in blocks that 32 bits count.
    if bytes > (15_u64 << 40) as f64 {
        return Err(invalid(format!("the size {text} is too large")).hint("15t is the most"));
    }
    Ok(bytes as u64)
}

impl Engine {
    /// Refuses a limit where there can be none.
    pub(crate) fn check_limit(&self, settings: &Settings) -> Result<()> {
        if limit(settings)?.is_some() && self.host()?.user_namespace {
            return Err(invalid(
                "--storage-opt size needs root: an ordinary user can mount no file system of limited size",
            )
            .hint("use --read-only and give it a place of limited size: --mount type=tmpfs,dst=PATH,tmpfs-size=…"));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        for (text, expected) in [
            ("0", 0),
            ("4096", 4096),
            ("10b", 10),
            ("1k", 1 << 10),
            ("10M", 10 << 20),
            ("1.5g", 3 << 29),
            ("2GiB", 2 << 30),
            ("2 gb", 2 << 30),
        ] {
            assert_eq!(bytes(text).unwrap(), expected, "{text}");
        }
        for text in ["", "g", "-1g", "1x", "1.2.3g", "1bb", "1e3", "16t", "1 000"] {
            assert!(bytes(text).is_err(), "{text}");
        }
    }

    #[test]
    fn other_options_are_refused() {
        let map = |key: &str, value: &str| BTreeMap::from([(key.to_owned(), value.to_owned())]);
        assert_eq!(options(&map("Size", "1g")).unwrap(), map("size", "1g"));
        assert!(options(&map("inodes", "1")).unwrap_err().to_string().contains("unknown storage option: inodes"));
        assert!(options(&map("size", "much")).is_err());
        let settings = Settings { storage_options: map("size", "0"), ..Settings::default() };
        assert!(!is_limited(&settings));
    }
}
