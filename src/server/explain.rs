//! Answers `weir explain`: the route of a request, the mismatch of every other route, and the state of each backend. It
//! never changes the state of a component.

use std::collections::BTreeMap;
use std::sync::Arc;

use http::Method;
use serde_json::Value;

use super::api_values::{balance, shown};
use super::explain_access;
use super::explain_answer;
use super::explain_cors;
use super::explain_limits;
use super::explain_request::{ExplainedRequest, parse};
use crate::admin::api_explain::{
    ExplainedBackend, ExplainedRoute, ExplainedUpstream, Explanation, Question, RedirectingListener,
};
use crate::clock;
use crate::config::schema::{self, ListenerConfig, ValueMatch};
use crate::config::{self, RefusedBy};
use crate::cors::asked_method;
use crate::message::cookie;
use crate::proxy::hash_key;
use crate::route::action::Action;
use crate::route::table::{Mismatch, OnListener};
use crate::snapshot::{Route, RouteTarget, Snapshot};
use crate::upstream::PickHints;

/// Answers a question. The error says why the question is invalid.
pub(super) fn explain(snapshot: &Snapshot, question: &Question) -> Result<Explanation, String> {
    let request = parse(question, &snapshot.document.listeners)?;
    let ExplainedRequest { method, host, path, .. } = &request;
    let parts = request.parts();
    let on = request.on();
    let find = |method: &Method| snapshot.routes.find(on, host.as_deref(), path, method, parts);
    // A preflight takes the route of the request that it asks about.
    let asked = asked_method(method, &request.header.headers);
    let asked = asked.filter(|method| find(method).is_some_and(|route| route.cors.is_some()));
    let method = asked.as_ref().unwrap_or(method);
    let chosen = find(method);
    let all = snapshot.routes.mismatches(on, host.as_deref(), path, method, parts);
    let all = all.zip(&snapshot.document.routes);
    let routes = all
        .map(|((route, mismatch), written)| one_route(snapshot, route, mismatch, chosen, &request, written))
        .collect();
    let by_listener = on.redirects.then_some("redirect_https");
    let listed = chosen.and_then(|route| explain_answer::listed(route, &request));
    let proxied = chosen.filter(|_| listed.is_none());
    let upstreams = proxied.map(|route| upstreams(route, &request)).unwrap_or_default();
    let redirects_to = request.listener.as_ref().and_then(|listener| listener.redirects_to);
    let own = || explain_answer::of(chosen.map(|route| &**route), redirects_to, &request);
    let (answer, redirect_line) = listed.map_or_else(|| (own(), None), |(answer, line)| (answer, Some(line)));
    let redirecting = if request.listener.is_none() { redirecting_listeners(snapshot, &request) } else { Vec::new() };
    let limits = chosen.map(|route| explain_limits::limits(route, &request));
    Ok(Explanation {
        status: asked.as_ref().map(|_| 204).or(answer.status),
        cors: chosen.and_then(|route| explain_cors::decision(route, asked.as_ref(), &request)),
        location: answer.location,
        redirect_line,
        rewritten: proxied.and_then(|route| explain_answer::rewritten(route, &request)),
        split: proxied.and_then(|route| explain_answer::split(route, &request)),
        mirror: proxied.and_then(|route| explain_answer::mirror(route)),
        redirecting_listeners: redirecting,
        method: request.method.to_string(),
        route: chosen.map(|route| route.meters.name().to_string()),
        action: redirect_line
            .map(|_| "redirects")
            .or(chosen.map(|route| action(route)))
            .or(by_listener)
            .map(str::to_owned),
        settings: chosen.map(|route| settings(route, &snapshot.document)).unwrap_or_default(),
        routes,
        limits: limits.unwrap_or_default(),
        access: chosen.map(|route| explain_access::policies(route, &request)).unwrap_or_default(),
        upstreams,
        host: request.host.clone(),
        path: request.path.clone(),
        listener: request.listener.as_ref().map(|listener| listener.name.clone()),
    })
}

