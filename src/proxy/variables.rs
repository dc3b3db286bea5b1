//! The values of variables such as `{client}` for the request of a context.

use pingora::http::RequestHeader;

use super::ctx::RequestCtx;
use crate::message::variables::RequestValues;

/// The values. `request` is the header as the client sent it.
pub(super) fn values<'a>(request: &'a RequestHeader, ctx: &'a RequestCtx) -> RequestValues<'a> {
    let conn = ctx.exchange.as_ref().map(|exchange| &*exchange.conn);
    let tls = conn.and_then(|conn| conn.tls.as_ref());
    RequestValues {
        client: ctx.client,
        request_id: ctx.request_id.as_ref().map(|id| id.as_str()),
        route: ctx.route_name(),
        user: ctx.access.as_ref().and_then(|access| access.identity.as_ref()).map(|identity| &*identity.name),
        tls_version: tls.and_then(|tls| tls.version()),
        tls_sni: tls.and_then(|tls| tls.server_name()),
        time: Some(ctx.started_at),
        ..RequestValues::of(request, conn.map_or("http", |conn| conn.scheme()))
    }
}
