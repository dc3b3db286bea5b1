//! Schema of the configuration document: one struct per YAML section, with the default values.
//!
//! The parser, `weir schema` and the tables of docs/configuration.md are generated from these types. This module never
//! resolves a reference to another section. It never checks rules that involve two keys: `check` does that.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::values::{Cidr, HeaderEdits, Name, Percent, Period, RetryWhen, Size};

mod acme;
mod admin;
mod auth;
mod compress;
mod cors;
mod errors;
mod logs;
mod maintenance;
mod mirror;
mod networks;
mod origin_pattern;
mod outlier;
mod paths;
mod rate_limit;
mod redirect_list;
mod request_match;
mod route_defaults;
mod route_timeouts;
mod section_or_off;
mod security_headers;
mod split;
mod sticky;
mod text_list;
mod tls;
mod upstream;
mod value_match;

pub use acme::{AcmeChallenge, AcmeSettings};
pub use admin::{Admin, AdminSettings};
pub use auth::{
    ApiKeySettings, AuthException, AuthFailure, AuthSettings, BasicAuthSettings, ClientCertificateSettings,
    ForwardAuthSettings, JwtAuth, JwtRequirements, KeySetSource, RouteAuth, TokenPlace,
};
pub use compress::{CompressLevels, CompressSettings, Compression, ContentCoding};
pub use cors::{Cors, CorsSettings};
pub use errors::{ErrorPageSettings, ErrorStatus, Errors};
pub use logs::{AccessLogFormat, AccessLogSettings, Log, LogFormat, LogLevel};
pub use maintenance::MaintenanceSettings;
pub use mirror::MirrorSettings;
pub use networks::Networks;
pub use origin_pattern::OriginPattern;
pub use outlier::{Outlier, OutlierDetection};
pub use paths::{EncodedSlash, ListenerPaths};
pub use rate_limit::{
    LimitCost, LimitKey, MissingKey, RateLimitSettings, SharedBuckets, StoreFailure, StoreSettings, StoreTls,
};
pub use redirect_list::RedirectList;
pub use request_match::Match;
pub use route_defaults::RouteDefaults;
pub use route_timeouts::RouteTimeouts;
pub use security_headers::SecurityHeaders;
pub use split::{SplitKey, SplitSettings, SplitTarget};
pub use sticky::{CookieAttributes, SameSite, StickySettings};
pub use text_list::{TextList, texts_in};
pub use tls::{CertificatePair, ClientAuth, ClientAuthMode, Hsts, ListenerTls, RedirectHttps, Suite};
pub use upstream::{
    BackendSettings, Balance, BodyCheck, Discover, Ewma, GrpcCheck, Hash, HealthCheck, HttpCheck, Protocol,
    QueueSettings, SendProxy, TcpCheck, UpstreamSettings, UpstreamTls, Whole,
};
pub use value_match::ValueMatch;

/// The configuration file.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Document {
    /// Settings of the process. They are fixed until a restart, except `shutdown_grace` and `lame_duck`.
    pub server: Server,
    /// The process log, written to stderr.
    pub log: Log,
    /// The admin listener: metrics, status page and API. `off` disables it. Never expose it on a public address.
    pub admin: Admin,
    /// The access log: one line per request.
    pub access_log: AccessLogSettings,
    /// Networks whose forwarding header fields and PROXY headers are trusted.
    pub trusted_proxies: Vec<Cidr>,
    /// Header fields that carry the client's address to backends.
    pub forwarded: Forwarded,
    /// Addresses on which Weir accepts connections.
    pub listeners: Vec<ListenerConfig>,
    /// Values for each route that does not set the key itself. The key of a route replaces the whole key.
    pub defaults: RouteDefaults,
    /// Rules that match requests and define how they are handled. The most specific match wins; the order only breaks
    /// ties.
    pub routes: Vec<RouteSettings>,
    /// Named groups of interchangeable backends.
    pub upstreams: BTreeMap<Name, UpstreamSettings>,
    /// Access policies by name. Routes refer to them.
    pub auth: BTreeMap<Name, AuthSettings>,
    /// Limits by name. Routes refer to them.
    pub rate_limits: BTreeMap<Name, RateLimitSettings>,
    /// Access policies by name. Routes refer to them.
    /// Servers that several processes share, by name. Limits refer to them.
    pub stores: BTreeMap<Name, StoreSettings>,
}

