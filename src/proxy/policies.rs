//! The policies of a route that can refuse a request before a backend is picked, in execution order.
//!
//! A new policy is a step of [`apply`]. It never picks a backend and never writes to the client.

use http::header;
use pingora::Result;
use pingora::http::RequestHeader;
use pingora_proxy::Session;

use super::ctx::RequestCtx;
use super::reject::refuse;
use super::request_filter::DEADLINE_GRACE;
use crate::fault::Fault;

/// Applies the policies of the matched route, in this order: body limit, request deadline.
pub(super) fn apply(session: &mut Session, ctx: &mut RequestCtx) -> Result<()> {
    let Some(route) = &ctx.route else { return Ok(()) };
    let (body, time) = (route.body_limit, route.timeouts.request.limit());
    if let Some(limit) = body
        && announced(session.req_header()).is_some_and(|length| length > limit)
    {
        return Err(refuse(ctx, Fault::BodyTooLarge, None, "Content-Length over limits.body"));
    }
    if let Some(time) = time {
        ctx.deadline = Some(ctx.started + time);
        if let Some(exchange) = &ctx.exchange {
            exchange.cut_after(Some(time + DEADLINE_GRACE));
        }
    }
    Ok(())
}

fn announced(request: &RequestHeader) -> Option<u64> {
    request.headers.get(header::CONTENT_LENGTH)?.to_str().ok()?.trim().parse().ok()
}
