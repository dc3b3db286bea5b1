//! `routes[].match`: validation of each match, and detection of equal matches.

use std::borrow::Cow;
use std::collections::{BTreeSet, HashMap};

use super::super::node::DocumentPath;
use super::super::problem::did_you_mean;
use super::super::schema::{ListenerConfig, Match, RouteSettings};
use super::super::values::HostPattern;
use super::headers;
use super::{Check, text};
use crate::path;

pub(super) fn check(check: &mut Check<'_>) {
    for (index, route) in check.document.routes.iter().enumerate() {
        one(check, &DocumentPath::of("routes").index(index).key("match"), &route.matches);
    }
    alike(check);
}

fn one(check: &mut Check<'_>, at: &DocumentPath, matches: &Match) {
    let keys = ["path", "path_prefix", "path_regex"];
    let set = [matches.path.is_some(), matches.path_prefix.is_some(), matches.path_regex.is_some()];
    let pairs = keys.into_iter().zip(set);
    let written: Vec<&str> = pairs.filter(|(key, set)| check.has(&at.key(key), *set)).map(|(key, _)| key).collect();
    if written.len() > 1 {
        let what = format!("`{}` in one match", written.join("` and `"));
        check.say(&at.key(written[1]), what, "A route has one condition on the path: keep one");
    }
    for (key, path) in [("path", &matches.path), ("path_prefix", &matches.path_prefix)] {
        let here = at.key(key);
        if let Some(path) = path
            // `OPTIONS *` (RFC 9112 section 3.2.4).
            && !(key == "path" && path == "*")
            && let Some(wrong) = text::bad_path(path)
        {
            check.say(&here, format!("{} {wrong}", check.quote(&here, path)), "Write a path such as `/api`");
        }
    }
    headers::matched(check, &at.key("headers"), &matches.headers);
    for (key, conditions) in [("query", &matches.query), ("cookies", &matches.cookies)] {
        if conditions.contains_key("") {
            check.say_of_key(&at.key(key).key(""), "the name is empty", "Write a name");
        }
    }
    listeners(check, &at.key("listeners"), &matches.listeners);
    let mut seen = BTreeSet::new();
    for (index, host) in matches.hosts.iter().enumerate() {
        if !seen.insert(host) {
            let here = at.key("hosts").index(index);
            check.say(&here, format!("{} is listed twice", check.quote(&here, &host.to_string())), "Keep one");
        }
    }
}

/// Checks references to listeners.
fn listeners(check: &mut Check<'_>, at: &DocumentPath, names: &[String]) {
    let known: Vec<String> = check.document.listeners.iter().map(ListenerConfig::label).collect();
    let mut seen = BTreeSet::new();
    for (index, name) in names.iter().enumerate() {
        let here = at.index(index);
        if !seen.insert(name) {
            check.say(&here, format!("{} is listed twice", check.quote(&here, name)), "Keep one");
        } else if !known.contains(name) {
            let what = format!("there is no listener {}", check.quote(&here, name));
            let hint = match known.is_empty() {
                true => "Define it in `listeners`".to_owned(),
                false => did_you_mean(name, known.iter().map(String::as_str)),
            };
            // An invalid listener is reported elsewhere, and it may have this name.
            check.say_given(&here, &[DocumentPath::of("listeners")], what, hint);
        }
    }
}

