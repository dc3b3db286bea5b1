//! One try at one backend: its in-flight guard, its clock, its end. It ends once, in whatever way.

use std::os::fd::RawFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use pingora::{Error, ErrorType, Result};

use crate::backend::InFlight;
use crate::backend::labels::PassedOver;
use crate::backend::labels::{Outcome, PickReason, RetryReason};
use crate::clock;
use crate::pool::checkout::Checkout;
use crate::pool::idle_limit;
use crate::telemetry::record::AttemptRecord;
use crate::upstream::backend::Backend;
use crate::upstream::outlier::AttemptObserver;

/// A moment of the monotonic clock, and the same in milliseconds, which penalties and ejections count in.
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

    /// The time since, and the moment now in milliseconds.
    fn elapsed(self) -> (Duration, u64) {
        let since = self.instant.elapsed();
        (since, self.ms.saturating_add(since.as_millis() as u64))
    }
}

/// One try at one backend.
pub(super) struct Attempt {
    pub(super) backend: Arc<Backend>,
    guard: Option<InFlight>,
    why: PickReason,
    passed_over: Option<Arc<Vec<PassedOver>>>,
    /// Its connection, where that is not Pingora's.
    pub(super) checkout: Option<Arc<Checkout>>,
    started: Moment,
    pub(super) reused: bool,
    /// Of a connection that is Pingora's.
    fd: RawFd,
    connect: Option<Duration>,
    first_byte: Option<Duration>,
    status: Option<u16>,
    /// Its word counts in the backend's judgement; nothing where none is passed.
    watching: Option<AttemptObserver>,
    /// The backend's penalty was raised for it, or is not to be.
    faulted: bool,
    /// It failed for want of something here, and is none of the backend's attempts.
    ours: bool,
    /// The cause of its failure.
    error: Option<Box<str>>,
    /// The response has come to its end.
    pub(super) ended: bool,
    /// Bytes of the request's body that were handed on, and of the response's that came.
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
            fd: -1,
            connect: None,
            first_byte: None,
            status: None,
            watching: None,
            faulted: false,
            ours: false,
            error: None,
            ended: false,
            sent: 0,
            received: 0,
        }
    }

    /// The same, with a word in the backend's judgement.
    pub(super) fn watched(self, watching: Option<AttemptObserver>) -> Self {
        Self { watching, ..self }
    }

    /// The same, and who could not be picked instead.
    pub(super) fn instead_of(self, passed_over: Option<Arc<Vec<PassedOver>>>) -> Self {
        Self { passed_over, ..self }
    }

    /// How it ends says nothing about the backend, which stays counted for the next try.
    pub(super) fn excuse(&mut self) -> InFlight {
        self.watching = None;
        self.faulted = true;
        self.guard.take().unwrap_or_else(|| self.backend.state.raise())
    }

    /// It failed for want of something here: the backend is free, and nothing is counted of it.
    pub(super) fn disown(&mut self) {
        drop(self.excuse());
        self.ours = true;
    }

    /// Keeps the cause of its failure; the first one counts.
    pub(super) fn set_error(&mut self, error: Box<str>) {
        self.error.get_or_insert(error);
    }

    /// When it began.
    pub(super) fn started(&self) -> Instant {
        self.started.instant
    }

    /// A connection is there.
    ///
    /// # Errors
    /// It has waited for longer than its backend said that it would keep it. Nothing was sent.
    pub(super) fn connected(&mut self, reused: bool, fd: RawFd) -> Result<()> {
        self.reused = reused || self.checkout.as_ref().is_some_and(|checkout| checkout.is_reused());
        if self.checkout.is_none() {
            self.fd = fd;
            if idle_limit::take_is_over(fd, Instant::now()) && reused {
                return Err(
                    Error::explain(ErrorType::WriteError, "the backend keeps this connection no longer").into_up()
                );
            }
        }
        if !self.reused {
            let (took, _) = self.started.elapsed();
            self.connect = Some(took);
            self.backend.state.observe_connect(took);
        }
        Ok(())
    }

    /// The backend has said how long it keeps the connection idle.
    pub(super) fn limit_idle(&self, limit: Duration) {
        match &self.checkout {
            Some(checkout) => checkout.limit_idle(limit),
            None => idle_limit::set(self.fd, limit, Instant::now()),
        }
    }

    /// The response header is there.
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

    /// It has become a tunnel: the backend has done its part, and how the tunnel ends says nothing about it.
    pub(super) fn became_tunnel(&mut self) {
        if let Some(mut watching) = self.watching.take() {
            watching.ended(true, self.started.elapsed().1);
        }
        self.passed_over = None;
    }

    /// The backend is through with it: free for the next request before the client has the last byte, since a client
    /// that has it may be back at once.
    pub(super) fn release(&mut self) {
        self.guard = None;
        if let Some(checkout) = &self.checkout {
            checkout.set_over();
        }
    }

    /// Whether the response header has come.
    pub(super) fn is_answered(&self) -> bool {
        self.first_byte.is_some()
    }

    /// Once an attempt: what failed after a 5xx is the same failure.
    fn fault(&mut self, took: Duration, now: u64) {
        if !std::mem::replace(&mut self.faulted, true) {
            self.backend.state.load().fault(took, now);
        }
    }

    /// Whether it went well by the backend's doing; nothing if it was not the backend's to decide.
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
