//! The policies of a route that can refuse a request before a backend is picked, in execution order.
//!
//! A new policy is a step of [`apply`]. It never picks a backend and never writes to the client.

use http::header;
use pingora::Result;
use pingora::http::RequestHeader;
use pingora_proxy::Session;

use super::ctx::RequestCtx;
use super::rate_limits;
use super::reject::refuse;
use super::request_filter::DEADLINE_GRACE;
use crate::fault::Fault;

/// Applies the policies of the matched route, in this order: networks, request deadline, rate limits, body
/// limit.
pub(super) async fn apply(session: &mut Session, ctx: &mut RequestCtx) -> Result<()> {
    networks(ctx)?;
    deadline(ctx);
    rate_limits::apply(session, ctx).await?;
    body_limit(session, ctx)
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

fn deadline(ctx: &mut RequestCtx) {
    let Some(time) = ctx.route.as_ref().and_then(|route| route.timeouts.request.limit()) else { return };
    ctx.deadline = Some(ctx.started + time);
    if let Some(exchange) = &ctx.exchange {
        exchange.cut_after(Some(time + DEADLINE_GRACE));
    }
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
