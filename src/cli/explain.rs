//! `weir explain`: how the running process would handle a request.

use std::net::IpAddr;

use clap::Args;
use serde_json::Value;

use super::RemoteOptions;
use super::columns::columns;
use super::remote::{CommandOutput, DONE, FAILED, Remote, TIMEOUT};
use super::remote_commands::ask;
use crate::admin::api_explain::{ExplainedBackend, ExplainedLimit, ExplainedPolicy, ExplainedUpstream, Explanation};

/// `weir explain`.
#[derive(Debug, Args)]
pub(super) struct Explain {
    /// The method, such as GET
    #[arg(value_name = "METHOD")]
    method: String,
    /// The URL of the request, such as http://api.example.com/users
    #[arg(value_name = "URL")]
    url: String,
    /// A header field of the request; may be repeated
    #[arg(short = 'H', long = "header", value_name = "NAME: VALUE")]
    headers: Vec<String>,
    /// The name of the listener on which the request arrives; needed if there are several and routes name them
    #[arg(long, value_name = "NAME")]
    listener: Option<String>,
    /// The address of the client, for rate limits, and for an upstream with `hash: { client: {} }`
    #[arg(long, value_name = "IP")]
    client: Option<IpAddr>,
    #[command(flatten)]
    remote: RemoteOptions,
}

pub(super) fn explain(options: &Explain) -> u8 {
    ask(&options.remote, |remote| remote.explain(options))
}

impl Remote {
    fn explain(&self, options: &Explain) -> CommandOutput {
        let (method, url) =
            (super::backend_commands::encode(&options.method), super::backend_commands::encode(&options.url));
        let mut path = format!("/api/v1/explain?method={method}&url={url}");
        let headers = options.headers.iter().map(|header| ("header", header));
        let listener = options.listener.iter().map(|name| ("listener", name));
        for (key, value) in headers.chain(listener) {
            path += &format!("&{key}={}", super::backend_commands::encode(value));
        }
        if let Some(client) = options.client {
            path += &format!("&client={}", super::backend_commands::encode(&client.to_string()));
        }
        self.ask("GET", &path, None, TIMEOUT, |explained: Explanation| {
            let is_answered = explained.route.is_some() || explained.action.is_some();
            (text(&explained), if is_answered { DONE } else { FAILED })
        })
    }
}

fn text(explained: &Explanation) -> String {
    let host = explained.host.as_deref().unwrap_or("(no host)");
    let on = explained.listener.as_ref().map(|name| format!(" on {name}")).unwrap_or_default();
    let mut text = format!("{} {host} {}{on}\n\n", explained.method, explained.path);
    let mut rows = vec![vec!["ROUTE".to_owned(), "MATCHES".to_owned(), "WHY".to_owned()]];
    let yes = |matches| if matches { "yes" } else { "no" }.to_owned();
    rows.extend(explained.routes.iter().map(|route| vec![route.name.clone(), yes(route.matches), route.why.clone()]));
    columns(&mut text, &rows);
    text += &format!("\n{}\n", decision(explained));
    if let Some(cors) = &explained.cors {
        text += &format!("cross-origin: {cors}\n");
    }
    let sentences = explained.split.iter().map(|text| ("split", text));
    for (key, sentence) in sentences.chain(explained.mirror.iter().map(|text| ("mirror", text))) {
        text += &format!("{key}: {sentence}\n");
    }
    for listener in &explained.redirecting_listeners {
        text += &format!("on listener {}: 308 to {}, by its `redirect_https`\n", listener.name, listener.location);
    }
    let settings = explained.settings.iter();
    settings.for_each(|(key, value)| text += &format!("{key}: {}\n", flow(value)));
    add_limits(&mut text, &explained.limits);
    add_access(&mut text, &explained.access);
    explained.upstreams.iter().for_each(|upstream| add_upstream(&mut text, upstream));
    text
}

