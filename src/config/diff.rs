//! What differs between two documents, for people and for the reload.
//!
//! It says what is in the configuration only: whoever knows live state adds to a line through `Diff::lines`. Values
//! of header fields, bodies and targets are never shown, only that they changed.

use std::collections::BTreeMap;
use std::fmt;

use serde::Serialize;
use serde_json::Value;

use super::schema::{Backend, Document, Upstream};

/// All that differs between two documents.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Diff {
    /// What a reload applies, section by section.
    pub changes: Vec<Change>,
    /// Keys that differ and are fixed for a process's life.
    pub fixed: Vec<String>,
}

/// One difference. `Display` is the part of the line after the subject.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// A listener, route or upstream is new.
    Added {
        /// Which.
        subject: Subject,
        /// A listener's address.
        detail: String,
    },
    /// A listener, route or upstream is gone.
    Removed {
        /// Which.
        subject: Subject,
    },
    /// Keys of a section differ.
    Changed {
        /// Which section.
        subject: Subject,
        /// `key`, or `key old → new`.
        keys: Vec<String>,
    },
    /// An upstream has one backend more.
    BackendAdded {
        /// The upstream's name.
        upstream: String,
        /// The backend's label.
        backend: String,
        /// Its weight.
        weight: u16,
    },
    /// An upstream has one backend less.
    BackendRemoved {
        /// The upstream's name.
        upstream: String,
        /// The backend's label.
        backend: String,
        /// Its address, which its live state is keyed by.
        address: String,
    },
    /// A backend's weight differs.
    BackendReweighted {
        /// The upstream's name.
        upstream: String,
        /// The backend's label.
        backend: String,
        /// The weight before.
        from: u16,
        /// The weight after.
        to: u16,
    },
}

/// What a change is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Subject {
    /// A listener, by its label.
    Listener(String),
    /// A route, by its label.
    Route(String),
    /// An upstream, by its name.
    Upstream(String),
    /// Another key of the top.
    Section(&'static str),
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Listener(name) => write!(f, "listener {name}"),
            Self::Route(name) => write!(f, "route {name}"),
            Self::Upstream(name) => write!(f, "upstream {name}"),
            Self::Section(name) => f.write_str(name),
        }
    }
}

impl Change {
    /// What it is about.
    pub fn subject(&self) -> Subject {
        match self {
            Self::Added { subject, .. } | Self::Removed { subject } | Self::Changed { subject, .. } => subject.clone(),
            Self::BackendAdded { upstream, .. }
            | Self::BackendRemoved { upstream, .. }
            | Self::BackendReweighted { upstream, .. } => Subject::Upstream(upstream.clone()),
        }
    }
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Added { detail, .. } if detail.is_empty() => f.write_str("added"),
            Self::Added { detail, .. } => write!(f, "+ {detail}"),
            Self::Removed { .. } => f.write_str("removed"),
            Self::Changed { keys, .. } => write!(f, "changed ({})", keys.join(", ")),
            Self::BackendAdded { backend, weight, .. } => write!(f, "+ {backend} (weight {weight})"),
            Self::BackendRemoved { backend, .. } => write!(f, "- {backend}"),
            Self::BackendReweighted { backend, from, to, .. } => write!(f, "{backend} weight {from} → {to}"),
        }
    }
}

impl Diff {
    /// Whether a reload would change nothing.
    pub fn is_empty(&self) -> bool {
        self.changes.is_empty()
    }

    /// One line a subject; `note` may add to a change, as `(draining, 3 in flight)` to a removed backend.
    pub fn lines(&self, note: impl Fn(&Change) -> Option<String>) -> Vec<String> {
        let mut lines: Vec<(Subject, String)> = Vec::new();
        for change in &self.changes {
            let text = match note(change) {
                Some(note) => format!("{change} ({note})"),
                None => change.to_string(),
            };
            match lines.last_mut() {
                Some((subject, line)) if *subject == change.subject() => *line = format!("{line}, {text}"),
                _ => lines.push((change.subject(), text)),
            }
        }
        lines.into_iter().map(|(subject, text)| format!("{subject}: {text}")).collect()
    }
}

