//! The words for what differs between two documents. What differs is found by `diff`.
//!
//! A change says what is in the configuration only: whoever knows live state adds to a line through `Diff::lines`.

use std::fmt;

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
