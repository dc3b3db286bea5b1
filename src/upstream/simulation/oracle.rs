//! Oracle of the simulation: keeps its own counts and compares them with the upstream.
//!
//! It changes nothing. It checks requests in flight, eligibility, the guarantees of each algorithm, the retry budget
//! and ejections.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use super::distribution::{Ring, Turns};
use crate::backend::BackendState;
use crate::backend::labels::{AdminState, Health};
use crate::config::schema::{Balance, Retry};
use crate::upstream::Upstream;
use crate::upstream::backend::Backend;
use crate::upstream::balance::Tried;
use crate::upstream::members::{Members, Pick};
use crate::upstream::retry_budget::WINDOW_SECS;
use crate::upstream::slow_start;

/// Number of times that each check was made, for checks that depend on chance.
#[derive(Debug, Default, Clone, Copy)]
pub struct Checks {
    pub picks: u64,
    pub beaten: u64,
    pub turns: u64,
    pub keys: u64,
    pub moves: u64,
    pub bounds: u64,
    pub retries: u64,
    pub ejections: u64,
    pub full: u64,
    pub passed: u64,
    pub back: u64,
}

/// A backend of the pick's snapshot, with its state before the pick.
struct Choice {
    backend: Arc<Backend>,
    weight: u64,
    in_flight: u64,
    excluded: bool,
}

/// The counts.
#[derive(Default)]
pub struct Ledger {
    pub checks: Checks,
    in_flight: BTreeMap<usize, u32>,
    requests: VecDeque<u64>,
    retries: VecDeque<u64>,
    ejected: usize,
    turns: Turns,
    ring: Ring,
}

impl Ledger {
    /// An attempt has started.
    pub fn raised(&mut self, backend_state: &Arc<BackendState>) {
        *self.in_flight.entry(Arc::as_ptr(backend_state) as usize).or_default() += 1;
    }

    /// An attempt has ended, in any way.
    pub fn lowered(&mut self, backend_state: &Arc<BackendState>) {
        *self.in_flight.get_mut(&(Arc::as_ptr(backend_state) as usize)).unwrap() -= 1;
    }

    /// Asserts that the count in flight equals the count of the oracle.
    pub fn in_flight_is_right(&self, backend_state: &Arc<BackendState>) {
        let counted = self.in_flight.get(&(Arc::as_ptr(backend_state) as usize)).copied().unwrap_or(0);
        assert_eq!(backend_state.in_flight(), counted, "in flight at {}", backend_state.labels().address);
    }

    /// Asserts a pick for a request whose wait is over: the backend is eligible and not full.
    pub fn picked_back(&mut self, upstream: &Upstream, pick: &Pick, tried: &Tried) {
        assert!(!tried.is_empty() && pick.again == tried.contains(&pick.backend.state), "again");
        self.checks.back += u64::from(pick.again && upstream.members().has_untried(tried));
        self.may_take(upstream, pick);
        self.turns.lose_count(&upstream.members());
    }

    fn may_take(&mut self, upstream: &Upstream, pick: &Pick) {
        self.checks.picks += 1;
        let backend_state = &pick.backend.state;
        may_be_picked(upstream, &pick.backend, pick.fail_open);
        assert!(backend_state.limit() == 0 || backend_state.in_flight() <= backend_state.limit(), "max_in_flight");
    }

    /// Asserts a pick: the backend is eligible and not full, and the algorithm keeps its guarantee.
    pub fn picked(&mut self, upstream: &Upstream, pick: &Pick, tried: &Tried, key: Option<u64>, now_ms: u64) {
        self.may_take(upstream, pick);
        let (members, settings, backend_state) = (upstream.members(), upstream.settings(), &pick.backend.state);
        let all = choices(&members, settings.balance, backend_state, tried);
        assert_eq!(pick.again, !tried.is_empty() && !members.has_untried(tried), "again");
        let tier: Vec<_> = all.into_iter().filter(|choice| choice.backend.tier == pick.backend.tier).collect();
        let at = tier.iter().position(|choice| Arc::ptr_eq(&choice.backend.state, backend_state)).unwrap();
        assert!(pick.again || !tier[at].excluded, "a backend that was tried or is full");
        if pick.again {
            self.turns.lose_count(&members);
            return;
        }
        match settings.balance {
            Balance::RoundRobin | Balance::WeightedRoundRobin => self.in_turn(&members, &tier, at),
            Balance::LeastConnections => self.not_beaten(&tier, at, now_ms),
            Balance::P2c | Balance::PeakEwma => self.not_the_worst(settings.balance, &tier, at, now_ms),
            Balance::ConsistentHash => self.by_its_key(&members, &tier, at, key, upstream),
            Balance::Random => {}
        }
    }

