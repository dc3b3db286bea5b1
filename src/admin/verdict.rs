//! The first line of the status page: whether all is well, and if not, what is wrong, since when and why. Pure.

use super::api::{BackendCondition, StatusReply};
use super::page_rows::{MAX_ERROR_RATIO, UpstreamRows};

/// Days before the expiry at which a certificate is in trouble. A certificate of 90 days is normally renewed 30 days
/// before.
pub(super) const SOON_DAYS: i64 = 14;

/// Troubles that the page lists. It counts the others.
const MAX_TROUBLES: usize = 20;

/// Whether all is well.
#[derive(Debug, Default, PartialEq)]
pub(super) struct TroubleList {
    /// The most important first.
    pub(super) troubles: Vec<Trouble>,
    /// Troubles that are not in the list.
    pub(super) more: usize,
}

/// Something that is wrong.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Trouble {
    /// The thing and its state.
    pub(super) what: String,
    /// Since when, RFC 3339.
    pub(super) since: Option<String>,
    /// The reason. May be empty.
    pub(super) why: String,
    /// The id of the element that shows more.
    pub(super) target: String,
}

/// The troubles of the process.
pub(super) fn of(status: &StatusReply, upstreams: &[UpstreamRows<'_>]) -> TroubleList {
    let mut troubles = of_process(status);
    upstreams.iter().for_each(|upstream| of_upstream(upstream, &mut troubles));
    of_certificates(status, &mut troubles);
    let more = troubles.len().saturating_sub(MAX_TROUBLES);
    troubles.truncate(MAX_TROUBLES);
    TroubleList { troubles, more }
}

fn of_process(status: &StatusReply) -> Vec<Trouble> {
    let mut troubles = Vec::new();
    let mut add = |what: &str, why: String, since: Option<String>, target: &str| {
        troubles.push(Trouble { what: what.to_owned(), since, why, target: target.to_owned() });
    };
    if status.draining {
        add("The process is draining", String::new(), None, "listeners");
    } else if !status.ready {
        add("The process is not ready", String::new(), None, "listeners");
    }
    if let Some(last) = status.last_reload.as_ref().filter(|last| last.result != "applied") {
        let why = last.problems.first().map(ToString::to_string).unwrap_or_default();
        add("The last reload was rejected", why, Some(last.time.clone()), "reloads");
    }
    for listener in status.listeners.iter().filter(|listener| !listener.bound) {
        add(&format!("Listener {} is not bound", listener.name), listener.address.clone(), None, "listeners");
    }
    troubles
}

fn of_upstream(rows: &UpstreamRows<'_>, troubles: &mut Vec<Trouble>) {
    let upstream = rows.upstream;
    let target = anchor(&upstream.name, None);
    let serving = upstream.backends.iter().filter(|backend| backend.state.is_serving()).count();
    if serving == 0 {
        let why = if upstream.backends.is_empty() { "it has no backend" } else { "no backend is up" };
        let since = upstream.backends.iter().filter_map(|backend| backend.since.clone()).max();
        let what = format!("Upstream {} serves nothing", upstream.name);
        troubles.insert(0, Trouble { what, since, why: why.to_owned(), target: target.clone() });
    }
    if upstream.refused_last_minute > 0 {
        let (why, since) = upstream.last_refusal.as_ref().map(|last| (last.cause.clone(), last.time.clone())).unzip();
        let what = format!("Upstream {}: {} requests got no backend", upstream.name, upstream.refused_last_minute);
        troubles.push(Trouble { what, since, why: why.unwrap_or_default(), target: target.clone() });
    }
    if let Some(error) = upstream.discovery.as_ref().and_then(|discovery| discovery.error.clone()) {
        let what = format!("Upstream {}: discovery fails", upstream.name);
        troubles.push(Trouble { what, since: None, why: error, target });
    }
    for row in &rows.rows {
        let backend = row.backend;
        let ratio = row.minute.and_then(|minute| minute.error_ratio).filter(|ratio| *ratio > MAX_ERROR_RATIO);
        let state = match (backend.state, ratio) {
            (BackendCondition::Down | BackendCondition::Ejected | BackendCondition::Unresolved, _) => {
                format!("is {}", backend.state.label())
            }
            (_, Some(ratio)) => format!("fails {:.0} % of its requests", ratio * 100.0),
            _ => continue,
        };
        let last = backend.last_error.as_ref().map(|last| last.cause.clone()).unwrap_or_default();
        troubles.push(Trouble {
            what: format!("Backend {} of {} {state}", backend.name, upstream.name),
            since: backend.since.clone(),
            why: if backend.reason.is_empty() { last } else { backend.reason.clone() },
            target: anchor(&upstream.name, Some(&backend.address)),
        });
    }
}

fn of_certificates(status: &StatusReply, troubles: &mut Vec<Trouble>) {
    for certificate in status.certificates.iter().filter(|certificate| certificate.days_left < SOON_DAYS) {
        troubles.push(Trouble {
            what: format!("Certificate {} ends in {} days", certificate.name, certificate.days_left),
            since: None,
            why: format!("its last day is {}", certificate.not_after),
            target: "certificates".to_owned(),
        });
    }
    for name in status.acme.iter().filter(|name| name.failures > 0) {
        let why = name.error.clone().unwrap_or_default();
        let what = format!("The certificate of {} cannot be ordered", name.name);
        troubles.push(Trouble { what, since: None, why, target: "acme".to_owned() });
    }
}

/// The id of the element of an upstream or a backend. Browsers find any text in a fragment except spaces.
pub(super) fn anchor(upstream: &str, backend: Option<&str>) -> String {
    let text = backend.map_or_else(|| format!("u/{upstream}"), |backend| format!("b/{upstream}/{backend}"));
    text.replace(char::is_whitespace, "_")
}
