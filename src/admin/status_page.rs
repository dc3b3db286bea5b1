//! The HTML status page: shows the data of `/api/v1/status`.
//!
//! It never uses a script or loads a resource. `maud` escapes every value, because names come from the operator and
//! reasons may contain text of a backend.

use maud::{DOCTYPE, Markup, PreEscaped, html};
use time::OffsetDateTime;

use super::api::{
    AcmeName, BackendReply, CertificateReply, DiscoveryReply, LastError, LastReloadReply, ListenerReply,
    MaintenanceReply, StatusReply, UpstreamReply, age,
};
use super::api_limits::LimitsReply;
use super::caller::Caller;
use super::limits_table;
use super::login::LOGOUT;
use super::splits_table;

/// Days before the expiry at which a certificate is highlighted. A certificate of 90 days is normally renewed 30 days
/// before.
const SOON_DAYS: i64 = 14;

const STYLE: &str = "
:root{color-scheme:light dark;--line:#8883;--dim:#767676;--bar:#4a90d9;--card:#8881}
body{font:15px/1.5 system-ui,sans-serif;max-width:68rem;margin:2rem auto;padding:0 1rem}
h1{font-size:1.5rem;margin:0}h2{font-size:1.05rem;margin:2rem 0 .5rem}h2 small,.dim{color:var(--dim);font-weight:400}
.box{overflow-x:auto;border:1px solid var(--line);border-radius:.5rem}
table{border-collapse:collapse;width:100%}th,td{text-align:left;padding:.4rem .9rem;border-top:1px solid var(--line);white-space:nowrap}
td.why{white-space:normal;width:40%}
th{font-size:.8rem;color:var(--dim);font-weight:500;border:0;background:var(--card)}.n{text-align:right;font-variant-numeric:tabular-nums}
code,pre{font:.85rem/1.5 ui-monospace,monospace}
.state{display:inline-block;padding:0 .55rem;border-radius:.7rem;color:#fff;background:#6c757d;font-size:.85rem;font-weight:500}
.up,.ok{background:#2b8a3e}.down,.unresolved,.bad{background:#c92a2a}.ejected{background:#d9480f}.draining{background:#1971c2}
.bar{display:inline-block;width:7rem;height:.55rem;background:var(--line);border-radius:.3rem;margin-right:.6rem}
.bar i{display:block;height:100%;background:var(--bar);border-radius:.3rem}
pre{white-space:pre-wrap;margin:.4rem 0;padding:.5rem .9rem;background:var(--card);border-radius:.5rem}
";

/// Renders the whole page.
pub(super) fn render(status: &StatusReply, limits: &LimitsReply, caller: Caller) -> String {
    page(status, limits, caller).into_string()
}

fn page(status: &StatusReply, limits: &LimitsReply, caller: Caller) -> Markup {
    let (class, word) = match (status.draining, status.ready) {
        (true, _) => ("draining", "draining"),
        (_, true) => ("ok", "ready"),
        _ => ("bad", "not ready"),
    };
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                title { "Weir" }
                meta http-equiv="refresh" content="3";
                meta name="viewport" content="width=device-width";
                style { (PreEscaped(STYLE)) }
            }
            body {
                h1 { "Weir " (label(class, word)) }
                p.dim { "version " (status.version) " · process " (status.pid) " · generation " (status.generation) }
                @if let Some(last) = &status.last_reload { (reload(last)) }
                (listeners(&status.listeners))
                @if !status.certificates.is_empty() { (certificates(&status.certificates)) }
                @if !status.acme.is_empty() { (acme(&status.acme)) }
                @if !status.maintenance.is_empty() { (maintenance(&status.maintenance)) }
                @for each in &status.upstreams { (upstream(each)) }
                (splits_table::splits(&status.splits))
                (limits_table::limits(limits))
                p.dim {
                    a href="/metrics" { "metrics" } " · " a href="/api/v1/status" { "status" } " · "
                    a href="/api/v1/config" { "configuration" }
                }
                @if caller == Caller::Browser {
                    form method="post" action=(LOGOUT) { button { "Log out" } }
                }
            }
        }
    }
}

/// A word on a coloured background.
fn label(class: &str, word: &str) -> Markup {
    html! { span class={ "state " (class) } { (word) } }
}

fn reload(reload: &LastReloadReply) -> Markup {
    let class = if reload.result == "applied" { "ok" } else { "bad" };
    html! {
        p {
            "Last reload " (label(class, &reload.result)) " "
            span.dim title=(reload.time) {
                @match age(&reload.time, OffsetDateTime::now_utc()) {
                    Some(age) => { (age) " ago" }
                        None => { (reload.time) }
                }
            }
        }
        @if !reload.changes.is_empty() || !reload.problems.is_empty() {
            pre {
                @for change in &reload.changes { (change) "\n" }
                @for problem in &reload.problems { (problem) "\n" }
            }
        }
    }
}

