//! Computes the changes between two documents, for the operator and for the reload.
//!
//! Values of header fields, bodies and redirect targets are never shown, only the fact that they changed. This module
//! never uses live state.

use std::collections::{BTreeMap, HashMap};

use serde::Serialize;
use serde_json::Value;

use super::change::{Change, Diff, Subject};
use super::schema::{BackendSettings, Document, ListenerConfig, RouteSettings, UpstreamSettings};
use super::shares;
use super::values::{BackendAddress, Name};

/// Compares two documents.
pub fn diff(old: &Document, new: &Document) -> Diff {
    let mut diff = Diff::default();
    sections(old, new, &mut diff);
    named(listeners(old), listeners(new), Subject::Listener, &mut diff.changes);
    named(routes(old), routes(new), Subject::Route, &mut diff.changes);
    order(old, new, &mut diff.changes);
    upstreams(old, new, &mut diff.changes);
    named(by_name(&old.rate_limits), by_name(&new.rate_limits), Subject::RateLimit, &mut diff.changes);
    named(by_name(&old.auth), by_name(&new.auth), Subject::AccessPolicy, &mut diff.changes);
    named(by_name(&old.stores), by_name(&new.stores), Subject::Store, &mut diff.changes);
    diff
}

/// The changes between two backend lists of an upstream.
pub fn diff_of_backends(upstream: &str, old: &[BackendSettings], new: &[BackendSettings]) -> Diff {
    let of =
        |backends: &[BackendSettings]| UpstreamSettings { backends: backends.to_vec(), ..UpstreamSettings::default() };
    let mut diff = Diff::default();
    members(upstream, &of(old), &of(new), &mut diff.changes);
    diff
}

/// The changed keys that are fixed until a restart.
pub fn fixed(old: &Document, new: &Document) -> Vec<String> {
    let mut diff = Diff::default();
    sections(old, new, &mut diff);
    diff.fixed
}

fn listeners(document: &Document) -> BTreeMap<String, &ListenerConfig> {
    document.listeners.iter().map(|listener| (listener.label(), listener)).collect()
}

fn routes(document: &Document) -> BTreeMap<String, &RouteSettings> {
    document.routes.iter().enumerate().map(|(index, route)| (route.label(index), route)).collect()
}

fn by_name<T>(section: &BTreeMap<Name, T>) -> BTreeMap<String, &T> {
    section.iter().map(|(name, settings)| (name.to_string(), settings)).collect()
}

/// Keys that are fixed until a restart.
const FIXED: [&str; 6] =
    ["server.threads", "server.user", "server.pid_file", "server.upstream_idle_connections", "admin.address", ADMIN];

/// The whole section; it is reported as a whole if the value is `off` before or after.
const ADMIN: &str = "admin";

fn sections(old: &Document, new: &Document, diff: &mut Diff) {
    let pairs = [
        ("server", json(&old.server), json(&new.server)),
        ("log", json(&old.log), json(&new.log)),
        ("admin", json(&old.admin), json(&new.admin)),
        ("access_log", json(&old.access_log), json(&new.access_log)),
        ("trusted_proxies", json(&old.trusted_proxies), json(&new.trusted_proxies)),
        ("forwarded", json(&old.forwarded), json(&new.forwarded)),
    ];
    for (section, old, new) in pairs {
        let mut keys = Vec::new();
        compare("", &old, &new, &mut |key, words| {
            let path = if key.is_empty() { section.to_owned() } else { format!("{section}.{key}") };
            let fixed = FIXED.iter().find(|fixed| **fixed == path);
            match fixed {
                Some(fixed) => diff.fixed.push((*fixed).to_owned()),
                None => keys.push(words),
            }
        });
        if !keys.is_empty() {
            diff.changes.push(Change::Changed { subject: Subject::Section(section), keys });
        }
    }
}

