//! Weighted random choice in constant time by the alias method, in integers and therefore exact.
//!
//! Choices are independent, so the same backend can come several times in a row. `weighted` distributes evenly. The
//! method: A. J. Walker 1977; M. D. Vose, "A linear algorithm for generating random numbers with a given distribution",
//! IEEE TSE 17, 1991.

use super::rng::{Prng, scale};
use super::{Slot, Tried};

/// Number of draws that may hit a skipped slot before the remaining slots are walked.
const MAX_DRAWS: usize = 8;

/// The alias table. It has one column per slot, and each column is as high as the sum of weights. In a column, the part
/// below `keep` belongs to the slot itself and the rest to `other`. So each slot owns its weight times the number of
/// columns.
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
    /// Builds the table for these weights in linear time.
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

    /// A random slot in proportion to the weights. The table must not be empty.
    fn draw(&self, rng: &mut Prng) -> usize {
        let at = rng.below(self.columns.len() as u64 * self.height.max(1));
        let (index, at) = ((at / self.height.max(1)) as usize, at % self.height.max(1));
        match self.columns.get(index) {
            Some(column) if at >= u64::from(column.keep) => column.other as usize,
            _ => index,
        }
    }

    /// A random slot that `skip` does not exclude, in proportion to the weights; `None` only if all are excluded.
    pub fn sample(&self, slots: &[Slot], rng: &mut Prng, skip: impl Fn(usize) -> bool) -> Option<usize> {
        if self.columns.is_empty() {
            return None;
        }
        let drawn = (0..MAX_DRAWS).map(|_| self.draw(rng)).find(|index| !skip(*index));
        drawn.or_else(|| among_rest(slots, rng.draw(), skip))
    }
}

/// Narrows to 32 bits. The greatest number is a column height: at most 65,535 slots of weight 65,535.
fn narrow(number: u64) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

/// Picks a slot at random.
pub fn pick(slots: &[Slot], alias: &AliasTable, rng: &mut Prng, tried: &Tried) -> Option<usize> {
    alias.sample(slots, rng, |index| tried.excludes(&slots[index]))
}

/// A slot that `skip` does not exclude, in proportion to the weights. It walks the weights up to the point that
/// `number`, uniform in 64 bits, selects.
pub fn among_rest(slots: &[Slot], number: u64, skip: impl Fn(usize) -> bool) -> Option<usize> {
    let remaining = || slots.iter().enumerate().filter(|(index, _)| !skip(*index));
    let total: u64 = remaining().map(|(_, slot)| u64::from(slot.weight)).sum();
    let mut point = scale(number, total);
    for (index, slot) in remaining() {
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

    /// Asserts that each count is within six standard deviations of its share. Fewer than one seed in 10^8 fails by
    /// chance.
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
            let (mut rng, mut counts) = (Prng::new(seed), vec![0; weights.len()]);
            for _ in 0..5_000 {
                counts[pick(balancer.slots(), &alias, &mut rng, &Tried::default()).unwrap()] += 1;
            }
            assert_proportional(&counts, &weights);
        }
    }

    #[test]
    fn picks_among_untried_slots_are_proportional() {
        let weights = [256, 1, 3];
        let (balancer, alias) = (balancer(Balance::Random, &weights), AliasTable::new(weights.into_iter()));
        let mut tried = Tried::default();
        tried.add(&balancer.slots()[0].state);
        let (mut rng, mut counts) = (Prng::new(7), [0; 3]);
        for _ in 0..10_000 {
            counts[pick(balancer.slots(), &alias, &mut rng, &tried).unwrap()] += 1;
        }
        assert_eq!(counts[0], 0);
        assert_proportional(&counts[1..], &weights[1..]);
    }
}
