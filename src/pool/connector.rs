//! The way by which leased connections get to Pingora: past its own connector and its pool.
//!
//! Pingora asks the connector of a custom protocol first, and takes a stream from it for an HTTP/1 session. That saves an
//! attempt on a kept connection Pingora's look for one of its own, the future that could open one (8 KiB, copied once) and the
//! layers around its sockets. Peers that are not leased never get here.

use std::any::Any;
use std::cell::RefCell;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use pingora_core::connectors::http::custom::{Connection, Connector};
use pingora_core::protocols::tls::CustomALPN;
use pingora_core::upstreams::peer::{ALPN, HttpPeer, Peer};
use pingora_core::{Error, ErrorType, Result};

use crate::pool::checkout::{Checkout, PendingCheckout};
use crate::pool::connection_pool::IdleConn;
use crate::pool::http1::session::Http1Session;

/// Sets the numbers of leases apart from those of attempts outside of Pingora's pool, so that none of these is ever taken for a
/// leased one at the same address: Pingora looks into its pool in between.
const CHECKOUT_MARK: u64 = 1 << 63;

thread_local! {
    /// To the attempt of this thread that connects next. One is enough: Pingora connects as soon as a peer was chosen, in
    /// one go.
    static PENDING: RefCell<PendingConnect> = const { RefCell::new(PendingConnect { number: CHECKOUT_MARK, stream: None }) };
}

struct PendingConnect {
    number: u64,
    stream: Option<(Arc<Checkout>, Option<IdleConn>)>,
}

/// The attempt at this peer, which connects next on this thread, is to have this connection.
pub fn offer(peer: &mut HttpPeer, pending: PendingCheckout) -> Arc<Checkout> {
    let checkout = Arc::new(pending.checkout);
    PENDING.with_borrow_mut(|offer| {
        offer.number = offer.number.wrapping_add(1) | CHECKOUT_MARK;
        peer.group_key = offer.number;
        offer.stream = Some((Arc::clone(&checkout), pending.idle));
    });
    checkout
}

fn take(peer: &dyn Any) -> Option<(Arc<Checkout>, Option<IdleConn>)> {
    let number = peer.downcast_ref::<HttpPeer>()?.group_key;
    PENDING.with_borrow_mut(|offer| if offer.number == number { offer.stream.take() } else { None })
}

/// What makes Pingora ask here. The name never leaves the process.
pub(super) fn alpn() -> ALPN {
    ALPN::Custom(CustomALPN::new(b"leased".to_vec()))
}

/// For Pingora.
pub struct PoolConnector;

#[async_trait]
impl Connector for PoolConnector {
    type Session = Http1Session;

    async fn get_http_session<P: Peer + Send + Sync + 'static>(
        &self,
        peer: &P,
    ) -> Result<(Connection<Http1Session>, bool)> {
        let Some((checkout, idle)) = take(peer) else {
            return Error::e_explain(ErrorType::InternalError, "no connection was leased for this attempt");
        };
        let (plain, alive) = (checkout.is_plain(), peer.tcp_keepalive());
        let stream = checkout.socket(idle, peer.address(), peer.total_connection_timeout(), alive).await?;
        // For Pingora each is new: whether it has served before decides nothing there.
        match plain {
            true => Ok((Connection::Session(Http1Session::new(stream)), false)),
            false => Ok((Connection::Stream(Box::new(stream)), false)),
        }
    }

    async fn reused_http_session<P: Peer + Send + Sync + 'static>(&self, _peer: &P) -> Option<Http1Session> {
        None
    }

    async fn release_http_session<P: Peer + Send + Sync + 'static>(
        &self,
        session: Http1Session,
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

    fn grant() -> PendingCheckout {
        let (kept, key) = (Arc::new(ConnectionPool::new(1)), PoolKey { backend: 1, settings: 1 });
        let limits = IoTimeouts { read: None, write: None };
        PendingCheckout::new(&kept, key, Duration::ZERO, limits, true, std::time::Instant::now())
    }

    #[test]
    fn only_the_attempt_that_it_was_offered_to_gets_a_lease_and_once() {
        let [mut first, mut second] = [80, 81].map(|port| HttpPeer::new(("127.0.0.1", port), false, String::new()));
        offer(&mut first, grant());
        let ours = offer(&mut second, grant());
        assert!(take(&first).is_none());
        assert!(take(&second).is_some_and(|(taken, _)| Arc::ptr_eq(&taken, &ours)));
        assert!(take(&second).is_none());
        // Small numbers are those of attempts outside of the pool.
        assert!(first.group_key >= CHECKOUT_MARK && second.group_key >= CHECKOUT_MARK);
    }
}
