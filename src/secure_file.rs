//! Atomic and durable writes of files that only their owner may read.

use std::fs::{DirBuilder, File};
use std::io::{self, Write};
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;

/// Replaces a file atomically, with mode 0600. After a crash the file has either the old or the new content.
///
/// # Errors
/// An error of the file system. An existing file is then unchanged, except if the final sync of the folder fails.
pub fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let folder = path.parent().ok_or_else(|| io::Error::other("it has no folder"))?;
    // `tempfile` creates files with mode 0600.
    let mut aside = tempfile::Builder::new().prefix(".new-").tempfile_in(folder)?;
    aside.write_all(bytes)?;
    aside.as_file().sync_all()?;
    aside.persist(path).map_err(|error| error.error)?;
    File::open(folder)?.sync_all()
}

/// Creates a folder and its missing parents, with mode 0700.
///
/// # Errors
/// An error of the file system.
pub fn make_folder(path: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(path)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn files_have_mode_0600_and_folders_mode_0700() {
        let folder = tempfile::tempdir().unwrap();
        let below = folder.path().join("a/b");
        make_folder(&below).unwrap();
        make_folder(&below).unwrap();
        let path = below.join("file");
        for text in ["old", "new and longer"] {
            write(&path, text.as_bytes()).unwrap();
            assert_eq!(std::fs::read_to_string(&path).unwrap(), text);
        }
        let mode = |path: &Path| path.metadata().unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&path), mode(&below), mode(&folder.path().join("a"))), (0o600, 0o700, 0o700));
        assert_eq!(below.read_dir().unwrap().count(), 1, "nothing is left beside it");
    }
}
