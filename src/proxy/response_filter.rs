//! Passes a backend's response to the client, or sends an error response if there is none.

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, StatusCode, Version, header};
use pingora::http::ResponseHeader;
use pingora::{Error, ErrorType, Result};
use pingora_proxy::{FailToProxy, Session};

use super::affinity_cookie;
use super::classify;
use super::content_coding;
use super::cors;
use super::ctx::RequestCtx;
use super::error_pages;
use super::failure_log;
use super::maintenance;
use super::reject::refuse;
use super::response_cost;
use super::security_headers;
use super::split_user;
use super::stream_kind;
use super::upstream_error::{has_begun, is_end_of_tunnel, may_try_again};
use super::variables;
use super::write_response::{asks_grpc, close_if_leaving, hsts, keep, write};
use crate::backend::labels::{Outcome, RetryReason};
use crate::fault::Fault;
use crate::lifecycle::Lifecycle;
use crate::message::error_response::ErrorResponse;
use crate::message::{header_case, hop_by_hop, keep_alive, response_framing, via, websocket};
use crate::upstream::retry_policy::Failed;

/// The number of header fields to reserve for a response: Weir's own, and a few of the route's.
const EXTRA_FIELDS: usize = 4;

/// Processes the response header as it came from the backend.
///
/// # Errors
/// The response framing is not valid, or the status causes another attempt.
pub(super) fn arrived(session: &mut Session, response: &mut ResponseHeader, ctx: &mut RequestCtx) -> Result<()> {
    let checkout = ctx.attempt.as_ref().and_then(|attempt| attempt.checkout.clone());
    // The final response may be there already while an interim one is processed.
    let is_final = !response.status.is_informational();
    let taken = checkout.as_ref().filter(|_| is_final).and_then(|checkout| checkout.take_response());
    let whole = taken.is_some();
    if let Some(taken) = taken {
        *response = *taken;
    }
    // The HTTP/1 session has checked the framing of a response that it reads itself.
    let checked = whole && response.version != Version::HTTP_2;
    if let Err(why) = if checked { Ok(()) } else { response_framing::check(response, ctx.is_upgrade) } {
        return Err(Error::explain(ErrorType::InvalidHTTPHeader, why).into_up());
    }
    let status = response.status.as_u16();
    if status == 101
        && ctx.is_extended_connect()
        && let Err(why) = accepts_websocket(session, response)
    {
        return Err(Error::explain(ErrorType::InvalidHTTPHeader, why).into_up());
    }
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
    if ctx.is_extended_connect() && response.status.is_success() {
        // The client would take it for an open tunnel (RFC 8441 section 5). It is no failure of the backend.
        return Err(refuse(ctx, Fault::RefusedPolicy, Some(501), "a WebSocket, and the backend speaks plain HTTP"));
    }
    if status >= 500 {
        failure_log::server_error(ctx, status);
    }
    let bodiless = is_bodiless(response, ctx) || checkout.as_ref().is_some_and(|checkout| checkout.is_header_only());
    let is_done = ctx.sent_whole && bodiless;
    if status < 400 || asks_to_wait(response, ctx) || !may_try_again(session, ctx, Failed::Status(status)) {
        error_pages::replace(session, response, ctx)?;
        if let Some(attempt) = ctx.attempt.as_mut().filter(|_| is_done) {
            attempt.release();
        }
        checkout.iter().filter(|_| bodiless).for_each(|checkout| checkout.set_answered());
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

/// Whether the 101 of the backend opens the WebSocket that the listener has asked for.
fn accepts_websocket(session: &Session, response: &ResponseHeader) -> std::result::Result<(), &'static str> {
    let key = session.req_header().headers.get(header::SEC_WEBSOCKET_KEY);
    websocket::check_accepted(&response.headers, key)
}

/// Whether the backend sends Retry-After and there is no other backend for the request. Then the client gets this
/// response with its Retry-After. If there is another backend, it is tried at once, because Weir does not wait for the
/// time in Retry-After.
fn asks_to_wait(response: &ResponseHeader, ctx: &RequestCtx) -> bool {
    let another = || ctx.target.as_ref().is_some_and(|target| target.upstream.has_another(&ctx.tried));
    response.headers.contains_key(header::RETRY_AFTER) && !another()
}

/// Processes a part of the response body.
///
/// # Errors
/// The request's deadline has passed.
pub(super) fn body(body: &Option<Bytes>, end: bool, ctx: &mut RequestCtx) -> Result<()> {
    let piece = body.as_ref().map_or(0, Bytes::len) as u64;
    ctx.bytes_out += piece;
    response_cost::body(body, ctx);
    ctx.whole |= end;
    if let Some(attempt) = &mut ctx.attempt {
        attempt.received += piece;
        attempt.ended |= end;
        if let Some(checkout) = attempt.checkout.as_ref().filter(|_| end) {
            checkout.set_answered();
        }
        if end && ctx.sent_whole {
            attempt.release();
        }
    }
    if let Some(exchange) = ctx.exchange.as_ref().filter(|_| end && ctx.begun == Some(101)) {
        // The backend has closed the tunnel. Its last bytes are written before the client is read again.
        exchange.body_gate().end();
    }
    if ctx.is_too_late() { Err(refuse(ctx, Fault::Timeout, None, "timeouts.request is over")) } else { Ok(()) }
}

/// Processes the trailers.
pub(super) fn trailers(trailers: &HeaderMap, ctx: &mut RequestCtx) {
    stream_kind::trailers(trailers, ctx);
    if let Some(checkout) = ctx.attempt.as_ref().and_then(|attempt| attempt.checkout.as_ref()) {
        checkout.set_answered();
    }
    if let Some(exchange) = ctx.exchange.as_ref().filter(|_| !ctx.sent_whole) {
        // The session has dropped the rest of the request, because the response is complete.
        exchange.body_gate().end();
    }
}

/// Whether no body follows the header (RFC 9112 section 6.3).
fn is_bodiless(response: &ResponseHeader, ctx: &RequestCtx) -> bool {
    let empty = response.headers.get(header::CONTENT_LENGTH).is_some_and(|length| length == "0");
    empty || ctx.method == Method::HEAD || matches!(response.status.as_u16(), 204 | 304)
}

/// Edits the response header for the client.
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
        cors::apply(session, response, ctx)?;
        split_user::set_cookie(session, response, ctx)?;
        open_tunnel(session, ctx);
        return Ok(());
    }
    let (status, received) = (response.status, response.version);
    if !status.is_informational() {
        response_cost::header(response, ctx);
    }
    header_case::edit_response(response, EXTRA_FIELDS, |headers| {
        let upgrade = upgrade_required(headers, status, ctx);
        let trailers_pass = ctx.version == Version::HTTP_2;
        hop_by_hop::response(headers, status, trailers_pass);
        for protocols in upgrade {
            headers.append(header::UPGRADE, protocols);
        }
        response_framing::bare(headers, status);
        if !status.is_informational() {
            add_own_fields(headers, received, ctx);
        }
    });
    if status.is_informational() {
        return Ok(());
    }
    stream_kind::answered(response, ctx);
    if matches!(response.version, Version::HTTP_09 | Version::HTTP_10) {
        // Weir sends its own version, whatever version the backend uses (RFC 9110 section 6.2).
        response.set_version(Version::HTTP_11);
    }
    security_headers::add(session, response, ctx)?;
    if let Some(route) = &ctx.route {
        route.response_headers.response(response, || variables::values(session.req_header(), ctx))?;
        cors::apply(session, response, ctx)?;
    }
    if ctx.version == Version::HTTP_10
        && !response.headers.contains_key(header::CONTENT_LENGTH)
        && !is_bodiless(response, ctx)
    {
        // The close of the connection ends the body, because HTTP/1.0 has no other framing for it. So Connection must
        // announce it (RFC 9112 section 9.3).
        session.set_keepalive(None);
    }
    affinity_cookie::reveal(session, response, ctx)?;
    split_user::set_cookie(session, response, ctx)?;
    ctx.begun = Some(response.status.as_u16());
    if let Some(access) = &ctx.access {
        access.add_cookies(response)?;
    }
    close_if_leaving(session, ctx, lifecycle);
    ctx.length = length_of(response, ctx);
    content_coding::header(session, response, ctx.length, ctx)?;
    if ctx.length.is_none_or(|length| length > LONG_RESPONSE_BYTES) {
        // It may take hours, as a stream of events or of messages.
        ctx.detach_route();
    }
    Ok(())
}

