//! The buckets of a limit, shared by all threads and bounded in number.
//!
//! A full table gives up the bucket with the least debt, not the oldest one. Otherwise a client could wash out its debt
//! with requests under other keys. A new key whose debt would be the least gets no bucket of its own: one shared bucket
//! judges all such keys. So an attacker must hold as many other keys as the table has places, each with more debt, to
//! displace one key.

mod debts;

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering::Relaxed};

use crossbeam_utils::CachePadded;
use parking_lot::Mutex;

use super::gcra::{Exceeded, Gcra, Tat};
use super::heap::BucketHeap;
use super::key::{KeyHash, KeyLabel};

/// Parts with a lock of their own. More than usual numbers of traffic threads.
const PARTS: usize = 32;

/// The buckets of a limit.
#[derive(Debug)]
pub struct BucketTable {
    gcra: Gcra,
    capacity: usize,
    /// Buckets in all parts, and those that a thread is about to insert.
    len: AtomicUsize,
    parts: Box<[CachePadded<Mutex<BucketHeap>>]>,
    /// The bucket of keys that have none of their own.
    shared: Mutex<Tat>,
    /// The number of buckets, for the metric. Several tables may share it.
    gauge: Arc<AtomicI64>,
}

/// Tokens that were taken, to be settled later.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Taken {
    /// `None`: the shared bucket.
    key: Option<KeyHash>,
    tat: Tat,
    /// The tokens that were taken.
    pub tokens: u64,
}

/// A bucket for the operator.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Debtor {
    /// Its key.
    pub key: KeyHash,
    /// Its key in text form.
    pub label: KeyLabel,
    /// Its debt in tokens.
    pub debt: u64,
}

impl BucketTable {
    /// An empty table for at most `capacity` buckets.
    pub fn new(gcra: Gcra, capacity: usize, gauge: Arc<AtomicI64>) -> Self {
        Self {
            gcra,
            capacity: capacity.max(1),
            len: AtomicUsize::new(0),
            parts: (0..PARTS).map(|_| CachePadded::default()).collect(),
            shared: Mutex::default(),
            gauge,
        }
    }

    /// The rate of its buckets.
    pub fn gcra(&self) -> &Gcra {
        &self.gcra
    }

    /// Takes `cost` tokens from the bucket of a key. `label` is called for a new key.
    ///
    /// # Errors
    /// There are not so many tokens.
    pub fn take(
        &self,
        key: KeyHash,
        label: impl FnOnce() -> KeyLabel,
        cost: u64,
        now_ns: u64,
    ) -> Result<Taken, Exceeded> {
        let known = self.part(key).lock().update(key, |tat| self.gcra.admit(tat, now_ns, cost));
        match known {
            Some(tat) => Ok(Taken { key: Some(key), tat: tat?, tokens: cost }),
            None => self.take_first(key, label, cost, now_ns),
        }
    }

    /// The first tokens of a key.
    #[cold]
    fn take_first(
        &self,
        key: KeyHash,
        label: impl FnOnce() -> KeyLabel,
        cost: u64,
        now_ns: u64,
    ) -> Result<Taken, Exceeded> {
        let first = self.gcra.admit(Tat::default(), now_ns, cost)?;
        if cost > 0 && (self.reserve_place() || self.evict_below(first, now_ns)) {
            let mut part = self.part(key).lock();
            let tat = match part.update(key, |tat| self.gcra.admit(tat, now_ns, cost)) {
                // Another thread was faster, so the place is not needed.
                Some(known) => {
                    self.len.fetch_sub(1, Relaxed);
                    known?
                }
                None => {
                    part.insert(key, first, label());
                    self.gauge.fetch_add(1, Relaxed);
                    first
                }
            };
            return Ok(Taken { key: Some(key), tat, tokens: cost });
        }
        let mut shared = self.shared.lock();
        *shared = self.gcra.admit(*shared, now_ns, cost)?;
        Ok(Taken { key: None, tat: *shared, tokens: cost })
    }

    /// Replaces the tokens that were taken by those that were used. A bucket that was given up meanwhile comes back with the
    /// rest of its debt.
    pub fn settle(&self, taken: Taken, used: u64, now_ns: u64) {
        let change = |tat: Tat| {
            if used > taken.tokens {
                self.gcra.debit(tat, now_ns, used - taken.tokens)
            } else {
                self.gcra.credit(tat, taken.tat, now_ns, taken.tokens - used)
            }
        };
        match taken.key {
            Some(key) => {
                let known = self.part(key).lock().update(key, |tat| Ok::<_, Exceeded>(change(tat)));
                if known.is_none() && used > taken.tokens {
                    self.owe(key, used - taken.tokens, now_ns);
                }
            }
            None => {
                let mut shared = self.shared.lock();
                *shared = change(*shared);
            }
        }
    }

