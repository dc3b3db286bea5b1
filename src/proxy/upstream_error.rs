//! Failed attempts: records how an attempt failed, then lets the retry policy and the retry budget decide about
//! another.

use std::sync::Arc;

use pingora::{Error, ErrorType, RetryType};
use pingora_proxy::Session;

use super::attempt_error::{self, AttemptStage, REQUEST_TIMEOUT};
use super::classify::{self, AttemptFailure};
use super::content_coding;
use super::ctx::RequestCtx;
use super::failure_log;
use crate::backend::labels::{Outcome, RetryReason};
use crate::clock;
use crate::fault::Fault;
use crate::resource_exhaustion::LimitedWarning;
use crate::upstream::retry_budget::RetryBudget;
use crate::upstream::retry_policy::{Failed, Request, Verdict, decide};

static CANNOT_TRY: LimitedWarning = LimitedWarning::new();

/// Handles a failed connect. Nothing was sent.
pub(super) fn to_connect(session: &mut Session, ctx: &mut RequestCtx, mut error: Box<Error>) -> Box<Error> {
    let again = if may_go_fresh(session, ctx, &error) {
        retry_fresh(ctx, &error, AttemptStage::Connect);
        true
    } else {
        let failure = classify::connecting(&error);
        let again = may_try_again(session, ctx, Failed::ToConnect);
        settle(ctx, failure, again, &error, AttemptStage::Connect);
        again
    };
    error.as_up();
    error.set_retry(again);
    error
}

/// Handles an error on an established connection.
pub(super) fn while_proxying(
    session: &mut Session,
    ctx: &mut RequestCtx,
    mut error: Box<Error>,
    reused: bool,
) -> Box<Error> {
    if ctx.attempt.is_none() {
        // `response_filter::arrived` has ended the attempt already and has requested another.
        return error;
    }
    if is_end_of_tunnel(ctx, &error) {
        ctx.end_attempt(Outcome::Ok, None);
        error.set_retry(false);
        return error;
    }
    if is_served(session, ctx, &error) {
        ctx.left_served = true;
        ctx.end_attempt(Outcome::Ok, None);
        error.set_retry(false);
        return error;
    }
    if *error.etype() == content_coding::ENCODER_FAILED {
        ctx.fault = Some(Fault::Internal);
    }
    let again = if ctx.fault.is_some() {
        // A phase of Weir has refused the request during the attempt.
        if ctx.fault == Some(Fault::Timeout) {
            ctx.set_error(REQUEST_TIMEOUT.into());
        }
        ctx.end_attempt(Outcome::ClientAbort, ctx.fault.map(RetryReason::Fault));
        false
    } else if classify::is_the_clients(&error) {
        let (fault, status) = classify::client(&error);
        (ctx.fault, ctx.status) = (Some(fault), Some(status));
        ctx.end_attempt(Outcome::ClientAbort, Some(RetryReason::Fault(fault)));
        false
    } else if may_go_fresh(session, ctx, &error) || is_stale(session, ctx, &error, reused) {
        retry_fresh(ctx, &error, AttemptStage::Header);
        true
    } else {
        let answered = ctx.attempt.as_ref().is_some_and(|attempt| attempt.is_answered());
        let failure = if answered { classify::proxying(&error) } else { classify::unanswered(&error) };
        let failed = match failure.fault {
            Fault::Timeout => Failed::Timeout,
            Fault::Connect => Failed::ToConnect,
            _ => Failed::Reset,
        };
        let again = may_try_again(session, ctx, failed);
        settle(ctx, failure, again, &error, ctx.stage());
        again
    };
    error.set_retry(again);
    error
}

/// Whether the retry policy and the retry budget allow another attempt. If the policy requires it, the attempt is
/// charged to the budget.
pub(super) fn may_try_again(session: &mut Session, ctx: &RequestCtx, failed: Failed) -> bool {
    let Some(route) = &ctx.route else { return false };
    match decide(&route.retry, failed, describe(session, ctx)) {
        Verdict::GiveUp => false,
        Verdict::Again => true,
        Verdict::AgainWithinBudget => {
            let spend = |budget: &RetryBudget| budget.try_spend(route.retry_share, route.retry_floor, clock::now_ms());
            ctx.target.as_ref().is_some_and(|target| spend(target.upstream.budget()))
        }
    }
}

fn describe(session: &mut Session, ctx: &RequestCtx) -> Request {
    Request {
        tries: ctx.tries,
        idempotent: ctx.method.is_idempotent(),
        replayable: !session.as_ref().retry_buffer_truncated(),
        response_begun: has_begun(session),
        too_late: ctx.is_too_late(),
    }
}