/// Equal values are detected by `==` first. In a large document almost all are equal, and converting them to JSON would
/// take most of a reload.
fn named<T: Serialize + PartialEq>(
    old: BTreeMap<String, &T>,
    new: BTreeMap<String, &T>,
    subject: fn(String) -> Subject,
    changes: &mut Vec<Change>,
) {
    for (name, after) in &new {
        match old.get(name) {
            Some(before) if before == after => {}
            Some(before) => changed(subject(name.clone()), &json(before), &json(after), changes),
            None => {
                let after = json(after);
                let address = after.get("address").and_then(Value::as_str).map(str::to_owned);
                let split = || after.get("split").and_then(shares::of).map(|split| format!("split {split}"));
                let detail = address.or_else(split).unwrap_or_default();
                changes.push(Change::Added { subject: subject(name.clone()), detail });
            }
        }
    }
    let gone = old.into_keys().filter(|name| !new.contains_key(name));
    changes.extend(gone.map(|name| Change::Removed { subject: subject(name) }));
}

/// The order of routes matters for routes of equal specificity.
fn order(old: &Document, new: &Document, changes: &mut Vec<Change>) {
    let labels = |d: &Document| -> Vec<String> { d.routes.iter().enumerate().map(|(i, r)| r.label(i)).collect() };
    let (old, new) = (labels(old), labels(new));
    let sorted = |labels: &[String]| {
        let mut labels = labels.to_vec();
        labels.sort();
        labels
    };
    if old != new && sorted(&old) == sorted(&new) {
        changes.push(Change::Changed { subject: Subject::Section("routes"), keys: vec!["order".into()] });
    }
}

fn changed(subject: Subject, before: &Value, after: &Value, changes: &mut Vec<Change>) {
    let mut keys = Vec::new();
    compare("", before, after, &mut |_, words| keys.push(words));
    if !keys.is_empty() {
        changes.push(Change::Changed { subject, keys });
    }
}

fn upstreams(old: &Document, new: &Document, changes: &mut Vec<Change>) {
    let none = UpstreamSettings::default();
    for (name, after) in &new.upstreams {
        let before = old.upstreams.get(name);
        let name = name.to_string();
        match before {
            Some(before) if before == after => continue,
            Some(before) => changed(Subject::Upstream(name.clone()), &settings(before), &settings(after), changes),
            None => changes.push(Change::Added { subject: Subject::Upstream(name.clone()), detail: String::new() }),
        }
        members(&name, before.unwrap_or(&none), after, changes);
    }
    for (name, before) in old.upstreams.iter().filter(|(name, _)| !new.upstreams.contains_key(name)) {
        changes.push(Change::Removed { subject: Subject::Upstream(name.to_string()) });
        members(name.as_str(), before, &none, changes);
    }
}

/// An upstream without its backends.
fn settings(upstream: &UpstreamSettings) -> Value {
    json(&UpstreamSettings { backends: Vec::new(), ..upstream.clone() })
}

/// Backends are identified by address, the key of their live state.
fn members(upstream: &str, old: &UpstreamSettings, new: &UpstreamSettings, changes: &mut Vec<Change>) {
    let upstream = || upstream.to_owned();
    // If an address occurs twice, the first entry counts.
    let (in_old, in_new) = (by_address(old), by_address(new));
    for backend in &new.backends {
        let label = backend.label();
        match in_old.get(&backend.address) {
            None => changes.push(Change::BackendAdded { upstream: upstream(), backend: label, weight: backend.weight }),
            Some(was) => {
                let mut keys = Vec::new();
                if was.label() != label {
                    keys.push(format!("backend {} → {label}", was.label()));
                }
                if was.tier != backend.tier {
                    keys.push(format!("{label} tier {} → {}", was.tier, backend.tier));
                }
                if !keys.is_empty() {
                    changes.push(Change::Changed { subject: Subject::Upstream(upstream()), keys });
                }
                if was.weight != backend.weight {
                    let (from, to) = (was.weight, backend.weight);
                    changes.push(Change::BackendReweighted { upstream: upstream(), backend: label, from, to });
                }
            }
        }
    }
    for backend in old.backends.iter().filter(|gone| !in_new.contains_key(&gone.address)) {
        let (backend, address) = (backend.label(), backend.address.to_string());
        changes.push(Change::BackendRemoved { upstream: upstream(), backend, address });
    }
}

