//! Upstream manager: compiles the upstreams of each configuration and owns the tasks of the current ones.
//!
//! Compiling does no I/O, spawns no task and changes no live state, so a refused reload has no effect. Activation
//! starts and stops tasks. State that survives reloads is keyed by (upstream, address). A task continues while its
//! settings are equal.

mod debounce;
mod discovery;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::Path;
use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;

use parking_lot::{Mutex, MutexGuard};
use pingora_core::connectors::http::Connector;
use tokio::runtime::Handle;
use tokio_util::task::AbortOnDropHandle;

use self::discovery::RunningDiscovery;
use super::backend::Backend;
use super::health::checker::{CheckSettings, HealthChecker};
use super::health::probe::Probe;
use super::sticky::Sticky;
use super::{Upstream, admin_override, slow_start};
use crate::backend::OnFree;
use crate::backend::labels::Health;
use crate::backend::{BackendState, Labels};
use crate::clock;
use crate::config::schema::{self, Balance};
use crate::config::values::{BackendAddress, Name, Period};
use crate::pool::backend_addr::BackendAddr;
use crate::pool::resolver::Resolver;
use crate::pool::transport_settings::TransportSettings;
use crate::telemetry::meters::UpstreamMeters;
use crate::upstream::task::Changed;

/// A task that is aborted when its owner is dropped.
type OwnedTask = AbortOnDropHandle<()>;

/// Compiled upstreams by name.
pub type Upstreams = BTreeMap<Name, Arc<Upstream>>;

/// Reads a file that the configuration names; `None` if it is not available.
pub type FileReader<'a> = dyn Fn(&Path) -> Option<Vec<u8>> + 'a;

/// Returns the meters of an upstream by name.
type MetersOf = Box<dyn Fn(&str) -> Arc<UpstreamMeters> + Send + Sync>;

/// The upstreams of the process, across all configurations.
pub struct UpstreamManager {
    handle: Handle,
    backend_state_of: Box<dyn Fn(Labels) -> Arc<BackendState> + Send + Sync>,
    meters_of: MetersOf,
    /// For the discovery tasks: they must not keep the manager alive.
    weak_self: Weak<Self>,
    /// Created for the first probe, because it loads the root certificates of the system.
    connector: OnceLock<Arc<Connector>>,
    active: Mutex<HashMap<BackendIdentity, Active>>,
    /// One task per upstream with slow start, which raises weights step by step.
    growing: Mutex<HashMap<Arc<str>, (Period, OwnedTask)>>,
    /// One discovery task per upstream with `discover`.
    running_discoveries: Mutex<HashMap<Arc<str>, RunningDiscovery>>,
    live: Arc<Live>,
}

/// Identity of a backend; independent of its name and weight.
type BackendIdentity = (Arc<str>, BackendAddress);

/// All upstreams by name, with the generations that are in use.
#[derive(Default)]
struct Live(Mutex<HashMap<Arc<str>, Generations>>);

/// The current generation of an upstream, and the older ones that requests still use. A new verdict rebuilds only the
/// current one.
#[derive(Default)]
struct Generations {
    current: Weak<Upstream>,
    older: Vec<Weak<Upstream>>,
}

/// Inputs that all backends of one activation share.
struct BuildContext<'a> {
    upstream: &'a Arc<Upstream>,
    /// Settings of the health checks.
    spec: Option<CheckSettings>,
    /// Time of the activation, on the monotonic clock.
    at_ms: u64,
    /// Callback after a change that members depend on. `judged` is the debounced callback for changes by probes.
    changed: Changed,
    judged: Changed,
}

/// A backend of the current configuration with its tasks.
struct Active {
    states: Arc<BackendState>,
    probing: Option<(CheckSettings, OwnedTask)>,
    resolving: Option<OwnedTask>,
}

impl UpstreamManager {
    /// `handle`: runtime of probes and DNS lookups, separate from traffic. `backend_state_of`: returns the state of a
    /// backend, always the same one for the same (upstream, address). `meters_of`: returns the meters of an upstream by
    /// name.
    pub fn new(
        handle: Handle,
        backend_state_of: impl Fn(Labels) -> Arc<BackendState> + Send + Sync + 'static,
        meters_of: impl Fn(&str) -> Arc<UpstreamMeters> + Send + Sync + 'static,
    ) -> Arc<Self> {
        Arc::new_cyclic(|weak_self| Self {
            handle,
            backend_state_of: Box::new(backend_state_of),
            meters_of: Box::new(meters_of),
            weak_self: Weak::clone(weak_self),
            connector: OnceLock::new(),
            active: Mutex::default(),
            growing: Mutex::default(),
            running_discoveries: Mutex::default(),
            live: Arc::default(),
        })
    }

