//! The metrics registry of the process: returns instruments by name and renders all of them at a scrape.
//!
//! A request never looks up an instrument by name. That happens when a configuration is compiled. Instruments without a
//! user are not rendered. They are not deleted either, so that counters continue when a name comes back.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use crossbeam_utils::CachePadded;

use super::access_meters::AccessMeters;
use super::failed_requests::FailedRequests;
use super::instrument_set::InstrumentSet;
use super::limit_meters::{LimitMeters, StoreMeters};
use super::meters::{CertificateMeters, ListenerMeters, RouteMeters, UpstreamMeters};
use super::process::Process;
use super::scrape::Scrape;
use crate::backend::{BackendState, Labels};
use crate::instruments::Counter;
use crate::instruments::keyed::KeyedRegistry;

/// The route name of requests that matched no route.
pub const NO_ROUTE: &str = "-";

/// The metrics registry.
#[derive(Debug)]
pub struct Metrics {
    instruments: Arc<InstrumentSet>,
    no_route: Arc<RouteMeters>,
    failed_requests: FailedRequests,
    process: Process,
}

impl Metrics {
    /// An empty registry. `version` and `commit` are the labels of `weir_build_info`.
    pub fn new(version: &str, commit: &str) -> Arc<Self> {
        let instruments = Arc::new(InstrumentSet {
            version: version.to_owned(),
            commit: commit.to_owned(),
            routes: KeyedRegistry::new(),
            listeners: KeyedRegistry::new(),
            certificates: KeyedRegistry::new(),
            upstreams: KeyedRegistry::new(),
            limits: KeyedRegistry::new(),
            access_policies: KeyedRegistry::new(),
            stores: KeyedRegistry::new(),
            backends: KeyedRegistry::new(),
            in_flight: CachePadded::default(),
            reloads_applied: Counter::new(),
            body_files_applied: Counter::new(),
            body_files_rejected: Counter::new(),
            list_files_applied: Counter::new(),
            list_files_rejected: Counter::new(),
            reloads_rejected: Counter::new(),
            auth_files_rejected: Counter::new(),
            network_files_rejected: Counter::new(),
            last_reload_failed: AtomicBool::new(false),
            last_reload_secs: AtomicU64::new(0),
            generation: AtomicU64::new(0),
            starting_processes: AtomicU64::new(0),
            old_processes: AtomicU64::new(0),
            draining: AtomicBool::new(false),
            log_dropped: Arc::default(),
        });
        let no_route = instruments.routes.get(NO_ROUTE.into(), |name| RouteMeters::new(name));
        Arc::new(Self { instruments, no_route, failed_requests: FailedRequests::default(), process: Process::new() })
    }

    /// The instruments of a route. They are rendered while a caller holds them.
    pub fn route(&self, name: &str) -> Arc<RouteMeters> {
        self.instruments.routes.get(name.into(), |name| RouteMeters::new(name))
    }

    /// The instruments of requests that matched no route.
    pub fn no_route(&self) -> &Arc<RouteMeters> {
        &self.no_route
    }

    /// The latest failed requests.
    pub fn failed_requests(&self) -> &FailedRequests {
        &self.failed_requests
    }

    /// The instruments of a listener. They are rendered while a caller holds them.
    pub fn listener(&self, name: &str) -> Arc<ListenerMeters> {
        self.instruments.listeners.get(name.into(), |name| ListenerMeters::new(name))
    }

    /// The instruments of a certificate, by its label. They are rendered while a caller holds them.
    pub fn certificate(&self, name: &str) -> Arc<CertificateMeters> {
        self.instruments.certificates.get(name.into(), |name| CertificateMeters::new(name))
    }

    /// The instruments of an upstream. They are rendered while a caller holds them.
    pub fn upstream(&self, name: &str) -> Arc<UpstreamMeters> {
        self.instruments.upstreams.get(name.into(), |name| UpstreamMeters::new(name))
    }

