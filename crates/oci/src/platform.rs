//! Platforms, `os[/architecture[/variant]]`, and which images a host can run.
//!
//! Names, defaults and the order of preference are those of containerd (github.com/containerd/platforms, `database.go`
//! and `compare.go`): `x86_64` is `amd64`, `linux/arm` is `linux/arm/v7`, an arm64 host also runs 32-bit arm images.

use crate::lenient;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// A platform as it stands in an index or an image configuration, or as a user typed it.
///
/// Two spellings of the same platform are equal only after [`Platform::normalised`]; [`FromStr`] normalises.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Platform {
    /// `amd64`, `arm64`, … (Go's GOARCH).
    #[serde(default, deserialize_with = "lenient::null_is_default")]
    pub architecture: String,
    /// `linux`, `windows`, … (Go's GOOS).
    #[serde(default, deserialize_with = "lenient::null_is_default")]
    pub os: String,
    /// Windows' build number; empty elsewhere.
    #[serde(
        rename = "os.version",
        default,
        deserialize_with = "lenient::null_is_default",
        skip_serializing_if = "String::is_empty"
    )]
    pub os_version: String,
    /// Features that the image needs (`win32k`).
    #[serde(
        rename = "os.features",
        default,
        deserialize_with = "lenient::null_is_default",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub os_features: Vec<String>,
    /// `v7`, `v8`, …; empty where the architecture has no variants or it is the base one.
    #[serde(default, deserialize_with = "lenient::null_is_default", skip_serializing_if = "String::is_empty")]
    pub variant: String,
}

/// A string that is not a platform.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{given:?} is not a platform (expected os/architecture[/variant], for example linux/arm64 or linux/arm/v7)")]
pub struct InvalidPlatform {
    given: String,
}

impl Platform {
    /// An operating system and an architecture, normalised.
    pub fn new(os: &str, architecture: &str, variant: &str) -> Platform {
        Platform {
            os: os.to_owned(),
            architecture: architecture.to_owned(),
            variant: variant.to_owned(),
            ..Platform::default()
        }
        .normalised()
    }

    /// The platform that this program was built for, which is the host's.
    pub fn host() -> Platform {
        Platform::new("linux", std::env::consts::ARCH, "")
    }

    /// The same platform with Go's names, lower case, and the variant that goes without saying.
    pub fn normalised(&self) -> Platform {
        let os = match self.os.to_ascii_lowercase().as_str() {
            "macos" => "darwin".to_owned(),
            other => other.to_owned(),
        };
        let (architecture, variant) =
            normalise_architecture(&self.architecture.to_ascii_lowercase(), &self.variant.to_ascii_lowercase());
        Platform { os, architecture, variant, ..self.clone() }
    }

    /// The platforms whose images run here, best first.
    ///
    /// amd64 also runs 386, arm64 also runs arm v8 to v5, arm v7 also runs v6 and v5; a higher micro-architecture level
    /// runs the lower ones.
    pub fn preferences(&self) -> Vec<Platform> {
        let this = self.normalised();
        let with = |architecture: &str, variant: &str| Platform {
            architecture: architecture.to_owned(),
            variant: variant.to_owned(),
            os: this.os.clone(),
            ..Platform::default()
        };
        let levels = |architecture: &str, from: u8, to: u8| {
            (to..=from).rev().map(|level| with(architecture, &format!("v{level}")).normalised()).collect::<Vec<_>>()
        };
        let level = |default: u8| match this.variant.as_str() {
            "" => Some(default),
            text => text.strip_prefix('v').and_then(|digits| digits.parse().ok()),
        };
        match (this.architecture.as_str(), level(1)) {
            ("amd64", Some(level @ 1..=9)) => [levels("amd64", level, 1), vec![with("386", "")]].concat(),
            ("arm", Some(level @ 5..=9)) => levels("arm", level, 5),
            ("arm64", _) => {
                let mut list =
                    arm64_levels(&this.variant).iter().map(|v| with("arm64", v).normalised()).collect::<Vec<_>>();
                if list.is_empty() {
                    list.push(this.clone());
                }
                list.extend(levels("arm", 8, 5));
                list
            }
            _ => vec![Platform { os_version: String::new(), os_features: Vec::new(), ..this }],
        }
    }