/// `server`: settings of the process.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Server {
    /// Number of traffic threads; 0: one per core.
    #[schemars(range(min = 0, max = 1024))]
    pub threads: usize,
    /// How long requests and streams in progress may take to finish after the listeners are closed.
    pub shutdown_grace: Period,
    /// How long listeners continue to accept connections after `/readyz` has changed to 503.
    pub lame_duck: Period,
    /// File for the process id. It is removed at exit.
    pub pid_file: Option<PathBuf>,
    /// User to switch to after the sockets are bound. CAP_NET_BIND_SERVICE is retained.
    pub user: Option<String>,
    /// Maximum number of idle connections to all backends together, per thread.
    #[schemars(range(min = 0, max = 65536))]
    pub upstream_idle_connections: usize,
    /// Directory for state that survives restarts: ACME accounts and certificates. Several processes may share it.
    pub state_dir: Option<PathBuf>,
}

/// `forwarded`: header fields that carry the client's address to backends.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
pub enum Forwarded {
    /// X-Forwarded-For, X-Forwarded-Proto, X-Forwarded-Host and X-Real-IP.
    #[default]
    #[serde(rename = "x-forwarded")]
    XForwarded,
    /// Forwarded (RFC 7239).
    #[serde(rename = "rfc7239")]
    Rfc7239,
    /// Both sets of fields.
    #[serde(rename = "both")]
    Both,
}

/// One of `listeners`.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ListenerConfig {
    /// Name in metrics and logs; default: the address.
    #[serde(default)]
    pub name: Option<Name>,
    /// IP address and port. `[::]:8080` accepts IPv4 as well.
    pub address: SocketAddr,
    /// Accept HTTP/2 as well as HTTP/1.1: by ALPN with TLS, by prior knowledge without TLS.
    #[serde(default = "yes")]
    pub http2: bool,
    /// TLS towards clients; default: plain HTTP.
    #[serde(default)]
    pub tls: Option<ListenerTls>,
    /// Without TLS only: answer every request with a redirect (308) to the same URL with https. A number is the https
    /// port if it is not 443. Routes that name this listener are still served.
    #[serde(default)]
    pub redirect_https: RedirectHttps,
    /// Every connection must begin with a PROXY header (version 1 or 2). Its addresses are used only if it comes from
    /// `trusted_proxies`.
    #[serde(default)]
    pub proxy_protocol: bool,
    /// Networks whose clients may connect; empty: all. A list, or `{ file: … }` with one network per line. The address
    /// of the connection is checked before TLS, and the client's address of each request. `trusted_proxies` may connect.
    #[serde(default)]
    pub allow: Networks,
    /// Networks whose clients are refused. It takes precedence over `allow`.
    #[serde(default)]
    pub deny: Networks,
    /// How paths are normalized before routes are matched.
    #[serde(default)]
    pub paths: ListenerPaths,
    /// Timeouts towards clients.
    #[serde(default)]
    pub timeouts: ListenerTimeouts,
    /// Limits for clients.
    #[serde(default)]
    pub limits: ListenerLimits,
}

/// `listeners[].timeouts`: timeouts towards clients.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ListenerTimeouts {
    /// Time to receive the request head: from the first byte, or from the accept for the first request. Cannot be
    /// disabled.
    pub header: Period,
    /// How long a connection may stay open without a request. Cannot be disabled.
    pub idle: Period,
    /// Maximum wait for the next bytes of a request body.
    pub body: Period,
    /// Maximum wait until the client accepts the next bytes of a response.
    pub write: Period,
    /// Time for the whole TLS handshake, from the accept. Cannot be disabled.
    pub handshake: Period,
}

