//! Helpers of this room's tests.
use super::*;
use std::path::Path;

/// Reads a text with a small environment and two files.
pub(super) fn read(text: &str) -> Result<Checked, Vec<Problem>> {
    let env = |name: &str| std::env::var(name).ok();
    parse(Path::new("weir.yaml"), text, &env, &|_| Ok(Vec::new()))
}

pub(super) fn parsed(text: &str) -> schema::Document {
    read(text).unwrap().document().clone()
}
