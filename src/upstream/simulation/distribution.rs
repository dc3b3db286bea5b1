//! Checks the distribution of picks: turns against their exact shares, and keys against their previous table slots.
//!
//! Shares count from the last rebuild of the members.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::config::schema::Balance;
use crate::upstream::balance::hash_table::HashTable;
use crate::upstream::balance::rng::hash;
use crate::upstream::members::Members;
use crate::upstream::slow_start;

/// Counts of the turns of every tier since its members were built.
#[derive(Default)]
pub struct Turns(BTreeMap<(usize, u8), Count>);

struct Count {
    /// Keeps the snapshot alive, so that no other one gets its address.
    members: Arc<Members>,
    picks: u64,
    of: Vec<u64>,
    /// Whether a turn went to another backend than the scheduled one.
    lost: bool,
}

impl Turns {
    /// Records a pick. Returns whether its share could be checked.
    pub fn took(&mut self, members: &Arc<Members>, tier: u8, weights: &[u64], at: usize, undisturbed: bool) -> bool {
        self.0.retain(|_, count| Arc::strong_count(&count.members) > 1);
        let fresh = || Count { members: Arc::clone(members), picks: 0, of: vec![0; weights.len()], lost: false };
        let count = self.0.entry((Arc::as_ptr(members) as usize, tier)).or_insert_with(fresh);
        count.lost |= !undisturbed;
        if count.lost {
            return false;
        }
        count.picks += 1;
        count.of[at] += 1;
        let total: u64 = weights.iter().sum();
        for (of, weight) in count.of.iter().zip(weights) {
            let distance = (of * total).abs_diff(count.picks * weight);
            assert!(distance < total, "turns {:?} after {} by {weights:?}", count.of, count.picks);
        }
        true
    }

    /// Records that turns were consumed without a pick.
    pub fn lose_count(&mut self, members: &Arc<Members>) {
        for tier in members.eligible().map(|backend| backend.tier) {
            let lost = Count { members: Arc::clone(members), picks: 0, of: Vec::new(), lost: true };
            self.0.insert((Arc::as_ptr(members) as usize, tier), lost);
        }
    }
}

/// Hash of the address of a backend, and its weight.
type Claim = (u64, u16);

/// The owners of the table slots of every tier.
#[derive(Default)]
pub struct Ring(BTreeMap<u8, (Vec<Claim>, HashTable)>);

const PLACES: u64 = 1 << 16;

impl Ring {
    /// Compares the members with the previous ones. Returns the number of comparisons.
    pub fn look(&mut self, members: &Members, balance: Balance) -> u64 {
        let mut claims: BTreeMap<u8, Vec<Claim>> = BTreeMap::new();
        let ramping = members.is_ramping();
        for (backend, part) in members.ramps() {
            let parts = if ramping { (part * f64::from(slow_start::FULL_FACTOR)).round() as u16 } else { 1 };
            let seed = hash(backend.state.labels().address.as_bytes());
            claims.entry(backend.tier).or_default().push((seed, backend.weight_now(balance) * parts));
        }
        let mut compared = 0;
        for (tier, claims) in claims {
            if self.0.get(&tier).is_some_and(|(before, _)| *before == claims) {
                continue;
            }
            let places = HashTable::new(&claims);
            let after = (claims, places);
            if let Some(before) = self.0.get(&tier) {
                moves_are_bounded(before, &after);
                compared += 1;
            }
            self.0.insert(tier, after);
        }
        compared
    }

    /// Index, within its tier, of the backend that owns a key.
    pub fn owner(&self, tier: u8, key: u64) -> usize {
        self.0[&tier].1.owner(key).unwrap()
    }
}

/// A table slot changes owner only from or to a backend that was added, removed or reweighted. If only one was, at most
/// its share moves.
fn moves_are_bounded((old, before): &(Vec<Claim>, HashTable), (new, after): &(Vec<Claim>, HashTable)) {
    let stays = |claim: &Claim| old.contains(claim) && new.contains(claim);
    let mut moved = 0_u64;
    for place in 0..PLACES {
        let key = place << 48;
        let (from, to) = (&old[before.owner(key).unwrap()], &new[after.owner(key).unwrap()]);
        assert!(from.0 == to.0 || !stays(from) || !stays(to), "a table slot moved between two unchanged backends");
        moved += u64::from(from.0 != to.0);
    }
    let weight = |claims: &[Claim]| claims.iter().map(|(_, weight)| f64::from(*weight)).sum::<f64>();
    let (gone, come) = (old.iter().filter(|claim| !stays(claim)), new.iter().filter(|claim| !stays(claim)));
    let (gone, come): (Vec<_>, Vec<_>) = (gone.collect(), come.collect());
    let share = match (&*gone, &*come) {
        ([one], []) => f64::from(one.1) / weight(old),
        ([], [one]) => f64::from(one.1) / weight(new),
        _ => return,
    };
    let expected = PLACES as f64 * share;
    let most = expected + 6.0 * (expected * (1.0 - share)).sqrt() + 1.0;
    assert!((moved as f64) <= most, "{moved} places moved for a share of {share}");
}
