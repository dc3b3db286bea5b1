//! Upstreams: named groups of interchangeable backends, who of them may be picked now, and who is.
//!
//! This room knows nothing of routes, sessions or metric families. What changes at run time are the cells of
//! backends (`telemetry::backend_state`) and the members made from them; everything else is as compiled.

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

/// What a request brings that speaks for one backend.
#[derive(Debug, Clone, Copy, Default)]
pub struct PickHints {
    /// The hash of what `consistent_hash` goes by.
    pub key: Option<u64>,
    /// The backend that the client's cookie names.
    pub named: Option<BackendToken>,
}

/// A named group of interchangeable backends.
#[derive(Debug)]
pub struct Upstream {
    name: Arc<str>,
    settings: schema::UpstreamSettings,
    /// Only what is discovered changes.
    backends: ArcSwap<Box<[Arc<Backend>]>>,
    discovered: Option<Arc<DiscoveryState>>,
    transport: Arc<TransportSettings>,
    budget: Arc<RetryBudget>,
    detector: ArcSwapOption<Detector>,
    /// Of the generation before, where its judgement ends with it.
    superseded: Option<Arc<Detector>>,
    queue: Arc<Queue>,
    sticky: Option<Sticky>,
    members: ArcSwap<Members>,
    /// Who is not among the members.
    passed_over: ArcSwapOption<Vec<PassedOver>>,
    /// Rebuilding reads cells and then swaps: one at a time, so that the last to read is the last to swap.
    rebuilding: Mutex<()>,
    /// How often the current generation has built its members anew; all generations share it.
    builds: Arc<AtomicU64>,
    /// There is a newer generation: its count of builds. Nothing rebuilds this one any more; a request that still holds it
    /// does so before it picks, if the newer one was rebuilt since.
    superseded_by: OnceLock<Arc<AtomicU64>>,
    /// The newer generation's builds that are in these members.
    followed: AtomicU64,
}

