//! The request to the backend: its header and its body.

use bytes::{BufMut, Bytes, BytesMut};
use http::{HeaderMap, HeaderValue, Version, header};
use pingora::Result;
use pingora::http::RequestHeader;
use pingora_proxy::Session;

use super::ctx::RequestCtx;
use super::reject::refuse;
use super::{affinity_cookie, max_forwards, response_cost};
use crate::config::schema::Protocol;
use crate::config::values::BackendAddress;
use crate::fault::Fault;
use crate::message::forwarded::Hop;
use crate::message::host::HostPolicy;
use crate::message::host::authority;
use crate::message::{header_case, hop_by_hop, via};
use crate::upstream::backend::Backend;

/// The number of header fields to reserve for a request: Weir's own, and a few of the route's.
const EXTRA_FIELDS: usize = 10;

/// Edits the request header for the backend. Pingora has removed most hop-by-hop fields already (see
/// `message::hop_by_hop`).
pub(super) fn header(session: &Session, request: &mut RequestHeader, ctx: &RequestCtx) -> Result<()> {
    let (Some(route), Some(target)) = (&ctx.route, &ctx.target) else { return Ok(()) };
    let protocol = target.upstream.settings().protocol;
    let client = session.req_header();
    // Pingora has removed nothing from the header of a fast-path request. Connection is the only field that may have to
    // be removed.
    let is_plain =
        ctx.attempt.as_ref().and_then(|attempt| attempt.checkout.as_ref()).is_some_and(|checkout| checkout.is_plain());
    if ctx.version == Version::HTTP_2 && !ctx.sent_whole && hop_by_hop::expects_continue(&client.headers) {
        // From here on the request body is read, so the client gets its 100 (Continue).
        ctx.exchange.iter().for_each(|exchange| exchange.send_continue());
    }
    header_case::edit_request(request, EXTRA_FIELDS, |headers| {
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
    response_cost::ask_for_identity(request, ctx)?;
    let alone = ctx.fresh_used || (target.upstream.transport().announces() && !ctx.is_upgrade);
    if alone && protocol == Protocol::Http1 {
        // The connection is outside the pool and serves no other request. HTTP/2 has no such field (RFC 9113 section
        // 8.2.2).
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
        // The fields that the client itself sent under these names have been removed before.
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
        // An HTTP/1.0 request may have no Host. The backend gets HTTP/1.1, which requires it (RFC 9112 section 3.2).
        (HostPolicy::Keep, Some(attempt)) if authority(request).is_none() => {
            request.insert_header(header::HOST, host_of(&attempt.backend))
        }
        (HostPolicy::Keep, _) | (_, None) => Ok(()),
        (policy, Some(attempt)) => policy.apply(request, &host_of(&attempt.backend)),
    }
}

/// The Host value for a backend's own name. "localhost" for a Unix socket.
fn host_of(backend: &Backend) -> HeaderValue {
    let anonymous = HeaderValue::from_static("localhost");
    match &backend.address {
        BackendAddress::Unix(_) => anonymous,
        address => HeaderValue::try_from(address.to_string()).unwrap_or(anonymous),
    }
}

/// Joins the Cookie fields that an HTTP/2 client may split. HTTP/1 allows only one (RFC 9113 section 8.2.3).
fn join_cookies(request: &mut RequestHeader) -> Result<()> {
    if request.headers.get_all(header::COOKIE).iter().nth(1).is_none() {
        return Ok(());
    }
    let mut joined = BytesMut::new();
    for field in request.headers.get_all(header::COOKIE) {
        if !joined.is_empty() {
            joined.put_slice(b"; ");
        }
        joined.put_slice(field.as_bytes());
    }
    if let Ok(value) = HeaderValue::from_maybe_shared(joined.freeze()) {
        request.insert_header(header::COOKIE, value)?;
    }
    Ok(())
}

/// Processes a part of the request body.
///
/// # Errors
/// The body is over the route's limit, or the request's deadline has passed.
pub(super) fn body(body: &mut Option<Bytes>, end: bool, ctx: &mut RequestCtx) -> Result<()> {
    if end && body.as_ref().is_some_and(Bytes::is_empty) {
        // An empty last part would end a chunked body twice. The backend would read the second end as the start of the
        // next request on the pooled connection (cloudflare/pingora issue 935).
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

/// Sets the listener's deadline for the next body bytes of an HTTP/2 request, because Pingora has no timer for them.
/// The wait may also be for a backend that accepts no bytes. So the longer of the two timeouts applies.
pub(super) fn expect_body(ctx: &RequestCtx) {
    let (Some(exchange), Some(write)) = (&ctx.exchange, ctx.write_limit()) else { return };
    if ctx.version == Version::HTTP_2 {
        let body = exchange.conn.settings.timeouts.body.limit();
        let longest = body.and_then(|body| write.map(|write| write.max(body)));
        exchange.cut_body_after(longest.filter(|_| !ctx.sent_whole));
    }
}

/// The body bytes that this attempt has sent. A later attempt sends the body again from its start.
fn sent(ctx: &RequestCtx) -> u64 {
    ctx.attempt.as_ref().map_or(0, |attempt| attempt.sent)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn cookie_fields_are_joined_in_order() {
        let mut request = RequestHeader::build("GET", b"/", None).unwrap();
        for field in ["a=1", "b=2", "c=3"] {
            request.append_header("cookie", field).unwrap();
        }
        join_cookies(&mut request).unwrap();
        let all: Vec<_> = request.headers.get_all("cookie").iter().collect();
        assert_eq!(all, ["a=1; b=2; c=3"]);
    }
}
