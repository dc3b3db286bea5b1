//! Warnings about requests that failed, in the process log: at most one a minute for each backend and kind of fault, and
//! for each upstream that has no backend to try.
//!
//! Each line names the request that it was written for, so that the line of the access log can be found. At `debug` each
//! failed attempt has a line.

use super::ctx::RequestCtx;
use crate::backend::labels::PassedOver;
use crate::clock;
use crate::fault::Fault;
use crate::snapshot::RouteTarget;
use crate::telemetry::grpc_status::GrpcStatus;

/// An attempt has failed; `again`: another follows.
pub(super) fn attempt_failed(ctx: &RequestCtx, fault: Fault, error: &str, again: bool) {
    let Some(attempt) = &ctx.attempt else { return };
    let state = &attempt.backend.state;
    let (labels, request_id, route) = (state.labels(), ctx.request_id_text(), ctx.route_name());
    let (upstream, backend, address) = (&*labels.upstream, &*labels.backend, &*labels.address);
    let fault_label = fault.label();
    tracing::debug!(
        request_id,
        route,
        upstream,
        backend,
        address,
        fault = fault_label,
        error,
        again,
        "an attempt failed"
    );
    if let Some(count) = state.failure_log().count_fault(fault, clock::now_ms()) {
        tracing::warn!(
            upstream,
            backend,
            address,
            fault = fault_label,
            error,
            count,
            request_id,
            route,
            "attempts fail"
        );
    }
}

/// A backend has sent a status from 500 to 599.
pub(super) fn server_error(ctx: &RequestCtx, status: u16) {
    let Some(attempt) = &ctx.attempt else { return };
    let state = &attempt.backend.state;
    let Some(count) = state.failure_log().count_server_error(clock::now_ms()) else { return };
    let (labels, request_id, route) = (state.labels(), ctx.request_id_text(), ctx.route_name());
    let (upstream, backend, address) = (&*labels.upstream, &*labels.backend, &*labels.address);
    tracing::warn!(upstream, backend, address, status, count, request_id, route, "the backend responds with errors");
}

/// A backend has ended a call of gRPC with a status that is its error.
pub(super) fn grpc_error(ctx: &RequestCtx, status: GrpcStatus) {
    let Some(attempt) = &ctx.attempt else { return };
    let state = &attempt.backend.state;
    let Some(count) = state.failure_log().count_grpc_error(clock::now_ms()) else { return };
    let (labels, request_id, route) = (state.labels(), ctx.request_id_text(), ctx.route_name());
    let (upstream, backend, address) = (&*labels.upstream, &*labels.backend, &*labels.address);
    let grpc_status = status.label();
    tracing::warn!(
        upstream,
        backend,
        address,
        grpc_status,
        count,
        request_id,
        route,
        "the backend responds with errors"
    );
}

/// No backend could be picked.
pub(super) fn not_picked(ctx: &RequestCtx, target: &RouteTarget, fault: Fault, why: &'static str) {
    let Some(count) = target.meters.count_not_picked(fault, why, clock::now_ms()) else { return };
    let (upstream, request_id, route) = (&**target.upstream.name(), ctx.request_id_text(), ctx.route_name());
    let passed_over = list(&target.upstream.not_picked());
    let fault = fault.label();
    tracing::warn!(upstream, fault, error = why, passed_over, count, request_id, route, "requests get no backend");
}

fn list(backends: &[PassedOver]) -> String {
    let each: Vec<_> = backends.iter().map(|passed| format!("{} {}", passed.backend, passed.why.label())).collect();
    each.join(", ")
}
