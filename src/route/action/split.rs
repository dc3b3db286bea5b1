//! A weighted split. Requests of one user can stay on one target; all others are distributed exactly over each run of
//! `total` picks, the sum of the weights, and evenly spread within a run.
//!
//! A pick uses no lock, no allocation and no random number. Weights can change at run time. Users are distributed by
//! weighted rendezvous hashing: if weights change, only as many users move as the shares require.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arc_swap::ArcSwap;

use super::split_key::{CompiledSplitKey, hash, mix};

/// Maximum sum of the weights.
const MAX_TOTAL: u64 = u32::MAX as u64;

/// `routes[].split`, compiled.
#[derive(Debug)]
pub struct Split<U> {
    targets: Box<[SplitMember<U>]>,
    by: Option<CompiledSplitKey>,
    weights: ArcSwap<SplitWeights>,
    cursor: AtomicU64,
}

#[derive(Debug)]
struct SplitMember<U> {
    target: U,
    name: Box<str>,
    /// The hash of the name.
    seed: u64,
    configured: u16,
}

/// The weights in force.
#[derive(Debug)]
struct SplitWeights {
    /// In the order of the targets.
    weights: Box<[u16]>,
    /// The targets with a weight over 0, each with the sum of weights up to and including its own.
    sums: Box<[(u64, usize)]>,
    total: u64,
    /// The distance of two successive picks. It is coprime to the total, so that its multiples visit every residue
    /// once. It is near the golden section of the total, so that they are spread evenly (Knuth, TAOCP 6.4:
    /// three-distance theorem).
    stride: u64,
    /// They were set at run time.
    is_override: bool,
}

/// One target of a split, and its share.
#[derive(Debug, Clone, PartialEq)]
pub struct SplitShare<'a> {
    /// The name of the upstream.
    pub name: &'a str,
    /// The weight in force.
    pub weight: u16,
    /// The configured weight.
    pub configured: u16,
    /// The share of requests or users, 0 to 1.
    pub share: f64,
}

impl<U> Split<U> {
    /// Compiles upstreams with their names and weights. `by`: the key of a sticky split.
    ///
    /// # Errors
    /// No upstream has a weight over 0, or the sum is over 2^32 - 1.
    pub fn compile<'n>(
        weighted: impl IntoIterator<Item = (U, &'n str, u16)>,
        by: Option<CompiledSplitKey>,
    ) -> Result<Self, String> {
        let member = |(target, name, configured): (U, &str, u16)| SplitMember {
            target,
            name: name.into(),
            seed: hash(name.as_bytes()),
            configured,
        };
        let targets: Box<[_]> = weighted.into_iter().map(member).collect();
        let weights = SplitWeights::new(targets.iter().map(|each| each.configured).collect(), false)?;
        Ok(Self { targets, by, weights: ArcSwap::from_pointee(weights), cursor: AtomicU64::new(0) })
    }

    /// The key of a sticky split.
    pub fn by(&self) -> Option<&CompiledSplitKey> {
        self.by.as_ref()
    }

    /// Picks the next target, without regard to the user.
    pub fn pick(&self) -> &U {
        let weights = self.weights.load();
        let position = self.cursor.fetch_add(1, Ordering::Relaxed) % weights.total;
        // Both factors are below 2^32.
        let point = position * weights.stride % weights.total;
        let at = weights.sums.partition_point(|(until, _)| *until <= point);
        // The last sum is the total, which is greater than every point. So the `min` only prevents a panic path.
        &self.targets[weights.sums[at.min(weights.sums.len() - 1)].1].target
    }

    /// Picks the target of a user. The same key always gives the same target while the weights stay.
    pub fn pick_for(&self, key: u64) -> &U {
        &self.targets[self.chosen(key)].target
    }

    /// The name of the target of a user.
    pub fn name_for(&self, key: u64) -> &str {
        &self.targets[self.chosen(key)].name
    }

