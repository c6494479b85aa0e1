//! Searching, by the only interface for it that there is: version 1 of Docker's registry, `GET /v1/search`.

use crate::Client;
use crate::error::{Error, printable};
use crate::session::Call;
use crate::tokens::Scope;
use bytes::Bytes;
use hyper::{HeaderMap, Method};
use oci::image::MAX_DOCUMENT;
use oci::reference::DEFAULT_DOMAIN;
use serde::Deserialize;

/// A repository that was found. The texts are strangers': without control characters, shortened.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Found {
    /// Its name.
    pub name: String,
    /// What it says of itself.
    pub description: String,
    /// How many people like it.
    pub stars: u64,
    /// Whether Docker answers for it.
    pub is_official: bool,
    /// Whether Docker's machines built it, when they still did.
    pub is_automated: bool,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Answer {
    results: Vec<Entry>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Entry {
    name: Option<String>,
    description: Option<String>,
    star_count: i64,
    is_official: bool,
    is_automated: bool,
}

impl Client {
    /// At most `limit` repositories (1 to 100) of the registry at `domain` whose name or description has `term`.
    ///
    /// # Errors
    /// Any [`Error`]; most registries but Docker's answer [`Error::NotFound`].
    pub fn search(&self, domain: &str, term: &str, limit: u32) -> Result<Vec<Found>, Error> {
        let host = if domain == DEFAULT_DOMAIN { "index.docker.io" } else { domain };
        let scope = Scope { domain: host.to_owned(), repository: String::new(), actions: "pull" };
        let call = Call {
            method: Method::GET,
            path: format!("/v1/search?q={}&n={limit}", crate::address::percent_encoded(term)),
            headers: HeaderMap::new(),
            body: Bytes::new(),
            scope: &scope,
            what: "a search",
        };
        self.shared.handle().block_on(async {
            let (_, bytes) = self.shared.session.fetch(&call, "the answer to a search", MAX_DOCUMENT).await?;
            let problem =
                || Error::Protocol { host: host.to_owned(), problem: "a malformed answer to a search".into() };
            let answer: Answer = serde_json::from_slice(&bytes).map_err(|_| problem())?;
            let found = answer.results.into_iter().filter_map(|entry| {
                Some(Found {
                    name: printable(&entry.name?, 300),
                    description: printable(&entry.description.unwrap_or_default(), 1000),
                    stars: u64::try_from(entry.star_count).unwrap_or(0),
                    is_official: entry.is_official,
                    is_automated: entry.is_automated,
                })
            });
            Ok(found.take(limit as usize).collect())
        })
    }
}
