//! A line of a file of credentials that cannot be used.

/// A bad line. The text never contains a part of the line that may be secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {what}")]
pub struct BadAuthLine {
    /// From 1.
    pub line: usize,
    /// The problem.
    pub what: String,
    /// How to correct it.
    pub hint: &'static str,
}

/// The lines of a file with their numbers, without a byte order mark, line ends, empty lines and comments.
pub(super) fn lines(bytes: &[u8]) -> impl Iterator<Item = (usize, &[u8])> {
    let bytes = bytes.strip_prefix("\u{feff}".as_bytes()).unwrap_or(bytes);
    let lines = bytes.split(|byte| *byte == b'\n').enumerate();
    let lines = lines.map(|(index, line)| (index + 1, line.trim_ascii_end()));
    lines.filter(|(_, line)| !line.is_empty() && !line.trim_ascii_start().starts_with(b"#"))
}
