//! `upstreams.*.sticky`: the cookie that keeps a client with its backend.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::super::values::Period;

/// `upstreams.*.sticky`: a client stays with the backend that served it first, by a cookie that does not say which one that is.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct StickySettings {
    /// The cookie's name.
    pub cookie: String,
    /// How long a client that makes no request stays with its backend, 1s or more; 0s: until it closes its session.
    pub ttl: Period,
    /// The file of the secret that cookies are made with, at least 32 bytes; made at start or reload if it is not there. Weirs
    /// that have the same secret send a client to the same backend.
    pub key_file: PathBuf,
    /// How the cookie is set.
    pub attributes: CookieAttributes,
}

/// `upstreams.*.sticky.attributes`: how the cookie is set (RFC 6265 section 4.1.2).
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct CookieAttributes {
    /// The paths that clients send it for.
    pub path: String,
    /// The domain whose hosts they send it to; none: the host that set it alone.
    pub domain: Option<String>,
    /// Whether they send it over TLS alone; left out: when they came over TLS themselves.
    pub secure: Option<bool>,
    /// Whether scripts in a page cannot read it.
    pub http_only: bool,
    /// Whether they send it with requests that other sites make; `none` wants `secure: true`.
    pub same_site: SameSite,
}

/// Whether a cookie goes along with requests that other sites make.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum SameSite {
    /// With none of them.
    Strict,
    /// When a link is followed.
    #[default]
    Lax,
    /// With all of them.
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
