//! Types and texts of the changes between two documents. `diff` computes the changes.
//!
//! A change describes the configuration only. A caller that knows live state can add it to a line through
//! `Diff::render`.

use std::fmt;

/// All changes between two documents.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Diff {
    /// Changes that a reload applies, by section.
    pub changes: Vec<Change>,
    /// Changed keys that are fixed until a restart.
    pub fixed: Vec<String>,
}

/// One change. `Display` is the part of the line after the subject.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// A listener, route, upstream, rate limit or store was added.
    Added {
        /// The added item.
        subject: Subject,
        /// The address of a listener; empty for others.
        detail: String,
    },
    /// A listener, route, upstream, rate limit or store was removed.
    Removed {
        /// The removed item.
        subject: Subject,
    },
    /// Keys of a section changed.
    Changed {
        /// The section.
        subject: Subject,
        /// `key`, or `key old → new`.
        keys: Vec<String>,
    },
    /// A backend was added to an upstream.
    BackendAdded {
        /// The upstream's name.
        upstream: String,
        /// The backend's label.
        backend: String,
        /// Its weight.
        weight: u16,
    },
    /// A backend was removed from an upstream.
    BackendRemoved {
        /// The upstream's name.
        upstream: String,
        /// The backend's label.
        backend: String,
        /// Its address, the key of its live state.
        address: String,
    },
    /// The weight of a backend changed.
    BackendReweighted {
        /// The upstream's name.
        upstream: String,
        /// The backend's label.
        backend: String,
        /// The old weight.
        from: u16,
        /// The new weight.
        to: u16,
    },
}

/// The subject of a change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Subject {
    /// A listener, by its label.
    Listener(String),
    /// A route, by its label.
    Route(String),
    /// An upstream, by its name.
    Upstream(String),
    /// A rate limit, by its name.
    RateLimit(String),
    /// An access policy, by its name.
    AccessPolicy(String),
    /// A store, by its name.
    Store(String),
    /// Another top-level key.
    Section(&'static str),
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Listener(name) => write!(f, "listener {name}"),
            Self::Route(name) => write!(f, "route {name}"),
            Self::Upstream(name) => write!(f, "upstream {name}"),
            Self::RateLimit(name) => write!(f, "rate limit {name}"),
            Self::AccessPolicy(name) => write!(f, "access policy {name}"),
            Self::Store(name) => write!(f, "store {name}"),
            Self::Section(name) => f.write_str(name),
        }
    }
}

impl Change {
    /// The subject of the change.
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

    /// One line per subject. `note` may add a text to a change, such as `(draining, 3 in flight)` to a removed backend.
    pub fn render(&self, note: impl Fn(&Change) -> Option<String>) -> Vec<String> {
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
