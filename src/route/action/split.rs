//! A weighted split: exact over each run of `total` picks, the sum of the weights, and evenly spread within a run.
//!
//! It uses no lock, no allocation and no random number. A pick is one atomic add and one search among the targets.

use std::sync::atomic::{AtomicU64, Ordering};

/// `routes[].split`, compiled.
#[derive(Debug)]
pub struct Split<U> {
    /// Targets with a weight over 0, each with the sum of weights up to and including its own.
    targets: Box<[(u64, U)]>,
    total: u64,
    /// The distance of two successive picks. It is coprime to the total, so that its multiples visit every residue
    /// once. It is near the golden section of the total, so that they are spread evenly (Knuth, TAOCP 6.4:
    /// three-distance theorem).
    stride: u64,
    cursor: AtomicU64,
}

impl<U> Split<U> {
    /// Compiles upstreams and their weights.
    ///
    /// # Errors
    /// No upstream has a weight over 0, or the sum is over 2^32 - 1.
    pub fn compile(weighted: impl IntoIterator<Item = (U, u16)>) -> Result<Self, String> {
        let mut total = 0;
        let mut sum = |(target, weight): (U, u16)| {
            total += u64::from(weight);
            (weight > 0).then_some((total, target))
        };
        let targets: Box<[_]> = weighted.into_iter().filter_map(&mut sum).collect();
        if targets.is_empty() {
            return Err("no upstream of the split has a weight".into());
        }
        if total > u64::from(u32::MAX) {
            return Err("the weights of the split sum up to more than 4294967295".into());
        }
        Ok(Self { targets, total, stride: stride(total), cursor: AtomicU64::new(0) })
    }

    /// Picks the next target.
    pub fn pick(&self) -> &U {
        let position = self.cursor.fetch_add(1, Ordering::Relaxed) % self.total;
        // Both factors are below 2^32.
        let point = position * self.stride % self.total;
        let at = self.targets.partition_point(|(until, _)| *until <= point);
        // The last sum is the total, which is greater than every point. So the `min` only prevents a panic path.
        &self.targets[at.min(self.targets.len() - 1)].1
    }

    /// The upstreams with a weight over 0, and their shares from 0 to 1.
    pub fn shares(&self) -> impl Iterator<Item = (&U, f64)> {
        let mut before = 0;
        self.targets.iter().map(move |(until, target)| {
            let weight = until - std::mem::replace(&mut before, *until);
            (target, weight as f64 / self.total as f64)
        })
    }

    /// The upstreams with a weight over 0.
    pub fn targets(&self) -> impl Iterator<Item = &U> {
        self.targets.iter().map(|(_, target)| target)
    }
}

/// The largest number up to total / φ that is coprime to the total.
fn stride(total: u64) -> u64 {
    let golden = (total as f64 * 0.618_033_988_749_895) as u64;
    (1..=golden).rev().find(|candidate| gcd(*candidate, total) == 1).unwrap_or(1)
}

const fn gcd(mut a: u64, mut b: u64) -> u64 {
    while b > 0 {
        (a, b) = (b, a % b);
    }
    a
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests {
    use std::sync::Arc;

    use super::*;

    fn picks(weights: &[u16], rounds: usize) -> Vec<usize> {
        let split = Split::compile(weights.iter().copied().enumerate()).unwrap();
        (0..rounds).map(|_| *split.pick()).collect()
    }

    #[test]
    fn shares_are_exact_over_any_full_run() {
        for weights in [&[95, 5][..], &[5, 3, 1], &[1], &[0, 7, 0], &[1, 1, 1, 1], &[65535, 1], &[2, 4]] {
            let sum: usize = weights.iter().map(|w| usize::from(*w)).sum();
            let picked = picks(weights, sum + 17);
            for start in [0, 1, 17] {
                for (index, weight) in weights.iter().enumerate() {
                    let count = picked[start..start + sum].iter().filter(|p| **p == index).count();
                    assert_eq!(count, usize::from(*weight), "{weights:?} from {start}");
                }
            }
        }
    }

    #[test]
    fn a_small_share_is_spread_evenly() {
        let picked = picks(&[95, 5], 200);
        let at: Vec<_> = (0..picked.len()).filter(|i| picked[*i] == 1).collect();
        assert!(at.windows(2).all(|pair| pair[1] - pair[0] >= 8), "{at:?}");
    }

    #[test]
    fn shares_are_exact_over_threads() {
        let split = Arc::new(Split::compile([("a", 3), ("b", 1)]).unwrap());
        let count = |split: Arc<Split<&'static str>>| (0..1_000).filter(|_| *split.pick() == "b").count();
        let threads: Vec<_> = (0..4)
            .map(|_| {
                std::thread::spawn({
                    let split = split.clone();
                    move || count(split)
                })
            })
            .collect();
        assert_eq!(threads.into_iter().map(|t| t.join().unwrap()).sum::<usize>(), 1_000);
    }

    #[test]
    fn at_least_one_weight_is_required() {
        assert!(Split::compile([("a", 0)]).is_err());
        assert!(Split::<()>::compile([]).is_err());
        let split = Split::compile([("a", 1), ("b", 0), ("c", 3)]).unwrap();
        assert_eq!(split.shares().collect::<Vec<_>>(), [(&"a", 0.25), (&"c", 0.75)]);
        assert_eq!(Split::compile([("a", 0), ("b", 1)]).unwrap().targets().collect::<Vec<_>>(), [&"b"]);
    }
}
