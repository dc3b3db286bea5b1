//! Upstreams: named groups of interchangeable backends, and the pick of a backend for each attempt.
//!
//! This module does not know routes, sessions or metric families. A reload that changes an upstream compiles a new
//! generation of it; requests in progress may still use the old one. Three things change at run time: the states of the
//! backends (`backend::state`), the member snapshot built from them, and the list of backends by discovery.

pub mod admin_override;
pub mod backend;
pub mod balance;
pub mod discovery;
#[cfg(test)]
mod ejection_tests;
pub mod explain;
pub mod health;
pub mod manager;
pub mod members;
pub mod outlier;
pub mod queue;
pub mod retry_budget;
pub mod retry_policy;
#[cfg(test)]
mod simulation;
pub mod slow_start;
pub mod status;
pub mod sticky;
pub mod task;
pub mod tiers;

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use arc_swap::{ArcSwap, ArcSwapOption, Guard};
use parking_lot::Mutex;

use crate::backend::labels::PassedOver;
use crate::backend::labels::{Health, PickReason};
use crate::clock;
use crate::config::schema;
use crate::pool::transport_settings::TransportSettings;
use backend::Backend;
use balance::rng::mix;
use balance::{Settings, Tried};
use discovery::state::DiscoveryState;
use members::{Members, Pick};
use outlier::{AttemptObserver, Detector};
use queue::{PickOutcome, Queue};
use retry_budget::RetryBudget;
use sticky::{BackendToken, Sticky};
use tiers::TierRules;

/// Hints of a request for the pick.
#[derive(Debug, Clone, Copy, Default)]
pub struct PickHints {
    /// Hash of the key for `consistent_hash`.
    pub key: Option<u64>,
    /// The backend that the affinity cookie names.
    pub named: Option<BackendToken>,
}

/// A named group of interchangeable backends.
#[derive(Debug)]
pub struct Upstream {
    name: Arc<str>,
    settings: schema::UpstreamSettings,
    /// Only discovery changes this list.
    backends: ArcSwap<Box<[Arc<Backend>]>>,
    discovered: Option<Arc<DiscoveryState>>,
    transport: Arc<TransportSettings>,
    budget: Arc<RetryBudget>,
    detector: ArcSwapOption<Detector>,
    /// The detector of the previous generation, if its rules differ. It is retired at activation.
    superseded: Option<Arc<Detector>>,
    queue: Arc<Queue>,
    sticky: Option<Sticky>,
    members: ArcSwap<Members>,
    /// The backends that are not in the member snapshot.
    passed_over: ArcSwapOption<Vec<PassedOver>>,
    /// Held for a whole rebuild, which reads states and then stores a snapshot. Otherwise a rebuild that read older
    /// states could store its snapshot last.
    rebuilding: Mutex<()>,
    /// Number of rebuilds of the current generation; shared by all generations.
    builds: Arc<AtomicU64>,
    /// Set when a newer generation exists, to the shared number of rebuilds. From then on, nothing triggers a rebuild
    /// of this generation. A request that still uses it rebuilds it before a pick, if the newer generation was rebuilt
    /// meanwhile.
    superseded_by: OnceLock<Arc<AtomicU64>>,
    /// The number of rebuilds that this member snapshot reflects.
    followed: AtomicU64,
}

impl Upstream {
    /// Creates an upstream with members from the current states. `previous`: a snapshot that is reused if it is equal.
    pub fn new(
        name: Arc<str>,
        settings: schema::UpstreamSettings,
        backends: Vec<Arc<Backend>>,
        transport: Arc<TransportSettings>,
        budget: Arc<RetryBudget>,
        previous: Option<Arc<Members>>,
    ) -> Self {
        // Compiling reads no clock. With the time 0 all backends have the same age, so none is in slow start. The
        // `rebuild` at activation uses the real time.
        let built = Members::build(&backends, rules(&settings), 0);
        let members = previous.filter(|previous| previous.same_as(&built)).unwrap_or_else(|| Arc::new(built));
        Self {
            name,
            settings,
            backends: ArcSwap::from_pointee(backends.into()),
            discovered: None,
            transport,
            budget,
            detector: ArcSwapOption::empty(),
            superseded: None,
            queue: Arc::default(),
            sticky: None,
            members: ArcSwap::new(members),
            passed_over: ArcSwapOption::empty(),
            rebuilding: Mutex::new(()),
            builds: Arc::default(),
            superseded_by: OnceLock::new(),
            followed: AtomicU64::new(0),
        }
    }

    /// Takes over the queue of `previous`, and the state of its outlier detection if the rules are equal.
    pub fn inherit(mut self, previous: Option<&Self>) -> Self {
        let before = previous.and_then(|previous| previous.detector.load_full());
        let rules = self.settings.outlier.rules();
        let ends = |before: &&Arc<Detector>| !rules.is_some_and(|rules| before.goes_on_with(rules));
        self.superseded = before.as_ref().filter(ends).map(Arc::clone);
        if let Some(previous) = previous {
            self.queue = Arc::clone(&previous.queue);
            self.builds = Arc::clone(&previous.builds);
        }
        self.watch_all(before.as_deref());
        self
    }

