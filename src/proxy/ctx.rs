//! The context of a request: what each phase has learned, and the guards that its end must drop.
//!
//! Pingora drops it on every way out (answered, aborted, panicked, cancelled), so its `Drop` is where a request that no
//! other end has recorded is recorded.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use http::{HeaderValue, Method, Version};

use super::attempt::{Attempt, Moment};
use super::sticky::Stay;
use super::{millis, record};
use crate::fault::Fault;
use crate::listener::Exchange;
use crate::path::Rules;
use crate::policy::request_id::RequestId;
use crate::snapshot::{Route, Snapshot, Target};
use crate::telemetry::metrics::RequestInFlight;
use crate::telemetry::record::{AttemptRecord, Recorder};
use crate::telemetry::vitals::InFlight;
use crate::upstream::backend::Backend;
use crate::upstream::balance::Tried;

/// The context of a request.
pub struct RequestCtx {
    pub(super) recorder: Arc<Recorder>,
    pub(super) snapshot: Arc<Snapshot>,
    pub(super) exchange: Option<Arc<Exchange>>,
    pub(super) started: Instant,
    pub(super) started_at: SystemTime,
    /// The request is counted from the moment it is one.
    pub(super) in_flight: Option<RequestInFlight>,
    pub(super) method: Method,
    pub(super) version: Version,
    pub(super) line: Option<Box<Line>>,
    pub(super) client: Option<IpAddr>,
    pub(super) request_id: Option<RequestId>,
    pub(super) route: Option<Arc<Route>>,
    pub(super) target: Option<Arc<Target>>,
    /// What an ACME server is answered that looks for it.
    pub(super) challenge: Option<Box<str>>,
    pub(super) tried: Tried,
    pub(super) tries: u8,
    /// How long it has waited for a free place, over all tries.
    pub(super) queued: Duration,
    /// Pingora looks for a backend: should it find none that answers, it gives up the client's connection too.
    pub(super) handed_over: bool,
    pub(super) stay: Stay,
    pub(super) attempt: Option<Attempt>,
    pub(super) attempts: Vec<AttemptRecord>,
    /// The backend whose kept connection turned out to be stale, still counted: to be tried again on a fresh one.
    pub(super) fresh: Option<(Arc<Backend>, InFlight)>,
    pub(super) fresh_used: bool,
    pub(super) deadline: Option<Instant>,
    pub(super) fault: Option<Fault>,
    /// The status where the fault's own is not the one.
    pub(super) status: Option<u16>,
    /// The request's body was handed on to its end.
    pub(super) sent_whole: bool,
    /// The status of the response that the client has begun to see.
    pub(super) begun: Option<u16>,
    pub(super) bytes_in: u64,
    pub(super) bytes_out: u64,
    pub(super) recorded: bool,
}

/// What only the access log wants; absent when it is off.
#[derive(Debug, Default)]
pub(super) struct Line {
    pub(super) host: Option<Vec<u8>>,
    pub(super) path: Vec<u8>,
    pub(super) user_agent: Option<HeaderValue>,
    pub(super) referer: Option<HeaderValue>,
    pub(super) trace_id: Option<String>,
}

impl RequestCtx {
    pub(super) fn new(recorder: Arc<Recorder>, snapshot: Arc<Snapshot>) -> Self {
        Self {
            recorder,
            snapshot,
            exchange: Exchange::current(),
            started: Instant::now(),
            started_at: SystemTime::now(),
            in_flight: None,
            method: Method::GET,
            version: Version::HTTP_11,
            line: None,
            client: None,
            request_id: None,
            route: None,
            target: None,
            challenge: None,
            tried: Tried::default(),
            tries: 0,
            queued: Duration::ZERO,
            handed_over: false,
            stay: Stay::default(),
            attempt: None,
            attempts: Vec::new(),
            fresh: None,
            fresh_used: false,
            deadline: None,
            fault: None,
            status: None,
            sent_whole: false,
            begun: None,
            bytes_in: 0,
            bytes_out: 0,
            recorded: false,
        }
    }

    /// When the request arrived.
    pub(super) fn arrived(&self) -> Moment {
        Moment { instant: self.started, unix_ms: millis(self.started_at) }
    }

    /// How the listener reads paths.
    pub(super) fn path_rules(&self) -> Rules {
        self.exchange.as_ref().map_or_else(Rules::default, |exchange| exchange.conn.settings.paths.rules())
    }

    /// What is left until the deadline; zero when it has passed.
    pub(super) fn time_left(&self) -> Option<Duration> {
        self.deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()))
    }

    pub(super) fn is_too_late(&self) -> bool {
        self.time_left().is_some_and(|left| left.is_zero())
    }
}

impl Drop for RequestCtx {
    fn drop(&mut self) {
        record::cut_short(self);
    }
}
