//! Member snapshot of an upstream: the eligible backends by tier, with a balancer for each tier.
//!
//! A snapshot is immutable. If health, admin state, an address or a weight changes, a new one is built and replaces it.
//! It never probes, never resolves and reads no clock. `tiers` decides which backends are eligible, and `slow_start`
//! which part of a weight is effective.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::backend::Backend;
use super::balance::dry_run::DryRun;
use super::balance::rng::GOLDEN;
use super::balance::weighted::{MAX_SEQUENCE, sequence_len};
use super::balance::{Balancer, Picked, Slot, Tried};
use super::slow_start;
use super::sticky::BackendToken;
use super::tiers::{self, Chosen, TierRules};
use crate::backend::InFlight;
use crate::backend::labels::{Health, PickReason};
use crate::config::schema::Balance;

/// Member snapshot of an upstream.
#[derive(Debug)]
pub struct Members {
    rules: TierRules,
    tiers: Box<[Tier]>,
    /// Tier and index of each backend by its affinity token.
    named: HashMap<BackendToken, (usize, usize)>,
    cursor: AtomicU64,
}

/// The eligible backends of one tier.
#[derive(Debug)]
pub(super) struct Tier {
    members: Box<[Arc<Backend>]>,
    /// Slow-start factor of each member, in parts of `slow_start::FULL_FACTOR`.
    factors: Box<[u16]>,
    balancer: Balancer,
    /// End of this tier's interval on a scale from 0 to 2^32. The tier's share of the picks is the length of the
    /// interval. It is 0 for a tier that serves only the overflow of others.
    until: u64,
    sick: bool,
}

/// A backend that takes an attempt.
#[derive(Debug)]
pub struct Pick {
    /// The backend.
    pub backend: Arc<Backend>,
    /// Counts the attempt until it is dropped.
    pub guard: InFlight,
    /// Whether the pick is a fail-open: its tier includes backends that are down, because none or too few are up
    /// (`weir_upstream_fail_open_total`).
    pub fail_open: bool,
    /// Whether it was tried before: no other backend was left, or none had a free slot.
    pub again: bool,
    /// The reason of the pick.
    pub why: PickReason,
}

impl Members {
    /// Builds a snapshot from the current states of the backends.
    pub fn build(backends: &[Arc<Backend>], rules: TierRules, now_ms: u64) -> Self {
        let mut end = 0.0;
        let tier = |chosen: Chosen| {
            end += chosen.share;
            Tier::new(chosen, rules, now_ms, (end * WHOLE as f64).round() as u64)
        };
        let tiers: Box<[Tier]> = tiers::choose(backends, &rules).into_iter().map(tier).collect();
        let places = tiers.iter().enumerate().flat_map(|(at, tier)| {
            tier.members.iter().enumerate().filter_map(move |(index, member)| Some((member.token?, (at, index))))
        });
        Self { rules, named: places.collect(), tiers, cursor: AtomicU64::new(0) }
    }

    /// The eligible backends, by tier.
    pub fn eligible(&self) -> impl Iterator<Item = &Arc<Backend>> {
        self.tiers.iter().flat_map(|tier| &tier.members)
    }