/// Compares two documents.
pub fn diff(old: &Document, new: &Document) -> Diff {
    let mut diff = Diff::default();
    sections(old, new, &mut diff);
    let listeners = |d: &Document| d.listeners.iter().map(|l| (l.label(), json(l))).collect();
    named(listeners(old), listeners(new), Subject::Listener, &mut diff.changes);
    let routes = |d: &Document| d.routes.iter().enumerate().map(|(i, r)| (r.label(i), json(r))).collect();
    named(routes(old), routes(new), Subject::Route, &mut diff.changes);
    order(old, new, &mut diff.changes);
    upstreams(old, new, &mut diff.changes);
    diff
}

/// Keys that a process keeps from its start to its end.
const FIXED: [&str; 5] =
    ["server.threads", "server.user", "server.pid_file", "server.upstream_idle_connections", "admin.address"];

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
            let fixed = FIXED.iter().find(|fixed| **fixed == format!("{section}.{key}"));
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

fn named(
    old: BTreeMap<String, Value>,
    new: BTreeMap<String, Value>,
    subject: fn(String) -> Subject,
    changes: &mut Vec<Change>,
) {
    for (name, after) in &new {
        let subject = subject(name.clone());
        match old.get(name) {
            None => {
                let address = after.get("address").and_then(Value::as_str).unwrap_or_default();
                changes.push(Change::Added { subject, detail: address.to_owned() });
            }
            Some(before) => changed(subject, before, after, changes),
        }
    }
    let gone = old.into_keys().filter(|name| !new.contains_key(name));
    changes.extend(gone.map(|name| Change::Removed { subject: subject(name) }));
}

/// The order of routes decides where all else is equal.
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
    let none = Upstream::default();
    for (name, after) in &new.upstreams {
        let name = name.to_string();
        let before = old.upstreams.iter().find(|(other, _)| other.as_str() == name).map(|(_, upstream)| upstream);
        match before {
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
fn settings(upstream: &Upstream) -> Value {
    json(&Upstream { backends: Vec::new(), ..upstream.clone() })
}

/// Backends are told apart by address: that is what their live state is keyed by.
fn members(upstream: &str, old: &Upstream, new: &Upstream, changes: &mut Vec<Change>) {
    let upstream = || upstream.to_owned();
    let in_old = |b: &Backend| old.backends.iter().find(|o| o.address == b.address).cloned();
    for backend in &new.backends {
        let label = backend.label();
        match in_old(backend) {
            None => changes.push(Change::BackendAdded { upstream: upstream(), backend: label, weight: backend.weight }),
            Some(was) => {
                if was.label() != label {
                    let keys = vec![format!("backend {} → {label}", was.label())];
                    changes.push(Change::Changed { subject: Subject::Upstream(upstream()), keys });
                }
                if was.weight != backend.weight {
                    let (from, to) = (was.weight, backend.weight);
                    changes.push(Change::BackendReweighted { upstream: upstream(), backend: label, from, to });
                }
            }
        }
    }
    for backend in old.backends.iter().filter(|o| new.backends.iter().all(|n| n.address != o.address)) {
        let (backend, address) = (backend.label(), backend.address.to_string());
        changes.push(Change::BackendRemoved { upstream: upstream(), backend, address });
    }
}

/// Calls `found` with each key that differs, and with what to say of it.
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
        _ => match (word(old), word(new)) {
            (Some(a), Some(b)) if !key.is_empty() && !secret.contains(&last) => found(key, format!("{key} {a} → {b}")),
            _ => found(key, if key.is_empty() { "value".into() } else { key.to_owned() }),
        },
    }
}

/// A short scalar as a word.
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
