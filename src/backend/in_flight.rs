//! Attempts in flight at a backend and their limit: one atomic counter for all threads, raised only by guards.
//!
//! This module never waits. A callback runs when an attempt ends, so that a waiting request can use the free slot.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::backend::BackendState;

impl BackendState {
    /// Number of attempts in flight.
    pub fn in_flight(&self) -> u32 {
        self.in_flight.load(Ordering::Relaxed)
    }

    /// Increments the count if it still equals `seen` and `seen` is below the limit. The guard decrements it on drop.
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

    /// Increments the count without a check of the limit. The guard decrements it on drop.
    pub fn raise(self: &Arc<Self>) -> InFlight {
        self.in_flight.fetch_add(1, Ordering::Relaxed);
        InFlight(Arc::clone(self))
    }

    /// Whether the count has reached the limit. Always false without a limit.
    pub fn is_full(&self) -> bool {
        let limit = self.limit.load(Ordering::Relaxed);
        limit > 0 && self.in_flight() >= limit
    }

    /// Increments the count unless the limit is reached. The guard decrements it on drop. The count exceeds the limit
    /// only through `raise`, or after the limit was lowered.
    pub fn admit(self: &Arc<Self>) -> Option<InFlight> {
        let limit = self.limit.load(Ordering::Relaxed);
        if limit == 0 {
            return Some(self.raise());
        }
        let one_more = |seen: u32| (seen < limit).then(|| seen + 1);
        let raised = self.in_flight.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_more);
        raised.ok().map(|_| InFlight(Arc::clone(self)))
    }

    /// Maximum number of attempts in flight; 0 means no limit.
    pub fn limit(&self) -> u32 {
        self.limit.load(Ordering::Relaxed)
    }

    /// Sets the limit (0: none) and the callback. The callback runs when an attempt ends while there is a limit.
    pub fn set_limit(&self, limit: u32, on_free: Option<OnFree>) {
        self.on_free.store(on_free.map(Arc::new));
        self.limit.store(limit, Ordering::Relaxed);
    }
}

/// Callback that runs when an attempt ends and a request may wait for its slot.
pub struct OnFree(Box<dyn Fn() + Send + Sync>);

impl OnFree {
    /// Wraps a callback. It must be cheap and must not block: it runs inline in `InFlight::drop`.
    pub fn new(call: impl Fn() + Send + Sync + 'static) -> Self {
        Self(Box::new(call))
    }
}

impl std::fmt::Debug for OnFree {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("OnFree")
    }
}

/// Guard of one attempt in flight. Dropping it decrements the count.
#[derive(Debug)]
pub struct InFlight(Arc<BackendState>);

impl InFlight {
    /// The backend whose count this guard holds.
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
