//! One attempt at one backend: its in-flight guard, its timing and its outcome. It ends exactly once.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::attempt_error;
use crate::backend::InFlight;
use crate::backend::error_cause::ErrorCause;
use crate::backend::labels::PassedOver;
use crate::backend::labels::{Outcome, PickReason, RetryReason};
use crate::clock;
use crate::pool::checkout::Checkout;
use crate::telemetry::grpc_status::GrpcStatus;
use crate::telemetry::request_record::AttemptRecord;
use crate::upstream::backend::Backend;
use crate::upstream::outlier::AttemptObserver;

/// An instant of the monotonic clock, also in milliseconds. Penalties and ejections use the milliseconds.
#[derive(Debug, Clone, Copy)]
pub(super) struct Moment {
    pub(super) instant: Instant,
    pub(super) ms: u64,
}

impl From<Instant> for Moment {
    fn from(instant: Instant) -> Self {
        Self { instant, ms: clock::ms_of(instant) }
    }
}

impl Moment {
    pub(super) fn now() -> Self {
        Instant::now().into()
    }

    /// The time since this moment, and the present time in milliseconds.
    fn elapsed(self) -> (Duration, u64) {
        let since = self.instant.elapsed();
        (since, self.ms.saturating_add(since.as_millis() as u64))
    }
}

/// One attempt at one backend.
pub(super) struct Attempt {
    pub(super) backend: Arc<Backend>,
    guard: Option<InFlight>,
    why: PickReason,
    passed_over: Option<Arc<Vec<PassedOver>>>,
    /// The connection checkout. `None` until the attempt has one.
    pub(super) checkout: Option<Arc<Checkout>>,
    started: Moment,
    pub(super) reused: bool,
    connect: Option<Duration>,
    first_byte: Option<Duration>,
    status: Option<u16>,
    /// Reports the result to outlier detection. `None` if this attempt is not observed.
    watching: Option<AttemptObserver>,
    /// The backend's penalty was raised for this attempt, or must not be raised.
    faulted: bool,
    /// The backend is not the cause of its failure.
    excused: bool,
    /// The attempt failed because a resource of this process was exhausted. It does not count as an attempt at the
    /// backend.
    ours: bool,
    /// The gRPC status of its response, if that is an error of the backend.
    pub(super) grpc_error: Option<GrpcStatus>,
    /// The cause of its failure.
    error: Option<Box<str>>,
    /// The response has come to its end.
    pub(super) ended: bool,
    /// Request body bytes that were passed on, and response body bytes that were received.
    pub(super) sent: u64,
    pub(super) received: u64,
}

impl Attempt {
    pub(super) fn new(backend: Arc<Backend>, guard: InFlight, why: PickReason, started: Moment) -> Self {
        Self {
            backend,
            guard: Some(guard),
            why,
            passed_over: None,
            checkout: None,
            started,
            reused: false,
            connect: None,
            first_byte: None,
            status: None,
            watching: None,
            faulted: false,
            excused: false,
            ours: false,
            grpc_error: None,
            error: None,
            ended: false,
            sent: 0,
            received: 0,
        }
    }

    /// Adds the observer for outlier detection.
    pub(super) fn watched(self, watching: Option<AttemptObserver>) -> Self {
        Self { watching, ..self }
    }

    /// Adds the backends that could not be picked, for the access log.
    pub(super) fn instead_of(self, passed_over: Option<Arc<Vec<PassedOver>>>) -> Self {
        Self { passed_over, ..self }
    }

    /// Counts it among the backend's recent errors if it was one.
    fn record_error(&self, outcome: Outcome) {
        let (cause, words) = match (outcome, self.grpc_error, self.status) {
            (Outcome::ClientAbort, ..) => return,
            _ if self.excused => return,
            (Outcome::Ok, Some(status), _) => {
                (ErrorCause::of_grpc_code(status.index()), format!("gRPC {}", status.label()))
            }
            (Outcome::Ok, None, Some(status)) if status >= 500 => (ErrorCause::Status5xx, format!("status {status}")),
            (Outcome::Ok, ..) => return,
            _ => {
                let words = self.error.clone().map_or_else(|| outcome.label().to_owned(), String::from);
                (attempt_error::cause(outcome, &words), words)
            }
        };
        self.backend.state.count_error(cause, words.into(), clock::now_ms());
    }

    /// Excludes the attempt from the backend's health data. The caller gets the in-flight guard, so the next attempt
    /// keeps the backend's slot.
    pub(super) fn excuse(&mut self) -> InFlight {
        self.excused = true;
        self.watching = None;
        self.faulted = true;
        self.guard.take().unwrap_or_else(|| self.backend.state.raise())
    }

    /// Marks the failure as caused by this process. The backend's slot is released, and no failure is counted for the
    /// backend.
    pub(super) fn disown(&mut self) {
        drop(self.excuse());
        self.ours = true;
    }

