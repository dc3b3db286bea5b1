//! The identity that an access policy found for a request.

use std::sync::Arc;

/// Who sends a request, as a policy verified it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// The user, the name of the API key, or the `sub` of a token. At most 256 bytes are kept.
    pub name: Arc<str>,
    /// The verified claims of a token, in JSON. Empty for other policies.
    pub claims: Arc<serde_json::Map<String, serde_json::Value>>,
}
