//! Attempts under way at a backend, and the most that may be: one cell for all threads, raised by guards only.
//!
//! It keeps nobody waiting: whoever wants to know of a free place is called when an attempt ends.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::backend::BackendState;

impl BackendState {
    /// Attempts under way.
    pub fn in_flight(&self) -> u32 {
        self.in_flight.load(Ordering::Relaxed)
    }

    /// Raises the count if it still is `seen` and that is not full; the guard lowers it.
    pub fn try_raise(self: &Arc<Self>, seen: u32) -> Option<InFlight> {
        let limit = self.limit.load(Ordering::Relaxed);
        if limit > 0 && seen >= limit {
            return None;
        }
        self.in_flight
            .compare_exchange(seen, seen.wrapping_add(1), Ordering::Relaxed, Ordering::Relaxed)
            .ok()
            .map(|_| InFlight(Arc::clone(self)))
    }

    /// Raises the count whatever it is; the guard lowers it.
    pub fn raise(self: &Arc<Self>) -> InFlight {
        self.in_flight.fetch_add(1, Ordering::Relaxed);
        InFlight(Arc::clone(self))
    }

    /// Whether as many attempts are under way as may be.
    pub fn is_full(&self) -> bool {
        let limit = self.limit.load(Ordering::Relaxed);
        limit > 0 && self.in_flight() >= limit
    }

    /// Raises the count unless it is full; the guard lowers it. With a limit the count never goes above it.
    pub fn admit(self: &Arc<Self>) -> Option<InFlight> {
        let limit = self.limit.load(Ordering::Relaxed);
        if limit == 0 {
            return Some(self.raise());
        }
        let one_more = |seen: u32| (seen < limit).then(|| seen + 1);
        let raised = self.in_flight.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_more);
        raised.ok().map(|_| InFlight(Arc::clone(self)))
    }

    /// The most attempts that may be under way at once; 0: no limit.
    pub fn limit(&self) -> u32 {
        self.limit.load(Ordering::Relaxed)
    }

    /// Sets the most attempts at once, and what is called when one ends while there is a limit.
    pub fn set_limit(&self, limit: u32, on_free: Option<OnFree>) {
        self.on_free.store(on_free.map(Arc::new));
        self.limit.store(limit, Ordering::Relaxed);
    }
}

/// What is called when an attempt has ended and somebody may wait for its place.
pub struct OnFree(Box<dyn Fn() + Send + Sync>);

impl OnFree {
    /// Must be cheap, and must not block: it is called wherever an attempt ends.
    pub fn new(call: impl Fn() + Send + Sync + 'static) -> Self {
        Self(Box::new(call))
    }
}

impl std::fmt::Debug for OnFree {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("OnFree")
    }
}

/// One attempt under way; dropping it lowers the count.
#[derive(Debug)]
pub struct InFlight(Arc<BackendState>);

impl InFlight {
    /// The backend that it counts for.
    pub fn backend(&self) -> &Arc<BackendState> {
        &self.0
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.in_flight.fetch_sub(1, Ordering::Relaxed);
        if self.0.limit() > 0
            && let Some(on_free) = &*self.0.on_free.load()
        {
            (on_free.0)();
        }
    }
}
