//! The policies of a route that can refuse a request before a backend is picked, in execution order.
//!
//! A new policy is a step of [`apply`]. It never picks a backend and never writes to the client.

use std::sync::Arc;
use std::time::Duration;

use http::header;
use pingora::Result;
use pingora::http::RequestHeader;
use pingora_proxy::Session;

use super::access;
use super::cors;
use super::ctx::RequestCtx;
use super::grpc_call::GrpcCall;
use super::maintenance;
use super::rate_limits::{self, LimitStage};
use super::reject::refuse;
use super::request_filter::DEADLINE_GRACE;
use crate::fault::Fault;
use crate::message::grpc_timeout;
use crate::pool::connection_pool::ConnectionPool;
use crate::snapshot::Route;

/// Applies the policies of the matched route, each once, in this order: networks, maintenance, CORS preflight, request
/// deadline, rate limits without identity, body limit, access, rate limits by identity. Returns whether a policy has
/// answered the request. `direct_response` answers the preflight.
///
/// # Errors
/// A policy refuses the request.
pub(super) async fn apply(session: &mut Session, ctx: &mut RequestCtx, pool: &Arc<ConnectionPool>) -> Result<bool> {
    networks(ctx)?;
    maintenance::check(ctx)?;
    if cors::is_preflight(session, ctx) {
        return Ok(false);
    }
    deadline(session, ctx);
    rate_limits::apply(session, ctx, LimitStage::BeforeAccess).await?;
    body_limit(session, ctx)?;
    if access::apply(session, ctx, pool).await? {
        return Ok(true);
    }
    rate_limits::apply(session, ctx, LimitStage::AfterAccess).await?;
    Ok(false)
}

/// Checks the client's address by `allow` and `deny`: first those of the listener, then those of the route.
fn networks(ctx: &mut RequestCtx) -> Result<()> {
    let (Some(client), Some(snapshot)) = (ctx.client, &ctx.snapshot) else { return Ok(()) };
    let key = ctx.exchange.as_ref().map(|exchange| &exchange.conn.settings.key);
    if key.and_then(|key| snapshot.listener_filters.get(key)).is_some_and(|filter| filter.refuses(client).is_some()) {
        return Err(refuse(ctx, Fault::RefusedPolicy, None, "the client's network, by the listener"));
    }
    let of_route = ctx.route.as_ref().and_then(|route| route.clients.as_ref());
    if of_route.is_some_and(|filter| filter.refuses(client).is_some()) {
        return Err(refuse(ctx, Fault::RefusedPolicy, None, "the client's network, by the route"));
    }
    Ok(())
}

fn deadline(session: &Session, ctx: &mut RequestCtx) {
    let Some(route) = &ctx.route else { return };
    let own = route.timeouts.request.limit();
    let of_client = if ctx.grpc == GrpcCall::No { None } else { grpc_timeout(session.req_header(), route) };
    let Some(time) = own.into_iter().chain(of_client).min() else { return };
    // A client can ask for more time than an instant can hold.
    let Some(deadline) = ctx.started.checked_add(time) else { return };
    ctx.deadline = Some(deadline);
    if let Some(exchange) = &ctx.exchange {
        exchange.cut_after(Some(time + DEADLINE_GRACE));
    }
}

/// The time that a client of gRPC allows for its call. It can only shorten `timeouts.request`.
fn grpc_timeout(request: &RequestHeader, route: &Route) -> Option<Duration> {
    grpc_timeout::of(&request.headers).unwrap_or_else(|_malformed| {
        route.meters.count_bad_grpc_timeout();
        None
    })
}

fn body_limit(session: &mut Session, ctx: &mut RequestCtx) -> Result<()> {
    let Some(route) = &ctx.route else { return Ok(()) };
    if let Some(limit) = route.body_limit
        && announced(session.req_header()).is_some_and(|length| length > limit)
    {
        return Err(refuse(ctx, Fault::BodyTooLarge, None, "Content-Length over limits.body"));
    }
    Ok(())
}

fn announced(request: &RequestHeader) -> Option<u64> {
    request.headers.get(header::CONTENT_LENGTH)?.to_str().ok()?.trim().parse().ok()
}
