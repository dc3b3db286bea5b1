//! The sending half of one HTTP/2 stream before its response begins.
//!
//! The session of the request uses it, and the listener: if it aborts the request, the client still gets a response. It
//! never writes a body.

use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use bytes::Bytes;
use h2::server::SendResponse;
use h2::{Reason, SendStream};
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Response, StatusCode};
use parking_lot::Mutex;
use pingora_core::{Error, ErrorType, OrErr, Result};

use crate::listener::conn::Abort;
use crate::message::error_response;

/// The status of gRPC for a service that is unavailable, and for a deadline that has passed.
const GRPC_UNAVAILABLE: HeaderValue = HeaderValue::from_static("14");
const GRPC_DEADLINE_EXCEEDED: HeaderValue = HeaderValue::from_static("4");

/// Sends the response header of a stream once.
pub(super) struct Responder {
    /// The lock is held for a few memory operations. Both users run on one thread.
    stream: Mutex<SendResponse<Bytes>>,
    /// The final response has begun.
    begun: AtomicBool,
    grpc: bool,
}

impl Responder {
    /// `request`: the header of the request.
    pub(super) fn new(stream: SendResponse<Bytes>, request: &HeaderMap) -> Self {
        let content_type = request.get(header::CONTENT_TYPE);
        let grpc = content_type.is_some_and(|kind| error_response::is_grpc(kind.as_bytes()));
        Self { stream: Mutex::new(stream), begun: AtomicBool::new(false), grpc }
    }

    /// Sends an interim response. It must come before the final one (RFC 9110 section 15.2).
    pub(super) fn send_interim(&self, status: StatusCode, fields: HeaderMap) -> Result<()> {
        let mut interim = Response::new(());
        *interim.status_mut() = status;
        *interim.headers_mut() = fields;
        self.stream
            .lock()
            .send_informational(interim)
            .or_err(ErrorType::WriteError, "while writing an interim response")
    }

    /// Sends the header of the final response.
    pub(super) fn send(&self, header: Response<()>, end: bool) -> Result<SendStream<Bytes>> {
        if self.begun.swap(true, Ordering::AcqRel) {
            return Error::e_explain(ErrorType::InternalError, "a second response");
        }
        self.stream.lock().send_response(header, end).or_err(ErrorType::WriteError, "while writing the header")
    }

    /// Ends a request that the listener aborts with a response, if none has begun.
    pub(super) fn answer_aborted(&self, why: Abort) {
        let (status, grpc) = match why {
            Abort::Shutdown => (StatusCode::SERVICE_UNAVAILABLE, GRPC_UNAVAILABLE),
            Abort::Deadline => (StatusCode::GATEWAY_TIMEOUT, GRPC_DEADLINE_EXCEEDED),
        };
        let mut response = Response::new(());
        if self.grpc {
            response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
            response.headers_mut().insert(HeaderName::from_static("grpc-status"), grpc);
        } else {
            *response.status_mut() = status;
        }
        // An error means that a response has begun or that the client is gone.
        let _ = self.send(response, true);
    }

    /// Whether the request is a call of gRPC.
    pub(super) fn is_grpc(&self) -> bool {
        self.grpc
    }

    pub(super) fn reset(&self, reason: Reason) {
        self.stream.lock().send_reset(reason);
    }

    /// Ready when the client has reset the stream or closed the connection.
    pub(super) fn poll_reset(&self, cx: &mut Context<'_>) -> Poll<Result<Reason>> {
        let reset = self.stream.lock().poll_reset(cx);
        reset.map(|reset| reset.or_err(ErrorType::H2Error, "the client's connection ended"))
    }
}
