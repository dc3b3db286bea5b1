//! What is counted of a route, a listener, an upstream and a backend: bundles of cells, found once when a
//! configuration is compiled and then only added to.
//!
//! No label is looked up here, and nothing is shown: `families` reads the cells at a scrape.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use crossbeam_utils::CachePadded;

use crate::fault::Fault;

use super::acme::AcmeOrders;
use crate::instruments::throttle::Throttle;
use crate::instruments::{Counter, Histogram, LATENCY, StatusCounters};

/// The methods that have a label of their own; the last stands for all others.
pub const METHODS: [&str; 10] =
    ["GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH", "other"];

/// What is counted of a route.
#[derive(Debug)]
pub struct RouteMeters {
    name: Arc<str>,
    requests: [OnceLock<Box<StatusCounters>>; METHODS.len()],
    duration: CachePadded<Histogram>,
    faults: [Counter; Fault::ALL.len()],
}

impl RouteMeters {
    /// Nothing counted yet. Use `Metrics::route`, which keeps one a name.
    pub fn new(name: &str) -> Self {
        Self {
            name: name.into(),
            requests: Default::default(),
            duration: CachePadded::new(Histogram::new(LATENCY)),
            faults: Default::default(),
        }
    }

    /// The route's name; `-` for requests that no route matched.
    pub fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// Counts a request that ended.
    pub fn record(&self, method: &http::Method, status: u16, took: Duration, fault: Option<Fault>) {
        let at = METHODS.iter().position(|m| *m == method.as_str()).unwrap_or(METHODS.len() - 1);
        self.requests[at].get_or_init(Box::default).bump(status);
        self.duration.observe(took);
        if let Some(fault) = fault {
            self.faults[fault as usize].bump();
        }
    }

    /// (method, status, count) of all that were seen.
    pub fn requests(&self) -> impl Iterator<Item = (&'static str, u16, u64)> + '_ {
        let methods = METHODS.iter().zip(&self.requests).filter_map(|(name, cell)| Some((*name, cell.get()?)));
        methods.flat_map(|(name, cell)| cell.seen().map(move |(status, n)| (name, status, n)))
    }

    /// (fault, count) of all that were seen.
    pub fn faults(&self) -> impl Iterator<Item = (Fault, u64)> + '_ {
        Fault::ALL.into_iter().zip(&self.faults).map(|(fault, n)| (fault, n.get())).filter(|(_, n)| *n > 0)
    }

    /// How long requests took.
    pub(super) fn duration(&self) -> &Histogram {
        &self.duration
    }
}

/// What became of a connection that was accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConnectionResult {
    /// It was taken on.
    Accepted,
    /// A limit on connections refused it.
    RefusedLimit,
    /// The TLS handshake failed.
    TlsError,
    /// The PROXY header was missing, wrong, or from a stranger.
    ProxyError,
    /// It said nothing in time.
    Timeout,
}

impl ConnectionResult {
    /// In the order of the contract.
    pub const ALL: [Self; 5] = [Self::Accepted, Self::RefusedLimit, Self::TlsError, Self::ProxyError, Self::Timeout];

    /// The value of the `result` label.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Accepted => "accepted",
            Self::RefusedLimit => "refused_limit",
            Self::TlsError => "tls_error",
            Self::ProxyError => "proxy_error",
            Self::Timeout => "timeout",
        }
    }
}

/// What is counted of a listener.
#[derive(Debug)]
pub struct ListenerMeters {
    name: Arc<str>,
    open: CachePadded<AtomicI64>,
    results: [Counter; ConnectionResult::ALL.len()],
}

impl ListenerMeters {
    /// Nothing counted yet. Use `Metrics::listener`, which keeps one a name.
    pub fn new(name: &str) -> Self {
        Self { name: name.into(), open: CachePadded::default(), results: Default::default() }
    }

    /// The listener's name.
    pub fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// Counts a connection as open until the guard is dropped. The total is `count`'s.
    pub fn opened(self: &Arc<Self>) -> OpenConnection {
        self.open.fetch_add(1, Ordering::Relaxed);
        OpenConnection(Arc::clone(self))
    }

    /// Connections open now.
    pub fn open(&self) -> u64 {
        u64::try_from(self.open.load(Ordering::Relaxed)).unwrap_or(0)
    }

    /// Counts what became of a connection.
    pub fn count(&self, result: ConnectionResult) {
        self.results[result as usize].bump();
    }

    /// How often it came to this.
    pub fn total(&self, result: ConnectionResult) -> u64 {
        self.results[result as usize].get()
    }
}

/// A connection that is open; dropping it lowers the count.
#[derive(Debug)]
pub struct OpenConnection(Arc<ListenerMeters>);

impl Drop for OpenConnection {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::Relaxed);
    }
}

