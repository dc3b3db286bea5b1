//! Answers `weir explain`: the route of a request, the mismatch of every other route, and the state of each backend. It
//! never changes the state of a component.

use std::net::IpAddr;
use std::sync::Arc;

use http::uri::Uri;
use http::{HeaderMap, HeaderName, HeaderValue, Method, header};

use super::api_values::{balance, shown};
use super::{explain_limits, explain_path};
use crate::admin::api_explain::{ExplainedBackend, ExplainedRoute, ExplainedUpstream, Explanation, Question};
use crate::clock;
use crate::config::schema::{self, ListenerConfig};
use crate::message::cookie;
use crate::route::action::Action;
use crate::route::host;
use crate::route::table::{Mismatch, OnListener};
use crate::snapshot::{Route, RouteTarget, Snapshot};

/// The parsed request of the question.
struct ExplainedRequest {
    listener: Option<OfListener>,
    method: Method,
    host: Option<String>,
    path: String,
    headers: HeaderMap,
    client: Option<IpAddr>,
}

/// The listener on which the request arrives.
struct OfListener {
    name: String,
    redirects: bool,
}

/// Answers a question. The error says why the question is invalid.
pub(super) fn explain(snapshot: &Snapshot, question: &Question) -> Result<Explanation, String> {
    let request = parse(question, &snapshot.document.listeners)?;
    let ExplainedRequest { method, host, path, headers, .. } = &request;
    let on = request.on();
    let chosen = snapshot.routes.find(on, host.as_deref(), path, method, headers);
    let all = snapshot.routes.mismatches(on, host.as_deref(), path, method, headers);
    let all = all.zip(&snapshot.document.routes);
    let routes =
        all.map(|((route, mismatch), written)| one_route(route, mismatch, chosen, &request, written)).collect();
    let by_listener = on.redirects.then_some("redirect_https");
    let upstreams = chosen.map(|route| upstreams(route, headers)).unwrap_or_default();
    let limits =
        chosen.map(|route| explain_limits::limits(route, (method, host.as_deref(), path), headers, request.client));
    Ok(Explanation {
        method: method.to_string(),
        route: chosen.map(|route| route.meters.name().to_string()),
        action: chosen.map(|route| action(route)).or(by_listener).map(str::to_owned),
        routes,
        limits: limits.unwrap_or_default(),
        upstreams,
        host: request.host.clone(),
        path: request.path.clone(),
        listener: request.listener.as_ref().map(|listener| listener.name.clone()),
    })
}

impl ExplainedRequest {
    fn on(&self) -> OnListener<'_> {
        match &self.listener {
            Some(listener) => OnListener { name: Some(&listener.name), redirects: listener.redirects },
            None => OnListener::default(),
        }
    }
}

/// The listener that the question names, or the only listener that exists.
fn listener(question: &Question, listeners: &[ListenerConfig]) -> Result<Option<OfListener>, String> {
    let found = match (&question.listener, listeners) {
        (Some(name), _) => {
            let known = || listeners.iter().map(|listener| format!("`{}`", listener.label())).collect::<Vec<_>>();
            let found = listeners.iter().find(|listener| listener.label() == *name);
            Some(found.ok_or_else(|| format!("there is no listener `{name}`; known are {}", known().join(", ")))?)
        }
        (None, [only]) => Some(only),
        (None, _) => None,
    };
    Ok(found.map(|listener| OfListener { name: listener.label(), redirects: listener.redirect_https.0.is_some() }))
}

fn parse(question: &Question, listeners: &[ListenerConfig]) -> Result<ExplainedRequest, String> {
    let listener = listener(question, listeners)?;
    let method = question.method.parse().map_err(|_| format!("`{}` is not a method", question.method))?;
    let wrong = || format!("`{}` is not a URL; write http://HOST/PATH or /PATH", question.url);
    let about_the_server = explain_path::is_about_the_server(&method, &question.url);
    let uri: Uri = explain_path::encoded(&question.url).parse().map_err(|_| wrong())?;
    match uri.scheme_str() {
        Some("http" | "https") => {}
        None if about_the_server => {}
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
    let path = match uri.path() {
        _ if about_the_server => "*",
        "" => "/",
        path => path,
    };
    let read_by = listeners.iter().filter(|one| listener.as_ref().is_none_or(|named| one.label() == named.name));
    let path = explain_path::matched(path, read_by)?;
    let client =
        question.client.as_ref().map(|client| client.parse().map_err(|_| format!("`{client}` is not an IP address")));
    Ok(ExplainedRequest { listener, method, host, path, headers, client: client.transpose()? })
}

fn one_route(
    route: &Arc<Route>,
    mismatch: Option<Mismatch<'_>>,
    chosen: Option<&Arc<Route>>,
    request: &ExplainedRequest,
    written: &schema::RouteSettings,
) -> ExplainedRoute {
    let why = match (mismatch, chosen) {
        (Some(mismatch), _) => describe(mismatch, request, &written.matches.listeners),
        (None, Some(chosen)) if Arc::ptr_eq(chosen, route) => "takes it".to_owned(),
        (None, Some(chosen)) => format!("matches, but `{}` is more specific or comes first", chosen.meters.name()),
        (None, None) => "matches".to_owned(),
    };
    ExplainedRoute { name: route.meters.name().to_string(), matches: mismatch.is_none(), why }
}

fn describe(mismatch: Mismatch<'_>, request: &ExplainedRequest, listeners: &[String]) -> String {
    match (mismatch, &request.host) {
        (Mismatch::Listener, _) => match &request.listener {
            Some(listener) => format!("the listener `{}` is none of its listeners", listener.name),
            None => format!("it is only on {}: ask with --listener", listeners.join(", ")),
        },
        (Mismatch::Redirected, _) => "the listener redirects to https, and the route does not name it".to_owned(),
        (Mismatch::Host, Some(host)) => format!("the host `{host}` is none of its hosts"),
        (Mismatch::Host, None) => "it wants a host, and there is none".to_owned(),
        (Mismatch::Path, _) => format!("the path `{}` does not match", request.path),
        (Mismatch::Method, _) => format!("the method {} is none of its methods", request.method),
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

fn one_upstream(target: &RouteTarget, share: f64, headers: &HeaderMap) -> ExplainedUpstream {
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
        balance: balance(upstream.settings().balance),
        fail_open: outlook.fail_open,
        backends: backends.collect(),
    }
}
