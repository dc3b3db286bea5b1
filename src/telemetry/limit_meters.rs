//! The instruments of a rate limit and of a store. They know nothing about keys.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use crate::instruments::{CONNECT, Counter, Histogram};

/// The decision of a limit about a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LimitResult {
    /// The request was within the limit.
    Allowed,
    /// The request was refused.
    Limited,
    /// The request would have been refused, but the limit is not enforced.
    WouldLimit,
    /// The store did not answer, so the limit decided in this process. Counted beside the decision.
    Local,
    /// The store did not answer, so the request was not limited.
    Open,
    /// The store did not answer, so the request was refused.
    Closed,
}

impl LimitResult {
    /// In the order of the metrics output.
    pub const ALL: [Self; 6] = [Self::Allowed, Self::Limited, Self::WouldLimit, Self::Local, Self::Open, Self::Closed];

    /// The value of the `result` label.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Allowed => "allowed",
            Self::Limited => "limited",
            Self::WouldLimit => "would_limit",
            Self::Local => "local",
            Self::Open => "open",
            Self::Closed => "closed",
        }
    }
}

/// How the cost of a response was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CostResult {
    /// The response states it.
    Stated,
    /// The response states none.
    Absent,
    /// The value is not a number from 0 to 10^9.
    Invalid,
    /// The client left, or the response broke off, before the end.
    Aborted,
}

impl CostResult {
    /// In the order of the metrics output.
    pub const ALL: [Self; 4] = [Self::Stated, Self::Absent, Self::Invalid, Self::Aborted];

    /// The value of the `result` label.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Stated => "stated",
            Self::Absent => "absent",
            Self::Invalid => "invalid",
            Self::Aborted => "aborted",
        }
    }
}

/// The instruments of a limit.
#[derive(Debug)]
pub struct LimitMeters {
    name: Arc<str>,
    decisions: [Counter; LimitResult::ALL.len()],
    costs: [Counter; CostResult::ALL.len()],
    keys: Arc<AtomicI64>,
}

impl LimitMeters {
    /// All counters are zero. Use `Metrics::limit` instead, which returns the same instruments for the same name.
    pub fn new(name: &str) -> Self {
        Self { name: name.into(), decisions: Default::default(), costs: Default::default(), keys: Arc::default() }
    }

    /// The limit's name.
    pub fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// Counts a decision.
    pub fn count(&self, result: LimitResult) {
        self.decisions[result as usize].bump();
    }

    /// Number of decisions with this result.
    pub fn total(&self, result: LimitResult) -> u64 {
        self.decisions[result as usize].get()
    }

    /// Counts how the cost of a response was found.
    pub fn count_cost(&self, result: CostResult) {
        self.costs[result as usize].bump();
    }

    /// Number of responses whose cost was found like this.
    pub fn costs(&self, result: CostResult) -> u64 {
        self.costs[result as usize].get()
    }

    /// The gauge of buckets in memory, which the tables of the limit change.
    pub fn keys_gauge(&self) -> Arc<AtomicI64> {
        Arc::clone(&self.keys)
    }

    /// Number of buckets in memory.
    pub fn keys(&self) -> u64 {
        u64::try_from(self.keys.load(Ordering::Relaxed)).unwrap_or(0)
    }
}

/// The result of a request to a store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StoreResult {
    /// The store has answered.
    Ok,
    /// It has not answered in time.
    Timeout,
    /// It has answered with an error, or the connection broke.
    Error,
    /// It was not asked, because it has failed before.
    Skipped,
}

impl StoreResult {
    /// In the order of the metrics output.
    pub const ALL: [Self; 4] = [Self::Ok, Self::Timeout, Self::Error, Self::Skipped];

    /// The value of the `result` label.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Timeout => "timeout",
            Self::Error => "error",
            Self::Skipped => "skipped",
        }
    }
}

/// The instruments of a store.
#[derive(Debug)]
pub struct StoreMeters {
    name: Arc<str>,
    requests: [Counter; StoreResult::ALL.len()],
    took: Histogram,
}

impl StoreMeters {
    /// All values are zero. Use `Metrics::store` instead, which returns the same instruments for the same name.
    pub fn new(name: &str) -> Self {
        Self { name: name.into(), requests: Default::default(), took: Histogram::new(CONNECT) }
    }

    /// The store's name.
    pub fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// Counts a request. `took`: the time until the answer, if there was one.
    pub fn count(&self, result: StoreResult, took: Option<Duration>) {
        self.requests[result as usize].bump();
        if let Some(took) = took {
            self.took.observe(took);
        }
    }

    /// Number of requests with this result.
    pub fn total(&self, result: StoreResult) -> u64 {
        self.requests[result as usize].get()
    }

    /// Histogram of the response time.
    pub(super) fn took(&self) -> &Histogram {
        &self.took
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn enum_values_are_their_indexes_in_the_tables() {
        assert!(LimitResult::ALL.iter().enumerate().all(|(at, result)| *result as usize == at));
        assert!(CostResult::ALL.iter().enumerate().all(|(at, result)| *result as usize == at));
        assert!(StoreResult::ALL.iter().enumerate().all(|(at, result)| *result as usize == at));
    }
}
