//! Gets a stream for an attempt: on a pooled connection, or on a new one.

use std::os::fd::AsRawFd;
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use pingora_core::connectors::TransportConnector;
use pingora_core::protocols::{ALPN, Stream};
use pingora_core::upstreams::peer::{HttpPeer, Peer};
use pingora_core::{ErrorType, OkOrErr, Result};
use tokio_util::either::Either;

use super::connection::Http2Connection;
use super::offer::Http2Offer;
use super::session::Http2Session;
use crate::pool::addresses::Destination;
use crate::pool::dial::{self, Dialer};

/// A connection to the backend.
pub(in crate::pool) enum Opened {
    Http2(Http2Session),
    /// The backend has chosen HTTP/1 in the TLS handshake.
    Http1(Stream),
}

/// Gets a stream for this attempt. The flag is whether the connection was used before.
pub(in crate::pool) async fn open(offer: Http2Offer, peer: &HttpPeer) -> Result<(Opened, bool)> {
    if let Some(stream) = offer.pooled(Instant::now()) {
        return Ok((Opened::Http2(Http2Session::new(stream, &offer, peer.is_tls())), true));
    }
    let connection = match connect(&offer, peer).await? {
        Either::Left(connection) => connection,
        Either::Right(stream) => return Ok((Opened::Http1(stream), false)),
    };
    let stream = connection.open_stream().or_err(ErrorType::H2Error, "the new connection allows no stream")?;
    if !offer.alone {
        offer.pool.put(offer.key, connection, offer.keep);
    }
    Ok((Opened::Http2(Http2Session::new(stream, &offer, peer.is_tls())), false))
}

/// Opens a connection. Pingora opens those with TLS or a PROXY header.
async fn connect(offer: &Http2Offer, peer: &HttpPeer) -> Result<Either<Http2Connection, Stream>> {
    if !peer.is_tls() && peer.options.custom_l4.is_none() {
        let to = match &offer.addresses {
            Some(all) => Destination::Any(Arc::clone(all)),
            None => Destination::One(peer.address().clone()),
        };
        let socket = dial::open(&to, peer.total_connection_timeout(), peer.tcp_keepalive()).await?;
        let fd = match &socket {
            Either::Left(tcp) => tcp.as_raw_fd(),
            Either::Right(unix) => unix.as_raw_fd(),
        };
        return Http2Connection::handshake(socket, fd).await.map(Either::Left);
    }
    let mut peer = peer.clone();
    peer.options.alpn = ALPN::H2;
    if let (None, Some(all)) = (&peer.options.custom_l4, &offer.addresses) {
        peer.options.custom_l4 = Some(Arc::new(Dialer::to(Some(Arc::clone(all)), false)));
    }
    let stream = transport().new_stream(&peer).await?;
    if peer.is_tls() && stream.selected_alpn_proto() != Some(ALPN::H2) {
        return Ok(Either::Right(stream));
    }
    let fd = stream.id();
    Http2Connection::handshake(stream, fd).await.map(Either::Left)
}

/// Pingora's connector. All threads share it, because it holds nothing but the certificates of the system.
fn transport() -> &'static TransportConnector {
    static TRANSPORT: OnceLock<TransportConnector> = OnceLock::new();
    TRANSPORT.get_or_init(|| TransportConnector::new(None))
}