    /// How well an image for `offered` suits a host of this platform: 0 is best, `None` does not run.
    pub fn rank(&self, offered: &Platform) -> Option<usize> {
        let offered = offered.normalised();
        self.preferences().iter().position(|wanted| wanted.same(&offered))
    }

    fn same(&self, other: &Platform) -> bool {
        self.os == other.os && self.architecture == other.architecture && self.variant == other.variant
    }
}

/// The arm64 variants that a processor of this one runs, best first: v9.n is v8.(n+5) and more (containerd, `compare.go`).
fn arm64_levels(variant: &str) -> Vec<String> {
    let text = match variant {
        "" => "v8",
        text => text,
    };
    let Some((major, minor)) = text.strip_prefix('v').and_then(|digits| {
        let (major, minor) = digits.split_once('.').unwrap_or((digits, "0"));
        Some((major.parse::<u8>().ok()?, minor.parse::<u8>().ok()?))
    }) else {
        return Vec::new();
    };
    let name = |major: u8, minor: u8| match minor {
        0 => format!("v{major}"),
        _ => format!("v{major}.{minor}"),
    };
    let down = |major: u8, minor: u8| (0..=minor).rev().map(move |minor| name(major, minor));
    match major {
        8 if minor <= 9 => down(8, minor).collect(),
        9 if minor <= 9 => down(9, minor).chain(down(8, (minor + 5).min(9))).collect(),
        _ => Vec::new(),
    }
}

fn normalise_architecture(architecture: &str, variant: &str) -> (String, String) {
    let (architecture, variant) = match (architecture, variant) {
        ("i386" | "i486" | "i586" | "i686" | "x86", _) => ("386", ""),
        ("386", _) => ("386", ""),
        ("x86_64" | "x86-64" | "amd64", "v1" | "1" | "") => ("amd64", ""),
        ("x86_64" | "x86-64" | "amd64", variant) => ("amd64", variant),
        ("aarch64" | "arm64", "" | "8" | "v8" | "v8.0" | "8.0") => ("arm64", ""),
        ("aarch64" | "arm64", "9" | "v9.0" | "9.0") => ("arm64", "v9"),
        ("aarch64" | "arm64", variant) => ("arm64", variant),
        ("armhf", _) => ("arm", "v7"),
        ("armel", _) => ("arm", "v6"),
        ("arm", "" | "7") => ("arm", "v7"),
        ("arm", "5") => ("arm", "v5"),
        ("arm", "6") => ("arm", "v6"),
        ("arm", "8") => ("arm", "v8"),
        // What Rust and the kernel call what Go calls otherwise.
        ("powerpc64le", variant) => ("ppc64le", variant),
        ("loongarch64", variant) => ("loong64", variant),
        other => other,
    };
    let variant = match variant.bytes().next() {
        Some(b'0'..=b'9') => format!("v{variant}"),
        _ => variant.to_owned(),
    };
    (architecture.to_owned(), variant)
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.os, self.architecture)?;
        match self.variant.is_empty() {
            true => Ok(()),
            false => write!(f, "/{}", self.variant),
        }
    }
}

impl FromStr for Platform {
    type Err = InvalidPlatform;

    /// `os/architecture/variant`, `os/architecture`, or one of the two alone, the other being the host's.
    fn from_str(text: &str) -> Result<Platform, InvalidPlatform> {
        let invalid = || InvalidPlatform { given: text.chars().take(80).collect() };
        let is_word = |part: &&str| {
            !part.is_empty()
                && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.'))
        };
        let parts: Vec<&str> = text.split('/').collect();
        if !parts.iter().all(is_word) {
            return Err(invalid());
        }
        match parts.as_slice() {
            [one] if is_known_os(&one.to_ascii_lowercase()) => Ok(Platform::new(one, std::env::consts::ARCH, "")),
            [one] => {
                let platform = Platform::new("linux", one, "");
                match is_known_architecture(&platform.architecture) {
                    true => Ok(platform),
                    false => Err(invalid()),
                }
            }
            [os, architecture] => Ok(Platform::new(os, architecture, "")),
            [os, architecture, variant] => Ok(Platform::new(os, architecture, variant)),
            _ => Err(invalid()),
        }
    }
}

