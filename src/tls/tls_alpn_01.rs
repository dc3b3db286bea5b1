//! The handshake by which an ACME server sees that a name leads here (RFC 8737). It ends with the handshake: nothing else
//! is spoken on such a connection.

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

/// What is agreed on in place of HTTP.
const PROTOCOL: &[u8] = b"acme-tls/1";

/// Whether a client is an ACME server that wants to see who is here: it offers that protocol alone.
pub(super) fn is_asked_for(hello: &ClientHello<'_>) -> bool {
    hello.alpn().is_some_and(|mut offered| offered.next() == Some(PROTOCOL) && offered.next().is_none())
}

/// Shows it a certificate that holds the answer to its challenge.
///
/// # Errors
/// The handshake broke off.
pub(super) async fn answer(start: StartHandshake<CountingIo>, name: &str, key_authorization: &str) -> io::Result<()> {
    let config = config(name, key_authorization).map_err(io::Error::other)?;
    let mut stream = start.into_stream(Arc::new(config)).await?;
    stream.shutdown().await
}

/// RFC 8737 section 3: self-signed, for this name alone, with the digest in an extension that must be understood.
fn config(name: &str, key_authorization: &str) -> Result<ServerConfig, Box<dyn std::error::Error + Send + Sync>> {
    let answer = digest::digest(&digest::SHA256, key_authorization.as_bytes());
    let mut params = CertificateParams::new([name.to_owned()])?;
    params.custom_extensions = vec![CustomExtension::new_acme_identifier(answer.as_ref())];
    let key = KeyPair::generate()?;
    let certificate = params.self_signed(&key)?.der().clone();
    let builder = ServerConfig::builder_with_provider(provider(None)).with_safe_default_protocol_versions()?;
    let key = PrivateKeyDer::Pkcs8(key.serialize_der().into());
    // rustls' own check of a pair stumbles over an extension that must be understood.
    let pair = CertifiedKey::new(vec![certificate], any_supported_type(&key)?);
    let mut config = builder.with_no_client_auth().with_cert_resolver(Arc::new(SingleCertAndKey::from(pair)));
    config.alpn_protocols = vec![PROTOCOL.to_vec()];
    Ok(config)
}
