//! What a signature is made over: which image, and under which name.

use oci::digest::Digest;
use serde::Deserialize;
use serde::de::IgnoredAny;

/// cosign's word for what it signs; a signature for anything else is none.
const KIND: &str = "cosign container image signature";

/// A statement whose signature was good.
#[derive(Debug)]
pub(crate) struct Statement {
    /// The manifest that was signed.
    pub(crate) digest: Digest,
    /// The name under which it was signed, as it was written.
    pub(crate) name: String,
}

#[derive(Deserialize)]
struct Text {
    critical: Critical,
    #[serde(rename = "optional")]
    _optional: Option<IgnoredAny>,
}

// Unknown fields here may change what was meant, so they are refused; twice the same field is refused by serde.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Critical {
    identity: Identity,
    image: Image,
    #[serde(rename = "type")]
    kind: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct Identity {
    docker_reference: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct Image {
    docker_manifest_digest: Digest,
}

impl Statement {
    /// Reads a statement; `None` when it is not one about an image.
    pub(crate) fn parse(bytes: &[u8]) -> Option<Statement> {
        let text: Text = serde_json::from_slice(bytes).ok()?;
        (text.critical.kind == KIND).then_some(Statement {
            digest: text.critical.image.docker_manifest_digest,
            name: text.critical.identity.docker_reference,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Option<Statement> {
        Statement::parse(text.replace('D', &format!("sha256:{}", "a".repeat(64))).as_bytes())
    }

    #[test]
    fn statements() {
        let good = r#"{"critical":{"identity":{"docker-reference":"r.example/a"},"image":{"docker-manifest-digest":"D"},
            "type":"cosign container image signature"},"optional":{"creator":"x","nested":[1]}}"#;
        assert_eq!(parse(good).unwrap().name, "r.example/a");
        assert!(parse(&good.replace(r#""optional":{"creator":"x","nested":[1]}"#, r#""optional":null"#)).is_some());
        for (what, other) in [
            ("another type", good.replace("cosign container image signature", "atomic container signature")),
            ("more to critical", good.replace(r#""identity":"#, r#""only-on-mondays":true,"identity":"#)),
            ("two names", good.replace(r#""r.example/a""#, r#""r.example/a","docker-reference":"b""#)),
            ("two criticals", good.replace(r#""optional""#, r#""critical":{},"optional""#)),
            ("a short digest", good.replace('D', "sha256:abc")),
            ("a path for a digest", good.replace('D', "sha256:../../etc/passwd")),
            ("no json", good.replace('}', "")),
        ] {
            assert!(parse(&other).is_none(), "{what}: {other}");
        }
    }
}
