//! The instruments of a route, a listener, a certificate and an upstream.
//!
//! They are looked up once, when a configuration is compiled, and never by label at request time. This module formats
//! nothing: `families` reads the values at a scrape.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use crossbeam_utils::CachePadded;

use crate::fault::Fault;

use super::acme::AcmeOrders;
use super::coding_meters::{CodingCounters, CodingMeters};
use super::grpc_status::GrpcStatus;
use super::maintenance_state::MaintenanceState;
use super::mirror_meters::MirrorMeters;
use crate::backend::recent_errors::RecentErrors;
use crate::instruments::throttle::Throttle;
use crate::instruments::{Counter, Histogram, LATENCY, LatencyCounts, STREAM, StatusCounters};

/// The methods that have their own label value. The last entry counts all other methods.
pub const METHODS: [&str; 10] =
    ["GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH", "other"];

/// The instruments of a route.
#[derive(Debug)]
pub struct RouteMeters {
    name: Arc<str>,
    maintenance: MaintenanceState,
    requests: [OnceLock<Box<StatusCounters>>; METHODS.len()],
    duration: CachePadded<Histogram>,
    /// Most routes have none.
    streams: OnceLock<Box<Histogram>>,
    grpc: OnceLock<Box<[Counter; GrpcStatus::COUNT]>>,
    codings: OnceLock<Box<CodingMeters>>,
    mirror: OnceLock<Arc<MirrorMeters>>,
    bad_grpc_timeouts: Counter,
    faults: [Counter; Fault::ALL.len()],
}

impl RouteMeters {
    /// All counters are zero. Use `Metrics::route` instead, which returns the same instruments for the same name.
    pub fn new(name: &str) -> Self {
        Self {
            name: name.into(),
            maintenance: MaintenanceState::default(),
            requests: Default::default(),
            duration: CachePadded::new(Histogram::new(LATENCY)),
            streams: OnceLock::new(),
            grpc: OnceLock::new(),
            codings: OnceLock::new(),
            mirror: OnceLock::new(),
            bad_grpc_timeouts: Counter::default(),
            faults: Default::default(),
        }
    }

    /// The route's name. `-` for requests that matched no route.
    pub fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// Whether the route is in maintenance.
    pub fn maintenance(&self) -> &MaintenanceState {
        &self.maintenance
    }

    /// Counts a request that has ended.
    pub fn record(&self, method: &http::Method, status: u16, took: Duration, fault: Option<Fault>) {
        let at = METHODS.iter().position(|m| *m == method.as_str()).unwrap_or(METHODS.len() - 1);
        self.requests[at].get_or_init(Box::default).bump(status);
        self.duration.observe(took);
        if let Some(fault) = fault {
            self.faults[fault as usize].bump();
        }
    }

    /// Observes how long a stream lasted.
    pub fn record_stream(&self, took: Duration) {
        self.streams.get_or_init(|| Box::new(Histogram::new(STREAM))).observe(took);
    }

    /// Counts a call of gRPC that ended.
    pub fn record_grpc(&self, status: GrpcStatus) {
        self.grpc.get_or_init(Box::default)[status.index()].bump();
    }

    /// Counts a call of gRPC with a malformed `grpc-timeout`.
    pub fn count_bad_grpc_timeout(&self) {
        self.bad_grpc_timeouts.bump();
    }

    /// How many calls of gRPC had a malformed `grpc-timeout`.
    pub(super) fn bad_grpc_timeouts(&self) -> u64 {
        self.bad_grpc_timeouts.get()
    }

