//! One request to a registry's API, until there is an answer: scheme, login, redirects, rate limits, another try.

use crate::address::{Address, Origin, Scheme, api_host};
use crate::challenge;
use crate::error::{Error, printable};
use crate::mirrors::{Endpoint, Mirrors, Purpose};
use crate::options::Options;
use crate::tokens::{Scope, Tokens};
use crate::transport::{Response, SendError, Transport};
use bytes::Bytes;
use hyper::header::{AUTHORIZATION, LOCATION, RETRY_AFTER, WWW_AUTHENTICATE};
use hyper::{HeaderMap, Method, StatusCode};
use oci::distribution::ErrorBody;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

const MAX_REDIRECTS: u32 = 10;
const MAX_ERROR_BODY: u64 = 64 << 10;

/// What is asked for.
pub(crate) struct Call<'a> {
    pub(crate) method: Method,
    /// Starts with `/v2/`.
    pub(crate) path: String,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
    pub(crate) scope: &'a Scope,
    /// For messages: `library/redis:7`, `blob sha256:…`.
    pub(crate) what: &'a str,
}

/// The state that requests share.
pub(crate) struct Session {
    pub(crate) options: Arc<Options>,
    transport: Transport,
    tokens: Tokens,
    mirrors: Mirrors,
    /// Where a registry turned out to be, of the places where it may be.
    origins: Mutex<HashMap<String, Origin>>,
}

impl Session {
    pub(crate) fn new(options: Options) -> Session {
        let options = Arc::new(options);
        let (transport, tokens) = (Transport::new(options.clone()), Tokens::new(options.clone()));
        let mirrors = Mirrors::new(options.clone());
        Session { options, transport, tokens, mirrors, origins: Mutex::default() }
    }

    pub(crate) fn mirrors(&self) -> &Mirrors {
        &self.mirrors
    }

    pub(crate) fn tokens(&self) -> &Tokens {
        &self.tokens
    }

    /// Makes the request, and again while the registry says "later"; a refusal is an error.
    pub(crate) async fn call(&self, call: &Call<'_>) -> Result<Response, Error> {
        let mut attempt = 0;
        loop {
            let failed = match self.call_once(call).await {
                Ok(response) => return Ok(response),
                Err(failed) => failed,
            };
            let wait = match &failed.error {
                Error::TooManyRequests { retry_after, .. } => retry_after.unwrap_or(pause(attempt)),
                Error::Status { status: 500 | 502 | 503 | 504, .. } => pause(attempt),
                // Without a connection nobody is there, and the user wants to know now.
                Error::Unreachable { .. } if failed.was_connected => pause(attempt),
                _ => return Err(failed.error),
            };
            if attempt >= self.options.retries || wait > self.options.longest_retry_after {
                return Err(failed.error);
            }
            attempt += 1;
            tokio::time::sleep(wait).await;
        }
    }

    /// Makes the request and reads the whole answer, from the beginning if it breaks off.
    pub(crate) async fn fetch(&self, call: &Call<'_>, what: &str, limit: u64) -> Result<(HeaderMap, Vec<u8>), Error> {
        let mut attempt = 0;
        loop {
            let response = self.call(call).await?;
            match response.body.bytes(what, limit).await {
                Ok(bytes) => return Ok((response.headers, bytes)),
                Err(Error::Unreachable { .. }) if attempt < self.options.retries => {}
                Err(error) => return Err(error),
            }
            tokio::time::sleep(pause(attempt)).await;
            attempt += 1;
        }
    }