    /// Sets the affinity settings. The tokens of the backends must come from the same settings.
    pub fn with_affinity(self, sticky: Option<Sticky>) -> Self {
        Self { sticky, ..self }
    }

    /// Sets the discovery state.
    pub fn with_discovery(mut self, discovery: Option<Arc<DiscoveryState>>) -> Self {
        self.discovered = discovery;
        self
    }

    /// The discovery state, if the upstream uses discovery.
    pub fn discovered(&self) -> Option<&Arc<DiscoveryState>> {
        self.discovered.as_ref()
    }

    /// Replaces the backends after discovery. The members follow with `rebuild`.
    pub fn set_backends(&self, backends: Vec<Arc<Backend>>) {
        self.backends.store(Arc::new(backends.into()));
        self.watch_all(self.detector.load_full().as_deref());
    }

    fn watch_all(&self, before: Option<&Detector>) {
        let watch = |rules| Arc::new(Detector::new(rules, &self.backends.load(), before));
        self.detector.store(self.settings.outlier.rules().map(watch));
    }

    /// Its name.
    pub fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// Its settings as configured.
    pub fn settings(&self) -> &schema::UpstreamSettings {
        &self.settings
    }

    /// All backends: first the configured ones in configuration order, then the discovered ones.
    pub fn backends(&self) -> Arc<Box<[Arc<Backend>]>> {
        self.backends.load_full()
    }

    /// Transport settings of connections to the backends.
    pub fn transport(&self) -> &Arc<TransportSettings> {
        &self.transport
    }

    /// The retry budget.
    pub fn budget(&self) -> &RetryBudget {
        &self.budget
    }

    /// The affinity settings, if it has affinity.
    pub fn sticky(&self) -> Option<&Sticky> {
        self.sticky.as_ref()
    }

    /// The current member snapshot.
    pub fn members(&self) -> Arc<Members> {
        if self.is_superseded() {
            self.follow(clock::now_ms());
        }
        self.members.load_full()
    }

    /// The current member snapshot, for a pick.
    fn members_at(&self, now_ms: u64) -> Guard<Arc<Members>> {
        if self.is_superseded() {
            self.follow(now_ms);
        }
        self.members.load()
    }

    fn is_superseded(&self) -> bool {
        self.superseded_by.get().is_some()
    }

    /// Declares `newer` the current generation. From now on verdicts rebuild only that one, for any number of older
    /// generations that requests still use.
    pub fn supersede(&self, newer: &Self) {
        let _ = self.superseded_by.set(Arc::clone(&newer.builds));
    }

    /// Rebuilds the members of a superseded generation if the current one was rebuilt since.
    fn follow(&self, now_ms: u64) {
        let Some(builds) = self.superseded_by.get() else { return };
        let builds = builds.load(Ordering::Acquire);
        if self.followed.swap(builds, Ordering::AcqRel) != builds {
            self.rebuild_at(now_ms);
        }
    }

    /// Picks a backend for an attempt; `None` if none is available. It picks a tried backend only if no other is left.
    /// `key`: the hash key for `consistent_hash`.
    pub fn pick(&self, tried: &Tried, now_ms: u64, key: Option<u64>) -> Option<Pick> {
        self.members_at(now_ms).pick(tried, now_ms, key)
    }

    /// Picks a backend for a request that can wait, and reports why there is none. The backend that the affinity cookie
    /// names comes before the pick of the balancer. A tried backend is picked only if no untried one exists. It is not
    /// picked merely because the others are full.
    pub fn try_pick(&self, tried: &Tried, now_ms: u64, hints: PickHints) -> PickOutcome<Pick> {
        let members = self.members_at(now_ms);
        let named = hints.named.map(|token| members.pick_named(&token, tried));
        let instead = match named {
            Some(Ok(pick)) => return PickOutcome::Slot(pick),
            Some(Err(why)) => Some(why),
            None => None,
        };
        if let Some(pick) = members.pick_other(tried, now_ms, hints.key) {
            return PickOutcome::Slot(Pick { why: instead.unwrap_or(pick.why), ..pick });
        }
        if members.has_untried(tried) {
            return if members.are_full() { PickOutcome::Full } else { PickOutcome::ForOthers };
        }
        let pick = members.pick_again(tried, now_ms, hints.key).or_else(|| members.pick_ejected(tried));
        match pick {
            Some(pick) => PickOutcome::Slot(pick),
            None if members.is_empty() => PickOutcome::Nobody,
            None => PickOutcome::Full,
        }
    }

    /// Picks a backend for a request whose wait is over, tried or not. `None` if the request has tried no backend yet:
    /// a first attempt must not overtake the queue.
    pub fn pick_tried(&self, tried: &Tried, now_ms: u64, key: Option<u64>) -> Option<Pick> {
        self.members_at(now_ms).pick_again(tried, now_ms, key)
    }

