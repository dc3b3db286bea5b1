//! The files of `redirects` and of conditions `{ file: … }`: their paths and their check.

use std::collections::HashSet;
use std::path::Path;

use super::node::{DocumentPath, Position};
use super::problem::Problems;
use super::redirect_file::RedirectTable;
use super::schema::{Document, ValueMatch, texts_in};

/// The kind of a list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum ListKind {
    /// Redirects of `routes[].redirects`.
    Redirects,
    /// Texts of a condition in `routes[].match`.
    Texts,
}

/// A file that a key names.
pub(super) struct ListFile<'a> {
    /// The path of the key in the document.
    pub(super) place: DocumentPath,
    pub(super) path: &'a Path,
    pub(super) kind: ListKind,
}

/// All files of lists, each once for its kind: a list of `defaults` may be that of thousands of routes.
pub(super) fn list_files(document: &Document) -> Vec<ListFile<'_>> {
    let mut files = Vec::new();
    let mut seen = HashSet::new();
    for (index, route) in document.routes.iter().enumerate() {
        let at = DocumentPath::of("routes").index(index);
        if let Some(list) = &route.redirects {
            let place = at.key("redirects").key("file");
            files.push(ListFile { place, path: &list.file, kind: ListKind::Redirects });
        }
        let matches = &route.matches;
        for (key, conditions) in
            [("headers", &matches.headers), ("query", &matches.query), ("cookies", &matches.cookies)]
        {
            for (name, condition) in conditions {
                let place = at.key("match").key(key).key(name);
                files.extend(of_condition(place, condition));
            }
        }
    }
    files.retain(|file| seen.insert((file.path, file.kind)));
    files
}

fn of_condition(mut place: DocumentPath, mut condition: &ValueMatch) -> Option<ListFile<'_>> {
    while let ValueMatch::Not(inner) = condition {
        (place, condition) = (place.key("not"), inner);
    }
    let path = condition.file()?;
    Some(ListFile { place: place.key("file"), path, kind: ListKind::Texts })
}

impl ListKind {
    /// The problems of a content, each with its line and a hint.
    pub(super) fn problems(self, bytes: &[u8]) -> Vec<(usize, String, &'static str)> {
        match self {
            Self::Redirects => {
                let bad = RedirectTable::checked(bytes).1;
                bad.into_iter().map(|bad| (bad.line, bad.what, bad.hint)).collect()
            }
            Self::Texts => {
                let bad = texts_in(bytes).err();
                bad.map(|(line, what)| (line, what, "Write one text per line")).into_iter().collect()
            }
        }
    }

    /// Reports the problems of a file at their lines. `whole` is the path of the file, `place` that of the key.
    pub(super) fn report(self, whole: &Path, bytes: &[u8], place: &str, problems: &mut Problems) {
        let mut of_file = Problems::new(whole);
        for (line, what, hint) in self.problems(bytes) {
            of_file.add(Position { line, column: 1 }, place, what, hint);
        }
        problems.extend(of_file.sorted());
    }
}
