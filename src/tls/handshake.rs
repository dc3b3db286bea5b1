//! A client's handshake, from the first byte to a session. Its deadline is the caller's.

use std::io;
use std::sync::Arc;

use rustls::server::Acceptor;
use tokio::net::TcpStream;
use tokio_rustls::LazyConfigAcceptor;
use tokio_rustls::server::TlsStream;

use super::endpoint::Endpoint;
use super::session::Session;
use super::table;
use super::wire::Wire;

/// A connection whose handshake is done.
pub type Stream = TlsStream<Wire>;

/// Why there is no session.
#[derive(Debug)]
pub enum Failed {
    /// The client left before it said anything.
    Left,
    /// It speaks plain HTTP; nothing of that has been read.
    PlainHttp(TcpStream),
    /// The handshake broke off; the client was told why, where it could be.
    Broken(io::Error),
}

impl From<io::Error> for Failed {
    fn from(error: io::Error) -> Self {
        Self::Broken(error)
    }
}

/// Does the handshake by what the endpoint serves when the client's first message is there.
///
/// # Errors
/// There is no session.
pub async fn handshake(tcp: TcpStream, endpoint: &Endpoint) -> Result<(Box<Stream>, Session), Failed> {
    let mut first = [0];
    match tcp.peek(&mut first).await {
        Ok(0) | Err(_) => return Err(Failed::Left),
        // A record of TLS begins with its type, 22 for a handshake (RFC 8446 section 5.1); methods of HTTP with a letter.
        Ok(_) if first[0].is_ascii_uppercase() => return Err(Failed::PlainHttp(tcp)),
        Ok(_) => {}
    }
    let start = LazyConfigAcceptor::new(Acceptor::default(), Wire::new(tcp)).await?;
    let served = endpoint.served();
    let server_name = start.client_hello().server_name().map(Box::from);
    let accept = start.into_stream(Arc::clone(&served.config));
    let chosen = table::take_chosen();
    let stream = Box::new(accept.await?);
    let connection = stream.get_ref().1;
    let client = match &served.clients {
        Some(clients) => Some(Arc::new(clients.identify(connection).map_err(io::Error::other)?)),
        None => None,
    };
    let session = Session {
        server_name,
        certificate: chosen.ok_or_else(|| io::Error::other("no certificate was chosen"))?,
        http2: connection.alpn_protocol() == Some(b"h2"),
        client,
        hsts: endpoint.terms.hsts.clone(),
    };
    Ok((stream, session))
}
