//! `routes[].security_headers`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// `routes[].security_headers`: header fields of responses that make browsers stricter.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum SecurityHeaders {
    /// None.
    #[default]
    Off,
    /// Strict-Transport-Security (for TLS clients), X-Content-Type-Options, X-Frame-Options and Referrer-Policy.
    Default,
}