impl Upstream {
    /// With members built from what the cells say now. `previous`: members that stay if they are the same.
    pub fn new(
        name: Arc<str>,
        settings: schema::UpstreamSettings,
        backends: Vec<Arc<Backend>>,
        transport: Arc<TransportSettings>,
        budget: Arc<RetryBudget>,
        previous: Option<Arc<Members>>,
    ) -> Self {
        // Without a clock, and so without a ramp: that comes with `rebuild`, when it is activated.
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

    /// What goes on from `previous`: its queue, and what was judged of backends while the rules are equal.
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

    /// The same with cookies that bring clients back; its backends have their tokens from these.
    pub fn with_affinity(self, sticky: Option<Sticky>) -> Self {
        Self { sticky, ..self }
    }

    /// With what is found for it while it runs.
    pub fn with_discovery(mut self, found: Option<Arc<DiscoveryState>>) -> Self {
        self.discovered = found;
        self
    }

    /// What is found for it while it runs, if it looks for backends.
    pub fn discovered(&self) -> Option<&Arc<DiscoveryState>> {
        self.discovered.as_ref()
    }

    /// Other backends, because others were found. Members follow with `rebuild`.
    pub fn set_backends(&self, backends: Vec<Arc<Backend>>) {
        self.backends.store(Arc::new(backends.into()));
        self.watch_all(self.detector.load_full().as_deref());
    }

    fn watch_all(&self, before: Option<&Detector>) {
        let watch = |rules| Arc::new(Detector::new(rules, &self.backends.load(), before));
        self.detector.store(self.settings.outlier.rules().map(watch));
    }

    /// What it is called.
    pub fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// As the document says it.
    pub fn settings(&self) -> &schema::UpstreamSettings {
        &self.settings
    }

    /// All that are configured, in the document's order, and then those that were found.
    pub fn backends(&self) -> Arc<Box<[Arc<Backend>]>> {
        self.backends.load_full()
    }

    /// How they are spoken to.
    pub fn transport(&self) -> &Arc<TransportSettings> {
        &self.transport
    }

    /// How many retries it can take.
    pub fn budget(&self) -> &RetryBudget {
        &self.budget
    }

    /// The cookies that bring clients back, where it has some.
    pub fn sticky(&self) -> Option<&Sticky> {
        self.sticky.as_ref()
    }

    /// What it consists of now.
    pub fn members(&self) -> Arc<Members> {
        if self.is_superseded() {
            self.follow(clock::now_ms());
        }
        self.members.load_full()
    }

    /// For a pick.
    fn members_at(&self, now_ms: u64) -> Guard<Arc<Members>> {
        if self.is_superseded() {
            self.follow(now_ms);
        }
        self.members.load()
    }

    fn is_superseded(&self) -> bool {
        self.superseded_by.get().is_some()
    }

    /// `newer` is the current generation from here on: verdicts rebuild that one alone, however many older ones requests
    /// still hold.
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

    /// Picks a backend for an attempt; nothing if none may be tried. One that was tried only if no other is left.
    /// `key`: the hash of what `consistent_hash` goes by, where the request has it.
    pub fn pick(&self, tried: &Tried, now_ms: u64, key: Option<u64>) -> Option<Pick> {
        self.members_at(now_ms).pick(tried, now_ms, key)
    }

    /// The same for who may wait, telling apart why there is none: back to one that was tried only if no other is left, not
    /// because the others are full. The backend that a client's cookie names goes before what the balancer would pick.
    pub fn try_pick(&self, tried: &Tried, now_ms: u64, wish: PickHints) -> PickOutcome<Pick> {
        let members = self.members_at(now_ms);
        let named = wish.named.map(|token| members.pick_named(&token, tried));
        let instead = match named {
            Some(Ok(pick)) => return PickOutcome::Slot(pick),
            Some(Err(why)) => Some(why),
            None => None,
        };
        if let Some(pick) = members.pick_other(tried, now_ms, wish.key) {
            return PickOutcome::Slot(Pick { why: instead.unwrap_or(pick.why), ..pick });
        }
        if members.has_untried(tried) {
            return if members.are_full() { PickOutcome::Full } else { PickOutcome::ForOthers };
        }
        let pick = members.pick_again(tried, now_ms, wish.key).or_else(|| members.pick_ejected(tried));
        match pick {
            Some(pick) => PickOutcome::Slot(pick),
            None if members.is_empty() => PickOutcome::Nobody,
            None => PickOutcome::Full,
        }
    }

    /// A backend for who cannot wait any longer, be it one that was tried; nothing for a first try, which overtakes nobody.
    pub fn pick_tried(&self, tried: &Tried, now_ms: u64, key: Option<u64>) -> Option<Pick> {
        self.members_at(now_ms).pick_again(tried, now_ms, key)
    }

    /// The same number for all requests of this generation that have tried the same: they wait for the same places.
    pub fn wait_class(&self, tried: &Tried) -> u64 {
        tried.kind().wrapping_add(mix(std::ptr::from_ref(self) as u64))
    }

    /// Whether there is a backend to go to that was not tried and is not full.
    pub fn has_another(&self, tried: &Tried) -> bool {
        self.members.load().has_room_elsewhere(tried)
    }

    /// Where requests wait while all that may be picked are full.
    pub fn queue(&self) -> &Arc<Queue> {
        &self.queue
    }

    /// A backend whose ejection is over, if this request may be its trial: not one whose cookie names a backend that serves.
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
        let (backend, guard, watching) = detector.trial(&backends, tried, now_ms)?;
        Some((
            Pick { backend: Arc::clone(backend), guard, fail_open: false, again: false, why: PickReason::Trial },
            watching,
        ))
    }

    /// Watches an attempt at one of its backends, if backends are watched.
    pub fn observe(&self, backend: &Backend) -> Option<AttemptObserver> {
        self.detector.load().as_ref()?.watch(&backend.state)
    }

    /// Builds the members anew from what the cells say; whether they changed.
    pub fn rebuild(&self) -> bool {
        self.rebuild_at(clock::now_ms())
    }

    fn rebuild_at(&self, now: u64) -> bool {
        let _one_at_a_time = self.rebuilding.lock();
        let rules = rules(&self.settings);
        let backends = self.backends.load_full();
        // Serving times and weights are shown as the current generation has them.
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
            // A request that waits may have another backend to go to now, or none.
            self.queue.notify_first();
        }
        if let Some(found) = self.discovered.as_ref().filter(|_| is_current && !self.verdict_pending()) {
            found.settle();
        }
        changed
    }

    /// Those that cannot be picked, and why, for the log; nothing if all can.
    pub fn excluded(&self) -> Option<Arc<Vec<PassedOver>>> {
        self.passed_over.load_full()
    }

    /// Shows the weights as configured and as they count: an operator's or the configured one, as far as it has grown.
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

    /// Whether it is still looked for for the first time.
    pub fn look_pending(&self) -> bool {
        self.discovered.as_ref().is_some_and(|found| !found.was_looked_for())
    }

    /// Whether a backend still waits for its first verdict, or is still looked for. One that is found later holds up nothing.
    pub fn verdict_pending(&self) -> bool {
        if self.discovered.as_ref().is_some_and(|found| found.is_settled()) {
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
