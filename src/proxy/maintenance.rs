//! Maintenance of a route: an operator switches it on and off at run time.

use std::time::Duration;

use pingora::Result;

use super::ctx::RequestCtx;
use super::reject::refuse;
use crate::fault::Fault;

/// Refuses the request while its route is in maintenance, unless the client is in `maintenance.allow`.
pub(super) fn check(ctx: &mut RequestCtx) -> Result<()> {
    match &ctx.route {
        Some(route) if route.meters.maintenance().is_on() => {}
        _ => return Ok(()),
    }
    if is_allowed(ctx) { Ok(()) } else { Err(refuse(ctx, Fault::Maintenance, None, "the route is in maintenance")) }
}

fn is_allowed(ctx: &RequestCtx) -> bool {
    let (Some(client), Some(route)) = (ctx.client, &ctx.route) else { return false };
    route.maintenance.allows(client)
}

/// The value of Retry-After, in seconds.
pub(super) fn retry_after(ctx: &RequestCtx) -> Option<u64> {
    ctx.route.as_ref().map(|route| route.maintenance.retry_after).map(|time: Duration| time.as_secs().max(1))
}
