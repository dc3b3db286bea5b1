//! Retry budget of an upstream: limits retries after sent bytes, so that retries never multiply an outage.
//!
//! (The idea is from Finagle and Linkerd.) It never decides whether a failure is worth a retry: the retry policy does.
//! It reads no clock.

use std::sync::atomic::{AtomicU64, Ordering};

/// Length of the window in which requests and retries count, in seconds.
pub const WINDOW_SECS: u64 = 10;

/// A power of two above the window, so that the slot of a new second is never one that is still summed.
const SLOT_COUNT: usize = 16;

/// The budget of one upstream. In any window, the retries are at most the larger of two numbers: the share of the
/// requests, and the floor. A ring has one bucket per second. A bucket is one word, with its second in the high half
/// and its count in the low half. So reset and increment are one atomic step.
#[derive(Debug, Default)]
pub struct RetryBudget {
    requests: Ring,
    retries: Ring,
}

impl RetryBudget {
    /// Counts a request. `now_ms`: milliseconds of any clock that does not step back far.
    pub fn count_request(&self, now_ms: u64) {
        self.requests.add(now_ms / 1_000);
    }

    /// Takes one retry from the budget, if one is left. `share`: of the requests, 0 to 1. `floor`: retries per second
    /// that are always allowed.
    pub fn try_spend(&self, share: f64, floor: u32, now_ms: u64) -> bool {
        let now = now_ms / 1_000;
        // Adds first and removes again if the budget is exceeded. Two concurrent calls may both be refused, but never
        // both be allowed beyond the budget.
        self.retries.add(now);
        if self.retries.sum(now) <= self.allowed(share, floor, now) {
            return true;
        }
        self.retries.take_back(now);
        false
    }

    /// The requests and retries of each second of the window, from the present one back.
    pub fn counts(&self, now_ms: u64) -> Vec<[u64; 2]> {
        let now = now_ms / 1_000;
        let seconds = (0..WINDOW_SECS).map(|ago| now.saturating_sub(ago));
        seconds.map(|second| [self.requests.count(second), self.retries.count(second)]).collect()
    }

    /// Adds the counts of another budget, in the same form.
    pub fn add_counts(&self, counts: &[[u64; 2]], now_ms: u64) {
        let now = now_ms / 1_000;
        for (ago, [requests, retries]) in (0..WINDOW_SECS).zip(counts) {
            self.requests.add_many(now.saturating_sub(ago), *requests);
            self.retries.add_many(now.saturating_sub(ago), *retries);
        }
    }

    /// Retries that are left in the present window.
    pub fn left(&self, share: f64, floor: u32, now_ms: u64) -> u64 {
        let now = now_ms / 1_000;
        self.allowed(share, floor, now).saturating_sub(self.retries.sum(now))
    }

    fn allowed(&self, share: f64, floor: u32, now: u64) -> u64 {
        let by_share = (self.requests.sum(now) as f64 * share.clamp(0.0, 1.0)).floor() as u64;
        by_share.max(u64::from(floor) * WINDOW_SECS)
    }
}

#[derive(Debug, Default)]
struct Ring([AtomicU64; SLOT_COUNT]);

impl Ring {
    fn slot(&self, second: u64) -> &AtomicU64 {
        &self.0[(second % SLOT_COUNT as u64) as usize]
    }

    fn add(&self, second: u64) {
        self.add_many(second, 1);
    }

    fn add_many(&self, second: u64, count: u64) {
        if count == 0 {
            return;
        }
        let slot = self.slot(second);
        let stamp = stamp(second);
        let mut seen = slot.load(Ordering::Relaxed);
        loop {
            let before = if seen >> 32 == stamp { seen & COUNT } else { 0 };
            let next = stamp << 32 | before.saturating_add(count).min(COUNT);
            match slot.compare_exchange_weak(seen, next, Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => return,
                Err(now) => seen = now,
            }
        }
    }

    fn take_back(&self, second: u64) {
        let fewer = |seen: u64| (seen >> 32 == stamp(second) && seen & COUNT > 0).then(|| seen - 1);
        // If the bucket was reset meanwhile, there is nothing to remove.
        let _ = self.slot(second).fetch_update(Ordering::Relaxed, Ordering::Relaxed, fewer);
    }

