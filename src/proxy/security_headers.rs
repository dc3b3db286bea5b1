//! `security_headers` of a route: fields of a response that make browsers stricter.
//!
//! A field that the response has already stays: the application knows which pages may be framed.

use http::{HeaderName, HeaderValue, header};
use pingora::Result;
use pingora::http::ResponseHeader;
use pingora_proxy::Session;

use super::affinity_cookie::is_by_tls;
use super::ctx::RequestCtx;
use super::grpc_call::GrpcCall;
use crate::config::schema::SecurityHeaders;

/// The fields of `default` for all clients.
const FIELDS: [(HeaderName, &str, HeaderValue); 3] = [
    (header::X_CONTENT_TYPE_OPTIONS, "X-Content-Type-Options", HeaderValue::from_static("nosniff")),
    (header::X_FRAME_OPTIONS, "X-Frame-Options", HeaderValue::from_static("SAMEORIGIN")),
    (header::REFERRER_POLICY, "Referrer-Policy", HeaderValue::from_static("strict-origin-when-cross-origin")),
];

/// One year, as browsers advise. Without `includeSubDomains`, because Weir does not know the other hosts.
const HSTS: HeaderValue = HeaderValue::from_static("max-age=31536000");

/// Adds the fields of the route. `hsts` of a listener has written Strict-Transport-Security before.
pub(super) fn add(session: &Session, response: &mut ResponseHeader, ctx: &RequestCtx) -> Result<()> {
    let is_on = ctx.route.as_ref().is_some_and(|route| route.security_headers == SecurityHeaders::Default);
    if !is_on || ctx.grpc != GrpcCall::No {
        return Ok(());
    }
    for (name, written, value) in FIELDS {
        if !response.headers.contains_key(name) {
            response.insert_header(written, value)?;
        }
    }
    // Browsers ignore it without TLS (RFC 6797 section 8.1), and proxies before Weir could pass it on.
    if !response.headers.contains_key(header::STRICT_TRANSPORT_SECURITY) && is_by_tls(session, ctx) {
        response.insert_header("Strict-Transport-Security", HSTS)?;
    }
    Ok(())
}
