//! The program and the arguments with which this process was started.
//!
//! An upgrade starts the file that has this path now. `/proc/self/exe` would be the old file.

use std::env;
use std::ffi::OsString;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// The program of this process and its arguments.
#[derive(Debug, Clone)]
pub struct Program {
    path: PathBuf,
    arguments: Vec<OsString>,
}

impl Program {
    /// The program as it was started. Call it before the working folder changes.
    pub fn of_process() -> Self {
        let arguments: Vec<_> = env::args_os().collect();
        let typed = arguments.first().map(PathBuf::from).unwrap_or_default();
        let found = find(&typed, &env::var_os("PATH").unwrap_or_default());
        // The first argument is a convention only; then the path of the file that runs is the best guess.
        let path = found.and_then(|path| std::path::absolute(path).ok()).or_else(|| env::current_exe().ok());
        Self { path: path.unwrap_or(typed), arguments }
    }

    /// The path that an upgrade executes.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The arguments, of which the first is the name of the program.
    pub(super) fn arguments(&self) -> &[OsString] {
        &self.arguments
    }
}

/// The file as execvp(3) finds it: a name with a slash is a path, and another one is looked for on `PATH`.
fn find(typed: &Path, search: &OsString) -> Option<PathBuf> {
    if typed.components().count() > 1 {
        return is_program(typed).then(|| typed.to_owned());
    }
    env::split_paths(search).map(|folder| folder.join(typed)).find(|path| is_program(path))
}

fn is_program(path: &Path) -> bool {
    path.metadata().is_ok_and(|data| data.is_file() && data.permissions().mode() & 0o111 != 0)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests {
    use super::*;

    #[test]
    fn a_path_stays_as_typed_and_a_name_is_looked_for() {
        let folder = tempfile::tempdir().unwrap();
        let (program, text) = (folder.path().join("weir"), folder.path().join("notes"));
        std::fs::write(&program, "#!/bin/sh\n").unwrap();
        std::fs::write(&text, "").unwrap();
        std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
        // A link stays a link: a new version often replaces only the link.
        let link = folder.path().join("link");
        std::os::unix::fs::symlink(&program, &link).unwrap();
        let search = env::join_paths([Path::new("/nowhere"), folder.path()]).unwrap();
        assert_eq!(find(&link, &OsString::new()), Some(link.clone()));
        assert_eq!(find(Path::new("weir"), &search), Some(program));
        for nothing in ["notes", "other", ""] {
            assert_eq!(find(Path::new(nothing), &search), None, "{nothing}");
        }
        assert_eq!(find(&text, &search), None);
    }
}
