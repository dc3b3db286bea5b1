//! The rows of backends on the status page: state, counters, the last minute and both shares. Pure.

use super::activity::{Activity, BackendActivity, UpstreamActivity};
use super::api::{BackendCondition, BackendReply, UpstreamReply};
use super::history::{History, MinuteSummary, SampleRing};

/// An upstream and its rows.
pub(super) struct UpstreamRows<'a> {
    pub(super) upstream: &'a UpstreamReply,
    pub(super) activity: Option<&'a UpstreamActivity>,
    pub(super) rows: Vec<BackendRow<'a>>,
}

/// A row of a backend.
pub(super) struct BackendRow<'a> {
    pub(super) backend: &'a BackendReply,
    pub(super) activity: Option<&'a BackendActivity>,
    pub(super) minute: Option<MinuteSummary>,
    /// Requests per second over fifteen minutes.
    pub(super) rates: Vec<f64>,
    /// The measured part of the requests of the upstream in the last minute, 0 to 1.
    pub(super) share: Option<f64>,
    /// The part by weight, 0 to 1.
    pub(super) weight_share: f64,
}

/// How much attention a state needs; 0 the most.
pub(super) fn severity(row: &BackendRow<'_>) -> u8 {
    let errors = row.minute.and_then(|minute| minute.error_ratio).is_some_and(|ratio| ratio > MAX_ERROR_RATIO);
    match row.backend.state {
        BackendCondition::Down | BackendCondition::Unresolved => 0,
        BackendCondition::Ejected => 1,
        _ if errors => 2,
        BackendCondition::Unknown => 3,
        BackendCondition::Disabled | BackendCondition::Draining => 4,
        BackendCondition::Up | BackendCondition::Unchecked => 5,
    }
}

/// The error ratio above which a backend is in trouble.
pub(super) const MAX_ERROR_RATIO: f64 = 0.05;

/// An upstream with a row for each backend, in the order of the configuration.
pub(super) fn rows<'a>(upstream: &'a UpstreamReply, activity: &'a Activity, history: &History) -> UpstreamRows<'a> {
    let counters = activity.upstreams.iter().find(|each| each.name == upstream.name);
    let any_serves = upstream.backends.iter().any(|backend| backend.state.is_serving());
    // Backends that are up or unchecked take all requests while there is one.
    let part = |backend: &BackendReply| {
        let takes = if any_serves { backend.state.is_serving() } else { !backend.state.is_never_picked() };
        if takes { backend.effective_weight } else { 0.0 }
    };
    let whole: f64 = upstream.backends.iter().map(part).sum();
    let mut rows: Vec<_> = upstream
        .backends
        .iter()
        .enumerate()
        .map(|(at, backend)| BackendRow {
            backend,
            activity: counters.and_then(|counters| counters.backends.get(at)),
            minute: history.backend(&upstream.name, &backend.address).and_then(SampleRing::last_minute),
            rates: Vec::new(),
            share: None,
            weight_share: if whole > 0.0 { part(backend) / whole } else { 0.0 },
        })
        .collect();
    let requests: u64 = rows.iter().filter_map(|row| row.minute).map(|minute| minute.requests).sum();
    for row in rows.iter_mut().filter(|_| requests > 0) {
        row.share = row.minute.map(|minute| minute.requests as f64 / requests as f64);
    }
    UpstreamRows { upstream, activity: counters, rows }
}