    /// Asserts a failed pick. With `none_eligible` no backend is eligible, otherwise all eligible ones are full.
    pub fn found_none(&mut self, upstream: &Upstream, none_eligible: bool) {
        let members = upstream.members();
        self.turns.lose_count(&members);
        self.checks.full += u64::from(!none_eligible);
        assert_eq!(members.eligible().next().is_none(), none_eligible);
        assert!(members.eligible().all(|backend| backend.state.is_full()), "a slot is free");
        let open = upstream.settings().fail_open;
        let could = |backend: &Arc<Backend>| is_able(upstream, backend) && (open || health(backend) != Health::Down);
        assert!(!none_eligible || !upstream.backends().iter().any(could), "a backend is eligible");
    }

    /// Asserts that all untried backends are full and a tried one is not.
    pub fn found_only_for_others(&mut self, upstream: &Upstream, tried: &Tried) {
        let members = upstream.members();
        self.turns.lose_count(&members);
        self.checks.passed += 1;
        assert!(has_no_slot_for(&members, tried) && members.has_untried(tried), "a slot is free");
        assert!(members.eligible().any(|backend| !backend.state.is_full()), "all are full");
    }

    fn in_turn(&mut self, members: &Arc<Members>, tier: &[Choice], at: usize) {
        let weights: Vec<_> = tier.iter().map(|choice| choice.weight).collect();
        let undisturbed = tier.iter().all(|choice| !choice.excluded);
        self.checks.turns += u64::from(self.turns.took(members, tier[at].backend.tier, &weights, at, undisturbed));
    }

    fn not_beaten(&mut self, tier: &[Choice], at: usize, now_ms: u64) {
        let load = |choice: &Choice| choice.in_flight + u64::from(choice.backend.state.load().penalty(now_ms)) + 1;
        for other in tier.iter().filter(|other| !other.excluded) {
            assert!(load(&tier[at]) * other.weight <= load(other) * tier[at].weight, "beaten");
            self.checks.beaten += 1;
        }
    }

    /// Asserts that the pick does not cost more than every other backend. The balancer draws two different ones and
    /// takes the better.
    fn not_the_worst(&mut self, balance: Balance, tier: &[Choice], at: usize, now_ms: u64) {
        let cost = |choice: &Choice| {
            let load = choice.backend.state.load();
            let carried = (choice.in_flight + u64::from(load.penalty(now_ms))) as f64;
            let cost = match load.latency(now_ms) {
                _ if balance == Balance::P2c => carried,
                Some(latency) => f64::from(latency) * (carried + 1.0),
                None if carried == 0.0 => 0.0,
                None => 1e6 * (carried + 1.0),
            };
            cost / choice.weight as f64
        };
        let mut others = tier.iter().enumerate().filter(|(n, other)| *n != at && !other.excluded).peekable();
        self.checks.beaten += u64::from(others.peek().is_some());
        let worst = others.map(|(_, other)| cost(other)).reduce(f64::max);
        assert!(worst.is_none_or(|worst| cost(&tier[at]) <= worst * 1.000_1), "the worst of all");
    }

    fn by_its_key(&mut self, members: &Members, tier: &[Choice], at: usize, key: Option<u64>, upstream: &Upstream) {
        let (factor, undisturbed) = (
            upstream.settings().hash.as_ref().and_then(|hash| hash.load_factor),
            tier.iter().all(|choice| !choice.excluded),
        );
        let weight: u64 = tier.iter().map(|choice| choice.weight).sum();
        let total: u64 = tier.iter().map(|choice| choice.in_flight).sum();
        let bound = |choice: &Choice| {
            let share = choice.weight as f64 / weight as f64;
            factor.map_or(f64::INFINITY, |factor| (factor * share * (total + 1) as f64).ceil().max(1.0))
        };
        if undisturbed && factor.is_some() {
            self.checks.bounds += 1;
            assert!((tier[at].in_flight + 1) as f64 <= bound(&tier[at]), "more than its bounded load");
        }
        if let Some(key) = key.filter(|_| undisturbed) {
            self.checks.moves += self.ring.look(members, upstream.settings().balance);
            let owner = self.ring.owner(tier[at].backend.tier, key);
            let within_bound = ((tier[owner].in_flight + 1) as f64) <= bound(&tier[owner]);
            assert!(!within_bound || owner == at, "not the owner of the key");
            self.checks.keys += u64::from(within_bound);
        }
    }

    /// A request has arrived.
    pub fn counted(&mut self, now_ms: u64) {
        self.requests.push_back(now_ms / 1_000);
    }

