//! `routes[].maintenance`: how a route answers while an operator has switched its maintenance on.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::super::values::Period;
use super::Networks;

/// `routes[].maintenance`: how the route answers during maintenance. `weir maintenance ROUTE on` switches it on: clients
/// then get 503, with the error page.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct MaintenanceSettings {
    /// Networks whose clients use the route during maintenance. A list, or `{ file: … }` with one network per line.
    pub allow: Networks,
    /// The value of Retry-After, at least 1s.
    pub retry_after: Period,
}

impl Default for MaintenanceSettings {
    fn default() -> Self {
        Self { allow: Networks::default(), retry_after: Period::from_secs(300) }
    }
}
