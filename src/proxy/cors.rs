//! CORS of a route: the fields on each of its responses, and the answer to preflights.

use bytes::Bytes;
use http::{HeaderMap, StatusCode, header};
use pingora::Result;
use pingora::http::ResponseHeader;
use pingora_proxy::Session;

use super::ctx::RequestCtx;
use super::variables;
use super::write_response::{close_if_leaving, hsts, write};
use crate::cors::{CorsPolicy, RESPONSE_FIELDS, asked_method};
use crate::lifecycle::Lifecycle;
use crate::message::request_id;

/// The number of header fields to reserve for the response to a preflight.
const FIELDS: usize = 10;

/// Sets the fields on a response of the route, of a backend or of Weir itself.
pub(super) fn apply(session: &Session, response: &mut ResponseHeader, ctx: &RequestCtx) -> Result<()> {
    match ctx.route.as_ref().and_then(|route| route.cors.as_deref()) {
        None => Ok(()),
        Some(cors) => set_fields(&session.req_header().headers, response, cors),
    }
}

fn set_fields(request: &HeaderMap, response: &mut ResponseHeader, cors: &CorsPolicy) -> Result<()> {
    // Two values of Access-Control-Allow-Origin would be an error for browsers.
    for name in &RESPONSE_FIELDS {
        response.remove_header(name);
    }
    for (name, value) in cors.response_fields(request) {
        response.insert_header(name, value)?;
    }
    match cors.vary() {
        Some(vary) if !varies_by_origin(&response.headers) => response.append_header(header::VARY, vary).map(drop),
        _ => Ok(()),
    }
}

fn varies_by_origin(headers: &HeaderMap) -> bool {
    let names = headers.get_all(header::VARY).iter().flat_map(|value| value.as_bytes().split(|b| *b == b','));
    names.map(<[u8]>::trim_ascii).any(|name| name == b"*" || name.eq_ignore_ascii_case(b"origin"))
}

/// Whether this is a preflight that Weir answers. Later policies do not apply to it: it carries no credentials.
pub(super) fn is_preflight(session: &Session, ctx: &RequestCtx) -> bool {
    ctx.route.as_ref().is_some_and(|route| route.cors.is_some())
        && asked_method(&ctx.method, &session.req_header().headers).is_some()
}

/// Answers a preflight. A browser reads only the fields, so an origin that is not allowed gets the same status.
pub(super) async fn answer(session: &mut Session, ctx: &mut RequestCtx, lifecycle: &Lifecycle) -> Result<bool> {
    let Some(route) = ctx.route.clone() else { return Ok(false) };
    let Some(cors) = &route.cors else { return Ok(false) };
    let mut response = ResponseHeader::build(StatusCode::NO_CONTENT, Some(FIELDS))?;
    if let Some(id) = &ctx.request_id {
        response.insert_header(&request_id::NAME, id.value())?;
    }
    if let Some(hsts) = hsts(ctx) {
        response.insert_header(header::STRICT_TRANSPORT_SECURITY, hsts)?;
    }
    route.response_headers.response(&mut response, || variables::values(session.req_header(), ctx))?;
    for (name, value) in cors.preflight_fields(&session.req_header().headers) {
        response.insert_header(name, value)?;
    }
    close_if_leaving(session, ctx, lifecycle);
    write(session, response, Bytes::new()).await?;
    Ok(true)
}
