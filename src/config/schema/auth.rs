//! `auth`: access policies by name.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

mod jwt;

pub use jwt::{JwtAuth, JwtRequirements, KeySetSource, TokenPlace};

/// One of `auth`: an access policy.
#[derive(Debug, Clone, PartialEq, Default, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct AuthPolicy {
    /// Requires a valid token (JWT).
    pub jwt: Option<JwtAuth>,
}
