//! Affinity cookie of a request: read when a backend is picked, removed from the backend's request, set on the
//! response.
//!
//! It does not know the format of the cookie's value: see `upstream::sticky`.

use std::time::SystemTime;

use http::{HeaderValue, header};
use pingora::http::{RequestHeader, ResponseHeader};
use pingora::{Error, ErrorType, Result};
use pingora_proxy::Session;

use super::ctx::RequestCtx;
use super::unix_ms;
use crate::message::cookie;
use crate::snapshot::RouteTarget;
use crate::upstream::sticky::{BackendToken, CookieValue};

/// The backend that the client's cookie names.
pub(super) fn named(session: &Session, target: &RouteTarget, ctx: &mut RequestCtx) -> Option<BackendToken> {
    let sticky = target.upstream.sticky()?;
    if ctx.tries == 0 {
        let values = cookie::values(&session.req_header().headers, sticky.cookie().as_bytes());
        ctx.affinity.seen = sticky.read(values, unix_ms(ctx.started_at) / 1_000);
    }
    ctx.affinity.seen.map(|seen| seen.token)
}

/// Removes the affinity cookie from the request, because it is between the client and Weir only.
pub(super) fn conceal(request: &mut RequestHeader, target: &RouteTarget) -> Result<()> {
    match target.upstream.sticky() {
        Some(sticky) => cookie::remove(request, sticky.cookie().as_bytes()),
        None => Ok(()),
    }
}

/// Adds the cookie that names the backend of this response, unless the client has the same cookie already.
pub(super) fn reveal(session: &Session, response: &mut ResponseHeader, ctx: &RequestCtx) -> Result<()> {
    let (Some(target), Some(attempt)) = (&ctx.target, &ctx.attempt) else { return Ok(()) };
    let (Some(sticky), Some(answers)) = (target.upstream.sticky(), attempt.backend.token) else { return Ok(()) };
    let token = ctx.affinity.seen.filter(|_| ctx.affinity.holds).map_or(answers, |seen| seen.token);
    if ctx.affinity.seen == Some(CookieValue { token, fresh: true }) {
        return Ok(());
    }
    let headers = &session.req_header().headers;
    let cookies = cookie::values(headers, sticky.cookie().as_bytes());
    let by_tls = is_by_tls(session, ctx);
    let written = sticky.write(token, cookies, unix_ms(SystemTime::now()) / 1_000, by_tls);
    let line = written.map_err(|error| Error::because(ErrorType::InternalError, "a cookie's line", error))?;
    response.append_header(header::SET_COOKIE, line)?;
    // A shared cache must not give the cookie of one client to others (RFC 9111 sections 5.2.2.7 and 7.3).
    response.append_header(header::CACHE_CONTROL, HeaderValue::from_static("private=\"set-cookie\""))?;
    Ok(())
}

/// Whether the client uses TLS, towards Weir or towards a trusted proxy.
pub(super) fn is_by_tls(session: &Session, ctx: &RequestCtx) -> bool {
    ctx.exchange.as_ref().is_some_and(|exchange| {
        let (conn, headers) = (&exchange.conn, &session.req_header().headers);
        let says_https = || ctx.snapshot.as_ref().is_some_and(|s| s.forwarding.says_https(conn.peer_ip(), headers));
        conn.tls.is_some() || says_https()
    })
}
