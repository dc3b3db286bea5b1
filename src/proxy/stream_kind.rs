//! Recognizes responses that are streams, and how a call of gRPC ends. The record of the request takes it from here.

use http::{HeaderMap, HeaderValue, Method, Version, header};
use pingora::http::{RequestHeader, ResponseHeader};

use super::ctx::RequestCtx;
use super::failure_log;
use super::grpc_call::GrpcCall;
use crate::fault::Fault;
use crate::message::error_response::is_grpc;
use crate::telemetry::grpc_status::GrpcStatus;

/// Content types whose responses may last for hours: events, and gRPC with its variants.
const STREAMS: [&[u8]; 2] = [b"text/event-stream", b"application/grpc"];

/// Whether a request calls gRPC, which is POST over HTTP/2.
pub(super) fn requested(request: &RequestHeader) -> GrpcCall {
    let grpc = || request.headers.get(header::CONTENT_TYPE).is_some_and(|kind| is_grpc(kind.as_bytes()));
    let call = request.version == Version::HTTP_2 && request.method == Method::POST && grpc();
    if call { GrpcCall::Open } else { GrpcCall::No }
}

/// The header of the final response is there.
pub(super) fn answered(response: &ResponseHeader, ctx: &mut RequestCtx) {
    // Cheaper than a look-up, which hashes the name.
    let kind = response.headers.iter().find(|(name, _)| *name == header::CONTENT_TYPE);
    let kind = kind.map(|(_, kind)| kind.as_bytes()).unwrap_or_default();
    let begins = |with: &&[u8]| kind.get(..with.len()).is_some_and(|head| head.eq_ignore_ascii_case(with));
    if !STREAMS.iter().any(begins) {
        ctx.grpc = GrpcCall::No;
        return;
    }
    header_sent(ctx);
    match status(&response.headers) {
        Some(status) => ended(status, ctx),
        None => ctx.grpc = if is_grpc(kind) { GrpcCall::Open } else { GrpcCall::No },
    }
}

/// The trailers of a response are there.
pub(super) fn trailers(trailers: &HeaderMap, ctx: &mut RequestCtx) {
    ctx.whole = true;
    if let Some(status) = status(trailers).filter(|_| ctx.grpc == GrpcCall::Open) {
        ended(status, ctx);
    }
}

/// Weir answers a call of gRPC with this fault.
pub(super) fn refused(fault: Fault, status: u16, ctx: &mut RequestCtx) {
    ctx.grpc = GrpcCall::Ended(GrpcStatus::of_code(fault.grpc_status_with(status)));
    header_sent(ctx);
}

/// The response is a stream or a tunnel: its duration is measured up to here.
pub(super) fn header_sent(ctx: &mut RequestCtx) {
    ctx.stream_header = Some(ctx.started.elapsed());
}

fn ended(status: GrpcStatus, ctx: &mut RequestCtx) {
    ctx.grpc = GrpcCall::Ended(status);
    if !status.is_error() {
        return;
    }
    failure_log::grpc_error(ctx, status.label());
    if let Some(attempt) = &mut ctx.attempt {
        attempt.grpc_error = Some(status);
    }
}

fn status(headers: &HeaderMap) -> Option<GrpcStatus> {
    headers.get("grpc-status").map(HeaderValue::as_bytes).map(GrpcStatus::parse)
}
