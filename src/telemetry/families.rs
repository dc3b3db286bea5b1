//! The scrape: reads the cells and builds every family of the contract. The one place that knows families' names,
//! their help and their labels.
//!
//! It changes nothing and keeps nothing between scrapes; the work grows with the number of series shown.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use prometheus::core::{Collector, Desc};
use prometheus::proto::MetricFamily;

use crate::fault::Fault;

use super::family::{Family, Kind};
use super::meters::{CLASSES, ConnectionResult};
use super::metrics::Cells;
use super::orders::OrderResult;
use super::panics;
use super::vitals::{Health, Labels, Outcome, RetryReason, State, Vitals};

const BACKEND: [&str; 3] = ["upstream", "backend", "address"];

/// The collector of all families that come from cells.
pub(super) struct Families {
    cells: Arc<Cells>,
    descs: Vec<Desc>,
}

impl Families {
    pub(super) fn new(cells: Arc<Cells>) -> Self {
        let families = collect(&cells);
        Self { cells, descs: families.iter().map(Family::desc).collect() }
    }
}

impl Collector for Families {
    fn desc(&self) -> Vec<&Desc> {
        self.descs.iter().collect()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        collect(&self.cells).into_iter().map(Family::into_proto).collect()
    }
}

fn collect(cells: &Cells) -> Vec<Family> {
    let mut families = process(cells);
    families.extend(routes(cells));
    families.extend(listeners(cells));
    families.extend(certificates(cells));
    families.extend(upstreams(cells));
    let backends = cells.backends.held();
    let shown: Vec<_> = backends.iter().filter(|v| v.is_member() || v.in_flight() > 0).collect();
    families.extend(traffic(&shown));
    families.extend(standing(&shown));
    families
}

fn process(cells: &Cells) -> Vec<Family> {
    let gauge = |name, help, value| Family::single(name, Kind::Gauge, help, value);
    let counter = |name, help, value: u64| Family::single(name, Kind::Counter, help, value as f64);
    let reloads = Family::of("weir_config_reloads_total", Kind::Counter, "Reloads of the configuration.", &["result"])
        .with(&["applied"], cells.reloads_applied.get())
        .with(&["rejected"], cells.reloads_rejected.get());
    let failed = f64::from(u8::from(!cells.last_reload_failed.load(Relaxed)));
    let seconds = cells.last_reload_secs.load(Relaxed) as f64;
    let generation = cells.generation.load(Relaxed) as f64;
    vec![
        gauge("weir_requests_in_flight", "Requests that have begun and not ended.", cells.in_flight() as f64),
        reloads,
        gauge("weir_config_last_reload_success", "1 if the last load of the configuration was applied.", failed),
        gauge("weir_config_last_reload_timestamp_seconds", "When the configuration was last loaded.", seconds),
        gauge("weir_config_generation", "How many configurations have been in force, this one included.", generation),
        counter("weir_access_log_dropped_total", "Access log lines lost.", cells.log_dropped.get()),
        counter("weir_panics_total", "Panics that were caught; each one is a bug.", panics::count()),
        Family::of("weir_build_info", Kind::Gauge, "Always 1; the labels say what runs.", &["version", "commit"])
            .with(&[&cells.version, &cells.commit], 1),
    ]
}

fn routes(cells: &Cells) -> Vec<Family> {
    let mut requests = Family::of(
        "weir_requests_total",
        Kind::Counter,
        "Requests by the status that the client got; 499: it left first.",
        &["route", "method", "status"],
    );
    let mut duration = Family::of(
        "weir_request_duration_seconds",
        Kind::Histogram,
        "From the arrival of a request to the end of its response.",
        &["route"],
    );
    let mut faults =
        Family::of("weir_faults_total", Kind::Counter, "Requests not served as asked.", &["route", "fault"]);
    for route in cells.routes.held() {
        let name = &**route.name();
        route.requests().for_each(|(method, status, n)| requests.add(&[name, method, &status.to_string()], n));
        duration.observe(&[name], route.duration());
        route.faults().for_each(|(fault, n)| faults.add(&[name, fault.label()], n));
    }
    vec![requests, duration, faults]
}