    /// Compiles the upstreams of a configuration. `previous`: the upstreams of the current snapshot. One with equal
    /// settings and files is reused unchanged. Another one passes on its states, addresses, retry budget and unchanged
    /// members. `folder`: the base of relative file paths.
    pub fn compile(
        &self,
        upstreams: &BTreeMap<Name, schema::UpstreamSettings>,
        folder: &Path,
        file: &FileReader<'_>,
        previous: &Upstreams,
    ) -> Upstreams {
        let one = |(name, settings): (&Name, &schema::UpstreamSettings)| {
            (name.clone(), self.compile_one(name, settings, folder, file, previous.get(name)))
        };
        upstreams.iter().map(one).collect()
    }

    fn compile_one(
        &self,
        name: &Name,
        settings: &schema::UpstreamSettings,
        folder: &Path,
        file: &FileReader<'_>,
        previous: Option<&Arc<Upstream>>,
    ) -> Arc<Upstream> {
        let transport = TransportSettings::new(settings, file);
        let sticky = settings.sticky.as_ref();
        let sticky = sticky.and_then(|sticky| Some(Sticky::new(name.as_str(), sticky, &file(&sticky.key_file)?)));
        let has_the_secret = |previous: &Upstream| match (previous.sticky(), &sticky) {
            (Some(before), Some(now)) => before.has_secret_of(now),
            (before, now) => before.is_none() && now.is_none(),
        };
        let same = previous.filter(|p| *p.settings() == *settings && **p.transport() == transport && has_the_secret(p));
        if let Some(same) = same {
            return Arc::clone(same);
        }
        let upstream: Arc<str> = name.as_str().into();
        let discovered = self.previous_state(&upstream, settings, folder, file, previous);
        let known = previous.map(|previous| previous.backends().to_vec()).unwrap_or_default();
        let backends = self.backends(&upstream, settings, discovered.as_deref(), sticky.as_ref(), &known);
        let budget = previous.map(|previous| Arc::clone(&previous.budget)).unwrap_or_default();
        let members = previous.map(|previous| previous.members());
        let built = Upstream::new(upstream, settings.clone(), backends, Arc::new(transport), budget, members);
        Arc::new(built.with_affinity(sticky).with_discovery(discovered).inherit(previous.map(|previous| &**previous)))
    }

    fn backend(
        &self,
        upstream: &Arc<str>,
        configured: &schema::BackendSettings,
        sticky: Option<&Sticky>,
        known: Option<&Arc<Backend>>,
    ) -> Arc<Backend> {
        let address = configured.address.clone();
        let shown: Arc<str> = address.to_string().into();
        let name: Arc<str> = configured.name.as_ref().map_or_else(|| Arc::clone(&shown), |name| name.as_str().into());
        let (backend_state, addr) = match known {
            Some(known) => (Arc::clone(&known.state), Arc::clone(&known.addr)),
            None => {
                let labels = Labels { upstream: Arc::clone(upstream), backend: Arc::clone(&name), address: shown };
                let backend_state = (self.backend_state_of)(labels);
                // Becomes true at activation. A refused reload must not show the backend in the metrics.
                backend_state.set_member(false, 0);
                (backend_state, Arc::new(BackendAddr::new(&address)))
            }
        };
        let token = sticky.map(|sticky| sticky.token(&address));
        Arc::new(Backend {
            name,
            address,
            weight: configured.weight,
            tier: configured.tier,
            token,
            state: backend_state,
            addr,
        })
    }

    /// Makes these upstreams current. Starts, replaces and stops their tasks, publishes weights, and drains backends
    /// that are no longer configured.
    pub fn activate(&self, upstreams: &Upstreams) {
        let mut active = self.active.lock();
        let mut before = std::mem::take(&mut *active);
        for upstream in upstreams.values() {
            self.live.add(upstream);
            self.merge_discovered(upstream);
            let context = self.context(upstream);
            for backend in upstream.backends().iter() {
                let identity = (Arc::clone(upstream.name()), backend.address.clone());
                let now = self.activate_one(&context, backend, before.remove(&identity));
                active.insert(identity, now);
            }
            self.activate_detector(upstream);
            upstream.rebuild();
        }
        before.into_values().for_each(Active::leave);
        self.grow(upstreams);
        self.find(upstreams);
        self.live.retire_without(upstreams);
        self.live.sweep();
    }

