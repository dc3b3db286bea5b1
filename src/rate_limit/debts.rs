//! The debts of limits, in the form in which they pass to another process.

use serde::{Deserialize, Serialize};

use super::key::{KeyHash, KeyLabel};
use super::limit::Limit;

/// Maximum number of buckets that pass for each limit. Those with the largest debts pass.
const MAX_BUCKETS: usize = 10_000;

/// The debts of one limit in memory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LimitDebts {
    /// The name of the limit.
    pub limit: String,
    /// The settings that give the buckets their meaning. Debts of other settings mean nothing.
    pub shape: String,
    /// The buckets with a debt.
    pub buckets: Vec<BucketDebt>,
}

/// The debt of one bucket.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BucketDebt {
    /// `None`: the bucket of the keys that have none of their own.
    pub key: Option<KeyHash>,
    /// The key as the operator sees it.
    pub label: KeyLabel,
    /// The time until the bucket has no debt, in nanoseconds.
    pub wait_ns: u64,
}

impl Limit {
    /// The debts of the limit. `None`: it has none in memory.
    pub fn debts(&self, now_ns: u64) -> Option<LimitDebts> {
        let buckets = self.table()?.debts(MAX_BUCKETS, now_ns);
        let (limit, shape) = (self.name().to_string(), self.shape());
        (!buckets.is_empty()).then_some(LimitDebts { limit, shape, buckets })
    }

    /// Adopts debts. `false` if they are debts of other settings.
    pub fn adopt_debts(&self, debts: LimitDebts, now_ns: u64) -> bool {
        let Some(table) = self.table().filter(|_| debts.shape == self.shape()) else { return false };
        debts.buckets.into_iter().for_each(|debt| table.adopt_debt(debt, now_ns));
        true
    }
}