fn by_address(upstream: &UpstreamSettings) -> HashMap<&BackendAddress, &BackendSettings> {
    upstream.backends.iter().rev().map(|backend| (&backend.address, backend)).collect()
}

/// Calls `found` with each changed key, and with the text to report.
fn compare(key: &str, old: &Value, new: &Value, found: &mut dyn FnMut(&str, String)) {
    if old == new {
        return;
    }
    let secret = ["headers", "request_headers", "response_headers", "redirect", "respond", "body", "host"];
    let last = key.rsplit('.').next().unwrap_or_default();
    match (old, new) {
        (Value::Object(a), Value::Object(b)) if !secret.contains(&last) => {
            for (name, before) in a {
                let inner = if key.is_empty() { name.clone() } else { format!("{key}.{name}") };
                compare(&inner, before, b.get(name).unwrap_or(&Value::Null), found);
            }
        }
        _ if last == "split" => found(key, format!("{key} {}", shares::compared(old, new))),
        _ => match (word(old), word(new)) {
            (Some(a), Some(b)) if key.is_empty() => found(key, format!("{a} → {b}")),
            (Some(a), Some(b)) if !secret.contains(&last) => found(key, format!("{key} {a} → {b}")),
            // A section that can be replaced by the word `off`.
            (None, Some(b)) if old.is_object() && b == "off" => found(key, format!("{key} on → off")),
            (Some(a), None) if new.is_object() && a == "off" => found(key, format!("{key} off → on")),
            _ => found(key, if key.is_empty() { "entries".into() } else { key.to_owned() }),
        },
    }
}

/// The text of a short scalar.
fn word(value: &Value) -> Option<String> {
    match value {
        Value::Bool(value) => Some(value.to_string()),
        Value::Number(number) => Some(number.to_string()),
        Value::String(text) if text.len() <= 64 && !text.contains(char::is_whitespace) => Some(text.clone()),
        Value::Null => Some("none".into()),
        _ => None,
    }
}

