//! The context of a request: what each phase has learned, and the guards that its end must drop.
//!
//! Pingora drops it on every way out (answered, aborted, panicked, cancelled), so its `Drop` is where a request that no
//! other end has recorded is recorded.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use http::{HeaderValue, Method, Version};

use super::attempt::{Attempt, Moment};
use super::attempt_error::AttemptStage;
use crate::backend::InFlight;
use crate::backend::labels::{Outcome, PickReason, RetryReason};
use crate::fault::Fault;
use crate::listener::Exchange;
use crate::message::request_id::RequestId;
use crate::path::Rules;
use crate::snapshot::{Route, RouteTarget, Snapshot};
use crate::telemetry::Recorder;
use crate::telemetry::meters::RouteMeters;
use crate::telemetry::record::AttemptRecord;
use crate::telemetry::registry::RequestInFlight;
use crate::upstream::backend::Backend;
use crate::upstream::balance::Tried;
use crate::upstream::sticky::CookieValue;

/// The context of a request.
pub struct RequestCtx {
    pub(super) recorder: Arc<Recorder>,
    /// None once the request has let go of it.
    pub(super) snapshot: Option<Arc<Snapshot>>,
    pub(super) exchange: Option<Arc<Exchange>>,
    pub(super) started: Instant,
    pub(super) started_at: SystemTime,
    /// The request is counted from the moment it is one.
    pub(super) in_flight: Option<RequestInFlight>,
    pub(super) method: Method,
    pub(super) version: Version,
    pub(super) line: Option<Box<RequestLine>>,
    pub(super) client: Option<IpAddr>,
    pub(super) request_id: Option<RequestId>,
    pub(super) route: Option<Arc<Route>>,
    pub(super) target: Option<Arc<RouteTarget>>,
    /// What a tunnel or a long response keeps of its route.
    pub(super) detached: Option<Box<DetachedRoute>>,
    /// What an ACME server is answered that looks for it.
    pub(super) challenge: Option<Box<str>>,
    pub(super) tried: Tried,
    pub(super) tries: u8,
    /// How long it has waited for a free place, over all tries.
    pub(super) queued: Duration,
    /// Pingora looks for a backend: should it find none that answers, it gives up the client's connection too.
    pub(super) handed_over: bool,
    pub(super) affinity: Affinity,
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
pub(super) struct RequestLine {
    pub(super) host: Option<Vec<u8>>,
    pub(super) path: Vec<u8>,
    pub(super) user_agent: Option<HeaderValue>,
    pub(super) referer: Option<HeaderValue>,
    pub(super) trace_id: Option<String>,
}

/// What a tunnel or a long response keeps of its route: enough for its bounds and its record, and nothing that keeps a
/// configuration in memory.
#[derive(Debug)]
pub(super) struct DetachedRoute {
    pub(super) meters: Arc<RouteMeters>,
    pub(super) upstream: Option<Arc<str>>,
    body_limit: Option<u64>,
    write: Option<Duration>,
}

impl RequestCtx {
    pub(super) fn new(recorder: Arc<Recorder>, snapshot: Arc<Snapshot>) -> Self {
        Self {
            recorder,
            snapshot: Some(snapshot),
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
            detached: None,
            challenge: None,
            tried: Tried::default(),
            tries: 0,
            queued: Duration::ZERO,
            handed_over: false,
            affinity: Affinity::default(),
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

    /// Lets go of the configuration: no other attempt can follow, and the request may last for hours. The snapshot goes last,
    /// as a request must never be the last to hold a part of it: taking it apart takes long.
    pub(super) fn detach_route(&mut self) {
        let Some(route) = self.route.take() else { return };
        let upstream = self.target.take().map(|target| Arc::clone(target.upstream.name()));
        let (meters, write) = (Arc::clone(&route.meters), route.timeouts.write.limit());
        self.detached = Some(Box::new(DetachedRoute { meters, upstream, body_limit: route.body_limit, write }));
        self.fresh = None;
        drop(route);
        self.snapshot = None;
    }

    /// The meters of the route.
    pub(super) fn route_meters(&self) -> Option<&RouteMeters> {
        let lasting = || self.detached.as_ref().map(|lasting| &*lasting.meters);
        self.route.as_ref().map(|route| &*route.meters).or_else(lasting)
    }

    /// The name of the upstream.
    pub(super) fn upstream(&self) -> Option<&str> {
        let lasting = || self.detached.as_ref()?.upstream.as_deref();
        self.target.as_ref().map(|target| &**target.upstream.name()).or_else(lasting)
    }

    /// The name of the route, for logs.
    pub(super) fn route_name(&self) -> Option<&str> {
        self.route_meters().and_then(|route| std::str::from_utf8(route.name().as_bytes()).ok())
    }

    /// The id of the request, for logs.
    pub(super) fn request_id_text(&self) -> &str {
        self.request_id.as_ref().map_or("-", |id| id.as_str())
    }

    /// How far the attempt under way has come.
    pub(super) fn stage(&self) -> AttemptStage {
        match &self.attempt {
            Some(attempt) if self.begun == Some(101) && attempt.is_answered() => AttemptStage::Tunnel,
            Some(attempt) if attempt.is_answered() => AttemptStage::Body,
            _ => AttemptStage::Header,
        }
    }

    /// Bytes of the request's body that the route allows.
    pub(super) fn body_limit(&self) -> Option<u64> {
        match (&self.route, &self.detached) {
            (Some(route), _) => route.body_limit,
            (None, lasting) => lasting.as_ref()?.body_limit,
        }
    }

    /// How long a backend may take to accept bytes. The outer `None`: there is no route.
    pub(super) fn write_limit(&self) -> Option<Option<Duration>> {
        let lasting = || self.detached.as_ref().map(|lasting| lasting.write);
        self.route.as_ref().map(|route| route.timeouts.write.limit()).or_else(lasting)
    }

    /// When the request arrived.
    pub(super) fn arrived(&self) -> Moment {
        self.started.into()
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

/// What the client's cookie says, and whether it goes on saying so.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Affinity {
    pub(super) seen: Option<CookieValue>,
    /// Its backend is only full for the moment: this one request goes elsewhere.
    pub(super) holds: bool,
}

impl Affinity {
    /// Takes note of why a backend was picked.
    pub(super) fn picked(&mut self, why: PickReason) {
        self.holds = why == PickReason::StickyFull;
    }
}

impl RequestCtx {
    /// Keeps the cause of the failure of the attempt under way.
    pub(super) fn set_error(&mut self, error: Box<str>) {
        if let Some(attempt) = &mut self.attempt {
            attempt.set_error(error);
        }
    }

    /// Ends the attempt under way, if there is one: its backend is free again from here on.
    pub(super) fn end_attempt(&mut self, outcome: Outcome, reason: Option<RetryReason>) {
        if let Some(attempt) = self.attempt.take() {
            let record = attempt.end(outcome, reason);
            self.attempts.push(record);
        }
    }
}