/// The Upgrade fields of a 426 response, which must have them (RFC 9110 section 15.5.22). Empty for HTTP/2, which has
/// no such field.
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

/// If a response body is longer than this, in bytes, the request may last long. So it detaches from its route.
const LONG_RESPONSE_BYTES: u64 = 1 << 20;

/// The length of the response's body; nothing where its end marks it.
fn length_of(response: &ResponseHeader, ctx: &RequestCtx) -> Option<u64> {
    // Cheaper than a look-up, which hashes the name: most responses have few fields.
    let length = response.headers.iter().find(|(name, _)| *name == header::CONTENT_LENGTH);
    match length {
        _ if ctx.method == Method::HEAD => Some(0),
        Some((_, length)) => length.to_str().ok()?.parse().ok(),
        None => is_bodiless(response, ctx).then_some(0),
    }
}

/// Writes the header of a response to an HTTP/1.0 client if the response has no length. The close of
/// the connection ends the body.
///
/// Pingora would add Transfer-Encoding: chunked after all filters, and an HTTP/1.0 client does not know it (RFC 9112
/// section 6.1). Pingora does not write a second header.
pub(super) async fn to_old_client(session: &mut Session, response: &ResponseHeader, ctx: &RequestCtx) -> Result<()> {
    let final_one = !response.status.is_informational() && !is_bodiless(response, ctx);
    if !final_one || response.headers.contains_key(header::CONTENT_LENGTH) {
        return Ok(());
    }
    let mut response = response.clone();
    response.set_version(Version::HTTP_11);
    session.as_downstream_mut().write_response_header(Box::new(response)).await.map_err(|error| error.into_down())
}

