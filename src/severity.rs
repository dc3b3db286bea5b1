//! The severity of a problem in a configuration.

use serde::{Deserialize, Serialize};

/// Whether a problem rejects the configuration.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// The configuration is rejected.
    #[default]
    Error,
    /// The configuration can be applied, but probably does not do what its author wants.
    Warning,
}
