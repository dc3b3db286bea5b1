//! The debts of a table, to pass them to the table of another process.
//!
//! A debt passes as the time until it has run out, because each process has a monotonic clock of its own.

use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use super::BucketTable;
use crate::rate_limit::debts::BucketDebt;
use crate::rate_limit::gcra::Exceeded;
use crate::rate_limit::key::KeyLabel;

impl BucketTable {
    /// The largest debts, at most `count`, and that of the shared bucket.
    pub fn debts(&self, count: usize, now_ns: u64) -> Vec<BucketDebt> {
        let wait_ns = |tat| u64::try_from(self.gcra.time_to_empty(tat, now_ns).as_nanos()).unwrap_or(u64::MAX);
        let mut all = Vec::new();
        for part in &self.parts {
            let part = part.lock();
            all.extend(part.iter().map(|bucket| (bucket.tat, bucket.key)));
        }
        // Sorted outside of the locks.
        all.sort_unstable_by_key(|(tat, _)| std::cmp::Reverse(*tat));
        let own = all.into_iter().take(count).filter_map(|(tat, key)| {
            let label = self.part(key).lock().label(key)?;
            Some(BucketDebt { key: Some(key), label, wait_ns: wait_ns(tat) })
        });
        let shared = *self.shared.lock();
        let shared = BucketDebt { key: None, label: KeyLabel::UNKNOWN, wait_ns: wait_ns(shared) };
        own.chain([shared]).filter(|debt| debt.wait_ns > 0).collect()
    }

    /// Adopts a debt. A bucket that has a larger one keeps it.
    pub fn adopt_debt(&self, debt: BucketDebt, now_ns: u64) {
        let tat = self.gcra.empty_after(now_ns, Duration::from_nanos(debt.wait_ns));
        let own = debt.key.filter(|_| self.reserve_place() || self.evict_below(tat, now_ns));
        let Some(key) = own else {
            let mut shared = self.shared.lock();
            *shared = tat.max(*shared);
            return;
        };
        let mut part = self.part(key).lock();
        if part.update(key, |known| Ok::<_, Exceeded>(tat.max(known))).is_some() {
            // The key has a bucket, so the place is not needed.
            self.len.fetch_sub(1, Relaxed);
        } else {
            part.insert(key, tat, debt.label);
            self.gauge.fetch_add(1, Relaxed);
        }
    }
}
