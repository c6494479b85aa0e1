//! What a handler has: the server, and the request taken apart.

use crate::access::Peer;
use crate::content::Content;
use crate::failure::Failure;
use crate::flights::Flights;
use crate::glances::Glances;
use crate::log::Log;
use crate::metrics::Metrics;
use crate::query::Query;
use crate::runs::Runs;
use crate::version::Version;
use crate::workers::Workers;
use bytes::Bytes;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::{HeaderMap, StatusCode};
use std::sync::Arc;
use std::time::Duration;

/// What all requests share.
#[derive(Debug)]
pub struct Shared {
    /// Who calls the engine.
    pub workers: Workers,
    /// What is being looked up for several clients at once.
    pub flights: Flights,
    /// What was answered a moment ago.
    pub glances: Glances,
    /// Who waits for what has not started.
    pub runs: Runs,
    /// Exec sessions that were made here.
    pub execs: crate::exec::Sessions,
    /// What is counted.
    pub metrics: Metrics,
    /// Where the server tells of itself.
    pub log: Log,
    /// Rung when a client has gone, and when the last thread that called the engine has ended.
    pub left: Arc<tokio::sync::Notify>,
}

/// One request.
#[derive(Debug)]
pub struct Context {
    /// The server.
    pub shared: Arc<Shared>,
    /// Who asks, and what they may.
    pub peer: Arc<Peer>,
    /// The version that was asked.
    pub version: Version,
    /// What stands behind the question mark.
    pub query: Query,
    /// The headers.
    pub headers: HeaderMap,
    /// The content, not read yet.
    pub body: Content,
    /// The connection, for those who take it over.
    pub upgrade: hyper::upgrade::OnUpgrade,
}

/// Largest document that a request may carry, in bytes.
const DOCUMENT: usize = 4 << 20;
/// How long a client may take for it.
const PATIENCE: Duration = Duration::from_secs(60);

impl Context {
    /// Who calls the engine.
    pub fn workers(&self) -> &Workers {
        &self.shared.workers
    }

    /// The whole content.
    ///
    /// # Errors
    /// 413 for more than 4 MiB, 408 for a client that takes more than a minute, 400 for one that breaks off.
    pub async fn content(&mut self) -> Result<Bytes, Failure> {
        let body = Limited::new(&mut self.body, DOCUMENT);
        match tokio::time::timeout(PATIENCE, body.collect()).await {
            Ok(Ok(whole)) => Ok(whole.to_bytes()),
            Ok(Err(error)) if error.is::<LengthLimitError>() => Err(Failure::new(
                StatusCode::PAYLOAD_TOO_LARGE,
                format!("the request has more than {} MiB", DOCUMENT >> 20),
            )),
            Ok(Err(error)) => Err(Failure::bad(format!("the request cannot be read: {error}"))),
            Err(_) => Err(Failure::new(StatusCode::REQUEST_TIMEOUT, "the request did not come within a minute")),
        }
    }

    /// The whole content, which must say that it is JSON.
    ///
    /// # Errors
    /// As [`Self::content`], and 400 for content of another type.
    pub async fn json(&mut self) -> Result<Bytes, Failure> {
        let content = self.content().await?;
        crate::document::check_type(&self.headers, &content)?;
        Ok(content)
    }

    /// The content as a document; `None` when there is none.
    ///
    /// # Errors
    /// As [`Self::content`], and 400 for what is not such a document.
    pub async fn optional_document<T: serde::de::DeserializeOwned>(&mut self) -> Result<Option<T>, Failure> {
        let content = self.json().await?;
        if content.iter().all(u8::is_ascii_whitespace) {
            return Ok(None);
        }
        // Docker's clients send `null` for an empty document.
        crate::document::read(&content)
    }

    /// The content as a document.
    ///
    /// # Errors
    /// As [`Self::optional_document`], and 400 when there is none.
    pub async fn document<T: serde::de::DeserializeOwned>(&mut self) -> Result<T, Failure> {
        self.optional_document().await?.ok_or_else(|| Failure::bad("invalid JSON: got EOF while reading request body"))
    }
}
