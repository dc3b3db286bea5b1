//! How problems with whole files and I/O errors are reported.

use std::io;
use std::path::Path;

use super::node::Position;
use super::problem::{Problem, Problems};

/// What to do about a file that is closed to this process.
pub(super) const TO_BE_READ: &str = "It has to be readable for who runs Weir: `server.user`, where that is written";

/// An I/O error without the operating system's number.
pub(super) fn reason(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::NotFound => "there is no such file".into(),
        io::ErrorKind::PermissionDenied => "permission denied".into(),
        _ => error.to_string(),
    }
}

/// What to do about a file that cannot be read, where the error says it.
pub(super) fn hint(error: &io::Error) -> Option<&'static str> {
    match error.kind() {
        io::ErrorKind::PermissionDenied => Some(TO_BE_READ),
        io::ErrorKind::InvalidInput => Some("Name a regular file"),
        io::ErrorKind::TimedOut => Some("Look at its file system: `stat` on the file hangs as well"),
        _ => None,
    }
}

/// A problem with a file as a whole.
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
