//! Reads the counters of the process for the history of the status page.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use crate::admin::activity::{
    Activity, BackendActivity, FailedReply, RouteActivity, StateNote, Totals, UpstreamActivity,
};
use crate::admin::api;
use crate::backend::BackendState;
use crate::backend::labels::AdminState;
use crate::clock;
use crate::config::schema::RouteSettings;
use crate::config::values::Name;
use crate::fault::Fault;
use crate::snapshot::Snapshot;
use crate::telemetry::Metrics;
use crate::telemetry::failed_requests::{FailedAttempt, FailedRequest};
use crate::upstream::Upstream;
use crate::upstream::backend::Backend;

/// The counters of all routes and backends of this snapshot, and the latest failed requests.
pub(super) fn activity(snapshot: &Snapshot, metrics: &Metrics) -> Activity {
    let routes = &snapshot.document.routes;
    let names = routes.iter().enumerate().map(|(at, configured)| configured.label(at));
    Activity {
        routes: names.map(|name| route(&name, metrics)).collect(),
        upstreams: snapshot.upstreams.values().map(|each| upstream(each, routes, metrics)).collect(),
        reloads: Vec::new(),
        failed_requests: metrics.failed_requests().recent().into_iter().map(failed).collect(),
    }
}

fn route(name: &str, metrics: &Metrics) -> RouteActivity {
    let meters = metrics.route(name);
    let (requests, errors) = meters.totals();
    let is_limit = |fault: Fault| matches!(fault, Fault::RateLimited | Fault::RefusedPolicy);
    RouteActivity {
        name: name.to_owned(),
        totals: Totals { requests, errors, latency: meters.durations() },
        limited: meters.faults().filter(|(fault, _)| is_limit(*fault)).map(|(_, n)| n).sum(),
    }
}

fn upstream(upstream: &Arc<Upstream>, routes: &[RouteSettings], metrics: &Metrics) -> UpstreamActivity {
    let now_ms = clock::now_ms();
    let name = upstream.name();
    let left = routes.iter().filter(|route| targets(route).any(|each| *each.as_str() == **name)).map(|route| {
        let retry = &route.retry;
        upstream.budget().left(retry.budget.fraction(), retry.floor, now_ms)
    });
    UpstreamActivity {
        name: name.to_string(),
        queued: usize::try_from(metrics.upstream(name).waiting()).unwrap_or(usize::MAX),
        queue_size: upstream.settings().queue.as_ref().map(|queue| usize::try_from(queue.size).unwrap_or(usize::MAX)),
        retries_left: left.min(),
        backends: upstream.backends().iter().map(|each| backend(upstream, each, now_ms)).collect(),
    }
}

/// The upstreams to which a route forwards.
fn targets(route: &RouteSettings) -> impl Iterator<Item = &Name> {
    let split = route.split.iter().flat_map(|split| &split.targets).map(|target| &target.upstream);
    route.upstream.iter().chain(split)
}

fn backend(upstream: &Upstream, backend: &Backend, now_ms: u64) -> BackendActivity {
    let state = &backend.state;
    BackendActivity {
        address: backend.address.to_string(),
        troubled: !state.state().is_serving(),
        in_flight: state.in_flight(),
        retries: state.retry_count(),
        totals: Totals { requests: state.attempts(), errors: state.error_count(), latency: state.response_times() },
        notes: notes(upstream, backend, now_ms),
    }
}

/// The details of a state, with the time to which each refers.
fn notes(upstream: &Upstream, backend: &Backend, now_ms: u64) -> Vec<StateNote> {
    let state = &backend.state;
    let at = |ms: u64| api::rfc3339(clock::to_unix_ms(ms));
    let mut notes = Vec::new();
    match state.admin_state() {
        AdminState::Ready => {}
        mark => notes.push(StateNote { text: format!("marked {} by an operator", mark.label()), time: None }),
    }
    if let Some(weight) = state.runtime_weight() {
        notes.push(StateNote { text: format!("weight {weight} set by an operator"), time: None });
    }
    if state.is_ejected() {
        notes.push(match state.trial_due_ms() {
            Some(due) if due > now_ms => StateNote { text: "its trial request is allowed".to_owned(), time: at(due) },
            Some(_) => StateNote { text: "the next request is its trial".to_owned(), time: None },
            None => StateNote { text: "its trial request is in flight".to_owned(), time: None },
        });
    }
    notes.extend(
        slow_start(upstream, backend, now_ms)
            .map(|end| StateNote { text: "slow start, full weight".to_owned(), time: at(end) }),
    );
    notes.extend(last_check(state).map(|(text, ms)| StateNote { text, time: at(ms) }));
    notes
}

/// The end of the slow start, while the weight is reduced.
fn slow_start(upstream: &Upstream, backend: &Backend, now_ms: u64) -> Option<u64> {
    let full = f64::from(backend.weight_now(upstream.settings().balance));
    let since = backend.state.load().serving_since_ms();
    let end = since.saturating_add(u64::try_from(upstream.settings().slow_start.get().as_millis()).ok()?);
    (since > 0 && end > now_ms && backend.state.weights().1 < full).then_some(end)
}

fn last_check(state: &BackendState) -> Option<(String, u64)> {
    let last = state.last_check().answer()?;
    let took = last.took.as_secs_f64() * 1000.0;
    let text = match &last.failure {
        None => format!("last check passed in {took:.1} ms"),
        Some(failure) => format!("last check failed: {failure}"),
    };
    Some((text, last.at_ms))
}

fn failed(request: FailedRequest) -> FailedReply {
    let ms = |at: SystemTime| at.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis());
    let names = [request.route.as_deref(), request.upstream.as_deref()];
    FailedReply {
        time: api::rfc3339(u64::try_from(ms(request.started)).unwrap_or(0)).unwrap_or_default(),
        request_id: request.request_id,
        request: format!("{} {}", request.method, request.path),
        target: names.into_iter().flatten().collect::<Vec<_>>().join(", "),
        fault: format!("{} {}", request.status, request.fault.label()),
        took_ms: u64::try_from(request.duration.as_millis()).unwrap_or(u64::MAX),
        attempts: request.attempts.iter().map(attempt).collect(),
    }
}

fn attempt(attempt: &FailedAttempt) -> String {
    let error = attempt.error.as_deref().map(|error| format!(": {error}")).unwrap_or_default();
    format!("{} {}{error}", attempt.backend, attempt.outcome)
}