fn json<T: Serialize>(value: &T) -> Value {
    serde_json::to_value(value).unwrap_or_default()
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests {
    use super::super::tests::parsed;
    use super::*;

    const OLD: &str = "server: { threads: 2, lame_duck: 1s }
listeners: [{ name: web, address: '127.0.0.1:8080' }, { name: old, address: '127.0.0.1:8082' }]
routes:
  - { name: x, match: { path: /x }, upstream: api, timeouts: { read: 60s } }
  - { name: y, match: { path: /y }, upstream: api, request_headers: { set: { authorization: hunter1 } } }
upstreams:
  api:
    balance: weighted_round_robin
    backends: [{ name: a, address: 'a:1' }, { name: b, address: 'b:1' }]
";

    fn between(new: &str) -> Diff {
        diff_of(OLD, new)
    }

    fn diff_of(old: &str, new: &str) -> Diff {
        diff(&parsed(old), &parsed(new))
    }

    #[test]
    fn switching_outlier_detection_is_shown_as_on_and_off() {
        let off = OLD.replace("  api:\n", "  api:\n    outlier: off\n");
        let rendered = |diff: Diff| diff.render(|_| None);
        assert_eq!(rendered(between(&off)), ["upstream api: changed (outlier on → off)"]);
        assert_eq!(rendered(diff(&parsed(&off), &parsed(OLD))), ["upstream api: changed (outlier off → on)"]);
        let other = OLD.replace("  api:\n", "  api:\n    outlier: { eject: 30s }\n");
        assert_eq!(rendered(between(&other)), ["upstream api: changed (outlier.eject 10s → 30s)"]);
        let written = OLD.replace("  api:\n", "  api:\n    outlier: {}\n");
        assert!(rendered(between(&written)).is_empty(), "the same defaults, written or not");
    }

    #[test]
    fn reads_like_a_log_line() {
        let new = OLD
            .replace("{ name: a, address: 'a:1' }, ", "")
            .replace("'b:1' }", "'b:1', weight: 3 }, { name: c, address: 'c:1', weight: 2 }")
            .replace("read: 60s", "read: 10s")
            .replace("hunter1", "hunter2")
            .replace("name: old, address: '127.0.0.1:8082'", "name: new, address: '127.0.0.1:8081'");
        let note = |change: &Change| {
            matches!(change, Change::BackendRemoved { .. }).then(|| "draining, 3 in flight".to_owned())
        };
        assert_eq!(
            between(&new).render(note),
            [
                "listener new: + 127.0.0.1:8081",
                "listener old: removed",
                "route x: changed (timeouts.read 1m → 10s)",
                "route y: changed (request_headers)",
                "upstream api: b weight 1 → 3, + c (weight 2), - a (draining, 3 in flight)",
            ]
        );
    }

    #[test]
    fn a_split_is_shown_as_shares() {
        let with = |action: &str| {
            let route = format!("  - {{ name: c, match: {{ path: /c }}, {action} }}\n");
            OLD.replace("upstreams:\n", &format!("{route}upstreams:\n  v1: {{ backends: [{{ address: 'c:1' }}] }}\n"))
        };
        let split = |parts: &str| with(&format!("split: [{parts}]"));
        let rendered = |old: &str, new: &str| diff_of(old, new).render(|_| None);
        let few = split("{ upstream: api, weight: 95 }, { upstream: v1, weight: 5 }");
        let half = split("{ upstream: api, weight: 2 }, { upstream: v1, weight: 2 }");
        let all = with("upstream: v1");
        assert_eq!(rendered(&few, &half), ["route c: changed (split api 95% → 50%, v1 5% → 50%)"]);
        assert_eq!(
            rendered(&half, &all),
            ["route c: changed (split api 50% → none, v1 50% → none, upstream none → v1)"]
        );
        assert_eq!(rendered(&all, &few), ["route c: changed (split api none → 95%, v1 none → 5%, upstream v1 → none)"]);
        let same = split("{ upstream: api, weight: 19 }, { upstream: v1, weight: 1 }");
        assert_eq!(rendered(&few, &same), ["route c: changed (split api 95%, v1 5%, other weights)"]);
        assert!(rendered(OLD, &few).contains(&"route c: + split api 95%, v1 5%".to_owned()));
    }

    #[test]
    fn fixed_keys_are_listed_separately() {
        let diff = between(&OLD.replace("threads: 2, lame_duck: 1s", "threads: 3, lame_duck: 2s"));
        assert_eq!(diff.fixed, ["server.threads"]);
        assert_eq!(diff.render(|_| None), ["server: changed (lame_duck 1s → 2s)"]);
        let diff = between(&format!("{OLD}admin:\n  address: '127.0.0.1:9181'\n"));
        assert_eq!((diff.fixed.as_slice(), diff.is_empty()), (["admin.address".to_owned()].as_slice(), true));
        for (old, new) in [("admin: off", ""), ("", "admin: off"), ("admin: off", "admin: { token_file: some.token }")]
        {
            let diff = diff_of(&format!("{OLD}{old}"), &format!("{OLD}{new}"));
            assert_eq!(
                (diff.fixed.as_slice(), diff.is_empty()),
                (["admin".to_owned()].as_slice(), true),
                "{old} {new}"
            );
        }
    }

    #[test]
    fn added_and_removed_upstreams_and_the_order_of_routes_are_changes() {
        let lines =
            between(&OLD.replace("  api:", "  web:").replace("upstream: api", "upstream: web")).render(|_| None);
        assert!(lines.contains(&"upstream web: added, + a (weight 1), + b (weight 1)".to_owned()), "{lines:?}");
        assert!(lines.contains(&"upstream api: removed, - a, - b".to_owned()), "{lines:?}");
        let mut turned = parsed(OLD);
        turned.routes.reverse();
        assert_eq!(diff(&parsed(OLD), &turned).render(|_| None), ["routes: changed (order)"]);
    }
}
