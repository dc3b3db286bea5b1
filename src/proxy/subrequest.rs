//! Requests that Weir itself sends to an upstream, such as authorization requests.
//!
//! The upstream's balancer, limits, queue, pool, TLS, outlier detection and meters of backends apply as for a request of
//! a client. Dropping the future cancels the request: its connection is closed and the backend's slot is free.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use pingora::Error;
use pingora::http::RequestHeader;

use super::attempt::{Attempt, Moment};
use super::attempt_error::{self, AttemptStage, UNRESOLVED};
use super::classify::{self, AttemptFailure};
use crate::backend::labels::{Outcome, PickReason, RetryReason};
use crate::clock;
use crate::config::schema;
use crate::fault::Fault;
use crate::message::{keep_alive, response_framing};
use crate::pool::connection_pool::ConnectionPool;
use crate::pool::dial::Dialer;
use crate::pool::subrequest::{SubrequestExchange, SubrequestResponse};
use crate::snapshot::RouteTarget;
use crate::upstream::balance::Tried;
use crate::upstream::members::Pick;
use crate::upstream::queue::{PickOutcome, WaitError};
use crate::upstream::retry_policy::{Failed, Request, Rule, Verdict, decide};
use crate::upstream::{PickHints, backend::Backend};

/// Maximum bytes of a response that is discarded. A longer one closes its connection.
const MAX_DISCARDED: u64 = 256 * 1024;

/// A request of Weir to one upstream.
pub struct Subrequest<'a> {
    target: &'a RouteTarget,
    pool: &'a Arc<ConnectionPool>,
    until: Instant,
    max_body: usize,
    body: Bytes,
    is_copy: bool,
}

/// The reason why a subrequest has no response.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SubrequestError {
    /// No backend of the upstream can take the request.
    #[error("no backend of the upstream can take the request")]
    NoBackend,
    /// The deadline has passed.
    #[error("timed out")]
    Timeout,
    /// The last attempt failed.
    #[error("{0}")]
    Failed(Box<str>),
}

/// How one attempt failed.
struct AttemptError {
    failure: AttemptFailure,
    text: Box<str>,
    /// The backend had closed the pooled connection before the request.
    stale: bool,
}

impl<'a> Subrequest<'a> {
    /// A request to this upstream, without a body and with an idempotent method. It ends after `timeout`. Of the response
    /// body, `max_body` bytes are kept.
    pub fn new(target: &'a RouteTarget, pool: &'a Arc<ConnectionPool>, timeout: Duration, max_body: usize) -> Self {
        Self { target, pool, until: Instant::now() + timeout, max_body, body: Bytes::new(), is_copy: false }
    }

    /// A copy of a client's request with this body. There is one attempt, and the body of the response is discarded.
    pub fn copy(target: &'a RouteTarget, pool: &'a Arc<ConnectionPool>, timeout: Duration, body: Bytes) -> Self {
        Self { body, is_copy: true, ..Self::new(target, pool, timeout, 0) }
    }

    /// Sends the request. Further attempts follow the default retry policy and the upstream's retry budget.
    ///
    /// # Errors
    /// There is no response. A response with any status is a success.
    pub async fn send(&self, request: &RequestHeader) -> Result<SubrequestResponse, SubrequestError> {
        let retry = schema::Retry::default();
        let rule = Rule::new(&retry);
        let (mut tried, mut tries) = (Tried::default(), 0);
        self.target.upstream.budget().count_request(clock::now_ms());
        loop {
            let pick = self.pick(&tried).await?;
            let backend = Arc::clone(&pick.backend);
            tried.add(&backend.state);
            tries += 1;
            let failed = match self.attempt(request, pick).await {
                Ok(response) => return Ok(response),
                Err(failed) => failed,
            };
            let kind = match failed.failure.fault {
                Fault::Timeout => Failed::Timeout,
                Fault::Connect | Fault::Tls => Failed::ToConnect,
                _ => Failed::Reset,
            };
            let again = !self.is_copy
                && match decide(&rule, kind, self.describe(tries)) {
                    Verdict::GiveUp => false,
                    Verdict::Again => true,
                    Verdict::AgainWithinBudget => {
                        self.target.upstream.budget().try_spend(retry.budget.fraction(), retry.floor, clock::now_ms())
                    }
                };
            if !again {
                return Err(if self.is_late() {
                    SubrequestError::Timeout
                } else {
                    SubrequestError::Failed(failed.text)
                });
            }
            backend.state.count_retry(RetryReason::Fault(failed.failure.fault));
        }
    }

