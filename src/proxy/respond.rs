//! Answer: the backend's response on its way to the client, or our own.

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, StatusCode, Version, header};
use pingora::http::ResponseHeader;
use pingora::protocols::http::ServerSession;
use pingora::{Error, ErrorType, Result};
use pingora_proxy::{FailToProxy, Session};

use super::accept_request::DEADLINE_GRACE;
use super::classify;
use super::ctx::RequestCtx;
use super::fail::{has_begun, is_end_of_tunnel, may_try_again};
use super::failure_log;
use super::reject::refuse;
use super::write_response::{close_if_leaving, hsts, write};
use super::{affinity_cookie, max_forwards};
use crate::backend::labels::{Outcome, RetryReason};
use crate::fault::Fault;
use crate::lifecycle::Lifecycle;
use crate::message::error_response::{self, ErrorResponse};
use crate::message::{header_case, hop_by_hop, host, keep_alive, request_id, response_framing, via};
use crate::route::action::{Action, Redirect, Requested};
use crate::upstream::retry_policy::Failed;

/// As many fields as a response gets on its way, and a few of the route's.
const EXTRA_FIELDS: usize = 4;

/// Answers a route that needs no backend; false if it needs one.
pub(super) async fn own_action(session: &mut Session, ctx: &mut RequestCtx, lifecycle: &Lifecycle) -> Result<bool> {
    if let Some(challenge) = ctx.challenge.take() {
        return to_acme(session, ctx, lifecycle, challenge).await;
    }
    let redirect_https = ctx.exchange.as_ref().and_then(|exchange| exchange.conn.settings.redirect_https);
    if let Some(port) = redirect_https.filter(|_| ctx.route.is_none()) {
        if max_forwards::is_about_the_server(session, ctx) {
            return max_forwards::answer(session, ctx, lifecycle).await;
        }
        return to_https(session, ctx, lifecycle, port).await;
    }
    if ctx.target.is_some() {
        let is_last = max_forwards::is_last(session, ctx);
        return if is_last { max_forwards::answer(session, ctx, lifecycle).await } else { Ok(false) };
    }
    let about_the_server = max_forwards::is_about_the_server(session, ctx);
    let Some(route) = ctx.route.clone() else {
        return if about_the_server { max_forwards::answer(session, ctx, lifecycle).await } else { Ok(false) };
    };
    let (mut response, body) = match &route.action {
        Action::Upstream(_) | Action::Split(_) => return Ok(false),
        Action::Respond(respond) => (respond.header(), respond.body()),
        Action::Redirect(_) if about_the_server => return max_forwards::answer(session, ctx, lifecycle).await,
        Action::Redirect(redirect) => {
            let request = session.req_header();
            let host = host::requested(request);
            let scheme = ctx.exchange.as_ref().map_or("http", |exchange| exchange.conn.scheme());
            let requested = Requested { scheme, host, path: request.uri.path(), query: request.uri.query() };
            let Some(response) = redirect.response(&requested)? else {
                return Err(refuse(ctx, Fault::BadRequest, None, "the request makes no valid Location"));
            };
            (response, Bytes::new())
        }
    };
    if let Some(id) = &ctx.request_id {
        response.insert_header(&request_id::NAME, id.value())?;
    }
    if let Some(hsts) = hsts(ctx) {
        response.insert_header(header::STRICT_TRANSPORT_SECURITY, hsts)?;
    }
    route.response_headers.response(&mut response)?;
    close_if_leaving(session, ctx, lifecycle);
    write(session, response, body).await?;
    Ok(true)
}

/// RFC 8555 section 8.3.
async fn to_acme(
    session: &mut Session,
    ctx: &mut RequestCtx,
    lifecycle: &Lifecycle,
    challenge: Box<str>,
) -> Result<bool> {
    let mut response = ResponseHeader::build(200, Some(EXTRA_FIELDS))?;
    response.insert_header(header::CONTENT_TYPE, "application/octet-stream")?;
    response.insert_header(header::CONTENT_LENGTH, challenge.len())?;
    response.insert_header(header::CACHE_CONTROL, "no-store")?;
    close_if_leaving(session, ctx, lifecycle);
    write(session, response, Bytes::from(String::from(challenge))).await?;
    Ok(true)
}

