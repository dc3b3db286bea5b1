//! The instruments of a route's mirror: the copies in flight, and how copies ended.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::instruments::Counter;

/// How a copy ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MirrorResult {
    /// The upstream has answered, with any status.
    Ok,
    /// No backend took the copy, or the connection broke.
    Failed,
    /// The upstream has not answered in time.
    Timeout,
    /// Not sent: too many copies were in flight.
    Dropped,
    /// Not sent: the body of the request was too large.
    TooLarge,
    /// Not sent: the request ended before its body.
    Incomplete,
}

impl MirrorResult {
    /// In the order of the metrics output.
    pub const ALL: [Self; 6] = [Self::Ok, Self::Failed, Self::Timeout, Self::Dropped, Self::TooLarge, Self::Incomplete];

    /// The value of the `result` label.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Failed => "failed",
            Self::Timeout => "timeout",
            Self::Dropped => "dropped",
            Self::TooLarge => "too_large",
            Self::Incomplete => "incomplete",
        }
    }
}

/// The instruments of a mirror.
#[derive(Debug, Default)]
pub struct MirrorMeters {
    in_flight: AtomicU32,
    results: [Counter; MirrorResult::ALL.len()],
}

impl MirrorMeters {
    /// Counts how a copy ended.
    pub fn count(&self, result: MirrorResult) {
        self.results[result as usize].bump();
    }

    /// Number of copies with this result.
    pub fn total(&self, result: MirrorResult) -> u64 {
        self.results[result as usize].get()
    }

    /// Number of copies in flight.
    pub fn in_flight(&self) -> u32 {
        self.in_flight.load(Ordering::Relaxed)
    }
}

/// Guard of a copy in flight. Dropping it frees its place.
#[derive(Debug)]
pub struct CopyInFlight {
    meters: Arc<MirrorMeters>,
    result: MirrorResult,
}

impl CopyInFlight {
    /// Counts a copy as in flight. `None` if there are `most` already.
    pub fn start(meters: &Arc<MirrorMeters>, most: u32) -> Option<Self> {
        let one_more = |count: u32| (count < most).then_some(count + 1);
        meters.in_flight.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_more).ok()?;
        Some(Self { meters: Arc::clone(meters), result: MirrorResult::Incomplete })
    }

    /// Ends the copy with this result.
    pub fn end(mut self, result: MirrorResult) {
        self.result = result;
    }
}

impl Drop for CopyInFlight {
    fn drop(&mut self) {
        self.meters.in_flight.fetch_sub(1, Ordering::Relaxed);
        self.meters.count(self.result);
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn enum_values_are_their_indexes_in_the_tables() {
        assert!(MirrorResult::ALL.iter().enumerate().all(|(at, result)| *result as usize == at));
    }

    #[test]
    fn no_more_copies_start_than_the_bound_allows() {
        let meters = Arc::new(MirrorMeters::default());
        let first = CopyInFlight::start(&meters, 2).unwrap();
        let second = CopyInFlight::start(&meters, 2).unwrap();
        assert!(CopyInFlight::start(&meters, 2).is_none());
        first.end(MirrorResult::Ok);
        drop(second);
        assert_eq!(
            (meters.in_flight(), meters.total(MirrorResult::Ok), meters.total(MirrorResult::Incomplete)),
            (0, 1, 1)
        );
        assert!(CopyInFlight::start(&meters, 1).is_some());
    }
}
