//! The data that one attempt needs to get a stream of an HTTP/2 backend.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::pool::Http2Pool;
use crate::body_gate::BodyGate;
use crate::pool::addresses::Addresses;
use crate::pool::checkout::IoTimeouts;
use crate::pool::connection_pool::PoolKey;

/// The settings of the connections of an upstream, with the timeouts of a route.
#[derive(Debug, Clone)]
pub struct Http2Settings {
    /// `TransportSettings::group_key`.
    pub(in crate::pool) settings: u64,
    /// Maximum idle time of a connection.
    pub(in crate::pool) keep: Duration,
    pub(in crate::pool) limits: IoTimeouts,
    /// Each request has its own connection.
    pub(in crate::pool) exclusive: bool,
}

/// The offer of a stream to one attempt.
#[derive(Debug)]
pub struct Http2Offer {
    pub(super) pool: Arc<Http2Pool>,
    pub(super) key: PoolKey,
    pub(super) keep: Duration,
    pub(super) limits: IoTimeouts,
    /// The connection serves this request only.
    pub(super) alone: bool,
    /// The addresses of a host name. `None`: Pingora's peer has the only address.
    pub(super) addresses: Option<Arc<Addresses>>,
    /// Stops the client while the backend accepts no bytes. `None` if the client's stream has no gate.
    pub(super) gate: Option<Arc<BodyGate>>,
}

impl Http2Offer {
    /// `fresh`: a new connection, which no other request uses.
    pub(in crate::pool) fn new(
        pool: Arc<Http2Pool>,
        settings: &Http2Settings,
        (generation, addresses): (u64, Option<Arc<Addresses>>),
        left: Option<Duration>,
        fresh: bool,
    ) -> Self {
        Self {
            pool,
            key: PoolKey { backend: generation, settings: settings.settings },
            keep: settings.keep,
            limits: settings.limits.within(left),
            alone: settings.exclusive || fresh,
            addresses,
            gate: None,
        }
    }

    /// Sets the gate that stops the client.
    pub fn set_gate(&mut self, gate: Arc<BodyGate>) {
        self.gate = Some(gate);
    }

    pub(super) fn pooled(&self, now: Instant) -> Option<super::connection::Http2Stream> {
        if self.alone { None } else { self.pool.open_stream(self.key, now) }
    }
}
