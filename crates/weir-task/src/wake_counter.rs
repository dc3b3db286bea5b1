//! A runtime waker for tests that counts its wakes.

use std::sync::Arc;
use std::task::{Wake, Waker};

use crate::sync::atomic::{AtomicU32, Ordering};

pub(crate) struct WakeCounter(AtomicU32);

impl WakeCounter {
    pub(crate) fn waker() -> (Arc<Self>, Waker) {
        let counter = Arc::new(Self(AtomicU32::new(0)));
        (Arc::clone(&counter), Waker::from(counter))
    }

    pub(crate) fn count(&self) -> u32 {
        self.0.load(Ordering::Acquire)
    }
}

impl Wake for WakeCounter {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::AcqRel);
    }
}

/// A slot, with the waker behind it and its count.
pub(crate) fn register<T>(register: impl FnOnce(&Waker) -> T) -> (Arc<WakeCounter>, Waker, T) {
    let (counter, outer) = WakeCounter::waker();
    let slot = register(&outer);
    (counter, outer, slot)
}
