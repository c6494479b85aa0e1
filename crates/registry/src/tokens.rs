//! Getting past a 401: which credentials for which registry, bearer tokens from token servers, and keeping them.
//!
//! What must never happen (CVE-2020-15157, CVE-2026-33540): a password reaches a host that it was not stored for. So
//! - challenges are taken from the registry itself only, never from where it redirected us to, nor from a foreign layer's;
//! - a token server gets a password only if its name belongs to the registry's, or the user named it as trusted;
//! - nothing goes in the clear to a token server when the registry itself was spoken to encrypted.

use crate::address::{Address, Origin, Scheme, is_loopback, percent_encoded};
use crate::challenge::Challenge;
use crate::credentials::{CredentialFile, Credentials};
use crate::error::{Error, printable};
use crate::options::Options;
use crate::transport::{Response, Transport};
use base64::Engine as _;
use bytes::Bytes;
use hyper::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderValue, LOCATION};
use hyper::{HeaderMap, Method, StatusCode};
use oci::distribution::TokenAnswer;
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

const CLIENT_ID: &str = "dhow";
/// A token server's answer is a few KiB.
const MAX_ANSWER: u64 = 1 << 20;
/// Token servers may give shorter lives, or none; Docker counts on this much, too.
const SHORTEST_LIFE: Duration = Duration::from_secs(60);
/// No longer believed in this long before the end.
const MARGIN: Duration = Duration::from_secs(10);

/// What is to be allowed: one repository, or with an empty path the registry as a whole.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Scope {
    /// The registry as references call it.
    pub(crate) domain: String,
    pub(crate) repository: String,
    /// `pull`, or `pull,push`.
    pub(crate) actions: &'static str,
}

impl Scope {
    fn text(&self) -> Option<String> {
        (!self.repository.is_empty()).then(|| format!("repository:{}:{}", self.repository, self.actions))
    }

    fn what(&self) -> String {
        match self.repository.is_empty() {
            true => "the registry".to_owned(),
            false => self.repository.clone(),
        }
    }
}

/// Credentials and tokens.
pub(crate) struct Tokens {
    options: Arc<Options>,
    kept: Mutex<HashMap<Scope, (HeaderValue, Option<Instant>)>>,
    credentials: Mutex<HashMap<(String, String), Option<Credentials>>>,
    /// An identity token that was asked for and came.
    pub(crate) identity: Mutex<Option<String>>,
}

impl Tokens {
    pub(crate) fn new(options: Arc<Options>) -> Tokens {
        Tokens { options, kept: Mutex::default(), credentials: Mutex::default(), identity: Mutex::default() }
    }

    /// An `Authorization` header from an earlier [`Tokens::answer`].
    pub(crate) fn kept(&self, scope: &Scope) -> Option<HeaderValue> {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let (value, end) = kept.get(scope)?;
        end.is_none_or(|end| Instant::now() < end).then(|| value.clone())
    }

    /// Answers the challenges that the registry at `asker` made: the `Authorization` header for the next try.
    pub(crate) async fn answer(
        &self,
        transport: &Transport,
        asker: &Origin,
        scope: &Scope,
        challenges: &[Challenge],
    ) -> Result<HeaderValue, Error> {
        let credentials = self.credentials(scope)?;
        let (value, end) = match (choose(challenges), &credentials) {
            (Some(Challenge::Bearer { .. }), Some(Credentials::RegistryToken(token))) => (bearer(asker, token)?, None),
            (Some(Challenge::Bearer { realm, service, scope: asked }), _) => {
                let question =
                    TokenQuestion { asker, realm, service: service.as_deref(), asked: asked.as_deref(), scope };
                let (token, life) = self.fetch(transport, &question, credentials.as_ref()).await?;
                (bearer(asker, &token)?, Some(Instant::now() + life))
            }
            (Some(Challenge::Basic), Some(Credentials::Password { username, password })) => {
                (basic(username, password), None)
            }
            _ => return Err(unauthorized(scope, credentials.is_some())),
        };
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.insert(scope.clone(), (value.clone(), end));
        Ok(value)
    }

    /// Whether there are credentials for it, for an error message.
    pub(crate) fn has_credentials(&self, scope: &Scope) -> bool {
        self.credentials(scope).is_ok_and(|found| found.is_some())
    }

