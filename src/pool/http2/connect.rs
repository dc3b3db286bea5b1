//! Gets a stream for an attempt: on a pooled connection, or on a new one.

use std::os::fd::{AsRawFd, RawFd};
use std::sync::Arc;
use std::time::Instant;

use pingora_core::protocols::{ALPN, Stream};
use pingora_core::upstreams::peer::HttpPeer;
use pingora_core::{ErrorType, OkOrErr, Result};
use tokio_util::either::Either;

use super::connection::Http2Connection;
use super::session::Http2Session;
use crate::pool::checkout::Checkout;
use crate::pool::connection_pool::BackendSocket;
use crate::pool::dial;

/// A connection to the backend.
pub(in crate::pool) enum Opened {
    Http2(Box<Http2Session>),
    /// The backend has chosen HTTP/1 in the TLS handshake.
    Http1(Stream),
}

/// Gets a stream for this attempt. The flag is whether the connection was used before.
pub(in crate::pool) async fn open(checkout: Arc<Checkout>, peer: &HttpPeer) -> Result<(Opened, bool)> {
    let (pool, key, keep) = (&checkout.pool().http2, checkout.key(), checkout.keep());
    let alone = keep.is_zero();
    if !alone && let Some(stream) = pool.open_stream(key, Instant::now()) {
        return Ok((Opened::Http2(Box::new(Http2Session::new(stream, checkout, peer.is_tls()))), true));
    }
    let socket = dial::connect(peer, checkout.addresses(), ALPN::H2).await?;
    let socket = match socket {
        Either::Right(stream) if peer.is_tls() && stream.selected_alpn_proto() != Some(ALPN::H2) => {
            return Ok((Opened::Http1(stream), false));
        }
        socket => socket,
    };
    let fd = descriptor(&socket);
    let connection = Http2Connection::handshake(socket, fd).await?;
    let stream = connection.open_stream().or_err(ErrorType::H2Error, "the new connection allows no stream")?;
    if !alone {
        pool.put(key, connection, keep);
    }
    Ok((Opened::Http2(Box::new(Http2Session::new(stream, checkout, peer.is_tls()))), false))
}

fn descriptor(socket: &BackendSocket) -> RawFd {
    match socket {
        Either::Left(Either::Left(tcp)) => tcp.as_raw_fd(),
        Either::Left(Either::Right(unix)) => unix.as_raw_fd(),
        Either::Right(stream) => stream.id(),
    }
}
