//! Converts the tree to the typed document, and collects all type errors, not only the first one of serde.
//!
//! Each value that serde rejects is reported and pruned, then serde runs again. Elements of the long sections are
//! converted one by one first. Otherwise each problem in a large file would cost a pass over the whole file.

use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::deserializer::{NodeSource, Rejected};
use super::hints;
use super::node::{DocumentPath, Node, NodeKind, PathStep, Position};
use super::problem::Problems;
use super::schema::{Document, ListenerConfig, RouteDefaults, RouteSettings, UpstreamSettings};
use super::value_hints;

/// The document without the rejected values. `None` if the root is not a section, or if there are too many problems.
pub(super) fn document(tree: &mut Node, problems: &mut Problems) -> Option<Document> {
    if matches!(tree.kind, NodeKind::Null) {
        tree.kind = NodeKind::Map(Vec::new());
    }
    if let Ok(document) = Document::deserialize(NodeSource(tree)) {
        return Some(document);
    }
    for place in elements(tree) {
        let top = place.0.first();
        let is = |key: &str| top == DocumentPath::of(key).0.first();
        let _settled = match () {
            () if is("listeners") => settle::<ListenerConfig>(tree, &place, problems).map(drop),
            () if is("routes") => settle::<RouteSettings>(tree, &place, problems).map(drop),
            () => settle::<UpstreamSettings>(tree, &place, problems).map(drop),
        };
        if problems.full() {
            return None;
        }
    }
    settle(tree, &DocumentPath::default(), problems)
}

/// Reports and prunes what is invalid in `defaults`.
pub(super) fn defaults(tree: &mut Node, problems: &mut Problems) {
    let _settled = settle::<RouteDefaults>(tree, &DocumentPath::of("defaults"), problems).map(drop);
}

/// A file that contains a single section instead of a document. `None` if there are too many problems.
pub(super) fn section<T: DeserializeOwned>(tree: &mut Node, problems: &mut Problems) -> Option<T> {
    settle(tree, &DocumentPath::default(), problems)
}

/// The paths of the elements of the long sections.
fn elements(tree: &Node) -> Vec<DocumentPath> {
    let mut places = Vec::new();
    for key in ["listeners", "routes", "upstreams"] {
        let place = DocumentPath::of(key);
        match tree.entry(key).map(|entry| &entry.value.kind) {
            Some(NodeKind::List(items)) if key != "upstreams" => {
                places.extend((0..items.len()).map(|i| place.index(i)))
            }
            Some(NodeKind::Map(entries)) if key == "upstreams" => {
                places.extend(entries.iter().map(|e| place.key(&e.key)))
            }
            _ => {}
        }
    }
    places
}

/// Converts the value at a path to `T`. Reports and prunes rejected values until it succeeds.
fn settle<T: DeserializeOwned>(tree: &mut Node, base: &DocumentPath, problems: &mut Problems) -> Option<T> {
    while !problems.full() {
        let node = tree.at(base)?;
        if node.is_pruned() {
            return None;
        }
        match T::deserialize(NodeSource(node)) {
            Ok(value) => return Some(value),
            Err(refusal) => {
                let inner = refusal.steps.iter().rev().cloned();
                let place = DocumentPath(base.0.iter().cloned().chain(inner).collect());
                let refusal = unsubstituted::<T>(tree, base, &place, refusal);
                report(tree, &place, refusal, problems);
                tree.prune(&place);
            }
        }
    }
    None
}

/// Replaces the message if the value came from the environment. The message must not contain the value, so it quotes
/// the text in the file. The hint comes from a second attempt with the text `${…}` itself.
fn unsubstituted<T: DeserializeOwned>(
    tree: &mut Node,
    base: &DocumentPath,
    place: &DocumentPath,
    refusal: Rejected,
) -> Rejected {
    let Some(node) = tree.at(place).filter(|_| !refusal.on_key) else { return refusal };
    let Some(raw) = node.raw.take() else { return refusal };
    node.kind = NodeKind::Text(raw.clone());
    let again = tree.at(base).and_then(|node| T::deserialize(NodeSource(node)).err());
    let hint = again.filter(|again| again.steps == refusal.steps).map(|again| again.hint).unwrap_or_default();
    let what = format!("what `{raw}` stands for does not fit here");
    Rejected { what, hint, ..refusal }
}

fn report(tree: &mut Node, place: &DocumentPath, refusal: Rejected, problems: &mut Problems) {
    if refusal.missing.is_some_and(|key| follows(tree, place, key, problems)) {
        return;
    }
    let mark = mark(tree, place, refusal.on_key);
    let text = match tree.at(place).map(|node| &node.kind) {
        Some(NodeKind::Text(text)) => Some(text.clone()),
        _ => None,
    };
    match text {
        // The message of the standard library does not contain the invalid address.
        Some(text) if refusal.what == "invalid socket address syntax" => {
            let what = format!("`{text}` is not an address to listen on");
            let usual = || "Write `IP:PORT`, as in `0.0.0.0:8080` or `[::]:8080`".to_owned();
            let hint = hints::better(place, false, tree.at(place).map(|node| &*node), &what).unwrap_or_else(usual);
            problems.add(mark, place, what, hint);
        }
        _ => {
            let hint = hint(tree, place, &refusal).unwrap_or(refusal.hint);
            problems.add(mark, place, refusal.what, hint);
        }
    }
}

/// A better hint than that of the refusal. A key that is nearly right was meant, unless a section beside it has exactly this key.
fn hint(tree: &mut Node, place: &DocumentPath, refusal: &Rejected) -> Option<String> {
    if refusal.hint.starts_with("Did you mean") {
        let key = place.0.last().filter(|_| refusal.on_key);
        if matches!(key, Some(PathStep::Key(key)) if key.contains(':')) {
            return value_hints::of_key(place);
        }
        return hints::in_a_section_beside(place, refusal.on_key, Some(&refusal.hint));
    }
    hints::better(place, refusal.on_key, tree.at(place).map(|node| &*node), &refusal.what)
}

/// Whether a key is missing only because its value, or a misspelling of the key, was rejected before.
fn follows(tree: &mut Node, section: &DocumentPath, key: &str, problems: &Problems) -> bool {
    let Some(node) = tree.at(section) else { return false };
    if node.entry(key).is_some_and(|entry| entry.value.is_pruned()) {
        return true;
    }
    let NodeKind::Map(entries) = &node.kind else { return false };
    // A hint that names the missing key says enough.
    let names = [format!("`{key}`"), format!(".{key}`"), format!("`{key}:`")];
    let meant = |hint: &str| names.iter().any(|name| hint.contains(name));
    let mut refused = entries.iter().filter(|e| e.value.is_pruned()).map(|e| section.key(&e.key).to_string());
    refused.any(|path| problems.iter().any(|problem| problem.path == path && meant(&problem.hint)))
}

fn mark(tree: &mut Node, place: &DocumentPath, on_key: bool) -> Position {
    let start = tree.mark;
    let Some(PathStep::Key(key)) = place.0.last() else {
        return tree.at(place).map_or(start, |node| node.mark);
    };
    let entry = tree.at(&place.parent()).and_then(|section| section.entry(key));
    entry.map_or(start, |entry| if on_key { entry.mark } else { entry.points_at() })
}
