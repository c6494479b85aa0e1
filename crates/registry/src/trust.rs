//! Whom to believe in TLS: the system's certificate authorities, and Docker's `certs.d` for one registry.
//!
//! Authorities are read from files, not by a platform library: the binary is static. rustls does the rest, with ring.

use crate::mirrors::Trust;
use crate::options::Options;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::verify_server_name;
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Why our side of TLS could not be set up.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TrustError {
    #[error("reading {} failed", path.display())]
    Read { path: PathBuf, source: std::io::Error },
    #[error("{} has no usable certificate or key", path.display())]
    Pem { path: PathBuf },
    #[error("TLS cannot be set up")]
    Tls(#[source] rustls::Error),
}

/// The TLS settings for the registry `authority` (`host[:port]`).
///
/// With `anybody`, the server's certificate is not checked: only for registries that may as well be spoken to in the clear.
pub(crate) fn client_config(
    options: &Options,
    authority: &str,
    anybody: bool,
    named: &Trust,
) -> Result<ClientConfig, TrustError> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .map_err(TrustError::Tls)?;
    let mut extra = RegistryFiles::find(options, authority)?;
    extra.authorities.extend(named.authorities.iter().cloned());
    extra.identity = named.identity.clone().or(extra.identity);
    let builder = match anybody {
        true => builder.dangerous().with_custom_certificate_verifier(Arc::new(Anybody(provider))),
        false => {
            let mut trusted = Vec::new();
            if let Some(file) = options.certificate_files.iter().find(|file| file.exists()) {
                trusted.extend(certificates(file)?);
            }
            for file in &extra.authorities {
                trusted.extend(certificates(file)?);
            }
            let mut roots = RootCertStore::empty();
            // One odd certificate in the system's bundle must not take the others down.
            roots.add_parsable_certificates(trusted.iter().cloned());
            match WebPkiServerVerifier::builder_with_provider(roots.into(), provider).build() {
                Ok(ordinary) => builder
                    .dangerous()
                    .with_custom_certificate_verifier(Arc::new(AuthorityOrItself { ordinary, trusted })),
                // Nobody is trusted, and the handshake will say so.
                Err(_) => builder.with_root_certificates(RootCertStore::empty()),
            }
        }
    };
    match extra.identity {
        Some((certificate, key)) => {
            let chain = certificates(&certificate)?;
            let key = PrivateKeyDer::from_pem_slice(&read(&key)?).map_err(|_| TrustError::Pem { path: key })?;
            builder.with_client_auth_cert(chain, key).map_err(TrustError::Tls)
        }
        None => Ok(builder.with_no_client_auth()),
    }
}

/// What `certs.d` has for one registry.
#[derive(Default)]
struct RegistryFiles {
    authorities: Vec<PathBuf>,
    identity: Option<(PathBuf, PathBuf)>,
}

impl RegistryFiles {
    fn find(options: &Options, authority: &str) -> Result<RegistryFiles, TrustError> {
        let mut found = RegistryFiles::default();
        for directory in options.certificate_directories.iter().map(|directory| directory.join(authority)) {
            let entries = match std::fs::read_dir(&directory) {
                Ok(entries) => entries,
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
                Err(source) => return Err(TrustError::Read { path: directory, source }),
            };
            let mut files: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
            files.sort();
            for file in files {
                match file.extension().and_then(|extension| extension.to_str()) {
                    Some("crt") => found.authorities.push(file),
                    Some("cert") => {
                        let key = file.with_extension("key");
                        found.identity = Some((file, key));
                    }
                    _ => {}
                }
            }
        }
        Ok(found)
    }
}

fn read(path: &Path) -> Result<Vec<u8>, TrustError> {
    std::fs::read(path).map_err(|source| TrustError::Read { path: path.to_owned(), source })
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TrustError> {
    let bytes = read(path)?;
    let list: Vec<_> = CertificateDer::pem_slice_iter(&bytes).flatten().collect();
    match list.is_empty() {
        true => Err(TrustError::Pem { path: path.to_owned() }),
        false => Ok(list),
    }
}

/// The ordinary check, and what Docker's users know as "self-signed": `openssl req -x509` makes a certificate that is its own
/// authority, which the server then shows as its own. Go accepts it when it is among the trusted ones; webpki does not.
#[derive(Debug)]
struct AuthorityOrItself {
    ordinary: Arc<WebPkiServerVerifier>,
    trusted: Vec<CertificateDer<'static>>,
}

impl AuthorityOrItself {
    /// Whether the only objection was that an authority shows its own certificate. webpki looks at the dates before it
    /// looks at that (0.103, `check_issuer_independent_properties`). Its error has no public type here, only a name; if the
    /// name changes, such certificates are refused.
    fn is_only_authority(error: &rustls::Error) -> bool {
        match error {
            rustls::Error::InvalidCertificate(CertificateError::Other(other)) => {
                format!("{other:?}").contains("CaUsedAsEndEntity")
            }
            _ => false,
        }
    }
}

impl ServerCertVerifier for AuthorityOrItself {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        chain: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let error = match self.ordinary.verify_server_cert(certificate, chain, name, ocsp, now) {
            Ok(verified) => return Ok(verified),
            Err(error) => error,
        };
        if !Self::is_only_authority(&error) || !self.trusted.iter().any(|trusted| trusted == certificate) {
            return Err(error);
        }
        verify_server_name(&ParsedCertificate::try_from(certificate)?, name)?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.ordinary.verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.ordinary.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.ordinary.supported_verify_schemes()
    }
}

/// Believes any certificate, but not a server that does not have its key.
#[derive(Debug)]
struct Anybody(Arc<CryptoProvider>);

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _certificate: &CertificateDer<'_>,
        _chain: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
