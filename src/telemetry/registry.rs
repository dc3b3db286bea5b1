//! The registry, one a process: hands out meters by name and shows all of them at a scrape.
//!
//! A request never asks it for anything by name: that happens when a configuration is compiled. Meters that nobody
//! holds any more are not shown but kept, so that counters go on when a name comes back.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use crossbeam_utils::CachePadded;

use super::instrument_set::InstrumentSet;
use super::meters::{CertificateMeters, ListenerMeters, RouteMeters, UpstreamMeters};
use super::process::Process;
use super::scrape::Scrape;
use crate::backend::{BackendState, Labels};
use crate::instruments::Counter;
use crate::instruments::keyed::KeyedRegistry;

/// The name that requests without a route are counted under.
pub const NO_ROUTE: &str = "-";

/// The registry.
#[derive(Debug)]
pub struct Metrics {
    instruments: Arc<InstrumentSet>,
    no_route: Arc<RouteMeters>,
    process: Process,
}

impl Metrics {
    /// An empty registry of this version and commit.
    pub fn new(version: &str, commit: &str) -> Arc<Self> {
        let cells = Arc::new(InstrumentSet {
            version: version.to_owned(),
            commit: commit.to_owned(),
            routes: KeyedRegistry::new(),
            listeners: KeyedRegistry::new(),
            certificates: KeyedRegistry::new(),
            upstreams: KeyedRegistry::new(),
            backends: KeyedRegistry::new(),
            in_flight: CachePadded::default(),
            reloads_applied: Counter::new(),
            reloads_rejected: Counter::new(),
            last_reload_failed: AtomicBool::new(false),
            last_reload_secs: AtomicU64::new(0),
            generation: AtomicU64::new(0),
            log_dropped: Arc::default(),
        });
        let no_route = cells.routes.get(NO_ROUTE.into(), |name| RouteMeters::new(name));
        Arc::new(Self { instruments: cells, no_route, process: Process::new() })
    }

    /// The meters of a route; shown for as long as somebody holds them.
    pub fn route(&self, name: &str) -> Arc<RouteMeters> {
        self.instruments.routes.get(name.into(), |name| RouteMeters::new(name))
    }

    /// The meters of requests that no route matched.
    pub fn no_route(&self) -> &Arc<RouteMeters> {
        &self.no_route
    }

    /// The meters of a listener; shown for as long as somebody holds them.
    pub fn listener(&self, name: &str) -> Arc<ListenerMeters> {
        self.instruments.listeners.get(name.into(), |name| ListenerMeters::new(name))
    }

    /// The meters of a certificate, by the path of its file; shown for as long as somebody holds them.
    pub fn certificate(&self, name: &str) -> Arc<CertificateMeters> {
        self.instruments.certificates.get(name.into(), |name| CertificateMeters::new(name))
    }

    /// The meters of an upstream; shown for as long as somebody holds them.
    pub fn upstream(&self, name: &str) -> Arc<UpstreamMeters> {
        self.instruments.upstreams.get(name.into(), |name| UpstreamMeters::new(name))
    }

    /// The live cells of the backend at (upstream, address), by its name of now. Shown while it is a member that
    /// somebody holds, or has attempts under way.
    pub fn backend_state(&self, labels: Labels) -> Arc<BackendState> {
        let key = (Arc::clone(&labels.upstream), Arc::clone(&labels.address));
        let backend_state = self.instruments.backends.get(key, |_| BackendState::new(labels.clone()));
        backend_state.rename(labels);
        backend_state
    }

    /// Counts a request as in flight until the guard is dropped.
    pub fn request_started(&self) -> RequestInFlight {
        self.instruments.in_flight.fetch_add(1, Ordering::Relaxed);
        RequestInFlight(Arc::clone(&self.instruments))
    }

    /// Requests in flight.
    pub fn requests_in_flight(&self) -> u64 {
        self.instruments.in_flight()
    }

    /// The configuration that the process starts with is in force.
    pub fn started(&self, generation: u64, at: SystemTime) {
        self.loaded(true, at);
        self.instruments.generation.store(generation, Ordering::Relaxed);
    }

    /// A reload was applied.
    pub fn reload_applied(&self, generation: u64, at: SystemTime) {
        self.started(generation, at);
        self.instruments.reloads_applied.bump();
    }

    /// A reload was rejected; the generation stays.
    pub fn reload_rejected(&self, at: SystemTime) {
        self.loaded(false, at);
        self.instruments.reloads_rejected.bump();
    }

    /// Where lines that the access log could not take are counted.
    pub fn log_dropped(&self) -> Arc<Counter> {
        Arc::clone(&self.instruments.log_dropped)
    }

    /// Everything, piece by piece. To be called and gone on with where a millisecond of work holds nobody up.
    pub fn scrape(&self) -> Scrape {
        Scrape::new(&self.instruments, &self.process)
    }

    /// Everything at once.
    pub fn render(&self) -> String {
        self.scrape().collect()
    }

    fn loaded(&self, success: bool, at: SystemTime) {
        let secs = at.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        self.instruments.last_reload_failed.store(!success, Ordering::Relaxed);
        self.instruments.last_reload_secs.store(secs, Ordering::Relaxed);
    }
}

/// A request in flight; dropping it lowers the count.
#[derive(Debug)]
pub struct RequestInFlight(Arc<InstrumentSet>);

impl Drop for RequestInFlight {
    fn drop(&mut self) {
        self.0.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
#[path = "registry_tests.rs"]
mod tests;