    /// The eligible backends with the effective part of their weight, 0 to 1.
    pub fn ramps(&self) -> impl Iterator<Item = (&Arc<Backend>, f64)> {
        let of = |tier: &'_ Tier| {
            tier.factors.iter().map(|factor| f64::from(*factor) / f64::from(slow_start::FULL_FACTOR)).collect()
        };
        self.tiers.iter().flat_map(move |tier| tier.members.iter().zip::<Vec<f64>>(of(tier)))
    }

    /// Whether a weight still grows in slow start.
    pub fn is_ramping(&self) -> bool {
        self.tiers.iter().any(|tier| is_uneven(&tier.factors))
    }

    /// Whether a tier is in fail-open.
    pub fn failed_open(&self) -> bool {
        self.tiers.iter().any(|tier| tier.sick)
    }

    /// Whether `other` picks from the same backends in the same way. Then this snapshot is retained with its cursors.
    pub fn same_as(&self, other: &Self) -> bool {
        self.rules.settings == other.rules.settings
            && self.tiers.len() == other.tiers.len()
            && self.tiers.iter().zip(&other.tiers).all(|(mine, others)| mine.same_as(others))
    }

    /// Dry run of the next pick. Indexes refer to `eligible`. `key`: as for a pick.
    pub fn preview(&self, now_ms: u64, key: Option<u64>) -> DryRun {
        let first = self.next_tier();
        let (mut all, mut count) = (DryRun { next: None, scores: Vec::new() }, 0);
        for (at, tier) in self.tiers.iter().enumerate() {
            let DryRun { next, scores } = tier.balancer.preview(now_ms, key);
            if Some(at) == first {
                all.next = next.map(|next| count + next);
            }
            count += scores.len();
            all.scores.extend(scores);
        }
        all
    }

    /// The tier of the next pick: the tier at the cursor if it can take a request, else the first tier that can.
    fn next_tier(&self) -> Option<usize> {
        let turn = self.at(self.cursor.load(Ordering::Relaxed));
        let can_serve =
            |at: &usize| self.tiers.get(*at).is_some_and(|tier| !tier.balancer.is_exhausted(&Tried::default()));
        std::iter::once(turn).chain(0..self.tiers.len()).find(can_serve)
    }

    /// Whether the tier of this backend has a share of its own, not only the overflow of other tiers.
    pub fn takes_first(&self, backend: &Backend) -> bool {
        let mut before = 0;
        self.tiers.iter().any(|tier| {
            let share = tier.until - std::mem::replace(&mut before, tier.until);
            share > 0 && tier.members.iter().any(|member| Arc::ptr_eq(&member.state, &backend.state))
        })
    }

    /// Picks a backend; `None` if none is eligible or all are full. It picks a tried backend only if no other one in
    /// any tier has a free slot. A full tier passes requests to the other tiers. `key`: the hash key for
    /// `consistent_hash`.
    pub fn pick(&self, tried: &Tried, now_ms: u64, key: Option<u64>) -> Option<Pick> {
        self.pick_other(tried, now_ms, key).or_else(|| self.pick_again(tried, now_ms, key))
    }

    /// As `pick`, but never returns a backend that was tried.
    pub fn pick_other(&self, tried: &Tried, now_ms: u64, key: Option<u64>) -> Option<Pick> {
        let has_others = |tier: &Tier| !tier.balancer.is_exhausted(tried);
        self.pick_by(key, has_others, |balancer| balancer.pick_other(tried, now_ms, key))
    }

    /// Picks any backend with a free slot, tried or not. `None` if the request has tried no backend yet.
    pub fn pick_again(&self, tried: &Tried, now_ms: u64, key: Option<u64>) -> Option<Pick> {
        self.pick_by(key, |_| !tried.is_empty(), |balancer| balancer.pick_again(tried, now_ms, key))
    }

    fn pick_by(
        &self,
        key: Option<u64>,
        may: impl Fn(&Tier) -> bool,
        by: impl Fn(&Balancer) -> Option<Picked>,
    ) -> Option<Pick> {
        let first = match &*self.tiers {
            [] => return None,
            [only] => return only.picked(by(&only.balancer)?, key),
            several => self.pick_tier(several, key)?,
        };
        let in_order = std::iter::once(first).chain(&self.tiers);
        in_order.filter(|tier| may(tier)).find_map(|tier| {
            let pick = tier.picked(by(&tier.balancer)?, key)?;
            let usual = std::ptr::eq(tier, first) || pick.again || pick.fail_open;
            Some(if usual { pick } else { Pick { why: PickReason::Tier, ..pick } })
        })
    }

    /// The eligible backends without those that were ejected after this snapshot was built.
    fn serving(&self) -> impl Iterator<Item = &Arc<Backend>> {
        let ejected = |tier: &Tier, backend: &Backend| !tier.sick && backend.state.is_ejected();
        self.tiers.iter().flat_map(move |tier| tier.members.iter().filter(move |member| !ejected(tier, member)))
    }

    /// Whether no backend may be picked.
    pub fn is_empty(&self) -> bool {
        let none = if self.rules.fail_open { self.eligible().next() } else { self.serving().next() };
        none.is_none()
    }

    /// Whether a backend exists that was not tried, full or not.
    pub fn has_untried(&self, tried: &Tried) -> bool {
        self.serving().any(|backend| !tried.contains(&backend.state))
    }

    /// Whether a backend exists that was not tried and is not full.
    pub fn has_room_elsewhere(&self, tried: &Tried) -> bool {
        self.serving().any(|backend| !backend.state.is_full() && !tried.contains(&backend.state))
    }

    /// Whether all backends that may be picked are full.
    pub fn are_full(&self) -> bool {
        self.serving().all(|backend| backend.state.is_full())
    }

    /// Picks an ejected backend if all were ejected after this snapshot was built and `fail_open` is on.
    pub fn pick_ejected(&self, tried: &Tried) -> Option<Pick> {
        if !self.rules.fail_open || self.serving().next().is_some() {
            return None;
        }
        let turn = self.cursor.fetch_add(1, Ordering::Relaxed) as usize;
        let all: Vec<_> = self.eligible().collect();
        let in_turn = (0..all.len()).filter_map(|step| all.get((turn.wrapping_add(step)) % all.len()));
        let untried = in_turn.clone().filter(|backend| !tried.contains(&backend.state));
        untried.chain(in_turn).find_map(|backend| {
            let (guard, again) = (backend.state.admit()?, tried.contains(&backend.state));
            let why = if again { PickReason::Again } else { PickReason::FailOpen };
            Some(Pick { backend: Arc::clone(backend), guard, fail_open: true, again, why })
        })
    }

    /// Picks the backend that the affinity cookie names.
    ///
    /// # Errors
    /// Why another backend must be picked.
    pub fn pick_named(&self, token: &BackendToken, tried: &Tried) -> Result<Pick, PickReason> {
        let (tier, backend) = self.named(token, tried)?;
        let guard = backend.state.admit().ok_or(PickReason::StickyFull)?;
        Ok(Pick { backend: Arc::clone(backend), guard, fail_open: tier.sick, again: false, why: PickReason::Sticky })
    }

    /// The backend that the affinity cookie names, if it may be picked.
    ///
    /// # Errors
    /// Why it may not be picked.
    pub(super) fn named(&self, token: &BackendToken, tried: &Tried) -> Result<(&Tier, &Arc<Backend>), PickReason> {
        let (at, index) = self.named.get(token).ok_or(PickReason::StickyOut)?;
        let tier = self.tiers.get(*at).ok_or(PickReason::StickyOut)?;
        let backend = tier.members.get(*index).ok_or(PickReason::StickyOut)?;
        let is_down = |backend: &Backend| tiers::health(backend, self.rules.checked) == Health::Down;
        // Below the panic threshold, backends that are down get a share of all requests. Affinity would send them the
        // same clients each time.
        let is_out = !tier.sick && backend.state.is_ejected();
        if is_out || tier.sick && is_down(backend) && !tier.members.iter().all(|member| is_down(member)) {
            Err(PickReason::StickyOut)
        } else if tried.contains(&backend.state) {
            Err(PickReason::StickyTried)
        } else if backend.state.is_full() {
            Err(PickReason::StickyFull)
        } else {
            Ok((tier, backend))
        }
    }

    /// The tier of a pick. The cursor spreads picks evenly over the shares; with `consistent_hash`, a key always gets
    /// the same tier.
    fn pick_tier<'a>(&self, tiers: &'a [Tier], key: Option<u64>) -> Option<&'a Tier> {
        let key = key.filter(|_| self.rules.settings.balance == Balance::ConsistentHash);
        let turn = key.unwrap_or_else(|| self.cursor.fetch_add(1, Ordering::Relaxed));
        tiers.get(self.at(turn))
    }

    fn at(&self, turn: u64) -> usize {
        let point = turn.wrapping_mul(GOLDEN) >> 32;
        self.tiers.iter().position(|tier| point < tier.until).unwrap_or(0)
    }
}

