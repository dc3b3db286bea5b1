//! Waits before a backend is picked: for a free slot in the queue, or for the backoff between attempts.
//!
//! A wait ends with a slot, by the queue's limits, by the request's deadline, or because the client has left. Pingora
//! does not watch the client during this wait, so this module does.

use std::time::Instant;

use pingora::protocols::http::ServerSession;
use pingora::{Error, Result};
use pingora_proxy::Session;

use super::ctx::RequestCtx;
use super::failure_log;
use super::reject::refuse;
use crate::clock;
use crate::fault::Fault;
use crate::snapshot::RouteTarget;
use crate::upstream::PickHints;
use crate::upstream::members::Pick;
use crate::upstream::queue::{PickOutcome, WaitError};

const NO_BACKEND: &str = "no backend: none may be tried";

/// Picks a backend that takes the attempt now, or waits in the queue for one.
pub(super) async fn pick(
    session: &mut Session,
    target: &RouteTarget,
    ctx: &mut RequestCtx,
    hints: PickHints,
    now: u64,
) -> Result<Pick> {
    // A new request never overtakes the requests that wait already.
    if target.upstream.queue().depth() == 0 {
        match target.upstream.try_pick(&ctx.tried, now, hints) {
            PickOutcome::Slot(pick) => return Ok(pick),
            PickOutcome::Nobody => return Err(give_up(ctx, target, Fault::NoBackend, NO_BACKEND)),
            PickOutcome::Full | PickOutcome::ForOthers => {}
        }
    }
    let (fault, why) = match wait(session, target, ctx, hints).await {
        Ok(pick) => return Ok(pick),
        Err(failed) => failed,
    };
    // The request cannot wait any longer for another backend. A backend that was already tried is better than a
    // refusal.
    let cannot_wait = matches!(fault, Fault::QueueFull | Fault::QueueTimeout);
    let back = if cannot_wait { target.upstream.pick_tried(&ctx.tried, clock::now_ms(), hints.key) } else { None };
    back.ok_or_else(|| give_up(ctx, target, fault, why))
}

fn give_up(ctx: &mut RequestCtx, target: &RouteTarget, fault: Fault, why: &'static str) -> Box<Error> {
    failure_log::not_picked(ctx, target, fault, why);
    refuse(ctx, fault, None, why)
}

/// Waits for the backoff before a further attempt, if `retry.backoff` is set.
pub(super) async fn pause(session: &mut Session, ctx: &mut RequestCtx) -> Result<()> {
    let pause = match &ctx.route {
        Some(route) if ctx.tries > 0 => route.retry.pause(ctx.tries, fastrand::f64()),
        _ => return Ok(()),
    };
    if pause.is_zero() {
        return Ok(());
    }
    let until = ctx.time_left().map_or(pause, |left| left.min(pause));
    let client_left = tokio::select! {
        () = gone(session, ctx) => true,
        () = tokio::time::sleep(until) => false,
    };
    if client_left {
        return Err(refuse(ctx, Fault::ClientAbort, None, "the client left before the next try"));
    }
    if ctx.is_too_late() { Err(refuse(ctx, Fault::Timeout, None, "timeouts.request is over")) } else { Ok(()) }
}

async fn wait(
    session: &mut Session,
    target: &RouteTarget,
    ctx: &mut RequestCtx,
    hints: PickHints,
) -> Result<Pick, (Fault, &'static str)> {
    let Some(queue) = &target.upstream.settings().queue else {
        return Err((Fault::QueueFull, "queue full: all backends have max_in_flight requests, and there is no queue"));
    };
    let (started, timeout) = (Instant::now(), queue.timeout.get().saturating_sub(ctx.queued));
    let limit = ctx.time_left().map_or(timeout, |left| left.min(timeout));
    let try_pick = || target.upstream.try_pick(&ctx.tried, clock::now_ms(), hints);
    let waiting = target.meters.start_waiting();
    let bounds = (target.upstream.wait_class(&ctx.tried), usize::try_from(queue.size).unwrap_or(usize::MAX));
    let waited = target.upstream.queue().wait(bounds, limit, gone(session, ctx), try_pick).await;
    drop(waiting);
    ctx.queued += started.elapsed();
    waited.map_err(|why| match why {
        WaitError::Overflow => (Fault::QueueFull, "queue full: queue.size requests wait already"),
        WaitError::Timeout if ctx.is_too_late() => (Fault::Timeout, "timeouts.request is over"),
        WaitError::Timeout => (Fault::QueueTimeout, "queue timeout: waited for queue.timeout"),
        WaitError::Left => (Fault::ClientAbort, "the client left while it waited"),
        WaitError::Nobody => (Fault::NoBackend, NO_BACKEND),
    })
}

/// Completes when the client has left. An HTTP/2 stream reports it itself. For HTTP/1 the client's stream is watched
/// meanwhile.
pub(super) async fn gone(session: &mut Session, ctx: &RequestCtx) {
    match (session.as_downstream_mut(), &ctx.exchange) {
        (ServerSession::H1(http1), Some(exchange)) => {
            let _watching = exchange.conn.watch();
            let _ = http1.idle().await;
        }
        (ServerSession::Custom(http2), _) => {
            let _ = http2.read_body_or_idle(true).await;
        }
        _ => std::future::pending::<()>().await,
    }
}
