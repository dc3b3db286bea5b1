//! Send: the request as the backend gets it, header and body.

use bytes::{BufMut, Bytes, BytesMut};
use http::{HeaderMap, HeaderValue, Version, header};
use pingora::Result;
use pingora::http::RequestHeader;
use pingora_proxy::Session;

use super::ctx::RequestCtx;
use super::reject::refuse;
use super::{affinity_cookie, max_forwards};
use crate::config::schema::Protocol;
use crate::config::values::BackendAddress;
use crate::fault::Fault;
use crate::message::forwarded::Hop;
use crate::message::host::HostPolicy;
use crate::message::host::authority;
use crate::message::{header_case, hop_by_hop, via};
use crate::upstream::backend::Backend;

/// As many fields as a request gets on its way, and a few of the route's.
const FIELDS: usize = 10;

/// The header. Pingora has removed most hop-by-hop fields already (see `message::hop_by_hop`).
pub(super) fn header(session: &Session, request: &mut RequestHeader, ctx: &RequestCtx) -> Result<()> {
    let (Some(route), Some(target)) = (&ctx.route, &ctx.target) else { return Ok(()) };
    let protocol = target.upstream.settings().protocol;
    let client = session.req_header();
    // Pingora has removed nothing of it, and Connection is all that there may be to remove.
    let is_plain =
        ctx.attempt.as_ref().and_then(|attempt| attempt.lease.as_ref()).is_some_and(|lease| lease.is_plain());
    if ctx.version == Version::HTTP_2 && !ctx.sent_whole && hop_by_hop::expects_continue(&client.headers) {
        // The body is read from here on.
        ctx.exchange.iter().for_each(|exchange| exchange.send_continue());
    }
    header_case::edit_request(request, FIELDS, |headers| {
        hop_by_hop::request(headers, &client.headers, protocol != Protocol::Http1);
        forward(client, headers, ctx);
        via::add(headers, ctx.version);
        max_forwards::count(&ctx.method, headers);
        if is_plain {
            headers.remove(header::CONNECTION);
        }
    });
    if let Some(rewrite) = &route.rewrite {
        rewrite.apply(request, ctx.path_rules())?;
    }
    apply_host(&route.host, request, ctx)?;
    affinity_cookie::conceal(request, target)?;
    if ctx.version == Version::HTTP_2 && protocol == Protocol::Http1 {
        join_cookies(request)?;
    }
    route.request_headers.request(request)?;
    let alone = ctx.fresh_used || (target.upstream.wire().announces() && !ctx.is_upgrade);
    if alone && protocol == Protocol::Http1 {
        // The connection is outside the pool and serves no other request. HTTP/2 has no such field (RFC 9113 section 8.2.2).
        request.insert_header(header::CONNECTION, HeaderValue::from_static("close"))?;
    }
    Ok(())
}

fn forward(client: &RequestHeader, headers: &mut HeaderMap, ctx: &RequestCtx) {
    if let (Some(exchange), Some(address)) = (&ctx.exchange, ctx.client) {
        let of_target = client.uri.authority().and_then(|named| HeaderValue::from_str(named.as_str()).ok());
        let host = of_target.as_ref().or_else(|| client.headers.get(header::HOST));
        let conn = &exchange.conn;
        let hop =
            Hop { peer: conn.peer_ip(), peer_text: conn.peer_text(), client: address, scheme: conn.scheme(), host };
        if let Some(snapshot) = &ctx.snapshot {
            snapshot.forwarding.apply(headers, &hop);
        }
        // What the client itself sent under these names is gone by now.
        for (name, value) in conn.tls.iter().flat_map(|tls| tls.client()) {
            headers.insert(name, value.clone());
        }
    }
    if let Some(id) = &ctx.request_id {
        id.apply(headers);
    }
}

