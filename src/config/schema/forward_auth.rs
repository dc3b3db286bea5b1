//! Forward authentication: an upstream that decides about requests.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::super::values::{Name, Period};

/// `forward`: a request to an upstream decides whether the client's request may pass. It passes with a status of 2xx.
/// Any other status is sent to the client, with its fields and its body.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ForwardAuthSettings {
    /// The upstream of the authorization server.
    pub upstream: Name,
    /// Path and query of the authorization request.
    pub path: String,
    /// Maximum time until the complete response.
    #[serde(default = "two_seconds")]
    pub timeout: Period,
    /// Fields of the client's request that the authorization request also has. Cookie and Authorization are always
    /// sent.
    #[serde(default)]
    pub request_headers: Vec<String>,
    /// Fields that the backend receives from the authorization response only. The client's fields of these names are
    /// removed.
    #[serde(default)]
    pub response_headers: Vec<String>,
    /// While the authorization server does not answer: `closed` answers 503, `open` lets requests pass.
    #[serde(default)]
    pub on_failure: AuthFailure,
}

/// `forward.on_failure`: the decision while the authorization server does not answer.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum AuthFailure {
    /// The request is answered with 503.
    #[default]
    Closed,
    /// The request passes, without the fields of `response_headers`.
    Open,
}

fn two_seconds() -> Period {
    Period::from_secs(2)
}
