//! Reclaims a client connection that Pingora drops. Pingora drops the client's stream after each failed attempt, even
//! if a complete response was sent.
//!
//! The code that sent the response requests the connection here. The stream then stores its parts in its `Drop`. This
//! module knows nothing about HTTP: the stream decides whether it is between two HTTP requests.

use std::sync::atomic::{AtomicBool, Ordering};

use bytes::BytesMut;
use parking_lot::Mutex;

use crate::listener::conn::transport::Transport;
use crate::listener::connection_permit::ConnectionPermit;

/// The socket, its permit, and the bytes of the next request that have arrived.
pub(in crate::listener) type ReclaimedStream = (Transport, ConnectionPermit, BytesMut);

/// The slot for the parts of the dropped stream.
#[derive(Debug, Default)]
pub(in crate::listener) struct ReclaimSlot {
    requested: AtomicBool,
    left: Mutex<Option<Box<ReclaimedStream>>>,
}

impl ReclaimSlot {
    /// Requests the connection of the current exchange.
    pub(in crate::listener) fn ask(&self) {
        self.requested.store(true, Ordering::Release);
    }

    pub(in crate::listener) fn is_asked(&self) -> bool {
        self.requested.load(Ordering::Acquire)
    }

    pub(in crate::listener) fn leave(&self, left: ReclaimedStream) {
        *self.left.lock() = Some(Box::new(left));
    }

    /// Takes the stored connection and clears the flag that requests it.
    pub(in crate::listener) fn take(&self) -> Option<ReclaimedStream> {
        if !self.requested.swap(false, Ordering::AcqRel) {
            return None;
        }
        self.left.lock().take().map(|left| *left)
    }
}
