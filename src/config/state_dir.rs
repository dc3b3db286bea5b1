//! `server.state_dir`: checked by every load, created only when the document becomes active.

use std::fs::DirBuilder;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;

use super::io_error::reason;

/// The result of checking or creating the folder.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum StateDirResult {
    /// The folder exists, and files can be created in it.
    There,
    /// The folder does not exist.
    Missing,
    /// The folder cannot be used: the problem, and a hint.
    Unfit(String, &'static str),
}

/// Checks whether files can be created in the folder, with an unnamed temporary file.
pub(super) fn inspect(path: &Path) -> StateDirResult {
    match tempfile::tempfile_in(path) {
        Ok(_) => StateDirResult::There,
        Err(error) if error.kind() == io::ErrorKind::NotFound && has_parent(path) => StateDirResult::Missing,
        Err(error) => unfit(&error),
    }
}

/// Creates the folder, for its owner alone.
pub(super) fn make(path: &Path) -> StateDirResult {
    match DirBuilder::new().mode(0o700).create(path) {
        Ok(()) => StateDirResult::There,
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => inspect(path),
        Err(error) => unfit(&error),
    }
}

/// The problem of a folder that cannot be used.
pub(super) fn unfit(error: &io::Error) -> StateDirResult {
    let what = match error.kind() {
        io::ErrorKind::NotFound => "cannot be made: the folder that it belongs in is not there".to_owned(),
        io::ErrorKind::NotADirectory => "this is no folder".to_owned(),
        _ => format!("nothing can be written there: {}", reason(error)),
    };
    StateDirResult::Unfit(
        what,
        "It has to be a folder that belongs to who runs Weir: `server.user`, where that is written",
    )
}

fn has_parent(path: &Path) -> bool {
    match path.parent() {
        Some(parent) if parent == Path::new("") => true,
        Some(parent) => parent.is_dir(),
        None => false,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn the_folder_is_created_with_mode_0700_and_only_by_make() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state");
        assert_eq!((inspect(&path), path.exists()), (StateDirResult::Missing, false));
        assert_eq!((make(&path), inspect(&path)), (StateDirResult::There, StateDirResult::There));
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o700);
        assert_eq!(path.read_dir().unwrap().count(), 0, "looking leaves nothing behind");
    }

    #[test]
    fn a_file_and_a_folder_without_a_parent_are_rejected() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file");
        std::fs::write(&file, "").unwrap();
        for (path, what) in [(file.clone(), "no folder"), (folder.path().join("a/b"), "is not there")] {
            assert!(
                matches!(inspect(&path), StateDirResult::Unfit(message, _) if message.contains(what)),
                "{}",
                path.display()
            );
        }
    }
}
