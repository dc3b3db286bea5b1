//! The document: the configuration as the YAML says it, one struct a section, defaults beside the keys.
//!
//! These types are the single source of the parser, of `weir schema` and of docs/configuration.md. They hold no
//! reference to another section resolved and judge nothing that needs two keys: that is `check`'s.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::values::{
    Cidr, HeaderEdits, HostPattern, LogTarget, Method, Name, Pattern, Percent, Period, RetryWhen, Size,
};

mod acme;
mod admin;
mod outlier;
mod paths;
mod sticky;
mod tls;
mod upstream;

pub use acme::{AcmeChallenge, AcmeSettings};
pub use admin::{Admin, AdminSettings};
pub use outlier::{Outlier, OutlierDetection};
pub use paths::{EncodedSlash, ListenerPaths};
pub use sticky::{CookieAttributes, SameSite, StickySettings};
pub use tls::{CertificatePair, ClientAuth, ClientAuthMode, Hsts, ListenerTls, RedirectHttps, Suite};
pub use upstream::{
    BackendSettings, Balance, BodyCheck, Discover, Ewma, GrpcCheck, Hash, HealthCheck, HttpCheck, Protocol,
    QueueSettings, SendProxy, TcpCheck, UpstreamSettings, UpstreamTls, Whole,
};

/// The whole file.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Document {
    /// What belongs to the process; fixed for its life, but for the two waits.
    pub server: Server,
    /// The process's own log, on stderr.
    pub log: Log,
    /// The operator's listener: metrics, status page, API; `off`: none. Never a public address.
    pub admin: Admin,
    /// One line a request.
    pub access_log: AccessLogSettings,
    /// Networks whose forwarded headers are believed.
    pub trusted_proxies: Vec<Cidr>,
    /// Which headers tell backends about the client.
    pub forwarded: Forwarded,
    /// Addresses that Weir accepts connections on.
    pub listeners: Vec<ListenerConfig>,
    /// Rules that match requests and say what happens to them. Specificity decides, not order.
    pub routes: Vec<RouteSettings>,
    /// Named groups of interchangeable backends.
    pub upstreams: BTreeMap<Name, UpstreamSettings>,
}

/// `server`: what belongs to the process.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Server {
    /// Threads that carry requests; 0: one per core.
    #[schemars(range(min = 0, max = 1024))]
    pub threads: usize,
    /// How long requests and streams under way get to finish once the listeners are closed.
    pub shutdown_grace: Period,
    /// How long listeners go on accepting after `/readyz` has turned 503.
    pub lame_duck: Period,
    /// Where to write the process id; removed at exit.
    pub pid_file: Option<PathBuf>,
    /// The user to become once the sockets are bound; CAP_NET_BIND_SERVICE is kept.
    pub user: Option<String>,
    /// Idle connections kept open to all backends together, per thread.
    #[schemars(range(min = 0, max = 65536))]
    pub upstream_idle_connections: usize,
    /// The folder of what Weir keeps over restarts: accounts and certificates of `tls.acme`. Several processes may share it.
    pub state_dir: Option<PathBuf>,
}

/// `log`: the process's own log.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Log {
    /// The least severe level that is written.
    pub level: LogLevel,
    /// How a line looks.
    pub format: LogFormat,
}

/// Severity of the process's own log.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum LogLevel {
    /// Only what needs a hand.
    Error,
    /// And what looks wrong.
    Warn,
    /// And what changes: starts, reloads, health.
    #[default]
    Info,
    /// And each connection's troubles.
    Debug,
    /// And everything Pingora says.
    Trace,
}

/// Shape of the process's own log.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One object a line.
    Json,
}

/// `access_log`: one line a request.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct AccessLogSettings {
    /// `stdout`, `off` or a file.
    pub path: LogTarget,
    /// How a line looks.
    pub format: AccessLogFormat,
}

/// Shape of an access log line.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum AccessLogFormat {
    /// One object a line.
    #[default]
    Json,
}

