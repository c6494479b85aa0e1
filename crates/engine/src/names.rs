//! Names and identifiers: what a container may be called, and what it is called when nobody says.

use crate::error::{Context, Error, Kind, Result};

const ADJECTIVES: &[&str] = &[
    "able", "airy", "amber", "ample", "azure", "bold", "brave", "breezy", "bright", "brisk", "calm", "candid", "clear",
    "clever", "coastal", "copper", "coral", "crisp", "daring", "deep", "eager", "early", "easy", "even", "fair",
    "fast", "fine", "fluent", "fresh", "gentle", "glad", "golden", "grand", "handy", "hardy", "keen", "kind", "light",
    "lively", "lucid", "mellow", "merry", "misty", "modest", "neat", "nimble", "noble", "open", "patient", "plain",
    "proud", "quick", "quiet", "ready", "rosy", "salty", "sandy", "serene", "sharp", "silver", "smart", "smooth",
    "snug", "spry", "steady", "sturdy", "sunny", "swift", "tidal", "tidy", "trim", "true", "vivid", "warm", "wide",
    "windy", "wise", "witty", "young", "zesty",
];

const NOUNS: &[&str] = &[
    "anchor",
    "atoll",
    "barge",
    "bay",
    "beacon",
    "bell",
    "boom",
    "bow",
    "breeze",
    "bridge",
    "buoy",
    "cabin",
    "canvas",
    "cape",
    "captain",
    "cargo",
    "chart",
    "clipper",
    "coast",
    "compass",
    "coral",
    "course",
    "cove",
    "crane",
    "crew",
    "current",
    "cutter",
    "davit",
    "deck",
    "delta",
    "dock",
    "dolphin",
    "drift",
    "fathom",
    "ferry",
    "fjord",
    "fleet",
    "galley",
    "gull",
    "halyard",
    "harbour",
    "haven",
    "helm",
    "heron",
    "hold",
    "horizon",
    "hull",
    "island",
    "jetty",
    "keel",
    "ketch",
    "knot",
    "lagoon",
    "lantern",
    "lateen",
    "lighthouse",
    "mast",
    "monsoon",
    "mooring",
    "oar",
    "ocean",
    "otter",
    "pelican",
    "pier",
    "pilot",
    "port",
    "quay",
    "raft",
    "reef",
    "rigging",
    "rudder",
    "sail",
    "schooner",
    "sextant",
    "shoal",
    "skiff",
    "sloop",
    "spar",
    "strait",
    "surf",
    "tern",
    "tide",
    "tiller",
    "wave",
    "wharf",
    "wind",
];

/// A new identifier: 64 random hexadecimal digits, never all decimal in the first 12, which become a host name.
pub(crate) fn identifier() -> Result<String> {
    loop {
        let mut bytes = [0u8; 32];
        random(&mut bytes)?;
        let id: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        if !id[..12].bytes().all(|b| b.is_ascii_digit()) {
            return Ok(id);
        }
    }
}

/// A random name, `adjective_noun`; with `attempt` above 2 a number is added, as a name is then likely to be taken.
pub(crate) fn random_name(attempt: u32) -> Result<String> {
    let mut bytes = [0u8; 6];
    random(&mut bytes)?;
    let pick =
        |list: &[&'static str], high: u8, low: u8| list[(usize::from(high) << 8 | usize::from(low)) % list.len()];
    let name = format!("{}_{}", pick(ADJECTIVES, bytes[0], bytes[1]), pick(NOUNS, bytes[2], bytes[3]));
    Ok(match attempt {
        0..=2 => name,
        _ => format!("{name}{}", u16::from_be_bytes([bytes[4], bytes[5]])),
    })
}

fn random(bytes: &mut [u8]) -> Result<()> {
    let wanted = bytes.len();
    // Up to 256 bytes come whole once the pool is initialised (getrandom(2)).
    match rustix::rand::getrandom(bytes, rustix::rand::GetRandomFlags::empty()) {
        Ok(filled) if filled == wanted => Ok(()),
        Ok(_) => Err(Error::new(Kind::Internal, "getrandom returned too few bytes")),
        Err(errno) => Err(errno).internal(|| "cannot get random bytes".into()),
    }
}

/// A name without the slash that Docker shows and takes before it.
pub(crate) fn bare(name: &str) -> &str {
    name.strip_prefix('/').unwrap_or(name)
}

/// Checks a name that the user chose, by Docker's rule `[a-zA-Z0-9][a-zA-Z0-9_.-]+`.
pub(crate) fn check(name: &str) -> Result<()> {
    let body = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-');
    let mut bytes = name.bytes();
    let good = bytes.next().is_some_and(|b| b.is_ascii_alphanumeric()) && name.len() >= 2 && bytes.all(body);
    if good {
        return Ok(());
    }
    Err(Error::new(
        Kind::InvalidArgument,
        format!("Invalid container name ({name}), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed, two characters at least"),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_follow_the_rule() {
        for good in ["ab", "a_b", "web-1.x", "0a"] {
            assert!(check(good).is_ok(), "{good}");
        }
        for bad in ["", "a", "_a", "-ab", "a b", "a/b", "é1", "../x"] {
            assert!(check(bad).is_err(), "{bad}");
        }
        for attempt in 0..50 {
            assert!(check(&random_name(attempt).unwrap()).is_ok());
        }
        assert_eq!(identifier().unwrap().len(), 64);
    }
}
