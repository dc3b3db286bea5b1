//! Reads files of an unchanged document again. A file that cannot be used keeps its old content.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};

use super::ValidatedConfig;
use super::files::LoadedFiles;
use super::io_error::reason;

/// The result of reading the changed files of one kind again.
#[derive(Debug)]
pub struct RenewedContent {
    /// The same document with the new content. `None` if no content differs.
    pub config: Option<ValidatedConfig>,
    /// The files that have new content, as written in the document.
    pub changed: Vec<PathBuf>,
    /// The problems of files that cannot be used.
    pub unfit: Vec<String>,
}

impl ValidatedConfig {
    /// All files whose changes are applied without a reload, in groups that belong together.
    pub fn watched_files(&self) -> Vec<Vec<PathBuf>> {
        let groups = [self.backend_files(), self.body_files(), self.network_files(), self.auth_files()];
        [groups.concat(), self.list_files()].concat()
    }

    /// Reads those of the files again that have changed. `judge` returns the problem of a content.
    pub(super) fn with_files_read_again(
        &self,
        files: BTreeSet<&Path>,
        changed: &BTreeSet<PathBuf>,
        read: &dyn Fn(&Path) -> io::Result<Vec<u8>>,
        judge: impl Fn(&Path, &[u8]) -> Option<String>,
    ) -> RenewedContent {
        let (mut new, mut unfit) = (BTreeMap::new(), Vec::new());
        for path in files {
            let whole = self.folder().join(path);
            if !changed.contains(&whole) {
                continue;
            }
            match read(&whole).map(|bytes| (judge(path, &bytes), bytes)) {
                Ok((None, bytes)) => drop(new.insert(path.to_owned(), bytes)),
                Ok((Some(problem), _)) => unfit.push(problem),
                Err(error) => unfit.push(format!("{} cannot be read: {}", path.display(), reason(&error))),
            }
        }
        self.with_content(new, unfit)
    }

    /// The same document with this content of files.
    pub(super) fn with_content(&self, mut new: BTreeMap<PathBuf, Vec<u8>>, unfit: Vec<String>) -> RenewedContent {
        new.retain(|path, bytes| self.file(path) != Some(bytes.as_slice()));
        let changed = new.keys().cloned().collect();
        let config = (!new.is_empty()).then(|| {
            let mut held = self.files().held.clone();
            held.extend(new);
            self.with_files(LoadedFiles { held, ..self.files().clone() })
        });
        RenewedContent { config, changed, unfit }
    }
}
