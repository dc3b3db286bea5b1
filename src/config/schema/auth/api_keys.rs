//! `auth.*.api_keys`: keys of programs.

use std::path::PathBuf;

use http::HeaderName;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::auth::api_keys::KeyLocation;

/// `auth.*.api_keys`: keys of programs, in a header field or in a query parameter. Exactly one of `header` and `query` is
/// set.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ApiKeySettings {
    /// A file with one `NAME sha256:HEX` per line. `weir hash-key NAME` makes a line. A comment begins with `#`. A change
    /// of the file is applied without a reload.
    pub file: PathBuf,
    /// The header field of the key, such as `x-api-key`. Its value is the key, or `Bearer` and the key.
    #[serde(default)]
    pub header: Option<String>,
    /// The query parameter of the key. Keys in URLs end up in histories and logs of clients: prefer `header`.
    #[serde(default)]
    pub query: Option<String>,
    /// Forward the key to the backend. By default it is removed from the request. It is never logged.
    #[serde(default)]
    pub forward: bool,
}

impl ApiKeySettings {
    /// The place of the key; `None` unless exactly one is set and valid.
    pub fn location(&self) -> Option<KeyLocation> {
        match (&self.header, &self.query) {
            (Some(name), None) => HeaderName::from_bytes(name.as_bytes()).ok().map(KeyLocation::Header),
            (None, Some(name)) if !name.is_empty() => Some(KeyLocation::Query(name.as_str().into())),
            _ => None,
        }
    }
}
