//! `weir status` as text: tables of listeners, certificates, upstreams and backends.

use std::fmt::Write;

use comfy_table::Table;
use comfy_table::presets::NOTHING;
use time::OffsetDateTime;

use crate::admin::api::{
    AcmeName, BackendReply, CertificateReply, DiscoveryReply, MaintenanceReply, SplitReply, StatusReply, UpstreamReply,
    age,
};

/// The whole text.
pub(super) fn status(status: &StatusReply) -> String {
    let mut text = String::new();
    let state = match (status.draining, status.ready) {
        (true, _) => "draining",
        (_, true) => "ready",
        _ => "not ready",
    };
    // Writing to a String cannot fail.
    let (version, pid, generation) = (&status.version, status.pid, status.generation);
    let _ = writeln!(text, "weir {version}  pid {pid}  generation {generation}  {state}");
    if let Some(reload) = &status.last_reload {
        let _ = writeln!(text, "last reload {} at {}", reload.result, reload.time);
        reload.problems.iter().for_each(|problem| text += &format!("  {problem}\n"));
    }
    processes(&mut text, status);
    let mut rows = vec![["LISTENER", "ADDRESS", "STATE", "CONNECTIONS"].map(str::to_owned).to_vec()];
    rows.extend(status.listeners.iter().map(|listener| {
        let state = if listener.bound { "bound" } else { "not bound" };
        vec![listener.name.clone(), listener.address.clone(), state.to_owned(), listener.connections.to_string()]
    }));
    text.push('\n');
    columns(&mut text, &rows);
    if !status.certificates.is_empty() {
        let mut rows = vec![["CERTIFICATE", "NAMES", "ENDS", "DAYS LEFT"].map(str::to_owned).to_vec()];
        rows.extend(status.certificates.iter().map(certificate));
        text.push('\n');
        columns(&mut text, &rows);
    }
    if !status.acme.is_empty() {
        let mut rows = vec![["ACME", "STATE", "FAILURES", "NEXT ORDER", "ERROR"].map(str::to_owned).to_vec()];
        rows.extend(status.acme.iter().map(ordered));
        text.push('\n');
        columns(&mut text, &rows);
    }
    if !status.maintenance.is_empty() {
        let mut rows = vec![["ROUTE IN MAINTENANCE", "SINCE"].map(str::to_owned).to_vec()];
        let row = |reply: &MaintenanceReply| vec![reply.route.clone(), reply.since.clone().unwrap_or_default()];
        rows.extend(status.maintenance.iter().map(row));
        text.push('\n');
        columns(&mut text, &rows);
    }
    let heads =
        ["UPSTREAM", "BACKEND", "ADDRESS", "STATE", "IN FLIGHT", "WEIGHT", "FOR", "ERRORS/MIN", "REASON", "LAST ERROR"];
    let mut rows = vec![heads.map(str::to_owned).to_vec()];
    for upstream in &status.upstreams {
        rows.extend(upstream.backends.iter().map(|each| backend(&upstream.name, each)));
        if upstream.backends.is_empty() {
            rows.push(vec![upstream.name.clone(), "(none)".to_owned()]);
        }
    }
    text.push('\n');
    columns(&mut text, &rows);
    splits(&mut text, &status.splits);
    refusals(&mut text, status);
    discoveries(&mut text, status);
    text
}

/// One process needs no table: the first line describes it.
fn processes(text: &mut String, status: &StatusReply) {
    if status.processes.len() < 2 {
        return;
    }
    let mut rows = vec![["PROCESS", "VERSION", "STATE", "CONNECTIONS", "FOR"].map(str::to_owned).to_vec()];
    rows.extend(status.processes.iter().map(|process| {
        let pid = if process.pid == 0 { "-".to_owned() } else { process.pid.to_string() };
        let since = process.since.as_deref().and_then(|since| age(since, OffsetDateTime::now_utc()));
        let (version, state, connections) = (&process.version, &process.state, process.connections);
        vec![pid, version.clone(), state.clone(), connections.to_string(), since.unwrap_or_else(|| "-".to_owned())]
    }));
    text.push('\n');
    columns(text, &rows);
}

fn certificate(certificate: &CertificateReply) -> Vec<String> {
    const SHOWN: usize = 3;
    let mut names = certificate.names.iter().take(SHOWN).cloned().collect::<Vec<_>>().join(" ");
    if certificate.names.len() > SHOWN {
        names += &format!(" +{}", certificate.names.len() - SHOWN);
    }
    let left = if certificate.days_left < 0 { "expired".to_owned() } else { certificate.days_left.to_string() };
    vec![certificate.name.clone(), names, certificate.not_after.clone(), left]
}

fn ordered(acme: &AcmeName) -> Vec<String> {
    let next = acme.next_order.clone().unwrap_or_else(|| "now".to_owned());
    let (failures, error) = (acme.failures.to_string(), acme.error.clone().unwrap_or_default());
    vec![acme.name.clone(), acme.state.clone(), failures, next, error]
}

fn refusals(text: &mut String, status: &StatusReply) {
    let row = |upstream: &UpstreamReply| {
        let last = upstream.last_refusal.as_ref()?.to_string();
        Some(vec![upstream.name.clone(), upstream.refused_last_minute.to_string(), last])
    };
    let mut rows = vec![["UPSTREAM", "REFUSED/MIN", "LAST REQUEST WITHOUT A BACKEND"].map(str::to_owned).to_vec()];
    rows.extend(status.upstreams.iter().filter_map(row));
    if rows.len() > 1 {
        text.push('\n');
        columns(text, &rows);
    }
}