fn listeners(cells: &Cells) -> Vec<Family> {
    let mut open =
        Family::of("weir_listener_connections", Kind::Gauge, "Connections of clients open now.", &["listener"]);
    let mut results = Family::of(
        "weir_listener_connections_total",
        Kind::Counter,
        "Connections of clients by what became of them.",
        &["listener", "result"],
    );
    for listener in cells.listeners.held() {
        open.add(&[listener.name()], listener.open());
        for result in ConnectionResult::ALL {
            results.add(&[listener.name(), result.label()], listener.total(result));
        }
    }
    vec![open, results]
}

fn upstreams(cells: &Cells) -> Vec<Family> {
    let mut fail_open = Family::of(
        "weir_upstream_fail_open_total",
        Kind::Counter,
        "Picks while backends that are down are picked too, as none is up, or too few are.",
        &["upstream"],
    );
    let mut depth = Family::of(
        "weir_upstream_queue_depth",
        Kind::Gauge,
        "Requests that wait for a backend with a free place.",
        &["upstream"],
    );
    let mut waited = Family::of(
        "weir_upstream_queue_seconds",
        Kind::Histogram,
        "How long requests waited for a backend with a free place, however it ended.",
        &["upstream"],
    );
    let mut looks = Family::of(
        "weir_upstream_discoveries_total",
        Kind::Counter,
        "Looks for backends in DNS or a file by result.",
        &["upstream", "result"],
    );
    let mut found = Family::of(
        "weir_upstream_discovery_last_success_timestamp_seconds",
        Kind::Gauge,
        "When a look for backends last went well; 0: never.",
        &["upstream"],
    );
    for upstream in cells.upstreams.held() {
        for (result, n) in upstream.discoveries().into_iter().flatten() {
            looks.add(&[upstream.name(), result], n);
        }
        if upstream.discoveries().is_some() {
            found.push(&[upstream.name()], upstream.discovered_ms() as f64 / 1_000.0);
        }
        fail_open.add(&[upstream.name()], upstream.fail_open());
        depth.add(&[upstream.name()], upstream.waiting());
        waited.observe(&[upstream.name()], upstream.waited());
    }
    vec![fail_open, depth, waited, looks, found]
}

fn certificates(cells: &Cells) -> Vec<Family> {
    let mut expiry = Family::of(
        "weir_tls_certificate_expiry_timestamp_seconds",
        Kind::Gauge,
        "When the certificate that is served ends.",
        &["certificate"],
    );
    let mut reloads = Family::of(
        "weir_tls_certificate_reloads_total",
        Kind::Counter,
        "Changed certificate files by what became of them; of a rejected one the old goes on.",
        &["certificate", "result"],
    );
    let mut orders = Family::of(
        "weir_acme_orders_total",
        Kind::Counter,
        "Orders for certificates from ACME servers by how they ended.",
        &["certificate", "result"],
    );
    let mut failures = Family::of(
        "weir_acme_failed_orders",
        Kind::Gauge,
        "Orders that have failed since the last that ended with a certificate.",
        &["certificate"],
    );
    for certificate in cells.certificates.held() {
        let name = &**certificate.name();
        if let Some(seconds) = certificate.expiry() {
            expiry.push(&[name], seconds as f64);
        }
        let (applied, rejected) = certificate.reloads();
        reloads.add(&[name, "applied"], applied);
        reloads.add(&[name, "rejected"], rejected);
        let Some(ordered) = certificate.ordered() else { continue };
        OrderResult::ALL.iter().for_each(|result| orders.add(&[name, result.label()], ordered.total(*result)));
        failures.add(&[name], ordered.failures());
    }
    vec![expiry, reloads, orders, failures]
}

