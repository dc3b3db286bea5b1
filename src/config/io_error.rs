//! Reports of I/O errors, and of problems that concern a whole file.

use std::io;
use std::path::Path;

use super::node::Position;
use super::problem::{Problem, Problems};

/// The hint for a file that this process may not read.
pub(super) const TO_BE_READ: &str = "It has to be readable for who runs Weir: `server.user`, where that is written";

/// The text of an I/O error, without the error number of the operating system.
pub(super) fn reason(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::NotFound => "there is no such file".into(),
        io::ErrorKind::PermissionDenied => "permission denied".into(),
        _ => error.to_string(),
    }
}

/// The hint for a file that cannot be read; `None` if the error suggests nothing.
pub(super) fn hint(error: &io::Error) -> Option<&'static str> {
    match error.kind() {
        io::ErrorKind::PermissionDenied => Some(TO_BE_READ),
        io::ErrorKind::InvalidInput => Some("Name a regular file"),
        io::ErrorKind::TimedOut => Some("Look at its file system: `stat` on the file hangs as well"),
        _ => None,
    }
}

/// Whether the error depends on this host or on the user of the process, and not on the configuration.
pub(super) fn is_of_host(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::PermissionDenied | io::ErrorKind::TimedOut)
}

/// A problem that concerns a whole file.
pub(super) fn whole(path: &Path, mark: Position, what: String) -> Vec<Problem> {
    let mut problems = Problems::new(path);
    problems.add(mark, "", what, "");
    problems.sorted()
}

/// The position after the last byte of a text.
pub(super) fn mark_after(text: &[u8]) -> Position {
    let text = String::from_utf8_lossy(text);
    let line = text.matches('\n').count() + 1;
    Position { line, column: text.rsplit('\n').next().unwrap_or_default().chars().count() + 1 }
}