fn is_known_os(os: &str) -> bool {
    matches!(os, "linux" | "windows" | "darwin" | "macos" | "freebsd" | "netbsd" | "openbsd" | "solaris" | "wasip1")
}

fn is_known_architecture(architecture: &str) -> bool {
    matches!(
        architecture,
        "386"
            | "amd64"
            | "arm"
            | "arm64"
            | "loong64"
            | "mips"
            | "mipsle"
            | "mips64"
            | "mips64le"
            | "ppc64"
            | "ppc64le"
            | "riscv64"
            | "s390x"
            | "wasm"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(text: &str) -> Vec<String> {
        text.parse::<Platform>().unwrap().preferences().iter().map(Platform::to_string).collect()
    }

    #[test]
    fn spellings() {
        for (given, normalised) in [
            ("linux/amd64", "linux/amd64"),
            ("linux/x86_64", "linux/amd64"),
            ("Linux/AMD64/v1", "linux/amd64"),
            ("linux/amd64/v3", "linux/amd64/v3"),
            ("linux/aarch64", "linux/arm64"),
            ("linux/arm64/v8", "linux/arm64"),
            ("linux/arm64/8", "linux/arm64"),
            ("linux/arm64/9", "linux/arm64/v9"),
            ("linux/arm", "linux/arm/v7"),
            ("linux/arm/6", "linux/arm/v6"),
            ("linux/armhf", "linux/arm/v7"),
            ("linux/armel", "linux/arm/v6"),
            ("linux/i386", "linux/386"),
            ("macos/arm64", "darwin/arm64"),
            ("arm64", "linux/arm64"),
            ("s390x", "linux/s390x"),
        ] {
            assert_eq!(given.parse::<Platform>().unwrap().to_string(), normalised, "{given}");
        }
        assert_eq!("linux".parse::<Platform>().unwrap(), Platform::host());
        for bad in ["", "/", "linux/", "plan9x", "a/b/c/d", "linux/am d64", "linux/../x/"] {
            assert!(bad.parse::<Platform>().is_err(), "{bad}");
        }
    }

    #[test]
    fn order_of_preference() {
        assert_eq!(names("linux/amd64"), ["linux/amd64", "linux/386"]);
        assert_eq!(names("linux/amd64/v3"), ["linux/amd64/v3", "linux/amd64/v2", "linux/amd64", "linux/386"]);
        assert_eq!(names("linux/arm/v7"), ["linux/arm/v7", "linux/arm/v6", "linux/arm/v5"]);
        assert_eq!(
            names("linux/arm64"),
            ["linux/arm64", "linux/arm/v8", "linux/arm/v7", "linux/arm/v6", "linux/arm/v5"]
        );
        assert_eq!(
            names("linux/arm64/v9")[..4],
            ["linux/arm64/v9", "linux/arm64/v8.5", "linux/arm64/v8.4", "linux/arm64/v8.3"]
        );
        assert_eq!(names("linux/s390x"), ["linux/s390x"]);
    }

    #[test]
    fn ranks() {
        let host = Platform::new("linux", "amd64", "");
        let offered = |os: &str, architecture: &str, variant: &str| Platform {
            os: os.into(),
            architecture: architecture.into(),
            variant: variant.into(),
            ..Platform::default()
        };
        assert_eq!(host.rank(&offered("linux", "x86_64", "v1")), Some(0));
        assert_eq!(host.rank(&offered("linux", "386", "")), Some(1));
        assert_eq!(host.rank(&offered("linux", "amd64", "v2")), None);
        assert_eq!(host.rank(&offered("windows", "amd64", "")), None);
        assert_eq!(host.rank(&offered("unknown", "unknown", "")), None);
        assert_eq!(Platform::new("linux", "arm64", "").rank(&offered("linux", "arm64", "v8")), Some(0));
    }
}
