//! The Pingora connector for pooled connections, which bypasses Pingora's own connector and pool.
//!
//! Pingora asks the connector of a custom protocol first, and takes an HTTP/1 stream from it. So an attempt on a pooled
//! connection avoids the search in Pingora's pool and the stream wrappers of Pingora. It also avoids the future of
//! Pingora's connect path (8 KiB, copied once). The connector never gets a peer without a checkout.

use std::any::Any;
use std::cell::RefCell;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use pingora_core::connectors::http::custom::{Connection, Connector};
use pingora_core::protocols::tls::CustomALPN;
use pingora_core::upstreams::peer::{ALPN, HttpPeer, Peer};
use pingora_core::{Error, ErrorType, Result};

use crate::pool::backend_session::BackendSession;
use crate::pool::checkout::{Checkout, PendingCheckout};
use crate::pool::connection_pool::IdleConn;
use crate::pool::http1::session::Http1Session;
use crate::pool::http2::{self, Http2Offer, Opened};

/// The high bit of the number of a checkout, which is the group key of its peer. An attempt that does not use the pool
/// has a small number as its group key. So Pingora, which also searches its own pool, never uses such a connection for
/// a checkout at the same address.
const CHECKOUT_MARK: u64 = 1 << 63;

thread_local! {
    /// The checkout for the next attempt that connects on this thread. One entry is enough: after the peer is chosen,
    /// Pingora calls the connector without yielding.
    static PENDING: RefCell<PendingConnect> = const { RefCell::new(PendingConnect { number: CHECKOUT_MARK, stream: None }) };
}

struct PendingConnect {
    number: u64,
    stream: Option<Offer>,
}

/// The connection of an attempt.
enum Offer {
    Http1(Arc<Checkout>, Option<IdleConn>),
    Http2(Http2Offer),
}

/// Provides the connection for the attempt at this peer. The attempt must be the next that connects on this thread.
pub fn offer(peer: &mut HttpPeer, pending: PendingCheckout) -> Arc<Checkout> {
    let checkout = Arc::new(pending.checkout);
    put(peer, Offer::Http1(Arc::clone(&checkout), pending.idle));
    checkout
}

/// Provides the stream for the attempt at this peer. The attempt must be the next that connects on this thread.
pub fn offer_http2(peer: &mut HttpPeer, stream: Http2Offer) {
    put(peer, Offer::Http2(stream));
}

fn put(peer: &mut HttpPeer, offer: Offer) {
    PENDING.with_borrow_mut(|next| {
        next.number = next.number.wrapping_add(1) | CHECKOUT_MARK;
        peer.group_key = next.number;
        next.stream = Some(offer);
    });
}

fn take(peer: &HttpPeer) -> Option<Offer> {
    PENDING.with_borrow_mut(|next| if next.number == peer.group_key { next.stream.take() } else { None })
}

/// Takes the offer for a peer of Pingora's generic interface. All peers are of this type.
fn take_for(peer: &dyn Any) -> Option<(&HttpPeer, Offer)> {
    let peer = peer.downcast_ref::<HttpPeer>()?;
    Some((peer, take(peer)?))
}

async fn connect_http2(offer: Http2Offer, peer: &HttpPeer) -> Result<(Connection<BackendSession>, bool)> {
    Ok(match http2::open(offer, peer).await? {
        (Opened::Http2(session), reused) => (Connection::Session(BackendSession::Http2(session)), reused),
        (Opened::Http1(stream), reused) => (Connection::Stream(stream), reused),
    })
}

/// The protocol that makes Pingora call this connector. The name never leaves the process.
pub(super) fn alpn() -> ALPN {
    ALPN::Custom(CustomALPN::new(b"leased".to_vec()))
}

/// The connector that Pingora calls.
pub struct PoolConnector;

#[async_trait]
impl Connector for PoolConnector {
    type Session = BackendSession;

    async fn get_http_session<P: Peer + Send + Sync + 'static>(
        &self,
        peer: &P,
    ) -> Result<(Connection<BackendSession>, bool)> {
        let Some((peer, offer)) = take_for(peer) else {
            return Error::e_explain(ErrorType::InternalError, "no connection was leased for this attempt");
        };
        let (checkout, idle) = match offer {
            Offer::Http1(checkout, idle) => (checkout, idle),
            Offer::Http2(offer) => return connect_http2(offer, peer).await,
        };
        let (plain, alive) = (checkout.is_plain(), peer.tcp_keepalive());
        let stream = checkout.socket(idle, peer.address(), peer.total_connection_timeout(), alive).await?;
        // Pingora sees every connection as new. It makes no decision from whether a connection is reused.
        match plain {
            true => Ok((Connection::Session(BackendSession::Http1(Http1Session::new(stream))), false)),
            false => Ok((Connection::Stream(Box::new(stream)), false)),
        }
    }

    async fn reused_http_session<P: Peer + Send + Sync + 'static>(&self, _peer: &P) -> Option<BackendSession> {
        None
    }

    async fn release_http_session<P: Peer + Send + Sync + 'static>(
        &self,
        session: BackendSession,
        _peer: &P,
        _idle_timeout: Option<Duration>,
    ) {
        session.release().await;
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests {
    use super::*;
    use crate::pool::checkout::IoTimeouts;
    use crate::pool::connection_pool::{ConnectionPool, PoolKey};

    fn pending_checkout() -> PendingCheckout {
        let (pool, key) = (Arc::new(ConnectionPool::new(1)), PoolKey { backend: 1, settings: 1 });
        let limits = IoTimeouts { read: None, write: None };
        PendingCheckout::new(&pool, key, Duration::ZERO, limits, true, std::time::Instant::now())
    }

    #[test]
    fn only_the_attempt_of_the_checkout_gets_it_and_only_once() {
        let [mut first, mut second] = [80, 81].map(|port| HttpPeer::new(("127.0.0.1", port), false, String::new()));
        offer(&mut first, pending_checkout());
        let ours = offer(&mut second, pending_checkout());
        assert!(take(&first).is_none());
        assert!(take(&second).is_some_and(|offer| matches!(offer, Offer::Http1(taken, _) if Arc::ptr_eq(&taken, &ours))));
        assert!(take(&second).is_none());
        // Attempts outside the pool use small numbers.
        assert!(first.group_key >= CHECKOUT_MARK && second.group_key >= CHECKOUT_MARK);
    }
}
