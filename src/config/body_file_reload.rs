//! Reloads the files of `routes[].respond.body_file` for an unchanged document.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};

use super::ValidatedConfig;
use super::files::{self, LoadedFiles};
use super::io_error::reason;

/// The result of reading the changed files again.
#[derive(Debug)]
pub struct RenewedBodies {
    /// The same document with the new content. `None` if no content differs.
    pub config: Option<ValidatedConfig>,
    /// The files that have new content.
    pub changed: Vec<PathBuf>,
    /// The problems of files that cannot be used. These files keep their old content.
    pub unfit: Vec<String>,
}

impl ValidatedConfig {
    /// The files of response bodies, as paths joined with the folder of the configuration. Each is a group of its own.
    pub fn body_files(&self) -> Vec<Vec<PathBuf>> {
        self.named_bodies().into_iter().map(|path| vec![self.folder().join(path)]).collect()
    }

    /// Reads the changed files again.
    pub fn with_body_files(
        &self,
        changed: &BTreeSet<PathBuf>,
        read: &dyn Fn(&Path) -> io::Result<Vec<u8>>,
    ) -> RenewedBodies {
        let (mut new, mut unfit) = (BTreeMap::new(), Vec::new());
        for path in self.named_bodies() {
            let whole = self.folder().join(path);
            if !changed.contains(&whole) {
                continue;
            }
            match read(&whole).map(|bytes| (files::bad_body(&bytes), bytes)) {
                Err(error) => unfit.push(format!("{} cannot be read: {}", path.display(), reason(&error))),
                Ok((Some((what, _)), _)) => unfit.push(format!("{} {what}", path.display())),
                Ok((None, bytes)) if self.file(path) == Some(bytes.as_slice()) => {}
                Ok((None, bytes)) => drop(new.insert(path.to_owned(), bytes)),
            }
        }
        let changed: Vec<PathBuf> = new.keys().cloned().collect();
        let config = (!new.is_empty()).then(|| {
            let mut held = self.files().held.clone();
            held.extend(new);
            self.with_files(LoadedFiles { held, ..self.files().clone() })
        });
        RenewedBodies { config, changed, unfit }
    }

    fn named_bodies(&self) -> BTreeSet<&Path> {
        let responses = self.document().routes.iter().filter_map(|route| route.respond.as_ref());
        responses.filter_map(|respond| respond.body_file.as_deref()).collect()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests {
    use super::*;

    #[test]
    fn an_unfit_file_keeps_its_old_content_and_is_reported() {
        let yaml =
            "listeners: [{ address: \"127.0.0.1:1\" }]\nroutes: [{ respond: { status: 200, body_file: a.txt } }]";
        let old = |_: &Path| Ok(b"old".to_vec());
        let checked = super::super::parse(Path::new("/etc/weir.yaml"), yaml, &|_| None, &old).unwrap();
        assert_eq!(checked.body_files(), [[PathBuf::from("/etc/a.txt")]]);
        let changed: BTreeSet<_> = checked.body_files().into_iter().flatten().collect();
        let again = checked.with_body_files(&changed, &|_| Ok(b"new".to_vec()));
        assert_eq!(again.config.unwrap().file(Path::new("a.txt")), Some(&b"new"[..]));
        assert_eq!((again.changed, again.unfit.len()), (vec![PathBuf::from("a.txt")], 0));
        let same = checked.with_body_files(&changed, &old);
        assert!(same.config.is_none() && same.unfit.is_empty());
        let empty = checked.with_body_files(&changed, &|_| Ok(Vec::new()));
        assert!(empty.config.is_none() && empty.unfit == ["a.txt is empty"], "{empty:?}");
        let gone = checked.with_body_files(&changed, &|_| Err(io::ErrorKind::NotFound.into()));
        assert!(gone.config.is_none() && gone.unfit[0].starts_with("a.txt cannot be read: "), "{gone:?}");
    }
}
