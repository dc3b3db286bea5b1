//! Metric state by key, which survives reloads.
//!
//! A counter never decreases when a route is removed and added again. The state is never looked up while a
//! request is processed, only when a configuration is compiled and at a scrape. Users hold an `Arc` and need
//! not release a key. The size is bounded: of the entries without a user, the least recently requested are
//! evicted.

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
    look_at: usize,
}

impl<K: Hash + Eq + Clone, T> KeyedRegistry<K, T> {
    pub(crate) fn new() -> Self {
        Self { inner: Mutex::new(Inner { entries: HashMap::new(), tick: 0, look_at: MAX_UNREFERENCED + SHRINK_SLACK }) }
    }

    /// The entry of this key; `make` creates it if it does not exist.
    pub(crate) fn get(&self, key: K, make: impl FnOnce(&K) -> T) -> Arc<T> {
        let mut inner = self.lock();
        inner.tick += 1;
        let tick = inner.tick;
        if let Some((asked, cells)) = inner.entries.get_mut(&key) {
            *asked = tick;
            return Arc::clone(cells);
        }
        let cells = Arc::new(make(&key));
        inner.entries.insert(key, (tick, Arc::clone(&cells)));
        if inner.entries.len() > inner.look_at {
            inner.forget();
        }
        cells
    }

    /// All entries that have a user. Returns a copy, so that no lock is held while they are formatted.
    pub(crate) fn referenced(&self) -> Vec<Arc<T>> {
        let inner = self.lock();
        inner.entries.values().filter(|(_, cells)| Arc::strong_count(cells) > 1).map(|(_, c)| Arc::clone(c)).collect()
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
    fn forget(&mut self) {
        // Under the lock a count of one cannot rise: the only reference to clone from is the one in the map.
        let idle = self.entries.iter().filter(|(_, (_, cells))| Arc::strong_count(cells) == 1);
        let mut idle: Vec<_> = idle.map(|(key, (asked, _))| (*asked, key.clone())).collect();
        idle.sort_unstable_by_key(|(asked, _)| *asked);
        let excess = idle.len().saturating_sub(MAX_UNREFERENCED);
        for (_, key) in idle.into_iter().take(excess) {
            self.entries.remove(&key);
        }
        self.look_at = self.entries.len() + SHRINK_SLACK;
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests {
    use super::*;

    #[test]
    fn the_same_key_gets_the_same_entry() {
        let kept = KeyedRegistry::<u32, String>::new();
        let first = kept.get(1, |_| "made".into());
        assert!(Arc::ptr_eq(&first, &kept.get(1, |_| panic!("made twice"))));
        let at = Arc::as_ptr(&first);
        drop(first);
        assert!(kept.referenced().is_empty());
        assert_eq!(Arc::as_ptr(&kept.get(1, |_| panic!("forgotten"))), at);
    }

    #[test]
    fn unreferenced_entries_are_bounded_and_referenced_ones_stay() {
        let kept = KeyedRegistry::<usize, usize>::new();
        let held: Vec<_> = (0..100).map(|key| kept.get(key, |k| *k)).collect();
        for key in 100..5 * MAX_UNREFERENCED {
            kept.get(key, |k| *k);
        }
        assert!(kept.len() <= MAX_UNREFERENCED + held.len() + SHRINK_SLACK + 1, "{}", kept.len());
        assert_eq!(kept.referenced().len(), held.len());
        assert!(Arc::ptr_eq(&held[0], &kept.get(0, |_| panic!("forgotten"))));
        kept.get(5 * MAX_UNREFERENCED - 1, |_| panic!("the newest was forgotten"));
    }
}