    /// Asserts the budget after a retry was taken from it.
    pub fn spent(&mut self, rule: &Retry, now_ms: u64) {
        self.checks.retries += 1;
        self.retries.push_back(now_ms / 1_000);
        let first = now_ms / 1_000 + 1 - WINDOW_SECS;
        for times in [&mut self.requests, &mut self.retries] {
            while times.front().is_some_and(|second| *second < first) {
                times.pop_front();
            }
        }
        let share = (self.requests.len() as f64 * rule.budget.fraction()).floor() as u64;
        assert!(self.retries.len() as u64 <= share.max(u64::from(rule.floor) * WINDOW_SECS), "the budget");
    }

    /// Asserts that one event ejects no more backends than the limit allows. After a reload (`reloaded`), older
    /// ejections may exceed the limit of a smaller upstream.
    pub fn ejections_are_bounded(&mut self, upstream: &Upstream, reloaded: bool) {
        let backends = upstream.backends();
        let out = backends.iter().filter(|backend| backend.state.is_ejected()).count();
        let share = upstream.settings().outlier.rules().map_or(0.0, |rules| rules.max_ejected.fraction());
        let most = match (backends.len(), upstream.settings().outlier.is_on()) {
            (0 | 1, _) | (_, false) => 0,
            (count, true) => ((share * count as f64).floor() as usize).max(1),
        };
        assert!(out <= most || out <= self.ejected || reloaded, "{out} ejected, {most} may be");
        self.checks.ejections += u64::from(out > self.ejected && !reloaded);
        self.ejected = out;
    }
}

/// Whether no backend has a free slot for a request that tried these and can wait.
pub fn has_no_slot_for(members: &Members, tried: &Tried) -> bool {
    let goes_back = !members.has_untried(tried);
    members.eligible().all(|b| b.state.is_full() || !goes_back && tried.contains(&b.state))
}

/// Asserts eligibility as documented, from the backend states alone.
fn may_be_picked(upstream: &Upstream, backend: &Backend, fail_open: bool) {
    assert!(is_able(upstream, backend), "drained, disabled or weightless");
    let has = |wanted: Health| upstream.backends().iter().any(|b| is_able(upstream, b) && health(b) == wanted);
    let panics = upstream.settings().panic_threshold.fraction() > 0.0;
    match health(backend) {
        Health::Up => {}
        Health::Unknown => assert!(fail_open || !has(Health::Up), "unknown serves only while nothing is up"),
        Health::Down => assert!(fail_open, "down or ejected"),
    }
    let desperate = !has(Health::Up) && !has(Health::Unknown) && upstream.settings().fail_open;
    assert!(!fail_open || desperate || panics, "fails open without need");
}

fn is_able(upstream: &Upstream, backend: &Backend) -> bool {
    backend.state.admin_state() == AdminState::Ready && backend.weight_now(upstream.settings().balance) > 0
}

fn health(backend: &Backend) -> Health {
    if backend.state.is_ejected() { Health::Down } else { backend.state.health() }
}

/// The candidates of a pick, with the counts before `picked` was raised.
fn choices(members: &Members, balance: Balance, picked: &Arc<BackendState>, tried: &Tried) -> Vec<Choice> {
    let choice = |(backend, part): (&Arc<Backend>, f64)| {
        let backend_state = &backend.state;
        let in_flight = backend_state.in_flight() - u32::from(Arc::ptr_eq(backend_state, picked));
        let full = backend_state.limit() > 0 && in_flight >= backend_state.limit();
        let parts = (part * f64::from(slow_start::FULL_FACTOR)).round() as u64;
        Choice {
            backend: Arc::clone(backend),
            weight: u64::from(backend.weight_now(balance)) * parts,
            in_flight: in_flight.into(),
            excluded: full || tried.contains(backend_state),
        }
    };
    members.ramps().map(choice).collect()
}

impl Checks {
    /// The lowest count.
    pub fn least(&self) -> u64 {
        let Self { picks, beaten, turns, keys, moves, bounds, retries, ejections, full, passed, back } = *self;
        [picks, beaten, turns, keys, moves, bounds, retries, ejections, full, passed, back].into_iter().min().unwrap()
    }
}

impl std::ops::AddAssign for Checks {
    fn add_assign(&mut self, other: Self) {
        self.picks += other.picks;
        self.beaten += other.beaten;
        self.turns += other.turns;
        self.keys += other.keys;
        self.moves += other.moves;
        self.bounds += other.bounds;
        self.retries += other.retries;
        self.ejections += other.ejections;
        self.full += other.full;
        self.passed += other.passed;
        self.back += other.back;
    }
}
