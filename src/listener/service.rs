//! The trait by which listeners pass requests to the proxy.

use std::sync::Arc;

use bytes::Bytes;
use pingora_core::apps::HttpServerApp;

use super::conn::{Abort, Conn};
use crate::message::request_framing::BadHead;

/// The service that handles the requests of listeners.
pub trait HttpService: Send + Sync + 'static {
    /// Pingora's proxy with Weir's gateway.
    type App: HttpServerApp + Send + Sync + 'static;

    /// Pingora's proxy with Weir's gateway.
    fn app(&self) -> &Arc<Self::App>;

    /// Records a malformed request that Pingora never sees. Returns the raw response. `head` is the bytes that were
    /// received.
    fn refuse(&self, conn: &Conn, head: &[u8], bad: &BadHead) -> Bytes;

    /// The raw response to a request that is aborted before its response began. `head` is true for a HEAD request.
    fn abort_response(&self, why: Abort, head: bool) -> Bytes;
}