    fn credentials(&self, scope: &Scope) -> Result<Option<Credentials>, Error> {
        if let Some(given) = self.options.credentials.get(&scope.domain) {
            return Ok(Some(given.clone()));
        }
        let Some(directory) = &self.options.config_dir else { return Ok(None) };
        let key = (scope.domain.clone(), scope.repository.clone());
        let mut known = self.credentials.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(found) = known.get(&key) {
            return Ok(found.clone());
        }
        // A helper may ask the user; others wait for the answer with us instead of asking again.
        let found = CredentialFile::read(directory)
            .and_then(|file| file.find(&scope.domain, &scope.repository))
            .map_err(|source| Error::Credentials { host: scope.domain.clone(), source })?;
        known.insert(key, found.clone());
        Ok(found)
    }

    async fn fetch(
        &self,
        transport: &Transport,
        question: &TokenQuestion<'_>,
        credentials: Option<&Credentials>,
    ) -> Result<(String, Duration), Error> {
        let server = self.token_server(transport, question, credentials.is_some())?;
        let response = match credentials {
            Some(Credentials::IdentityToken(token)) => question.post(transport, &server, token).await?,
            Some(Credentials::Password { username, password }) => {
                question.get(transport, &server, Some((username, password)), self.options.identity_token).await?
            }
            _ => question.get(transport, &server, None, false).await?,
        };
        let host = server.origin.authority();
        match response.status {
            StatusCode::OK => {}
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN | StatusCode::BAD_REQUEST => {
                return Err(unauthorized(question.scope, credentials.is_some()));
            }
            StatusCode::TOO_MANY_REQUESTS => {
                let retry_after = crate::session::retry_after(&response.headers);
                return Err(Error::TooManyRequests { host, retry_after });
            }
            status => {
                let what = "a token".to_owned();
                return Err(Error::Status { host, what, status: status.as_u16(), message: String::new() });
            }
        }
        let bytes = response.body.bytes("the token server's answer", MAX_ANSWER).await?;
        let no_token = || Error::Protocol { host: host.clone(), problem: "no token".into() };
        let answer: TokenAnswer = serde_json::from_slice(&bytes).map_err(|_| no_token())?;
        let token = answer.bearer().ok_or_else(no_token)?.to_owned();
        if self.options.identity_token && !answer.refresh_token.is_empty() {
            *self.identity.lock().unwrap_or_else(PoisonError::into_inner) = Some(answer.refresh_token);
        }
        // A life of 500 years must not overflow the clock.
        let life = Duration::from_secs(answer.expires_in.unwrap_or(0).min(86_400)).max(SHORTEST_LIFE) - MARGIN;
        Ok((token, life))
    }

    fn token_server(
        &self,
        transport: &Transport,
        question: &TokenQuestion<'_>,
        with_credentials: bool,
    ) -> Result<Address, Error> {
        let asker = question.asker;
        let refused = |reason| Error::Redirect {
            host: question.scope.domain.clone(),
            target: printable(question.realm, 200),
            reason,
        };
        let server = Address::parse(question.realm).ok_or_else(|| refused("it is not an http or https address"))?;
        if server.origin.scheme == Scheme::Http {
            if asker.scheme == Scheme::Https {
                return Err(refused("the token would be fetched without encryption"));
            }
            if server.origin.host != asker.host && !transport.may_be_plain(&server.origin) {
                return Err(refused("it is neither this machine nor named as insecure"));
            }
        }
        let trusted =
            self.options.trusted_token_hosts.iter().any(|host| host.eq_ignore_ascii_case(&server.origin.host));
        if with_credentials && !trusted && !related(&asker.host, &server.origin.host) {
            return Err(refused("your password would go to a host that has nothing to do with the registry"));
        }
        Ok(server)
    }
}

/// One question to a token server.
struct TokenQuestion<'a> {
    asker: &'a Origin,
    realm: &'a str,
    service: Option<&'a str>,
    /// The scope that the registry asked for.
    asked: Option<&'a str>,
    scope: &'a Scope,
}

