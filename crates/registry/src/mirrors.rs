//! Where a registry is: its own address, or the mirrors that an administrator put in front of it.
//!
//! Read as they are, in this order; the first that knows the registry decides:
//! - containerd's `certs.d/HOST/hosts.toml` (or `_default/hosts.toml`), containerd's `docs/hosts.md`;
//! - Podman's `registries.conf` with its drop-ins, containers-registries.conf(5), version 2;
//! - Docker's `daemon.json`: `registry-mirrors`, for docker.io alone.
//!
//! `insecure` of any of them counts. A file that cannot be read is an error: a mirror that silently is none, or a block that
//! silently blocks nothing, would be worse. A mirror gets its own credentials, never the registry's; it is asked for what is
//! read, and what it cannot give is asked of the next, at last of the registry itself. Pushes go to the registry alone.

mod files;

use crate::address::{Origin, Scheme, api_host};
use crate::error::Error;
use crate::options::Options;
use files::{Hosts, Registries};
use hyper::HeaderMap;
use oci::reference::DEFAULT_DOMAIN;
use std::collections::HashMap;
use std::net::IpAddr;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

/// What a request is for; mirrors can be for some only.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// What does a tag mean?
    ByTag,
    /// Content that its digest names.
    ByDigest,
    /// Everything else: changes, lists, logins.
    Own,
}

/// One place to ask.
#[derive(Clone, Debug)]
pub(crate) struct Endpoint {
    /// `host[:port]`, the owner of the credentials.
    pub(crate) domain: String,
    /// Where it is; the first that answers is it.
    pub(crate) origins: Vec<Origin>,
    /// In front of the repository in paths.
    pub(crate) base: String,
    /// The repository as it is called there.
    pub(crate) repository: String,
    /// The registry that it stands for, told as `?ns=`.
    pub(crate) namespace: Option<String>,
    /// Headers that it wants.
    pub(crate) headers: HeaderMap,
    /// Is it the registry itself?
    pub(crate) is_registry: bool,
}

/// What is known of an origin's TLS besides the usual.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Trust {
    /// It may be spoken to in the clear or with any certificate.
    pub(crate) anybody: bool,
    /// Further authorities.
    pub(crate) authorities: Vec<PathBuf>,
    /// Our certificate and key there.
    pub(crate) identity: Option<(PathBuf, PathBuf)>,
}

/// The endpoints of a registry for one purpose, and what their TLS needs.
pub(crate) struct Plan {
    pub(crate) endpoints: Vec<Endpoint>,
    pub(crate) trust: Vec<(Origin, Trust)>,
}

/// How many layers of an image are transferred at once; Docker's numbers unless its `daemon.json` has others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Parallelism {
    /// `max-concurrent-downloads`.
    pub downloads: NonZeroUsize,
    /// `max-concurrent-uploads`.
    pub uploads: NonZeroUsize,
}

impl Default for Parallelism {
    /// Three down, as Docker; three up, where Docker has five: more do not go faster.
    fn default() -> Parallelism {
        let three = NonZeroUsize::MIN.saturating_add(2);
        Parallelism { downloads: three, uploads: three }
    }
}

/// What the machine's configuration says of registries as a whole, for who wants to see it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Configured {
    /// Mirrors of Docker's registry, `registry-mirrors` of `daemon.json`.
    pub mirrors: Vec<String>,
    /// Names of registries that may be spoken to in the clear.
    pub insecure: Vec<String>,
    /// Networks (`10.0.0.0/8`) whose registries may. Loopback always may, and is not among them.
    pub insecure_networks: Vec<String>,
}

impl Configured {
    /// Reads it.
    ///
    /// # Errors
    /// A file that is there and cannot be read.
    pub fn read(options: &Options) -> Result<Configured, Error> {
        Registries::read(options).map(Registries::configured)
    }
}

/// All configuration, read when it is first needed.
pub(crate) struct Mirrors {
    options: Arc<Options>,
    registries: Mutex<Option<Arc<Registries>>>,
    hosts: Mutex<HashMap<String, Option<Arc<Hosts>>>>,
}

impl Mirrors {
    pub(crate) fn new(options: Arc<Options>) -> Mirrors {
        Mirrors { options, registries: Mutex::default(), hosts: Mutex::default() }
    }

    /// Where to ask for a repository, in order.
    pub(crate) fn plan(&self, domain: &str, repository: &str, purpose: Purpose) -> Result<Plan, Error> {
        let registries = self.registries()?;
        if let Some(hosts) = self.hosts(domain)? {
            return hosts.plan(domain, repository, purpose, registries.is_insecure(domain));
        }
        registries.plan(domain, repository, purpose)
    }

