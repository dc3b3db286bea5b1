//! Lifecycle flags of the process: bound and draining. This module never acts on them.

use std::sync::atomic::{AtomicBool, Ordering};

/// Whether the process should receive traffic.
#[derive(Debug, Default)]
pub struct Lifecycle {
    bound: AtomicBool,
    draining: AtomicBool,
}

impl Lifecycle {
    /// Sets the flag: every listener is bound.
    pub fn set_bound(&self) {
        self.bound.store(true, Ordering::Release);
    }

    /// Whether every listener is bound.
    pub fn is_bound(&self) -> bool {
        self.bound.load(Ordering::Acquire)
    }

    /// Starts draining: from now on `/readyz` answers 503. This cannot be undone.
    pub fn set_draining(&self) {
        self.draining.store(true, Ordering::Release);
    }

    /// Whether the process is draining.
    pub fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Acquire)
    }
}