    /// A hash of this generation and the tried set. Requests with equal values wait for the same slots.
    pub fn wait_class(&self, tried: &Tried) -> u64 {
        tried.kind().wrapping_add(mix(std::ptr::from_ref(self) as u64))
    }

    /// Whether a backend exists that was not tried and is not full.
    pub fn has_another(&self, tried: &Tried) -> bool {
        self.members.load().has_room_elsewhere(tried)
    }

    /// The queue of requests that wait while all eligible backends are full.
    pub fn queue(&self) -> &Arc<Queue> {
        &self.queue
    }

    /// Picks a backend whose ejection time is over; this request becomes its trial. `None` if no trial is due. Also
    /// `None` if the affinity cookie of the request names a backend that can be picked.
    pub fn pick_trial(
        &self,
        tried: &Tried,
        now_ms: u64,
        named: Option<&BackendToken>,
    ) -> Option<(Pick, AttemptObserver)> {
        let detector = self.detector.load();
        let detector = detector.as_ref().filter(|detector| detector.has_due(now_ms))?;
        if named.is_some_and(|token| self.members.load().named(token, tried).is_ok()) {
            return None;
        }
        let backends = self.backends.load();
        let (backend, guard, observer) = detector.trial(&backends, tried, now_ms)?;
        Some((
            Pick { backend: Arc::clone(backend), guard, fail_open: false, again: false, why: PickReason::Trial },
            observer,
        ))
    }

    /// Observes an attempt at one of its backends; `None` without outlier detection.
    pub fn observe(&self, backend: &Backend) -> Option<AttemptObserver> {
        self.detector.load().as_ref()?.watch(&backend.state)
    }

    /// Rebuilds the members from the current states. Returns whether they changed.
    pub fn rebuild(&self) -> bool {
        self.rebuild_at(clock::now_ms())
    }

    fn rebuild_at(&self, now: u64) -> bool {
        let _one_at_a_time = self.rebuilding.lock();
        let rules = rules(&self.settings);
        let backends = self.backends.load_full();
        // Only the current generation publishes serving times and weights.
        let is_current = !self.is_superseded();
        for backend in backends.iter().filter(|_| is_current) {
            backend.state.set_resolved(backend.addr.is_known(), now);
            let up = tiers::is_able(backend) && tiers::health(backend, rules.checked) == Health::Up;
            backend.state.load().set_serving(up && backend.state.is_member(), now);
        }
        let built = Members::build(&backends, rules, now);
        if is_current {
            self.publish_weights(&backends, &built);
        }
        self.passed_over.store(self.excluded_now(&backends, &built).map(Arc::new));
        let changed = !self.members.load().same_as(&built);
        if changed {
            self.members.store(Arc::new(built));
        }
        if is_current {
            self.builds.fetch_add(1, Ordering::Release);
            // Eligibility may have changed, so a waiting request must retry its pick.
            self.queue.notify_first();
        }
        if let Some(discovery) = self.discovered.as_ref().filter(|_| is_current && !self.verdict_pending()) {
            discovery.settle();
        }
        changed
    }

    /// The excluded backends with reasons, for the log; `None` if none is excluded.
    pub fn excluded(&self) -> Option<Arc<Vec<PassedOver>>> {
        self.passed_over.load_full()
    }

    /// Publishes the configured and the effective weights. The effective weight is the runtime or configured one, times
    /// the slow-start factor.
    fn publish_weights(&self, backends: &[Arc<Backend>], members: &Members) {
        let ramps: HashMap<*const Backend, f64> = members
            .ramps()
            .filter(|(_, part)| *part < 1.0)
            .map(|(backend, part)| (Arc::as_ptr(backend), part))
            .collect();
        for backend in backends {
            let ramp = ramps.get(&Arc::as_ptr(backend)).copied().unwrap_or(1.0);
            let now = backend.weight_now(self.settings.balance);
            backend.state.set_weights(backend.weight.into(), f64::from(now) * ramp);
        }
    }

    /// Whether the first discovery result is still missing.
    pub fn look_pending(&self) -> bool {
        self.discovered.as_ref().is_some_and(|discovery| !discovery.was_looked_for())
    }

    /// Whether a backend has no first verdict yet, or the first discovery result is missing. Backends that are
    /// discovered later do not count.
    pub fn verdict_pending(&self) -> bool {
        if self.discovered.as_ref().is_some_and(|discovery| discovery.is_settled()) {
            return false;
        }
        let unknown = |backend: &Arc<Backend>| backend.state.health() == Health::Unknown;
        self.look_pending() || self.settings.health_check.is_some() && self.backends.load().iter().any(unknown)
    }
}

fn rules(settings: &schema::UpstreamSettings) -> TierRules {
    let load_factor = settings.hash.as_ref().and_then(|hash| hash.load_factor);
    TierRules {
        settings: Settings { balance: settings.balance, load_factor },
        fail_open: settings.fail_open,
        checked: settings.health_check.is_some(),
        tier_min_up: settings.tier_min_up.fraction(),
        panic_threshold: settings.panic_threshold.fraction(),
        slow_start_ms: settings.slow_start.get().as_millis() as u64,
    }
}
