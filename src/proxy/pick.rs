//! Backend selection for the next attempt: the backend, its in-flight guard, and the peer that tells Pingora how to
//! reach it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use pingora::Result;
use pingora::upstreams::peer::HttpPeer;
use pingora_proxy::Session;

use super::attempt::{Attempt, Moment};
use super::ctx::RequestCtx;
use super::reject::refuse;
use super::{affinity_cookie, attempt_error, hash_key, wait_in_queue};
use crate::backend::labels::{AdminState, PickReason};
use crate::fault::Fault;
use crate::message::hop_by_hop;
use crate::pool::checkout::PendingCheckout;
use crate::pool::connection_pool::ConnectionPool;
use crate::pool::connector;
use crate::pool::dial::Dialer;
use crate::proxy_protocol::AddressPair;
use crate::snapshot::RouteTarget;
use crate::upstream::PickHints;

/// The minimum of a timeout. Pingora reads zero as "no timeout".
const MIN_TIMEOUT: Duration = Duration::from_millis(1);

/// Picks a backend for the next attempt.
///
/// # Errors
/// No backend can take the request, or the request's deadline has passed.
pub(super) async fn pick(
    session: &mut Session,
    ctx: &mut RequestCtx,
    pool: &Arc<ConnectionPool>,
) -> Result<Box<HttpPeer>> {
    // If an attempt is still open here, Pingora has given it up. Its backend must no longer count it as in flight.
    ctx.attempt = None;
    ctx.handed_over = true;
    let Some(target) = ctx.target.clone() else {
        return Err(refuse(ctx, Fault::Internal, None, "no upstream was chosen"));
    };
    if ctx.is_too_late() {
        return Err(refuse(ctx, Fault::Timeout, None, "timeouts.request is over"));
    }
    if let Err(reason) = hop_by_hop::check_options(&session.req_header().headers) {
        return Err(refuse(ctx, Fault::BadRequest, None, reason));
    }
    // A fresh connection is not used if the backend was drained or disabled in the meantime.
    let fresh = ctx.fresh.take().filter(|(backend, _)| backend.state.admin_state() == AdminState::Ready);
    ctx.fresh_used = fresh.is_some();
    let attempt = match fresh {
        Some((backend, guard)) => {
            let watching = target.upstream.observe(&backend);
            Attempt::new(backend, guard, PickReason::FreshConnection, Moment::now()).watched(watching)
        }
        None => {
            wait_in_queue::pause(session, ctx).await?;
            next(session, &target, ctx).await?
        }
    };
    let template = &target.peer;
    let pending = template.checkout(&attempt.backend.addr, pool, ctx.time_left(), ctx.fresh_used, attempt.started());
    let peer = template.peer(&attempt.backend.addr);
    ctx.attempt = Some(attempt);
    let Some(mut peer) = peer else {
        ctx.set_error(attempt_error::UNRESOLVED.into());
        return Err(refuse(ctx, Fault::NoBackend, None, "the backend's name does not resolve"));
    };
    shorten(&mut peer, ctx.time_left());
    if target.upstream.transport().announces() {
        let addresses = ctx.attempt.as_ref().and_then(|attempt| attempt.backend.addr.addresses());
        Dialer::announce(&mut peer, ends(ctx), addresses);
    }
    ctx.sent_whole = session.is_body_empty();
    checkout(ctx, &mut peer, pending);
    Ok(peer)
}

fn checkout(ctx: &mut RequestCtx, peer: &mut HttpPeer, mut pending: PendingCheckout) {
    if ctx.exchange.as_ref().is_some_and(|exchange| exchange.body_is_here) {
        pending.set_together();
    }
    if let Some(exchange) = ctx.exchange.as_ref().filter(|_| ctx.is_upgrade || !ctx.sent_whole) {
        pending.set_gate(exchange.body_gate());
    }
    if let Some(attempt) = &mut ctx.attempt {
        attempt.checkout = Some(connector::offer(peer, pending));
    }
}

async fn next(session: &mut Session, target: &RouteTarget, ctx: &mut RequestCtx) -> Result<Attempt> {
    // The first attempt follows the arrival at once, so the clock is not read again.
    let first = ctx.tries == 0;
    let started = if first { ctx.arrived() } else { Moment::now() };
    let (now, queued) = (started.ms, ctx.queued);
    if first {
        target.upstream.budget().count_request(now);
    }
    if !ctx.method.is_idempotent() && target.upstream.settings().outlier.is_on() {
        ctx.tried.exclude_recent_failures(now);
    }
    let named = affinity_cookie::named(session, target, ctx);
    let (watching, pick) = match target.upstream.pick_trial(&ctx.tried, now, named.as_ref()) {
        Some((pick, watching)) => (Some(watching), pick),
        None => {
            let hash = target.upstream.settings().hash.as_ref();
            let key = hash.and_then(|hash| hash_key::of(hash, session.req_header(), ctx.client));
            let pick = wait_in_queue::pick(session, target, ctx, PickHints { key, named }, now).await?;
            (target.upstream.observe(&pick.backend), pick)
        }
    };
    if pick.fail_open {
        target.meters.count_fail_open();
    }
    ctx.affinity.picked(pick.why);
    ctx.tries = ctx.tries.saturating_add(1);
    ctx.tried.add(&pick.backend.state);
    let passed_over = if ctx.recorder.wants_line() { target.upstream.excluded() } else { None };
    let started = if ctx.queued == queued { started } else { Moment::now() };
    let attempt = Attempt::new(pick.backend, pick.guard, pick.why, started);
    Ok(attempt.watched(watching).instead_of(passed_over))
}

/// The addresses of the client's connection, for the PROXY header. If the client's address comes from a forwarded
/// header, its port is unknown and is 0.
fn ends(ctx: &RequestCtx) -> Option<AddressPair> {
    let (conn, client) = (&ctx.exchange.as_ref()?.conn, ctx.client?);
    let port = if client == conn.peer_ip() { conn.peer.port() } else { 0 };
    Some(AddressPair { source: SocketAddr::new(client, port), destination: conn.local })
}

/// Limits the timers of an attempt to the request's deadline.
fn shorten(peer: &mut HttpPeer, left: Option<Duration>) {
    if left.is_some() {
        let options = &mut peer.options;
        for timer in [
            &mut options.connection_timeout,
            &mut options.total_connection_timeout,
            &mut options.read_timeout,
            &mut options.write_timeout,
        ] {
            *timer = sooner(*timer, left);
        }
    }
}

fn sooner(limit: Option<Duration>, left: Option<Duration>) -> Option<Duration> {
    match (limit, left) {
        (Some(limit), Some(left)) => Some(limit.min(left).max(MIN_TIMEOUT)),
        (limit, left) => limit.or(left).map(|wait| wait.max(MIN_TIMEOUT)),
    }
}