fn listeners(listeners: &[ListenerReply]) -> Markup {
    html! {
        h2 { "Listeners" }
        div.box { table {
            tr { th { "name" } th { "address" } th { "state" } th.n { "connections" } }
            @for listener in listeners {
                @let (class, word) = if listener.bound { ("ok", "bound") } else { ("bad", "not bound") };
                tr {
                    td { (listener.name) }
                    td { code { (listener.address) } }
                    td { (label(class, word)) }
                    td.n { (listener.connections) }
                }
            }
        } }
    }
}

fn certificates(certificates: &[CertificateReply]) -> Markup {
    html! {
        h2 { "Certificates" }
        div.box { table {
            tr { th { "file" } th { "names" } th { "ends" } th.n { "days left" } }
            @for certificate in certificates {
                @let class = if certificate.days_left < SOON_DAYS { "bad" } else { "ok" };
                tr {
                    td { code { (certificate.name) } }
                    td.why { (certificate.names.join(" ")) }
                    td { (certificate.not_after) }
                    td.n { (label(class, &certificate.days_left.to_string())) }
                }
            }
        } }
    }
}

fn maintenance(routes: &[MaintenanceReply]) -> Markup {
    html! {
        h2 { "Routes in maintenance" }
        div.box { table {
            tr { th { "route" } th { "since" } }
            @for route in routes {
                tr { td { (route.route) } td { (route.since.as_deref().unwrap_or_default()) } }
            }
        } }
    }
}

fn acme(acme: &[AcmeName]) -> Markup {
    html! {
        h2 { "Issued by ACME" }
        div.box { table {
            tr { th { "name" } th { "state" } th.n { "failures" } th { "next order" } th { "error" } }
            @for name in acme {
                @let class = if name.failures > 0 { "bad" } else { "ok" };
                tr {
                    td { (name.name) }
                    td { (label(class, &name.state)) }
                    td.n { (name.failures) }
                    td { (name.next_order.as_deref().unwrap_or("now")) }
                    td.why { (name.error.as_deref().unwrap_or_default()) }
                }
            }
        } }
    }
}

fn upstream(upstream: &UpstreamReply) -> Markup {
    let any_serves = upstream.backends.iter().any(|backend| backend.state.is_serving());
    // Backends that are up or unchecked take all requests while there is one.
    let takes = |backend: &BackendReply| {
        if any_serves { backend.state.is_serving() } else { !backend.state.is_never_picked() }
    };
    let part = |backend: &BackendReply| if takes(backend) { backend.effective_weight } else { 0.0 };
    let total: f64 = upstream.backends.iter().map(part).sum();
    let share = |backend: &BackendReply| if total > 0.0 { (part(backend) * 100.0 / total) as u64 } else { 0 };
    html! {
        h2 { (upstream.name) " " small { (upstream.balance) } }
        @if let Some(found) = &upstream.discovery { (discovery(found)) }
        @if let Some(last) = &upstream.last_refusal { (refusals(upstream.refused_last_minute, last)) }
        div.box { table {
            tr {
                th { "backend" } th { "address" } th { "state" } th { "for" }
                th.n { "in flight" } th.n { "weight" } th { "share by weight" } th { "reason" }
                th.n { "errors / min" } th { "last error" }
            }
            @for each in &upstream.backends { (backend(each, share(each))) }
        } }
    }
}

fn discovery(discovery: &DiscoveryReply) -> Markup {
    let (class, word) = if discovery.error.is_none() { ("ok", "ok") } else { ("bad", "fails") };
    let at = discovery.last_success.as_deref();
    let since = at.and_then(|at| age(at, OffsetDateTime::now_utc())).map_or("never".to_owned(), |age| age + " ago");
    html! {
        p {
            "Found by " code { (discovery.source) } " " (label(class, word)) " "
            span.dim { "last success " (since) }
            @if let Some(error) = &discovery.error { " " (error) }
        }
    }
}

fn refusals(last_minute: u64, last: &LastError) -> Markup {
    let class = if last_minute > 0 { "bad" } else { "unknown" };
    html! {
        p {
            "Requests without a backend " (label(class, &last_minute.to_string())) " "
            span.dim { "in the last minute, last: " }
            span title=(last.time) { (last) }
        }
    }
}

