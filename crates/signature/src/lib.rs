//! Whether an image may be used: a policy file, and signatures as cosign makes them, checked against keys, or against
//! certificates and a log of which only the roots are known here. Nothing is asked over a network.
//!
//! Pure: bytes in, verdict out. Who fetches and keeps signatures is the engine. Formats:
//! - the policy: containers-policy.json(5), read as Podman and skopeo read it ([`Policy`]);
//! - what is signed: `critical` with the image's digest and name (cosign, `specs/SIGNATURE_SPEC.md`; module `payload`);
//! - a log entry's promise: cosign's `bundle` annotation with Rekor's signed entry timestamp (module `log`);
//! - Sigstore's bundle 0.3, as cosign 3 makes it: a statement about a digest in an envelope (module `bundle`), proved to be in the
//!   log (module `inclusion`), all trust from one file if wanted (module `root`).
//!
//! What must never happen: that something is accepted because it could not be read. Every doubt is a refusal, every input is
//! bounded, and of several signatures one that is good is enough while bad ones beside it count for nothing.
#![forbid(unsafe_code)]

mod bundle;
mod certificate;
mod der;
mod inclusion;
mod key;
mod log;
mod payload;
mod policy;
mod root;
mod verdict;

pub use key::InvalidKey;
pub use policy::{InvalidPolicy, Policy, Transport};
pub use verdict::{Refusal, Signature, Subject};

/// Signatures of one image that are looked at; an image with more has no honest reason (CVE-2024-29903).
pub const MOST_SIGNATURES: usize = 100;
/// Bytes of a signed statement, and of each thing beside it, that are read (CVE-2024-29902).
pub const MOST_BYTES: usize = 128 << 10;