    /// The target with the least score. The score is exponentially distributed with the weight as its rate, so that each
    /// target is the least with a probability of its share (Schindelhauer and Schomaker, weighted rendezvous hashing).
    fn chosen(&self, key: u64) -> usize {
        let weights = self.weights.load();
        let score = |at: usize| {
            let uniform = ((mix(key ^ self.targets[at].seed) >> 11) + 1) as f64 / (1_u64 << 53) as f64;
            -uniform.ln() / f64::from(weights.weights[at])
        };
        let scores = weights.sums.iter().map(|(_, at)| (score(*at), *at));
        scores.min_by(|one, other| one.0.total_cmp(&other.0)).map_or(0, |(_, at)| at)
    }

    /// All targets and their shares, in the order of the configuration.
    pub fn shares(&self) -> Vec<SplitShare<'_>> {
        let weights = self.weights.load();
        let all = self.targets.iter().zip(&weights.weights);
        all.map(|(each, weight)| SplitShare {
            name: &each.name,
            weight: *weight,
            configured: each.configured,
            share: f64::from(*weight) / weights.total as f64,
        })
        .collect()
    }

    /// The targets with a weight over 0, and their shares from 0 to 1.
    pub fn targets(&self) -> Vec<(&U, f64)> {
        let weights = self.weights.load();
        let share = |at: usize| f64::from(weights.weights[at]) / weights.total as f64;
        weights.sums.iter().map(|(_, at)| (&self.targets[*at].target, share(*at))).collect()
    }

    /// Whether the weights were set at run time.
    pub fn is_overridden(&self) -> bool {
        self.weights.load().is_override
    }

    /// Sets the weights of these upstreams at run time. The others keep their weights.
    ///
    /// # Errors
    /// An upstream is none of the split, or the weights are not possible. Nothing has changed then.
    pub fn set_weights<'n>(&self, wanted: impl IntoIterator<Item = (&'n str, u16)>) -> Result<(), String> {
        let mut weights = self.weights.load().weights.clone();
        for (name, weight) in wanted {
            let Some(at) = self.targets.iter().position(|each| *each.name == *name) else {
                let names: Vec<String> = self.targets.iter().map(|each| format!("`{}`", each.name)).collect();
                return Err(format!("the split has no upstream `{name}`; it has {}", names.join(", ")));
            };
            weights[at] = weight;
        }
        self.weights.store(Arc::new(SplitWeights::new(weights, true)?));
        Ok(())
    }

    /// Restores the configured weights.
    pub fn reset_weights(&self) {
        if let Ok(weights) = SplitWeights::new(self.targets.iter().map(|each| each.configured).collect(), false) {
            self.weights.store(Arc::new(weights));
        }
    }

    /// Takes the weights that were set at run time on the split that this one replaces. If the two have other upstreams,
    /// the configured weights apply and the result is `false`.
    pub fn inherit<V>(&self, previous: &Split<V>) -> bool {
        let before = previous.weights.load();
        if !before.is_override {
            return true;
        }
        let weight_of = |each: &SplitMember<U>| {
            let at = previous.targets.iter().position(|known| known.name == each.name)?;
            Some(before.weights[at])
        };
        let taken: Option<Box<[u16]>> = self.targets.iter().map(weight_of).collect();
        let taken = taken.filter(|_| self.targets.len() == previous.targets.len());
        let Some(Ok(weights)) = taken.map(|weights| SplitWeights::new(weights, true)) else { return false };
        self.weights.store(Arc::new(weights));
        true
    }
}

impl SplitWeights {
    fn new(weights: Box<[u16]>, is_override: bool) -> Result<Self, String> {
        let mut total = 0;
        let mut sum = |(at, weight): (usize, &u16)| {
            total += u64::from(*weight);
            (*weight > 0).then_some((total, at))
        };
        let sums: Box<[_]> = weights.iter().enumerate().filter_map(&mut sum).collect();
        if sums.is_empty() {
            return Err("no upstream of the split has a weight".into());
        }
        if total > MAX_TOTAL {
            return Err(format!("the weights of the split sum up to more than {MAX_TOTAL}"));
        }
        Ok(Self { weights, sums, total, stride: stride(total), is_override })
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
#[path = "split_tests.rs"]
mod tests;
