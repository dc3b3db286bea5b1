//! The counters of the running process, as the status page reads them. They only increase; `history` makes rates of them.

use crate::instruments::LatencyCounts;

/// The counters of all routes and backends at one time.
#[derive(Debug, Clone, Default)]
pub struct Activity {
    /// In the order of the configuration.
    pub routes: Vec<RouteActivity>,
    /// The upstreams, in the order of `StatusReply::upstreams`.
    pub upstreams: Vec<UpstreamActivity>,
    /// The latest reloads, newest first.
    pub reloads: Vec<super::api::LastReloadReply>,
    /// The latest failed requests, newest first.
    pub failed_requests: Vec<FailedReply>,
}

/// The counters of a route.
#[derive(Debug, Clone, Default)]
pub struct RouteActivity {
    /// Its name.
    pub name: String,
    /// Its counters.
    pub totals: Totals,
    /// Requests that a rate limit refused or `allow` and `deny` refused.
    pub limited: u64,
}

/// The counters and gauges of an upstream.
#[derive(Debug, Clone, Default)]
pub struct UpstreamActivity {
    /// Its name.
    pub name: String,
    /// Requests that wait in its queue.
    pub queued: usize,
    /// The most requests that may wait. `None`: it has no queue.
    pub queue_size: Option<usize>,
    /// Retries that the budget still allows in the present window. `None`: no route retries here.
    pub retries_left: Option<u64>,
    /// The backends, in the order of `UpstreamReply::backends`.
    pub backends: Vec<BackendActivity>,
}

/// The counters and gauges of a backend.
#[derive(Debug, Clone, Default)]
pub struct BackendActivity {
    /// Its address as configured.
    pub address: String,
    /// Whether its state needs attention.
    pub troubled: bool,
    /// Requests in flight.
    pub in_flight: u32,
    /// Attempts that were followed by a retry.
    pub retries: u64,
    /// Its counters.
    pub totals: Totals,
    /// Details of its state: the last check, the end of an ejection, slow start, and the mark of an operator.
    pub notes: Vec<StateNote>,
}

/// A detail of a state.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StateNote {
    /// The text.
    pub text: String,
    /// The time that it refers to, RFC 3339. It may be in the future.
    pub time: Option<String>,
}

/// Counters since the start of the process.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Totals {
    /// Requests or attempts that ended.
    pub requests: u64,
    /// Those of them that failed.
    pub errors: u64,
    /// Their times to the response header, by bucket.
    pub latency: LatencyCounts,
}

/// A failed request.
#[derive(Debug, Clone, Default)]
pub struct FailedReply {
    /// When it arrived, RFC 3339.
    pub time: String,
    /// Its id.
    pub request_id: String,
    /// Method and path, without the query.
    pub request: String,
    /// The route and the upstream.
    pub target: String,
    /// Status and fault.
    pub fault: String,
    /// How long it took, in milliseconds.
    pub took_ms: u64,
    /// Each attempt in words.
    pub attempts: Vec<String>,
}