    /// Rebuilds the members of an upstream after a change of a backend state.
    pub fn rebuild(&self, upstream: &str) {
        self.live.rebuild(upstream);
    }

    fn context<'a>(&self, upstream: &'a Arc<Upstream>) -> BuildContext<'a> {
        let (live, name) = (Arc::clone(&self.live), Arc::clone(upstream.name()));
        let judged = debounce::paced(self.handle.clone(), move || live.rebuild(&name));
        BuildContext {
            upstream,
            spec: CheckSettings::of(upstream),
            at_ms: clock::now_ms(),
            changed: self.changed(upstream.name()),
            judged,
        }
    }

    fn activate_one(&self, context: &BuildContext<'_>, backend: &Arc<Backend>, before: Option<Active>) -> Active {
        let upstream = context.upstream;
        let backend_state = Arc::clone(&backend.state);
        // This call only updates the labels. It returns the same state.
        (self.backend_state_of)(Labels {
            upstream: Arc::clone(upstream.name()),
            backend: Arc::clone(&backend.name),
            address: backend.address.to_string().into(),
        });
        backend_state.set_resolved(backend.addr.is_known(), clock::now_ms());
        backend_state.set_member(true, clock::now_ms());
        let decay = upstream.settings().ewma.clone().unwrap_or_default().decay.get();
        let read = upstream.settings().balance == Balance::PeakEwma;
        backend_state.load().set_decay(if read { decay } else { Duration::ZERO });
        let queue = Arc::clone(upstream.queue());
        backend_state.set_limit(upstream.settings().max_in_flight, Some(OnFree::new(move || queue.notify_first())));
        admin_override::warn_of_waiting(backend, upstream.settings().balance);
        let (probing, resolving) = before.map_or((None, None), |before| (before.probing, before.resolving));
        let resolving = resolving.or_else(|| self.resolve(backend, &context.changed));
        Active { states: backend_state, probing: self.probe(context, backend, probing), resolving }
    }

    /// Starts, continues and stops the slow-start tasks.
    fn grow(&self, upstreams: &Upstreams) {
        let mut growing = self.growing.lock();
        let mut before = std::mem::take(&mut *growing);
        for upstream in upstreams.values() {
            let period = upstream.settings().slow_start;
            let Some(whole) = period.limit() else { continue };
            let running = before.remove(upstream.name()).filter(|(was, _)| *was == period);
            let (live, name) = (Arc::clone(&self.live), Arc::clone(upstream.name()));
            let start =
                || (period, AbortOnDropHandle::new(self.handle.spawn(live.grow(name, whole / slow_start::STEP_COUNT))));
            growing.insert(Arc::clone(upstream.name()), running.unwrap_or_else(start));
        }
    }

    fn activate_detector(&self, upstream: &Upstream) {
        let now = clock::now_ms();
        if let Some(before) = &upstream.superseded {
            before.retire(now);
        }
        match &*upstream.detector.load() {
            Some(detector) => {
                let (live, name) = (Arc::clone(&self.live), Arc::clone(upstream.name()));
                let changed = debounce::paced_elsewhere(self.handle.clone(), move || live.rebuild(&name));
                detector.activate(&changed, now);
            }
            None => {
                // The backend may have been ejected when it was removed, and now be configured again. Without a
                // detector, nothing else ends its ejection.
                let backends = upstream.backends();
                let ejected = backends.iter().filter(|backend| backend.state.is_ejected());
                ejected.for_each(|backend| backend.state.set_ejected(None, now));
            }
        }
    }

    /// The callback after a change that members of this upstream depend on.
    fn changed(&self, upstream: &Arc<str>) -> Changed {
        let (live, name) = (Arc::clone(&self.live), Arc::clone(upstream));
        Arc::new(move || live.rebuild(&name))
    }

    fn resolve(&self, backend: &Backend, changed: &Changed) -> Option<OwnedTask> {
        let BackendAddress::Dns(name, port) = &backend.address else { return None };
        let labels = backend.state.labels();
        let of = (Arc::clone(&labels.upstream), Arc::clone(&backend.name));
        let resolver = Resolver::new(of, (name, *port), Arc::clone(&backend.addr), Arc::clone(changed));
        Some(AbortOnDropHandle::new(self.handle.spawn(resolver.run())))
    }

    fn probe(
        &self,
        context: &BuildContext<'_>,
        backend: &Backend,
        running: Option<(CheckSettings, OwnedTask)>,
    ) -> Option<(CheckSettings, OwnedTask)> {
        backend.state.set_checked(context.spec.is_some(), clock::now_ms());
        let Some(spec) = context.spec.clone() else {
            if backend.state.health() != Health::Up {
                backend.state.set_health(Health::Up, "", clock::now_ms());
            }
            return None;
        };
        let verdict_holds = match running {
            Some((was, task)) if was == spec => return Some((was, task)),
            // The old task is aborted here, before the new one starts.
            Some((was, _task)) => was.check == spec.check,
            None => false,
        };
        if !verdict_holds && backend.state.health() != Health::Unknown {
            backend.state.set_health(Health::Unknown, "", clock::now_ms());
        }
        let connector = self.connector.get_or_init(|| Arc::new(Connector::new(None)));
        let host = backend.address.to_string();
        let probe = Probe::new(Arc::clone(&spec.check), Arc::clone(&spec.transport), &host, Arc::clone(connector));
        let checker = HealthChecker::new(&spec, backend, probe, context.at_ms, Arc::clone(&context.judged));
        let task = AbortOnDropHandle::new(self.handle.spawn(checker.run()));
        Some((spec, task))
    }
}

