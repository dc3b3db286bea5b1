//! The context of a request: the data that the phases collect, and the guards that are released at its end.
//!
//! Pingora drops it however the request ends (response sent, aborted, panicked, cancelled). Therefore its `Drop` writes
//! the record if no other phase has written it.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use http::{HeaderValue, Method, Version};

use super::access_state::AccessState;
use super::attempt::{Attempt, Moment};
use super::attempt_error::AttemptStage;
use super::grpc_call::GrpcCall;
use super::met_limits::MetLimits;
use super::mirror_state::MirrorState;
use super::replaced_response::ReplacedResponse;
use crate::backend::InFlight;
use crate::backend::labels::{Outcome, PickReason, RetryReason};
use crate::fault::Fault;
use crate::listener::Exchange;
use crate::message::request_id::RequestId;
use crate::path::Rules;
use crate::snapshot::{Route, RouteTarget, Snapshot};
use crate::telemetry::Recorder;
use crate::telemetry::meters::RouteMeters;
use crate::telemetry::registry::RequestInFlight;
use crate::telemetry::request_record::AttemptRecord;
use crate::upstream::backend::Backend;
use crate::upstream::balance::Tried;
use crate::upstream::sticky::CookieValue;

/// The context of a request.
pub struct RequestCtx {
    pub(super) recorder: Arc<Recorder>,
    /// None after `detach_route`, when the request does not need the configuration any more.
    pub(super) snapshot: Option<Arc<Snapshot>>,
    pub(super) exchange: Option<Arc<Exchange>>,
    pub(super) started: Instant,
    pub(super) started_at: SystemTime,
    /// Counts the request as in flight. None until the request has been counted.
    pub(super) in_flight: Option<RequestInFlight>,
    pub(super) method: Method,
    pub(super) version: Version,
    /// The client asked for a WebSocket.
    pub(super) is_upgrade: bool,
    pub(super) line: Option<Box<RequestLine>>,
    pub(super) client: Option<IpAddr>,
    pub(super) request_id: Option<RequestId>,
    pub(super) route: Option<Arc<Route>>,
    pub(super) target: Option<Arc<RouteTarget>>,
    /// The part of the route that a tunnel or a long response still needs.
    pub(super) detached: Option<Box<DetachedRoute>>,
    /// The response body for an ACME HTTP-01 validation request.
    pub(super) challenge: Option<Box<str>>,
    /// Present once an access policy has been applied.
    pub(super) access: Option<Box<AccessState>>,
    /// Present once a limit has to be remembered. Its guards are released with the context.
    pub(super) limits: Option<Box<MetLimits>>,
    pub(super) tried: Tried,
    pub(super) tries: u8,
    /// How long the request has waited in the queue, over all attempts.
    pub(super) queued: Duration,
    /// Pingora's backend phase has begun. If it then fails, Pingora closes the client's connection too.
    pub(super) handed_over: bool,
    pub(super) affinity: Affinity,
    /// The cookie of a sticky split that the response sets.
    pub(super) split_cookie: Option<Box<str>>,
    pub(super) mirror: MirrorState,
    pub(super) attempt: Option<Attempt>,
    pub(super) attempts: Vec<AttemptRecord>,
    /// The backend that the next attempt uses again, on a fresh connection. Its in-flight guard keeps the slot until
    /// then.
    pub(super) fresh: Option<(Arc<Backend>, InFlight)>,
    pub(super) fresh_used: bool,
    pub(super) deadline: Option<Instant>,
    pub(super) fault: Option<Fault>,
    /// The status, if it differs from the fault's own.
    pub(super) status: Option<u16>,
    /// The backend's response that an error page replaces.
    pub(super) replaced: Option<Box<ReplacedResponse>>,
    /// The request body was passed on completely.
    pub(super) sent_whole: bool,
    /// The status of the response that has begun for the client.
    pub(super) begun: Option<u16>,
    /// When the header of a stream, or 101, was ready for the client, counted from the arrival.
    pub(super) stream_header: Option<Duration>,
    pub(super) grpc: GrpcCall,
    /// Bytes of the response's body, where the response states them.
    pub(super) length: Option<u64>,
    /// The response has come to its end, trailers included.
    pub(super) whole: bool,
    /// The client has left after the last byte of its response.
    pub(super) left_served: bool,
    pub(super) bytes_in: u64,
    pub(super) bytes_out: u64,
    pub(super) recorded: bool,
}

