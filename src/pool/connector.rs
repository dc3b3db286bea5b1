//! The Pingora connector for pooled connections, which bypasses Pingora's own connector and pool.
//!
//! Pingora asks the connector of a custom protocol first, and takes Weir's own session from it. So an attempt on a
//! pooled connection avoids the search in Pingora's pool and the stream wrappers of Pingora. It also avoids the future
//! of Pingora's connect path (8 KiB, copied once). The connector never gets a peer without a checkout.

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
use crate::pool::dial;
use crate::pool::http1::session::Http1Session;
use crate::pool::http2::{self, Opened};

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
    stream: Option<(Arc<Checkout>, Option<IdleConn>)>,
}

/// Provides the connection for the attempt at this peer. The attempt must be the next that connects on this thread.
pub fn offer(peer: &mut HttpPeer, pending: PendingCheckout) -> Arc<Checkout> {
    let checkout = Arc::new(pending.checkout);
    PENDING.with_borrow_mut(|next| {
        next.number = next.number.wrapping_add(1) | CHECKOUT_MARK;
        peer.group_key = next.number;
        next.stream = Some((Arc::clone(&checkout), pending.idle));
    });
    checkout
}

fn take(peer: &HttpPeer) -> Option<(Arc<Checkout>, Option<IdleConn>)> {
    let number = peer.group_key;
    PENDING.with_borrow_mut(|next| if next.number == number { next.stream.take() } else { None })
}

/// The protocol that makes Pingora call this connector. The name never leaves the process.
pub(super) fn alpn() -> ALPN {
    ALPN::Custom(CustomALPN::new(b"leased".to_vec()))
}

/// The connector that Pingora calls.
pub struct PoolConnector(());

impl Default for PoolConnector {
    /// Creates the connector of one thread.
    fn default() -> Self {
        dial::load_certificates();
        Self(())
    }
}

#[async_trait]
impl Connector for PoolConnector {
    type Session = BackendSession;

    async fn get_http_session<P: Peer + Send + Sync + 'static>(
        &self,
        peer: &P,
    ) -> Result<(Connection<BackendSession>, bool)> {
        let peer = (peer as &dyn Any).downcast_ref::<HttpPeer>();
        let Some((peer, (checkout, idle))) = peer.and_then(|peer| Some((peer, take(peer)?))) else {
            return Error::e_explain(ErrorType::InternalError, "no connection was leased for this attempt");
        };
        if checkout.is_http2() {
            return Ok(match http2::open(checkout, peer).await? {
                (Opened::Http2(session), reused) => (Connection::Session(BackendSession::Http2(session)), reused),
                (Opened::Http1(stream), reused) => (Connection::Stream(stream), reused),
            });
        }
        let stream = checkout.socket(idle, peer).await?;
        // Pingora sees every connection as new. It makes no decision from whether a connection is reused.
        Ok((Connection::Session(BackendSession::Http1(Http1Session::new(stream))), false))
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
        let limits = IoTimeouts { first_byte: None, read: None, write: None, tunnel: None };
        PendingCheckout::new(&pool, key, Duration::ZERO, limits, true, std::time::Instant::now())
    }

    #[test]
    fn only_the_attempt_of_the_checkout_gets_it_and_only_once() {
        let [mut first, mut second] = [80, 81].map(|port| HttpPeer::new(("127.0.0.1", port), false, String::new()));
        offer(&mut first, pending_checkout());
        let ours = offer(&mut second, pending_checkout());
        assert!(take(&first).is_none());
        assert!(take(&second).is_some_and(|(taken, _)| Arc::ptr_eq(&taken, &ours)));
        assert!(take(&second).is_none());
        // Attempts outside the pool use small numbers.
        assert!(first.group_key >= CHECKOUT_MARK && second.group_key >= CHECKOUT_MARK);
    }
}