    async fn call_once(&self, call: &Call<'_>) -> Result<Response, SendError> {
        let fail = |error| SendError { error, was_connected: true };
        let Scope { domain, repository, actions } = call.scope;
        let plan = self.mirrors.plan(domain, repository, purpose(call)).map_err(fail)?;
        for (origin, trust) in &plan.trust {
            self.transport.trust(origin, trust);
        }
        let mut last = None;
        for endpoint in &plan.endpoints {
            let scope = Scope { domain: endpoint.domain.clone(), repository: endpoint.repository.clone(), actions };
            let there = Call {
                method: call.method.clone(),
                path: endpoint.path(&call.path, repository),
                headers: call.headers.clone(),
                body: call.body.clone(),
                scope: &scope,
                what: call.what,
            };
            match self.ask(&there, endpoint).await {
                Ok(response) => return Ok(response),
                // What a mirror cannot give, the next may.
                Err(failed) => last = Some(failed),
            }
        }
        let none = || fail(Error::Protocol { host: domain.clone(), problem: "no address".into() });
        Err(last.unwrap_or_else(none))
    }

    /// Asks one registry or mirror, by whichever of its addresses answers.
    async fn ask(&self, call: &Call<'_>, endpoint: &Endpoint) -> Result<Response, SendError> {
        let fail = |error| SendError { error, was_connected: true };
        let known = self.origins.lock().unwrap_or_else(PoisonError::into_inner).get(&endpoint.domain).cloned();
        let known = known.filter(|known| endpoint.origins.contains(known));
        let origins = known.map_or_else(|| endpoint.origins.clone(), |known| vec![known]);
        let mut last = None;
        for origin in origins {
            let address = Address { origin: origin.clone(), target: call.path.clone() };
            match self.follow(call, &origin, &endpoint.headers, address).await {
                Ok(response) => {
                    self.remember(&endpoint.domain, &origin);
                    return self.accepted(call, response).await.map_err(fail);
                }
                // The registry may not speak TLS; the other scheme's error tells more.
                Err(failed) if !failed.was_connected => last = Some(failed),
                Err(failed) => return Err(failed),
            }
        }
        let none = || fail(Error::Protocol { host: endpoint.domain.clone(), problem: "no address".into() });
        Err(last.unwrap_or_else(none))
    }

    /// Makes a request once, at an address that the registry gave us for it; its path in the call is not used.
    pub(crate) async fn call_at(&self, call: &Call<'_>, address: &Address) -> Result<Response, Error> {
        let registry = self.origin(&call.scope.domain)?;
        let response =
            self.follow(call, &registry, &HeaderMap::new(), address.clone()).await.map_err(|failed| failed.error)?;
        self.accepted(call, response).await
    }

    /// Where a `Location` leads that came from `from`, or from the registry's own API.
    pub(crate) fn led_to(&self, scope: &Scope, from: Option<&Address>, location: &str) -> Result<Address, Error> {
        let api = Address { origin: self.origin(&scope.domain)?, target: "/v2/".into() };
        self.redirected(scope, from.unwrap_or(&api), location, 1)
    }

    /// The registry as it was spoken to last.
    fn origin(&self, domain: &str) -> Result<Origin, Error> {
        let known = self.origins.lock().unwrap_or_else(PoisonError::into_inner).get(domain).cloned();
        known
            .or_else(|| Origin::new(Scheme::Https, api_host(domain)))
            .ok_or_else(|| Error::Protocol { host: domain.to_owned(), problem: "a name that is no host name".into() })
    }

    fn remember(&self, domain: &str, origin: &Origin) {
        self.origins.lock().unwrap_or_else(PoisonError::into_inner).insert(domain.to_owned(), origin.clone());
    }

