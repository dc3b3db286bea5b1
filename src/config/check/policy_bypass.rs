//! Warns where another spelling of a path reaches a route without the networks or the access policies of its sibling.
//!
//! `//p` and `/p%2Fx` are other paths than `/p` and `/p/x` unless the listener normalises them. A backend may read them as
//! the same path.

use super::super::node::DocumentPath;
use super::super::schema::{EncodedSlash, ListenerConfig, Networks, RouteSettings};
use super::Check;
use super::route_match::hosts;

pub(super) fn check(check: &mut Check<'_>) {
    let routes = &check.document.routes;
    for (index, route) in routes.iter().enumerate().filter(|(_, route)| has_policies(route)) {
        let listeners: Vec<_> = check.document.listeners.iter().filter(|listener| serves(route, listener)).collect();
        let merges = listeners.iter().all(|listener| listener.paths.merge_slashes);
        let decodes = listeners.iter().all(|listener| listener.paths.encoded_slash != EncodedSlash::Keep);
        let Some((path, is_prefix)) = protected(route) else { continue };
        let spelling = match (merges, decodes) {
            (false, _) => format!("/{path}"),
            (true, false) if is_prefix => format!("{path}%2Fx"),
            _ => continue,
        };
        let Some(sibling) = routes.iter().position(|other| takes(other, route)) else { continue };
        let at = DocumentPath::of("routes").index(index);
        let other =
            check.quote(&DocumentPath::of("routes").index(sibling).key("name"), &routes[sibling].label(sibling));
        let (key, policies) = differing(route, &routes[sibling]);
        let what = format!("`{spelling}` reaches the route {other}, which has {policies}");
        let hint = "Set `paths: { merge_slashes: true, encoded_slash: reject }` on the listener";
        check.say_of_key(&at.key(key), what, hint);
    }
}

fn has_policies(route: &RouteSettings) -> bool {
    !(route.allow.is_empty_list() && route.deny.is_empty_list() && route.auth.is_empty())
}

/// The key of the route whose value the sibling does not have.
fn differing(route: &RouteSettings, sibling: &RouteSettings) -> (&'static str, &'static str) {
    let is_other = |one: &Networks, other: &Networks| !one.is_empty_list() && one != other;
    match route {
        _ if is_other(&route.allow, &sibling.allow) => ("allow", "other networks"),
        _ if is_other(&route.deny, &sibling.deny) => ("deny", "other networks"),
        _ => ("auth", "other access policies"),
    }
}

fn serves(route: &RouteSettings, listener: &ListenerConfig) -> bool {
    route.matches.listeners.is_empty() || route.matches.listeners.contains(&listener.label())
}

/// The path below the root that the route protects, and whether it is a prefix.
fn protected(route: &RouteSettings) -> Option<(&str, bool)> {
    let (path, is_prefix) = match (&route.matches.path, &route.matches.path_prefix) {
        (Some(path), _) => (path, false),
        (_, Some(prefix)) => (prefix, true),
        _ => return None,
    };
    let path = path.trim_end_matches('/');
    (path.len() > 1 && path.starts_with('/')).then_some((path, is_prefix))
}

/// Whether the route takes any path of a host of the other route to an upstream, with other policies.
fn takes(route: &RouteSettings, other: &RouteSettings) -> bool {
    let is_catch_all = match (&route.matches.path, &route.matches.path_prefix, &route.matches.path_regex) {
        (None, Some(prefix), None) => prefix == "/",
        (None, None, None) => true,
        _ => false,
    };
    let proxies = route.upstream.is_some() || route.split.is_some();
    let same_host = hosts(&route.matches).any(|host| host.is_none() || hosts(&other.matches).any(|its| its == host));
    let loses = |one: &Networks, other: &Networks| !other.is_empty_list() && one != other;
    let differs = loses(&route.allow, &other.allow)
        || loses(&route.deny, &other.deny)
        || (!other.auth.is_empty() && route.auth != other.auth);
    is_catch_all && proxies && same_host && differs
}