    fn count(&self, second: u64) -> u64 {
        let seen = self.slot(second).load(Ordering::Relaxed);
        if seen >> 32 == stamp(second) { seen & COUNT } else { 0 }
    }

    fn sum(&self, now: u64) -> u64 {
        let first = now.saturating_sub(WINDOW_SECS - 1);
        (first..=now).map(|second| self.count(second)).sum()
    }
}

const COUNT: u64 = 0xFFFF_FFFF;

/// Seconds in 32 bits last for 136 years. Shifted by one, so that an unused bucket belongs to no second.
fn stamp(second: u64) -> u64 {
    (second + 1) & COUNT
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_floor_applies_without_requests() {
        let budget = RetryBudget::default();
        let spent = (0..500).filter(|_| budget.try_spend(0.2, 10, 5_000)).count();
        assert_eq!(spent, 100);
        assert!(!budget.try_spend(0.2, 10, 14_999), "still in the window");
        assert!(budget.try_spend(0.2, 10, 15_000), "out of the window");
    }

    #[test]
    fn without_a_floor_only_the_share_counts() {
        let budget = RetryBudget::default();
        assert!(!budget.try_spend(1.0, 0, 5_000));
        budget.count_request(5_000);
        assert!(budget.try_spend(1.0, 0, 5_000) && !budget.try_spend(1.0, 0, 5_000));
    }

    #[test]
    fn the_share_counts_once_it_is_larger() {
        let budget = RetryBudget::default();
        for n in 0..10_000 {
            budget.count_request(n);
        }
        assert_eq!((0..5_000).filter(|_| budget.try_spend(0.2, 10, 9_999)).count(), 2_000);
        assert_eq!((0..5_000).filter(|_| budget.try_spend(1.0, 10, 9_999)).count(), 5_000);
    }

    proptest! {
        #[test]
        fn the_budget_is_never_exceeded(share in 0.0_f64..=1.0, floor in 0_u32..20, steps in proptest::collection::vec((0_u64..700, 0_u32..60, 0_u32..60), 1..80)) {
            let budget = RetryBudget::default();
            let (mut now, mut requests, mut retries) = (1_000_000, Vec::new(), Vec::new());
            for (wait, sent, wanted) in steps {
                now += wait;
                for _ in 0..sent {
                    budget.count_request(now);
                    requests.push(now / 1_000);
                }
                for _ in 0..wanted {
                    if budget.try_spend(share, floor, now) {
                        retries.push(now / 1_000);
                        let since = now / 1_000 - (WINDOW_SECS - 1);
                        let within = |times: &[u64]| times.iter().filter(|t| **t >= since).count();
                        let allowed = (within(&requests) as f64 * share).floor().max(f64::from(floor) * 10.0);
                        prop_assert!(within(&retries) as f64 <= allowed);
                    }
                }
            }
        }
    }

    #[test]
    fn counts_that_pass_to_another_clock_leave_the_same_budget() {
        let (old, new) = (RetryBudget::default(), RetryBudget::default());
        for n in 0..100 {
            old.count_request(50_000 + n * 50);
        }
        let spent = (0..40).filter(|_| old.try_spend(0.3, 0, 55_000)).count();
        new.add_counts(&old.counts(55_000), 2_000_000);
        let left = (0..100).filter(|_| new.try_spend(0.3, 0, 2_000_000)).count();
        assert_eq!((spent, left), (30, 0));
        new.count_request(2_006_000);
        assert!(!new.try_spend(0.3, 0, 2_006_000), "the requests of long ago have left the window");
    }

    #[test]
    fn concurrent_threads_never_exceed_the_budget() {
        let budget = RetryBudget::default();
        let spent = AtomicU64::new(0);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..1_000 {
                        spent.fetch_add(u64::from(budget.try_spend(0.5, 10, 1_000)), Ordering::Relaxed);
                    }
                });
            }
        });
        assert!((90..=100).contains(&spent.load(Ordering::Relaxed)));
    }
}
