//! Responses that need no backend: ACME challenges, redirects, fixed responses, OPTIONS and TRACE.

use bytes::Bytes;
use http::header;
use pingora::Result;
use pingora::http::ResponseHeader;
use pingora_proxy::Session;

use super::content_coding;
use super::cors;
use super::ctx::RequestCtx;
use super::max_forwards;
use super::reject::refuse;
use super::security_headers;
use super::variables;
use super::write_response::{close_if_leaving, hsts, write};
use crate::fault::Fault;
use crate::lifecycle::Lifecycle;
use crate::message::request_id;
use crate::message::variables::RequestValues;
use crate::path;
use crate::route::action::{Action, Redirect};

/// The number of header fields to reserve for a response: Weir's own, and a few of the route's.
const EXTRA_FIELDS: usize = 4;

/// Answers a request that needs no backend. Returns `false` if the request needs one.
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
    if cors::is_preflight(session, ctx) {
        return cors::answer(session, ctx, lifecycle).await;
    }
    if let Some(response) = listed_redirect(session, ctx)? {
        return send(session, ctx, lifecycle, response, Bytes::new()).await;
    }
    if ctx.target.is_some() {
        let is_last = max_forwards::is_last(session, ctx);
        return if is_last { max_forwards::answer(session, ctx, lifecycle).await } else { Ok(false) };
    }
    let about_the_server = max_forwards::is_about_the_server(session, ctx);
    let Some(route) = ctx.route.clone() else {
        return if about_the_server { max_forwards::answer(session, ctx, lifecycle).await } else { Ok(false) };
    };
    let (response, body) = match &route.action {
        Action::Upstream(_) | Action::Split(_) => return Ok(false),
        Action::Respond(respond) if ctx.is_extended_connect() && respond.status().is_success() => {
            // A success would open the tunnel (RFC 8441 section 5).
            return Err(refuse(ctx, Fault::RefusedPolicy, Some(501), "a WebSocket, and the route has no upstream"));
        }
        Action::Respond(respond) => respond.answer(session.req_header()),
        Action::Redirect(_) if about_the_server => return max_forwards::answer(session, ctx, lifecycle).await,
        Action::Redirect(redirect) => {
            let values = variables::values(session.req_header(), ctx);
            let Some(response) = redirect.response(&values)? else {
                return Err(refuse(ctx, Fault::BadRequest, None, "the request makes no valid Location"));
            };
            (response, Bytes::new())
        }
    };
    send(session, ctx, lifecycle, response, body).await
}

/// The redirect that the file of the route has for this path.
fn listed_redirect(session: &Session, ctx: &RequestCtx) -> Result<Option<ResponseHeader>> {
    let Some(redirects) = ctx.route.as_ref().and_then(|route| route.redirects.as_ref()) else { return Ok(None) };
    let uri = &session.req_header().uri;
    redirects.response(&path::normalise(uri.path(), ctx.path_rules()), uri.query())
}

/// Sends a response of the route.
async fn send(
    session: &mut Session,
    ctx: &mut RequestCtx,
    lifecycle: &Lifecycle,
    mut response: ResponseHeader,
    body: Bytes,
) -> Result<bool> {
    if let Some(id) = &ctx.request_id {
        response.insert_header(&request_id::NAME, id.value())?;
    }
    if let Some(hsts) = hsts(ctx) {
        response.insert_header(header::STRICT_TRANSPORT_SECURITY, hsts)?;
    }
    if let Some(access) = &ctx.access {
        access.add_cookies(&mut response)?;
    }
    security_headers::add(session, &mut response, ctx)?;
    if let Some(route) = &ctx.route {
        route.response_headers.response(&mut response, || variables::values(session.req_header(), ctx))?;
    }
    cors::apply(session, &mut response, ctx)?;
    content_coding::header(session, &mut response, Some(body.len() as u64), ctx)?;
    close_if_leaving(session, ctx, lifecycle);
    write(session, response, body).await?;
    Ok(true)
}

/// Answers an ACME HTTP-01 validation request (RFC 8555 section 8.3).
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

/// Redirects to the same address with https. The client keeps the method and the body (RFC 9110 section 15.4.9).
async fn to_https(session: &mut Session, ctx: &mut RequestCtx, lifecycle: &Lifecycle, port: u16) -> Result<bool> {
    let values = RequestValues::of(session.req_header(), "https");
    let Some(mut response) = Redirect::to_https(port).response(&values)? else {
        return Err(refuse(ctx, Fault::BadRequest, None, "the request makes no valid Location"));
    };
    if let Some(id) = &ctx.request_id {
        response.insert_header(&request_id::NAME, id.value())?;
    }
    close_if_leaving(session, ctx, lifecycle);
    write(session, response, Bytes::new()).await?;
    Ok(true)
}
