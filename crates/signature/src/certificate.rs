//! Short-lived certificates for code signing, as Fulcio makes them: who signed, vouched for by an authority known here.

use crate::der::{self, Values, tag};
use crate::key::PublicKey;
use crate::root::Period;
use rustls_pki_types::{CertificateDer, UnixTime};
use std::time::Duration;
use webpki::{EndEntityCert, KeyUsage, anchor_from_trusted_cert};

/// `1.3.6.1.5.5.7.3.3`: code signing (RFC 5280, 4.2.1.12).
const CODE_SIGNING: &[u8] = &[0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x03, 0x03];
/// `2.5.29.17`: a subject's other names.
const OTHER_NAMES: &[u8] = &[0x55, 0x1d, 0x11];
/// `1.3.6.1.4.1.57264.1.1`: who Fulcio had the identity from, as bare text.
const ISSUER: &[u8] = &[0x2b, 0x06, 0x01, 0x04, 0x01, 0x83, 0xbf, 0x30, 0x01, 0x01];
/// `1.3.6.1.4.1.57264.1.8`: the same as a string of DER.
const ISSUER_2: &[u8] = &[0x2b, 0x06, 0x01, 0x04, 0x01, 0x83, 0xbf, 0x30, 0x01, 0x08];

/// What a signer's certificate says.
#[derive(Debug)]
pub(crate) struct Signer {
    pub(crate) key: PublicKey,
    /// Addresses for mail among its names.
    pub(crate) mails: Vec<String>,
    /// URIs among them: a workflow, a machine.
    pub(crate) uris: Vec<String>,
    /// Who vouched for the identity; two that differ are none.
    pub(crate) issuer: Option<String>,
}

/// An authority that vouches for signers.
#[derive(Debug)]
pub(crate) struct Authority {
    /// Its own certificates, of which each may be the end of a chain.
    pub(crate) anchors: Vec<Vec<u8>>,
    /// Certificates that may be between.
    pub(crate) between: Vec<Vec<u8>>,
    /// When it was in use.
    pub(crate) valid: Period,
}

/// The signer of a certificate that one of the authorities vouches for, at a time in seconds since 1970.
pub(crate) fn signer(
    certificate: &[u8],
    between: &[Vec<u8>],
    authorities: &[Authority],
    time: u64,
) -> Result<Signer, &'static str> {
    let mut verdict = Err(NOT_VOUCHED);
    for authority in authorities.iter().filter(|authority| authority.valid.contains(time)) {
        verdict = vouched(certificate, between, authority, time);
        if verdict.is_ok() {
            break;
        }
    }
    verdict?;
    parse(certificate).ok_or("its certificate is malformed")
}

const NOT_VOUCHED: &str = "its certificate is not the policy's authority's, or was not good when it signed";

fn vouched(certificate: &[u8], between: &[Vec<u8>], authority: &Authority, time: u64) -> Result<(), &'static str> {
    let authorities: Vec<CertificateDer<'_>> = authority.anchors.iter().map(|der| der.as_slice().into()).collect();
    let anchors: Result<Vec<_>, _> = authorities.iter().map(anchor_from_trusted_cert).collect();
    let anchors = anchors.map_err(|_| "the policy's authority is not a certificate")?;
    let between: Vec<CertificateDer<'_>> =
        between.iter().chain(&authority.between).map(|der| der.as_slice().into()).collect();
    let leaf = CertificateDer::from(certificate);
    let end = EndEntityCert::try_from(&leaf).map_err(|_| "its certificate is malformed")?;
    let time = UnixTime::since_unix_epoch(Duration::from_secs(time));
    let usage = KeyUsage::required(CODE_SIGNING);
    end.verify_for_usage(webpki::ALL_VERIFICATION_ALGS, &anchors, &between, time, usage, None, None)
        .map_err(|_| NOT_VOUCHED)?;
    Ok(())
}

fn parse(certificate: &[u8]) -> Option<Signer> {
    let mut outer = Values::new(Values::new(certificate).expect(tag::SEQUENCE)?);
    let mut fields = Values::new(outer.expect(tag::SEQUENCE)?);
    let mut info = None;
    let mut extensions = None;
    let mut sequences = 0;
    while let Some((found, value)) = fields.next() {
        match found {
            tag::SEQUENCE => {
                // Algorithm, issuer, validity, subject, key (RFC 5280, 4.1).
                sequences += 1;
                if sequences == 5 {
                    info = Some(value);
                }
            }
            tag::EXTENSIONS => extensions = Some(value),
            _ => {}
        }
    }
    let key = PublicKey::from_inside(info?).ok()?;
    let mut signer = Signer { key, mails: Vec::new(), uris: Vec::new(), issuer: None };
    let mut issuers: Vec<String> = Vec::new();
    let mut list = Values::new(Values::new(extensions?).expect(tag::SEQUENCE)?);
    while let Some((_, extension)) = list.next() {
        let mut extension = Values::new(extension);
        let name = extension.expect(tag::OID)?;
        let value = match extension.next()? {
            (tag::BOOLEAN, _) => extension.expect(tag::OCTET_STRING)?,
            (tag::OCTET_STRING, value) => value,
            _ => return None,
        };
        match name {
            OTHER_NAMES => {
                let mut names = Values::new(Values::new(value).expect(tag::SEQUENCE)?);
                while let Some((found, name)) = names.next() {
                    match found {
                        tag::MAIL => signer.mails.push(text(name)?),
                        tag::URI => signer.uris.push(text(name)?),
                        _ => {}
                    }
                }
            }
            ISSUER => issuers.push(text(value)?),
            ISSUER_2 => issuers.push(text(Values::new(value).expect(tag::UTF8_STRING)?)?),
            _ => {}
        }
    }
    issuers.dedup();
    signer.issuer = issuers.pop().filter(|_| issuers.is_empty());
    Some(signer)
}

fn text(bytes: &[u8]) -> Option<String> {
    String::from_utf8(bytes.to_vec()).ok()
}

/// The certificates of a PEM file.
pub(crate) fn all(text: &str) -> Option<Vec<Vec<u8>>> {
    der::pem(text, "CERTIFICATE").filter(|blocks| !blocks.is_empty())
}
