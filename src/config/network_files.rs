//! The files that `allow` and `deny` name: their paths and their check.

use std::path::Path;

use super::client_filter::networks_in;
use super::node::DocumentPath;
use super::schema::{Document, Networks};

/// A file that a key names.
pub(super) struct NetworkFile<'a> {
    /// The path of the key in the document.
    pub(super) place: DocumentPath,
    pub(super) path: &'a Path,
    /// The key is `allow`. Then the file must not be empty, because an empty `allow` lets every client pass.
    pub(super) is_allow: bool,
}

/// All files of `allow` and `deny`.
pub(super) fn network_files(document: &Document) -> Vec<NetworkFile<'_>> {
    let mut files = Vec::new();
    let mut add = |at: &DocumentPath, key: &str, networks| {
        let file = Networks::file(networks);
        let place = at.key(key).key("file");
        files.extend(file.map(|path| NetworkFile { place, path, is_allow: key == "allow" }));
    };
    for (index, listener) in document.listeners.iter().enumerate() {
        let at = DocumentPath::of("listeners").index(index);
        add(&at, "allow", &listener.allow);
        add(&at, "deny", &listener.deny);
    }
    for (index, route) in document.routes.iter().enumerate() {
        let at = DocumentPath::of("routes").index(index);
        add(&at, "allow", &route.allow);
        add(&at, "deny", &route.deny);
        add(&at.key("maintenance"), "allow", &route.maintenance.allow);
    }
    files
}

/// The problems of a file of networks, each with its line.
pub(super) fn bad_lines(bytes: &[u8], is_allow: bool) -> Vec<(usize, String)> {
    match networks_in(bytes) {
        Err(bad) => bad.into_iter().map(|bad| (bad.line, bad.what)).collect(),
        Ok(networks) if networks.is_empty() && is_allow => {
            vec![(1, "no network in this file, so `allow` would refuse every client".to_owned())]
        }
        Ok(_) => Vec::new(),
    }
}