    fn describe(&self, tries: u8) -> Request {
        Request { tries, idempotent: true, replayable: true, response_begun: false, too_late: self.is_late() }
    }

    fn left(&self) -> Duration {
        self.until.saturating_duration_since(Instant::now())
    }

    fn is_late(&self) -> bool {
        self.left().is_zero()
    }

    /// Picks a backend, or waits for a slot where the upstream has a queue.
    async fn pick(&self, tried: &Tried) -> Result<Pick, SubrequestError> {
        let upstream = &self.target.upstream;
        let look = || upstream.try_pick(tried, clock::now_ms(), PickHints::default());
        let first = if upstream.queue().depth() == 0 { look() } else { PickOutcome::Full };
        let pick = match (first, &upstream.settings().queue) {
            (PickOutcome::Slot(pick), _) => pick,
            (PickOutcome::Nobody, _) | (_, None) => return Err(SubrequestError::NoBackend),
            (_, Some(queue)) => {
                let bounds = (upstream.wait_class(tried), usize::try_from(queue.size).unwrap_or(usize::MAX));
                let limit = queue.timeout.get().min(self.left());
                let _waiting = self.target.meters.start_waiting();
                let waited = upstream.queue().wait(bounds, limit, std::future::pending(), look).await;
                waited.map_err(|why| match why {
                    WaitError::Timeout if self.is_late() => SubrequestError::Timeout,
                    _ => SubrequestError::NoBackend,
                })?
            }
        };
        if pick.fail_open {
            self.target.meters.count_fail_open();
        }
        Ok(pick)
    }

    /// One attempt. A pooled connection that the backend had closed is replaced by a new one, which counts as the same
    /// attempt.
    async fn attempt(&self, request: &RequestHeader, pick: Pick) -> Result<SubrequestResponse, AttemptError> {
        let mut running = RunningAttempt::new(self.target, pick);
        let mut result = self.bounded(request, &mut running, false).await;
        if matches!(&result, Err(error) if error.stale) {
            running.restart(self.target);
            result = self.bounded(request, &mut running, true).await;
        }
        match &result {
            Ok(_) => running.end(Outcome::Ok, None),
            Err(error) => running.fail(error),
        }
        result
    }

    async fn bounded(
        &self,
        request: &RequestHeader,
        running: &mut RunningAttempt,
        fresh: bool,
    ) -> Result<SubrequestResponse, AttemptError> {
        let exchange = self.exchange(request, running, fresh);
        tokio::time::timeout_at(self.until.into(), exchange).await.unwrap_or_else(|_| {
            let failure = AttemptFailure { outcome: Outcome::Timeout, fault: Fault::Timeout };
            Err(AttemptError { failure, text: "timed out: the deadline of the subrequest".into(), stale: false })
        })
    }

