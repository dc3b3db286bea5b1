//! The parts of the status page as HTML. Each part has an id, so that a change replaces only that part.

use std::sync::OnceLock;

use maud::{Markup, html};

use super::activity::FailedReply;
use super::api::{AcmeName, CertificateReply, LastReloadReply, ListenerReply, MaintenanceReply};
use super::api_limits::LimitsReply;
use super::limits_table;
use super::page_elements::{Part, TimeStyle, label, when};
use super::page_model::{PageModel, RouteRow, SortKey, ViewQuery};
use super::sparkline::sparkline;
use super::splits_table;
use super::upstream_markup::{self, figures};
use super::verdict::{SOON_DAYS, TroubleList};

/// The name of this host.
pub(super) fn host_name() -> &'static str {
    static NAME: OnceLock<String> = OnceLock::new();
    NAME.get_or_init(|| {
        let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
        if name.trim().is_empty() { "this host".to_owned() } else { name.trim().to_owned() }
    })
}

/// The whole content of the page.
pub(super) fn main((model, limits): (&PageModel<'_>, &LimitsReply), style: TimeStyle) -> Markup {
    html! {
        main {
            (verdict(&model.verdict, style))
            (summary(model))
            (controls(model))
            (content((model, limits), style))
        }
    }
}

/// Everything below the form of the view.
pub(super) fn content((model, limits): (&PageModel<'_>, &LimitsReply), style: TimeStyle) -> Markup {
    html! {
        div #content {
            @for upstream in &model.upstreams { (upstream_markup::section(upstream, style)) }
            (pager(model))
            @for (_, part) in sections(model, limits, style) { (part) }
        }
    }
}

/// The parts that change by themselves, in order.
pub(super) fn parts((model, limits): (&PageModel<'_>, &LimitsReply), style: TimeStyle) -> Vec<Part> {
    let mut parts = top(model, style);
    parts.push(("pager".to_owned(), pager(model).into_string()));
    for upstream in &model.upstreams {
        upstream_markup::parts(upstream, style, &mut parts);
    }
    parts.extend(sections(model, limits, style).into_iter().map(|(id, part)| (id.to_owned(), part.into_string())));
    parts
}

/// The parts above the form of the view.
pub(super) fn top(model: &PageModel<'_>, style: TimeStyle) -> Vec<Part> {
    vec![
        ("verdict".to_owned(), verdict(&model.verdict, style).into_string()),
        ("summary".to_owned(), summary(model).into_string()),
    ]
}

fn sections(model: &PageModel<'_>, limits: &LimitsReply, style: TimeStyle) -> [(&'static str, Markup); 9] {
    [
        ("routes", routes(&model.routes)),
        ("listeners", listeners(&model.status.listeners)),
        ("certificates", certificates(&model.status.certificates)),
        ("acme", acme(&model.status.acme)),
        ("reloads", reloads(&model.activity.reloads, style)),
        ("failed", failed(&model.activity.failed_requests, style)),
        ("splits", html! { section #splits { (splits_table::splits(&model.status.splits)) } }),
        ("maintenance", maintenance(&model.status.maintenance)),
        ("limits", html! { section #limits { (limits_table::limits(limits)) } }),
    ]
}

fn maintenance(routes: &[MaintenanceReply]) -> Markup {
    html! {
        section #maintenance {
            @if !routes.is_empty() {
                h2 { "Routes in maintenance" }
                div.box { table {
                    tr { th { "route" } th { "since" } }
                    @for route in routes {
                        tr { td { (route.route) } td { (route.since.as_deref().unwrap_or_default()) } }
                    }
                } }
            }
        }
    }
}

fn verdict(verdict: &TroubleList, style: TimeStyle) -> Markup {
    let bad = !verdict.troubles.is_empty();
    html! {
        div #verdict .verdict .bad[bad] role="status" {
            @if bad {
                @let count = verdict.troubles.len() + verdict.more;
                p { strong { "Not well: " (count) @if count == 1 { " trouble." } @else { " troubles." } } }
                ul {
                    @for trouble in &verdict.troubles {
                        li {
                            a href={ "#" (trouble.target) } { (trouble.what) }
                            @if let Some(since) = &trouble.since { ", since " (when(since, style)) }
                            @if !trouble.why.is_empty() { ": " (trouble.why) }
                        }
                    }
                    @if verdict.more > 0 { li { (verdict.more) " more" } }
                }
            } @else {
                p { strong { "All is well." } }
            }
        }
    }
}

fn summary(model: &PageModel<'_>) -> Markup {
    let status = model.status;
    let (class, word) = match (status.draining, status.ready) {
        (true, _) => ("draining", "draining"),
        (_, true) => ("ok", "ready"),
        _ => ("bad", "not ready"),
    };
    html! {
        p #summary {
            (label(class, word)) " "
            span.dim {
                "version " (status.version) " · process " (status.pid) " · generation " (status.generation) " · "
                (status.upstreams.len()) " upstreams · " (model.found.1) " backends"
                @if let Some(count) = model.history_of {
                    " · history of the " (count) " busiest and troubled backends only"
                }
            }
        }
    }
}

/// The form of the view. It works without the script.
fn controls(model: &PageModel<'_>) -> Markup {
    let query = &model.query;
    html! {
        form.view method="get" action="/" {
            label { "Filter" input type="search" name="filter" value=(query.filter) placeholder="name, address or state"; }
            label { "Sort by"
                select name="sort" {
                    @for (key, name) in SortKey::ALL { option value=(name) selected[key == query.sort] { (name) } }
                }
            }
            label.check { input type="checkbox" name="trouble" value="true" checked[query.trouble]; "Only trouble" }
            button { "Apply" }
        }
    }
}

fn pager(model: &PageModel<'_>) -> Markup {
    let (page, pages) = (model.query.page, model.pages);
    html! {
        nav #pager aria-label="Pages of backends" {
            @if pages > 1 || model.found.0 != model.found.1 {
                p {
                    "Page " (page) " of " (pages) ", " (model.found.0) " of " (model.found.1) " backends. "
                    @if page > 1 { a href=(address(&model.query, page - 1)) { "Previous" } " " }
                    @if page < pages { a href=(address(&model.query, page + 1)) { "Next" } }
                }
            }
        }
    }
}

/// The address of another page of this view.
fn address(query: &ViewQuery, page: usize) -> String {
    let encoded = percent_encoding::utf8_percent_encode(&query.filter, percent_encoding::NON_ALPHANUMERIC);
    let sort = SortKey::ALL.iter().find(|(key, _)| *key == query.sort).map_or("trouble", |(_, name)| name);
    format!("/?filter={encoded}&sort={sort}&trouble={}&page={page}", query.trouble)
}

/// A section with a table. Nothing but its element if there is no row.
fn table(id: &str, title: &str, heads: &[&str], rows: &[Markup]) -> Markup {
    html! {
        section id=(id) {
            @if !rows.is_empty() {
                h2 { (title) }
                div.box tabindex="0" role="region" aria-label=(title) {
                    table {
                        thead { tr { @for head in heads { th scope="col" { (head) } } } }
                        tbody { @for row in rows { tr { (row) } } }
                    }
                }
            }
        }
    }
}

fn routes(routes: &[RouteRow<'_>]) -> Markup {
    let row = |route: &RouteRow<'_>| {
        html! {
            th scope="row" { (route.name) }
            (figures(route.minute))
            td.n data-label="limited" { (route.limited) }
            td data-label="15 min" { (sparkline(&route.rates)) }
        }
    };
    let heads = ["route", "req/s", "errors", "p50 ms", "p90 ms", "p99 ms", "limited", "15 min"];
    table("routes", "Routes", &heads, &routes.iter().map(row).collect::<Vec<_>>())
}

fn listeners(listeners: &[ListenerReply]) -> Markup {
    let row = |listener: &ListenerReply| {
        let (class, word) = if listener.bound { ("ok", "bound") } else { ("bad", "not bound") };
        html! {
            th scope="row" { (listener.name) }
            td data-label="address" { code { (listener.address) } }
            td data-label="state" { (label(class, word)) }
            td.n data-label="connections" { (listener.connections) }
        }
    };
    let heads = ["listener", "address", "state", "connections"];
    table("listeners", "Listeners", &heads, &listeners.iter().map(row).collect::<Vec<_>>())
}

fn certificates(certificates: &[CertificateReply]) -> Markup {
    let row = |certificate: &CertificateReply| {
        let class = if certificate.days_left < SOON_DAYS { "bad" } else { "ok" };
        html! {
            th scope="row" { code { (certificate.name) } }
            td.why data-label="names" { (certificate.names.join(" ")) }
            td data-label="ends" { (certificate.not_after) }
            td.n data-label="days left" { (label(class, &certificate.days_left.to_string())) }
        }
    };
    let mut ordered: Vec<_> = certificates.iter().collect();
    ordered.sort_by_key(|certificate| certificate.days_left);
    let heads = ["file", "names", "ends", "days left"];
    table("certificates", "Certificates", &heads, &ordered.into_iter().map(row).collect::<Vec<_>>())
}

fn acme(acme: &[AcmeName]) -> Markup {
    let row = |name: &AcmeName| {
        html! {
            th scope="row" { (name.name) }
            td data-label="state" { (label(if name.failures > 0 { "bad" } else { "ok" }, &name.state)) }
            td.n data-label="failures" { (name.failures) }
            td data-label="next order" { (name.next_order.as_deref().unwrap_or("now")) }
            td.why data-label="error" { (name.error.as_deref().unwrap_or_default()) }
        }
    };
    let heads = ["name", "state", "failures", "next order", "error"];
    table("acme", "Issued by ACME", &heads, &acme.iter().map(row).collect::<Vec<_>>())
}

fn reloads(reloads: &[LastReloadReply], style: TimeStyle) -> Markup {
    html! {
        section #reloads {
            @if !reloads.is_empty() { h2 { "Last reloads" } }
            @for reload in reloads {
                p { (label(if reload.result == "applied" { "ok" } else { "bad" }, &reload.result)) " "
                    (when(&reload.time, style)) }
                @if !reload.changes.is_empty() || !reload.problems.is_empty() {
                    pre tabindex="0" {
                        @for change in &reload.changes { (change) "\n" }
                        @for problem in &reload.problems { (problem) "\n" }
                    }
                }
            }
        }
    }
}

fn failed(requests: &[FailedReply], style: TimeStyle) -> Markup {
    let row = |request: &FailedReply| {
        html! {
            td data-label="time" { (when(&request.time, style)) }
            td data-label="id" { code { (request.request_id) } }
            td.why data-label="request" { code { (request.request) } }
            td data-label="route, upstream" { (request.target) }
            td data-label="fault" { (request.fault) }
            td.n data-label="ms" { (request.took_ms) }
            td.why data-label="attempts" { (request.attempts.join("; ")) }
        }
    };
    let heads = ["time", "id", "request", "route, upstream", "fault", "ms", "attempts"];
    table("failed", "Last failed requests", &heads, &requests.iter().map(row).collect::<Vec<_>>())
}
