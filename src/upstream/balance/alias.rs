//! By chance, in proportion to the weights, in constant time: an alias table (A. J. Walker 1977; M. D. Vose, "A linear
//! algorithm for generating random numbers with a given distribution", IEEE TSE 17, 1991), in whole numbers and thus exact.
//!
//! Choices are independent: there may be runs. What has to be even takes turns (`weighted`).

use super::rng::{Prng, scale};
use super::{Slot, Tried};

/// How many draws try to get past what is to be skipped, before what is left is walked.
const MAX_DRAWS: usize = 8;

/// The table: as many columns as slots, each as high as the sum of weights. In each, what lies below `keep` is the
/// column's own and the rest is `other`'s, so that each slot has its weight times the number of columns.
#[derive(Debug)]
pub struct AliasTable {
    columns: Box<[Column]>,
    height: u64,
}

#[derive(Debug, Clone, Copy)]
struct Column {
    keep: u32,
    other: u32,
}

impl AliasTable {
    /// For these weights, in linear time.
    pub fn new(weights: impl ExactSizeIterator<Item = u16>) -> Self {
        let count = weights.len() as u64;
        let mut parts: Vec<u64> = weights.map(|weight| u64::from(weight) * count).collect();
        let height = parts.iter().sum::<u64>() / count.max(1);
        let mut columns: Vec<_> =
            (0..).zip(&parts).map(|(at, part)| Column { keep: narrow(height.min(*part)), other: at }).collect();
        let (mut small, mut large): (Vec<usize>, Vec<usize>) = (0..parts.len()).partition(|at| parts[*at] < height);
        while let (Some(low), Some(high)) = (small.pop(), large.pop()) {
            columns[low] = Column { keep: narrow(parts[low]), other: narrow(high as u64) };
            parts[high] -= height - parts[low];
            if parts[high] < height { small.push(high) } else { large.push(high) }
        }
        Self { columns: columns.into(), height }
    }

    /// One of the slots, in proportion to the weights; only for a table that is not empty.
    fn draw(&self, chance: &mut Prng) -> usize {
        let at = chance.below(self.columns.len() as u64 * self.height.max(1));
        let (index, at) = ((at / self.height.max(1)) as usize, at % self.height.max(1));
        match self.columns.get(index) {
            Some(column) if at >= u64::from(column.keep) => column.other as usize,
            _ => index,
        }
    }

    /// One of the slots that are not to be skipped, in proportion to the weights; nothing only if all are.
    pub fn sample(&self, slots: &[Slot], chance: &mut Prng, skip: impl Fn(usize) -> bool) -> Option<usize> {
        if self.columns.is_empty() {
            return None;
        }
        let drawn = (0..MAX_DRAWS).map(|_| self.draw(chance)).find(|index| !skip(*index));
        drawn.or_else(|| among_rest(slots, chance.draw(), skip))
    }
}

/// A column's height is at most 65,535 slots of 65,535; what is beyond does not fit a document.
fn narrow(number: u64) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

/// A slot by chance.
pub fn pick(slots: &[Slot], alias: &AliasTable, chance: &mut Prng, tried: &Tried) -> Option<usize> {
    alias.sample(slots, chance, |index| tried.excludes(&slots[index]))
}

/// One of the slots that are not to be skipped, by a walk along their weights to a point that `number` of 64 bits says.
pub fn among_rest(slots: &[Slot], number: u64, skip: impl Fn(usize) -> bool) -> Option<usize> {
    let left = || slots.iter().enumerate().filter(|(index, _)| !skip(*index));
    let total: u64 = left().map(|(_, slot)| u64::from(slot.weight)).sum();
    let mut point = scale(number, total);
    for (index, slot) in left() {
        match point.checked_sub(slot.weight.into()) {
            Some(rest) => point = rest,
            None => return Some(index),
        }
    }
    None
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
pub(crate) mod tests {
    use proptest::prelude::*;

    use super::super::tests::balancer;
    use super::*;
    use crate::config::schema::Balance;

    /// Whether each count is within six standard deviations of its share: not even one in 10^8 seeds fails by chance.
    pub(crate) fn assert_proportional(counts: &[u32], weights: &[u16]) {
        let (picks, total) =
            (f64::from(counts.iter().sum::<u32>()), weights.iter().map(|w| f64::from(*w)).sum::<f64>());
        for (count, weight) in counts.iter().zip(weights) {
            let share = f64::from(*weight) / total;
            let deviation = (picks * share * (1.0 - share)).sqrt();
            let off = (f64::from(*count) - picks * share).abs();
            assert!(off <= 6.0 * deviation + 1.0, "{counts:?} for {weights:?}");
        }
    }

    proptest! {
        #[test]
        fn the_table_is_exact(weights in proptest::collection::vec(1_u16..=5_120, 1..60)) {
            let alias = AliasTable::new(weights.iter().copied());
            prop_assert_eq!(alias.height, weights.iter().map(|w| u64::from(*w)).sum::<u64>());
            let mut parts = vec![0; weights.len()];
            for (index, column) in alias.columns.iter().enumerate() {
                prop_assert!(u64::from(column.keep) <= alias.height);
                parts[index] += u64::from(column.keep);
                parts[column.other as usize] += alias.height - u64::from(column.keep);
            }
            let wanted: Vec<_> = weights.iter().map(|w| u64::from(*w) * weights.len() as u64).collect();
            prop_assert_eq!(parts, wanted);
        }

        #[test]
        fn picks_are_proportional(weights in proptest::collection::vec(1_u16..=256, 1..12), seed in any::<u64>()) {
            let (balancer, alias) = (balancer(Balance::Random, &weights), AliasTable::new(weights.iter().copied()));
            let (mut chance, mut counts) = (Prng::new(seed), vec![0; weights.len()]);
            for _ in 0..5_000 {
                counts[pick(balancer.slots(), &alias, &mut chance, &Tried::default()).unwrap()] += 1;
            }
            assert_proportional(&counts, &weights);
        }
    }

    #[test]
    fn the_rest_is_proportional_too() {
        let weights = [256, 1, 3];
        let (balancer, alias) = (balancer(Balance::Random, &weights), AliasTable::new(weights.into_iter()));
        let mut tried = Tried::default();
        tried.add(&balancer.slots()[0].state);
        let (mut chance, mut counts) = (Prng::new(7), [0; 3]);
        for _ in 0..10_000 {
            counts[pick(balancer.slots(), &alias, &mut chance, &tried).unwrap()] += 1;
        }
        assert_eq!(counts[0], 0);
        assert_proportional(&counts[1..], &weights[1..]);
    }
}
