//! A configuration without a file: `weir proxy` generates its text. A reload has nothing to read.

use std::path::Path;

use super::node::Position;
use super::problem::{Problem, Problems};

/// The name that problems have in place of a file.
pub(super) const IN_MEMORY: &str = "(weir proxy)";

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
