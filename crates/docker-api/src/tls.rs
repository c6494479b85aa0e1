//! TLS for clients that come over a network: both sides show a certificate of one authority.

use crate::access::Who;
use oci::digest::Digest;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

/// The files of `--tlsverify`, PEM all.
#[derive(Clone, Debug)]
pub struct Files {
    /// Certificates of the authorities that clients' certificates come from.
    pub authorities: PathBuf,
    /// The server's certificate, and those between it and its authority.
    pub certificate: PathBuf,
    /// The server's key.
    pub key: PathBuf,
}

/// How long a client may take for its handshake.
const PATIENCE: Duration = Duration::from_secs(10);

/// Reads the files.
///
/// # Errors
/// A sentence with the path of the one that cannot be used.
pub fn acceptor(files: &Files) -> Result<TlsAcceptor, String> {
    let failed = |what: &str, path: &Path, why: String| format!("cannot use the {what} {}: {why}", path.display());
    let certificates = |what: &str, path: &Path| -> Result<Vec<CertificateDer<'static>>, String> {
        let read = CertificateDer::pem_file_iter(path).and_then(Iterator::collect::<Result<Vec<_>, _>>);
        let read = read.map_err(|error| failed(what, path, error.to_string()))?;
        if read.is_empty() { Err(failed(what, path, "it has no certificate".into())) } else { Ok(read) }
    };
    let mut roots = RootCertStore::empty();
    for authority in certificates("authorities of --tlscacert", &files.authorities)? {
        let added = roots.add(authority);
        added.map_err(|error| failed("authorities of --tlscacert", &files.authorities, error.to_string()))?;
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone()).build();
    let verifier =
        verifier.map_err(|error| failed("authorities of --tlscacert", &files.authorities, error.to_string()))?;
    let chain = certificates("certificate of --tlscert", &files.certificate)?;
    let key = PrivateKeyDer::from_pem_file(&files.key);
    let key = key.map_err(|error| failed("key of --tlskey", &files.key, error.to_string()))?;
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| format!("cannot use TLS: {error}"))?
        .with_client_cert_verifier(verifier)
        .with_single_cert(chain, key)
        .map_err(|error| failed("key of --tlskey", &files.key, error.to_string()))?;
    Ok(TlsAcceptor::from(Arc::new(config)))
}

/// Greets a client. `None` for one without a certificate that we trust, or that takes too long.
pub async fn greet(acceptor: &TlsAcceptor, stream: TcpStream) -> Option<(TlsStream<TcpStream>, Who)> {
    let stream = tokio::time::timeout(PATIENCE, acceptor.accept(stream)).await.ok()?.ok()?;
    let (_, session) = stream.get_ref();
    let certificate = session.peer_certificates()?.first()?;
    let who = Who::Certificate(Digest::sha256(certificate).to_string());
    Some((stream, who))
}
