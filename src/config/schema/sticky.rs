//! `upstreams.*.sticky`: session affinity by cookie.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::super::values::Period;

/// `upstreams.*.sticky`: a cookie that keeps a client on the backend that served it first. The cookie does not reveal
/// the backend.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct StickySettings {
    /// Name of the cookie.
    pub cookie: String,
    /// How long a client without requests stays on its backend, at least 1s. 0s: until the browser session ends.
    pub ttl: Period,
    /// File of the secret key for cookies, at least 32 bytes. It is created at start or reload if it does not exist.
    /// Processes with the same key send a client to the same backend.
    pub key_file: PathBuf,
    /// Attributes of the cookie.
    pub attributes: CookieAttributes,
}

/// `upstreams.*.sticky.attributes`: attributes of the cookie (RFC 6265 section 4.1.2).
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct CookieAttributes {
    /// Path attribute: the paths for which clients send the cookie.
    pub path: String,
    /// Domain attribute: clients send the cookie to all hosts of this domain; default: only to the host that set it.
    pub domain: Option<String>,
    /// Secure attribute: clients send the cookie only over TLS. Default: set if the request came over TLS.
    pub secure: Option<bool>,
    /// HttpOnly attribute: scripts in a page cannot read the cookie.
    pub http_only: bool,
    /// SameSite attribute: whether clients send the cookie with cross-site requests. `none` needs `secure: true`.
    pub same_site: SameSite,
}

/// Whether clients send the cookie with cross-site requests.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum SameSite {
    /// Never.
    Strict,
    /// Only when the user follows a link.
    #[default]
    Lax,
    /// Always.
    None,
}

impl Default for StickySettings {
    fn default() -> Self {
        Self {
            cookie: "weir".into(),
            ttl: Period::from_secs(3600),
            key_file: "sticky.key".into(),
            attributes: CookieAttributes::default(),
        }
    }
}

impl Default for CookieAttributes {
    fn default() -> Self {
        Self { path: "/".into(), domain: None, secure: None, http_only: true, same_site: SameSite::default() }
    }
}
