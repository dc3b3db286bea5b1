//! The trait that hands a client's requests to the proxy.

use std::sync::Arc;

use bytes::Bytes;
use pingora_core::apps::HttpServerApp;

use super::conn::{Abort, Conn};
use crate::message::request_framing::BadHead;

/// What listeners hand their requests to.
pub trait HttpService: Send + Sync + 'static {
    /// Pingora's proxy around our gateway.
    type App: HttpServerApp + Send + Sync + 'static;

    /// Pingora's proxy around our gateway.
    fn app(&self) -> &Arc<Self::App>;

    /// Takes note of something that never became a request, and says what to answer. `head` is what came.
    fn refuse(&self, conn: &Conn, head: &[u8], bad: &BadHead) -> Bytes;

    /// What to answer when a request is cut before its response began; `head`: a HEAD request.
    fn abort_response(&self, why: Abort, head: bool) -> Bytes;
}