impl TokenQuestion<'_> {
    /// The parameters that both ways have.
    fn parameters(&self) -> Vec<(&'static str, String)> {
        let mut parameters = Vec::new();
        parameters.extend(self.service.map(|service| ("service", service.to_owned())));
        // Several scopes are separated by spaces; each is a parameter of its own.
        let asked = self.asked.map(str::to_owned).filter(|text| !text.trim().is_empty()).or_else(|| self.scope.text());
        let asked = asked.unwrap_or_default();
        parameters.extend(asked.split(' ').filter(|scope| !scope.is_empty()).map(|scope| ("scope", scope.to_owned())));
        parameters.push(("client_id", CLIENT_ID.to_owned()));
        parameters
    }

    /// Docker's way (`token.md`): parameters in the address, the password as basic authentication.
    async fn get(
        &self,
        transport: &Transport,
        server: &Address,
        password: Option<(&String, &String)>,
        identity: bool,
    ) -> Result<Response, Error> {
        let mut headers = HeaderMap::new();
        let mut parameters = self.parameters();
        if identity {
            parameters.push(("offline_token", "true".to_owned()));
        }
        if let Some((username, password)) = password {
            headers.insert(AUTHORIZATION, basic(username, password));
            parameters.push(("account", username.clone()));
        }
        let separator = if server.target.contains('?') { '&' } else { '?' };
        let target = format!("{}{separator}{}", server.target, form(&parameters));
        let mut address = Address { origin: server.origin.clone(), target };
        for _ in 0..3 {
            let response = request(transport, &Method::GET, &address, &headers, &Bytes::new()).await?;
            if !response.status.is_redirection() {
                return Ok(response);
            }
            let location = response.headers.get(LOCATION).and_then(|value| value.to_str().ok()).unwrap_or_default();
            let refused =
                |reason| Error::Redirect { host: server.origin.authority(), target: printable(location, 200), reason };
            let next = address.join(location).ok_or_else(|| refused("it is not an http or https address"))?;
            if next.origin != address.origin && (password.is_some() || next.origin.scheme == Scheme::Http) {
                return Err(refused("a token server must not send us elsewhere"));
            }
            response.body.discard().await;
            address = next;
        }
        Err(Error::Protocol { host: server.origin.authority(), problem: "one redirect after the other".into() })
    }

    /// OAuth 2's way (`oauth.md`): an identity token is exchanged for a bearer token.
    async fn post(&self, transport: &Transport, server: &Address, identity: &str) -> Result<Response, Error> {
        let mut parameters = self.parameters();
        let scopes: Vec<String> =
            parameters.iter().filter(|(name, _)| *name == "scope").map(|(_, scope)| scope.clone()).collect();
        parameters.retain(|(name, _)| *name != "scope");
        parameters.push(("scope", scopes.join(" ")));
        parameters.push(("grant_type", "refresh_token".to_owned()));
        parameters.push(("refresh_token", identity.to_owned()));
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/x-www-form-urlencoded"));
        headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
        request(transport, &Method::POST, server, &headers, &Bytes::from(form(&parameters))).await
    }
}

async fn request(
    transport: &Transport,
    method: &Method,
    address: &Address,
    headers: &HeaderMap,
    body: &Bytes,
) -> Result<Response, Error> {
    transport.send(method, address, headers, body).await.map_err(|failed| failed.error)
}

