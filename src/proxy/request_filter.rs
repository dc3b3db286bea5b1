//! Request checks and routing: identifies the client, validates the request and finds its route.
//!
//! It never chooses a backend.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use h2::ext::Protocol;
use http::uri::Authority;
use http::{HeaderValue, Method, Version, header};
use pingora::http::RequestHeader;
use pingora::{Error, Result};
use pingora_proxy::Session;

use super::ctx::{RequestCtx, RequestLine};
use super::reject::refuse;
use super::{credentials, failure_log, max_forwards, split_user, stream_kind};
use crate::config::schema;
use crate::cors::asked_method;
use crate::fault::Fault;
use crate::listener::{BadHead, Conn, WELL_KNOWN};
use crate::message::host::{HostPolicy, authority};
use crate::message::request_framing::check_path_and_query;
use crate::message::request_id::RequestId;
use crate::message::{connection_options, header_case, hop_by_hop, host, rewrite, via};
use crate::path;
use crate::route;
use crate::route::table::{MatchedParts, OnListener};
use crate::snapshot::RouteTarget;
use crate::telemetry::request_record::trace_id;

/// How long after a request's deadline the listener aborts it. Pingora's own timers fire earlier, so that a 504 can
/// still be sent.
pub(super) const DEADLINE_GRACE: Duration = Duration::from_millis(100);

/// Identifies the client and checks the request.
///
/// # Errors
/// The request is not valid, or its method is CONNECT.
pub(super) fn accept_request(session: &mut Session, ctx: &mut RequestCtx) -> Result<()> {
    ctx.in_flight = Some(ctx.recorder.metrics().request_started());
    let request = session.req_header();
    ctx.method = request.method.clone();
    ctx.version = request.version;
    if ctx.recorder.wants_line() {
        ctx.line = Some(Box::new(line(request)));
    }
    if ctx.version != Version::HTTP_2 {
        // The target is changed to its origin form here, because routes must match the path that backends receive.
        rewrite::origin_form(session.req_header_mut())
            .map_err(|_| refuse(ctx, Fault::BadRequest, None, "the target makes no origin form"))?;
    }
    if session.req_header().has_case() {
        header_case::request(session.req_header_mut());
    }
    identify(session.req_header(), ctx);
    let request = session.req_header();
    if request.headers.keys().any(|name| name == header::UPGRADE) {
        ctx.is_upgrade = asks_for_websocket(request);
        if !ctx.is_upgrade {
            // Weir supports no other protocol than WebSocket, so the field is removed. With the field, Pingora would
            // wait for a 101.
            session.req_header_mut().remove_header(&header::UPGRADE);
        }
    }
    connection_options::remove(session.req_header_mut());
    if ctx.version == Version::HTTP_10 {
        // An HTTP/1.0 client does not understand interim responses (RFC 9110 section 15.2).
        session.set_ignore_info_resp(true);
    }
    if ctx.method == Method::CONNECT {
        // The next bytes on the connection belong to the tunnel that the client requested. They are not requests.
        session.set_keepalive(None);
        return Err(refuse_connect(session.req_header(), ctx));
    }
    if ctx.version == Version::HTTP_2 {
        ctx.grpc = stream_kind::requested(session.req_header());
        check_http2(session, ctx)?;
    }
    check_slashes(session.req_header(), ctx)
}

/// Whether this is a WebSocket upgrade. Upgrade counts only if Connection names it, and never in HTTP/1.0 (RFC 9110
/// section 7.8). In HTTP/2 the listener has added it to an extended CONNECT: clients cannot send it (RFC 9113 section
/// 8.2.2).
fn asks_for_websocket(request: &RequestHeader) -> bool {
    let upgrade = request.headers.get(header::UPGRADE);
    matches!(request.version, Version::HTTP_11 | Version::HTTP_2)
        && upgrade.is_some_and(|protocol| protocol.as_bytes().eq_ignore_ascii_case(b"websocket"))
        && hop_by_hop::connection_names(&request.headers, b"upgrade")
}

/// The listener has already changed an extended CONNECT for a WebSocket.
fn refuse_connect(request: &RequestHeader, ctx: &mut RequestCtx) -> Box<Error> {
    match request.extensions.get::<Protocol>() {
        Some(_) => refuse(ctx, Fault::RefusedPolicy, Some(501), "an extended CONNECT for an unknown protocol"),
        None => refuse(ctx, Fault::RefusedPolicy, Some(405), "CONNECT is not served"),
    }
}

fn identify(request: &RequestHeader, ctx: &mut RequestCtx) {
    ctx.request_id = Some(RequestId::assign(&request.headers, super::unix_ms(ctx.started_at)));
    if let (Some(exchange), Some(snapshot)) = (&ctx.exchange, &ctx.snapshot) {
        let peer = exchange.conn.peer_ip();
        ctx.client = Some(snapshot.forwarding.client_address(peer, &request.headers));
    }
}

