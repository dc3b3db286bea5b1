//! The gateway: Pingora's `ProxyHttp`, with its phases in the order in which they run. Each phase calls one module.

mod access;
mod access_state;
mod affinity_cookie;
mod attempt;
mod attempt_error;
mod classify;
mod content_coding;
mod cors;
mod credentials;
mod ctx;
mod direct_response;
mod error_pages;
mod failure_log;
mod forward_auth;
mod grpc_call;
pub(crate) mod hash_key;
mod maintenance;
mod max_forwards;
mod met_limits;
mod mirror;
mod mirror_state;
mod pick;
mod policies;
mod rate_limits;
mod record;
mod reject;
mod replaced_response;
mod request_filter;
mod response_cost;
mod response_filter;
mod security_headers;
mod send;
mod service;
mod split_user;
mod stream_kind;
mod subrequest;
mod upstream_error;
mod variables;
mod wait_in_queue;
mod write_response;

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use async_trait::async_trait;
use bytes::Bytes;
use http::{HeaderMap, Version};
use pingora::http::{RequestHeader, ResponseHeader};
use pingora::modules::http::HttpModules;
use pingora::protocols::Digest;
use pingora::upstreams::peer::HttpPeer;
use pingora::{Error, Result};
use pingora_proxy::{FailToProxy, ProxyHttp, ProxyWarnLogContext, Session};

pub use ctx::RequestCtx;
pub use rate_limits::{KeyOfRequest, LimitedRequest, with_key};
pub use service::Proxy;

use crate::lifecycle::Lifecycle;
use crate::pool::connection_pool::ConnectionPool;
use crate::snapshot::CurrentSnapshot;
use crate::telemetry::Recorder;

/// The phases of the proxy, called by Pingora.
pub struct Gateway {
    shared: Arc<CurrentSnapshot>,
    recorder: Arc<Recorder>,
    lifecycle: Arc<Lifecycle>,
    /// The connection pool of the thread that this gateway serves on.
    pool: Arc<ConnectionPool>,
}

impl Gateway {
    /// Creates a gateway that serves these snapshots and records every request with `recorder`.
    pub fn new(
        shared: Arc<CurrentSnapshot>,
        recorder: Arc<Recorder>,
        lifecycle: Arc<Lifecycle>,
        pool: Arc<ConnectionPool>,
    ) -> Self {
        Self { shared, recorder, lifecycle, pool }
    }
}

#[async_trait]
impl ProxyHttp for Gateway {
    /// Boxed, because Pingora moves it from future to future.
    type CTX = Box<RequestCtx>;

    /// Accept: the request takes a snapshot and keeps it to its end.
    fn new_ctx(&self) -> Self::CTX {
        Box::new(RequestCtx::new(Arc::clone(&self.recorder), self.shared.load()))
    }

    /// Weir's own compression replaces Pingora's, which never flushes a stream and never ends one of brotli.
    fn init_downstream_modules(&self, modules: &mut HttpModules) {
        modules.add_module(Box::new(content_coding::ContentCodingBuilder));
    }

    /// Accept and route: identifies the client, checks the request and finds its route.
    async fn early_request_filter(&self, session: &mut Session, ctx: &mut Self::CTX) -> Result<()> {
        request_filter::accept_request(session, ctx)?;
        if request_filter::is_challenge(session, ctx).await {
            return Ok(());
        }
        request_filter::route(session, ctx)
    }

    /// Policies: each of them lets the request continue or answers it.
    async fn request_filter(&self, session: &mut Session, ctx: &mut Self::CTX) -> Result<bool> {
        if policies::apply(session, ctx, &self.pool).await? {
            return Ok(true);
        }
        direct_response::own_action(session, ctx, &self.lifecycle).await
    }

    /// Pick: chooses a backend for the next attempt.
    async fn upstream_peer(&self, session: &mut Session, ctx: &mut Self::CTX) -> Result<Box<HttpPeer>> {
        pick::pick(session, ctx, &self.pool).await
    }

