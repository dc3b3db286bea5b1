//! The model of the status page: joins status, counters and history, and selects the rows of one view.
//!
//! Pure. `verdict` has the first line of the page, `page_markup` writes HTML.

use serde::Deserialize;

use super::activity::{Activity, BackendActivity, UpstreamActivity};
use super::api::{BackendCondition, BackendReply, StatusReply, UpstreamReply};
use super::history::{History, MinuteSummary, SampleRing};
use super::verdict::{self, TroubleList};

/// Rows of a page.
pub(super) const PAGE_ROWS: usize = 200;

/// The view that a client asks for: the query of the address.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub(super) struct ViewQuery {
    /// Only backends whose upstream, name, address, state or reason contains this.
    pub(super) filter: String,
    /// The order of the backends.
    pub(super) sort: SortKey,
    /// Only backends in trouble.
    pub(super) trouble: bool,
    /// From 1. 0 is 1.
    pub(super) page: usize,
}

/// The order of the backends of an upstream.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum SortKey {
    /// Trouble first, then the order of the configuration.
    #[default]
    Trouble,
    /// By name.
    Name,
    /// The highest rate first.
    Rate,
    /// The highest error ratio first.
    Errors,
    /// The highest p99 first.
    Latency,
}

impl SortKey {
    /// All keys and their values in the query.
    pub(super) const ALL: [(Self, &'static str); 5] = [
        (Self::Trouble, "trouble"),
        (Self::Name, "name"),
        (Self::Rate, "rate"),
        (Self::Errors, "errors"),
        (Self::Latency, "latency"),
    ];
}

/// The page of one view.
pub(super) struct PageModel<'a> {
    pub(super) status: &'a StatusReply,
    pub(super) activity: &'a Activity,
    pub(super) query: ViewQuery,
    pub(super) verdict: TroubleList,
    /// The upstreams with the backends of this view.
    pub(super) upstreams: Vec<UpstreamRows<'a>>,
    pub(super) routes: Vec<RouteRow<'a>>,
    /// Backends that pass the filter, and all backends.
    pub(super) found: (usize, usize),
    pub(super) pages: usize,
    /// Number of backends with a history, if not all have one.
    pub(super) history_of: Option<usize>,
}

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

/// A row of a route.
pub(super) struct RouteRow<'a> {
    pub(super) name: &'a str,
    pub(super) limited: u64,
    pub(super) minute: Option<MinuteSummary>,
    pub(super) rates: Vec<f64>,
}

impl<'a> PageModel<'a> {
    /// The page of this view.
    pub(super) fn build(status: &'a StatusReply, activity: &'a Activity, history: &History, query: ViewQuery) -> Self {
        let mut upstreams: Vec<_> = status.upstreams.iter().map(|each| rows(each, activity, history)).collect();
        let total = upstreams.iter().map(|upstream| upstream.rows.len()).sum();
        let verdict = verdict::of(status, &upstreams);
        let filter = query.filter.to_lowercase();
        for upstream in &mut upstreams {
            let name = &upstream.upstream.name;
            upstream.rows.retain(|row| matches(name, row, &filter, query.trouble));
            sort(&mut upstream.rows, query.sort);
        }
        let narrowed = !filter.is_empty() || query.trouble;
        upstreams.retain(|upstream| !narrowed || !upstream.rows.is_empty());
        upstreams.sort_by_key(|upstream| upstream.rows.iter().map(severity).min().unwrap_or(u8::MAX));
        let found = upstreams.iter().map(|upstream| upstream.rows.len()).sum::<usize>();
        let pages = found.div_ceil(PAGE_ROWS).max(1);
        let page = query.page.clamp(1, pages);
        cut(&mut upstreams, (page - 1) * PAGE_ROWS);
        for upstream in &mut upstreams {
            let name = &upstream.upstream.name;
            for row in &mut upstream.rows {
                row.rates = history.backend(name, &row.backend.address).map(SampleRing::rates).unwrap_or_default();
            }
        }
        let routes = activity.routes.iter().map(|route| {
            let ring = history.route(&route.name);
            let (minute, rates) = (ring.and_then(SampleRing::last_minute), ring.map(SampleRing::rates));
            RouteRow { name: &route.name, limited: route.limited, minute, rates: rates.unwrap_or_default() }
        });
        Self {
            status,
            activity,
            query: ViewQuery { page, ..query },
            verdict,
            upstreams,
            routes: routes.collect(),
            found: (found, total),
            pages,
            history_of: history.is_partial().then(|| history.backends()),
        }
    }
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

fn rows<'a>(upstream: &'a UpstreamReply, activity: &'a Activity, history: &History) -> UpstreamRows<'a> {
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

fn matches(upstream: &str, row: &BackendRow<'_>, filter: &str, trouble: bool) -> bool {
    let backend = row.backend;
    let texts = [upstream, &backend.name, &backend.address, backend.state.label(), &backend.reason];
    (!trouble || severity(row) < 5) && texts.iter().any(|text| text.to_lowercase().contains(filter))
}

fn sort(rows: &mut [BackendRow<'_>], by: SortKey) {
    let minute =
        |row: &BackendRow<'_>, value: fn(MinuteSummary) -> Option<f64>| row.minute.and_then(value).unwrap_or(-1.0);
    let descend = |rows: &mut [BackendRow<'_>], value: fn(MinuteSummary) -> Option<f64>| {
        rows.sort_by(|a, b| minute(b, value).total_cmp(&minute(a, value)));
    };
    match by {
        SortKey::Trouble => rows.sort_by_key(severity),
        SortKey::Name => rows.sort_by(|a, b| a.backend.name.cmp(&b.backend.name)),
        SortKey::Rate => descend(rows, |minute| Some(minute.rate)),
        SortKey::Errors => descend(rows, |minute| minute.error_ratio),
        SortKey::Latency => descend(rows, |minute| minute.percentiles.map(|[.., p99]| p99)),
    }
}

/// Keeps the rows of one page. `skip`: the rows before it.
fn cut(upstreams: &mut Vec<UpstreamRows<'_>>, skip: usize) {
    let (mut skip, mut left) = (skip, PAGE_ROWS);
    upstreams.retain_mut(|upstream| {
        if upstream.rows.is_empty() {
            return skip == 0;
        }
        let skipped = skip.min(upstream.rows.len());
        upstream.rows.drain(..skipped);
        upstream.rows.truncate(left);
        (skip, left) = (skip - skipped, left - upstream.rows.len());
        !upstream.rows.is_empty()
    });
}

#[cfg(test)]
#[path = "page_model_tests.rs"]
mod tests;