/// The same address by https, method and body kept (RFC 9110 section 15.4.9).
async fn to_https(session: &mut Session, ctx: &mut RequestCtx, lifecycle: &Lifecycle, port: u16) -> Result<bool> {
    let request = session.req_header();
    let host = host::requested(request);
    let requested = Requested { scheme: "https", host, path: request.uri.path(), query: request.uri.query() };
    let Some(mut response) = Redirect::to_https(port).response(&requested)? else {
        return Err(refuse(ctx, Fault::BadRequest, None, "the request makes no valid Location"));
    };
    if let Some(id) = &ctx.request_id {
        response.insert_header(&request_id::NAME, id.value())?;
    }
    close_if_leaving(session, ctx, lifecycle);
    write(session, response, Bytes::new()).await?;
    Ok(true)
}

/// The response header as it came from the backend.
pub(super) fn arrived(session: &mut Session, response: &mut ResponseHeader, ctx: &mut RequestCtx) -> Result<()> {
    let checkout = ctx.attempt.as_ref().and_then(|attempt| attempt.checkout.as_ref());
    if let Some(whole) = checkout.and_then(|checkout| checkout.take_response()) {
        *response = *whole;
    }
    if let Err(why) = response_framing::check(response, session.is_upgrade_req()) {
        return Err(Error::explain(ErrorType::InvalidHTTPHeader, why).into_up());
    }
    let status = response.status.as_u16();
    if response.status.is_informational() && status != 101 {
        return Ok(());
    }
    if let Some(attempt) = &mut ctx.attempt {
        attempt.answered(status);
        if let (Version::HTTP_11 | Version::HTTP_10, Some(limit)) =
            (response.version, keep_alive::idle_limit(&response.headers))
        {
            attempt.limit_idle(limit);
        }
    }
    if status >= 500 {
        failure_log::server_error(ctx, status);
    }
    let through = ctx.sent_whole && is_bodiless(response, ctx);
    if status < 400 || asks_to_wait(response, ctx) || !may_try_again(session, ctx, Failed::Status(status)) {
        if let Some(attempt) = ctx.attempt.as_mut().filter(|_| through) {
            attempt.release();
        }
        return Ok(());
    }
    if let Some(attempt) = &ctx.attempt {
        attempt.backend.state.count_retry(RetryReason::Status(status));
    }
    ctx.end_attempt(Outcome::Ok, Some(RetryReason::Status(status)));
    let mut error = Error::explain(ErrorType::HTTPStatus(status), "worth another try");
    error.as_up();
    error.set_retry(true);
    Err(error)
}

/// Whether the backend wants to be left alone for a while and there is no other: then its word is the answer, Retry-After
/// and all. With another it is tried there at once, as nobody waits for it here.
fn asks_to_wait(response: &ResponseHeader, ctx: &RequestCtx) -> bool {
    let another = || ctx.target.as_ref().is_some_and(|target| target.upstream.has_another(&ctx.tried));
    response.headers.contains_key(header::RETRY_AFTER) && !another()
}

/// A piece of the response's body.
pub(super) fn body(body: &Option<Bytes>, end: bool, ctx: &mut RequestCtx) -> Result<()> {
    let piece = body.as_ref().map_or(0, Bytes::len) as u64;
    ctx.bytes_out += piece;
    if let Some(attempt) = &mut ctx.attempt {
        attempt.received += piece;
        attempt.ended |= end;
        if end && ctx.sent_whole {
            attempt.release();
        }
    }
    if ctx.is_too_late() { Err(refuse(ctx, Fault::Timeout, None, "timeouts.request is over")) } else { Ok(()) }
}

/// Whether nothing follows the header (RFC 9112 section 6.3).
fn is_bodiless(response: &ResponseHeader, ctx: &RequestCtx) -> bool {
    let empty = response.headers.get(header::CONTENT_LENGTH).is_some_and(|length| length == "0");
    empty || ctx.method == Method::HEAD || matches!(response.status.as_u16(), 204 | 304)
}

