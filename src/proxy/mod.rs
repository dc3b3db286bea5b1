//! The gateway: Pingora's `ProxyHttp`, phases in running order. Each phase is a few lines that hand over to one room;
//! the way of a request reads from top to bottom.

mod accept_request;
mod affinity_cookie;
mod attempt;
mod attempt_error;
mod classify;
mod ctx;
mod fail;
mod failure_log;
mod hash_key;
mod max_forwards;
mod pick;
mod record;
mod reject;
mod respond;
mod send;
mod service;
mod wait_in_queue;
mod write_response;

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use async_trait::async_trait;
use bytes::Bytes;
use http::Version;
use pingora::http::{RequestHeader, ResponseHeader};
use pingora::modules::http::HttpModules;
use pingora::protocols::Digest;
use pingora::upstreams::peer::HttpPeer;
use pingora::{Error, Result};
use pingora_proxy::{FailToProxy, ProxyHttp, ProxyWarnLogContext, Session};

pub use ctx::RequestCtx;
pub use service::Proxy;

use crate::lifecycle::Lifecycle;
use crate::pool::connection_pool::ConnectionPool;
use crate::snapshot::CurrentSnapshot;
use crate::telemetry::Recorder;

/// Weir's logic, as Pingora calls it.
pub struct Gateway {
    shared: Arc<CurrentSnapshot>,
    recorder: Arc<Recorder>,
    lifecycle: Arc<Lifecycle>,
    /// The connections to backends of the thread that this gateway serves on.
    pool: Arc<ConnectionPool>,
}

impl Gateway {
    /// On these snapshots; every request is recorded here.
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
    /// Boxed: Pingora moves it from future to future.
    type CTX = Box<RequestCtx>;

    /// Arrive: the request takes the snapshot that it keeps to its end.
    fn new_ctx(&self) -> Self::CTX {
        Box::new(RequestCtx::new(Arc::clone(&self.recorder), self.shared.load()))
    }

    /// Pingora's default adds a compression module to every request; Weir has none.
    fn init_downstream_modules(&self, _modules: &mut HttpModules) {}

    /// Arrive and route: who asks, is it well-formed, which route.
    async fn early_request_filter(&self, session: &mut Session, ctx: &mut Self::CTX) -> Result<()> {
        accept_request::accept_request(session, ctx)?;
        if accept_request::is_challenge(session, ctx).await {
            return Ok(());
        }
        accept_request::route(session, ctx)
    }

    /// Policies: each lets the request go on or answers it.
    async fn request_filter(&self, session: &mut Session, ctx: &mut Self::CTX) -> Result<bool> {
        accept_request::policies(session, ctx)?;
        respond::own_action(session, ctx, &self.lifecycle).await
    }

    /// Pick: a backend for the next attempt.
    async fn upstream_peer(&self, session: &mut Session, ctx: &mut Self::CTX) -> Result<Box<HttpPeer>> {
        pick::pick(session, ctx, &self.pool).await
    }

    /// A connection is there.
    async fn connected_to_upstream(
        &self,
        _session: &mut Session,
        reused: bool,
        _peer: &HttpPeer,
        fd: std::os::unix::io::RawFd,
        _digest: Option<&Digest>,
        ctx: &mut Self::CTX,
    ) -> Result<()> {
        match &mut ctx.attempt {
            Some(attempt) => attempt.connected(reused, fd),
            None => Ok(()),
        }
    }

    /// Send: the header as the backend gets it.
    async fn upstream_request_filter(
        &self,
        session: &mut Session,
        request: &mut RequestHeader,
        ctx: &mut Self::CTX,
    ) -> Result<()> {
        send::header(session, request, ctx)
    }

    /// Send: each piece of the body.
    async fn request_body_filter(
        &self,
        _session: &mut Session,
        body: &mut Option<Bytes>,
        end: bool,
        ctx: &mut Self::CTX,
    ) -> Result<()> {
        send::body(body, end, ctx)
    }

    /// Fail: no connection.
    fn fail_to_connect(
        &self,
        session: &mut Session,
        _peer: &HttpPeer,
        ctx: &mut Self::CTX,
        error: Box<Error>,
    ) -> Box<Error> {
        fail::to_connect(session, ctx, error)
    }

    /// Fail: on a connection that was there.
    fn error_while_proxy(
        &self,
        _peer: &HttpPeer,
        session: &mut Session,
        error: Box<Error>,
        ctx: &mut Self::CTX,
        reused: bool,
    ) -> Box<Error> {
        fail::while_proxying(session, ctx, error, reused)
    }

    /// Answer: the response header as it came; a status may be worth another try.
    async fn upstream_response_filter(
        &self,
        session: &mut Session,
        response: &mut ResponseHeader,
        ctx: &mut Self::CTX,
    ) -> Result<()> {
        respond::arrived(session, response, ctx)
    }

    /// Answer: each piece of the body as it came.
    fn upstream_response_body_filter(
        &self,
        _session: &mut Session,
        body: &mut Option<Bytes>,
        end: bool,
        ctx: &mut Self::CTX,
    ) -> Result<Option<Duration>> {
        respond::body(body, end, ctx)?;
        Ok(None)
    }

    /// Answer: the header as the client gets it.
    async fn response_filter(
        &self,
        session: &mut Session,
        response: &mut ResponseHeader,
        ctx: &mut Self::CTX,
    ) -> Result<()> {
        let received = response.version;
        respond::header(session, response, ctx, &self.lifecycle)?;
        if ctx.version == Version::HTTP_10 && received == Version::HTTP_2 {
            respond::to_old_client(session, response, ctx).await?;
        }
        Ok(())
    }

    /// Answer: our own reply for a fault.
    async fn fail_to_proxy(&self, session: &mut Session, error: &Error, ctx: &mut Self::CTX) -> FailToProxy {
        respond::fault(session, error, ctx, &self.lifecycle).await
    }

    /// Record: one record, whatever happened.
    async fn logging(&self, session: &mut Session, error: Option<&Error>, ctx: &mut Self::CTX) {
        record::done(session, error, ctx);
    }

    /// The access log and the metrics say it; Pingora's line would say it again.
    fn suppress_error_log(&self, _session: &Session, _ctx: &Self::CTX, _error: &Error) -> bool {
        true
    }

    /// As above, for attempts.
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

/// Milliseconds since 1970, for what people read and for cookies; intervals go by `upstream::clock`.
fn unix_ms(at: SystemTime) -> u64 {
    at.duration_since(UNIX_EPOCH).unwrap_or_default().as_millis() as u64
}