impl Active {
    /// The backend is no longer configured: its tasks are aborted, and it drains.
    fn leave(self) {
        self.states.set_member(false, clock::now_ms());
        self.states.load().set_serving(false, 0);
    }
}

impl Generations {
    fn all(&self) -> impl Iterator<Item = Arc<Upstream>> {
        self.older.iter().chain([&self.current]).filter_map(Weak::upgrade)
    }

    /// Makes this generation the current one.
    fn add(&mut self, upstream: &Arc<Upstream>) {
        if std::ptr::eq(self.current.as_ptr(), Arc::as_ptr(upstream)) {
            return;
        }
        let before = std::mem::replace(&mut self.current, Arc::downgrade(upstream));
        if let Some(superseded) = before.upgrade() {
            superseded.supersede(upstream);
            self.older.push(before);
        }
    }

    /// Removes dropped generations. Returns whether one of them is still in use.
    fn reap(&mut self) -> bool {
        self.older.retain(|upstream| upstream.strong_count() > 0);
        self.current.strong_count() > 0 || !self.older.is_empty()
    }
}

impl Live {
    fn lock(&self) -> MutexGuard<'_, HashMap<Arc<str>, Generations>> {
        self.0.lock()
    }

    fn add(&self, upstream: &Arc<Upstream>) {
        self.lock().entry(Arc::clone(upstream.name())).or_default().add(upstream);
    }

    fn sweep(&self) {
        self.lock().retain(|_, generations| generations.reap());
    }

    /// Retires the detectors of removed upstreams, so that late attempts cannot eject backends. The same backends may
    /// be configured again before those attempts end.
    fn retire_without(&self, upstreams: &Upstreams) {
        let live = self.lock();
        let stays: HashSet<_> = upstreams.values().map(|upstream| upstream.name()).collect();
        let gone = live.iter().filter(|(name, _)| !stays.contains(name));
        let detectors = gone.flat_map(|(_, all)| all.all()).filter_map(|one| one.detector.load_full());
        detectors.for_each(|detector| detector.retire(clock::now_ms()));
    }

    /// Rebuilds the current generation. Older ones rebuild when a request picks from them.
    fn rebuild(&self, name: &str) {
        if let Some(upstream) = self.current(name) {
            upstream.rebuild();
        }
    }

    fn current(&self, name: &str) -> Option<Arc<Upstream>> {
        self.lock().get(name)?.current.upgrade()
    }

    fn generations(&self, name: &str) -> Vec<Arc<Upstream>> {
        self.lock().get(name).into_iter().flat_map(Generations::all).collect()
    }

    /// Rebuilds an upstream at each step while one of its weights grows.
    async fn grow(self: Arc<Self>, name: Arc<str>, step: Duration) {
        loop {
            // A step of zero would spin.
            tokio::time::sleep(step.max(Duration::from_millis(10))).await;
            if let Some(upstream) = self.current(&name).filter(|upstream| upstream.members().is_ramping()) {
                upstream.rebuild();
            }
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
#[path = "manager_tests.rs"]
mod tests;
