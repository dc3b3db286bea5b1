//! Answers `weir explain`: the route of a request, the mismatch of every other route, and the state of each backend. It
//! never changes the state of a component.

use std::net::IpAddr;
use std::sync::Arc;

use http::uri::Uri;
use http::{HeaderName, HeaderValue, Method, header};
use pingora::http::RequestHeader;

use super::api_values::{balance, shown};
use super::{explain_answer, explain_path};
use crate::admin::api_explain::{
    ExplainedBackend, ExplainedRoute, ExplainedUpstream, Explanation, Question, RedirectingListener,
};
use crate::clock;
use crate::config::schema::{self, ListenerConfig};
use crate::message::cookie;
use crate::message::host as message_host;
use crate::proxy::hash_key;
use crate::route::action::Action;
use crate::route::host;
use crate::route::table::{Mismatch, OnListener};
use crate::snapshot::{Route, RouteTarget, Snapshot};
use crate::upstream::PickHints;

/// The parsed request of the question.
pub(super) struct ExplainedRequest {
    listener: Option<OfListener>,
    method: Method,
    host: Option<String>,
    /// The normalised path.
    pub(super) path: String,
    /// `https` if the listener has TLS. If the listener is not known, the scheme of the URL.
    pub(super) scheme: &'static str,
    /// The request as the client sends it.
    pub(super) header: RequestHeader,
    client: Option<IpAddr>,
}

/// The listener on which the request arrives.
struct OfListener {
    name: String,
    /// The port of `redirect_https`.
    redirects_to: Option<u16>,
    has_tls: bool,
}

/// Answers a question. The error says why the question is invalid.
pub(super) fn explain(snapshot: &Snapshot, question: &Question) -> Result<Explanation, String> {
    let request = parse(question, &snapshot.document.listeners)?;
    let ExplainedRequest { method, host, path, .. } = &request;
    let headers = &request.header.headers;
    let on = request.on();
    let chosen = snapshot.routes.find(on, host.as_deref(), path, method, headers);
    let all = snapshot.routes.mismatches(on, host.as_deref(), path, method, headers);
    let all = all.zip(&snapshot.document.routes);
    let routes =
        all.map(|((route, mismatch), written)| one_route(route, mismatch, chosen, &request, written)).collect();
    let by_listener = on.redirects.then_some("redirect_https");
    let upstreams = chosen.map(|route| upstreams(route, &request)).unwrap_or_default();
    let redirects_to = request.listener.as_ref().and_then(|listener| listener.redirects_to);
    let answer = explain_answer::of(chosen.map(|route| &**route), redirects_to, &request);
    let redirecting = if request.listener.is_none() { redirecting_listeners(snapshot, &request) } else { Vec::new() };
    Ok(Explanation {
        status: answer.status,
        location: answer.location,
        rewritten: chosen.and_then(|route| explain_answer::rewritten(route, &request)),
        redirecting_listeners: redirecting,
        method: method.to_string(),
        route: chosen.map(|route| route.meters.name().to_string()),
        action: chosen.map(|route| action(route)).or(by_listener).map(str::to_owned),
        routes,
        upstreams,
        host: request.host.clone(),
        path: request.path.clone(),
        listener: request.listener.as_ref().map(|listener| listener.name.clone()),
    })
}

impl ExplainedRequest {
    fn on(&self) -> OnListener<'_> {
        match &self.listener {
            Some(listener) => OnListener { name: Some(&listener.name), redirects: listener.redirects_to.is_some() },
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
    Ok(found.map(|listener| OfListener {
        name: listener.label(),
        redirects_to: listener.redirect_https.0,
        has_tls: listener.tls.is_some(),
    }))
}

/// The listeners that redirect the request to https because no route takes it there.
fn redirecting_listeners(snapshot: &Snapshot, request: &ExplainedRequest) -> Vec<RedirectingListener> {
    let redirects = |listener: &ListenerConfig| {
        let (port, name) = (listener.redirect_https.0?, listener.label());
        let on = OnListener { name: Some(&name), redirects: true };
        let ExplainedRequest { method, host, path, header, .. } = request;
        let taken = snapshot.routes.find(on, host.as_deref(), path, method, &header.headers).is_some();
        let location = explain_answer::to_https(port, request).filter(|_| !taken)?;
        Some(RedirectingListener { location, name })
    };
    snapshot.document.listeners.iter().filter_map(redirects).collect()
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
    let header = header(question, &uri, &method)?;
    let named = message_host::authority(&header);
    let host = named.and_then(host::normalise).map(Into::into);
    let path = match uri.path() {
        _ if about_the_server => "*",
        "" => "/",
        path => path,
    };
    let read_by = listeners.iter().filter(|one| listener.as_ref().is_none_or(|named| one.label() == named.name));
    let path = explain_path::matched(path, read_by)?;
    let with_tls = listener.as_ref().map_or(uri.scheme_str() == Some("https"), |listener| listener.has_tls);
    let client = question.client.as_ref().map(|client| client.parse()).transpose();
    let client = client.map_err(|_| "`client` is not an IP address".to_owned())?;
    let scheme = if with_tls { "https" } else { "http" };
    Ok(ExplainedRequest { listener, method, host, path, scheme, header, client })
}

/// The header of the request: the target in origin-form, Host from the URL, and the fields of the question.
fn header(question: &Question, uri: &Uri, method: &Method) -> Result<RequestHeader, String> {
    let target = uri.path_and_query().map_or("/", |target| target.as_str());
    let made = RequestHeader::build(method.clone(), target.as_bytes(), Some(question.headers.len() + 1));
    let mut request = made.map_err(|error| error.to_string())?;
    for line in &question.headers {
        let parts = line.split_once(':').ok_or_else(|| format!("`{line}` is not a header; write NAME: VALUE"))?;
        let name: HeaderName = parts.0.trim().parse().map_err(|_| format!("`{}` is not a header name", parts.0))?;
        let value: HeaderValue =
            parts.1.trim().parse().map_err(|_| format!("`{}` cannot be a header's value", parts.1))?;
        request.append_header(name, value).map_err(|error| error.to_string())?;
    }
    if let Some(authority) = uri.authority() {
        request.insert_header(header::HOST, authority.as_str()).map_err(|error| error.to_string())?;
    }
    Ok(request)
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

fn upstreams(route: &Route, request: &ExplainedRequest) -> Vec<ExplainedUpstream> {
    match &route.action {
        Action::Upstream(target) => vec![one_upstream(target, 1.0, request)],
        Action::Split(split) => split.shares().map(|(target, share)| one_upstream(target, share, request)).collect(),
        Action::Redirect(_) | Action::Respond(_) => Vec::new(),
    }
}

fn one_upstream(target: &RouteTarget, share: f64, request: &ExplainedRequest) -> ExplainedUpstream {
    let upstream = &target.upstream;
    let seen = upstream.sticky().and_then(|sticky| {
        let values = cookie::values(&request.header.headers, sticky.cookie().as_bytes());
        sticky.read(values, clock::unix_ms() / 1_000)
    });
    let hash = upstream.settings().hash.as_ref();
    let key = hash.and_then(|hash| hash_key::of(hash, &request.header, request.client));
    let outlook = upstream.outlook(PickHints { named: seen.map(|seen| seen.token), key });
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
        hash: hash.map(explain_answer::hashed_part),
        has_key: key.is_some(),
        fail_open: outlook.fail_open,
        backends: backends.collect(),
    }
}