fn apply_host(policy: &HostPolicy, request: &mut RequestHeader, ctx: &RequestCtx) -> Result<()> {
    match (policy, &ctx.attempt) {
        // HTTP/1.0 may come without Host; the backend is spoken to in 1.1, which may not (RFC 9112 section 3.2).
        (HostPolicy::Keep, Some(attempt)) if authority(request).is_none() => {
            request.insert_header(header::HOST, host_of(&attempt.backend))
        }
        (HostPolicy::Keep, _) | (_, None) => Ok(()),
        (policy, Some(attempt)) => policy.apply(request, &host_of(&attempt.backend)),
    }
}

/// The Host that names a backend.
fn host_of(backend: &Backend) -> HeaderValue {
    let anonymous = HeaderValue::from_static("localhost");
    match &backend.address {
        BackendAddress::Unix(_) => anonymous,
        address => HeaderValue::try_from(address.to_string()).unwrap_or(anonymous),
    }
}

/// HTTP/2 clients may split Cookie; HTTP/1 has one field (RFC 9113 section 8.2.3).
fn join_cookies(request: &mut RequestHeader) -> Result<()> {
    if request.headers.get_all(header::COOKIE).iter().nth(1).is_none() {
        return Ok(());
    }
    let mut joined = BytesMut::new();
    for crumb in request.headers.get_all(header::COOKIE) {
        if !joined.is_empty() {
            joined.put_slice(b"; ");
        }
        joined.put_slice(crumb.as_bytes());
    }
    if let Ok(value) = HeaderValue::from_maybe_shared(joined.freeze()) {
        request.insert_header(header::COOKIE, value)?;
    }
    Ok(())
}

/// A piece of the body.
pub(super) fn body(body: &mut Option<Bytes>, end: bool, ctx: &mut RequestCtx) -> Result<()> {
    if end && body.as_ref().is_some_and(Bytes::is_empty) {
        // An empty last piece would end a chunked body twice, and the second end would be read as the start of the
        // next response's request on the kept connection (cloudflare/pingora issue 935).
        *body = None;
    }
    ctx.sent_whole = end;
    expect_body(ctx);
    let piece = body.as_ref().map_or(0, Bytes::len) as u64;
    if let Some(attempt) = &mut ctx.attempt {
        attempt.sent += piece;
        if end && attempt.ended {
            attempt.release();
        }
    }
    if ctx.body_limit().is_some_and(|limit| sent(ctx) > limit) {
        return Err(refuse(ctx, Fault::BodyTooLarge, None, "the body is over limits.body"));
    }
    if ctx.is_too_late() {
        return Err(refuse(ctx, Fault::Timeout, None, "timeouts.request is over"));
    }
    Ok(())
}

/// Pingora has no timer for the body of an HTTP/2 request, so the listener's cut is it. A body that waits for the backend
/// looks the same from here, so the longer of the two waits counts.
pub(super) fn expect_body(ctx: &RequestCtx) {
    let (Some(exchange), Some(write)) = (&ctx.exchange, ctx.write_limit()) else { return };
    if ctx.version == Version::HTTP_2 {
        let body = exchange.conn.settings.timeouts.body.limit();
        let longest = body.and_then(|body| write.map(|write| write.max(body)));
        exchange.cut_body_after(longest.filter(|_| !ctx.sent_whole));
    }
}

/// What this attempt has sent; a later attempt sends the body from its start again.
fn sent(ctx: &RequestCtx) -> u64 {
    ctx.attempt.as_ref().map_or(0, |attempt| attempt.sent)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn crumbs_of_a_cookie_are_joined_in_order() {
        let mut request = RequestHeader::build("GET", b"/", None).unwrap();
        for crumb in ["a=1", "b=2", "c=3"] {
            request.append_header("cookie", crumb).unwrap();
        }
        join_cookies(&mut request).unwrap();
        let all: Vec<_> = request.headers.get_all("cookie").iter().collect();
        assert_eq!(all, ["a=1; b=2; c=3"]);
    }
}
