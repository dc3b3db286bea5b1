//! The requests in flight for each key of a limit. A guard counts a request until it is dropped.
//!
//! The table needs no bound of its own: it has a key only while a request with that key is in flight.

use std::collections::HashMap;
use std::fmt;
use std::hash::BuildHasherDefault;
use std::sync::Arc;

use crossbeam_utils::CachePadded;
use parking_lot::Mutex;

use super::heap::Hashed;
use super::key::KeyHash;

/// Parts with a lock of their own.
const PARTS: usize = 32;

type Counts = HashMap<KeyHash, u32, BuildHasherDefault<Hashed>>;

/// The requests in flight by key.
#[derive(Debug)]
pub struct ConcurrencyTable(Box<[CachePadded<Mutex<Counts>>]>);

/// Counts a request as in flight. Dropping it ends that.
pub struct ConcurrencyGuard {
    table: Arc<ConcurrencyTable>,
    key: KeyHash,
}

impl Default for ConcurrencyTable {
    fn default() -> Self {
        Self((0..PARTS).map(|_| CachePadded::default()).collect())
    }
}

impl ConcurrencyTable {
    /// Counts a request of this key, unless `most` of them are in flight.
    pub fn enter(self: &Arc<Self>, key: KeyHash, most: u32) -> Option<ConcurrencyGuard> {
        let mut counts = self.part(key).lock();
        let count = counts.entry(key).or_insert(0);
        if *count >= most.max(1) {
            return None;
        }
        *count += 1;
        Some(ConcurrencyGuard { table: Arc::clone(self), key })
    }

    /// The requests of this key in flight.
    pub fn in_flight(&self, key: KeyHash) -> u32 {
        self.part(key).lock().get(&key).copied().unwrap_or(0)
    }

    /// Number of keys with requests in flight.
    pub fn keys(&self) -> usize {
        self.0.iter().map(|part| part.lock().len()).sum()
    }

    fn part(&self, key: KeyHash) -> &Mutex<Counts> {
        &self.0[(key.number() >> 40) as usize % PARTS]
    }
}

impl Drop for ConcurrencyGuard {
    fn drop(&mut self) {
        let mut counts = self.table.part(self.key).lock();
        if let Some(count) = counts.get_mut(&self.key) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&self.key);
            }
        }
        // A flood of keys must not leave an empty map of its size behind.
        if counts.is_empty() && counts.capacity() > 1024 {
            counts.shrink_to_fit();
        }
    }
}

impl fmt::Debug for ConcurrencyGuard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ConcurrencyGuard({})", self.key)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn the_count_returns_to_zero_whatever_ends_the_requests(
            steps in prop::collection::vec((0u64..5, prop::bool::ANY, prop::bool::ANY), 1..200), most in 1u32..4,
        ) {
            let table = Arc::new(ConcurrencyTable::default());
            let mut open = Vec::new();
            for (key, panics, ends) in steps {
                let key = KeyHash::new(key << 40);
                let before = table.in_flight(key);
                match table.enter(key, most) {
                    Some(guard) if panics => {
                        let unwound = std::panic::catch_unwind(std::panic::AssertUnwindSafe(move || {
                            let _guard = guard;
                            std::panic::resume_unwind(Box::new("aborted"));
                        }));
                        prop_assert!(unwound.is_err());
                        prop_assert_eq!(table.in_flight(key), before);
                    }
                    Some(guard) => open.push(guard),
                    None => prop_assert_eq!(before, most),
                }
                prop_assert!(table.in_flight(key) <= most);
                if ends && !open.is_empty() {
                    open.swap_remove(0);
                }
            }
            drop(open);
            prop_assert_eq!(table.keys(), 0);
        }
    }
}