    pub(crate) fn parallelism(&self) -> Result<Parallelism, Error> {
        Ok(self.registries()?.parallelism)
    }

    fn registries(&self) -> Result<Arc<Registries>, Error> {
        let mut known = self.registries.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = &*known {
            return Ok(known.clone());
        }
        let read = Arc::new(Registries::read(&self.options)?);
        *known = Some(read.clone());
        Ok(read)
    }

    fn hosts(&self, domain: &str) -> Result<Option<Arc<Hosts>>, Error> {
        let mut known = self.hosts.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = known.get(domain) {
            return Ok(known.clone());
        }
        let read = Hosts::find(&self.options.certificate_directories, domain)?.map(Arc::new);
        known.insert(domain.to_owned(), read.clone());
        Ok(read)
    }
}

impl Endpoint {
    /// The registry itself, where everybody expects it.
    fn registry(domain: &str, repository: &str, insecure: bool) -> Result<Endpoint, Error> {
        let mut endpoint = Endpoint::at(api_host(domain), None, repository, insecure).ok_or_else(|| no_name(domain))?;
        endpoint.domain = domain.to_owned();
        endpoint.is_registry = true;
        Ok(endpoint)
    }

    /// A host that is tried with TLS first and, if it may be plain, without.
    fn at(host: &str, scheme: Option<Scheme>, repository: &str, insecure: bool) -> Option<Endpoint> {
        let encrypted = Origin::new(Scheme::Https, host)?;
        let plain = Origin::new(Scheme::Http, host)?;
        let origins = match scheme {
            Some(Scheme::Http) => vec![plain],
            Some(Scheme::Https) => vec![encrypted],
            // Encrypted first, so that a password goes in the clear only if there is no other way.
            None if insecure || plain.is_loopback() => vec![encrypted, plain],
            None => vec![encrypted],
        };
        Some(Endpoint {
            domain: host.to_owned(),
            origins,
            base: "/v2".to_owned(),
            repository: repository.to_owned(),
            namespace: None,
            headers: HeaderMap::new(),
            is_registry: false,
        })
    }

    /// A path of the registry's API as it is there.
    pub(crate) fn path(&self, path: &str, repository: &str) -> String {
        let before = format!("/v2/{repository}");
        let mut here = match path.strip_prefix(&before) {
            Some(rest) if !repository.is_empty() => format!("{}/{}{rest}", self.base, self.repository),
            _ => match path.strip_prefix("/v2") {
                Some(rest) => format!("{}{rest}", self.base),
                None => path.to_owned(),
            },
        };
        if let Some(namespace) = &self.namespace {
            let separator = if here.contains('?') { '&' } else { '?' };
            here.push_str(&format!("{separator}ns={}", crate::address::percent_encoded(namespace)));
        }
        here
    }
}

/// Names, addresses, and ranges of addresses that may be spoken to in the clear.
#[derive(Debug, Default)]
struct Insecure(Vec<String>);

impl Insecure {
    fn has(&self, domain: &str) -> bool {
        let Some(origin) = Origin::new(Scheme::Https, api_host(domain)) else { return false };
        self.0.iter().any(|entry| {
            let entry = entry.trim().to_ascii_lowercase();
            if let Some((network, bits)) = network(&entry) {
                return origin.host.parse().is_ok_and(|address| is_within(address, network, bits));
            }
            entry == domain || entry == origin.host || Origin::new(Scheme::Https, &entry).is_some_and(|at| at == origin)
        })
    }
}

/// An entry that is a network, with its number of bits.
fn network(entry: &str) -> Option<(IpAddr, u32)> {
    let (network, bits) = entry.trim().split_once('/')?;
    Some((network.parse().ok()?, bits.parse().ok()?))
}

/// Is the address in the network of so many bits?
pub(crate) fn is_within(address: IpAddr, network: IpAddr, bits: u32) -> bool {
    let shared = |a: &[u8], b: &[u8]| {
        (0..bits as usize).all(|bit| {
            let mask = 0x80 >> (bit % 8);
            matches!((a.get(bit / 8), b.get(bit / 8)), (Some(a), Some(b)) if a & mask == b & mask)
        })
    };
    match (address, network) {
        (IpAddr::V4(a), IpAddr::V4(b)) => shared(&a.octets(), &b.octets()),
        (IpAddr::V6(a), IpAddr::V6(b)) => shared(&a.octets(), &b.octets()),
        _ => false,
    }
}

fn no_name(domain: &str) -> Error {
    Error::Protocol { host: domain.to_owned(), problem: "a name that is no host name".into() }
}

fn is_hub(domain: &str) -> bool {
    domain == DEFAULT_DOMAIN
}

#[cfg(test)]
mod tests;
