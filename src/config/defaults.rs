//! `defaults`: each route without a key gets the whole value of that key from `defaults`.
//!
//! It works on the tree, before the document is made from it. So checks, comparison, compilation and the admin API see
//! only effective values, and a new key needs no code here. A problem of an inherited value is reported at `defaults`.

use super::deserialize;
use super::node::{Entry, Node, NodeKind};
use super::problem::Problems;

/// Keys that only apply to requests that are forwarded to a backend. Other routes do not inherit them.
pub(super) const PROXYING: [&str; 6] = ["rewrite", "host", "request_headers", "mirror", "timeouts", "retry"];
/// Actions that need no backend.
const OWN_ACTIONS: [&str; 2] = ["redirect", "respond"];

/// Copies the values into the routes. Invalid values are reported before, so that they are reported once.
pub(super) fn apply(tree: &mut Node, problems: &mut Problems) {
    if !matches!(tree.entry("defaults").map(|entry| &entry.value.kind), Some(NodeKind::Map(_))) {
        return;
    }
    deserialize::defaults(tree, problems);
    let Some(NodeKind::Map(defaults)) = tree.entry("defaults").map(|entry| entry.value.kind.clone()) else { return };
    let is_set = |entry: &Entry| !entry.value.is_pruned() && !matches!(entry.value.kind, NodeKind::Null);
    let defaults: Vec<Entry> = defaults.into_iter().filter(is_set).collect();
    for route in routes(tree) {
        inherit(route, &defaults);
    }
}

fn routes(tree: &mut Node) -> &mut [Node] {
    let NodeKind::Map(sections) = &mut tree.kind else { return &mut [] };
    match sections.iter_mut().find(|section| section.key == "routes").map(|section| &mut section.value) {
        Some(Node { kind: NodeKind::List(routes), .. }) => routes,
        // One value stands for a list of one.
        Some(route) => std::slice::from_mut(route),
        None => &mut [],
    }
}

fn inherit(route: &mut Node, defaults: &[Entry]) {
    let forwards = OWN_ACTIONS.iter().all(|action| route.entry(action).is_none());
    let missing: Vec<Entry> = defaults
        .iter()
        .filter(|default| route.entry(&default.key).is_none())
        .filter(|default| forwards || !PROXYING.contains(&default.key.as_str()))
        .map(|default| Entry { inherited: true, ..default.clone() })
        .collect();
    if let NodeKind::Map(entries) = &mut route.kind {
        entries.extend(missing);
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests {
    use std::path::Path;

    use super::super::tests::parsed;
    use super::super::{diff, masked, parse};

    const REST: &str =
        "listeners: [{ address: '127.0.0.1:0' }]\nupstreams: { u: { backends: [{ address: 'a:1' }] } }\n";

    fn problems(text: &str) -> Vec<String> {
        let parsed = parse(Path::new("w.yaml"), &format!("{text}\n{REST}"), &|_| None, &|_| Ok(Vec::new()));
        parsed.unwrap_err().iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_key_of_a_route_replaces_the_whole_default_key() {
        let document = parsed(&format!(
            "defaults:
  timeouts: {{ read: 5s, connect: 1s }}
  retry: {{ attempts: 5 }}
  response_headers: {{ set: {{ x-a: '1' }} }}
  limits: {{ body: 1KiB }}
routes:
  - {{ name: all, upstream: u }}
  - {{ name: own, upstream: u, match: {{ path: /own }}, timeouts: {{ read: 9s }}, retry: {{}} }}
  - {{ name: moved, match: {{ path: /moved }}, redirect: {{ to: / }} }}
{REST}"
        ));
        let json = masked(&document).unwrap();
        let route = |index: usize, key: &str| json["routes"][index][key].clone();
        assert_eq!((&route(0, "timeouts")["read"], &route(0, "timeouts")["connect"]), (&"5s".into(), &"1s".into()));
        assert_eq!((&route(1, "timeouts")["read"], &route(1, "timeouts")["connect"]), (&"9s".into(), &"3s".into()));
        assert_eq!(route(0, "timeouts")["first_byte"], "5s", "the effective value");
        assert_eq!((&route(0, "retry")["attempts"], &route(1, "retry")["attempts"]), (&5.into(), &3.into()));
        assert_eq!(route(2, "timeouts")["read"], "1m", "a redirect has no backend");
        for index in 0..3 {
            assert_eq!(route(index, "response_headers")["set"]["x-a"], "1");
            assert_eq!(route(index, "limits")["body"], "1KiB");
        }
    }

    #[test]
    fn a_problem_of_a_default_is_reported_once_at_the_default() {
        let routes = "routes: [{ upstream: u, match: { path: /a } }, { upstream: u }]";
        let of = |defaults: &str| problems(&format!("defaults: {defaults}\n{routes}"));
        let type_error = of("{ timeouts: { read: soon } }");
        assert_eq!(type_error.len(), 1, "{type_error:?}");
        assert!(type_error[0].starts_with("w.yaml:1:31: defaults.timeouts.read: "), "{type_error:?}");
        let invalid = of("{ retry: { attempts: 99 } }");
        assert_eq!(invalid.len(), 1, "{invalid:?}");
        assert!(invalid[0].starts_with("w.yaml:1:32: defaults.retry.attempts: "), "{invalid:?}");
        let unknown = of("{ upstream: u }");
        assert!(unknown.len() == 1 && unknown[0].contains("defaults.upstream"), "{unknown:?}");
        let missing = of("{ rate_limits: [nope] }");
        assert!(missing.len() == 1 && missing[0].contains(": defaults.rate_limits[0]: "), "{missing:?}");
    }

    #[test]
    fn a_changed_default_is_a_change_of_the_routes_that_inherit_it() {
        let of = |read: &str| {
            parsed(&format!(
                "defaults: {{ timeouts: {{ read: {read} }} }}
routes: [{{ name: a, upstream: u }}, {{ name: b, upstream: u, match: {{ path: / }}, timeouts: {{}} }}]
{REST}"
            ))
        };
        assert_eq!(diff(&of("5s"), &of("6s")).render(|_| None), ["route a: changed (timeouts.read 5s → 6s)"]);
    }
}
