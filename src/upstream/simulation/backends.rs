//! Simulated backends and their upstream, which each reload compiles again.
//!
//! It performs the reloads of the manager, the verdicts of health checkers and the overrides of operators. It sends no
//! request.

use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

use super::params::Plan;
use crate::backend::BackendState;
use crate::backend::OnFree;
use crate::backend::labels::{AdminState, Health};
use crate::config::schema;
use crate::config::values::BackendAddress;
use crate::pool::backend_addr::BackendAddr;
use crate::pool::transport_settings::TransportSettings;
use crate::upstream::Upstream;
use crate::upstream::admin_override::BackendOverride;
use crate::upstream::backend::Backend;
use crate::upstream::balance::rng::Prng;
use crate::upstream::balance::tests::backend_state;
use crate::upstream::health::hysteresis::Hysteresis;
use crate::upstream::task::Changed;

/// A day in 2023, so that a stored zero differs from the current time.
const START_MS: u64 = 1_700_000_000_000;

/// The virtual clock.
#[derive(Debug, Clone, Copy)]
pub struct Clock(tokio::time::Instant);

impl Clock {
    pub fn new() -> Self {
        Self(tokio::time::Instant::now())
    }

    pub fn now_ms(self) -> u64 {
        START_MS + self.0.elapsed().as_millis() as u64
    }
}

/// Behavior of a backend.
#[derive(Debug, Clone, Copy)]
pub struct Mood {
    pub latency_ms: u64,
    /// Percentages.
    pub fails: u64,
    pub passes_probes: u64,
}

pub const WELL: Mood = Mood { latency_ms: 5, fails: 0, passes_probes: 100 };
const MOODS: [Mood; 7] = [
    WELL,
    WELL,
    WELL,
    Mood { latency_ms: 40, ..WELL },
    Mood { latency_ms: 1, fails: 100, passes_probes: 100 },
    Mood { latency_ms: 10, fails: 30, passes_probes: 80 },
    Mood { latency_ms: 3, fails: 100, passes_probes: 0 },
];

/// An address that may have a backend.
pub struct Site {
    pub backend_state: Arc<BackendState>,
    pub mood: Mood,
    address: BackendAddress,
    addr: Arc<BackendAddr>,
    prober: Hysteresis,
    /// Weight and tier while it is configured.
    written: Option<(u16, u8)>,
}

impl Site {
    fn new(number: usize) -> Self {
        let address: BackendAddress = format!("10.0.0.{}:80", number + 1).parse().unwrap();
        let addr = Arc::new(BackendAddr::new(&address));
        let prober = Hysteresis::new(Health::Unknown, 2, 2);
        // The hash table uses the address in the labels; this helper copies it from the name.
        let backend_state = backend_state(&address.to_string());
        backend_state.set_member(false, 0);
        Self { backend_state, mood: WELL, address, addr, prober, written: None }
    }
}

/// All backends and the current upstream.
pub struct Fleet {
    pub sites: Vec<Site>,
    pub upstream: Arc<Upstream>,
    plan: Plan,
    clock: Clock,
    live: Arc<Mutex<Vec<Weak<Upstream>>>>,
}

impl Fleet {
    /// Starts with backends at some of the sites; none is probed yet.
    pub fn new(plan: Plan, clock: Clock, rng: &mut Prng) -> Self {
        let sites = (0..3 + rng.below(8) as usize).map(Site::new).collect();
        let (settings, live) = (plan.settings(rng), Arc::default());
        let transport = Arc::new(TransportSettings::new(&settings, &|_| None));
        let upstream = Arc::new(Upstream::new("u".into(), settings, Vec::new(), transport, Arc::default(), None));
        let mut fleet = Self { sites, upstream, plan, clock, live };
        for _ in 0..5 {
            fleet.edit(rng);
        }
        fleet.reload(rng);
        fleet
    }

    /// Rebuilds the members of the current generation. Older ones rebuild when they are used.
    pub fn rebuild(&self) {
        rebuild(&self.live, self.clock.now_ms());
    }

    /// Loads another configuration with changed backends, weights, tiers or settings.
    pub fn reload(&mut self, rng: &mut Prng) {
        self.edit(rng);
        let settings = match rng.below(3) {
            0 => self.upstream.settings().clone(),
            _ => self.plan.settings(rng),
        };
        let before = Arc::clone(&self.upstream);
        self.upstream = Arc::new(self.compile(settings, &before));
        before.supersede(&self.upstream);
        self.live.lock().unwrap().push(Arc::downgrade(&self.upstream));
        self.live.lock().unwrap().retain(|generation| generation.strong_count() > 0);
        self.activate(&before);
    }

    /// Adds or removes a backend, or changes its weight or tier. At least one with a weight remains.
    fn edit(&mut self, rng: &mut Prng) {
        let at = rng.below(self.sites.len() as u64) as usize;
        let weight = match self.plan.balance {
            schema::Balance::RoundRobin => 1,
            _ => 1 + rng.below(6) as u16,
        };
        let tier = if self.plan.calm { 0 } else { [0, 0, 0, 1][rng.below(4) as usize] };
        let others = self.sites.iter().enumerate().any(|(other, site)| other != at && site.written.is_some());
        let goes = others && rng.below(2) == 0;
        self.sites[at].written = (!goes).then_some((weight, tier));
    }

