//! Pick: a backend for the next attempt, its in-flight guard, and the peer that tells Pingora how to reach it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use pingora::Result;
use pingora::upstreams::peer::HttpPeer;
use pingora_proxy::Session;

use super::arrive::refuse;
use super::attempt::{Attempt, Moment};
use super::ctx::RequestCtx;
use super::{hash_key, queue, sticky};
use crate::fault::Fault;
use crate::proxy_protocol::Ends;
use crate::snapshot::Target;
use crate::telemetry::vitals::{Mark, Why};
use crate::upstream::Wish;
use crate::upstream::connect::Connect;
use crate::upstream::connector;
use crate::upstream::kept::Kept;
use crate::upstream::plain;

/// The shortest wait that is worth starting; Pingora takes zero for none.
const SHORTEST: Duration = Duration::from_millis(1);

/// A backend for the next attempt.
pub(super) async fn pick(session: &mut Session, ctx: &mut RequestCtx, kept: &Arc<Kept>) -> Result<Box<HttpPeer>> {
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
    let fresh = ctx.fresh.take().filter(|(backend, _)| backend.vitals.mark() == Mark::Ready);
    ctx.fresh_used = fresh.is_some();
    let attempt = match fresh {
        Some((backend, guard)) => {
            let watching = target.upstream.watch(&backend);
            Attempt::new(backend, guard, Why::FreshConnection, Moment::now()).watched(watching)
        }
        None => {
            queue::pause(session, ctx).await?;
            next(session, &target, ctx).await?
        }
    };
    let tunnel = session.is_upgrade_req();
    let template = if tunnel { &target.tunnel } else { &target.peer };
    let grant = template.lease(&attempt.backend, kept, ctx.time_left(), ctx.fresh_used, attempt.started());
    let peer = template.peer(&attempt.backend);
    ctx.attempt = Some(attempt);
    let Some(mut peer) = peer else {
        return Err(refuse(ctx, Fault::NoBackend, None, "the backend's name does not resolve"));
    };
    if tunnel {
        time_handshake(ctx);
    } else {
        shorten(&mut peer, ctx.time_left());
    }
    if target.upstream.wire().announces() {
        Connect::announce(&mut peer, ends(ctx), tunnel);
    }
    ctx.sent_whole = session.is_body_empty();
    if let (Some(mut grant), Some(attempt)) = (grant, &mut ctx.attempt) {
        if ctx.exchange.as_ref().is_some_and(|exchange| exchange.body_is_here) {
            grant.set_together();
        }
        if !tunnel && plain::is_request(session.req_header(), ctx.sent_whole) {
            grant.set_plain();
        }
        attempt.lease = Some(connector::offer(&mut peer, grant));
    } else if ctx.fresh_used || peer.options.custom_l4.is_some() {
        peer.group_key = outside_the_pool();
    }
    Ok(peer)
}

async fn next(session: &mut Session, target: &Target, ctx: &mut RequestCtx) -> Result<Attempt> {
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
    let named = sticky::named(session, target, ctx);
    let (watching, pick) = match target.upstream.pick_trial(&ctx.tried, now, named.as_ref()) {
        Some((pick, watching)) => (Some(watching), pick),
        None => {
            let hash = target.upstream.settings().hash.as_ref();
            let key = hash.and_then(|hash| hash_key::of(hash, session.req_header(), ctx.client));
            let pick = queue::pick(session, target, ctx, Wish { key, named }, now).await?;
            (target.upstream.watch(&pick.backend), pick)
        }
    };
    if pick.fail_open {
        target.meters.count_fail_open();
    }
    ctx.stay.picked(pick.why);
    ctx.tries = ctx.tries.saturating_add(1);
    ctx.tried.add(&pick.backend.vitals);
    let passed_over = if ctx.recorder.wants_line() { target.upstream.passed_over() } else { None };
    let started = if ctx.queued == queued { started } else { Moment::now() };
    let attempt = Attempt::new(pick.backend, pick.guard, pick.why, started);
    Ok(attempt.watched(watching).instead_of(passed_over))
}

/// The ends of the client's connection, the client as forwarded headers have it: then its port is not known.
fn ends(ctx: &RequestCtx) -> Option<Ends> {
    let (conn, client) = (&ctx.exchange.as_ref()?.conn, ctx.client?);
    let port = if client == conn.peer_ip() { conn.peer.port() } else { 0 };
    Some(Ends { source: SocketAddr::new(client, port), destination: conn.local })
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
        (Some(limit), Some(left)) => Some(limit.min(left).max(SHORTEST)),
        (limit, left) => limit.or(left).map(|wait| wait.max(SHORTEST)),
    }
}

/// A key under which no connection is kept, so that the attempt gets a fresh one.
fn outside_the_pool() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    NEXT.fetch_add(1, Ordering::Relaxed)
}