    /// The instruments of an access policy. They are rendered while a caller holds them.
    pub fn access_policy(&self, name: &str) -> Arc<AccessMeters> {
        self.instruments.access_policies.get(name.into(), |name| AccessMeters::new(name))
    }

    /// The instruments of a rate limit. They are rendered while a caller holds them.
    pub fn limit(&self, name: &str) -> Arc<LimitMeters> {
        self.instruments.limits.get(name.into(), |name| LimitMeters::new(name))
    }

    /// The instruments of a store. They are rendered while a caller holds them.
    pub fn store(&self, name: &str) -> Arc<StoreMeters> {
        self.instruments.stores.get(name.into(), |name| StoreMeters::new(name))
    }

    /// The live state of the backend at (upstream, address), with its present name. It is rendered while a caller holds
    /// it, if the backend is a member of the upstream or has attempts in flight.
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

    /// Number of requests in flight.
    pub fn requests_in_flight(&self) -> u64 {
        self.instruments.in_flight()
    }

    /// Records that the initial configuration is active.
    pub fn started(&self, generation: u64, at: SystemTime) {
        self.loaded(true, at);
        self.instruments.generation.store(generation, Ordering::Relaxed);
    }

    /// Records that a reload was applied.
    pub fn reload_applied(&self, generation: u64, at: SystemTime) {
        self.started(generation, at);
        self.instruments.reloads_applied.bump();
    }

    /// Records that a reload was rejected. The generation stays.
    pub fn reload_rejected(&self, at: SystemTime) {
        self.loaded(false, at);
        self.instruments.reloads_rejected.bump();
    }

    /// Sets the number of new processes that do not serve yet.
    pub fn set_starting_processes(&self, count: u64) {
        self.instruments.starting_processes.store(count, Ordering::Relaxed);
    }

    /// Sets the number of old processes that still drain.
    pub fn set_old_processes(&self, count: u64) {
        self.instruments.old_processes.store(count, Ordering::Relaxed);
    }

    /// Records that this process drains.
    pub fn set_draining(&self) {
        self.instruments.draining.store(true, Ordering::Relaxed);
    }

    /// Counts a changed file of a response body whose new content is served.
    pub fn body_file_applied(&self) {
        self.instruments.body_files_applied.bump();
    }

    /// Counts a changed file of a response body that cannot be used.
    pub fn body_file_rejected(&self) {
        self.instruments.body_files_rejected.bump();
    }

    /// Records that a changed file of an access policy cannot be used. Its old content stays.
    pub fn auth_file_rejected(&self) {
        self.instruments.auth_files_rejected.bump();
    }

    /// Counts a changed file of redirects or texts whose new content is in force.
    pub fn list_file_applied(&self) {
        self.instruments.list_files_applied.bump();
    }

    /// Counts a changed file of redirects or texts that cannot be used.
    pub fn list_file_rejected(&self) {
        self.instruments.list_files_rejected.bump();
    }

    /// Records that a changed file of networks cannot be used. Its old content stays.
    pub fn network_file_rejected(&self) {
        self.instruments.network_files_rejected.bump();
    }

    /// The counter of lines that the access log lost.
    pub fn log_dropped(&self) -> Arc<Counter> {
        Arc::clone(&self.instruments.log_dropped)
    }

    /// Renders everything in pieces. Run it on a thread where one millisecond of work delays no request.
    pub fn scrape(&self) -> Scrape {
        Scrape::new(&self.instruments, &self.process)
    }

    /// Renders everything at once.
    pub fn render(&self) -> String {
        self.scrape().collect()
    }

    fn loaded(&self, success: bool, at: SystemTime) {
        let secs = at.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        self.instruments.last_reload_failed.store(!success, Ordering::Relaxed);
        self.instruments.last_reload_secs.store(secs, Ordering::Relaxed);
    }
}

/// Guard of a request in flight. Dropping it lowers the gauge.
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
