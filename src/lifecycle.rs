//! The life of the process: ready or not, draining or not. Flags to look at and a watch to wait on; nothing here acts.

use std::sync::atomic::{AtomicBool, Ordering};

/// Whether the process should get traffic.
#[derive(Debug, Default)]
pub struct Lifecycle {
    bound: AtomicBool,
    draining: AtomicBool,
}

impl Lifecycle {
    /// Every listener is bound.
    pub fn set_bound(&self) {
        self.bound.store(true, Ordering::Release);
    }

    /// Whether every listener is bound.
    pub fn is_bound(&self) -> bool {
        self.bound.load(Ordering::Acquire)
    }

    /// From now on `/readyz` answers 503. There is no way back.
    pub fn set_draining(&self) {
        self.draining.store(true, Ordering::Release);
    }

    /// Whether the process is on its way out.
    pub fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Acquire)
    }
}
