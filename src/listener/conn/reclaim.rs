//! A connection that comes back although Pingora has given it up: after each failed attempt it drops the client's stream,
//! whatever was answered. Whoever answers asks for it here, and the stream leaves itself behind as it is dropped.
//!
//! It knows nothing of requests: whether the stream stands between two of them is the stream's to say.

use std::sync::atomic::{AtomicBool, Ordering};

use bytes::BytesMut;
use parking_lot::Mutex;

use crate::listener::conn::transport::Transport;
use crate::listener::connection_permit::ConnectionPermit;

/// The socket, its place under the limits, and what has come of the next request.
pub(in crate::listener) type ReclaimedStream = (Transport, ConnectionPermit, BytesMut);

/// The place where it is left.
#[derive(Debug, Default)]
pub(in crate::listener) struct ReclaimSlot {
    asked: AtomicBool,
    left: Mutex<Option<Box<ReclaimedStream>>>,
}

impl ReclaimSlot {
    /// Of the exchange under way.
    pub(in crate::listener) fn ask(&self) {
        self.asked.store(true, Ordering::Release);
    }

    pub(in crate::listener) fn is_asked(&self) -> bool {
        self.asked.load(Ordering::Acquire)
    }

    pub(in crate::listener) fn leave(&self, left: ReclaimedStream) {
        *self.left.lock() = Some(Box::new(left));
    }

    /// What was left, once; nobody has asked any longer.
    pub(in crate::listener) fn take(&self) -> Option<ReclaimedStream> {
        if !self.asked.swap(false, Ordering::AcqRel) {
            return None;
        }
        self.left.lock().take().map(|left| *left)
    }
}
