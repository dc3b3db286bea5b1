//! A map that finds the keys with which a text begins or ends, the longest key first.
//!
//! The cost of a look-up depends on the number of different key lengths, which the configuration defines. A request
//! with a thousand slashes costs no more than any other. Lengths that no key has are never looked up.

use std::collections::HashMap;

/// Values by text. The fast hash is safe: the keys come from the configuration and not from clients, so clients cannot
/// cause collisions. Its seed differs in each process.
pub(super) type ByText<V> = HashMap<Box<str>, V, foldhash::fast::RandomState>;

/// Values by text, with the lengths of their keys.
#[derive(Debug, Clone)]
pub(super) struct LongestMatch<V> {
    map: ByText<V>,
    /// Descending, without duplicates.
    lengths: Vec<usize>,
}

impl<V> Default for LongestMatch<V> {
    fn default() -> Self {
        Self { map: ByText::default(), lengths: Vec::new() }
    }
}

impl<V: Default> LongestMatch<V> {
    /// The value of a key, created if it is new. `finish` must be called after the last key.
    pub(super) fn entry(&mut self, key: &str) -> &mut V {
        self.map.entry(key.into()).or_default()
    }
}

impl<V> LongestMatch<V> {
    /// Collects the lengths of the keys.
    pub(super) fn finish(&mut self) {
        self.lengths = self.map.keys().map(|key| key.len()).collect();
        self.lengths.sort_unstable_by(|a, b| b.cmp(a));
        self.lengths.dedup();
    }

    /// The values, mutable.
    pub(super) fn values_mut(&mut self) -> impl Iterator<Item = &mut V> {
        self.map.values_mut()
    }

    /// The values of all keys that match, the longest first, none longer than `longest`. `slice` returns the part of
    /// the text with a given length. It returns `None` if the text has no boundary there, which saves a look-up.
    pub(super) fn longest_first<'a>(
        &'a self,
        longest: usize,
        slice: impl Fn(usize) -> Option<&'a str> + 'a,
    ) -> impl Iterator<Item = &'a V> {
        let from = self.lengths.partition_point(|len| *len > longest);
        self.lengths[from..].iter().filter_map(move |len| self.map.get(slice(*len)?))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests {
    use std::cell::Cell;

    use super::*;

    #[test]
    fn only_existing_lengths_are_looked_up() {
        let mut map = LongestMatch::<u32>::default();
        for n in 0..10_000 {
            *map.entry(&format!("key{n:05}")) = n;
        }
        *map.entry("k") = 1;
        map.finish();
        let lookups = Cell::new(0);
        let text = "key00042".repeat(100);
        let found: Vec<_> = map
            .longest_first(text.len(), |len| {
                lookups.set(lookups.get() + 1);
                Some(&text[..len])
            })
            .collect();
        assert_eq!((found, lookups.get()), (vec![&42, &1], 2));
    }

    #[test]
    fn keys_over_the_limit_are_not_returned() {
        let mut map = LongestMatch::<u32>::default();
        *map.entry("abcd") = 1;
        *map.entry("ab") = 2;
        map.finish();
        assert_eq!(map.longest_first(3, |len| Some(&"abc"[..len])).collect::<Vec<_>>(), [&2]);
    }
}