    /// Sends the request, logs in when the registry asks for it, and goes where it leads.
    async fn follow(
        &self,
        call: &Call<'_>,
        registry: &Origin,
        own: &HeaderMap,
        mut address: Address,
    ) -> Result<Response, SendError> {
        let mut authorization = self.tokens.kept(call.scope);
        let mut has_answered = false;
        let mut redirects = 0;
        let fail = |error| SendError { error, was_connected: true };
        loop {
            let mut headers = call.headers.clone();
            // Nobody but the registry itself sees who we are, and what an administrator wants it to be told.
            if address.origin == *registry {
                headers.extend(own.clone());
            }
            if let Some(value) = authorization.as_ref().filter(|_| address.origin == *registry) {
                headers.insert(AUTHORIZATION, value.clone());
            }
            let response =
                self.transport.send(&call.method, &address, &headers, &call.body).await.map_err(|failed| {
                    // A redirect's target is never a reason to try the registry without encryption.
                    SendError { was_connected: failed.was_connected || redirects > 0, ..failed }
                })?;
            if response.status == StatusCode::UNAUTHORIZED && address.origin == *registry && !has_answered {
                has_answered = true;
                let challenges: Vec<_> = response
                    .headers
                    .get_all(WWW_AUTHENTICATE)
                    .iter()
                    .filter_map(|value| value.to_str().ok())
                    .flat_map(challenge::parse)
                    .collect();
                response.body.discard().await;
                let answer = self.tokens.answer(&self.transport, registry, call.scope, &challenges).await;
                authorization = Some(answer.map_err(fail)?);
                continue;
            }
            if !response.status.is_redirection() || response.status == StatusCode::NOT_MODIFIED {
                return Ok(response);
            }
            redirects += 1;
            address = self.redirected(call.scope, &address, location(&response), redirects).map_err(fail)?;
            response.body.discard().await;
        }
    }

    fn redirected(&self, scope: &Scope, from: &Address, location: &str, count: u32) -> Result<Address, Error> {
        let host = scope.domain.clone();
        if count > MAX_REDIRECTS {
            return Err(Error::Protocol { host, problem: format!("more than {MAX_REDIRECTS} redirects") });
        }
        let refused = |reason| Error::Redirect { host: host.clone(), target: printable(location, 200), reason };
        let to = from.join(location).ok_or_else(|| refused("it is not an http or https address"))?;
        if to.origin.scheme == Scheme::Http {
            if from.origin.scheme == Scheme::Https {
                return Err(refused("it would go on without encryption"));
            }
            if to.origin.host != from.origin.host && !self.transport.may_be_plain(&to.origin) {
                return Err(refused("it is neither this machine nor named as insecure"));
            }
        }
        Ok(to)
    }

    /// Turns a refusal into an error.
    async fn accepted(&self, call: &Call<'_>, response: Response) -> Result<Response, Error> {
        let status = response.status;
        if status.is_success() {
            return Ok(response);
        }
        let host = call.scope.domain.clone();
        let what = call.what.to_owned();
        let retry_after = retry_after(&response.headers);
        let body = response.body.bytes("", MAX_ERROR_BODY).await.unwrap_or_default();
        let message = serde_json::from_slice::<ErrorBody>(&body).unwrap_or_default().to_string();
        Err(match status {
            StatusCode::UNAUTHORIZED => {
                Error::Unauthorized { host, what, had_credentials: self.tokens.has_credentials(call.scope) }
            }
            StatusCode::FORBIDDEN => Error::Denied { host, what, message },
            StatusCode::NOT_FOUND => Error::NotFound { host, what, message },
            StatusCode::TOO_MANY_REQUESTS => Error::TooManyRequests { host, retry_after },
            status => Error::Status { host, what, status: status.as_u16(), message },
        })
    }

    /// Gets a foreign layer from its own address: no credentials, no challenge answered.
    pub(crate) async fn get_foreign(&self, call: &Call<'_>, url: &str) -> Result<Response, Error> {
        let host = call.scope.domain.clone();
        let refused = |reason| Error::Redirect { host: host.clone(), target: printable(url, 200), reason };
        let mut address = Address::parse(url).ok_or_else(|| refused("it is not an http or https address"))?;
        if address.origin.scheme == Scheme::Http && !self.transport.may_be_plain(&address.origin) {
            return Err(refused("it is neither this machine nor named as insecure"));
        }
        for count in 1.. {
            let sent = self.transport.send(&Method::GET, &address, &call.headers, &Bytes::new()).await;
            let response = sent.map_err(|failed| failed.error)?;
            if !response.status.is_redirection() {
                return match response.status.is_success() {
                    true => Ok(response),
                    false => Err(Error::Status {
                        host: address.origin.authority(),
                        what: call.what.to_owned(),
                        status: response.status.as_u16(),
                        message: String::new(),
                    }),
                };
            }
            address = self.redirected(call.scope, &address, location(&response), count)?;
            response.body.discard().await;
        }
        Err(refused("it leads nowhere"))
    }
}

