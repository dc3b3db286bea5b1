//! The upstreams of the status page as HTML.

use maud::{Markup, html};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};

use super::api::{BackendReply, DiscoveryReply, LastError};
use super::history::MinuteSummary;
use super::page_elements::{Part, TimeStyle, label, when};
use super::page_rows::{BackendRow, UpstreamRows};
use super::sparkline::{figure, share, sparkline};
use super::verdict::anchor;

const HEADS: [&str; 14] = [
    "backend",
    "state",
    "reason",
    "share",
    "in flight",
    "weight",
    "req/s",
    "errors",
    "p50 ms",
    "p90 ms",
    "p99 ms",
    "15 min",
    "errors / min",
    "retries",
];

/// An upstream with its table.
pub(super) fn section(upstream: &UpstreamRows<'_>, style: TimeStyle) -> Markup {
    let name = &upstream.upstream.name;
    html! {
        section {
            (head(upstream, style))
            div.box tabindex="0" role="region" aria-label={ "Backends of " (name) } {
                table {
                    thead { tr {
                        @for head in HEADS { th scope="col" { (head) } }
                        th.act scope="col" { "actions" }
                    } }
                    tbody { @for each in &upstream.rows { (row(name, each, style)) } }
                }
            }
        }
    }
}

/// The head and the rows as parts.
pub(super) fn parts(upstream: &UpstreamRows<'_>, style: TimeStyle, parts: &mut Vec<Part>) {
    let name = &upstream.upstream.name;
    parts.push((anchor(name, None), head(upstream, style).into_string()));
    parts.extend(
        upstream
            .rows
            .iter()
            .map(|each| (anchor(name, Some(&each.backend.address)), row(name, each, style).into_string())),
    );
}

fn head(rows: &UpstreamRows<'_>, style: TimeStyle) -> Markup {
    let upstream = rows.upstream;
    html! {
        div id=(anchor(&upstream.name, None)) {
            h2 { (upstream.name) " " small { (upstream.balance) } }
            @if let Some(activity) = rows.activity {
                p.dim {
                    "queue " (activity.queued)
                    @if let Some(size) = activity.queue_size { " of " (size) } @else { " (none)" }
                    @if let Some(left) = activity.retries_left { " · " (left) " retries left in the budget" }
                }
            }
            @if let Some(found) = &upstream.discovery { (discovery(found, style)) }
            @if let Some(last) = &upstream.last_refusal {
                p {
                    "Requests without a backend "
                    (label(if upstream.refused_last_minute > 0 { "bad" } else { "unknown" },
                        &upstream.refused_last_minute.to_string()))
                    span.dim { " in the last minute, last: " } (last_error(last, style))
                }
            }
        }
    }
}

fn discovery(discovery: &DiscoveryReply, style: TimeStyle) -> Markup {
    let (class, word) = if discovery.error.is_none() { ("ok", "ok") } else { ("bad", "fails") };
    html! {
        p {
            "Found by " code { (discovery.source) } " " (label(class, word)) " "
            span.dim { "last success " }
            @match &discovery.last_success { Some(at) => { (when(at, style)) }, None => { "never" } }
            @if let Some(error) = &discovery.error { " " (error) }
        }
    }
}

fn last_error(last: &LastError, style: TimeStyle) -> Markup {
    html! { (last.cause) " (" (when(&last.time, style)) ")" }
}

fn row(upstream: &str, row: &BackendRow<'_>, style: TimeStyle) -> Markup {
    let backend = row.backend;
    let state = backend.state.label();
    html! {
        tr id=(anchor(upstream, Some(&backend.address))) {
            th scope="row" {
                (backend.name)
                @if backend.name != backend.address { " " code.dim { (backend.address) } }
            }
            td data-label="state" {
                (label(state, state))
                @if let Some(since) = &backend.since { " " span.dim { (when(since, style)) } }
            }
            td.why data-label="reason" { (reason(row, style)) }
            td data-label="share" { (share(row.share, row.weight_share)) }
            td.n data-label="in flight" { (backend.in_flight) }
            td.n data-label="weight" { (weight(backend)) }
            (figures(row.minute))
            td data-label="15 min" { (sparkline(&row.rates)) }
            td.n data-label="errors / min" { (backend.errors_last_minute) }
            td.n data-label="retries" { @if let Some(activity) = row.activity { (activity.retries) } }
            td.act data-label="actions" { (actions(upstream, backend)) }
        }
    }
}

fn reason(row: &BackendRow<'_>, style: TimeStyle) -> Markup {
    let notes = row.activity.map(|activity| activity.notes.as_slice()).unwrap_or_default();
    html! {
        (row.backend.reason)
        @for note in notes {
            div { (note.text) @if let Some(time) = &note.time { " " (when(time, style)) } }
        }
        @if let Some(last) = &row.backend.last_error { div { "last error: " (last_error(last, style)) } }
    }
}

fn weight(backend: &BackendReply) -> Markup {
    html! {
        @if backend.effective_weight != f64::from(backend.weight) { (backend.effective_weight) " of " }
        (backend.weight)
    }
}

/// Rate, error ratio and percentiles of the last minute.
pub(super) fn figures(minute: Option<MinuteSummary>) -> Markup {
    let percent = |ratio: f64| format!("{} %", figure(ratio * 100.0));
    let text = |value: Option<String>| value.unwrap_or_else(|| "–".to_owned());
    let percentile = |at: usize| text(minute.and_then(|minute| minute.percentiles).map(|all| figure(all[at])));
    html! {
        td.n data-label="req/s" { (text(minute.map(|minute| figure(minute.rate)))) }
        td.n data-label="errors" { (text(minute.and_then(|minute| minute.error_ratio).map(percent))) }
        td.n data-label="p50 ms" { (percentile(0)) }
        td.n data-label="p90 ms" { (percentile(1)) }
        td.n data-label="p99 ms" { (percentile(2)) }
    }
}

/// Buttons, which the script makes visible.
fn actions(upstream: &str, backend: &BackendReply) -> Markup {
    let encode = |text: &str| utf8_percent_encode(text, NON_ALPHANUMERIC).to_string();
    let path = format!("/api/v1/upstreams/{}/backends/{}", encode(upstream), encode(&backend.name));
    let acts = [("draining", "Drain"), ("ready", "Enable"), ("weight", "Weight")];
    html! {
        @for (act, text) in acts {
            button type="button" data-do=(act) data-path=(path) data-name={ (upstream) "/" (backend.name) }
                data-key={ (act) " " (path) } aria-label={ (text) " " (backend.name) } { (text) }
        }
    }
}
