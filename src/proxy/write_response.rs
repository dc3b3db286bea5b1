//! Writes Weir's own responses to the client.

use bytes::Bytes;
use http::{HeaderValue, Method, Version, header};
use pingora::Result;
use pingora::http::ResponseHeader;
use pingora::protocols::http::ServerSession;
use pingora_proxy::Session;

use super::ctx::RequestCtx;
use crate::lifecycle::Lifecycle;
use crate::message::error_response;

/// Writes Weir's own response. A response to HEAD has the same fields as one to GET, and no body (RFC 9110 section
/// 9.3.2). Pingora drops the body for HTTP/1 only, so it is not sent here.
pub(super) async fn write(session: &mut Session, response: ResponseHeader, body: Bytes) -> Result<()> {
    if !body.is_empty() && session.req_header().method != Method::HEAD {
        session.write_response_header(Box::new(response), false).await?;
        return session.write_response_body(Some(body), true).await;
    }
    match &mut *session.downstream_session {
        // gRPC requires END_STREAM on the header. Pingora would end the stream with an extra DATA frame.
        ServerSession::Custom(http2) => http2.write_response_header(Box::new(response), true).await,
        _ => session.write_response_header(Box::new(response), true).await,
    }
}

/// The Strict-Transport-Security value of the TLS listener (RFC 6797 section 7.1). It replaces a backend's own.
pub(super) fn hsts(ctx: &RequestCtx) -> Option<&HeaderValue> {
    ctx.exchange.as_ref()?.conn.tls.as_ref()?.hsts()
}

/// Closes the client's connection after this response if the process drains or the listener closes.
pub(super) fn close_if_leaving(session: &mut Session, ctx: &RequestCtx, lifecycle: &Lifecycle) {
    if lifecycle.is_draining() || ctx.exchange.as_ref().is_some_and(|exchange| exchange.conn.is_closing()) {
        session.set_keepalive(None);
    }
}

/// Keeps the client's connection if the error response has announced keep-alive. Pingora would close it.
pub(super) fn keep(session: &Session, ctx: &RequestCtx) {
    let (ServerSession::H1(http1), Some(exchange)) = (&*session.downstream_session, &ctx.exchange) else { return };
    if http1.will_keepalive() {
        exchange.conn.keep();
    }
}

/// Whether the client uses gRPC, which runs only over HTTP/2.
pub(super) fn asks_grpc(session: &Session) -> bool {
    let request = session.req_header();
    let content_type = request.headers.get(header::CONTENT_TYPE);
    request.version == Version::HTTP_2 && content_type.is_some_and(|kind| error_response::is_grpc(kind.as_bytes()))
}
