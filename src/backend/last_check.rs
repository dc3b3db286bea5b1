//! The last answer of a health check, for operators. It never judges: the checker does.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;

/// The last health check of a backend.
#[derive(Debug, Default)]
pub struct LastCheck(Mutex<Option<CheckAnswer>>);

/// The answer of one health check.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CheckAnswer {
    /// When it arrived, in milliseconds of the monotonic clock.
    pub at_ms: u64,
    /// How long the check took.
    pub took: Duration,
    /// Why it failed. `None`: it passed.
    pub failure: Option<Arc<str>>,
}

impl LastCheck {
    /// Keeps this answer. An equal reason is not allocated again.
    pub fn record(&self, failure: Option<&str>, took: Duration, at_ms: u64) {
        let mut last = self.0.lock();
        let before = last.take().and_then(|answer| answer.failure);
        let failure =
            failure.map(|reason| before.filter(|before| **before == *reason).unwrap_or_else(|| reason.into()));
        *last = Some(CheckAnswer { at_ms, took, failure });
    }

    /// The last answer. `None` before the first check.
    pub fn answer(&self) -> Option<CheckAnswer> {
        self.0.lock().clone()
    }
}
