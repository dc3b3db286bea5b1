//! One exchange that Weir itself starts: a request with at most a small body, and its response with a bounded body.
//!
//! It uses the pool, the protocol and the timeouts of the checkout, as an attempt of a client's request does. Pingora's
//! proxy loop takes no part. The caller bounds the total time.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::StatusCode;
use pingora::http::{RequestHeader, ResponseHeader};
use pingora_core::protocols::http::custom::client::Session;
use pingora_core::upstreams::peer::HttpPeer;
use pingora_core::{Error, ErrorType, OkOrErr, Result};
use tokio_util::either::Either;

use crate::pool::backend_session::BackendSession;
use crate::pool::checkout::{Checkout, PendingCheckout};
use crate::pool::http1::session::Http1Session;
use crate::pool::http2::{self, Opened};

/// Maximum number of interim responses before the final one.
const MAX_INTERIM: usize = 8;

/// A connection, or a stream of one, for one exchange.
pub struct SubrequestExchange {
    session: BackendSession,
    checkout: Arc<Checkout>,
    reused: bool,
}

/// The response of one exchange.
pub struct SubrequestResponse {
    /// The header as it arrived.
    pub head: Box<ResponseHeader>,
    /// The first bytes of the body, up to the caller's limit.
    pub body: Bytes,
}

impl fmt::Debug for SubrequestResponse {
    /// Fields and body may have secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SubrequestResponse").field("status", &self.head.status).field("body", &self.body.len()).finish()
    }
}

impl SubrequestExchange {
    /// Takes a pooled connection, or opens one.
    ///
    /// # Errors
    /// There is no connection. Nothing was sent.
    pub async fn open(peer: &HttpPeer, pending: PendingCheckout) -> Result<Self> {
        let checkout = Arc::new(pending.checkout);
        let (session, reused) = if checkout.is_http2() {
            match http2::open(Arc::clone(&checkout), peer).await? {
                (Opened::Http2(session), reused) => (BackendSession::Http2(session), reused),
                (Opened::Http1(stream), _) => {
                    // The pool has this key for HTTP/2 only, so the connection serves one request.
                    checkout.limit_idle(Duration::ZERO);
                    let stream = Arc::clone(&checkout).stream(Either::Right(stream), None);
                    (BackendSession::Http1(Http1Session::new(stream)), false)
                }
            }
        } else {
            let reused = checkout.is_reused();
            let stream = Arc::clone(&checkout).socket(pending.idle, peer).await?;
            (BackendSession::Http1(Http1Session::new(stream)), reused)
        };
        Ok(Self { session, checkout, reused })
    }

    /// Whether the connection has served another request before.
    pub fn is_reused(&self) -> bool {
        self.reused
    }

    /// Stores the idle limit that the backend announced for this connection.
    pub fn limit_idle(&self, limit: Duration) {
        self.checkout.limit_idle(limit);
    }

    /// Sends a request with this body, and reads the header of the final response. If there is a body, the request states
    /// its length.
    ///
    /// # Errors
    /// The connection failed, a timeout of the checkout has passed, or the response is not valid.
    pub async fn send(&mut self, request: Box<RequestHeader>, mut body: Bytes) -> Result<Box<ResponseHeader>> {
        self.session.write_request_header(request, body.is_empty()).await?;
        if !body.is_empty() {
            // It does not wait for the backend: the session sends the rest while it reads the response.
            let writer = self.session.take_request_body_writer();
            let mut writer = writer.or_err(ErrorType::InternalError, "no writer for the body")?;
            writer.write_all_buf(&mut body).await?;
            writer.finish().await?;
        }
        for _ in 0..=MAX_INTERIM {
            self.session.read_response_header().await?;
            let bare = self.session.response_header().or_err(ErrorType::InternalError, "no response header")?;
            match bare.status {
                StatusCode::SWITCHING_PROTOCOLS => break,
                status if status.is_informational() => {}
                // Sessions put the fields into the checkout, except where Pingora's session reads the response.
                _ => return Ok(self.checkout.take_response().unwrap_or_else(|| Box::new(bare.clone()))),
            }
        }
        Error::e_explain(ErrorType::InvalidHTTPHeader, "no final response to a request that is not an upgrade")
    }

    /// Reads the body up to `limit` bytes. The connection returns to the pool if the response is complete. Otherwise it
    /// is closed.
    ///
    /// # Errors
    /// The connection failed before the end of the body or before the limit.
    pub async fn body(mut self, limit: usize) -> Result<Bytes> {
        let mut body = BytesMut::new();
        while body.len() < limit {
            if self.session.check_response_end_or_error(body.is_empty()).await? {
                self.session.release().await;
                return Ok(body.freeze());
            }
            let Some(piece) = self.session.read_response_body().await? else {
                self.session.release().await;
                return Ok(body.freeze());
            };
            body.extend_from_slice(&piece[..piece.len().min(limit - body.len())]);
        }
        Ok(body.freeze())
    }

    /// Reads the body and drops it. The connection returns to the pool if the body has at most `limit` bytes. Otherwise
    /// it is closed. Returns the number of bytes.
    ///
    /// # Errors
    /// The connection failed before the end of the body or before the limit.
    pub async fn discard(mut self, limit: u64) -> Result<u64> {
        let mut received = 0;
        while received <= limit {
            let is_complete = self.session.check_response_end_or_error(received == 0).await?;
            let piece = if is_complete { None } else { self.session.read_response_body().await? };
            let Some(piece) = piece else {
                self.session.release().await;
                break;
            };
            received += piece.len() as u64;
        }
        Ok(received)
    }
}