/// Length of the scale of shares.
const WHOLE: u64 = 1 << 32;

impl Tier {
    fn new(chosen: Chosen, rules: TierRules, now_ms: u64, until: u64) -> Self {
        let Chosen { members, sick, up, .. } = chosen;
        let slow_start = if up { rules.slow_start_ms } else { 0 };
        let since: Vec<_> = members.iter().map(|backend| backend.state.load().serving_since_ms()).collect();
        let factors = slow_start::factors(&since, now_ms, slow_start);
        let mut settings = rules.settings;
        if is_uneven(&factors) && settings.balance == Balance::RoundRobin {
            // Round robin has no weights, so it cannot express slow start.
            settings.balance = Balance::WeightedRoundRobin;
        }
        let weights =
            weights(&members, &factors, rules.settings.balance, settings.balance == Balance::WeightedRoundRobin);
        let slot = |(b, weight): (&Arc<Backend>, u16)| Slot::new(Arc::clone(&b.state), weight).serving_ejected(sick);
        let slots = members.iter().zip(weights).map(slot);
        Self { balancer: Balancer::new(settings, slots.collect()), members: members.into(), factors, until, sick }
    }

    fn same_as(&self, other: &Self) -> bool {
        self.until == other.until
            && self.sick == other.sick
            && self.factors == other.factors
            && self.members.len() == other.members.len()
            && self.members.iter().zip(&other.members).all(|(mine, others)| mine.same_as(others))
            && self.weights().eq(other.weights())
    }

