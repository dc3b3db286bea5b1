//! The model of the status page: joins status, counters and history, and selects the rows of one view.
//!
//! Pure. `verdict` has the first line of the page, `page_markup` writes HTML.

use serde::Deserialize;

use super::activity::Activity;
use super::api::StatusReply;
use super::history::{History, MinuteSummary, SampleRing};
use super::page_rows::{BackendRow, UpstreamRows, rows, severity};
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