/// Whether a part of a final response was sent to the client.
pub(super) fn has_begun(session: &Session) -> bool {
    session.response_written().is_some_and(|response| !response.status.is_informational() || response.status == 101)
}

/// Whether the error is only the end of a tunnel: the backend has closed it, or a peer left without ceremony. Many peers close without a TLS `close_notify`. The upgraded protocol
/// has its own end, so the peers detect missing data themselves.
pub(super) fn is_end_of_tunnel(ctx: &RequestCtx, error: &Error) -> bool {
    ctx.begun == Some(101) && (ctx.whole || classify::is_bare_end(error))
}

/// Whether the exchange ended after the last byte of its response, although a part of the request is still to come. The
/// client has left, or the backend took no more of the request. A failed write is no such end: it has bytes of the
/// response.
fn is_served(session: &Session, ctx: &RequestCtx, error: &Error) -> bool {
    let whole = ctx.whole || ctx.length.is_some_and(|length| ctx.bytes_out >= length);
    let begun = ctx.begun.is_some_and(|status| status != 101);
    let wrote = matches!(error.etype(), ErrorType::WriteError | ErrorType::WriteTimedout);
    let left = || classify::is_the_clients(error) && classify::client(error).0 == Fault::ClientAbort;
    let checkout = ctx.attempt.as_ref().and_then(|attempt| attempt.checkout.as_ref());
    let gave_up = checkout.is_some_and(|checkout| checkout.has_given_up());
    whole && begun && ctx.fault.is_none() && (gave_up || (!wrote && left())) && !session.has_pending_downstream_tasks()
}

/// Whether the backend had closed this pooled connection before the request. That is not a failure of the backend.
fn is_stale(session: &mut Session, ctx: &RequestCtx, error: &Error, reused: bool) -> bool {
    let Some(attempt) = &ctx.attempt else { return false };
    let reused = reused || attempt.reused;
    if !reused || classify::is_timeout(error) || attempt.is_answered() || has_begun(session) || ctx.is_too_late() {
        return false;
    }
    use ErrorType::{ConnectionClosed, ReadError, WriteError};
    let broke = matches!(error.etype(), ConnectionClosed | ReadError | WriteError);
    let nothing_written = attempt.checkout.as_ref().is_none_or(|checkout| !checkout.is_begun());
    let request = describe(session, ctx);
    (broke || matches!(error.retry, RetryType::ReusedOnly))
        && (nothing_written || request.idempotent)
        && request.replayable
}

/// Whether the backend did not process the request, for a reason that concerns only the connection. Then a request with
/// any method is sent again to the same backend, on a fresh connection. If that connection refuses the request too, it
/// counts as a failed connect.
fn may_go_fresh(session: &mut Session, ctx: &RequestCtx, error: &Error) -> bool {
    let Some(attempt) = &ctx.attempt else { return false };
    if ctx.fresh_used || attempt.is_answered() || !classify::is_unprocessed(error) {
        return false;
    }
    let request = describe(session, ctx);
    request.replayable && !request.response_begun && !request.too_late
}

/// Requests another attempt on a fresh connection to the same backend. It counts neither as an attempt nor against the
/// retry budget, and it does not affect the backend's health.
fn retry_fresh(ctx: &mut RequestCtx, error: &Error, stage: AttemptStage) {
    ctx.set_error(attempt_error::describe(error, stage));
    if let Some(attempt) = &mut ctx.attempt {
        attempt.backend.state.count_retry(RetryReason::Fault(Fault::Reset));
        ctx.fresh = Some((Arc::clone(&attempt.backend), attempt.excuse()));
    }
    ctx.end_attempt(Outcome::Reset, Some(RetryReason::Fault(Fault::Reset)));
}

fn settle(ctx: &mut RequestCtx, failure: AttemptFailure, again: bool, error: &Error, stage: AttemptStage) {
    if failure.fault == Fault::Internal {
        let (id, route, upstream) = (ctx.request_id_text(), ctx.route_name(), ctx.upstream());
        CANNOT_TRY.emit_for((id, route, upstream), "a backend could not be tried", error.root_cause());
        if let Some(attempt) = &mut ctx.attempt {
            attempt.disown();
        }
    }
    let timed_out = failure.fault == Fault::Timeout && ctx.is_too_late();
    let text = if timed_out { REQUEST_TIMEOUT.into() } else { attempt_error::describe(error, stage) };
    failure_log::attempt_failed(ctx, failure.fault, &text, again);
    ctx.set_error(text);
    if again {
        if let Some(attempt) = &ctx.attempt {
            attempt.backend.state.count_retry(RetryReason::Fault(failure.fault));
        }
    } else {
        ctx.fault = Some(failure.fault);
    }
    ctx.end_attempt(failure.outcome, Some(RetryReason::Fault(failure.fault)));
}
