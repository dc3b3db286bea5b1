//! The request to the backend: its header and its body.

use bytes::{BufMut, Bytes, BytesMut};
use http::{HeaderMap, HeaderValue, Version, header};
use pingora::http::RequestHeader;
use pingora::{Error, ErrorType, Result};
use pingora_proxy::Session;

use super::ctx::RequestCtx;
use super::reject::refuse;
use super::{affinity_cookie, max_forwards, response_cost, variables};
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
    let to_http1 = protocol == Protocol::Http1;
    if to_http1 {
        request.set_version(Version::HTTP_11);
    }
    let mut refused = None;
    header_case::edit_request(request, EXTRA_FIELDS, |headers| {
        if to_http1 || ctx.version != Version::HTTP_2 {
            refused = http1_fields(headers, client, to_http1 && ctx.is_upgrade).err();
        }
        hop_by_hop::request(headers, &client.headers, protocol != Protocol::Http1);
        forward(client, headers, ctx);
        via::add_to_request(headers, ctx.version);
        max_forwards::count(&ctx.method, headers);
        if to_http1 && !ctx.sent_whole && !headers.contains_key(header::CONTENT_LENGTH) {
            headers.insert(header::TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
        }
    });
    if let Some(reason) = refused {
        return Err(Error::explain(ErrorType::InvalidHTTPHeader, reason).into_down());
    }
    if let Some(rewrite) = &route.rewrite {
        rewrite.apply(request, ctx.path_rules())?;
    }
    apply_host(&route.host, request, ctx)?;
    affinity_cookie::conceal(request, target)?;
    if ctx.version == Version::HTTP_2 && to_http1 {
        join_cookies(request)?;
    }
    route.request_headers.request(request, || variables::values(client, ctx))?;
    if to_http1 && !request.headers.contains_key(header::HOST) {
        // HTTP/1.1 requires it (RFC 9112 section 3.2).
        let host = authority(client).and_then(|host| HeaderValue::from_bytes(host).ok());
        request.insert_header(header::HOST, host.unwrap_or(HeaderValue::from_static("")))?;
    }
    response_cost::ask_for_identity(request, ctx)?;
    let alone = ctx.fresh_used || target.upstream.transport().announces();
    // An upgrade takes the connection out of the pool, and Connection names it.
    if alone && !ctx.is_upgrade && protocol == Protocol::Http1 {
        // The connection is outside the pool and serves no other request. HTTP/2 has no such field (RFC 9113 section
        // 8.2.2).
        request.insert_header(header::CONNECTION, HeaderValue::from_static("close"))?;
    }
    Ok(())
}

/// Removes the hop-by-hop fields of HTTP/1, and takes Host from the target if that has an authority. Pingora does this
/// only for its own sessions.
fn http1_fields(
    headers: &mut HeaderMap,
    client: &RequestHeader,
    may_upgrade: bool,
) -> std::result::Result<(), &'static str> {
    hop_by_hop::to_http1(headers, may_upgrade)?;
    if let Some(authority) = client.uri.authority()
        && let Ok(host) = HeaderValue::from_str(authority.as_str())
    {
        headers.insert(header::HOST, host);
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
pub(super) fn join_cookies(request: &mut RequestHeader) -> Result<()> {
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
    let passed = pass_body(body, end, ctx);
    if passed.is_err() {
        // Pingora ignores the error until the response has come.
        let checkout = ctx.attempt.as_ref().and_then(|attempt| attempt.checkout.as_ref());
        checkout.iter().for_each(|checkout| checkout.abort());
    }
    passed
}

fn pass_body(body: &mut Option<Bytes>, end: bool, ctx: &mut RequestCtx) -> Result<()> {
    if end && body.as_ref().is_some_and(Bytes::is_empty) {
        // An empty last part would end a chunked body twice. The backend would read the second end as the start of the
        // next request on the pooled connection (cloudflare/pingora issue 935).
        *body = None;
    }
    ctx.sent_whole = end;
    let piece = body.as_ref().map_or(0, Bytes::len) as u64;
    if let Some(attempt) = &mut ctx.attempt {
        attempt.sent += piece;
        if end && attempt.ended {
            attempt.release();
        }
    }
    // The bytes of a tunnel are no body.
    let is_tunnel = ctx.begun == Some(101);
    if !is_tunnel && ctx.body_limit().is_some_and(|limit| sent(ctx) > limit) {
        return Err(refuse(ctx, Fault::BodyTooLarge, None, "the body is over limits.body"));
    }
    if ctx.is_too_late() {
        return Err(refuse(ctx, Fault::Timeout, None, "timeouts.request is over"));
    }
    Ok(())
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