fn discoveries(text: &mut String, status: &StatusReply) {
    let row = |name: &str, discovery: &DiscoveryReply| {
        let since = discovery.last_success.as_deref().and_then(|since| age(since, OffsetDateTime::now_utc()));
        let since = since.map_or_else(|| "never".to_owned(), |since| format!("{since} ago"));
        vec![name.to_owned(), discovery.source.clone(), since, discovery.error.clone().unwrap_or_default()]
    };
    let each = |upstream: &UpstreamReply| Some(row(&upstream.name, upstream.discovery.as_ref()?));
    let mut rows = vec![["UPSTREAM", "DISCOVERY", "LAST SUCCESS", "ERROR"].map(str::to_owned).to_vec()];
    rows.extend(status.upstreams.iter().filter_map(each));
    if rows.len() > 1 {
        text.push('\n');
        columns(text, &rows);
    }
}

fn splits(text: &mut String, splits: &[SplitReply]) {
    if splits.is_empty() {
        return;
    }
    let mut rows = vec![["SPLIT", "UPSTREAM", "SHARE", "WEIGHT", "BY"].map(str::to_owned).to_vec()];
    for split in splits {
        rows.extend(split.targets.iter().map(|target| {
            let weight = match (target.weight, target.configured_weight) {
                (weight, configured) if weight == configured => weight.to_string(),
                (weight, configured) => format!("{weight}/{configured}"),
            };
            let by = split.by.clone().unwrap_or_default();
            vec![split.route.clone(), target.upstream.clone(), target.percent(), weight, by]
        }));
    }
    text.push('\n');
    columns(text, &rows);
}

fn backend(upstream: &str, backend: &BackendReply) -> Vec<String> {
    let weight = if f64::from(backend.weight) == backend.effective_weight {
        backend.weight.to_string()
    } else {
        format!("{}/{}", backend.effective_weight, backend.weight)
    };
    vec![
        upstream.to_owned(),
        backend.name.clone(),
        backend.address.clone(),
        backend.state.label().to_owned(),
        backend.in_flight.to_string(),
        weight,
        backend
            .since
            .as_deref()
            .and_then(|since| age(since, OffsetDateTime::now_utc()))
            .unwrap_or_else(|| "-".to_owned()),
        backend.errors_last_minute.to_string(),
        backend.reason.clone(),
        backend.last_error.as_ref().map(ToString::to_string).unwrap_or_default(),
    ]
}

/// Appends a table. Each column is as wide as its widest cell; lines have no trailing spaces.
pub(super) fn columns(text: &mut String, rows: &[Vec<String>]) {
    let mut table = Table::new();
    table.load_style(NOTHING).add_rows(rows);
    table.column_iter_mut().for_each(|column| {
        column.set_padding((0, 2));
    });
    text.push_str(&table.trim_fmt());
    text.push('\n');
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests {
    use super::*;
    use crate::admin::api::{LastError, rfc3339};
    use crate::backend::labels::BackendCondition;

    #[test]
    fn columns_line_up() {
        let unix_ms = u64::try_from(OffsetDateTime::now_utc().unix_timestamp()).unwrap() * 1_000;
        let backend = BackendReply {
            name: "a".into(),
            address: "10.0.0.1:3001".into(),
            state: BackendCondition::Down,
            reason: "refused".into(),
            since: None,
            in_flight: 2,
            weight: 4,
            effective_weight: 0.0,
            errors_last_minute: 41,
            last_error: Some(LastError { time: rfc3339(unix_ms - 7_000).unwrap(), cause: "status 503".into() }),
        };
        let discovery = DiscoveryReply {
            source: "dns api.internal:80".into(),
            last_success: None,
            error: Some("api.internal: has no address".into()),
            failures: 3,
        };
        let (name, discovery) = ("api".into(), Some(discovery));
        let upstream = UpstreamReply {
            name,
            balance: "round_robin".into(),
            discovery,
            refused_last_minute: 12,
            last_refusal: Some(LastError { time: rfc3339(unix_ms - 7_000).unwrap(), cause: "queue full".into() }),
            backends: vec![backend],
        };
        let acme = AcmeName {
            name: "www.example.com".into(),
            state: "failing".into(),
            failures: 2,
            error: Some("no address".into()),
            next_order: None,
        };
        let (upstreams, acme, version) = (vec![upstream], vec![acme], "0.1.0".into());
        let text = status(&StatusReply { upstreams, acme, version, ..StatusReply::default() });
        let expected = "weir 0.1.0  pid 0  generation 0  not ready\n\n\
            LISTENER  ADDRESS  STATE  CONNECTIONS\n\n\
            ACME             STATE    FAILURES  NEXT ORDER  ERROR\n\
            www.example.com  failing  2         now         no address\n\n\
            UPSTREAM  BACKEND  ADDRESS        STATE  IN FLIGHT  WEIGHT  FOR  ERRORS/MIN  REASON   LAST ERROR\n\
            api       a        10.0.0.1:3001  down   2          0/4     -    41          refused  status 503 (7s ago)\n\n\
            UPSTREAM  REFUSED/MIN  LAST REQUEST WITHOUT A BACKEND\n\
            api       12           queue full (7s ago)\n\n\
            UPSTREAM  DISCOVERY            LAST SUCCESS  ERROR\n\
            api       dns api.internal:80  never         api.internal: has no address\n";
        assert_eq!(text, expected);
    }
}