    /// (status, count) of all that were seen.
    pub fn grpc(&self) -> impl Iterator<Item = (GrpcStatus, u64)> + '_ {
        let counts = self.grpc.get().into_iter().flat_map(|counts| GrpcStatus::all().zip(counts.iter()));
        counts.map(|(status, n)| (status, n.get())).filter(|(_, n)| *n > 0)
    }

    /// The instruments of compression and decompression.
    pub fn codings(&self) -> &CodingMeters {
        self.codings.get_or_init(Box::default)
    }

    /// The instruments of the mirror. The first call makes them visible in the metrics.
    pub fn mirror(&self) -> &Arc<MirrorMeters> {
        self.mirror.get_or_init(Arc::default)
    }

    /// The instruments of the mirror. `None` for a route that has none.
    pub(super) fn used_mirror(&self) -> Option<&MirrorMeters> {
        self.mirror.get().map(|mirror| &**mirror)
    }

    /// The labels and counters of each action and coding that was used.
    pub(super) fn used_codings(&self) -> impl Iterator<Item = ([&'static str; 2], &CodingCounters)> {
        self.codings.get().into_iter().flat_map(|codings| codings.used())
    }

    /// How long streams lasted, if there was one.
    pub(super) fn streams(&self) -> Option<&Histogram> {
        self.streams.get().map(|streams| &**streams)
    }

    /// Method, status and count, without zeros.
    pub fn requests(&self) -> impl Iterator<Item = (&'static str, u16, u64)> + '_ {
        let methods = METHODS.iter().zip(&self.requests).filter_map(|(name, cell)| Some((*name, cell.get()?)));
        methods.flat_map(|(name, cell)| cell.seen().map(move |(status, n)| (name, status, n)))
    }

    /// Fault and count, without zeros.
    pub fn faults(&self) -> impl Iterator<Item = (Fault, u64)> + '_ {
        Fault::ALL.into_iter().zip(&self.faults).map(|(fault, n)| (fault, n.get())).filter(|(_, n)| *n > 0)
    }

    /// Number of requests that ended, and of those with a status of 500 or more.
    pub fn totals(&self) -> (u64, u64) {
        self.requests()
            .fold((0, 0), |(all, errors), (_, status, n)| (all + n, errors + if status >= 500 { n } else { 0 }))
    }

    /// The number of requests in each bucket of the duration histogram.
    pub fn durations(&self) -> LatencyCounts {
        self.duration.counts()
    }

    /// Histogram of request durations.
    pub(super) fn duration(&self) -> &Histogram {
        &self.duration
    }
}

/// The result of an accepted connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConnectionResult {
    /// It is served.
    Accepted,
    /// A connection limit refused it.
    RefusedLimit,
    /// `allow` or `deny` of the listener refused it.
    RefusedPolicy,
    /// The TLS handshake failed.
    TlsError,
    /// The PROXY header was missing or invalid, or its sender is not trusted.
    ProxyError,
    /// No data arrived before the timeout.
    Timeout,
}

impl ConnectionResult {
    /// In the order of the metrics output.
    pub const ALL: [Self; 6] =
        [Self::Accepted, Self::RefusedLimit, Self::RefusedPolicy, Self::TlsError, Self::ProxyError, Self::Timeout];

    /// The value of the `result` label.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Accepted => "accepted",
            Self::RefusedLimit => "refused_limit",
            Self::RefusedPolicy => "refused_policy",
            Self::TlsError => "tls_error",
            Self::ProxyError => "proxy_error",
            Self::Timeout => "timeout",
        }
    }
}

/// The instruments of a listener.
#[derive(Debug)]
pub struct ListenerMeters {
    name: Arc<str>,
    open: CachePadded<AtomicI64>,
    results: [Counter; ConnectionResult::ALL.len()],
}

impl ListenerMeters {
    /// All counters are zero. Use `Metrics::listener` instead, which returns the same instruments for the same name.
    pub fn new(name: &str) -> Self {
        Self { name: name.into(), open: CachePadded::default(), results: Default::default() }
    }

    /// The listener's name.
    pub fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// Counts a connection as open until the guard is dropped. `count` maintains the totals.
    pub fn opened(self: &Arc<Self>) -> OpenConnection {
        self.open.fetch_add(1, Ordering::Relaxed);
        OpenConnection(Arc::clone(self))
    }