/// `forwarded`: which headers tell backends about the client.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
pub enum Forwarded {
    /// X-Forwarded-For, -Proto, -Host and X-Real-IP.
    #[default]
    #[serde(rename = "x-forwarded")]
    XForwarded,
    /// Forwarded, as RFC 7239 has it.
    #[serde(rename = "rfc7239")]
    Rfc7239,
    /// Both families.
    #[serde(rename = "both")]
    Both,
}

/// One of `listeners`.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ListenerConfig {
    /// What it is called in metrics and logs; the address when left out.
    #[serde(default)]
    pub name: Option<Name>,
    /// IP address and port; `[::]:8080` takes IPv4 too.
    pub address: SocketAddr,
    /// HTTP/2 beside HTTP/1.1: by ALPN under TLS, by prior knowledge on a plain port.
    #[serde(default = "yes")]
    pub http2: bool,
    /// TLS towards clients; without it the port is plain.
    #[serde(default)]
    pub tls: Option<ListenerTls>,
    /// On a plain port: every request is answered with a redirect (308) to the same address by https; a number is the port
    /// there where it is not 443. Routes that name this listener are served all the same.
    #[serde(default)]
    pub redirect_https: RedirectHttps,
    /// Whether every connection begins with a PROXY header (version 1 or 2), which is believed from `trusted_proxies` only.
    #[serde(default)]
    pub proxy_protocol: bool,
    /// How paths are read before routes are matched.
    #[serde(default)]
    pub paths: ListenerPaths,
    /// Deadlines towards clients.
    #[serde(default)]
    pub timeouts: ListenerTimeouts,
    /// Bounds on what clients may ask for.
    #[serde(default)]
    pub limits: ListenerLimits,
}

/// `listeners[].timeouts`: deadlines towards clients.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ListenerTimeouts {
    /// From a request's first byte to the end of its header; from the accept for the first one. Cannot be off.
    pub header: Period,
    /// How long a connection may stay without a request; cannot be off.
    pub idle: Period,
    /// The wait for the next bytes of a request's body.
    pub body: Period,
    /// The wait for a client to take the next bytes of a response.
    pub write: Period,
    /// The whole TLS handshake, from the accept; cannot be off.
    pub handshake: Period,
}

/// `listeners[].limits`: bounds on what clients may ask for.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ListenerLimits {
    /// Connections open at once; 0: no limit.
    pub connections: usize,
    /// The same for each client: an IPv4 address, or an IPv6 network of 64 bits. 0: no limit.
    pub connections_per_ip: usize,
    /// Requests that a connection may bring before it is closed; 0: no limit.
    pub requests_per_connection: usize,
    /// Bytes of a request line and its header together, 1KiB to 1MiB; 431 beyond.
    pub header_bytes: Size,
    /// Header fields of a request; 431 beyond.
    #[schemars(range(min = 1, max = 250))]
    pub headers: usize,
    /// Bytes of a request target, 1B to 1MiB; 414 beyond.
    pub uri_bytes: Size,
    /// HTTP/2 streams open at once on a connection.
    #[schemars(range(min = 1, max = 10000))]
    pub streams: u32,
}

/// One of `routes`.
#[derive(Debug, Clone, PartialEq, Default, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct RouteSettings {
    /// What it is called in metrics and logs; `route-N` when left out, N its place in the file from 1.
    pub name: Option<Name>,
    /// Which requests it is for; empty: all.
    #[serde(rename = "match")]
    pub matches: Match,
    /// Send to this upstream.
    pub upstream: Option<Name>,
    /// Send to one of several upstreams, by weight.
    pub split: Option<Vec<SplitTarget>>,
    /// Answer with a redirect.
    pub redirect: Option<RedirectSettings>,
    /// Answer with this.
    pub respond: Option<RespondSettings>,
    /// Change the path before it is sent.
    pub rewrite: Option<RewriteSettings>,
    /// The Host that backends see: `keep`, `backend` or a name.
    pub host: HostRule,
    /// Edits to the request's header.
    pub request_headers: HeaderEdits,
    /// Edits to the response's header.
    pub response_headers: HeaderEdits,
    /// Bounds on the request.
    pub limits: RouteLimits,
    /// Deadlines towards backends.
    pub timeouts: RouteTimeouts,
    /// When another backend is tried.
    pub retry: Retry,
}

