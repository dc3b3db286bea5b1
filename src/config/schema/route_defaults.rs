//! `defaults`: keys of routes that can have a value for all routes.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Compression, HostRule, Networks, RedirectList, Retry, RouteLimits, RouteTimeouts, SecurityHeaders};
use crate::config::values::{HeaderEdits, Name};

/// `defaults`: values for each route that does not set the key itself. Routes with `redirect` or `respond` take only
/// `response_headers`, `security_headers`, `redirects`, `limits`, `allow`, `deny`, `rate_limits`, `compress` and
/// `decompress`.
#[derive(Debug, Clone, PartialEq, Default, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct RouteDefaults {
    /// The Host field that backends receive: `keep`, `backend` or a name.
    pub host: Option<HostRule>,
    /// Edits of the request header fields.
    pub request_headers: Option<HeaderEdits>,
    /// Edits of the response header fields.
    pub response_headers: Option<HeaderEdits>,
    /// Header fields that make browsers stricter: `default` or `off`. Fields of a backend take precedence.
    pub security_headers: Option<SecurityHeaders>,
    /// Redirects from a file.
    pub redirects: Option<RedirectList>,
    /// Limits for the request.
    pub limits: Option<RouteLimits>,
    /// Networks whose clients may use the route; empty: all.
    pub allow: Option<Networks>,
    /// Networks whose clients are refused. It takes precedence over `allow`.
    pub deny: Option<Networks>,
    /// Names of `rate_limits` that apply to the request, in this order.
    pub rate_limits: Option<Vec<Name>>,
    /// Timeouts towards backends.
    pub timeouts: Option<RouteTimeouts>,
    /// When a request is retried on another backend.
    pub retry: Option<Retry>,
    /// Compression of responses, or `off`.
    pub compress: Option<Compression>,
    /// Decode gzip, br and zstd of backends for clients that do not accept the coding.
    pub decompress: Option<bool>,
}