/// What is known and counted of a certificate.
#[derive(Debug)]
pub struct CertificateMeters {
    name: Arc<str>,
    /// Seconds since 1970; 0: it has no end of its own, as a list of authorities.
    expiry: AtomicI64,
    applied: Counter,
    rejected: Counter,
    /// Of one that is issued for us.
    orders: OnceLock<AcmeOrders>,
}

impl CertificateMeters {
    /// Nothing known yet. Use `Metrics::certificate`, which keeps one a name.
    pub fn new(name: &str) -> Self {
        let (applied, rejected, orders) = Default::default();
        Self { name: name.into(), expiry: AtomicI64::new(0), applied, rejected, orders }
    }

    /// The path of its file as configured; `acme:NAME` for one that is issued.
    pub fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// Takes note of when the one that is served ends, in seconds since 1970.
    pub fn set_expiry(&self, seconds: i64) {
        self.expiry.store(seconds, Ordering::Relaxed);
    }

    /// When the one that is served ends.
    pub fn expiry(&self) -> Option<i64> {
        Some(self.expiry.load(Ordering::Relaxed)).filter(|seconds| *seconds != 0)
    }

    /// Counts what became of its files when they had changed.
    pub fn count_reload(&self, applied: bool) {
        if applied { self.applied.bump() } else { self.rejected.bump() }
    }

    /// Its orders, shown from here on.
    pub fn orders(&self) -> &AcmeOrders {
        self.orders.get_or_init(AcmeOrders::default)
    }

    /// Its orders, if it is one that is ordered.
    pub fn ordered(&self) -> Option<&AcmeOrders> {
        self.orders.get()
    }

    /// (applied, rejected).
    pub fn reloads(&self) -> (u64, u64) {
        (self.applied.get(), self.rejected.get())
    }
}

/// What is counted of an upstream as a whole.
#[derive(Debug)]
pub struct UpstreamMeters {
    name: Arc<str>,
    fail_open: Counter,
    waiting: AtomicI64,
    waited: Histogram,
    looks: [Counter; 2],
    found_ms: AtomicU64,
    not_picked: [Throttle; NOT_PICKED.len()],
}

/// The faults of requests that get no backend.
const NOT_PICKED: [Fault; 3] = [Fault::NoBackend, Fault::QueueFull, Fault::QueueTimeout];

/// A request that waits in the queue; dropping it ends the wait and observes it.
#[derive(Debug)]
pub struct QueueWait(Arc<UpstreamMeters>, Instant);

impl Drop for QueueWait {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Ordering::Relaxed);
        self.0.waited.observe(self.1.elapsed());
    }
}

impl UpstreamMeters {
    /// Nothing counted yet. Use `Metrics::upstream`, which keeps one a name.
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
        }
    }

    /// The upstream's name.
    pub fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// Counts a pick that was made though no backend is healthy.
    pub fn count_fail_open(&self) {
        self.fail_open.bump();
    }

    /// Counts a request that got no backend. If a log line about this fault is due, returns the number of such requests
    /// since the last line. Other faults than those of `NOT_PICKED` are never due.
    pub fn count_not_picked(&self, fault: Fault, now_ms: u64) -> Option<u64> {
        let at = NOT_PICKED.iter().position(|each| *each == fault)?;
        self.not_picked[at].count(now_ms)
    }

    /// Counts a request as waiting until the guard is dropped.
    pub fn start_waiting(self: &Arc<Self>) -> QueueWait {
        self.waiting.fetch_add(1, Ordering::Relaxed);
        QueueWait(Arc::clone(self), Instant::now())
    }

    /// Requests that wait now.
    pub fn waiting(&self) -> u64 {
        u64::try_from(self.waiting.load(Ordering::Relaxed)).unwrap_or(0)
    }

    /// How long requests waited, however it ended.
    pub(super) fn waited(&self) -> &Histogram {
        &self.waited
    }

    /// Counts a look for backends; `now_ms`: milliseconds since 1970.
    pub fn count_discovery(&self, ok: bool, now_ms: u64) {
        self.looks[usize::from(!ok)].bump();
        if ok {
            self.found_ms.store(now_ms, Ordering::Relaxed);
        }
    }

    /// Looks for backends by result; nothing while there was none.
    pub fn discoveries(&self) -> Option<[(&'static str, u64); 2]> {
        let [ok, failed] = [self.looks[0].get(), self.looks[1].get()];
        (ok + failed > 0).then_some([("ok", ok), ("failed", failed)])
    }

    /// When a look last went well, in milliseconds since 1970; 0: never.
    pub fn discovered_ms(&self) -> u64 {
        self.found_ms.load(Ordering::Relaxed)
    }

    /// Picks that were made though no backend was healthy.
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
    fn cells_are_found_by_the_order_of_the_tables() {
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