    fn compile(&self, settings: schema::UpstreamSettings, before: &Upstream) -> Upstream {
        let backend = |(n, site): (usize, &Site)| {
            let (weight, tier) = site.written?;
            let (backend_state, addr) = (Arc::clone(&site.backend_state), Arc::clone(&site.addr));
            let name = format!("b{n}").into();
            Some(Arc::new(Backend {
                name,
                address: site.address.clone(),
                weight,
                tier,
                token: None,
                state: backend_state,
                addr,
            }))
        };
        let backends = self.sites.iter().enumerate().filter_map(backend).collect();
        let (transport, budget) = (Arc::clone(before.transport()), Arc::clone(&before.budget));
        let members = Some(before.members());
        Upstream::new("u".into(), settings, backends, transport, budget, members).inherit(Some(before))
    }

    /// Activates the current generation, as the manager does.
    fn activate(&mut self, before: &Upstream) {
        let (now, upstream) = (self.clock.now_ms(), Arc::clone(&self.upstream));
        for site in self.sites.iter_mut().filter(|site| site.written.is_some()) {
            let backend_state = &site.backend_state;
            if !before.backends().iter().any(|backend| Arc::ptr_eq(&backend.state, backend_state)) {
                site.prober = Hysteresis::new(Health::Unknown, 2, 2);
                backend_state.set_health(Health::Unknown, "", now);
            }
            backend_state.set_member(true, now);
            backend_state.load().set_decay(Duration::from_secs(10));
            let queue = Arc::clone(upstream.queue());
            backend_state.set_limit(upstream.settings().max_in_flight, Some(OnFree::new(move || queue.notify_first())));
        }
        if let Some(before) = &upstream.superseded {
            before.retire(now);
        }
        let backends = upstream.backends();
        let ejected = || backends.iter().filter(|backend| backend.state.is_ejected());
        match &*upstream.detector.load() {
            Some(detector) => detector.activate(&self.changed(), now),
            None => ejected().for_each(|backend| backend.state.set_ejected(None, now)),
        }
        for site in self.sites.iter().filter(|site| site.written.is_none()) {
            site.backend_state.set_member(false, now);
            site.backend_state.load().set_serving(false, 0);
        }
        self.rebuild();
    }

    fn changed(&self) -> Changed {
        let (live, clock) = (Arc::clone(&self.live), self.clock);
        Arc::new(move || rebuild(&live, clock.now_ms()))
    }

    /// Probes a site if it is configured.
    pub fn probe(&mut self, at: usize, rng: &mut Prng) {
        let site = &mut self.sites[at];
        if site.written.is_none() {
            return;
        }
        if let Some(verdict) = site.prober.step(rng.below(100) < site.mood.passes_probes) {
            site.backend_state.set_health(verdict, "", self.clock.now_ms());
            self.rebuild();
        }
    }

    /// Changes the behavior of one site.
    pub fn swing(&mut self, rng: &mut Prng) {
        let at = rng.below(self.sites.len() as u64) as usize;
        self.sites[at].mood = MOODS[rng.below(MOODS.len() as u64) as usize];
    }

    /// Applies an operator override to one backend. Refused ones are ignored.
    pub fn operate(&self, rng: &mut Prng) {
        let backends = self.upstream.backends();
        let backend = &backends[rng.below(backends.len() as u64) as usize];
        let mark =
            [AdminState::Ready, AdminState::Ready, AdminState::Draining, AdminState::Disabled][rng.below(4) as usize];
        let weight = [None, Some(0), Some(1), Some(2 + rng.below(8) as u16)][rng.below(4) as usize];
        let wanted = match rng.below(2) {
            0 => BackendOverride { mark: Some(mark), weight: None },
            _ => BackendOverride { mark: None, weight: Some(weight) },
        };
        let _ = self.upstream.apply_override(backend, wanted, self.clock.now_ms());
        self.rebuild();
    }

    /// Repairs everything: all sites become healthy, and all overrides are removed.
    pub fn mend(&mut self) {
        let now = self.clock.now_ms();
        for site in &mut self.sites {
            (site.mood, site.prober) = (WELL, Hysteresis::new(Health::Up, 2, 2));
            site.backend_state.set_admin_state(AdminState::Ready, now);
            site.backend_state.set_runtime_weight(None);
            site.backend_state.set_health(Health::Up, "", now);
        }
        self.rebuild();
    }
}

fn rebuild(live: &Mutex<Vec<Weak<Upstream>>>, now_ms: u64) {
    let current = live.lock().unwrap().last().and_then(Weak::upgrade);
    if let Some(upstream) = current {
        upstream.rebuild_at(now_ms);
    }
}