/// What backends were sent and answered.
fn traffic(shown: &[&Arc<Vitals>]) -> Vec<Family> {
    let mut requests = backend("weir_backend_requests_total", Kind::Counter, "Responses by class.", Some("class"));
    let mut attempts = backend("weir_backend_attempts_total", Kind::Counter, "Attempts by outcome.", Some("outcome"));
    let mut retries = backend(
        "weir_backend_retries_total",
        Kind::Counter,
        "Attempts that failed and were followed by another, on the backend that failed.",
        Some("reason"),
    );
    let mut bytes = backend("weir_backend_bytes_total", Kind::Counter, "Bytes of bodies.", Some("direction"));
    let mut response =
        backend("weir_backend_response_seconds", Kind::Histogram, "From the pick to the response header.", None);
    let mut connect =
        backend("weir_backend_connect_seconds", Kind::Histogram, "Time to open a connection, TLS included.", None);
    for vitals in shown {
        let (labels, meters) = (vitals.labels(), vitals.meters());
        CLASSES.iter().zip(&meters.responses).for_each(|(class, n)| requests.add(&with(&labels, class), n.get()));
        Outcome::ALL.iter().zip(&meters.attempts).for_each(|(o, n)| attempts.add(&with(&labels, o.label()), n.get()));
        add_retries(&mut retries, vitals);
        bytes.add(&with(&labels, "sent"), meters.sent.get());
        bytes.add(&with(&labels, "received"), meters.received.get());
        response.observe(&plain(&labels), &meters.response);
        connect.observe(&plain(&labels), &meters.connect);
    }
    vec![requests, attempts, retries, bytes, response, connect]
}

/// How backends are.
fn standing(shown: &[&Arc<Vitals>]) -> Vec<Family> {
    let mut in_flight =
        backend("weir_backend_in_flight", Kind::Gauge, "Attempts under way: the number that balancers read.", None);
    let mut weight = backend("weir_backend_weight", Kind::Gauge, "Weight as configured and as used.", Some("kind"));
    let mut up = backend("weir_backend_up", Kind::Gauge, "1 while its checks say that it serves.", None);
    let mut state = backend("weir_backend_state", Kind::Gauge, "1 for the one state that it is in.", Some("state"));
    let mut checks = backend("weir_backend_checks_total", Kind::Counter, "Health checks by result.", Some("result"));
    let mut check = backend("weir_backend_check_seconds", Kind::Histogram, "How long health checks took.", None);
    let mut changes =
        backend("weir_backend_state_changes_total", Kind::Counter, "Changes of state by the new one.", Some("to"));
    for vitals in shown {
        let (labels, meters, now) = (vitals.labels(), vitals.meters(), vitals.state());
        let (configured, effective) = vitals.weights();
        in_flight.add(&plain(&labels), vitals.in_flight().into());
        weight.add(&with(&labels, "configured"), configured.into());
        weight.push(&with(&labels, "effective"), effective);
        up.add(&plain(&labels), (vitals.health() == Health::Up).into());
        for (at, each) in State::ALL.iter().enumerate() {
            state.add(&with(&labels, each.label()), (*each == now).into());
            changes.add(&with(&labels, each.label()), meters.became[at].get());
        }
        // A backend without a health check has no series that say it passed none.
        if meters.passed.get() + meters.failed.get() > 0 {
            checks.add(&with(&labels, "pass"), meters.passed.get());
            checks.add(&with(&labels, "fail"), meters.failed.get());
        }
        check.observe(&plain(&labels), &meters.check);
    }
    vec![in_flight, weight, up, state, checks, check, changes]
}

fn add_retries(family: &mut Family, vitals: &Vitals) {
    let (labels, meters) = (vitals.labels(), vitals.meters());
    for (fault, n) in Fault::ALL.into_iter().zip(&meters.retries_by_fault).filter(|(_, n)| n.get() > 0) {
        family.add(&with(&labels, &RetryReason::Fault(fault).to_string()), n.get());
    }
    for (status, n) in meters.retries_by_status.seen() {
        family.add(&with(&labels, &RetryReason::Status(status).to_string()), n);
    }
}

/// A family whose labels are a backend's, and one more.
fn backend(name: &'static str, kind: Kind, help: &'static str, more: Option<&'static str>) -> Family {
    let [upstream, backend, address] = BACKEND;
    match more {
        Some(more) => Family::of(name, kind, help, &[upstream, backend, address, more]),
        None => Family::of(name, kind, help, &BACKEND),
    }
}

fn plain(labels: &Labels) -> [&str; 3] {
    [&labels.upstream, &labels.backend, &labels.address]
}

fn with<'a>(labels: &'a Labels, more: &'a str) -> [&'a str; 4] {
    [&labels.upstream, &labels.backend, &labels.address, more]
}
