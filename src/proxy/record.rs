//! Writes the record of a request (metrics and access log) exactly once, at the first of its possible ends.

use std::net::{IpAddr, Ipv4Addr};

use http::HeaderValue;
use pingora::Error;
use pingora_proxy::Session;

use super::attempt_error::{REQUEST_TIMEOUT, describe};
use super::classify;
use super::ctx::RequestCtx;
use super::failure_log;
use super::response_cost;
use super::upstream_error::{has_begun, is_end_of_tunnel};
use crate::backend::labels::{Outcome, PassedOver};
use crate::fault::Fault;
use crate::listener::Abort;
use crate::telemetry::request_record::Record;

/// Records a request that reached Pingora's logging phase, successful or not.
pub(super) fn done(session: &Session, error: Option<&Error>, ctx: &mut RequestCtx) {
    let error = error.filter(|error| !is_end_of_tunnel(ctx, error) && !ctx.left_served && ctx.replaced.is_none());
    // The response of an authorization server is no error for Pingora.
    let refused = ctx.fault.filter(|fault| *fault == Fault::Unauthorized);
    let fault = error.and(ctx.fault).or_else(|| error.map(of)).or(refused);
    let outcome = match error {
        None => Outcome::Ok,
        Some(error) if classify::is_the_clients(error) => Outcome::ClientAbort,
        Some(error) => classify::proxying(error).outcome,
    };
    if let Some(error) = error.filter(|error| !classify::is_the_clients(error)) {
        let text = if fault == Some(Fault::Timeout) { REQUEST_TIMEOUT.into() } else { describe(error, ctx.stage()) };
        ctx.set_error(text);
    }
    ctx.end_attempt(outcome, None);
    ctx.bytes_in = session.body_bytes_read() as u64;
    ctx.bytes_out = session.body_bytes_sent() as u64;
    let written = session.response_written().filter(|_| has_begun(session)).map(|response| response.status.as_u16());
    let status = match fault {
        Some(Fault::ClientAbort) => Fault::ClientAbort.status(),
        Some(fault) => written.or(ctx.status).unwrap_or(fault.status()),
        None => written.unwrap_or(Fault::Internal.status()),
    };
    record(ctx, fault, status);
}

fn of(error: &Error) -> Fault {
    if classify::is_the_clients(error) { classify::client(error).0 } else { Fault::Internal }
}

/// Records a request whose context is dropped before the logging phase: aborted by a deadline, cancelled with its
/// connection, or panicked.
pub(super) fn cut_short(ctx: &mut RequestCtx) {
    if ctx.recorded || ctx.in_flight.is_none() {
        return;
    }
    let (fault, status) = match ctx.exchange.as_ref().and_then(|exchange| exchange.cut()) {
        Some(why) => of_cut(why),
        None if std::thread::panicking() => {
            failure_log::panicked(ctx);
            (Fault::Internal, Fault::Internal.status())
        }
        None if ctx.exchange.as_ref().is_some_and(|exchange| exchange.conn.is_leaving()) => of_cut(Abort::Shutdown),
        None => (Fault::ClientAbort, Fault::ClientAbort.status()),
    };
    let outcome = if fault == Fault::Timeout { Outcome::Timeout } else { Outcome::ClientAbort };
    if fault == Fault::Timeout {
        ctx.set_error(REQUEST_TIMEOUT.into());
    }
    ctx.end_attempt(outcome, None);
    let status = if fault == Fault::ClientAbort { status } else { ctx.begun.unwrap_or(status) };
    record(ctx, Some(fault), status);
}

/// The fault and status of a request that the listener aborted.
pub(super) fn of_cut(why: Abort) -> (Fault, u16) {
    match why {
        Abort::Deadline => (Fault::Timeout, Fault::Timeout.status()),
        Abort::Shutdown => (Fault::Shutdown, Fault::Shutdown.status()),
    }
}

fn record(ctx: &mut RequestCtx, fault: Option<Fault>, status: u16) {
    ctx.recorded = true;
    if let Some(exchange) = ctx.exchange.as_ref().filter(|_| fault == Some(Fault::ClientAbort) && ctx.begun.is_none()) {
        exchange.set_given_up();
    }
    response_cost::settle(ctx, fault);
    let line = ctx.line.take().map(|line| *line).unwrap_or_default();
    let bytes = HeaderValue::as_bytes;
    let passed_over = not_picked(ctx, fault);
    let noted: Vec<_> = ctx.limits.iter().flat_map(|limits| limits.names_of_refusals()).collect();
    let record = Record {
        started: ctx.started_at,
        duration: ctx.started.elapsed(),
        stream_header: ctx.stream_header,
        grpc_status: ctx.grpc.status(fault),
        request_id: ctx
            .request_id
            .as_ref()
            .filter(|_| ctx.recorder.wants_line() || fault.is_some())
            .map_or("-", |id| id.as_str()),
        listener: ctx.exchange.as_ref().map_or("-", |exchange| &exchange.conn.listener),
        scheme: ctx.exchange.as_ref().map_or("http", |exchange| exchange.conn.scheme()),
        client: ctx.client.unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED)),
        method: &ctx.method,
        host: line.host.as_deref(),
        path: &line.path,
        version: ctx.version,
        route: ctx.route_meters(),
        upstream: ctx.upstream(),
        backend: ctx.attempts.last().map(|attempt| &*attempt.labels.backend),
        attempts: &ctx.attempts,
        passed_over: passed_over.as_deref(),
        limits: &noted,
        user: ctx.access.as_ref().and_then(|access| access.identity.as_ref()).map(|identity| &*identity.name),
        status,
        bytes_in: ctx.bytes_in,
        bytes_out: ctx.bytes_out,
        fault,
        user_agent: line.user_agent.as_ref().map(bytes),
        referer: line.referer.as_ref().map(bytes),
        trace_id: line.trace_id.as_deref(),
    };
    ctx.recorder.record(&record);
}

/// The backends that could not be picked, for a request that failed without an attempt.
fn not_picked(ctx: &RequestCtx, fault: Option<Fault>) -> Option<Vec<PassedOver>> {
    let nothing_tried = fault.is_some() && ctx.attempts.is_empty() && ctx.handed_over && ctx.recorder.wants_line();
    ctx.target.as_ref().filter(|_| nothing_tried).map(|target| target.upstream.not_picked())
}

impl Drop for RequestCtx {
    fn drop(&mut self) {
        cut_short(self);
    }
}