    /// Adds a debt to a key without a bucket.
    #[cold]
    fn owe(&self, key: KeyHash, tokens: u64, now_ns: u64) {
        let first = self.gcra.first(now_ns, tokens);
        if !self.reserve_place() && !self.evict_below(first, now_ns) {
            let mut shared = self.shared.lock();
            *shared = self.gcra.debit(*shared, now_ns, tokens);
            return;
        }
        let mut part = self.part(key).lock();
        if part.update(key, |tat| Ok::<_, Exceeded>(self.gcra.debit(tat, now_ns, tokens))).is_some() {
            // Another request of the key was faster, so the place is not needed.
            self.len.fetch_sub(1, Relaxed);
        } else {
            part.insert(key, first, KeyLabel::UNKNOWN);
            self.gauge.fetch_add(1, Relaxed);
        }
    }

    /// The state of a key's bucket: its own or, if it has none and the table is full, the shared one.
    pub fn state(&self, key: KeyHash) -> Tat {
        if let Some(tat) = self.part(key).lock().get(key) {
            return tat;
        }
        if self.len() < self.capacity { Tat::default() } else { *self.shared.lock() }
    }

    /// Number of buckets.
    pub fn len(&self) -> usize {
        self.len.load(Relaxed).min(self.capacity)
    }

    /// Whether there is no bucket.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether a bucket has a debt.
    pub fn has_debt(&self, now_ns: u64) -> bool {
        self.parts.iter().any(|part| part.lock().iter().any(|bucket| self.gcra.debt(bucket.tat, now_ns) > 0))
    }

    /// The buckets with the largest debt, at most `count`.
    pub fn largest(&self, count: usize, now_ns: u64) -> Vec<Debtor> {
        let copy = |part: &CachePadded<Mutex<BucketHeap>>| -> Vec<(Tat, KeyHash)> {
            part.lock().iter().map(|bucket| (bucket.tat, bucket.key)).collect()
        };
        // Sorted outside of the locks.
        let mut all: Vec<_> = self.parts.iter().flat_map(copy).collect();
        all.sort_unstable_by_key(|(tat, _)| std::cmp::Reverse(*tat));
        let debtor = |(tat, key): (Tat, KeyHash)| {
            let debt = self.gcra.debt(tat, now_ns);
            let label = self.part(key).lock().label(key).filter(|_| debt > 0)?;
            Some(Debtor { key, label, debt })
        };
        all.into_iter().take(count).filter_map(debtor).collect()
    }

    fn part(&self, key: KeyHash) -> &Mutex<BucketHeap> {
        // The map inside a part uses the other bits of the hash.
        &self.parts[(key.number() >> 40) as usize % PARTS]
    }

    fn reserve_place(&self) -> bool {
        self.len.fetch_update(Relaxed, Relaxed, |len| (len < self.capacity).then_some(len + 1)).is_ok()
    }

    /// Frees the place of the bucket with the least debt, if that is less than the debt of `first`.
    fn evict_below(&self, first: Tat, now_ns: u64) -> bool {
        // Debts that have run out are equal, whatever their age.
        let debt = |tat: Tat| tat.max(self.gcra.first(now_ns, 0));
        let least = |(at, part): (usize, &CachePadded<Mutex<BucketHeap>>)| Some((part.lock().least()?, at));
        let Some((_, at)) = self.parts.iter().enumerate().filter_map(least).min() else { return false };
        let mut part = self.parts[at].lock();
        let evicts = part.least().is_some_and(|tat| debt(tat) < first);
        if evicts {
            part.remove_least();
            self.gauge.fetch_sub(1, Relaxed);
        }
        evicts
    }
}

impl Drop for BucketTable {
    fn drop(&mut self) {
        let buckets: usize = self.parts.iter().map(|part| part.lock().len()).sum();
        self.gauge.fetch_sub(i64::try_from(buckets).unwrap_or(0), Relaxed);
    }
}

#[cfg(test)]
#[path = "table_tests.rs"]
mod tests;
