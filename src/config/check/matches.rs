//! `routes[].match`: each by itself, and no two alike.

use std::borrow::Cow;
use std::collections::{BTreeSet, HashMap};

use super::super::schema::{Match, Route};
use super::super::tree::Place;
use super::super::values::HostPattern;
use super::headers::{self, Use};
use super::{Check, words};
use crate::path;

pub(super) fn check(check: &mut Check<'_>) {
    for (index, route) in check.document.routes.iter().enumerate() {
        one(check, &Place::of("routes").index(index).key("match"), &route.matches);
    }
    alike(check);
}

fn one(check: &mut Check<'_>, at: &Place, matches: &Match) {
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
            && let Some(wrong) = words::bad_path(path)
        {
            check.say(&here, format!("{} {wrong}", check.quote(&here, path)), "Write a path such as `/api`");
        }
    }
    headers::fields(check, &at.key("headers"), &matches.headers, Use::Matched);
    let mut seen = BTreeSet::new();
    for (index, host) in matches.hosts.iter().enumerate() {
        if !seen.insert(host) {
            let here = at.key("hosts").index(index);
            check.say(&here, format!("{} is listed twice", check.quote(&here, &host.to_string())), "Keep one");
        }
    }
}

/// What a match asks for on one host; two that are equal can never be told apart.
#[derive(PartialEq, Eq, Hash)]
struct Condition<'a> {
    host: Option<&'a HostPattern>,
    /// As routes compare it.
    path: (u8, Cow<'a, str>),
    methods: BTreeSet<&'a str>,
    headers: Vec<(String, &'a str)>,
}

fn condition<'a>(matches: &'a Match, host: Option<&'a HostPattern>) -> Condition<'a> {
    let path = match (&matches.path, &matches.path_prefix, &matches.path_regex) {
        (Some(path), _, _) => (1, path::configured(path).into()),
        (_, Some(prefix), _) => (2, path::configured_prefix(prefix).into()),
        (_, _, Some(regex)) => (3, regex.regex().as_str().into()),
        _ => (0, "".into()),
    };
    let mut headers: Vec<_> = matches.headers.iter().map(|(k, v)| (k.to_ascii_lowercase(), v.as_str())).collect();
    headers.sort();
    let methods = matches.methods.iter().map(|m| m.as_http().as_str()).collect();
    Condition { host, path, methods, headers }
}

fn alike(check: &mut Check<'_>) {
    let routes: &[Route] = &check.document.routes;
    let mut seen: HashMap<Condition<'_>, usize> = HashMap::new();
    for (index, route) in routes.iter().enumerate() {
        let hosts = route.matches.hosts.iter().map(Some);
        let any = route.matches.hosts.is_empty().then_some(None);
        for host in hosts.chain(any) {
            match seen.get(&condition(&route.matches, host)) {
                Some(&first) if first != index => {
                    same(check, (first, &routes[first]), (index, route), host);
                    break;
                }
                Some(_) => {}
                None => drop(seen.insert(condition(&route.matches, host), index)),
            }
        }
    }
}

fn same(check: &mut Check<'_>, first: (usize, &Route), second: (usize, &Route), host: Option<&HostPattern>) {
    let at = |index: usize| Place::of("routes").index(index);
    let label =
        |check: &Check<'_>, (index, route): (usize, &Route)| check.quote(&at(index).key("name"), &route.label(index));
    let on_host = match second.1.matches.hosts.iter().position(|h| Some(h) == host) {
        Some(n) if second.1.matches.hosts.len() > 1 || first.1.matches.hosts.len() > 1 => {
            let here = at(second.0).key("match").key("hosts").index(n);
            format!(" on {}", check.quote(&here, &second.1.matches.hosts[n].to_string()))
        }
        _ => String::new(),
    };
    let (one, other) = (label(check, first), label(check, second));
    let hint =
        format!("Line {} comes first, so this one is never reached: change one of them", check.line(&at(first.0)));
    let here = if check.is_written(&at(second.0).key("match")) { at(second.0).key("match") } else { at(second.0) };
    check.say_given(&here, &[at(first.0).key("match")], format!("{other} matches what {one} matches{on_host}"), hint);
}
