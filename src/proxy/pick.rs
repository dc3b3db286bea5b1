//! Pick: a backend for the next attempt, its in-flight guard, and the peer that tells Pingora how to reach it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use pingora::Result;
use pingora::upstreams::peer::HttpPeer;
use pingora_proxy::Session;

use super::attempt::{Attempt, Moment};
use super::ctx::RequestCtx;
use super::reject::refuse;
use super::{affinity_cookie, hash_key, wait_in_queue};
use crate::backend::labels::{AdminState, PickReason};
use crate::config::schema::Protocol;
use crate::fault::Fault;
use crate::pool::checkout::PendingCheckout;
use crate::pool::connection_pool::ConnectionPool;
use crate::pool::connector;
use crate::pool::dial::Dialer;
use crate::pool::http1::fast_path;
use crate::pool::peer::NOT_POOLED_IDLE;
use crate::proxy_protocol::AddressPair;
use crate::snapshot::RouteTarget;
use crate::upstream::PickHints;

/// The shortest wait that is worth starting; Pingora takes zero for none.
const MIN_TIMEOUT: Duration = Duration::from_millis(1);

/// A backend for the next attempt.
pub(super) async fn pick(
    session: &mut Session,
    ctx: &mut RequestCtx,
    kept: &Arc<ConnectionPool>,
) -> Result<Box<HttpPeer>> {
    // An attempt that is still open here was given up by Pingora; its backend must not count it any longer.
    ctx.attempt = None;
    ctx.handed_over = true;
    let Some(target) = ctx.target.clone() else {
        return Err(refuse(ctx, Fault::Internal, None, "no upstream was chosen"));
    };
    if ctx.is_too_late() {
        return Err(refuse(ctx, Fault::Timeout, None, "timeouts.request is over"));
    }
    // Drained or disabled meanwhile: not even on a fresh connection.
    let fresh = ctx.fresh.take().filter(|(backend, _)| backend.state.mark() == AdminState::Ready);
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
    let tunnel = session.is_upgrade_req();
    let template = if tunnel { &target.tunnel } else { &target.peer };
    let pending = template.checkout(&attempt.backend.addr, kept, ctx.time_left(), ctx.fresh_used, attempt.started());
    let peer = template.peer(&attempt.backend.addr);
    ctx.attempt = Some(attempt);
    let Some(mut peer) = peer else {
        ctx.set_error("its name does not resolve".into());
        return Err(refuse(ctx, Fault::NoBackend, None, "the backend's name does not resolve"));
    };
    if tunnel {
        time_handshake(ctx);
    } else {
        shorten(&mut peer, ctx.time_left());
    }
    if target.upstream.transport().announces() {
        let addresses = ctx.attempt.as_ref().and_then(|attempt| attempt.backend.addr.addresses());
        Dialer::announce(&mut peer, ends(ctx), tunnel, addresses);
    }
    if target.upstream.transport().protocol() != Protocol::Http1 {
        // A GOAWAY that has arrived is read before Pingora chooses a connection. A write to a connection that the backend
        // has closed would fail, and h2 would give it up before it has read which requests were not processed.
        tokio::task::yield_now().await;
    }
    ctx.sent_whole = session.is_body_empty();
    match pending {
        Some(pending) => checkout(session, ctx, &mut peer, pending),
        None if ctx.fresh_used || template.is_exclusive() => leave_pool(&mut peer),
        None => {}
    }
    Ok(peer)
}

fn checkout(session: &Session, ctx: &mut RequestCtx, peer: &mut HttpPeer, mut pending: PendingCheckout) {
    if ctx.exchange.as_ref().is_some_and(|exchange| exchange.body_is_here) {
        pending.set_together();
    }
    if !session.is_upgrade_req() && fast_path::is_request(session.req_header(), ctx.sent_whole) {
        pending.set_plain();
    }
    if let Some(attempt) = &mut ctx.attempt {
        attempt.checkout = Some(connector::offer(peer, pending));
    }
}

/// The attempt gets a fresh connection, which no other request gets afterwards.
fn leave_pool(peer: &mut HttpPeer) {
    peer.group_key = outside_the_pool();
    // An HTTP/2 connection would else stay open, waiting for other requests.
    peer.options.idle_timeout = Some(NOT_POOLED_IDLE);
}

async fn next(session: &mut Session, target: &RouteTarget, ctx: &mut RequestCtx) -> Result<Attempt> {
    // The first try follows the arrival at once: no second look at the clock.
    let first = ctx.tries == 0;
    let started = if first { ctx.arrived() } else { Moment::now() };
    let (now, queued) = (started.ms, ctx.queued);
    if first {
        target.upstream.budget().count_request(now);
    }
    if !ctx.method.is_idempotent() && target.upstream.settings().outlier.is_on() {
        ctx.tried.be_careful(now);
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

/// The ends of the client's connection, the client as forwarded headers have it: then its port is not known.
fn ends(ctx: &RequestCtx) -> Option<AddressPair> {
    let (conn, client) = (&ctx.exchange.as_ref()?.conn, ctx.client?);
    let port = if client == conn.peer_ip() { conn.peer.port() } else { 0 };
    Some(AddressPair { source: SocketAddr::new(client, port), destination: conn.local })
}

/// The peer's read timer is the tunnel's from the start, as Pingora has only one; the handshake's own is the listener's cut.
fn time_handshake(ctx: &RequestCtx) {
    let read = ctx.route.as_ref().and_then(|route| route.timeouts.read.limit());
    if let Some(exchange) = &ctx.exchange {
        exchange.cut_after(sooner(read, ctx.time_left()));
    }
}

/// No timer of an attempt goes beyond the request's deadline.
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

/// A key under which no connection is kept, so that the attempt gets a fresh one.
fn outside_the_pool() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    NEXT.fetch_add(1, Ordering::Relaxed)
}
