//! Accounts at registries. They belong to the user and not to an engine's directories, so no engine is needed.

use crate::error::{Context, Error, Kind, Result};
use std::path::PathBuf;

/// Where a login was kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LoginKept {
    /// With a credential helper, by the name of its program.
    Helper(String),
    /// Unencrypted in this file.
    File(PathBuf),
}

/// The registry that a user means by a server's name; Docker's for an empty one.
///
/// # Errors
/// [`Kind::InvalidArgument`].
pub fn registry_named(server: &str) -> Result<String> {
    registry::login::domain_of(server)
        .ok_or_else(|| Error::new(Kind::InvalidArgument, format!("{server:?} is not the name of a registry")))
}

/// The user name that is kept for a registry.
pub fn login_name(domain: &str) -> Option<String> {
    registry::login::username(registry::Options::from_environment().config_dir.as_deref()?, domain)
}

/// Tries a user name and a password, and keeps them.
///
/// # Errors
/// [`Kind::Unauthorized`] when the registry does not accept them.
pub fn login(domain: &str, username: &str, password: &str) -> Result<LoginKept> {
    let options = registry::Options::from_environment();
    match registry::login::login(options, domain, username, password) {
        Ok(registry::login::Kept::Helper(program)) => Ok(LoginKept::Helper(program)),
        Ok(registry::login::Kept::File(path)) => Ok(LoginKept::File(path)),
        Err(error @ registry::Error::Unauthorized { .. }) => {
            // The advice to log in would be odd here.
            Err(Error::caused(Kind::Unauthorized, format!("login to {domain} was refused"), error)
                .hint("check the user name and the password; many registries want an access token as password"))
        }
        Err(error) => Err(crate::images::registry_failure("log in to", domain, error)),
    }
}

/// Forgets a login; false if there was none.
///
/// # Errors
/// [`Kind::Internal`] when the file or the helper fails.
pub fn logout(domain: &str) -> Result<bool> {
    match registry::Options::from_environment().config_dir {
        Some(directory) => {
            registry::login::logout(&directory, domain).internal(|| format!("cannot log out of {domain}"))
        }
        None => Ok(false),
    }
}

/// An account that a server's client brings along for one registry.
#[derive(Clone)]
pub struct Account {
    /// The registry's name in references.
    pub domain: String,
    /// The user; empty with a token.
    pub username: String,
    /// Their password; empty with a token.
    pub password: String,
    /// An OAuth 2 refresh token in their place.
    pub identity_token: String,
    /// A bearer token in their place.
    pub registry_token: String,
}

impl std::fmt::Debug for Account {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Account").field("domain", &self.domain).finish_non_exhaustive()
    }
}

/// These options with this account alone.
pub(crate) fn only(options: registry::Options, account: Option<&Account>) -> registry::Options {
    let mut options = registry::Options { config_dir: None, ..options };
    if let Some(account) = account {
        let credentials = if !account.identity_token.is_empty() {
            registry::credentials::Credentials::IdentityToken(account.identity_token.clone())
        } else if !account.registry_token.is_empty() {
            registry::credentials::Credentials::RegistryToken(account.registry_token.clone())
        } else {
            let (username, password) = (account.username.clone(), account.password.clone());
            registry::credentials::Credentials::Password { username, password }
        };
        options.credentials = [(account.domain.clone(), credentials)].into();
    }
    options
}

/// Tries an account, and keeps nothing.
///
/// # Errors
/// [`Kind::Unauthorized`] when the registry does not accept it.
pub fn try_account(account: &Account) -> Result<()> {
    let options = only(registry::Options::from_environment(), Some(account));
    let tried = registry::Client::new(options).and_then(|client| client.ping(&account.domain));
    tried.map_err(|error| match error {
        error @ registry::Error::Unauthorized { .. } => {
            Error::caused(Kind::Unauthorized, format!("login to {} was refused", account.domain), error)
        }
        error => crate::images::registry_failure("log in to", &account.domain, error),
    })
}
