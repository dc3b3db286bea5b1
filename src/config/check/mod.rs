//! Validation of the document as a whole, after its types are valid. One file per section.
//!
//! Each finding carries the path of its key. A finding that only follows from a value that was reported already is
//! suppressed. This module never reads a file.

mod acme;
mod auth;
mod balance;
mod compress;
mod cors;
mod credential_policies;
mod discover;
mod errors;
mod headers;
mod health;
mod jwt;
mod listeners;
mod maintenance;
mod mirror;
mod outlier;
mod policy_bypass;
mod rate_limits;
mod references;
mod route_match;
mod routes;
mod server;
mod split;
mod sticky;
mod templates;
mod text;
mod tls;
mod upstreams;
mod warnings;

pub use listeners::overlap;
pub use warnings::OWN_LISTENER;
pub(super) use warnings::warnings;

use super::node::{DocumentPath, Node, NodeKind, PathStep};
use super::problem::Problems;
use super::schema::{Document, UpstreamSettings};

/// Checks a document. `tree` is the file.
pub(super) fn run(document: &Document, tree: &Node, problems: &mut Problems) {
    let mut check = Check { document, tree, problems };
    server::check(&mut check);
    listeners::check(&mut check);
    acme::check(&mut check);
    routes::check(&mut check);
    route_match::check(&mut check);
    upstreams::check(&mut check);
    rate_limits::check(&mut check);
    auth::check(&mut check);
}

/// Checks a backend list file. `upstream` has the list as its backends, and `tree` is the list file.
pub(super) fn list(upstream: &UpstreamSettings, tree: &Node, problems: &mut Problems) {
    let document = Document::default();
    upstreams::list(&mut Check { document: &document, tree, problems }, upstream);
}

/// The document to check, its positions, and the findings.
pub(super) struct Check<'a> {
    document: &'a Document,
    tree: &'a Node,
    problems: &'a mut Problems,
}

impl Check<'_> {
    /// Reports a finding at a path.
    fn say(&mut self, at: &DocumentPath, what: impl Into<String>, hint: impl Into<String>) {
        self.say_given(at, &[], what, hint);
    }

    /// Reports a finding about a key, not about its value.
    fn say_of_key(&mut self, at: &DocumentPath, what: impl Into<String>, hint: impl Into<String>) {
        let found = self.tree.find(at);
        self.problems.add(found.key, found.place, what, hint);
    }

    /// Reports a finding that also depends on other paths. It is suppressed if one of them was rejected.
    fn say_given(
        &mut self,
        at: &DocumentPath,
        rests_on: &[DocumentPath],
        what: impl Into<String>,
        hint: impl Into<String>,
    ) {
        if self.problems.full() {
            return;
        }
        let found = self.tree.find(at);
        let whole = |place: &DocumentPath| self.tree.find(place).node.is_none_or(Node::is_whole);
        if found.node.is_none_or(Node::is_whole) && rests_on.iter().all(whole) {
            self.problems.add(found.mark, found.place, what, hint);
        }
    }

    /// Quotes a value in a message. A value from the environment is quoted as the text in the file.
    fn quote(&self, at: &DocumentPath, text: &str) -> String {
        let raw = self.tree.find(at).node.and_then(|node| node.raw.as_deref());
        format!("`{}`", raw.unwrap_or(text))
    }

    /// Quotes the name of a header field. Variables are expanded in the elements of a list, but never in a key.
    fn quote_key(&self, at: &DocumentPath, name: &str) -> String {
        match at.0.last() {
            Some(PathStep::Index(_)) => self.quote(at, name),
            _ => format!("`{name}`"),
        }
    }

    /// Whether an optional key is set, even if its value was rejected and the document lacks it.
    fn has(&self, at: &DocumentPath, in_document: bool) -> bool {
        in_document || (!self.tree.is_whole() && self.is_written(at))
    }

    /// Whether a key is set and is not null.
    fn is_written(&self, at: &DocumentPath) -> bool {
        self.tree.find(at).node.is_some_and(|node| match &node.kind {
            NodeKind::Null => false,
            NodeKind::Text(text) => !(text.trim().is_empty() && node.raw.is_some()),
            _ => true,
        })
    }

    /// The line of a path.
    fn line(&self, at: &DocumentPath) -> usize {
        self.tree.find(at).mark.line
    }

    /// The keys of a section, including those whose value was rejected.
    fn keys(&self, at: &DocumentPath) -> Vec<String> {
        match self.tree.find(at).node.map(|node| &node.kind) {
            Some(NodeKind::Map(entries)) => entries.iter().map(|entry| entry.key.clone()).collect(),
            _ => Vec::new(),
        }
    }

    /// Reports a number that is out of range.
    fn range(&mut self, at: &DocumentPath, number: u64, range: std::ops::RangeInclusive<u64>) {
        if !range.contains(&number) {
            let what = format!("{} is out of range", self.quote(at, &number.to_string()));
            self.say(at, what, format!("Write {} to {}", range.start(), range.end()));
        }
    }
}
