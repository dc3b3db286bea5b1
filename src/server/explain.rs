//! Which route a request would take, why the others would not, and what each backend's chances are. It asks the rooms
//! that decide and changes nothing in them.

use std::sync::Arc;

use http::uri::Uri;
use http::{HeaderMap, HeaderName, HeaderValue, Method, header};

use super::control::shown;
use crate::admin::explained::{Explained, ExplainedBackend, ExplainedRoute, ExplainedUpstream, Question};
use crate::policy::cookie;
use crate::route::action::Action;
use crate::route::table::Mismatch;
use crate::route::{host, path};
use crate::snapshot::{Route, Snapshot, Target};
use crate::upstream::clock;

/// The request that is asked about.
struct Asked {
    method: Method,
    host: Option<String>,
    path: String,
    headers: HeaderMap,
}

/// Answers a question; what is wrong with it otherwise.
pub(super) fn explain(snapshot: &Snapshot, question: &Question) -> Result<Explained, String> {
    let asked = parse(question)?;
    let Asked { method, host, path, headers } = &asked;
    let chosen = snapshot.routes.find(host.as_deref(), path, method, headers);
    let all = snapshot.routes.mismatches(host.as_deref(), path, method, headers);
    let routes = all.map(|(route, mismatch)| one_route(route, mismatch, chosen, &asked)).collect();
    let upstreams = chosen.map(|route| upstreams(route, headers)).unwrap_or_default();
    Ok(Explained {
        method: method.to_string(),
        route: chosen.map(|route| route.meters.name().to_string()),
        action: chosen.map(|route| action(route).to_owned()),
        routes,
        upstreams,
        host: asked.host.clone(),
        path: asked.path.clone(),
    })
}

fn parse(question: &Question) -> Result<Asked, String> {
    let method = question.method.parse().map_err(|_| format!("`{}` is not a method", question.method))?;
    let wrong = || format!("`{}` is not a URL; write http://HOST/PATH or /PATH", question.url);
    let uri: Uri = question.url.parse().map_err(|_| wrong())?;
    match uri.scheme_str() {
        Some("http" | "https") => {}
        None if question.url.starts_with('/') => {}
        _ => return Err(wrong()),
    }
    let mut headers = HeaderMap::new();
    for line in &question.headers {
        let parts = line.split_once(':').ok_or_else(|| format!("`{line}` is not a header; write NAME: VALUE"))?;
        let name: HeaderName = parts.0.trim().parse().map_err(|_| format!("`{}` is not a header name", parts.0))?;
        let value: HeaderValue =
            parts.1.trim().parse().map_err(|_| format!("`{}` cannot be a header's value", parts.1))?;
        headers.append(name, value);
    }
    let authority = uri.authority().map(|authority| authority.as_str().as_bytes());
    let named = authority.or_else(|| headers.get(header::HOST).map(HeaderValue::as_bytes));
    let host = named.and_then(host::normalise).map(Into::into);
    let path = if uri.path().is_empty() { "/" } else { uri.path() };
    Ok(Asked { method, host, path: path::normalise(path).into(), headers })
}

fn one_route(
    route: &Arc<Route>,
    mismatch: Option<Mismatch<'_>>,
    chosen: Option<&Arc<Route>>,
    asked: &Asked,
) -> ExplainedRoute {
    let why = match (mismatch, chosen) {
        (Some(mismatch), _) => words(mismatch, asked),
        (None, Some(chosen)) if Arc::ptr_eq(chosen, route) => "takes it".to_owned(),
        (None, Some(chosen)) => format!("matches, but `{}` is more specific or comes first", chosen.meters.name()),
        (None, None) => "matches".to_owned(),
    };
    ExplainedRoute { name: route.meters.name().to_string(), matches: mismatch.is_none(), why }
}

fn words(mismatch: Mismatch<'_>, asked: &Asked) -> String {
    match (mismatch, &asked.host) {
        (Mismatch::Host, Some(host)) => format!("the host `{host}` is none of its hosts"),
        (Mismatch::Host, None) => "it wants a host, and there is none".to_owned(),
        (Mismatch::Path, _) => format!("the path `{}` does not match", asked.path),
        (Mismatch::Method, _) => format!("the method {} is none of its methods", asked.method),
        (Mismatch::Header(name), _) => format!("the header `{name}` is missing or has another value"),
    }
}

fn action(route: &Route) -> &'static str {
    match &route.action {
        Action::Upstream(_) => "upstream",
        Action::Split(_) => "split",
        Action::Redirect(_) => "redirect",
        Action::Respond(_) => "respond",
    }
}

fn upstreams(route: &Route, headers: &HeaderMap) -> Vec<ExplainedUpstream> {
    match &route.action {
        Action::Upstream(target) => vec![one_upstream(target, 1.0, headers)],
        Action::Split(split) => split.shares().map(|(target, share)| one_upstream(target, share, headers)).collect(),
        Action::Redirect(_) | Action::Respond(_) => Vec::new(),
    }
}

fn one_upstream(target: &Target, share: f64, headers: &HeaderMap) -> ExplainedUpstream {
    let upstream = &target.upstream;
    let seen = upstream.sticky().and_then(|sticky| {
        let values = cookie::values(headers, sticky.cookie().as_bytes());
        sticky.read(values, clock::unix_ms() / 1_000)
    });
    let outlook = upstream.outlook(seen.map(|seen| seen.token));
    let backends = outlook.backends.into_iter().map(|candidate| ExplainedBackend {
        status: shown(candidate.status),
        eligible: candidate.eligible,
        next: candidate.next,
        score: candidate.score,
        why: candidate.why,
    });
    ExplainedUpstream {
        name: upstream.name().to_string(),
        share,
        balance: super::control::balance(upstream.settings().balance),
        fail_open: outlook.fail_open,
        backends: backends.collect(),
    }
}