    /// The effective weights. An operator can change them without a change of the backends.
    fn weights(&self) -> impl Iterator<Item = u16> + '_ {
        self.balancer.slots().iter().map(|slot| slot.weight)
    }

    fn picked(&self, picked: Picked, key: Option<u64>) -> Option<Pick> {
        let Picked { index, guard, again } = picked;
        let why = if again {
            PickReason::Again
        } else if self.sick {
            PickReason::FailOpen
        } else {
            self.balancer.why(key)
        };
        Some(Pick { backend: Arc::clone(self.members.get(index)?), guard, fail_open: self.sick, again, why })
    }
}

fn is_uneven(factors: &[u16]) -> bool {
    factors.iter().any(|factor| *factor < slow_start::FULL_FACTOR)
}

/// The weights of the slots. During a slow start, each weight times its factor is scaled to a whole number. The scale
/// is `slow_start::FULL_FACTOR`, or smaller if the weighted sequence would be too long.
fn weights(members: &[Arc<Backend>], factors: &[u16], balance: Balance, turns: bool) -> Vec<u16> {
    let uneven = is_uneven(factors);
    let part = |parts: u16| {
        let weight = |(backend, factor): (&Arc<Backend>, &u16)| {
            let exact = u32::from(backend.weight_now(balance)) * u32::from(*factor) * u32::from(parts);
            u16::try_from(exact.div_ceil(u32::from(slow_start::FULL_FACTOR))).unwrap_or(u16::MAX)
        };
        members.iter().zip(factors).map(weight).collect::<Vec<_>>()
    };
    let fits = |weights: &Vec<u16>| !turns || sequence_len(weights.iter().copied()) <= MAX_SEQUENCE;
    let finest = if uneven { slow_start::FULL_FACTOR } else { 1 };
    [finest, 10, 5, 2].into_iter().filter(|parts| *parts <= finest).map(part).find(fits).unwrap_or_else(|| part(1))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
#[path = "members_tests.rs"]
pub(crate) mod tests;
