//! The TLS handshake with a client, from the first byte to the session. The caller applies the timeout.

use std::io;
use std::sync::Arc;

use rustls::ProtocolVersion;
use rustls::server::Acceptor;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio_rustls::LazyConfigAcceptor;
use tokio_rustls::server::TlsStream;

use super::cert_resolver;
use super::connection_info::ConnectionInfo;
use super::counting_io::CountingIo;
use super::server_config::TlsEndpoint;
use super::tls_alpn_01;

/// A connection after its handshake.
pub type TlsSocket = TlsStream<CountingIo>;

/// The limit of encrypted bytes that wait for the socket: one TLS record, as in nginx. A slow reader holds as many.
const MAX_UNSENT_BYTES: usize = 16 * 1024;

/// A fatal `unrecognized_name` alert as the first record, in plain text (RFC 8446 section 5.1, RFC 6066 section 3).
const UNRECOGNIZED_NAME: [u8; 7] = [21, 3, 3, 0, 2, 2, 112];

/// Why a handshake did not produce a session.
#[derive(Debug)]
pub enum HandshakeError {
    /// The connection ended before the client sent a byte.
    Left,
    /// The client speaks plain HTTP. No byte was consumed.
    PlainHttp(TcpStream),
    /// The connection was a `tls-alpn-01` validation and was answered.
    Validated,
    /// There is no certificate for this SNI name yet (`-`: no SNI). The client has got an alert.
    Lacking(Box<str>),
    /// The handshake failed. The client has got an alert if possible.
    Broken(io::Error),
}

impl From<io::Error> for HandshakeError {
    fn from(error: io::Error) -> Self {
        Self::Broken(error)
    }
}

/// Runs the handshake. It uses the endpoint's state at the time of the ClientHello.
///
/// # Errors
/// There is no session.
pub async fn handshake(
    tcp: TcpStream,
    endpoint: &TlsEndpoint,
) -> Result<(Box<TlsSocket>, ConnectionInfo), HandshakeError> {
    let mut first = [0];
    match tcp.peek(&mut first).await {
        Ok(0) | Err(_) => return Err(HandshakeError::Left),
        // A TLS record begins with its type, 22 for a handshake (RFC 8446 section 5.1). An HTTP method begins with a
        // letter.
        Ok(_) if first[0].is_ascii_uppercase() => return Err(HandshakeError::PlainHttp(tcp)),
        Ok(_) => {}
    }
    let mut start = LazyConfigAcceptor::new(Acceptor::default(), CountingIo::new(tcp)).await?;
    let served = endpoint.served();
    let server_name: Option<Box<str>> = start.client_hello().server_name().map(Box::from);
    if tls_alpn_01::is_asked_for(&start.client_hello())
        && let Some(name) = &server_name
        // Boxed to keep the future small, because such handshakes are rare.
        && let Some(key_authorization) = Box::pin(endpoint.terms.challenges.for_name(name)).await
    {
        Box::pin(tls_alpn_01::answer(start, name, &key_authorization)).await?;
        return Err(HandshakeError::Validated);
    }
    if let Some(lacking) = endpoint.lacks(&served, server_name.as_deref()) {
        start.io.write_all(&UNRECOGNIZED_NAME).await?;
        return Err(HandshakeError::Lacking(lacking.into()));
    }
    let accept = start.into_stream(Arc::clone(&served.config));
    let chosen = cert_resolver::take_chosen();
    let mut stream = Box::new(accept.await?);
    stream.get_mut().1.set_buffer_limit(Some(MAX_UNSENT_BYTES));
    let connection = stream.get_ref().1;
    let client = match &served.clients {
        Some(clients) => Some(Arc::new(clients.identify(connection).map_err(io::Error::other)?)),
        None => None,
    };
    let session = ConnectionInfo {
        server_name,
        certificate: chosen.ok_or_else(|| io::Error::other("no certificate was chosen"))?,
        version: connection.protocol_version().and_then(version),
        http2: connection.alpn_protocol() == Some(b"h2"),
        client,
        hsts: endpoint.terms.hsts.clone(),
    };
    Ok((stream, session))
}

/// The name of a version, as OpenSSL writes it.
fn version(version: ProtocolVersion) -> Option<&'static str> {
    match version {
        ProtocolVersion::TLSv1_2 => Some("TLSv1.2"),
        ProtocolVersion::TLSv1_3 => Some("TLSv1.3"),
        _ => None,
    }
}