/// Request data that only the access log needs. Absent if the access log is off.
#[derive(Debug, Default)]
pub(super) struct RequestLine {
    pub(super) host: Option<Vec<u8>>,
    pub(super) path: Vec<u8>,
    pub(super) user_agent: Option<HeaderValue>,
    pub(super) referer: Option<HeaderValue>,
    pub(super) trace_id: Option<String>,
}

/// The part of a route that a tunnel or a long response still needs: its limits and the data for its record. It does
/// not keep a configuration in memory.
#[derive(Debug)]
pub(super) struct DetachedRoute {
    pub(super) meters: Arc<RouteMeters>,
    pub(super) upstream: Option<Arc<str>>,
    body_limit: Option<u64>,
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
            is_upgrade: false,
            line: None,
            client: None,
            request_id: None,
            route: None,
            target: None,
            detached: None,
            challenge: None,
            access: None,
            limits: None,
            tried: Tried::default(),
            tries: 0,
            queued: Duration::ZERO,
            handed_over: false,
            affinity: Affinity::default(),
            split_cookie: None,
            mirror: MirrorState::Open,
            attempt: None,
            attempts: Vec::new(),
            fresh: None,
            fresh_used: false,
            deadline: None,
            fault: None,
            status: None,
            replaced: None,
            sent_whole: false,
            begun: None,
            stream_header: None,
            grpc: GrpcCall::No,
            length: None,
            whole: false,
            left_served: false,
            bytes_in: 0,
            bytes_out: 0,
            recorded: false,
        }
    }

    /// Releases the configuration, because no other attempt can follow and the request may last for hours.
    ///
    /// The snapshot is dropped last. A request must not hold the last reference to a part of it, because the teardown
    /// is slow.
    pub(super) fn detach_route(&mut self) {
        let Some(route) = self.route.take() else { return };
        let upstream = self.target.take().map(|target| Arc::clone(target.upstream.name()));
        let meters = Arc::clone(&route.meters);
        self.detached = Some(Box::new(DetachedRoute { meters, upstream, body_limit: route.body_limit }));
        self.fresh = None;
        drop(route);
        self.snapshot = None;
    }

    /// The meters of the route.
    pub(super) fn route_meters(&self) -> Option<&RouteMeters> {
        let detached = || self.detached.as_ref().map(|detached| &*detached.meters);
        self.route.as_ref().map(|route| &*route.meters).or_else(detached)
    }

    /// The name of the upstream.
    pub(super) fn upstream(&self) -> Option<&str> {
        let detached = || self.detached.as_ref()?.upstream.as_deref();
        self.target.as_ref().map(|target| &**target.upstream.name()).or_else(detached)
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
            Some(attempt) if attempt.is_answered() && attempt.received == 0 => AttemptStage::FirstByte,
            Some(attempt) if attempt.is_answered() => AttemptStage::Body,
            _ => AttemptStage::Header,
        }
    }

    /// The route's limit of the request body, in bytes.
    pub(super) fn body_limit(&self) -> Option<u64> {
        match (&self.route, &self.detached) {
            (Some(route), _) => route.body_limit,
            (None, detached) => detached.as_ref()?.body_limit,
        }
    }

    /// Whether the client asks for a WebSocket by an extended CONNECT (RFC 8441). The listener has made an upgrade
    /// request of it.
    pub(super) fn is_extended_connect(&self) -> bool {
        self.is_upgrade && self.version == Version::HTTP_2
    }

    /// When the request arrived.
    pub(super) fn arrived(&self) -> Moment {
        self.started.into()
    }

    /// The listener's path normalisation rules.
    pub(super) fn path_rules(&self) -> Rules {
        self.exchange.as_ref().map_or_else(Rules::default, |exchange| exchange.conn.settings.paths.rules())
    }

    /// The time until the deadline. Zero if it has passed.
    pub(super) fn time_left(&self) -> Option<Duration> {
        self.deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()))
    }

    pub(super) fn is_too_late(&self) -> bool {
        self.time_left().is_some_and(|left| left.is_zero())
    }
}

/// The content of the client's affinity cookie, and whether it stays valid.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Affinity {
    pub(super) seen: Option<CookieValue>,
    /// The cookie's backend has reached its limit. This request uses another backend, and the client keeps its cookie.
    pub(super) holds: bool,
}

impl Affinity {
    /// Records why a backend was picked.
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

    /// Ends the current attempt, if there is one, and frees the backend's slot.
    pub(super) fn end_attempt(&mut self, outcome: Outcome, reason: Option<RetryReason>) {
        if let Some(attempt) = self.attempt.take() {
            let record = attempt.end(outcome, reason);
            self.attempts.push(record);
        }
    }
}
