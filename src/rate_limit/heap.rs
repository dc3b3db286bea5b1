//! The buckets of a part of a table, by key and by debt. The bucket with the least debt is found at once.
//!
//! A binary heap over slots: a bucket knows its position in the heap, so a changed debt moves it in place.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

use super::gcra::Tat;
use super::key::{KeyHash, KeyLabel};

/// A bucket.
#[derive(Debug)]
pub(super) struct Bucket {
    pub(super) key: KeyHash,
    pub(super) tat: Tat,
    pub(super) label: KeyLabel,
    /// Its position in the heap.
    at: u32,
}

/// Buckets by key, and the one with the least debt.
#[derive(Debug, Default)]
pub(super) struct BucketHeap {
    slots: HashMap<KeyHash, u32, BuildHasherDefault<Hashed>>,
    buckets: Vec<Bucket>,
    /// Slots; none has less debt than its parent at (i - 1) / 2.
    heap: Vec<u32>,
}

/// The keys are hashes already.
#[derive(Debug, Default)]
pub(super) struct Hashed(u64);

impl Hasher for Hashed {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|byte| self.0 = self.0.rotate_left(8) ^ u64::from(*byte));
    }

    fn write_u64(&mut self, hash: u64) {
        self.0 = hash;
    }
}

impl BucketHeap {
    pub(super) fn len(&self) -> usize {
        self.buckets.len()
    }

    pub(super) fn get(&self, key: KeyHash) -> Option<Tat> {
        self.slots.get(&key).map(|slot| self.bucket(*slot).tat)
    }

    pub(super) fn label(&self, key: KeyHash) -> Option<KeyLabel> {
        self.slots.get(&key).map(|slot| self.bucket(*slot).label.clone())
    }

    /// Changes the debt of a bucket. `None`: the key has no bucket. An error of `change` leaves the bucket as it is.
    pub(super) fn update<E>(
        &mut self,
        key: KeyHash,
        change: impl FnOnce(Tat) -> Result<Tat, E>,
    ) -> Option<Result<Tat, E>> {
        let slot = *self.slots.get(&key)?;
        let bucket = &mut self.buckets[slot as usize];
        let (before, at) = (bucket.tat, bucket.at as usize);
        let after = match change(before) {
            Ok(after) => after,
            error => return Some(error),
        };
        bucket.tat = after;
        if after > before {
            self.sift_down(at)
        } else {
            self.sift_up(at)
        }
        Some(Ok(after))
    }

    /// Adds a bucket for a key that has none.
    pub(super) fn insert(&mut self, key: KeyHash, tat: Tat, label: KeyLabel) {
        // A table has at most 10^8 buckets, so a slot fits into 32 bits.
        let (slot, at) = (self.buckets.len() as u32, self.heap.len());
        self.buckets.push(Bucket { key, tat, label, at: at as u32 });
        self.heap.push(slot);
        self.slots.insert(key, slot);
        self.sift_up(at);
    }

    /// The least debt.
    pub(super) fn least(&self) -> Option<Tat> {
        self.heap.first().map(|slot| self.bucket(*slot).tat)
    }

    /// Removes the bucket with the least debt.
    pub(super) fn remove_least(&mut self) {
        if self.heap.is_empty() {
            return;
        }
        let slot = self.heap.swap_remove(0);
        if let Some(moved) = self.heap.first().copied() {
            self.buckets[moved as usize].at = 0;
            self.sift_down(0);
        }
        let gone = self.buckets.swap_remove(slot as usize);
        self.slots.remove(&gone.key);
        if let Some(moved) = self.buckets.get(slot as usize) {
            self.slots.insert(moved.key, slot);
            self.heap[moved.at as usize] = slot;
        }
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Bucket> {
        self.buckets.iter()
    }

    /// The memory that it holds, in bytes.
    #[cfg(test)]
    pub(super) fn capacity_bytes(&self) -> usize {
        let slots = self.slots.capacity() * size_of::<(KeyHash, u32)>();
        slots + self.buckets.capacity() * size_of::<Bucket>() + self.heap.capacity() * size_of::<u32>()
    }

    fn bucket(&self, slot: u32) -> &Bucket {
        &self.buckets[slot as usize]
    }

    fn tat(&self, at: usize) -> Tat {
        self.bucket(self.heap[at]).tat
    }

    fn sift_up(&mut self, mut at: usize) {
        while at > 0 && self.tat(at) < self.tat((at - 1) / 2) {
            self.swap(at, (at - 1) / 2);
            at = (at - 1) / 2;
        }
    }

    fn sift_down(&mut self, mut at: usize) {
        loop {
            let mut least = at;
            for child in [2 * at + 1, 2 * at + 2] {
                if child < self.heap.len() && self.tat(child) < self.tat(least) {
                    least = child;
                }
            }
            if least == at {
                return;
            }
            self.swap(at, least);
            at = least;
        }
    }

    fn swap(&mut self, a: usize, b: usize) {
        self.heap.swap(a, b);
        for at in [a, b] {
            let slot = self.heap[at] as usize;
            self.buckets[slot].at = at as u32;
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests {
    use super::super::gcra::Gcra;
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;
    use std::time::Duration;

    proptest! {
        #[test]
        fn the_least_debt_is_that_of_a_plain_search(steps in prop::collection::vec((0u8..4, 0u64..40, 0u64..90), 1..400)) {
            let gcra = Gcra::new(1, Duration::from_secs(1), 100);
            let (mut heap, mut model) = (BucketHeap::default(), BTreeMap::new());
            for (step, key, debt) in steps {
                let (hash, tat) = (KeyHash::new(key), gcra.first(1, debt));
                match (step, model.contains_key(&key)) {
                    (0, _) => {
                        heap.remove_least();
                        model.retain(|key, _| heap.get(KeyHash::new(*key)).is_some());
                    }
                    (_, true) => {
                        prop_assert_eq!(heap.update(hash, |_| Ok::<_, ()>(tat)), Some(Ok(tat)));
                        model.insert(key, tat);
                    }
                    (_, false) => {
                        heap.insert(hash, tat, KeyLabel::Secret(*b"test"));
                        model.insert(key, tat);
                    }
                }
                prop_assert_eq!(heap.len(), model.len());
                prop_assert_eq!(heap.least(), model.values().min().copied());
                for (key, tat) in &model {
                    prop_assert_eq!(heap.get(KeyHash::new(*key)), Some(*tat));
                }
            }
        }
    }
}
