//! How many connections are open, and a way to wait until none is.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::Notify;

/// How many connections are open.
#[derive(Debug, Default)]
pub struct ConnectionTracker {
    count: AtomicUsize,
    none: Notify,
}

/// One of them; dropping it lowers the count.
#[derive(Debug)]
pub struct TrackedConnection(Arc<ConnectionTracker>);

impl ConnectionTracker {
    /// Counts one more.
    pub fn enter(self: &Arc<Self>) -> TrackedConnection {
        self.count.fetch_add(1, Ordering::AcqRel);
        TrackedConnection(Arc::clone(self))
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.count.load(Ordering::Acquire)
    }

    /// Returns when there is none.
    pub async fn none(&self) {
        loop {
            let notified = self.none.notified();
            if self.count() == 0 {
                return;
            }
            notified.await;
        }
    }
}

impl Drop for TrackedConnection {
    fn drop(&mut self) {
        if self.0.count.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.0.none.notify_waiters();
        }
    }
}
