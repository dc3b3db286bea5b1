//! The files of `redirects` and of conditions `{ file: … }`: their paths, their check, and reading them again.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};

use super::ValidatedConfig;
use super::file_reload::RenewedContent;
use super::node::{DocumentPath, Position};
use super::problem::Problems;
use super::redirect_file::RedirectTable;
use super::schema::{Document, ValueMatch, texts_in};

/// The kind of a list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
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

/// All files of lists.
pub(super) fn list_files(document: &Document) -> Vec<ListFile<'_>> {
    let mut files = Vec::new();
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
    fn problems(self, bytes: &[u8]) -> Vec<(usize, String, &'static str)> {
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

    /// Reports the problems of a file at their lines. `whole` is the path of the file, `place` the key that names it.
    pub(super) fn report(self, whole: &Path, bytes: &[u8], place: &DocumentPath, problems: &mut Problems) {
        let mut of_file = Problems::new(whole);
        for (line, what, hint) in self.problems(bytes) {
            of_file.add(Position { line, column: 1 }, place, what, hint);
        }
        problems.extend(of_file.sorted());
    }
}

impl ValidatedConfig {
    /// The files of lists, as paths joined with the folder of the configuration. Each is a group of its own.
    pub fn list_files(&self) -> Vec<Vec<PathBuf>> {
        list_files(self.document()).iter().map(|file| vec![self.folder().join(file.path)]).collect()
    }

    /// Reads the changed files again.
    pub fn with_list_files(
        &self,
        changed: &BTreeSet<PathBuf>,
        read: &dyn Fn(&Path) -> io::Result<Vec<u8>>,
    ) -> RenewedContent {
        let named = list_files(self.document());
        let paths = named.iter().map(|file| file.path).collect();
        self.with_files_read_again(paths, changed, read, |path, bytes| {
            let kinds = named.iter().filter(|file| file.path == path).map(|file| file.kind);
            let (line, what, _) = kinds.flat_map(|kind| kind.problems(bytes)).next()?;
            Some(format!("{}:{line}: {what}", path.display()))
        })
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests {
    use super::*;

    const YAML: &str = "listeners: [{ address: '127.0.0.1:1' }]\n\
                        routes: [{ respond: { status: 200 }, redirects: { file: r.txt }, \
                        match: { headers: { User-Agent: { not: { file: bots.txt } } } } }]\n";

    fn checked(redirects: &str, texts: &str) -> Result<ValidatedConfig, Vec<String>> {
        let content = |path: &Path| if path.ends_with("r.txt") { redirects } else { texts };
        let read = |path: &Path| Ok(content(path).as_bytes().to_vec());
        let parsed = super::super::parse(Path::new("/etc/weir.yaml"), YAML, &|_| None, &read);
        parsed.map_err(|problems| problems.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn a_bad_line_of_a_list_is_a_problem_at_its_line() {
        let problems = checked("/a /b\n/c\n/d /d\n", "# none\n").unwrap_err();
        assert_eq!(problems.len(), 3, "{problems:?}");
        assert!(problems.iter().any(|at| at.starts_with("/etc/r.txt:2:1: routes[0].redirects.file: ")), "{problems:?}");
        assert!(problems.iter().any(|at| at.starts_with("/etc/r.txt:3:1: ")), "{problems:?}");
        let at = "/etc/bots.txt:1:1: routes[0].match.headers.User-Agent.not.file: ";
        assert!(problems.iter().any(|problem| problem.starts_with(at)), "{problems:?}");
    }

    #[test]
    fn a_list_that_becomes_bad_keeps_its_content() {
        let config = checked("/a /b\n", "bot\n").unwrap();
        let changed: BTreeSet<_> = config.watched_files().into_iter().flatten().collect();
        assert_eq!(changed.len(), 2);
        let again = config.with_list_files(&changed, &|_| Ok(b"/a /c\n".to_vec()));
        let renewed = again.config.unwrap();
        assert_eq!(renewed.file(Path::new("r.txt")), Some(&b"/a /c\n"[..]));
        let again = config.with_list_files(&changed, &|_| Ok(b"/a /a\n".to_vec()));
        assert_eq!((again.changed, again.unfit.len()), (vec![PathBuf::from("bots.txt")], 1));
        assert!(again.unfit[0].starts_with("r.txt:1: the redirect never ends"), "{:?}", again.unfit);
    }
}