/// Adds Weir's own fields to a final response.
fn add_own_fields(headers: &mut HeaderMap, received: Version, ctx: &RequestCtx) {
    via::add_to_response(headers, received);
    if ctx.version == Version::HTTP_10 {
        // An HTTP/1.0 client does not know chunked coding (RFC 9112 section 6.1). The close of the connection ends the
        // body.
        headers.remove(header::TRANSFER_ENCODING);
    }
    if let Some(id) = &ctx.request_id {
        id.apply(headers);
    }
    if let Some(hsts) = hsts(ctx) {
        headers.insert(header::STRICT_TRANSPORT_SECURITY, hsts.clone());
    }
}

/// Starts the tunnel. From now on bytes pass in both directions, and only the tunnel's timeout applies.
fn open_tunnel(session: &mut Session, ctx: &mut RequestCtx) {
    ctx.deadline = None;
    ctx.begun = Some(101);
    stream_kind::header_sent(ctx);
    if let Some(exchange) = &ctx.exchange {
        if ctx.version != Version::HTTP_2 {
            exchange.conn.set_tunnel();
        }
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

/// Sends Weir's own error response for a fault, if no response has begun.
pub(super) async fn fault(
    session: &mut Session,
    error: &Error,
    ctx: &mut RequestCtx,
    lifecycle: &Lifecycle,
) -> FailToProxy {
    if is_end_of_tunnel(ctx, error) {
        return FailToProxy { error_code: 101, can_reuse_downstream: false };
    }
    if ctx.left_served {
        return FailToProxy { error_code: ctx.begun.unwrap_or(200), can_reuse_downstream: false };
    }
    if let Some(answered) = error_pages::answer(session, ctx, lifecycle).await {
        return answered;
    }
    let (fault, status) = fault_of(error, ctx);
    (ctx.fault, ctx.status) = (Some(fault), Some(status));
    if has_begun(session) || fault == Fault::ClientAbort {
        return FailToProxy { error_code: status, can_reuse_downstream: false };
    }
    close_if_leaving(session, ctx, lifecycle);
    if session.is_upgrade_req() {
        // The next bytes of the client may belong to the other protocol.
        session.set_keepalive(None);
    }
    let accept = session.req_header().headers.get(header::ACCEPT).map(|accept| accept.as_bytes());
    let request_id = ctx.request_id.as_ref().map_or("-", |id| id.as_str());
    let refusal =
        ctx.limits.as_ref().and_then(|limits| limits.refusal.as_ref()).filter(|_| fault == Fault::RateLimited);
    let passes_soon = matches!(
        fault,
        Fault::NoBackend | Fault::QueueFull | Fault::QueueTimeout | Fault::StoreUnavailable | Fault::AuthUnavailable
    );
    let of_maintenance = maintenance::retry_after(ctx).filter(|_| fault == Fault::Maintenance);
    let retry_after = refusal.map(|refusal| refusal.retry_after).or(of_maintenance).or(passes_soon.then_some(1));
    let grpc = asks_grpc(session);
    let page = if grpc { None } else { error_pages::page_with_values(session, ctx, status) };
    let reply =
        ErrorResponse { fault, label: None, status, message: None, request_id, accept, retry_after, grpc, page };
    let built = reply.build().and_then(|(mut response, body)| {
        if let Some(hsts) = hsts(ctx) {
            response.insert_header(header::STRICT_TRANSPORT_SECURITY, hsts)?;
        }
        if let Some(access) = &ctx.access {
            access.add_fields(fault, &mut response)?;
        }
        if let Some(refusal) = refusal {
            response.insert_header("RateLimit-Policy", &refusal.policy)?;
            response.insert_header("RateLimit", &refusal.state)?;
        }
        cors::apply(session, &mut response, ctx)?;
        security_headers::add(session, &mut response, ctx)?;
        Ok((response, body))
    });
    if grpc {
        stream_kind::refused(fault, status, ctx);
    }
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

/// The fault that a phase has stored, otherwise the fault of the error.
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
