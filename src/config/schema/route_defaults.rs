//! `defaults`: keys of routes that can have a value for all routes.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    Compression, Cors, Errors, HostRule, MaintenanceSettings, Networks, RedirectList, Retry, RouteAuth, RouteLimits,
    RouteTimeouts, SecurityHeaders,
};
use crate::config::values::{HeaderEdits, Name};

/// `defaults`: values for each route that does not set the key itself. Routes with `redirect` or `respond` take only
/// `response_headers`, `security_headers`, `redirects`, `limits`, `allow`, `deny`, `maintenance`, `rate_limits`, `auth`,
/// `errors`, `cors`, `compress` and
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
    /// How routes answer during maintenance.
    pub maintenance: Option<MaintenanceSettings>,
    /// Names of `rate_limits` that apply to the request, in this order.
    pub rate_limits: Option<Vec<Name>>,
    /// Access policies that a request must satisfy.
    pub auth: Option<RouteAuth>,
    /// Timeouts towards backends.
    pub timeouts: Option<RouteTimeouts>,
    /// When a request is retried on another backend.
    pub retry: Option<Retry>,
    /// Pages in place of Weir's own error responses, by status. They also serve requests that match no route.
    pub errors: Option<Errors>,
    /// Cross-origin resource sharing (CORS), or `off`.
    pub cors: Option<Cors>,
    /// Compression of responses, or `off`.
    pub compress: Option<Compression>,
    /// Decode gzip, br and zstd of backends for clients that do not accept the coding.
    pub decompress: Option<bool>,
}
