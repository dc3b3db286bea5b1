//! Reloads the files of `routes[].respond.body_file` and of `errors` for an unchanged document.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};

use super::ValidatedConfig;
use super::error_page_files::{bad_error_page, error_page_files};
use super::file_reload::RenewedContent;
use super::files;

impl ValidatedConfig {
    /// The files of response bodies and error pages, as paths joined with the folder of the configuration. Each is a group of its own.
    pub fn body_files(&self) -> Vec<Vec<PathBuf>> {
        self.named_bodies().into_iter().map(|path| vec![self.folder().join(path)]).collect()
    }

    /// Reads the changed files again.
    pub fn with_body_files(
        &self,
        changed: &BTreeSet<PathBuf>,
        read: &dyn Fn(&Path) -> io::Result<Vec<u8>>,
    ) -> RenewedContent {
        let pages: BTreeSet<&Path> = error_page_files(self.document()).into_iter().map(|(_, path)| path).collect();
        self.with_files_read_again(self.named_bodies(), changed, read, |path, bytes| match files::bad_body(bytes) {
            Some((what, _)) => Some(format!("{} {what}", path.display())),
            None if pages.contains(path) => {
                bad_error_page(path, bytes).map(|bad| format!("{}:{}: {}", path.display(), bad.line, bad.what))
            }
            None => None,
        })
    }

    fn named_bodies(&self) -> BTreeSet<&Path> {
        let responses = self.document().routes.iter().filter_map(|route| route.respond.as_ref());
        let pages = error_page_files(self.document()).into_iter().map(|(_, path)| path);
        responses.filter_map(|respond| respond.body_file.as_deref()).chain(pages).collect()
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
