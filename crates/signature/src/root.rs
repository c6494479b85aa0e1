//! Whom to trust, from one file: Sigstore's trusted root (`trusted_root.json`): authorities, logs, and when each was in use.
//!
//! Its logs of certificates and its authorities for timestamps are not read.

use crate::certificate::Authority;
use crate::key::PublicKey;
use crate::log::Log;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;

/// A trusted root that cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum InvalidRoot {
    #[error("it is not a trusted root of Sigstore")]
    Malformed(#[from] serde_json::Error),
    #[error("it is of the type {0:?}, which is not supported")]
    Type(String),
    #[error("{0} in it is malformed")]
    Part(&'static str),
}

/// A time in which something counts, in seconds since 1970; both ends belong to it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Period {
    from: i64,
    until: i64,
}

impl Period {
    pub(crate) const EVER: Period = Period { from: i64::MIN, until: i64::MAX };

    pub(crate) fn contains(self, time: u64) -> bool {
        i64::try_from(time).is_ok_and(|time| (self.from..=self.until).contains(&time))
    }
}

/// What the file says.
#[derive(Debug)]
pub(crate) struct Root {
    pub(crate) authorities: Vec<Authority>,
    pub(crate) logs: Vec<Log>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Text {
    media_type: String,
    #[serde(default)]
    tlogs: Vec<LogText>,
    #[serde(default)]
    certificate_authorities: Vec<AuthorityText>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct LogText {
    public_key: KeyText,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct KeyText {
    raw_bytes: String,
    valid_for: PeriodText,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct AuthorityText {
    cert_chain: Chain,
    valid_for: PeriodText,
}

#[derive(Deserialize)]
struct Chain {
    certificates: Vec<Raw>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Raw {
    raw_bytes: String,
}

#[derive(Deserialize)]
struct PeriodText {
    start: Option<String>,
    end: Option<String>,
}

impl PeriodText {
    fn period(&self) -> Result<Period, InvalidRoot> {
        let seconds = |text: &str| text.parse::<jiff::Timestamp>().map(jiff::Timestamp::as_second);
        let read = |text: &Option<String>, otherwise| text.as_deref().map_or(Ok(otherwise), seconds);
        let malformed = |_| InvalidRoot::Part("a time");
        Ok(Period {
            from: read(&self.start, i64::MIN).map_err(malformed)?,
            until: read(&self.end, i64::MAX).map_err(malformed)?,
        })
    }
}

impl Root {
    pub(crate) fn parse(text: &str) -> Result<Root, InvalidRoot> {
        let text: Text = serde_json::from_str(text)?;
        if !text.media_type.starts_with("application/vnd.dev.sigstore.trustedroot") {
            return Err(InvalidRoot::Type(text.media_type.chars().take(200).collect()));
        }
        let mut root = Root { authorities: Vec::new(), logs: Vec::new() };
        for log in &text.tlogs {
            let info = STANDARD.decode(&log.public_key.raw_bytes).map_err(|_| InvalidRoot::Part("a log's key"))?;
            let valid = log.public_key.valid_for.period()?;
            // A kind of key that we do not know vouches for nothing.
            root.logs.extend(PublicKey::from_info(&info).ok().map(|key| Log { key, valid }));
        }
        for authority in &text.certificate_authorities {
            let raw = authority.cert_chain.certificates.iter().map(|raw| STANDARD.decode(&raw.raw_bytes));
            let mut chain: Vec<_> = raw.collect::<Result<_, _>>().map_err(|_| InvalidRoot::Part("a certificate"))?;
            // The last is the authority itself, those before it are between.
            let anchor = chain.pop().ok_or(InvalidRoot::Part("a chain of certificates"))?;
            let valid = authority.valid_for.period()?;
            root.authorities.push(Authority { anchors: vec![anchor], between: chain, valid });
        }
        Ok(root)
    }
}
