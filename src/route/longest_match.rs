//! A map asked for the longest of many keys that a text begins or ends with, without trying every length of the text.
//!
//! What a look-up costs is bounded by the number of different key lengths, which the configuration decides; a request
//! with a thousand slashes costs no more than any other. It never asks the hash for a length that no key has.

use std::collections::HashMap;

/// Values by text. Hashed in the quick way: the keys are the configuration's, clients add none, so that no collisions can be
/// brought about; and the hash is another one in each process.
pub(super) type ByText<V> = HashMap<Box<str>, V, foldhash::fast::RandomState>;

/// Values by text, with the lengths that occur.
#[derive(Debug, Clone)]
pub(super) struct LongestMatch<V> {
    map: ByText<V>,
    /// Descending, each once.
    lengths: Vec<usize>,
}

impl<V> Default for LongestMatch<V> {
    fn default() -> Self {
        Self { map: ByText::default(), lengths: Vec::new() }
    }
}

impl<V: Default> LongestMatch<V> {
    /// The value of a key, made if it is new. `finish` is due after the last.
    pub(super) fn entry(&mut self, key: &str) -> &mut V {
        self.map.entry(key.into()).or_default()
    }
}

impl<V> LongestMatch<V> {
    /// Takes note of the keys' lengths.
    pub(super) fn finish(&mut self) {
        self.lengths = self.map.keys().map(|key| key.len()).collect();
        self.lengths.sort_unstable_by(|a, b| b.cmp(a));
        self.lengths.dedup();
    }

    /// The values in place.
    pub(super) fn values_mut(&mut self) -> impl Iterator<Item = &mut V> {
        self.map.values_mut()
    }

    /// Values whose keys are what `slice` makes of their length, the longest first, none longer than `longest`. `slice`
    /// says `None` where the text has no boundary, which is cheaper than a look-up.
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
    fn asks_only_for_lengths_that_occur() {
        let mut map = LongestMatch::<u32>::default();
        for n in 0..10_000 {
            *map.entry(&format!("key{n:05}")) = n;
        }
        *map.entry("k") = 1;
        map.finish();
        let asked = Cell::new(0);
        let text = "key00042".repeat(100);
        let found: Vec<_> = map
            .longest_first(text.len(), |len| {
                asked.set(asked.get() + 1);
                Some(&text[..len])
            })
            .collect();
        assert_eq!((found, asked.get()), (vec![&42, &1], 2));
    }

    #[test]
    fn never_longer_than_asked() {
        let mut map = LongestMatch::<u32>::default();
        *map.entry("abcd") = 1;
        *map.entry("ab") = 2;
        map.finish();
        assert_eq!(map.longest_first(3, |len| Some(&"abc"[..len])).collect::<Vec<_>>(), [&2]);
    }
}