    /// Number of open connections.
    pub fn open(&self) -> u64 {
        u64::try_from(self.open.load(Ordering::Relaxed)).unwrap_or(0)
    }

    /// Counts the result of a connection.
    pub fn count(&self, result: ConnectionResult) {
        self.results[result as usize].bump();
    }

    /// Number of connections with this result.
    pub fn total(&self, result: ConnectionResult) -> u64 {
        self.results[result as usize].get()
    }
}

/// Guard of an open connection. Dropping it lowers the gauge.
#[derive(Debug)]
pub struct OpenConnection(Arc<ListenerMeters>);

impl Drop for OpenConnection {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The instruments of a certificate.
#[derive(Debug)]
pub struct CertificateMeters {
    name: Arc<str>,
    /// Unix seconds. 0: no expiry, for example for a CA file.
    expiry: AtomicI64,
    applied: Counter,
    rejected: Counter,
    /// Set for a certificate that an ACME server issues.
    orders: OnceLock<AcmeOrders>,
}

impl CertificateMeters {
    /// All values are zero. Use `Metrics::certificate` instead, which returns the same instruments for the same name.
    pub fn new(name: &str) -> Self {
        let (applied, rejected, orders) = Default::default();
        Self { name: name.into(), expiry: AtomicI64::new(0), applied, rejected, orders }
    }

    /// The path of its file as configured, or `acme:NAME` for an ACME certificate.
    pub fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// Sets the expiry of the served certificate, in Unix seconds.
    pub fn set_expiry(&self, seconds: i64) {
        self.expiry.store(seconds, Ordering::Relaxed);
    }

    /// Expiry of the served certificate, in Unix seconds.
    pub fn expiry(&self) -> Option<i64> {
        Some(self.expiry.load(Ordering::Relaxed)).filter(|seconds| *seconds != 0)
    }

    /// Counts the reload of changed files, applied or rejected.
    pub fn count_reload(&self, applied: bool) {
        if applied { self.applied.bump() } else { self.rejected.bump() }
    }

    /// The order counters. The first call makes them visible in the metrics.
    pub fn orders(&self) -> &AcmeOrders {
        self.orders.get_or_init(AcmeOrders::default)
    }

    /// The order counters. `None` for a certificate that is not ordered.
    pub fn ordered(&self) -> Option<&AcmeOrders> {
        self.orders.get()
    }

    /// Numbers of applied and of rejected reloads.
    pub fn reloads(&self) -> (u64, u64) {
        (self.applied.get(), self.rejected.get())
    }
}

/// The instruments of an upstream as a whole.
#[derive(Debug)]
pub struct UpstreamMeters {
    name: Arc<str>,
    fail_open: Counter,
    waiting: AtomicI64,
    waited: Histogram,
    looks: [Counter; 2],
    found_ms: AtomicU64,
    not_picked: [Throttle; NOT_PICKED.len()],
    refusals: RecentErrors,
}

/// The faults of requests that get no backend.
const NOT_PICKED: [Fault; 4] = [Fault::NoBackend, Fault::QueueFull, Fault::QueueTimeout, Fault::Loop];

/// Guard of a request in the queue. Dropping it ends the wait and records its duration.
#[derive(Debug)]
pub struct QueueWait(Arc<UpstreamMeters>, Instant);

impl Drop for QueueWait {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Ordering::Relaxed);
        self.0.waited.observe(self.1.elapsed());
    }
}

impl UpstreamMeters {
    /// All counters are zero. Use `Metrics::upstream` instead, which returns the same instruments for the same name.
    pub fn new(name: &str) -> Self {
        let waited = Histogram::new(LATENCY);
        let (waiting, found_ms) = (AtomicI64::new(0), AtomicU64::new(0));
        Self {
            name: name.into(),
            fail_open: Counter::new(),
            waiting,
            waited,
            looks: Default::default(),
            found_ms,
            not_picked: Default::default(),
            refusals: RecentErrors::default(),
        }
    }