/// `routes[].match`: all that is written must hold.
#[derive(Debug, Clone, PartialEq, Default, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Match {
    /// Names of listeners; the route does not exist on any other. Empty: all listeners.
    pub listeners: Vec<String>,
    /// Names without a port; `*.example.org` covers any depth below it.
    pub hosts: Vec<HostPattern>,
    /// This path and no other; `*` is that of `OPTIONS *`.
    pub path: Option<String>,
    /// This path and all below it, by whole segments.
    pub path_prefix: Option<String>,
    /// A regular expression searched for in the path (not anchored).
    pub path_regex: Option<Pattern>,
    /// Any of these.
    pub methods: Vec<Method>,
    /// All of these, value for value.
    pub headers: BTreeMap<String, String>,
}

/// One of `routes[].split`.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SplitTarget {
    /// The upstream.
    pub upstream: Name,
    /// Its share of the sum of all weights.
    pub weight: u16,
}

/// `routes[].redirect`.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RedirectSettings {
    /// The Location; `{scheme}`, `{host}` (with its port), `{hostname}`, `{port}`, `{path}` and `{query}` (with its `?`) are the
    /// request's. Where the request names no port, `{port}` is its scheme's, 80 or 443.
    pub to: String,
    /// 301, 302, 303, 307 or 308.
    #[serde(default = "permanent_redirect")]
    pub status: u16,
}

/// `routes[].respond`.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RespondSettings {
    /// The status; 204 and 304 have no body.
    #[schemars(range(min = 200, max = 599))]
    pub status: u16,
    /// The body.
    #[serde(default)]
    pub body: String,
    /// Header fields; Content-Type is text/plain unless set here.
    #[serde(default)]
    pub headers: BTreeMap<String, String>,
}

/// `routes[].rewrite`: what is stripped comes off before what is added.
#[derive(Debug, Clone, PartialEq, Default, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct RewriteSettings {
    /// Taken off the path's front, by whole segments.
    pub strip_prefix: Option<String>,
    /// Put before the path.
    pub add_prefix: Option<String>,
}

/// `routes[].host`: the Host that backends see.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize, Serialize, JsonSchema)]
#[serde(from = "String", into = "String")]
#[schemars(with = "String")]
pub enum HostRule {
    /// The client's own.
    #[default]
    Keep,
    /// The backend's address as configured.
    Backend,
    /// This one.
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

/// `routes[].limits`: bounds on the request.
#[derive(Debug, Clone, PartialEq, Default, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct RouteLimits {
    /// Bytes of a request's body; 413 beyond. 0: no limit.
    pub body: Size,
}

/// `routes[].timeouts`: deadlines towards backends. 0s: none.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct RouteTimeouts {
    /// To open a connection, TLS included.
    pub connect: Period,
    /// The wait for a backend's next bytes, the response header included.
    pub read: Period,
    /// The wait for a backend to take the next bytes.
    pub write: Period,
    /// The whole request, retries and body included.
    pub request: Period,
    /// Replaces read and write after an upgrade (WebSocket), both ways.
    pub tunnel: Period,
}

/// `routes[].retry`: when another backend is tried.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Retry {
    /// Tries in all, the first included; 1: no retry.
    #[schemars(range(min = 1, max = 16))]
    pub attempts: u8,
    /// What is worth another try: `connect`, `reset`, `timeout`, or a status from 400 to 599.
    pub when: Vec<RetryWhen>,
    /// The share of requests that may be retried after bytes were sent.
    pub budget: Percent,
    /// Retries a second that are allowed whatever the share, on average over 10 s.
    #[schemars(range(min = 0, max = 1000000))]
    pub floor: u32,
    /// The second try waits a random time up to this, each further one up to twice as long as the one before, up to 10s.
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

impl Default for RouteTimeouts {
    fn default() -> Self {
        Self {
            connect: Period::from_secs(3),
            read: Period::from_secs(60),
            write: Period::from_secs(60),
            request: Period::ZERO,
            tunnel: Period::from_secs(3600),
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
