//! The metric families: name, help, labels and series of each, in one table.
//!
//! It never stores or changes a value: `scrape` iterates over the table.

use std::sync::atomic::Ordering::Relaxed;

use super::access_meters::AccessResult;
use super::acme::OrderResult;
use super::family_spec::{
    ADDRESS, BACKEND, FamilySource, FamilySpec, UPSTREAM, counter, gauge, histogram, plain, retries, with,
};
use super::limit_meters::{CostResult, LimitResult, StoreResult};
use super::meters::ConnectionResult;
use super::mirror_meters::MirrorResult;
use super::panic_hook;
use super::process_log;
use crate::backend::error_cause::ErrorCause;
use crate::backend::labels::{BackendCondition, Outcome};
use crate::backend::meters::CLASSES;

/// All families, sorted by name.
pub(super) const ALL: &[FamilySpec] = &[
    counter(
        "weir_access_decisions_total",
        "Decisions of access policies; unavailable and open: the policy could not decide.",
        &["policy", "result"],
        FamilySource::AccessPolicies(|s, policy| {
            AccessResult::ALL.iter().for_each(|result| s.add(&[policy.name(), result.label()], policy.total(*result)));
        }),
    ),
    counter(
        "weir_access_log_dropped_total",
        "Access log lines lost.",
        &[],
        FamilySource::Process(|s, c| s.add(&[], c.log_dropped.get())),
    ),
    gauge(
        "weir_acme_failed_orders",
        "Orders that have failed since the last that ended with a certificate.",
        &["certificate"],
        FamilySource::Certificates(|s, certificate| {
            if let Some(orders) = certificate.ordered() {
                s.add(&[certificate.name()], orders.failures());
            }
        }),
    ),
    counter(
        "weir_acme_orders_total",
        "Orders for certificates from ACME servers by how they ended.",
        &["certificate", "result"],
        FamilySource::Certificates(|s, certificate| {
            let Some(orders) = certificate.ordered() else { return };
            OrderResult::ALL
                .iter()
                .for_each(|result| s.add(&[certificate.name(), result.label()], orders.total(*result)));
        }),
    ),
    counter(
        "weir_auth_files_rejected_total",
        "Changed files of `auth` that cannot be used; their old content goes on.",
        &[],
        FamilySource::Process(|s, c| s.add(&[], c.auth_files_rejected.get())),
    ),
    counter(
        "weir_backend_attempts_total",
        "Attempts by outcome.",
        &[UPSTREAM, BACKEND, ADDRESS, "outcome"],
        FamilySource::Backends(|s, backend_state, labels| {
            let attempts = Outcome::ALL.iter().zip(&backend_state.meters().attempts);
            attempts.for_each(|(outcome, n)| s.add(&with(labels, outcome.label()), n.get()));
        }),
    ),
    counter(
        "weir_backend_bytes_total",
        "Bytes of bodies.",
        &[UPSTREAM, BACKEND, ADDRESS, "direction"],
        FamilySource::Backends(|s, backend_state, labels| {
            s.add(&with(labels, "sent"), backend_state.meters().sent.get());
            s.add(&with(labels, "received"), backend_state.meters().received.get());
        }),
    ),
    histogram(
        "weir_backend_check_seconds",
        "How long health checks took.",
        &[UPSTREAM, BACKEND, ADDRESS],
        FamilySource::Backends(|s, backend_state, labels| s.observe(&plain(labels), &backend_state.meters().check)),
    ),
    counter(
        "weir_backend_checks_total",
        "Health checks by result.",
        &[UPSTREAM, BACKEND, ADDRESS, "result"],
        FamilySource::Backends(|s, backend_state, labels| {
            let (passed, failed) = (backend_state.meters().passed.get(), backend_state.meters().failed.get());
            // A backend without a health check has no series. Zeros could be mistaken for a check that never passes.
            if passed + failed > 0 {
                s.add(&with(labels, "pass"), passed);
                s.add(&with(labels, "fail"), failed);
            }
        }),
    ),
    histogram(
        "weir_backend_connect_seconds",
        "Time to open a connection, TLS included.",
        &[UPSTREAM, BACKEND, ADDRESS],
        FamilySource::Backends(|s, backend_state, labels| s.observe(&plain(labels), &backend_state.meters().connect)),
    ),
    counter(
        "weir_backend_errors_total",
        "Attempts that were an error of the backend, by cause; a cause appears with its first error.",
        &[UPSTREAM, BACKEND, ADDRESS, "cause"],
        FamilySource::Backends(|s, backend_state, labels| {
            let errors = ErrorCause::ALL.iter().zip(&backend_state.meters().errors).filter(|(_, n)| n.get() > 0);
            errors.for_each(|(cause, n)| s.add(&with(labels, cause.label()), n.get()));
        }),
    ),
    gauge(
        "weir_backend_in_flight",
        "Attempts under way: the number that balancers read.",
        &[UPSTREAM, BACKEND, ADDRESS],
        FamilySource::Backends(|s, backend_state, labels| s.add(&plain(labels), backend_state.in_flight().into())),
    ),
    counter(
        "weir_backend_requests_total",
        "Responses by class.",
        &[UPSTREAM, BACKEND, ADDRESS, "class"],
        FamilySource::Backends(|s, backend_state, labels| {
            let responses = CLASSES.iter().zip(&backend_state.meters().responses);
            responses.for_each(|(class, n)| s.add(&with(labels, class), n.get()));
        }),
    ),
    histogram(
        "weir_backend_response_seconds",
        "From the pick to the response header.",
        &[UPSTREAM, BACKEND, ADDRESS],
        FamilySource::Backends(|s, backend_state, labels| s.observe(&plain(labels), &backend_state.meters().response)),
    ),
    counter(
        "weir_backend_retries_total",
        "Attempts that failed and were followed by another, on the backend that failed.",
        &[UPSTREAM, BACKEND, ADDRESS, "reason"],
        FamilySource::Backends(retries),
    ),
    gauge(
        "weir_backend_state",
        "1 for the one state that it is in.",
        &[UPSTREAM, BACKEND, ADDRESS, "state"],
        FamilySource::Backends(|s, backend_state, labels| {
            let now = backend_state.state();
            BackendCondition::ALL.iter().for_each(|state| s.add(&with(labels, state.label()), (*state == now).into()));
        }),
    ),
    counter(
        "weir_backend_state_changes_total",
        "Changes of state by the new one.",
        &[UPSTREAM, BACKEND, ADDRESS, "to"],
        FamilySource::Backends(|s, backend_state, labels| {
            let became = BackendCondition::ALL.iter().zip(&backend_state.meters().became);
            became.for_each(|(state, n)| s.add(&with(labels, state.label()), n.get()));
        }),
    ),
    gauge(
        "weir_backend_up",
        "1 while its checks say that it serves, or while it has none; 0 without an address.",
        &[UPSTREAM, BACKEND, ADDRESS],
        FamilySource::Backends(|s, backend_state, labels| s.add(&plain(labels), backend_state.is_up().into())),
    ),
    gauge(
        "weir_backend_weight",
        "Weight as configured and as used.",
        &[UPSTREAM, BACKEND, ADDRESS, "kind"],
        FamilySource::Backends(|s, backend_state, labels| {
            let (configured, effective) = backend_state.weights();
            s.add(&with(labels, "configured"), configured.into());
            s.push(&with(labels, "effective"), effective);
        }),
    ),
    counter(
        "weir_body_file_reloads_total",
        "Changed files of respond.body_file and errors by result; of a rejected one the old content goes on.",
        &["result"],
        FamilySource::Process(|s, c| {
            s.add(&["applied"], c.body_files_applied.get());
            s.add(&["rejected"], c.body_files_rejected.get());
        }),
    ),
    gauge(
        "weir_build_info",
        "Always 1; the labels say what runs.",
        &["version", "commit"],
        FamilySource::Process(|s, c| s.add(&[&c.version, &c.commit], 1)),
    ),
    gauge(
        "weir_config_generation",
        "How many configurations have been in force, this one included.",
        &[],
        FamilySource::Process(|s, c| s.add(&[], c.generation.load(Relaxed))),
    ),
    gauge(
        "weir_config_last_reload_success",
        "1 if the last load of the configuration was applied.",
        &[],
        FamilySource::Process(|s, c| s.add(&[], (!c.last_reload_failed.load(Relaxed)).into())),
    ),
    gauge(
        "weir_config_last_reload_timestamp_seconds",
        "When the configuration was last loaded.",
        &[],
        FamilySource::Process(|s, c| s.add(&[], c.last_reload_secs.load(Relaxed))),
    ),
    counter(
        "weir_config_reloads_total",
        "Reloads of the configuration.",
        &["result"],
        FamilySource::Process(|s, c| {
            s.add(&["applied"], c.reloads_applied.get());
            s.add(&["rejected"], c.reloads_rejected.get());
        }),
    ),
    counter(
        "weir_content_coding_bytes_total",
        "Bytes of bodies that were compressed or decompressed, before and after it.",
        &["route", "action", "coding", "side"],
        FamilySource::Routes(|s, route| {
            for ([action, coding], counters) in route.used_codings() {
                s.add(&[route.name(), action, coding, "before"], counters.before.get());
                s.add(&[route.name(), action, coding, "after"], counters.after.get());
            }
        }),
    ),
    counter(
        "weir_content_coding_failures_total",
        "Responses that ended as incomplete because their body could not be compressed or decompressed.",
        &["route", "action", "coding"],
        FamilySource::Routes(|s, route| {
            route
                .used_codings()
                .for_each(|([action, coding], n)| s.add(&[route.name(), action, coding], n.failures.get()));
        }),
    ),
    counter(
        "weir_content_coding_responses_total",
        "Responses whose body was compressed or decompressed.",
        &["route", "action", "coding"],
        FamilySource::Routes(|s, route| {
            route
                .used_codings()
                .for_each(|([action, coding], n)| s.add(&[route.name(), action, coding], n.responses.get()));
        }),
    ),
    counter(
        "weir_faults_total",
        "Requests not served as asked.",
        &["route", "fault"],
        FamilySource::Routes(|s, route| route.faults().for_each(|(fault, n)| s.add(&[route.name(), fault.label()], n))),
    ),
    counter(
        "weir_grpc_requests_total",
        "Calls of gRPC by their status, without those that ended with a 5xx status of HTTP.",
        &["route", "grpc_status"],
        FamilySource::Routes(|s, route| route.grpc().for_each(|(status, n)| s.add(&[route.name(), status.label()], n))),
    ),
    counter(
        "weir_grpc_timeouts_ignored_total",
        "Calls of gRPC whose grpc-timeout was malformed.",
        &["route"],
        FamilySource::Routes(|s, route| {
            let ignored = route.bad_grpc_timeouts();
            if ignored > 0 || route.grpc().next().is_some() {
                s.add(&[route.name()], ignored);
            }
        }),
    ),
    counter(
        "weir_list_file_reloads_total",
        "Changed files of redirects and texts by result; of a rejected one the old content goes on.",
        &["result"],
        FamilySource::Process(|s, c| {
            s.add(&["applied"], c.list_files_applied.get());
            s.add(&["rejected"], c.list_files_rejected.get());
        }),
    ),
    gauge(
        "weir_listener_connections",
        "Connections of clients open now.",
        &["listener"],
        FamilySource::Listeners(|s, listener| s.add(&[listener.name()], listener.open())),
    ),
    counter(
        "weir_listener_connections_total",
        "Connections of clients by what became of them.",
        &["listener", "result"],
        FamilySource::Listeners(|s, listener| {
            ConnectionResult::ALL
                .into_iter()
                .for_each(|result| s.add(&[listener.name(), result.label()], listener.total(result)));
        }),
    ),
    gauge(
        "weir_mirror_in_flight",
        "Copies of requests for a mirror that have begun and not ended.",
        &["route"],
        FamilySource::Routes(|s, route| {
            if let Some(mirror) = route.used_mirror() {
                s.add(&[route.name()], mirror.in_flight().into());
            }
        }),
    ),
    counter(
        "weir_mirror_requests_total",
        "Copies of requests for a mirror by how they ended.",
        &["route", "result"],
        FamilySource::Routes(|s, route| {
            let Some(mirror) = route.used_mirror() else { return };
            MirrorResult::ALL.iter().for_each(|each| s.add(&[route.name(), each.label()], mirror.total(*each)));
        }),
    ),
    counter(
        "weir_network_files_rejected_total",
        "Changed files of `allow` and `deny` that cannot be used; their old content goes on.",
        &[],
        FamilySource::Process(|s, c| s.add(&[], c.network_files_rejected.get())),
    ),
    counter(
        "weir_panics_total",
        "Panics that were caught; each one is a bug.",
        &[],
        FamilySource::Process(|s, _| s.add(&[], panic_hook::count())),
    ),
    counter(
        "weir_process_log_dropped_total",
        "Process log lines lost.",
        &[],
        FamilySource::Process(|s, _| s.add(&[], process_log::dropped())),
    ),
    gauge(
        "weir_processes",
        "Processes of this Weir: this one, the old ones that still drain after upgrades, and a new one that starts.",
        &["state"],
        FamilySource::Process(|s, c| {
            let draining = u64::from(c.draining.load(Relaxed));
            s.add(&["starting"], c.starting_processes.load(Relaxed));
            s.add(&["serving"], 1 - draining);
            s.add(&["draining"], c.old_processes.load(Relaxed) + draining);
        }),
    ),
    counter(
        "weir_rate_limit_costs_total",
        "Responses with a cost by how it was found; all but stated: the reservation was charged.",
        &["limit", "result"],
        FamilySource::Limits(|s, limit| {
            // Most limits have a fixed cost.
            if CostResult::ALL.iter().any(|result| limit.costs(*result) > 0) {
                CostResult::ALL.iter().for_each(|result| s.add(&[limit.name(), result.label()], limit.costs(*result)));
            }
        }),
    ),
    counter(
        "weir_rate_limit_decisions_total",
        "Decisions of rate limits; local: made in memory because the store did not answer, counted twice.",
        &["limit", "result"],
        FamilySource::Limits(|s, limit| {
            LimitResult::ALL.iter().for_each(|result| s.add(&[limit.name(), result.label()], limit.total(*result)));
        }),
    ),
    gauge(
        "weir_rate_limit_keys",
        "Buckets of rate limits in memory.",
        &["limit"],
        FamilySource::Limits(|s, limit| s.add(&[limit.name()], limit.keys())),
    ),
    histogram(
        "weir_request_duration_seconds",
        "From the arrival of a request to the end of its response; of streams and tunnels to the header.",
        &["route"],
        FamilySource::Routes(|s, route| s.observe(&[route.name()], route.duration())),
    ),
    gauge(
        "weir_requests_in_flight",
        "Requests that have begun and not ended.",
        &[],
        FamilySource::Process(|s, c| s.add(&[], c.in_flight())),
    ),
    counter(
        "weir_requests_total",
        "Requests by the status that the client got; 499: it left first.",
        &["route", "method", "status"],
        FamilySource::Routes(|s, route| {
            let name = route.name();
            route
                .requests()
                .for_each(|(method, status, n)| s.add(&[name, method, itoa::Buffer::new().format(status)], n));
        }),
    ),
    gauge(
        "weir_route_maintenance",
        "1 while the route is in maintenance.",
        &["route"],
        FamilySource::Routes(|s, route| {
            if &**route.name() != "-" {
                s.add(&[route.name()], route.maintenance().is_on().into());
            }
        }),
    ),
    counter(
        "weir_store_requests_total",
        "Requests to stores by result; skipped: not asked, as the store has failed before.",
        &["store", "result"],
        FamilySource::Stores(|s, store| {
            StoreResult::ALL.iter().for_each(|result| s.add(&[store.name(), result.label()], store.total(*result)));
        }),
    ),
    histogram(
        "weir_store_response_seconds",
        "How long stores took to answer.",
        &["store"],
        FamilySource::Stores(|s, store| s.observe(&[store.name()], store.took())),
    ),
    histogram(
        "weir_stream_duration_seconds",
        "From the arrival of a request to its end, of tunnels, event streams and gRPC.",
        &["route"],
        FamilySource::Routes(|s, route| {
            if let Some(streams) = route.streams() {
                s.observe(&[route.name()], streams);
            }
        }),
    ),
    gauge(
        "weir_tls_certificate_expiry_timestamp_seconds",
        "When the certificate that is served ends.",
        &["certificate"],
        FamilySource::Certificates(|s, certificate| {
            if let Some(seconds) = certificate.expiry() {
                s.push(&[certificate.name()], seconds as f64);
            }
        }),
    ),
    counter(
        "weir_tls_certificate_reloads_total",
        "Changed certificate files by what became of them; of a rejected one the old goes on.",
        &["certificate", "result"],
        FamilySource::Certificates(|s, certificate| {
            let (applied, rejected) = certificate.reloads();
            s.add(&[certificate.name(), "applied"], applied);
            s.add(&[certificate.name(), "rejected"], rejected);
        }),
    ),
    counter(
        "weir_upstream_discoveries_total",
        "Looks for backends in DNS or a file by result.",
        &["upstream", "result"],
        FamilySource::Upstreams(|s, upstream| {
            upstream.discoveries().into_iter().flatten().for_each(|(result, n)| s.add(&[upstream.name(), result], n));
        }),
    ),
    gauge(
        "weir_upstream_discovery_last_success_timestamp_seconds",
        "When a look for backends last went well; 0: never.",
        &["upstream"],
        FamilySource::Upstreams(|s, upstream| {
            if upstream.discoveries().is_some() {
                s.push(&[upstream.name()], upstream.discovered_ms() as f64 / 1_000.0);
            }
        }),
    ),
    counter(
        "weir_upstream_fail_open_total",
        "Picks while backends that are down are picked too, as none is up, or too few are.",
        &["upstream"],
        FamilySource::Upstreams(|s, upstream| s.add(&[upstream.name()], upstream.fail_open())),
    ),
    gauge(
        "weir_upstream_queue_depth",
        "Requests that wait for a backend with a free place.",
        &["upstream"],
        FamilySource::Upstreams(|s, upstream| s.add(&[upstream.name()], upstream.waiting())),
    ),
    histogram(
        "weir_upstream_queue_seconds",
        "How long requests waited for a backend with a free place, however it ended.",
        &["upstream"],
        FamilySource::Upstreams(|s, upstream| s.observe(&[upstream.name()], upstream.waited())),
    ),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn families_are_sorted_and_their_help_is_one_plain_line() {
        assert!(ALL.iter().map(|shown| shown.family.name).is_sorted_by(|one, next| one < next));
        assert!(ALL.iter().all(|shown| !shown.family.help.is_empty() && !shown.family.help.contains(['\\', '\n'])));
    }
}