fn line(request: &RequestHeader) -> RequestLine {
    let field = |name| request.headers.get(name).cloned();
    let traceparent = request.headers.get("traceparent").map(HeaderValue::as_bytes);
    RequestLine {
        host: authority(request).map(<[u8]>::to_vec),
        path: request.raw_path().to_vec(),
        user_agent: field(header::USER_AGENT),
        referer: field(header::REFERER),
        trace_id: traceparent.and_then(trace_id).map(str::to_owned),
    }
}

/// Makes the checks for an HTTP/2 request that the listener makes for HTTP/1 before Pingora sees the request.
fn check_http2(session: &mut Session, ctx: &mut RequestCtx) -> Result<()> {
    let Some(conn) = ctx.exchange.as_ref().map(|exchange| Arc::clone(&exchange.conn)) else { return Ok(()) };
    let request = session.req_header();
    check_bounds(request, &conn, ctx)?;
    if request.raw_path() == b"*" && request.method != Method::OPTIONS {
        // `*` is a valid target for OPTIONS only (RFC 9112 section 3.2.4).
        return Err(refuse(ctx, Fault::BadRequest, None, "`*` is a target for OPTIONS only"));
    }
    if let Err(bad) = check_path_and_query(request.raw_path()) {
        encode_target(session.req_header_mut(), bad)
            .map_err(|bad| refuse(ctx, bad.fault, Some(bad.status), bad.reason))?;
    }
    if ctx.is_upgrade && session.req_header().headers.contains_key(header::CONTENT_LENGTH) {
        // The backend would take the first bytes of the tunnel for a body.
        return Err(refuse(ctx, Fault::BadRequest, None, "an extended CONNECT with Content-Length"));
    }
    if let Some(reason) = unclear(session.req_header()) {
        return Err(refuse(ctx, Fault::BadRequest, None, reason));
    }
    match host::requested(session.req_header()) {
        Some(_) => Ok(()),
        None => Err(refuse(ctx, Fault::BadRequest, None, "no valid :authority or Host")),
    }
}

/// Why two readers could understand an HTTP/2 request in different ways. `None` if they cannot.
fn unclear(request: &RequestHeader) -> Option<&'static str> {
    let headers = &request.headers;
    let several = |name| headers.get_all(name).iter().nth(1).is_some();
    if several(header::CONTENT_LENGTH) {
        return Some("more than one Content-Length");
    }
    let (Some(host), authority) = (headers.get(header::HOST), request.uri.authority()) else { return None };
    if several(header::HOST) {
        return Some("more than one Host");
    }
    // RFC 9113 section 8.3.1.
    authority.filter(|authority| *host != authority.as_str()).map(|_| "Host differs from :authority")
}

/// Percent-encodes unusual bytes, as the listener does for HTTP/1. `bad` is returned if the target has no such bytes,
/// or is still not valid afterwards.
#[cold]
fn encode_target(request: &mut RequestHeader, bad: BadHead) -> std::result::Result<(), BadHead> {
    let Cow::Owned(encoded) = path::encode_unusual(request.raw_path()) else { return Err(bad) };
    check_path_and_query(&encoded)?;
    let target = std::str::from_utf8(&encoded).map_err(|_| bad)?;
    rewrite::set_target(request, target).map_err(|_| bad)
}

fn check_slashes(request: &RequestHeader, ctx: &mut RequestCtx) -> Result<()> {
    let rejects = |conn: &Conn| conn.settings.paths.rejects_encoded_slash();
    if ctx.exchange.as_ref().is_some_and(|exchange| rejects(&exchange.conn))
        && path::has_encoded_slash(request.uri.path())
    {
        return Err(refuse(ctx, Fault::BadRequest, None, "an encoded slash in the path"));
    }
    Ok(())
}

fn check_bounds(request: &RequestHeader, conn: &Conn, ctx: &mut RequestCtx) -> Result<()> {
    if request.raw_path().len() > conn.settings.uri_bytes {
        return Err(refuse(ctx, Fault::HeaderTooLarge, Some(414), "request target longer than limits.uri_bytes"));
    }
    if fields(request) > conn.settings.headers {
        return Err(refuse(ctx, Fault::HeaderTooLarge, None, "more header fields than limits.headers"));
    }
    Ok(())
}

/// The number of fields that the same request would have over HTTP/1. The authority counts as one Host field, and all
/// Cookie fields count as one (RFC 9113 section 8.2.3).
fn fields(request: &RequestHeader) -> usize {
    let headers = &request.headers;
    let host = request.uri.authority().is_some() && !headers.contains_key(header::HOST);
    let cookies = headers.get_all(header::COOKIE).iter().count();
    headers.len() + usize::from(host) - cookies.saturating_sub(1)
}

