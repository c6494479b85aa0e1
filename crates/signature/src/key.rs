//! Public keys, and signatures by them: ECDSA on P-256 and P-384, Ed25519, RSA (PKCS #1 v1.5) from 2048 bits, with SHA-256 as
//! cosign signs with each of them.

use crate::der::{self, Values, tag};
use ring::signature::{self as algorithms, UnparsedPublicKey, VerificationAlgorithm};

/// `1.2.840.10045.2.1`: a point on a curve.
const EC: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01];
/// `1.2.840.10045.3.1.7`
const P256: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07];
/// `1.3.132.0.34`
const P384: &[u8] = &[0x2b, 0x81, 0x04, 0x00, 0x22];
/// `1.2.840.113549.1.1.1`
const RSA: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01];
/// `1.3.101.112`
const ED25519: &[u8] = &[0x2b, 0x65, 0x70];

/// A key that cannot be used.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum InvalidKey {
    /// No `PUBLIC KEY` block.
    #[error("it is not a public key (PEM, \"BEGIN PUBLIC KEY\")")]
    NotPem,
    /// A block that is no key.
    #[error("its public key is malformed")]
    Malformed,
    /// A key of another kind.
    #[error("its public key is of a kind that is not supported; ECDSA P-256 and P-384, Ed25519 and RSA are")]
    Unsupported,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    P256,
    P384,
    Ed25519,
    Rsa,
}

/// A public key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PublicKey {
    kind: Kind,
    /// As the algorithm wants it: a point, 32 bytes, an `RSAPublicKey`.
    bytes: Vec<u8>,
}

impl PublicKey {
    /// A key from a PEM file.
    pub(crate) fn from_pem(text: &str) -> Result<PublicKey, InvalidKey> {
        let blocks = der::pem(text, "PUBLIC KEY").ok_or(InvalidKey::Malformed)?;
        PublicKey::from_info(blocks.first().ok_or(InvalidKey::NotPem)?)
    }

    /// A key from a `SubjectPublicKeyInfo` (RFC 5280, 4.1).
    pub(crate) fn from_info(info: &[u8]) -> Result<PublicKey, InvalidKey> {
        let mut outer = Values::new(info);
        let inside = outer.expect(tag::SEQUENCE).ok_or(InvalidKey::Malformed)?;
        if !outer.is_empty() {
            return Err(InvalidKey::Malformed);
        }
        PublicKey::from_inside(inside)
    }

    /// The same without the tag and the length around it.
    pub(crate) fn from_inside(info: &[u8]) -> Result<PublicKey, InvalidKey> {
        let mut info = Values::new(info);
        let mut algorithm = Values::new(info.expect(tag::SEQUENCE).ok_or(InvalidKey::Malformed)?);
        let name = algorithm.expect(tag::OID).ok_or(InvalidKey::Malformed)?;
        let bits = info.expect(tag::BIT_STRING).and_then(der::whole_bytes).ok_or(InvalidKey::Malformed)?;
        if !info.is_empty() {
            return Err(InvalidKey::Malformed);
        }
        let kind = match name {
            EC => match algorithm.expect(tag::OID) {
                Some(P256) => Kind::P256,
                Some(P384) => Kind::P384,
                _ => return Err(InvalidKey::Unsupported),
            },
            ED25519 => Kind::Ed25519,
            RSA => Kind::Rsa,
            _ => return Err(InvalidKey::Unsupported),
        };
        Ok(PublicKey { kind, bytes: bits.to_vec() })
    }

    /// Whether `signature` is this key's for `message`.
    pub(crate) fn verifies(&self, message: &[u8], signature: &[u8]) -> bool {
        let algorithm: &'static dyn VerificationAlgorithm = match self.kind {
            Kind::P256 => &algorithms::ECDSA_P256_SHA256_ASN1,
            Kind::P384 => &algorithms::ECDSA_P384_SHA256_ASN1,
            Kind::Ed25519 => &algorithms::ED25519,
            Kind::Rsa => &algorithms::RSA_PKCS1_2048_8192_SHA256,
        };
        UnparsedPublicKey::new(algorithm, &self.bytes).verify(message, signature).is_ok()
    }
}
