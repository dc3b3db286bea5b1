//! `weir explain`: what would become of a request, asked of the running process.

use clap::Args;

use super::RemoteOptions;
use super::ask::ask;
use super::remote::{DONE, Remote, Said, TIMEOUT};
use super::table::columns;
use crate::admin::explained::{Explained, ExplainedBackend, ExplainedUpstream};

/// `weir explain`.
#[derive(Debug, Args)]
pub(super) struct Explain {
    /// The method, such as GET
    #[arg(value_name = "METHOD")]
    method: String,
    /// What is asked for, such as http://api.example.com/users
    #[arg(value_name = "URL")]
    url: String,
    /// A header field of the request; may be repeated
    #[arg(short = 'H', long = "header", value_name = "NAME: VALUE")]
    headers: Vec<String>,
    #[command(flatten)]
    remote: RemoteOptions,
}

pub(super) fn explain(options: &Explain) -> u8 {
    ask(&options.remote, |remote| remote.explain(&options.method, &options.url, &options.headers))
}

impl Remote {
    fn explain(&self, method: &str, url: &str, headers: &[String]) -> Said {
        let mut path =
            format!("/api/v1/explain?method={}&url={}", super::steer::encode(method), super::steer::encode(url));
        for header in headers {
            path += "&header=";
            path += &super::steer::encode(header);
        }
        self.ask("GET", &path, None, TIMEOUT, |explained| (text(&explained), DONE))
    }
}

fn text(explained: &Explained) -> String {
    let host = explained.host.as_deref().unwrap_or("(no host)");
    let mut text = format!("{} {host} {}\n\n", explained.method, explained.path);
    let mut rows = vec![vec!["ROUTE".to_owned(), "MATCHES".to_owned(), "WHY".to_owned()]];
    let yes = |matches| if matches { "yes" } else { "no" }.to_owned();
    rows.extend(explained.routes.iter().map(|route| vec![route.name.clone(), yes(route.matches), route.why.clone()]));
    columns(&mut text, &rows);
    text += &match (&explained.route, &explained.action) {
        (Some(route), Some(action)) => format!("\nroute {route}: {action}\n"),
        _ => "\nno route: 404\n".to_owned(),
    };
    explained.upstreams.iter().for_each(|upstream| add_upstream(&mut text, upstream));
    text
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
