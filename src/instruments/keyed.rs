//! Metric state by key, which survives reloads.
//!
//! A counter never decreases when a route is removed and added again. The state is looked up when a configuration is
//! compiled and at a scrape, never for a request. Users hold an `Arc` and need not release a key. The size is bounded:
//! if too many entries have no user, the least recently requested of them are evicted.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::Arc;

use parking_lot::{Mutex, MutexGuard};

/// Maximum number of entries without a user, per registry.
pub(crate) const MAX_UNREFERENCED: usize = 10_000;

/// Number of new keys between two evictions, so that their amortized cost is small.
const SHRINK_SLACK: usize = 1_000;

/// Metric state by key.
#[derive(Debug)]
pub(crate) struct KeyedRegistry<K, T> {
    inner: Mutex<Inner<K, T>>,
}

#[derive(Debug)]
struct Inner<K, T> {
    entries: HashMap<K, (u64, Arc<T>)>,
    tick: u64,
    evict_at: usize,
}

impl<K: Hash + Eq + Clone, T> KeyedRegistry<K, T> {
    pub(crate) fn new() -> Self {
        Self {
            inner: Mutex::new(Inner { entries: HashMap::new(), tick: 0, evict_at: MAX_UNREFERENCED + SHRINK_SLACK }),
        }
    }

    /// The entry of this key; `make` creates it if it does not exist.
    pub(crate) fn get(&self, key: K, make: impl FnOnce(&K) -> T) -> Arc<T> {
        let mut inner = self.lock();
        inner.tick += 1;
        let tick = inner.tick;
        if let Some((requested, value)) = inner.entries.get_mut(&key) {
            *requested = tick;
            return Arc::clone(value);
        }
        let value = Arc::new(make(&key));
        inner.entries.insert(key, (tick, Arc::clone(&value)));
        if inner.entries.len() > inner.evict_at {
            inner.evict();
        }
        value
    }

    /// All entries that have a user. Returns a copy, so that no lock is held while they are formatted.
    pub(crate) fn referenced(&self) -> Vec<Arc<T>> {
        let inner = self.lock();
        inner.entries.values().filter(|(_, value)| Arc::strong_count(value) > 1).map(|(_, c)| Arc::clone(c)).collect()
    }

    #[cfg(test)]
    fn len(&self) -> usize {
        self.lock().entries.len()
    }

    fn lock(&self) -> MutexGuard<'_, Inner<K, T>> {
        // No code under this lock can leave the map half-changed, so a panic of another thread does no harm.
        self.inner.lock()
    }
}

impl<K: Hash + Eq + Clone, T> Inner<K, T> {
    fn evict(&mut self) {
        // Under the lock a count of one cannot rise: the only reference to clone from is the one in the map.
        let idle = self.entries.iter().filter(|(_, (_, value))| Arc::strong_count(value) == 1);
        let mut idle: Vec<_> = idle.map(|(key, (requested, _))| (*requested, key.clone())).collect();
        idle.sort_unstable_by_key(|(requested, _)| *requested);
        let excess = idle.len().saturating_sub(MAX_UNREFERENCED);
        for (_, key) in idle.into_iter().take(excess) {
            self.entries.remove(&key);
        }
        self.evict_at = self.entries.len() + SHRINK_SLACK;
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests {
    use super::*;

    #[test]
    fn the_same_key_gets_the_same_entry() {
        let registry = KeyedRegistry::<u32, String>::new();
        let first = registry.get(1, |_| "made".into());
        assert!(Arc::ptr_eq(&first, &registry.get(1, |_| panic!("made twice"))));
        let at = Arc::as_ptr(&first);
        drop(first);
        assert!(registry.referenced().is_empty());
        assert_eq!(Arc::as_ptr(&registry.get(1, |_| panic!("forgotten"))), at);
    }

    #[test]
    fn unreferenced_entries_are_bounded_and_referenced_ones_stay() {
        let registry = KeyedRegistry::<usize, usize>::new();
        let in_use: Vec<_> = (0..100).map(|key| registry.get(key, |k| *k)).collect();
        for key in 100..5 * MAX_UNREFERENCED {
            registry.get(key, |k| *k);
        }
        assert!(registry.len() <= MAX_UNREFERENCED + in_use.len() + SHRINK_SLACK + 1, "{}", registry.len());
        assert_eq!(registry.referenced().len(), in_use.len());
        assert!(Arc::ptr_eq(&in_use[0], &registry.get(0, |_| panic!("forgotten"))));
        registry.get(5 * MAX_UNREFERENCED - 1, |_| panic!("the newest was forgotten"));
    }
}