/// A value as it would be written in the configuration, in one line.
fn flow(value: &Value) -> String {
    match value {
        Value::Object(entries) => {
            let set = entries.iter().filter(|(_, value)| !value.is_null());
            let set: Vec<String> = set.map(|(key, value)| format!("{key}: {}", flow(value))).collect();
            format!("{{ {} }}", set.join(", "))
        }
        Value::Array(items) => format!("[{}]", items.iter().map(flow).collect::<Vec<_>>().join(", ")),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// One line: the route, its action, and the answer if Weir itself gives it.
fn decision(explained: &Explanation) -> String {
    let status = explained.status.map(|status| format!(" {status}")).unwrap_or_default();
    let to = explained.location.as_ref().map(|location| format!(" to {location}")).unwrap_or_default();
    let rewritten = explained.rewritten.as_ref().map(|path| format!(", the backend receives {path}"));
    let line = explained.redirect_line.map(|line| format!(", by line {line} of its file"));
    match (&explained.route, &explained.action) {
        (Some(route), Some(action)) => {
            format!("route {route}: {action}{status}{to}{}", rewritten.or(line).unwrap_or_default())
        }
        (None, Some(_)) => format!("no route:{status}{to}, by `redirect_https` of the listener"),
        _ => "no route: 404".to_owned(),
    }
}

fn add_limits(text: &mut String, limits: &[ExplainedLimit]) {
    if limits.is_empty() {
        return;
    }
    let mut rows = vec![["RATE LIMIT", "KEY", "REMAINING", "IN FLIGHT", "DECISION"].map(str::to_owned).to_vec()];
    rows.extend(limits.iter().map(|limit| {
        let remaining = limit.remaining.map_or_else(|| "-".to_owned(), |remaining| remaining.to_string());
        let key = limit.key.clone().unwrap_or_else(|| "-".to_owned());
        vec![limit.name.clone(), key, remaining, limit.in_flight.to_string(), limit.verdict.clone()]
    }));
    text.push('\n');
    columns(text, &rows);
}

fn add_access(text: &mut String, policies: &[ExplainedPolicy]) {
    if policies.is_empty() {
        return;
    }
    let mut rows = vec![["ACCESS POLICY", "NEED", "DECISION"].map(str::to_owned).to_vec()];
    rows.extend(policies.iter().map(|policy| vec![policy.name.clone(), policy.need.clone(), policy.verdict.clone()]));
    text.push('\n');
    columns(text, &rows);
}

fn add_upstream(text: &mut String, upstream: &ExplainedUpstream) {
    let open = if upstream.fail_open { ", failing open" } else { "" };
    let share = upstream.share * 100.0;
    let by = upstream.hash.as_ref().map(|part| format!(" by {part}")).unwrap_or_default();
    *text +=
        &format!("\nupstream {}: {}{by}, {share:.0}% of the route's requests{open}\n", upstream.name, upstream.balance);
    if let Some(part) = upstream.hash.as_ref().filter(|_| !upstream.has_key) {
        let hint = if part == "client address" { "; `--client IP` gives it one" } else { "" };
        *text += &format!("the request has no {part}, so chance decides{hint}\n");
    }
    let heads = ["BACKEND", "ADDRESS", "STATE", "IN FLIGHT", "WEIGHT", "SCORE", "WHY"];
    let mut rows = vec![heads.map(str::to_owned).to_vec()];
    rows.extend(upstream.backends.iter().map(backend));
    columns(text, &rows);
}

fn backend(backend: &ExplainedBackend) -> Vec<String> {
    let status = &backend.status;
    vec![
        status.name.clone(),
        status.address.clone(),
        status.state.label().to_owned(),
        status.in_flight.to_string(),
        status.effective_weight.to_string(),
        backend.score.map_or_else(|| "-".to_owned(), |score| format!("{score:.3}")),
        backend.why.clone(),
    ]
}