/// The effective settings of a route.
fn settings(route: &Route, document: &schema::Document) -> BTreeMap<String, Value> {
    let mut routes = document.routes.iter().enumerate();
    let written = routes.find(|(index, written)| *written.label(*index) == **route.meters.name());
    written.and_then(|(_, written)| config::effective_settings(written).ok()).unwrap_or_default()
}

/// The listeners that redirect the request to https because no route takes it there.
fn redirecting_listeners(snapshot: &Snapshot, request: &ExplainedRequest) -> Vec<RedirectingListener> {
    let redirects = |listener: &ListenerConfig| {
        let (port, name) = (listener.redirect_https.0?, listener.label());
        let on = OnListener { name: Some(&name), redirects: true };
        let ExplainedRequest { method, host, path, .. } = request;
        let taken = snapshot.routes.find(on, host.as_deref(), path, method, request.parts()).is_some();
        let location = explain_answer::to_https(port, request).filter(|_| !taken)?;
        Some(RedirectingListener { location, name })
    };
    snapshot.document.listeners.iter().filter_map(redirects).collect()
}

fn one_route(
    snapshot: &Snapshot,
    route: &Arc<Route>,
    mismatch: Option<Mismatch<'_>>,
    chosen: Option<&Arc<Route>>,
    request: &ExplainedRequest,
    written: &schema::RouteSettings,
) -> ExplainedRoute {
    let why = match (mismatch, chosen) {
        (Some(mismatch), _) => describe(mismatch, request, &written.matches.listeners),
        (None, Some(chosen)) if Arc::ptr_eq(chosen, route) => match refused(snapshot, route, request) {
            Some(refused) => format!("takes it, but {refused}"),
            None if is_in_maintenance(route, request) => "takes it, but it is in maintenance: 503".to_owned(),
            None => "takes it".to_owned(),
        },
        (None, Some(chosen)) => format!("matches, but `{}` is more specific or comes first", chosen.meters.name()),
        (None, None) => "matches".to_owned(),
    };
    ExplainedRoute { name: route.meters.name().to_string(), matches: mismatch.is_none(), why }
}

/// The networks that refuse the client, in the order in which a request meets them.
fn refused(snapshot: &Snapshot, route: &Route, request: &ExplainedRequest) -> Option<String> {
    let client = request.client?;
    let key = request.listener.as_ref().map(|listener| &listener.key);
    let by_listener = key.and_then(|key| snapshot.listener_filters.get(key)?.refuses(client));
    let by_route = || route.clients.as_ref().and_then(|filter| filter.refuses(client)).map(|by| (by, "route"));
    let (by, place) = by_listener.map(|by| (by, "listener")).or_else(by_route)?;
    let key = match by {
        RefusedBy::Allow => "allow",
        RefusedBy::Deny => "deny",
    };
    Some(format!("`{key}` of the {place} refuses the client {client}: 403"))
}

fn is_in_maintenance(route: &Route, request: &ExplainedRequest) -> bool {
    let is_allowed = request.client.is_some_and(|client| route.maintenance.allows(client));
    route.meters.maintenance().is_on() && !is_allowed
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
        (Mismatch::Header(name, ValueMatch::Equals(_)), _) => {
            format!("the header `{name}` is missing or has another value")
        }
        (Mismatch::Header(name, condition), _) => format!("the header `{name}` does not fulfil: {condition}"),
        (Mismatch::Query(name, condition), _) => {
            format!("the query parameter `{name}` does not fulfil: {condition}")
        }
        (Mismatch::Cookie(name, condition), _) => format!("the cookie `{name}` does not fulfil: {condition}"),
        (Mismatch::Client, _) => match request.client {
            Some(client) => format!("the client {client} is in none of its networks"),
            None => "it wants a client in one of its networks: ask with --client".to_owned(),
        },
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
        Action::Split(split) => {
            split.targets().into_iter().map(|(target, share)| one_upstream(target, share, request)).collect()
        }
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