/// `listeners[].limits`: limits for clients.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ListenerLimits {
    /// Maximum open connections; 0: no limit.
    pub connections: usize,
    /// Maximum open connections per client: an IPv4 address or an IPv6 /64 network. 0: no limit.
    pub connections_per_ip: usize,
    /// Maximum requests on a connection; it is closed after the last one. 0: no limit.
    pub requests_per_connection: usize,
    /// Maximum size of the request line and the header together, 1KiB to 1MiB. Larger: 431.
    pub header_bytes: Size,
    /// Maximum number of header fields in a request. More: 431.
    #[schemars(range(min = 1, max = 250))]
    pub headers: usize,
    /// Maximum size of a request target, 1B to 1MiB. Larger: 414.
    pub uri_bytes: Size,
    /// Maximum concurrent HTTP/2 streams on a connection.
    #[schemars(range(min = 1, max = 10000))]
    pub streams: u32,
}

/// One of `routes`.
#[derive(Debug, Clone, PartialEq, Default, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct RouteSettings {
    /// Name in metrics and logs; default: `route-N`, N is the position in the file, from 1.
    pub name: Option<Name>,
    /// Conditions that a request must meet; empty: all requests match.
    #[serde(rename = "match")]
    pub matches: Match,
    /// Forward to this upstream.
    pub upstream: Option<Name>,
    /// Forward to one of several upstreams, by weight: a list, or `{ by: …, targets: … }` to keep a user on the same one.
    pub split: Option<SplitSettings>,
    /// Answer with a redirect.
    pub redirect: Option<RedirectSettings>,
    /// Answer with a fixed response.
    pub respond: Option<RespondSettings>,
    /// Redirects from a file, for requests that would otherwise take the action of the route.
    pub redirects: Option<RedirectList>,
    /// Copies of requests for another upstream.
    pub mirror: Option<MirrorSettings>,
    /// Change the path before the request is forwarded.
    pub rewrite: Option<RewriteSettings>,
    /// The Host field that backends receive: `keep`, `backend` or a name.
    pub host: HostRule,
    /// Edits of the request header fields. Values may have variables, such as `{client}`.
    pub request_headers: HeaderEdits,
    /// Edits of the response header fields. Values may have variables, such as `{request_id}`.
    pub response_headers: HeaderEdits,
    /// Header fields that make browsers stricter: `default` or `off`. Fields of a backend take precedence.
    pub security_headers: SecurityHeaders,
    /// Limits for the request.
    pub limits: RouteLimits,
    /// Networks whose clients may use the route; empty: all. A list, or `{ file: … }` with one network per line. Others
    /// get 403.
    pub allow: Networks,
    /// Networks whose clients are refused. It takes precedence over `allow`.
    pub deny: Networks,
    /// How the route answers during maintenance.
    pub maintenance: MaintenanceSettings,
    /// Names of `rate_limits` that apply to the request, in this order. One refusal is enough.
    pub rate_limits: Vec<Name>,
    /// Access policies that a request must satisfy: a list of names of `auth`, which all must let it pass, or
    /// `{ any: [a, b] }`.
    pub auth: RouteAuth,
    /// Timeouts towards backends.
    pub timeouts: RouteTimeouts,
    /// When a request is retried on another backend.
    pub retry: Retry,
    /// Pages in place of Weir's own error responses, by status: `502`, `4xx` or `5xx`.
    pub errors: Errors,
    /// Cross-origin resource sharing (CORS), or `off`.
    pub cors: Cors,
    /// Compression of responses, or `off`. `{}` takes the default of each key.
    pub compress: Compression,
    /// Decode gzip, br and zstd of backends for clients that do not accept the coding.
    pub decompress: bool,
}

/// `routes[].redirect`.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RedirectSettings {
    /// The Location field. It may have variables, such as `https://{hostname}{path}{query}`. Values of header fields
    /// are percent-encoded as one component.
    pub to: String,
    /// 301, 302, 303, 307 or 308.
    #[serde(default = "permanent_redirect")]
    pub status: u16,
}

