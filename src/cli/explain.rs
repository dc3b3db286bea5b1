//! `weir explain`: how the running process would handle a request.

use clap::Args;

use super::RemoteOptions;
use super::columns::columns;
use super::remote::{CommandOutput, DONE, Remote, TIMEOUT};
use super::remote_commands::ask;
use crate::admin::api_explain::{ExplainedBackend, ExplainedLimit, ExplainedUpstream, Explanation};

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
    /// The address of the client, for rate limits
    #[arg(long, value_name = "ADDRESS")]
    client: Option<String>,
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
        let client = options.client.iter().map(|address| ("client", address));
        for (key, value) in headers.chain(listener).chain(client) {
            path += &format!("&{key}={}", super::backend_commands::encode(value));
        }
        self.ask("GET", &path, None, TIMEOUT, |explained| (text(&explained), DONE))
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
    text += &match (&explained.route, &explained.action) {
        (Some(route), Some(action)) => format!("\nroute {route}: {action}\n"),
        (None, Some(_)) => "\nno route: 308 to https, by `redirect_https` of the listener\n".to_owned(),
        _ => "\nno route: 404\n".to_owned(),
    };
    add_limits(&mut text, &explained.limits);
    explained.upstreams.iter().for_each(|upstream| add_upstream(&mut text, upstream));
    text
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

fn add_upstream(text: &mut String, upstream: &ExplainedUpstream) {
    let open = if upstream.fail_open { ", failing open" } else { "" };
    let share = upstream.share * 100.0;
    *text +=
        &format!("\nupstream {}: {}, {share:.0}% of the route's requests{open}\n", upstream.name, upstream.balance);
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
