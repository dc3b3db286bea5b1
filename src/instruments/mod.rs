//! Metric primitives: a counter, a table of counters by status, and a histogram.
//!
//! They know no label and no metric family. A write is a relaxed atomic add without a lock. It allocates only for the
//! first status of a class.

pub mod keyed;
pub mod throttle;

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// A counter that only increases.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// A counter of zero, usable in constants.
    pub const fn new() -> Self {
        Self(AtomicU64::new(0))
    }

    /// Adds one.
    pub fn bump(&self) {
        self.add(1);
    }

    /// Adds `n`.
    pub fn add(&self, n: u64) {
        self.0.fetch_add(n, Ordering::Relaxed);
    }

    /// The current value.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

const CLASSES: usize = 10;
const PER_CLASS: usize = 100;

/// One counter per status, 0 to 999. The hundred counters of a class are allocated when the class is first counted.
#[derive(Debug, Default)]
pub(crate) struct StatusCounters([OnceLock<Box<[Counter; PER_CLASS]>>; CLASSES]);

impl StatusCounters {
    /// Adds one to `status`; values above 999 count as 999.
    pub(crate) fn bump(&self, status: u16) {
        let status = usize::from(status).min(CLASSES * PER_CLASS - 1);
        let class = self.0[status / PER_CLASS].get_or_init(|| Box::new([const { Counter::new() }; PER_CLASS]));
        class[status % PER_CLASS].bump();
    }

    /// All statuses with a count above zero, in ascending order.
    pub(crate) fn seen(&self) -> impl Iterator<Item = (u16, u64)> + '_ {
        let classes = self.0.iter().enumerate().filter_map(|(at, class)| Some((at, class.get()?)));
        classes.flat_map(|(at, class)| {
            let status = move |low| u16::try_from(at * PER_CLASS + low).unwrap_or(u16::MAX);
            class.iter().enumerate().map(move |(low, count)| (status(low), count.get())).filter(|(_, n)| *n > 0)
        })
    }
}

/// Bucket bounds for request and response times, in nanoseconds: 0.5 ms to 60 s.
pub(crate) const LATENCY: &[u64] = &[
    500_000,
    1_000_000,
    2_500_000,
    5_000_000,
    10_000_000,
    25_000_000,
    50_000_000,
    100_000_000,
    250_000_000,
    500_000_000,
    1_000_000_000,
    2_500_000_000,
    5_000_000_000,
    10_000_000_000,
    30_000_000_000,
    60_000_000_000,
];

/// The upper bounds of the buckets of a latency histogram, in milliseconds.
pub(crate) fn latency_bounds_ms() -> [f64; LATENCY.len()] {
    std::array::from_fn(|at| LATENCY[at] as f64 / 1e6)
}

/// Bucket bounds for connect times, in nanoseconds: 0.1 ms to 3 s.
pub(crate) const CONNECT: &[u64] = &[
    100_000,
    250_000,
    500_000,
    1_000_000,
    2_500_000,
    5_000_000,
    10_000_000,
    25_000_000,
    50_000_000,
    100_000_000,
    250_000_000,
    500_000_000,
    1_000_000_000,
    3_000_000_000,
];

/// Upper bounds of the buckets of the durations of streams, in nanoseconds: 5 ms to a day.
pub(crate) const STREAM: &[u64] = &[
    5_000_000,
    25_000_000,
    100_000_000,
    500_000_000,
    1_000_000_000,
    5_000_000_000,
    10_000_000_000,
    30_000_000_000,
    60_000_000_000,
    300_000_000_000,
    900_000_000_000,
    3_600_000_000_000,
    14_400_000_000_000,
    86_400_000_000_000,
];

/// A histogram of durations. An observation is two atomic adds.
#[derive(Debug)]
pub(crate) struct Histogram {
    bounds: &'static [u64],
    // One more than `bounds`: the last bucket counts durations above all bounds.
    buckets: Box<[AtomicU64]>,
    sum: AtomicU64,
}

/// Number of buckets of a latency histogram, with the one above all bounds.
pub const LATENCY_BUCKETS: usize = LATENCY.len() + 1;

/// The number of observations in each bucket of a latency histogram. They are not cumulative.
pub type LatencyCounts = [u64; LATENCY_BUCKETS];

/// A snapshot of a histogram.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Observed {
    /// (upper bound in nanoseconds, cumulative count), ascending, without the infinite bucket.
    pub(crate) buckets: Vec<(u64, u64)>,
    /// Number of observations.
    pub(crate) count: u64,
    /// Sum of the observations in nanoseconds.
    pub(crate) nanos: u64,
}

impl Histogram {
    /// An empty histogram with these upper bounds, in nanoseconds, ascending.
    pub(crate) fn new(bounds: &'static [u64]) -> Self {
        Self { bounds, buckets: (0..=bounds.len()).map(|_| AtomicU64::new(0)).collect(), sum: AtomicU64::new(0) }
    }

    /// Adds an observation.
    pub(crate) fn observe(&self, took: Duration) {
        let nanos = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        let at = self.bounds.partition_point(|bound| *bound < nanos);
        self.buckets[at].fetch_add(1, Ordering::Relaxed);
        self.sum.fetch_add(nanos, Ordering::Relaxed);
    }

    /// The number of observations in each bucket. Buckets that this histogram does not have are zero.
    pub(crate) fn counts(&self) -> LatencyCounts {
        std::array::from_fn(|at| self.buckets.get(at).map_or(0, |bucket| bucket.load(Ordering::Relaxed)))
    }

    /// A snapshot; `None` if nothing was observed yet. The count is the sum of the buckets, so a scrape during
    /// observations never shows a count that differs from the last bucket.
    pub(crate) fn observed(&self) -> Option<Observed> {
        let mut count = 0;
        let mut buckets = Vec::with_capacity(self.bounds.len());
        for (at, bucket) in self.buckets.iter().enumerate() {
            count += bucket.load(Ordering::Relaxed);
            if let Some(bound) = self.bounds.get(at) {
                buckets.push((*bound, count));
            }
        }
        let nanos = self.sum.load(Ordering::Relaxed);
        (count > 0).then_some(Observed { buckets, count, nanos })
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests {
    use super::*;

    #[test]
    fn each_status_has_its_own_count() {
        let statuses = StatusCounters::default();
        for status in [200, 404, 200, 0, 999, 1000, u16::MAX] {
            statuses.bump(status);
        }
        assert_eq!(statuses.seen().collect::<Vec<_>>(), [(0, 1), (200, 2), (404, 1), (999, 3)]);
    }

    #[test]
    fn a_bound_belongs_to_its_bucket() {
        let durations = Histogram::new(CONNECT);
        assert_eq!(durations.observed(), None);
        for nanos in [0, 100_000, 100_001, 3_000_000_000, 3_000_000_001] {
            durations.observe(Duration::from_nanos(nanos));
        }
        let observed = durations.observed().unwrap();
        assert_eq!(observed.count, 5);
        assert_eq!(observed.buckets[0], (100_000, 2));
        assert_eq!(observed.buckets[1], (250_000, 3));
        assert_eq!(observed.buckets.last(), Some(&(3_000_000_000, 4)));
        assert_eq!(observed.nanos, 6_000_200_002);
    }

    #[test]
    fn bounds_ascend() {
        assert!(LATENCY.is_sorted() && CONNECT.is_sorted() && STREAM.is_sorted());
    }
}