/// `routes[].respond`.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RespondSettings {
    /// The status. 204 and 304 have no body.
    #[schemars(range(min = 200, max = 599))]
    pub status: u16,
    /// The body.
    #[serde(default)]
    pub body: String,
    /// A file with the body, of at most 4MiB. Changes of the file are served within a few seconds.
    #[serde(default)]
    pub body_file: Option<PathBuf>,
    /// Header fields. If Content-Type is not set here, it is text/plain for `body`, and the name of `body_file` decides.
    #[serde(default)]
    pub headers: BTreeMap<String, String>,
}

/// `routes[].rewrite`: edits of the path. `strip_prefix` is applied before `add_prefix`.
#[derive(Debug, Clone, PartialEq, Default, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct RewriteSettings {
    /// Removed from the start of the path, by whole segments.
    pub strip_prefix: Option<String>,
    /// Added to the start of the path.
    pub add_prefix: Option<String>,
}

/// `routes[].host`: the Host field that backends receive.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize, Serialize, JsonSchema)]
#[serde(from = "String", into = "String")]
#[schemars(with = "String")]
pub enum HostRule {
    /// The Host of the client's request.
    #[default]
    Keep,
    /// The backend's address as configured.
    Backend,
    /// A fixed name.
    Name(String),
}

impl From<String> for HostRule {
    fn from(text: String) -> Self {
        match text.as_str() {
            "keep" => Self::Keep,
            "backend" => Self::Backend,
            _ => Self::Name(text),
        }
    }
}

impl From<HostRule> for String {
    fn from(rule: HostRule) -> Self {
        match rule {
            HostRule::Keep => "keep".into(),
            HostRule::Backend => "backend".into(),
            HostRule::Name(name) => name,
        }
    }
}

/// `routes[].limits`: limits for the request.
#[derive(Debug, Clone, PartialEq, Default, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct RouteLimits {
    /// Maximum size of a request body. Larger: 413. 0: no limit. The bytes of a WebSocket do not count.
    pub body: Size,
}

/// `routes[].retry`: when a request is retried on another backend.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Retry {
    /// Maximum number of attempts, including the first; 1: no retry.
    #[schemars(range(min = 1, max = 16))]
    pub attempts: u8,
    /// Failures that are retried: `connect`, `reset`, `timeout`, or a status from 400 to 599.
    pub when: Vec<RetryWhen>,
    /// Retry budget: the share of requests that may be retried after bytes were sent.
    pub budget: Percent,
    /// Retries per second that are allowed regardless of the budget, as an average over 10 s.
    #[schemars(range(min = 0, max = 1000000))]
    pub floor: u32,
    /// Upper bound of the random wait before the second attempt. It doubles for each further attempt, up to 10s.
    pub backoff: Period,
}

impl Default for Server {
    fn default() -> Self {
        Self {
            threads: 0,
            shutdown_grace: Period::from_secs(30),
            lame_duck: Period::ZERO,
            pid_file: None,
            user: None,
            upstream_idle_connections: 1024,
            state_dir: None,
        }
    }
}

impl Default for ListenerTimeouts {
    fn default() -> Self {
        Self {
            header: Period::from_secs(10),
            idle: Period::from_secs(75),
            body: Period::from_secs(30),
            write: Period::from_secs(30),
            handshake: Period::from_secs(10),
        }
    }
}

impl Default for ListenerLimits {
    fn default() -> Self {
        Self {
            connections: 0,
            connections_per_ip: 0,
            requests_per_connection: 0,
            header_bytes: Size::kib(32),
            headers: 100,
            uri_bytes: Size::kib(8),
            streams: 100,
        }
    }
}

impl Default for Retry {
    fn default() -> Self {
        Self {
            attempts: 3,
            when: vec![RetryWhen::Connect, RetryWhen::Reset],
            budget: Percent::new(20.0),
            floor: 10,
            backoff: Period::ZERO,
        }
    }
}

fn yes() -> bool {
    true
}

fn permanent_redirect() -> u16 {
    308
}