/// The conditions of a match on one listener and one host. If two are equal, the second route is never reached. A match
/// that names the listener takes precedence over one that names none, so these two are not equal.
#[derive(PartialEq, Eq, Hash)]
pub(super) struct Condition<'a> {
    listener: Option<&'a str>,
    host: Option<&'a HostPattern>,
    /// The path in the form in which routes compare it.
    path: (u8, Cow<'a, str>),
    methods: BTreeSet<&'a str>,
    /// Kind, name and condition.
    values: Vec<(u8, Cow<'a, str>, String)>,
    client: BTreeSet<String>,
}

/// The condition of a match on one listener and one host.
pub(super) fn condition<'a>(
    matches: &'a Match,
    listener: Option<&'a str>,
    host: Option<&'a HostPattern>,
) -> Condition<'a> {
    let path = match (&matches.path, &matches.path_prefix, &matches.path_regex) {
        (Some(path), _, _) => (1, path::configured(path).into()),
        (_, Some(prefix), _) => (2, path::configured_prefix(prefix).into()),
        (_, _, Some(regex)) => (3, regex.regex().as_str().into()),
        _ => (0, "".into()),
    };
    let headers = matches.headers.iter().map(|(name, is)| (0, name.to_ascii_lowercase().into(), is.to_string()));
    let query = matches.query.iter().map(|(name, is)| (1, name.into(), is.to_string()));
    let cookies = matches.cookies.iter().map(|(name, is)| (2, name.into(), is.to_string()));
    let mut values: Vec<_> = headers.chain(query).chain(cookies).collect();
    values.sort();
    let client = matches.client.iter().map(ToString::to_string).collect();
    let methods = matches.methods.iter().map(|m| m.as_http().as_str()).collect();
    Condition { listener, host, path, methods, values, client }
}

fn alike(check: &mut Check<'_>) {
    let routes: &[RouteSettings] = &check.document.routes;
    let mut seen: HashMap<Condition<'_>, usize> = HashMap::new();
    for (index, route) in routes.iter().enumerate() {
        for (listener, host) in listener_hosts(&route.matches) {
            match seen.get(&condition(&route.matches, listener, host)) {
                Some(&first) if first != index => {
                    same(check, (first, &routes[first]), (index, route), (listener, host));
                    break;
                }
                Some(_) => {}
                None => drop(seen.insert(condition(&route.matches, listener, host), index)),
            }
        }
    }
}

/// A listener and a host of a match; `None`: all.
type On<'a> = (Option<&'a str>, Option<&'a HostPattern>);

/// Each combination of a listener and a host of a match.
fn listener_hosts(matches: &Match) -> impl Iterator<Item = On<'_>> {
    let any_listener = matches.listeners.is_empty().then_some(None);
    let listeners = matches.listeners.iter().map(|name| Some(name.as_str())).chain(any_listener);
    listeners.flat_map(|listener| hosts(matches).map(move |host| (listener, host)))
}

/// Each host of a match; `None`: all.
pub(super) fn hosts(matches: &Match) -> impl Iterator<Item = Option<&HostPattern>> {
    matches.hosts.iter().map(Some).chain(matches.hosts.is_empty().then_some(None))
}

fn same(check: &mut Check<'_>, first: (usize, &RouteSettings), second: (usize, &RouteSettings), on: On<'_>) {
    let at = |index: usize| DocumentPath::of("routes").index(index);
    let label = |check: &Check<'_>, (index, route): (usize, &RouteSettings)| {
        check.quote(&at(index).key("name"), &route.label(index))
    };
    let (ours, theirs) = (&second.1.matches, &first.1.matches);
    let quoted = |check: &Check<'_>, key: &str, n: usize, text: &str| {
        format!(" on {}", check.quote(&at(second.0).key("match").key(key).index(n), text))
    };
    let on_host = match ours.hosts.iter().position(|h| Some(h) == on.1) {
        Some(n) if ours.hosts.len() > 1 || theirs.hosts.len() > 1 => {
            quoted(check, "hosts", n, &ours.hosts[n].to_string())
        }
        _ => String::new(),
    };
    let on_listener = match ours.listeners.iter().position(|name| Some(name.as_str()) == on.0) {
        Some(n) if ours.listeners.len() > 1 || theirs.listeners.len() > 1 => {
            quoted(check, "listeners", n, &ours.listeners[n])
        }
        _ => String::new(),
    };
    let (one, other) = (label(check, first), label(check, second));
    let hint =
        format!("Line {} comes first, so this one is never reached: change one of them", check.line(&at(first.0)));
    let here = if check.is_written(&at(second.0).key("match")) { at(second.0).key("match") } else { at(second.0) };
    let what = format!("{other} matches what {one} matches{on_host}{on_listener}");
    check.say_given(&here, &[at(first.0).key("match")], what, hint);
}