/// Whether the request is an ACME HTTP-01 validation of one of Weir's challenges. The answer has priority over every
/// configured route and over a redirect to https.
pub(super) async fn is_challenge(session: &Session, ctx: &mut RequestCtx) -> bool {
    let request = session.req_header();
    let path = request.uri.path();
    let Some(exchange) = ctx.exchange.as_ref().filter(|_| path.starts_with(WELL_KNOWN)) else { return false };
    if request.method == Method::GET && exchange.conn.tls.is_none() && !ctx.is_extended_connect() {
        // Boxed. Otherwise the state of this future would be a part of every request's future.
        ctx.challenge = Box::pin(exchange.conn.settings.challenges.at_path(path)).await.map(Into::into);
    }
    ctx.challenge.is_some()
}

/// Finds the route of the request.
///
/// It leaves the route empty in two cases. Then `direct_response::own_action` answers the request.
/// - The listener redirects to https, and no route that names the listener matches.
/// - The request is `OPTIONS *`, and no route matches.
///
/// # Errors
/// No route matches, the certificate does not cover the host, the request loops, or the upstream's protocol cannot
/// carry it.
pub(super) fn route(session: &mut Session, ctx: &mut RequestCtx) -> Result<()> {
    let on = listener(ctx);
    if on.redirects && on.name.is_none() {
        return Ok(());
    }
    let request = session.req_header();
    let host = authority(request).and_then(route::host::normalise);
    let tls = ctx.exchange.as_ref().and_then(|exchange| exchange.conn.tls.as_ref());
    if host.as_deref().is_some_and(|host| tls.is_some_and(|tls| !tls.covers(host))) {
        // HTTP/2 clients coalesce connections, so the client may send requests for that host here too (RFC 9110 section
        // 15.5.20).
        return Err(refuse(ctx, Fault::RefusedPolicy, Some(421), "the certificate does not cover this host"));
    }
    let path = path::normalise(request.uri.path(), ctx.path_rules());
    let parts = MatchedParts { headers: &request.headers, query: request.uri.query(), client: ctx.client };
    let find = |method: &Method| {
        let snapshot = ctx.snapshot.as_ref()?;
        snapshot.routes.find(on, host.as_deref(), &path, method, parts).cloned()
    };
    // A preflight asks about the request that follows, so it takes the route of that request.
    let asked = asked_method(&request.method, &request.headers);
    let asked = asked.and_then(|method| find(&method)).filter(|route| route.cors.is_some());
    let Some(route) = asked.or_else(|| find(&request.method)) else {
        if on.redirects || max_forwards::is_about_the_server(session, ctx) {
            // `direct_response::own_action` answers it.
            return Ok(());
        }
        return Err(refuse(ctx, Fault::NoRoute, None, "no route matches"));
    };
    ctx.target = split_user::target(&route, session.req_header(), ctx);
    ctx.route = Some(route);
    credentials::hide_from_log(ctx);
    if ctx.target.is_some() && via::is_loop(&session.req_header().headers) {
        failure_log::is_loop(ctx);
        return Err(refuse(ctx, Fault::Loop, None, "the request has returned to this process too often"));
    }
    let speaks_http1 = |target: &Arc<RouteTarget>| target.upstream.settings().protocol == schema::Protocol::Http1;
    if ctx.target.as_ref().is_none_or(speaks_http1) {
        return Ok(());
    }
    if ctx.is_upgrade {
        // A WebSocket to an HTTP/2 backend needs Extended CONNECT (RFC 8441), which Weir does not send. Without it the
        // backend would get a different request.
        return Err(refuse(ctx, Fault::RefusedPolicy, Some(501), "a WebSocket, and the upstream speaks HTTP/2"));
    }
    let keeps_host = ctx.route.as_ref().is_some_and(|route| route.host == HostPolicy::Keep);
    if keeps_host && !makes_authority(session.req_header()) {
        // Otherwise the h2 crate would refuse it later, and that would look like a fault of the backend.
        return Err(refuse(ctx, Fault::BadRequest, None, "a Host that cannot be an :authority"));
    }
    Ok(())
}

/// Whether the requested host can be an `:authority`. The `http` crate accepts no percent-encoded octets in an
/// authority.
fn makes_authority(request: &RequestHeader) -> bool {
    authority(request).is_none_or(|host| Authority::try_from(host).is_ok())
}

/// The listener that accepted the connection. Its name is looked up only if a route names listeners.
fn listener(ctx: &RequestCtx) -> OnListener<'_> {
    let Some(exchange) = &ctx.exchange else { return OnListener::default() };
    let conn = &*exchange.conn;
    // A listener that was removed from the configuration keeps its last name.
    let snapshot = ctx.snapshot.as_ref().filter(|snapshot| snapshot.routes.names_listeners());
    let name = snapshot.map(|snapshot| snapshot.listeners.get(&conn.settings.key).unwrap_or(&conn.listener));
    OnListener { name, redirects: conn.settings.redirect_https.is_some() }
}