fn purpose(call: &Call<'_>) -> Purpose {
    let is_read = matches!(call.method, Method::GET | Method::HEAD) && call.scope.actions == "pull";
    let version = call.path.rsplit_once("/manifests/").map(|(_, version)| version);
    match version {
        _ if !is_read || call.scope.repository.is_empty() || call.path.contains("/tags/list") => Purpose::Own,
        Some(version) if !version.contains(':') => Purpose::ByTag,
        // A list that changes, like a tag's meaning.
        None if call.path.contains("/referrers/") => Purpose::ByTag,
        _ => Purpose::ByDigest,
    }
}

fn location(response: &Response) -> &str {
    response.headers.get(LOCATION).and_then(|value| value.to_str().ok()).unwrap_or_default()
}

/// 0.2, 0.4, 0.8, … seconds, at most 5.
pub(crate) fn pause(attempt: u32) -> Duration {
    Duration::from_millis(200 << attempt.min(10)).min(Duration::from_secs(5))
}

/// `Retry-After`: seconds, or a date (RFC 9110, 10.2.3).
pub(crate) fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    if let Ok(seconds) = text.parse::<u32>() {
        return Some(Duration::from_secs(seconds.into()));
    }
    let until = jiff::fmt::rfc2822::parse(text).ok()?.timestamp();
    let wait = until.as_second() - jiff::Timestamp::now().as_second();
    Some(Duration::from_secs(u64::try_from(wait).unwrap_or(0)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn redirects_keep_the_encryption() {
        let session = Session::new(Options { insecure: vec!["cache.example:5000".into()], ..Options::default() });
        let scope = Scope { domain: "r.example".into(), repository: "a".into(), actions: "pull" };
        let follow = |from: &str, to: &str| {
            let from = Address::parse(from).unwrap();
            session
                .redirected(&scope, &from, to, 1)
                .map(|address| address.to_string())
                .map_err(|error| error.to_string())
        };
        assert_eq!(follow("https://r.example/x", "https://cdn.example/y"), Ok("https://cdn.example/y".into()));
        assert_eq!(follow("http://127.0.0.1:5000/x", "https://cdn.example/y"), Ok("https://cdn.example/y".into()));
        assert_eq!(
            follow("http://127.0.0.1:5000/x", "http://cache.example:5000/y"),
            Ok("http://cache.example:5000/y".into())
        );
        for to in ["http://r.example/y", "http://127.0.0.1/y", "http://cache.example:5000/y", "//r.example:80/../y"] {
            let result = follow("https://r.example/x", to);
            match to.starts_with("//") {
                true => assert!(result.unwrap().starts_with("https://r.example:80/")),
                false => assert!(result.unwrap_err().contains("without encryption"), "{to}"),
            }
        }
        assert!(follow("http://127.0.0.1:5000/x", "http://cache.example/y").unwrap_err().contains("named as insecure"));
    }

    #[test]
    fn waits() {
        let parse = |text: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(RETRY_AFTER, text.parse().unwrap());
            retry_after(&headers)
        };
        assert_eq!(parse("7"), Some(Duration::from_secs(7)));
        assert_eq!(parse("Wed, 21 Oct 2015 07:28:00 GMT"), Some(Duration::ZERO));
        assert!(parse("Wed, 21 Oct 2099 07:28:00 GMT").unwrap() > Duration::from_secs(86_400));
        assert_eq!(parse("soon"), None);
        assert_eq!(parse("-5"), None);
        assert_eq!(pause(0), Duration::from_millis(200));
        assert_eq!(pause(100), Duration::from_secs(5));
    }
}
