//! The positions of keys that can have problems after the file was parsed: when the configuration is applied, or when
//! it is compared with this host.

use std::collections::BTreeMap;

use super::node::{DocumentPath, Node, Position};
use super::schema::Document;

/// Positions by the path of the key.
#[derive(Debug, Clone, Default)]
pub(super) struct Positions(BTreeMap<String, Position>);

impl Positions {
    /// The positions in a document. `tree` is its file.
    pub(super) fn of_document(document: &Document, tree: &Node) -> Self {
        let listeners = DocumentPath::of("listeners");
        let mut paths: Vec<DocumentPath> =
            (0..document.listeners.len()).map(|index| listeners.index(index).key("address")).collect();
        let server = DocumentPath::of("server");
        paths.extend(["user", "pid_file", "state_dir", "threads"].map(|key| server.key(key)));
        paths.extend([DocumentPath::of("access_log").key("path"), DocumentPath::of("admin").key("address")]);
        for (name, upstream) in &document.upstreams {
            let at = DocumentPath::of("upstreams").key(name.as_str());
            paths.extend(upstream.sticky.iter().map(|_| at.key("sticky").key("key_file")));
            paths.extend((0..upstream.backends.len()).map(|index| at.key("backends").index(index).key("address")));
        }
        Self(paths.iter().map(|path| (path.to_string(), tree.find(path).mark)).collect())
    }

    /// The position of a key; the start of the file if it is not known.
    pub(super) fn of(&self, path: &str) -> Position {
        self.0.get(path).copied().unwrap_or(Position::START)
    }
}