    /// The upstream's name.
    pub fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// Counts a fail-open pick: backends that are down are picked too, because none is up, or too few are.
    pub fn count_fail_open(&self) {
        self.fail_open.bump();
    }

    /// Counts a request that got no backend, and keeps the reason as the latest one. If a log line about this fault is
    /// due, returns the number of such requests since the last line. Other faults than those of `NOT_PICKED` are not
    /// counted.
    pub fn count_not_picked(&self, fault: Fault, why: &'static str, now_ms: u64) -> Option<u64> {
        let at = NOT_PICKED.iter().position(|each| *each == fault)?;
        self.refusals.record(why.into(), now_ms);
        self.not_picked[at].count(now_ms)
    }

    /// The requests that got no backend.
    pub fn refusals(&self) -> &RecentErrors {
        &self.refusals
    }

    /// Counts a request as waiting until the guard is dropped.
    pub fn start_waiting(self: &Arc<Self>) -> QueueWait {
        self.waiting.fetch_add(1, Ordering::Relaxed);
        QueueWait(Arc::clone(self), Instant::now())
    }

    /// Number of requests that wait in the queue.
    pub fn waiting(&self) -> u64 {
        u64::try_from(self.waiting.load(Ordering::Relaxed)).unwrap_or(0)
    }

    /// Histogram of waits, including those that ended without a backend.
    pub(super) fn waited(&self) -> &Histogram {
        &self.waited
    }

    /// Counts a discovery run. `now_ms`: Unix time in milliseconds.
    pub fn count_discovery(&self, ok: bool, now_ms: u64) {
        self.looks[usize::from(!ok)].bump();
        if ok {
            self.found_ms.store(now_ms, Ordering::Relaxed);
        }
    }

    /// Discovery runs by result. `None` before the first.
    pub fn discoveries(&self) -> Option<[(&'static str, u64); 2]> {
        let [ok, failed] = [self.looks[0].get(), self.looks[1].get()];
        (ok + failed > 0).then_some([("ok", ok), ("failed", failed)])
    }

    /// Unix time of the last successful discovery, in milliseconds. 0: never.
    pub fn discovered_ms(&self) -> u64 {
        self.found_ms.load(Ordering::Relaxed)
    }

    /// Number of fail-open picks.
    pub fn fail_open(&self) -> u64 {
        self.fail_open.get()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests {
    use super::*;
    use crate::backend::labels::{BackendCondition, Outcome};

    #[test]
    fn enum_values_are_their_indexes_in_the_tables() {
        assert!(Fault::ALL.iter().enumerate().all(|(at, fault)| *fault as usize == at));
        assert!(Outcome::ALL.iter().enumerate().all(|(at, outcome)| *outcome as usize == at));
        assert!(BackendCondition::ALL.iter().enumerate().all(|(at, state)| *state as usize == at));
        assert!(ConnectionResult::ALL.iter().enumerate().all(|(at, result)| *result as usize == at));
    }

    #[test]
    fn an_unknown_method_is_other() {
        let route = RouteMeters::new("r");
        for method in ["GET", "PROPFIND", "PURGE", "get"] {
            route.record(&method.parse().unwrap(), 200, Duration::from_millis(1), None);
        }
        assert_eq!(route.requests().collect::<Vec<_>>(), [("GET", 200, 1), ("other", 200, 3)]);
    }

    #[test]
    fn open_connections_are_guards() {
        let listener = Arc::new(ListenerMeters::new("web"));
        let guards: Vec<_> = (0..3).map(|_| listener.opened()).collect();
        assert_eq!(listener.open(), 3);
        drop(guards);
        assert_eq!(listener.open(), 0);
    }
}
