//! `routes[].redirects`: redirects from a file.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// `routes[].redirects`: redirects from a file. A request that is in the file is answered with its redirect, and every
/// other request takes the route's action.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RedirectList {
    /// A file with one redirect per line: `FROM TO [STATUS]`. A change of the file is applied without a reload.
    pub file: PathBuf,
    /// The status of lines without one: 301, 302, 303, 307 or 308.
    #[serde(default = "super::permanent_redirect")]
    pub status: u16,
}