fn form(parameters: &[(&'static str, String)]) -> String {
    let pairs = parameters.iter().map(|(name, value)| format!("{name}={}", percent_encoded(value)));
    pairs.collect::<Vec<_>>().join("&")
}

fn choose(challenges: &[Challenge]) -> Option<&Challenge> {
    let is_bearer = |challenge: &&Challenge| matches!(challenge, Challenge::Bearer { .. });
    challenges.iter().find(is_bearer).or(challenges.first())
}

fn unauthorized(scope: &Scope, had_credentials: bool) -> Error {
    Error::Unauthorized { host: scope.domain.clone(), what: scope.what(), had_credentials }
}

fn basic(username: &str, password: &str) -> HeaderValue {
    let text = base64::engine::general_purpose::STANDARD.encode(format!("{username}:{password}"));
    secret(format!("Basic {text}")).unwrap_or_else(|| HeaderValue::from_static(""))
}

fn bearer(asker: &Origin, token: &str) -> Result<HeaderValue, Error> {
    let problem = || Error::Protocol { host: asker.authority(), problem: "a token that cannot be sent".into() };
    secret(format!("Bearer {token}")).ok_or_else(problem)
}

fn secret(text: String) -> Option<HeaderValue> {
    let mut value = HeaderValue::try_from(text).ok()?;
    value.set_sensitive(true);
    Some(value)
}

/// Whether two hosts plausibly belong to the same owner: equal, or under the same domain that can be registered, like
/// `registry-1.docker.io` and `auth.docker.io`. Without the public suffix list `example.co.uk` is told from `co.uk` by the
/// length of the second label.
fn related(registry: &str, server: &str) -> bool {
    if registry == server || (is_loopback(registry) && is_loopback(server)) {
        return true;
    }
    if registry.parse::<IpAddr>().is_ok() || server.parse::<IpAddr>().is_ok() {
        return false;
    }
    let owner = |host: &str| {
        let labels: Vec<String> = host.trim_end_matches('.').rsplit('.').map(str::to_ascii_lowercase).collect();
        let is_country = labels.first().is_some_and(|top| top.len() == 2);
        let depth = match labels.get(1) {
            Some(second) if is_country && second.len() <= 3 => 3,
            _ => 2,
        };
        (labels.len() >= depth).then(|| labels[..depth].to_vec())
    };
    owner(registry).is_some_and(|mine| owner(server) == Some(mine))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_belongs_to_whom() {
        for (registry, server) in [
            ("registry-1.docker.io", "auth.docker.io"),
            ("registry.gitlab.com", "gitlab.com"),
            ("ghcr.io", "ghcr.io"),
            ("r.example.co.uk", "auth.example.co.uk"),
            ("localhost", "127.0.0.1"),
            ("10.0.0.1", "10.0.0.1"),
        ] {
            assert!(related(registry, server), "{registry} {server}");
        }
        for (registry, server) in [
            ("registry-1.docker.io", "auth.docker.io.evil.example"),
            ("r.example.co.uk", "evil.co.uk"),
            ("r.example.com", "example.org"),
            ("10.0.0.1", "11.0.0.1"),
            ("registry", "auth"),
            ("docker.io", "dockerxio"),
            ("r.example.com", "127.0.0.1"),
        ] {
            assert!(!related(registry, server), "{registry} {server}");
        }
    }

    #[test]
    fn where_tokens_may_come_from() {
        let options = Arc::new(Options { trusted_token_hosts: vec!["sso.example".into()], ..Options::default() });
        let (transport, tokens) = (Transport::new(options.clone()), Tokens::new(options));
        let scope = Scope { domain: "r.corp.test".into(), repository: "a".into(), actions: "pull" };
        let ask = |scheme, realm: &str, with_credentials| {
            let asker = Origin::new(scheme, "r.corp.test").unwrap();
            let question = TokenQuestion { asker: &asker, realm, service: None, asked: None, scope: &scope };
            tokens.token_server(&transport, &question, with_credentials).map_err(|error| error.to_string())
        };
        for with_credentials in [false, true] {
            assert!(ask(Scheme::Https, "https://auth.corp.test/token", with_credentials).is_ok());
            assert!(ask(Scheme::Https, "https://sso.example/token", with_credentials).is_ok());
            for realm in ["http://r.corp.test/token", "http://127.0.0.1/token"] {
                let error = ask(Scheme::Https, realm, with_credentials).unwrap_err();
                assert!(error.contains("without encryption"), "{error}");
            }
            assert!(ask(Scheme::Http, "http://auth.corp.test/token", with_credentials).is_err());
            assert!(ask(Scheme::Http, "http://r.corp.test:5001/token", with_credentials).is_ok());
        }
        assert!(ask(Scheme::Https, "https://evil.example/token", false).is_ok());
        assert!(ask(Scheme::Https, "https://evil.example/token", true).unwrap_err().contains("your password"));
    }

    #[test]
    fn parameters_of_a_question() {
        let asker = Origin::new(Scheme::Https, "r.example").unwrap();
        let scope = Scope { domain: "r.example".into(), repository: "a/b".into(), actions: "pull" };
        let question = TokenQuestion { asker: &asker, realm: "", service: Some("s v"), asked: None, scope: &scope };
        assert_eq!(form(&question.parameters()), "service=s%20v&scope=repository%3Aa%2Fb%3Apull&client_id=dhow");
        let question = TokenQuestion { asked: Some("x:y:pull z:w:pull"), service: None, ..question };
        assert_eq!(form(&question.parameters()), "scope=x%3Ay%3Apull&scope=z%3Aw%3Apull&client_id=dhow");
    }
}