    async fn exchange(
        &self,
        request: &RequestHeader,
        running: &mut RunningAttempt,
        fresh: bool,
    ) -> Result<SubrequestResponse, AttemptError> {
        let unresolved = || AttemptError {
            failure: AttemptFailure { outcome: Outcome::ConnectError, fault: Fault::Connect },
            text: UNRESOLVED.into(),
            stale: false,
        };
        let address = &running.backend.addr;
        let pending = self.target.peer.checkout(address, self.pool, Some(self.left()), fresh, Instant::now());
        let mut peer = self.target.peer.peer(address).ok_or_else(unresolved)?;
        if self.target.upstream.transport().announces() {
            // The connection carries no client: the PROXY header has the LOCAL command.
            Dialer::announce(&mut peer, None, address.addresses());
        }
        let opened = SubrequestExchange::open(&peer, pending).await;
        let mut exchange = opened
            .map_err(|error| AttemptError::new(classify::connecting(&error), &error, AttemptStage::Connect, false))?;
        let reused = exchange.is_reused();
        running.with(|attempt| {
            attempt.reused = reused;
            attempt.connected(reused);
        });
        let mut head = exchange.send(Box::new(request.clone()), self.body.clone()).await.map_err(|error| {
            let stale = reused && !classify::is_timeout(&error);
            AttemptError::new(classify::unanswered(&error), &error, AttemptStage::Header, stale)
        })?;
        if let Err(why) = response_framing::check(&mut head, false) {
            let failure = AttemptFailure { outcome: Outcome::ProtocolError, fault: Fault::Protocol };
            return Err(AttemptError { failure, text: why.into(), stale: false });
        }
        running.with(|attempt| attempt.answered(head.status.as_u16()));
        if let Some(limit) = keep_alive::idle_limit(&head.headers) {
            exchange.limit_idle(limit);
        }
        let body = match self.is_copy {
            true => exchange.discard(MAX_DISCARDED).await.map(|received| (received, Bytes::new())),
            false => exchange.body(self.max_body).await.map(|body| (body.len() as u64, body)),
        };
        let (received, body) =
            body.map_err(|error| AttemptError::new(classify::proxying(&error), &error, AttemptStage::Body, false))?;
        running.with(|attempt| attempt.received = received);
        Ok(SubrequestResponse { head, body })
    }
}

impl AttemptError {
    fn new(failure: AttemptFailure, error: &Error, stage: AttemptStage, stale: bool) -> Self {
        Self { failure, text: attempt_error::describe(error, stage), stale }
    }
}

/// An attempt that is under way. If it is dropped, the client has left.
struct RunningAttempt {
    backend: Arc<Backend>,
    attempt: Option<Attempt>,
}

impl RunningAttempt {
    fn new(target: &RouteTarget, pick: Pick) -> Self {
        let observer = target.upstream.observe(&pick.backend);
        let backend = Arc::clone(&pick.backend);
        let attempt = Attempt::new(pick.backend, pick.guard, pick.why, Moment::now()).watched(observer);
        Self { backend, attempt: Some(attempt) }
    }

    /// Begins again on a fresh connection to the same backend, which keeps the backend's slot.
    fn restart(&mut self, target: &RouteTarget) {
        let Some(mut stale) = self.attempt.take() else { return };
        let guard = stale.excuse();
        let reason = RetryReason::Fault(Fault::Reset);
        self.backend.state.count_retry(reason);
        stale.end(Outcome::Reset, Some(reason));
        let why = PickReason::FreshConnection;
        let observer = target.upstream.observe(&self.backend);
        self.attempt = Some(Attempt::new(Arc::clone(&self.backend), guard, why, Moment::now()).watched(observer));
    }

    fn with(&mut self, edit: impl FnOnce(&mut Attempt)) {
        if let Some(attempt) = &mut self.attempt {
            edit(attempt);
        }
    }

    fn fail(mut self, error: &AttemptError) {
        self.with(|attempt| {
            attempt.set_error(error.text.clone());
            if error.failure.fault == Fault::Internal {
                attempt.disown();
            }
        });
        self.end(error.failure.outcome, Some(RetryReason::Fault(error.failure.fault)));
    }

    fn end(mut self, outcome: Outcome, reason: Option<RetryReason>) {
        if let Some(attempt) = self.attempt.take() {
            attempt.end(outcome, reason);
        }
    }
}

impl Drop for RunningAttempt {
    fn drop(&mut self) {
        if let Some(attempt) = self.attempt.take() {
            attempt.end(Outcome::ClientAbort, Some(RetryReason::Fault(Fault::ClientAbort)));
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
#[path = "subrequest_tests.rs"]
mod tests;
