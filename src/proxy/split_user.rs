//! The upstream of a request, by its user where the split is sticky, and the cookie that makes a user known.

use std::net::IpAddr;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::{HeaderValue, header};
use pingora::http::{RequestHeader, ResponseHeader};
use pingora::{Error, ErrorType, Result};
use pingora_proxy::Session;

use super::affinity_cookie::is_by_tls;
use super::ctx::RequestCtx;
use crate::route::action::{Action, CompiledSplitKey, Split, split_hash};
use crate::snapshot::{Route, RouteTarget};

/// The upstream for the request. `None` if the route has none.
pub(super) fn target(route: &Route, request: &RequestHeader, ctx: &mut RequestCtx) -> Option<Arc<RouteTarget>> {
    match &route.action {
        Action::Upstream(target) => Some(Arc::clone(target)),
        Action::Split(split) => Some(Arc::clone(of_user(split, request, ctx))),
        Action::Redirect(_) | Action::Respond(_) => None,
    }
}

fn of_user<'s>(
    split: &'s Split<Arc<RouteTarget>>,
    request: &RequestHeader,
    ctx: &mut RequestCtx,
) -> &'s Arc<RouteTarget> {
    let Some(by) = split.by() else { return split.pick() };
    match key(by, request, ctx.client) {
        Some(key) => split.pick_for(key),
        None => match by {
            CompiledSplitKey::Cookie { ttl: Some(_), .. } => {
                let value = URL_SAFE_NO_PAD.encode(fastrand::u128(..).to_le_bytes());
                let picked = split.pick_for(split_hash(value.as_bytes()));
                ctx.split_cookie = Some(value.into());
                picked
            }
            _ => split.pick(),
        },
    }
}

/// The key of the user of this request.
pub(crate) fn key(by: &CompiledSplitKey, request: &RequestHeader, client: Option<IpAddr>) -> Option<u64> {
    by.of(&request.headers, client)
}

/// Sets the cookie of a user who has none yet.
pub(super) fn set_cookie(session: &Session, response: &mut ResponseHeader, ctx: &RequestCtx) -> Result<()> {
    let (Some(value), Some(route)) = (&ctx.split_cookie, &ctx.route) else { return Ok(()) };
    let by = route.action.split().and_then(|split| split.by());
    let Some(CompiledSplitKey::Cookie { name, ttl: Some(ttl) }) = by else { return Ok(()) };
    let secure = if is_by_tls(session, ctx) { "; Secure" } else { "" };
    let text = format!("{name}={value}; Path=/; Max-Age={}; HttpOnly; SameSite=Lax{secure}", ttl.as_secs());
    let written = HeaderValue::from_str(&text)
        .map_err(|error| Error::because(ErrorType::InternalError, "a cookie that is no field", error))?;
    response.append_header(header::SET_COOKIE, written)?;
    Ok(())
}