fn backend(backend: &BackendReply, share: u64) -> Markup {
    let state = backend.state.label();
    let since = backend.since.as_deref();
    let age = since.and_then(|since| age(since, OffsetDateTime::now_utc()).map(|age| (since, age)));
    html! {
        tr {
            td { (backend.name) }
            td { code { (backend.address) } }
            td { (label(state, state)) }
            @match age {
                Some((since, age)) => { td.dim title={ "since " (since) } { (age) } }
                None => { td.dim { "–" } }
            }
            td.n { (backend.in_flight) }
            td.n {
                @if backend.effective_weight != f64::from(backend.weight) { (backend.effective_weight) " of " }
                (backend.weight)
            }
            td {
                span.bar { i style={ "width:" (share) "%" } {} }
                span.dim { (share) " %" }
            }
            td.dim.why { (backend.reason) }
            td.n { (backend.errors_last_minute) }
            td.why {
                @if let Some(last) = &backend.last_error { span title=(last.time) { (last) } }
            }
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests {
    use super::super::api::ProblemReply;
    use super::*;
    use crate::backend::labels::BackendCondition;

    #[test]
    fn the_page_shows_and_escapes_all_values() {
        let evil = "<script>\"&'";
        let backend = BackendReply {
            name: "b1".into(),
            address: "10.0.0.1:1".into(),
            state: BackendCondition::Down,
            reason: evil.into(),
            since: Some("2023-11-14T22:13:20Z".into()),
            in_flight: 7,
            weight: 4,
            effective_weight: 1.0,
            errors_last_minute: 41,
            last_error: Some(LastError { time: "2023-11-14T22:13:20Z".into(), cause: "connection refused".into() }),
        };
        let other = BackendReply { effective_weight: 3.0, state: BackendCondition::Up, ..backend.clone() };
        let (source, error) = ("dns a:80".to_owned(), Some(evil.to_owned()));
        let discovery = DiscoveryReply { source, last_success: None, error, failures: 1 };
        let problem = ProblemReply { what: evil.into(), ..ProblemReply::default() };
        let last_reload =
            LastReloadReply { result: "rejected".into(), time: "t".into(), changes: vec![], problems: vec![problem] };
        let status = StatusReply {
            last_reload: Some(last_reload),
            upstreams: vec![UpstreamReply {
                name: "u".into(),
                balance: "random".into(),
                discovery: Some(discovery),
                refused_last_minute: 12,
                last_refusal: Some(LastError { time: "2023-11-14T22:13:20Z".into(), cause: "queue full".into() }),
                backends: vec![backend, other],
            }],
            listeners: vec![ListenerReply { name: evil.into(), address: evil.into(), bound: true, connections: 3 }],
            ..StatusReply::default()
        };
        let page = render(&status, &LimitsReply::default(), Caller::Anyone);
        assert!(!page.contains(LOGOUT) && render(&status, &LimitsReply::default(), Caller::Browser).contains(LOGOUT));
        assert!(!page.contains("<script"), "{page}");
        assert_eq!(page.matches("&lt;script&gt;&quot;&amp;'").count(), 6, "{page}");
        for shown in [
            "not ready",
            "state down",
            "1 of 4",
            "dns a:80",
            "never",
            "width:0%",
            "width:100%",
            "since 2023",
            ">7<",
            ">41<",
            "connection refused (",
            ">12<",
            "queue full (",
            "rejected",
        ] {
            assert!(page.contains(shown), "{shown}: {page}");
        }
    }

    #[test]
    fn an_unchecked_backend_is_not_shown_as_up_and_an_unresolved_one_has_no_share() {
        let backend = |name: &str, state| BackendReply {
            name: name.into(),
            address: "10.0.0.1:1".into(),
            state,
            reason: String::new(),
            since: None,
            in_flight: 0,
            weight: 1,
            effective_weight: 1.0,
            errors_last_minute: 0,
            last_error: None,
        };
        let shares = |states: &[BackendCondition]| {
            let backends = states.iter().map(|state| backend(state.label(), *state)).collect();
            let status = StatusReply {
                upstreams: vec![UpstreamReply {
                    name: "u".into(),
                    balance: "random".into(),
                    discovery: None,
                    refused_last_minute: 0,
                    last_refusal: None,
                    backends,
                }],
                ..StatusReply::default()
            };
            let page = render(&status, &LimitsReply::default(), Caller::Anyone);
            states
                .iter()
                .for_each(|state| assert!(page.contains(&format!("state {0}\">{0}<", state.label())), "{page}"));
            let page = page.split("<body>").nth(1).unwrap();
            page.match_indices("width:")
                .filter_map(|(at, _)| Some(page[at + 6..].split_once('%')?.0.to_owned()))
                .filter(|share| share.parse::<u8>().is_ok())
                .collect::<Vec<_>>()
        };
        use BackendCondition::{Down, Draining, Unchecked, Unresolved, Up};
        assert_eq!(shares(&[Unchecked, Unresolved]), ["100", "0"]);
        assert_eq!(shares(&[Up, Down]), ["100", "0"]);
        assert_eq!(shares(&[Unresolved, Draining, Down]), ["0", "0", "100"], "fail_open");
        assert_eq!(shares(&[Unresolved]), ["0"]);
    }
}