/// The response header as the client gets it.
pub(super) fn header(
    session: &mut Session,
    response: &mut ResponseHeader,
    ctx: &mut RequestCtx,
    lifecycle: &Lifecycle,
) -> Result<()> {
    if response.status == 101 {
        response.remove_header(&header::CONTENT_LENGTH);
        response.remove_header(&header::TRANSFER_ENCODING);
        affinity_cookie::reveal(session, response, ctx)?;
        open_tunnel(session, ctx);
        return Ok(());
    }
    let (status, received) = (response.status, response.version);
    header_case::edit_response(response, EXTRA_FIELDS, |headers| {
        let upgrade = upgrade_required(headers, status, ctx);
        let trailers_pass = ctx.version == Version::HTTP_2 && received == Version::HTTP_2;
        hop_by_hop::response(headers, status, trailers_pass);
        for protocols in upgrade {
            headers.append(header::UPGRADE, protocols);
        }
        response_framing::bare(headers, status);
        if !status.is_informational() {
            ours(headers, received, ctx);
        }
    });
    if status.is_informational() {
        return Ok(());
    }
    ctx.exchange.iter().for_each(|exchange| exchange.begin_response());
    if session.is_upgrade_req() {
        stay_http(ctx);
    }
    if matches!(response.version, Version::HTTP_09 | Version::HTTP_10) {
        // What we send is in our own version, whatever the backend speaks (RFC 9110 section 6.2).
        response.set_version(Version::HTTP_11);
    }
    if let Some(route) = &ctx.route {
        route.response_headers.response(response)?;
    }
    if ctx.version == Version::HTTP_10
        && !response.headers.contains_key(header::CONTENT_LENGTH)
        && !is_bodiless(response, ctx)
    {
        // The end of the connection is the end of the body: to be said, as 1.0 has no other way (RFC 9112 section 9.3).
        session.set_keepalive(None);
    }
    affinity_cookie::reveal(session, response, ctx)?;
    ctx.begun = Some(response.status.as_u16());
    close_if_leaving(session, ctx, lifecycle);
    if may_last(response, ctx) {
        ctx.detach_route();
    }
    Ok(())
}

/// What 426 says of the protocol to switch to, which it must say (RFC 9110 section 15.5.22). HTTP/2 has no such field.
fn upgrade_required(headers: &HeaderMap, status: StatusCode, ctx: &RequestCtx) -> Vec<HeaderValue> {
    if status != StatusCode::UPGRADE_REQUIRED || ctx.version == Version::HTTP_2 {
        return Vec::new();
    }
    let protocols: Vec<_> = headers.get_all(header::UPGRADE).iter().cloned().collect();
    if let Some(exchange) = ctx.exchange.as_ref().filter(|_| !protocols.is_empty()) {
        exchange.conn.add_upgrade_option();
    }
    protocols
}

/// A longer response may take its time.
const LONG_RESPONSE_BYTES: u64 = 1 << 20;

/// Whether the response is long, or of unknown length: a stream of events or of messages may take hours.
fn may_last(response: &ResponseHeader, ctx: &RequestCtx) -> bool {
    // Cheaper than a look-up, which hashes the name: most responses have few fields.
    match response.headers.iter().find(|(name, _)| *name == header::CONTENT_LENGTH) {
        Some((_, length)) => length
            .to_str()
            .ok()
            .and_then(|length| length.parse().ok())
            .is_none_or(|length: u64| length > LONG_RESPONSE_BYTES),
        None => !is_bodiless(response, ctx),
    }
}

/// Writes the header of an HTTP/2 backend's response to a 1.0 client if the response has no length: the end of the connection
/// ends the body. Pingora would announce chunks after all filters, and send them (RFC 9112 section 6.1). It writes no second header.
pub(super) async fn to_old_client(session: &mut Session, response: &ResponseHeader, ctx: &RequestCtx) -> Result<()> {
    let final_one = !response.status.is_informational() && !is_bodiless(response, ctx);
    if !final_one || response.headers.contains_key(header::CONTENT_LENGTH) {
        return Ok(());
    }
    let mut response = response.clone();
    response.set_version(Version::HTTP_11);
    session.as_downstream_mut().write_response_header(Box::new(response)).await.map_err(|error| error.into_down())
}

/// What a final response gets on its way.
fn ours(headers: &mut HeaderMap, received: Version, ctx: &RequestCtx) {
    via::add(headers, received);
    if ctx.version == Version::HTTP_10 {
        // A 1.0 client knows no chunks (RFC 9112 section 6.1); the end of the connection ends the body.
        headers.remove(header::TRANSFER_ENCODING);
    }
    if let Some(id) = &ctx.request_id {
        id.apply(headers);
    }
    if let Some(hsts) = hsts(ctx) {
        headers.insert(header::STRICT_TRANSPORT_SECURITY, hsts.clone());
    }
}

