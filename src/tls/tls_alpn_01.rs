//! The handshake of the ACME challenge `tls-alpn-01` (RFC 8737).
//!
//! The connection never carries a request: it is closed after the handshake.

use std::io;
use std::sync::Arc;

use aws_lc_rs::digest;
use rcgen::{CertificateParams, CustomExtension, KeyPair};
use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs::sign::any_supported_type;
use rustls::server::ClientHello;
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls_pki_types::PrivateKeyDer;
use tokio::io::AsyncWriteExt;
use tokio_rustls::StartHandshake;

use super::counting_io::CountingIo;
use super::crypto::provider;

/// The ALPN protocol of the challenge.
const PROTOCOL: &[u8] = b"acme-tls/1";

/// Whether the client is an ACME server that validates a challenge. It then offers this ALPN protocol alone.
pub(super) fn is_asked_for(hello: &ClientHello<'_>) -> bool {
    hello.alpn().is_some_and(|mut offered| offered.next() == Some(PROTOCOL) && offered.next().is_none())
}

/// Completes the handshake with a certificate that contains the response to the challenge.
///
/// # Errors
/// The handshake failed.
pub(super) async fn answer(start: StartHandshake<CountingIo>, name: &str, key_authorization: &str) -> io::Result<()> {
    let config = config(name, key_authorization).map_err(io::Error::other)?;
    let mut stream = start.into_stream(Arc::new(config)).await?;
    stream.shutdown().await
}

/// A self-signed certificate for this name alone, with the digest in a critical extension (RFC 8737 section 3).
fn config(name: &str, key_authorization: &str) -> Result<ServerConfig, Box<dyn std::error::Error + Send + Sync>> {
    let answer = digest::digest(&digest::SHA256, key_authorization.as_bytes());
    let mut params = CertificateParams::new([name.to_owned()])?;
    params.custom_extensions = vec![CustomExtension::new_acme_identifier(answer.as_ref())];
    let key = KeyPair::generate()?;
    let certificate = params.self_signed(&key)?.der().clone();
    let builder = ServerConfig::builder_with_provider(provider(None)).with_safe_default_protocol_versions()?;
    let key = PrivateKeyDer::Pkcs8(key.serialize_der().into());
    // rustls' own check of a certificate and its key rejects the critical extension.
    let pair = CertifiedKey::new(vec![certificate], any_supported_type(&key)?);
    let mut config = builder.with_no_client_auth().with_cert_resolver(Arc::new(SingleCertAndKey::from(pair)));
    config.alpn_protocols = vec![PROTOCOL.to_vec()];
    Ok(config)
}