    /// The attempt has a connection.
    async fn connected_to_upstream(
        &self,
        _session: &mut Session,
        reused: bool,
        _peer: &HttpPeer,
        _fd: std::os::unix::io::RawFd,
        _digest: Option<&Digest>,
        ctx: &mut Self::CTX,
    ) -> Result<()> {
        if let Some(attempt) = &mut ctx.attempt {
            attempt.connected(reused);
        }
        Ok(())
    }

    /// Send: edits the request header for the backend.
    async fn upstream_request_filter(
        &self,
        session: &mut Session,
        request: &mut RequestHeader,
        ctx: &mut Self::CTX,
    ) -> Result<()> {
        send::header(session, request, ctx)?;
        mirror::header(session, request, ctx, &self.pool);
        Ok(())
    }

    /// Send: each part of the request body.
    async fn request_body_filter(
        &self,
        _session: &mut Session,
        body: &mut Option<Bytes>,
        end: bool,
        ctx: &mut Self::CTX,
    ) -> Result<()> {
        send::body(body, end, ctx)?;
        mirror::body(body, end, ctx, &self.pool);
        Ok(())
    }

    /// Fail: no connection.
    fn fail_to_connect(
        &self,
        session: &mut Session,
        _peer: &HttpPeer,
        ctx: &mut Self::CTX,
        error: Box<Error>,
    ) -> Box<Error> {
        upstream_error::to_connect(session, ctx, error)
    }

    /// Fail: an error on an established connection.
    fn error_while_proxy(
        &self,
        _peer: &HttpPeer,
        session: &mut Session,
        error: Box<Error>,
        ctx: &mut Self::CTX,
        reused: bool,
    ) -> Box<Error> {
        upstream_error::while_proxying(session, ctx, error, reused)
    }

    /// Respond: the response header as it came from the backend. Its status may cause another attempt.
    async fn upstream_response_filter(
        &self,
        session: &mut Session,
        response: &mut ResponseHeader,
        ctx: &mut Self::CTX,
    ) -> Result<()> {
        response_filter::arrived(session, response, ctx)
    }

    /// Respond: each part of the response body as it came from the backend.
    fn upstream_response_body_filter(
        &self,
        _session: &mut Session,
        body: &mut Option<Bytes>,
        end: bool,
        ctx: &mut Self::CTX,
    ) -> Result<Option<Duration>> {
        response_filter::body(body, end, ctx)?;
        Ok(None)
    }

    /// Answer: the trailers as they came.
    fn upstream_response_trailer_filter(
        &self,
        _session: &mut Session,
        trailers: &mut HeaderMap,
        ctx: &mut Self::CTX,
    ) -> Result<()> {
        response_filter::trailers(trailers, ctx);
        Ok(())
    }

    /// Respond: edits the response header for the client.
    async fn response_filter(
        &self,
        session: &mut Session,
        response: &mut ResponseHeader,
        ctx: &mut Self::CTX,
    ) -> Result<()> {
        response_filter::header(session, response, ctx, &self.lifecycle)?;
        if ctx.version == Version::HTTP_10 {
            response_filter::to_old_client(session, response, ctx).await?;
        }
        Ok(())
    }

    /// Respond: Weir's own error response for a fault.
    async fn fail_to_proxy(&self, session: &mut Session, error: &Error, ctx: &mut Self::CTX) -> FailToProxy {
        response_filter::fault(session, error, ctx, &self.lifecycle).await
    }

    /// Record: writes one record for each request, however it ended.
    async fn logging(&self, session: &mut Session, error: Option<&Error>, ctx: &mut Self::CTX) {
        record::done(session, error, ctx);
    }

    /// The access log and the metrics contain the error, so a log line of Pingora would repeat it.
    fn suppress_error_log(&self, _session: &Session, _ctx: &Self::CTX, _error: &Error) -> bool {
        true
    }

    /// The attempts in the access log contain the error as well.
    fn suppress_proxy_warn_log(
        &self,
        _session: &Session,
        _ctx: &Self::CTX,
        _error: &Error,
        _context: ProxyWarnLogContext,
    ) -> bool {
        true
    }
}

/// Milliseconds since the Unix epoch, for cookies and for output. Intervals use `crate::clock`.
fn unix_ms(at: SystemTime) -> u64 {
    at.duration_since(UNIX_EPOCH).unwrap_or_default().as_millis() as u64
}