/// The upgrade was declined: this is a response like others, which takes its time; the handshake's cut is off.
fn stay_http(ctx: &RequestCtx) {
    if let Some(exchange) = &ctx.exchange {
        exchange.cut_after(ctx.time_left().map(|left| left + DEADLINE_GRACE));
    }
}

/// From here on bytes pass both ways, under the tunnel's timer only.
fn open_tunnel(session: &mut Session, ctx: &mut RequestCtx) {
    ctx.deadline = None;
    ctx.begun = Some(101);
    if let Some(exchange) = &ctx.exchange {
        exchange.conn.set_tunnel();
        exchange.cut_after(None);
    }
    if let Some(route) = &ctx.route {
        session.set_read_timeout(route.timeouts.tunnel.limit());
    }
    if let Some(attempt) = &mut ctx.attempt {
        attempt.became_tunnel();
    }
    ctx.detach_route();
}

/// Our own reply for a fault, if nothing was sent yet.
pub(super) async fn fault(
    session: &mut Session,
    error: &Error,
    ctx: &mut RequestCtx,
    lifecycle: &Lifecycle,
) -> FailToProxy {
    if is_end_of_tunnel(ctx, error) {
        return FailToProxy { error_code: 101, can_reuse_downstream: false };
    }
    let (fault, status) = fault_of(error, ctx);
    (ctx.fault, ctx.status) = (Some(fault), Some(status));
    if has_begun(session) || fault == Fault::ClientAbort {
        return FailToProxy { error_code: status, can_reuse_downstream: false };
    }
    close_if_leaving(session, ctx, lifecycle);
    if session.is_upgrade_req() {
        // What the client says next may be meant for the other protocol.
        session.set_keepalive(None);
    }
    let accept = session.req_header().headers.get(header::ACCEPT).map(|accept| accept.as_bytes());
    let request_id = ctx.request_id.as_ref().map_or("-", |id| id.as_str());
    let retry_after = matches!(fault, Fault::NoBackend | Fault::QueueFull | Fault::QueueTimeout).then_some(1);
    let reply =
        ErrorResponse { fault, status, message: None, request_id, accept, retry_after, grpc: asks_grpc(session) };
    let built = reply.build().and_then(|(mut response, body)| {
        if let Some(hsts) = hsts(ctx) {
            response.insert_header(header::STRICT_TRANSPORT_SECURITY, hsts)?;
        }
        Ok((response, body))
    });
    let written = match built {
        Ok((response, body)) => write(session, response, body).await,
        Err(error) => Err(error),
    };
    match written {
        Ok(()) if ctx.handed_over => keep(session, ctx),
        Ok(()) => {}
        Err(error) => {
            let (request_id, route, upstream) = (ctx.request_id_text(), ctx.route_name(), ctx.upstream());
            tracing::debug!(request_id, route, upstream, %error, "the client did not take our reply");
            session.set_keepalive(None);
        }
    }
    FailToProxy { error_code: status, can_reuse_downstream: true }
}

/// Pingora would close the connection, whatever our reply has just said of it.
fn keep(session: &Session, ctx: &RequestCtx) {
    let (ServerSession::H1(http1), Some(exchange)) = (&*session.downstream_session, &ctx.exchange) else { return };
    if http1.will_keepalive() {
        exchange.conn.keep();
    }
}

/// gRPC is spoken over HTTP/2 alone.
fn asks_grpc(session: &Session) -> bool {
    let request = session.req_header();
    let content_type = request.headers.get(header::CONTENT_TYPE);
    request.version == Version::HTTP_2 && content_type.is_some_and(|kind| error_response::is_grpc(kind.as_bytes()))
}

/// The fault that a phase has named, else what the error says.
fn fault_of(error: &Error, ctx: &RequestCtx) -> (Fault, u16) {
    if let Some(fault) = ctx.fault {
        return (fault, ctx.status.unwrap_or(fault.status()));
    }
    if classify::is_the_clients(error) {
        return classify::client(error);
    }
    let fault = match error.esource() {
        pingora::ErrorSource::Upstream => classify::proxying(error).fault,
        _ => Fault::Internal,
    };
    (fault, fault.status())
}
