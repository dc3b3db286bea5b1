//! Limits how often a log line about one thing is repeated, and counts the events between two lines.
//!
//! It reads no clock and logs nothing.

use std::sync::atomic::{AtomicU64, Ordering};

/// The time between two lines about the same thing.
const INTERVAL_MS: u64 = 60_000;

/// The limit for the lines about one thing.
#[derive(Debug, Default)]
pub struct Throttle {
    /// When the next line is due, in milliseconds of the monotonic clock.
    next_ms: AtomicU64,
    /// Events since the last line.
    pending: AtomicU64,
}

impl Throttle {
    /// No event yet.
    pub const fn new() -> Self {
        Self { next_ms: AtomicU64::new(0), pending: AtomicU64::new(0) }
    }

    /// Counts an event. If a line is due, returns the number of events since the last line, this one included.
    pub fn count(&self, now_ms: u64) -> Option<u64> {
        self.pending.fetch_add(1, Ordering::Relaxed);
        let due = |next: u64| (now_ms >= next).then(|| now_ms.saturating_add(INTERVAL_MS));
        self.next_ms.fetch_update(Ordering::Relaxed, Ordering::Relaxed, due).ok()?;
        Some(self.pending.swap(0, Ordering::Relaxed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_a_minute_with_the_number_of_events_since_the_last_one() {
        let throttle = Throttle::new();
        let lines = [5, 6, 7, 60_004, 60_005, 60_006, 200_000].map(|now| throttle.count(now));
        assert_eq!(lines, [Some(1), None, None, None, Some(4), None, Some(2)]);
    }
}
