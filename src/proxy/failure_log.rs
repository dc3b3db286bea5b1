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

/// Why a request is a loop, for the status page.
const LOOP: &str = "loop: the request returns to this process";

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

/// No backend could be picked.
pub(super) fn not_picked(ctx: &RequestCtx, target: &RouteTarget, fault: Fault, why: &'static str) {
    let Some(count) = target.meters.count_not_picked(fault, why, clock::now_ms()) else { return };
    let (upstream, request_id, route) = (&**target.upstream.name(), ctx.request_id_text(), ctx.route_name());
    let passed_over = list(&target.upstream.not_picked());
    let fault = fault.label();
    tracing::warn!(upstream, fault, error = why, passed_over, count, request_id, route, "requests get no backend");
}

/// A backend has ended a call of gRPC with an error that error ratios count.
pub(super) fn grpc_error(ctx: &RequestCtx, grpc_status: &str) {
    let Some(attempt) = &ctx.attempt else { return };
    let state = &attempt.backend.state;
    let Some(count) = state.failure_log().count_grpc_error(clock::now_ms()) else { return };
    let (labels, request_id, route) = (state.labels(), ctx.request_id_text(), ctx.route_name());
    let (upstream, backend, address) = (&*labels.upstream, &*labels.backend, &*labels.address);
    tracing::warn!(
        upstream,
        backend,
        address,
        grpc_status,
        count,
        request_id,
        route,
        "the backend ends calls with errors"
    );
}

/// A panic ends the request. The line of the panic itself stands before.
pub(super) fn panicked(ctx: &RequestCtx) {
    let (upstream, request_id, route) = (ctx.upstream(), ctx.request_id_text(), ctx.route_name());
    let backend = ctx.attempt.as_ref().map(|attempt| &*attempt.backend.name);
    tracing::error!(request_id, route, upstream, backend, "a bug in weir ended this request");
}

/// A request has returned to this process too often.
pub(super) fn is_loop(ctx: &RequestCtx) {
    let Some(target) = &ctx.target else { return };
    let Some(count) = target.meters.count_not_picked(Fault::Loop, LOOP, clock::now_ms()) else { return };
    let (upstream, request_id, route) = (&**target.upstream.name(), ctx.request_id_text(), ctx.route_name());
    let fault = Fault::Loop.label();
    tracing::warn!(upstream, fault, count, request_id, route, "requests return to this process in a loop");
}

fn list(backends: &[PassedOver]) -> String {
    let each: Vec<_> = backends.iter().map(|passed| format!("{} {}", passed.backend, passed.why.label())).collect();
    each.join(", ")
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests {
    use std::io::{self, ErrorKind, Write};
    use std::path::Path;
    use std::sync::Arc;

    use http::{HeaderMap, Method};
    use parking_lot::Mutex;

    use super::*;
    use crate::config;
    use crate::message::request_id::RequestId;
    use crate::route::action::Action;
    use crate::route::table::OnListener;
    use crate::snapshot::Snapshot;
    use crate::telemetry::{AccessLog, Metrics, Recorder, Sink};
    use crate::upstream::manager::UpstreamManager;

    /// A request on its way to the upstream `up`.
    fn request(runtime: &tokio::runtime::Runtime) -> RequestCtx {
        let text = "listeners: [{ address: \"127.0.0.1:1\" }]\nroutes: [{ name: all, upstream: up }]\n\
                    upstreams: { up: { backends: [{ address: \"127.0.0.1:2\" }] } }\n";
        let checked = config::parse(Path::new("w"), text, &|_| None, &|_| Err(ErrorKind::NotFound.into())).unwrap();
        let metrics = Metrics::new("0", "test");
        let (states, meters) = (Arc::clone(&metrics), Arc::clone(&metrics));
        let manager = UpstreamManager::new(
            runtime.handle().clone(),
            move |labels| states.backend_state(labels),
            move |name| meters.upstream(name),
        );
        let snapshot = Arc::new(Snapshot::compile(&checked, None, &manager, &metrics).unwrap());
        let find = snapshot.routes.find(OnListener::default(), None, "/", &Method::GET, &HeaderMap::new());
        let route = Arc::clone(find.unwrap());
        let log = Arc::new(AccessLog::start(Sink::off(), metrics.log_dropped()).unwrap());
        let mut ctx = RequestCtx::new(Arc::new(Recorder::new(metrics, log)), Arc::clone(&snapshot));
        ctx.in_flight = Some(ctx.recorder.metrics().request_started());
        ctx.request_id = Some(RequestId::assign(&HeaderMap::new(), 1));
        ctx.target = match &route.action {
            Action::Upstream(target) => Some(Arc::clone(target)),
            _ => None,
        };
        ctx.route = Some(route);
        ctx
    }

    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_panic_logs_the_request_that_it_ends() {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let ctx = request(&runtime);
        let id = ctx.request_id_text().to_owned();
        let (lines, metrics) = (Lines::default(), Arc::clone(ctx.recorder.metrics()));
        let writer = lines.clone();
        let subscriber = tracing_subscriber::fmt().with_writer(move || writer.clone()).with_ansi(false).finish();
        let panicked = std::thread::spawn(move || {
            tracing::subscriber::with_default(subscriber, || {
                let _request = ctx;
                panic!("on purpose");
            })
        });
        assert!(panicked.join().is_err());
        let text = String::from_utf8(lines.0.lock().clone()).unwrap();
        let line = text.lines().find(|line| line.contains("a bug in weir ended this request")).unwrap();
        for part in ["ERROR", &format!("request_id=\"{id}\""), "route=\"all\"", "upstream=\"up\""] {
            assert!(line.contains(part), "{part}: {line}");
        }
        let faults = metrics.route("all").faults().collect::<Vec<_>>();
        assert_eq!(faults, [(Fault::Internal, 1)]);
    }
}