    /// Keeps the cause of its failure; the first one counts.
    pub(super) fn set_error(&mut self, error: Box<str>) {
        self.error.get_or_insert(error);
    }

    /// The start of the attempt.
    pub(super) fn started(&self) -> Instant {
        self.started.instant
    }

    /// Records that the attempt has a connection.
    pub(super) fn connected(&mut self, reused: bool) {
        self.reused = reused || self.checkout.as_ref().is_some_and(|checkout| checkout.is_reused());
        if !self.reused {
            let (took, _) = self.started.elapsed();
            self.connect = Some(took);
            self.backend.state.observe_connect(took);
        }
    }

    /// Stores the idle limit that the backend announced for this connection.
    pub(super) fn limit_idle(&self, limit: Duration) {
        if let Some(checkout) = &self.checkout {
            checkout.limit_idle(limit);
        }
    }

    /// Records the status and the time of the response header.
    pub(super) fn answered(&mut self, status: u16) {
        let (took, now) = self.started.elapsed();
        self.first_byte = Some(took);
        self.status = Some(status);
        if let Some(watching) = &mut self.watching {
            watching.answered(status < 500, now);
        }
        self.backend.state.observe_response(took);
        self.backend.state.count_response(status);
        if status >= 500 {
            self.fault(took, now);
        } else {
            self.backend.state.load().observe(took, now);
            self.backend.state.set_answered();
        }
    }

    /// Records that the connection is now a tunnel. The attempt counts as a success, because the end of a tunnel does
    /// not show the backend's health.
    pub(super) fn became_tunnel(&mut self) {
        if let Some(mut watching) = self.watching.take() {
            watching.ended(true, self.started.elapsed().1);
        }
        self.passed_over = None;
    }

    /// Frees the backend's slot before the client receives the last byte. A client that has the last byte may send its
    /// next request at once.
    pub(super) fn release(&mut self) {
        self.guard = None;
    }

    /// Whether a response header arrived.
    pub(super) fn is_answered(&self) -> bool {
        self.first_byte.is_some()
    }

    /// Raises the penalty at most once per attempt. An error after a 5xx status is the same failure.
    fn fault(&mut self, took: Duration, now: u64) {
        if !std::mem::replace(&mut self.faulted, true) {
            self.backend.state.load().fault(took, now);
        }
    }

    /// Whether the outcome is a success of the backend. `None` if the backend did not cause the outcome.
    fn verdict(&self, outcome: Outcome) -> Option<bool> {
        match outcome {
            Outcome::ClientAbort => None,
            Outcome::Ok => Some(self.status.is_none_or(|status| status < 500)),
            _ => Some(false),
        }
    }

    pub(super) fn end(mut self, outcome: Outcome, reason: Option<RetryReason>) -> AttemptRecord {
        if !matches!(outcome, Outcome::Ok | Outcome::ClientAbort) {
            let (took, now) = self.started.elapsed();
            if !self.faulted && outcome != Outcome::ConnectError {
                self.backend.state.set_failed(now);
            }
            self.fault(took, now);
        }
        if let (Some(ok), Some(watching)) = (self.verdict(outcome), &mut self.watching) {
            watching.ended(ok, self.started.elapsed().1);
        }
        self.record_error(outcome);
        let backend_state = &self.backend.state;
        if !self.ours {
            backend_state.count_attempt(outcome);
        }
        backend_state.count_bytes(self.sent, self.received);
        AttemptRecord {
            labels: backend_state.labels(),
            why: self.why,
            passed_over: self.passed_over,
            outcome,
            reason,
            error: self.error,
            reused: self.reused,
            connect: self.connect,
            first_byte: self.first_byte,
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::backend::{BackendState, Labels};
    use crate::config::values::BackendAddress;
    use crate::pool::backend_addr::BackendAddr;

    fn backend() -> Arc<Backend> {
        let address: BackendAddress = "127.0.0.1:80".parse().unwrap();
        let labels = Labels { upstream: "u".into(), backend: "a".into(), address: "127.0.0.1:80".into() };
        let (backend_state, resolved) = (Arc::new(BackendState::new(labels)), Arc::new(BackendAddr::new(&address)));
        Arc::new(Backend {
            name: "a".into(),
            address,
            weight: 1,
            tier: 0,
            token: None,
            state: backend_state,
            addr: resolved,
        })
    }

    #[test]
    fn a_stale_connection_raises_no_penalty_and_a_reset_does() {
        for (excused, raised) in [(true, false), (false, true)] {
            let backend = backend();
            let mut attempt =
                Attempt::new(Arc::clone(&backend), backend.state.raise(), PickReason::Next, Moment::now());
            let _guard = excused.then(|| attempt.excuse());
            attempt.end(Outcome::Reset, None);
            assert_eq!(backend.state.load().penalty(clock::now_ms()) > 0, raised, "excused: {excused}");
        }
    }
}
