//! A configuration without a file: `weir proxy` generates its text. A reload has nothing to read.

use std::path::Path;

use super::load::{ValidatedConfig, parse_in_place};
use super::node::Position;
use super::problem::{Problem, Problems};

/// The name that problems have in place of a file.
pub const IN_MEMORY: &str = "(weir proxy)";

/// Parses and validates a generated text. It names files relative to the working directory.
///
/// # Errors
/// The problems of the text, as if it were a file called [`IN_MEMORY`].
pub fn load_in_memory(text: &str) -> Result<ValidatedConfig, Vec<Problem>> {
    parse_in_place(Path::new(IN_MEMORY), text)
}

/// The problem of a reload, if this is the name of a configuration without a file.
pub(super) fn nothing_to_read(path: &Path) -> Option<Vec<Problem>> {
    if path != Path::new(IN_MEMORY) {
        return None;
    }
    let mut problems = Problems::new(path);
    let hint = "Save the output of `weir proxy --print-config` as a file, and start `weir run -c FILE`";
    problems.add(Position::START, "", "`weir proxy` runs without a file, so there is nothing to read again", hint);
    Some(problems.sorted())
}
