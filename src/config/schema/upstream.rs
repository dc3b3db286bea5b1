//! `upstreams`: load balancing, connections, health checks, outlier detection, queueing and backends.
//!
//! This module never checks rules that involve two keys: `check` does that.

use std::collections::BTreeMap;
use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::super::values::{BackendAddress, DnsName, Method, Name, NameServer, Pattern, Percent, Period, StatusRange};
use super::{CertificatePair, OutlierDetection, StickySettings};

/// One of `upstreams`.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct UpstreamSettings {
    /// The load balancing algorithm.
    pub balance: Balance,
    /// The hash key of `consistent_hash`, and its load bound.
    pub hash: Option<Hash>,
    /// Settings of `peak_ewma`.
    pub ewma: Option<Ewma>,
    /// Protocol towards backends.
    pub protocol: Protocol,
    /// TLS to backends.
    pub tls: Option<UpstreamTls>,
    /// Send a PROXY header with the client's address on each connection. Connections are then not reused.
    pub send_proxy: Option<SendProxy>,
    /// How long an idle connection to a backend stays open. `Keep-Alive: timeout=n` of a backend shortens it to n minus
    /// 1 s.
    pub keep_alive: Period,
    /// The backends.
    pub backends: Vec<BackendSettings>,
    /// Dynamic discovery of further backends.
    pub discover: Option<Discover>,
    /// Active health checks; default: none, every backend counts as healthy.
    pub health_check: Option<HealthCheck>,
    /// Threshold of healthy backends in a tier, by weight. Below it, the next tier takes part of the requests: at half
    /// the threshold, half of them. 0%: the next tier is used only if no backend of this tier is healthy.
    pub tier_min_up: Percent,
    /// Slow start of a backend that becomes healthy later than others: the time in which its weight grows from a tenth
    /// to the whole. 0s: off.
    pub slow_start: Period,
    /// Share of healthy backends in a tier below which requests also go to unhealthy backends. This protects the few
    /// healthy ones from overload. 0%: never.
    pub panic_threshold: Percent,
    /// If no backend is healthy, send requests to unhealthy backends.
    pub fail_open: bool,
    /// Outlier detection: ejects backends whose requests fail. Enabled by default.
    pub outlier: OutlierDetection,
    /// Maximum concurrent requests per backend; 0: no limit.
    #[schemars(range(min = 0, max = 1000000))]
    pub max_in_flight: u32,
    /// Queue for requests while all backends have `max_in_flight`; default: none, such requests are answered 503 at
    /// once.
    pub queue: Option<QueueSettings>,
    /// Session affinity; default: the balancer chooses a backend for each request.
    pub sticky: Option<StickySettings>,
}

/// The load balancing algorithm.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Balance {
    /// Each backend in turn.
    #[default]
    RoundRobin,
    /// In turn, in proportion to weight, spread smoothly.
    WeightedRoundRobin,
    /// The fewest requests in flight relative to weight.
    LeastConnections,
    /// Of two random backends, the one with fewer requests in flight relative to weight. For hundreds of backends.
    P2c,
    /// Of two random backends, the one that is expected to answer sooner: by latency, requests in flight and weight.
    PeakEwma,
    /// The same backend for the same `hash`, as long as it is available.
    ConsistentHash,
    /// At random, in proportion to weight.
    Random,
}

/// `upstreams.*.hash`: the hash key of `consistent_hash`. Set exactly one of `header`, `cookie`, `query`, `path`,
/// `host` and `client`. A request without this key goes to a random backend.
#[derive(Debug, Clone, PartialEq, Default, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Hash {
    /// The value of this header field.
    pub header: Option<String>,
    /// The value of this cookie.
    pub cookie: Option<String>,
    /// The value of this query parameter, not decoded.
    pub query: Option<String>,
    /// The path, without the query: `{}`.
    pub path: Option<Whole>,
    /// The host, without the port: `{}`.
    pub host: Option<Whole>,
    /// The client's address: `{}`.
    pub client: Option<Whole>,
    /// Maximum load of a backend as a multiple of its fair share by weight, 1 to 10. Excess requests go to others.
    /// Default: no bound.
    #[schemars(range(min = 1, max = 10))]
    pub load_factor: Option<f64>,
}

/// A hash key that needs no name. It has no keys.
#[derive(Debug, Clone, PartialEq, Default, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Whole {}

/// `upstreams.*.ewma`: settings of `peak_ewma`.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Ewma {
    /// Time constant of the moving average: a latency sample loses 63 % of its weight in this time. 100 ms to 1 h.
    pub decay: Period,
}

/// Protocol towards backends.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Protocol {
    /// HTTP/1.1, with TLS if `tls` is set.
    #[default]
    Http1,
    /// HTTP/2 with TLS; needs `tls`.
    H2,
    /// HTTP/2 by prior knowledge, without TLS.
    H2c,
}

/// The version of the PROXY header sent to backends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum SendProxy {
    /// Version 2, binary.
    V2,
}

/// `upstreams.*.tls`: TLS to backends. Certificates are always verified.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct UpstreamTls {
    /// The name sent as SNI. The backend's certificate must be valid for it.
    pub server_name: String,
    /// A PEM file of CA certificates that replace those of the system. It is read again when it changes.
    #[serde(default)]
    pub ca: Option<PathBuf>,
    /// The client certificate for backends that request one.
    #[serde(default)]
    pub certificate: Option<CertificatePair>,
}

/// One of `upstreams.*.backends`.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct BackendSettings {
    /// Name in metrics and logs; default: the address.
    #[serde(default)]
    pub name: Option<Name>,
    /// `ip:port`, `[v6]:port`, `unix:/path` or `name:port`.
    pub address: BackendAddress,
    /// Its weight; 0: no new requests.
    #[serde(default = "one")]
    #[schemars(range(min = 0, max = 256))]
    pub weight: u16,
    /// Tier 0 is used first. A higher tier is used when the lower ones lack healthy backends.
    #[serde(default)]
    pub tier: u8,
}

/// `upstreams.*.discover`: exactly one of `dns`, `srv` and `file`. The last good result stays in use until there is a
/// new one.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Discover {
    /// A DNS name. Each of its addresses (A and AAAA) is a backend at `port`.
    pub dns: Option<DnsName>,
    /// The port of the backends that `dns` finds.
    #[schemars(range(min = 1, max = 65535))]
    pub port: Option<u16>,
    /// A DNS service name (`_http._tcp.api.internal`). Each address of its targets is a backend with the record's port
    /// and weight; the priority is its tier.
    pub srv: Option<DnsName>,
    /// A file with a list like `backends`, as YAML or JSON. It is read again when it changes.
    pub file: Option<PathBuf>,
    /// The DNS server, `ip` or `ip:port`; default: those of the system.
    pub resolver: Option<NameServer>,
    /// Minimum time between two queries, regardless of the TTL; 100 ms to 24 h.
    pub min_ttl: Period,
    /// Maximum time between two queries, regardless of the TTL; 100 ms to 24 h.
    pub max_ttl: Period,
}

/// `upstreams.*.health_check`: exactly one of `http`, `tcp` and `grpc`.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct HealthCheck {
    /// An HTTP request.
    pub http: Option<HttpCheck>,
    /// A TCP connection only.
    pub tcp: Option<TcpCheck>,
    /// A call of the gRPC health service (grpc.health.v1.Health/Check); needs `protocol: h2` or `h2c`.
    pub grpc: Option<GrpcCheck>,
    /// Port to probe; default: the backend's own port.
    #[schemars(range(min = 1, max = 65535))]
    pub port: Option<u16>,
    /// Time between two probes.
    pub interval: Period,
    /// Time limit of a whole probe.
    pub timeout: Period,
    /// Consecutive successes after which a backend is healthy.
    #[schemars(range(min = 1, max = 1000))]
    pub rise: u32,
    /// Consecutive failures after which a backend is unhealthy.
    #[schemars(range(min = 1, max = 1000))]
    pub fall: u32,
    /// Random variation of the interval, as a share of it. It spreads the probes.
    pub jitter: Percent,
}

/// `upstreams.*.queue`: a FIFO queue for requests.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct QueueSettings {
    /// Maximum number of waiting requests. More: 503.
    #[schemars(range(min = 1, max = 1000000))]
    pub size: u32,
    /// Maximum total wait of a request, over all its attempts. Then it goes to a backend that it has tried, or gets
    /// 503.
    pub timeout: Period,
}

/// `upstreams.*.health_check.http`.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct HttpCheck {
    /// The request target.
    pub path: String,
    /// The Host field; default: the backend's address.
    pub host: Option<String>,
    /// GET, HEAD, OPTIONS or POST (without a body).
    pub method: Method,
    /// Header fields to send.
    pub headers: BTreeMap<String, String>,
    /// Statuses that pass: `200` or `200-299`.
    pub status: Vec<StatusRange>,
    /// A condition on the first 64 KiB of the body.
    pub body: Option<BodyCheck>,
}

/// `upstreams.*.health_check.http.body`: exactly one of the two.
#[derive(Debug, Clone, PartialEq, Default, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct BodyCheck {
    /// A text that must occur.
    pub contains: Option<String>,
    /// A regular expression that must match anywhere.
    pub regex: Option<Pattern>,
}

/// `upstreams.*.health_check.tcp`: it has no keys.
#[derive(Debug, Clone, PartialEq, Default, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TcpCheck {}

/// `upstreams.*.health_check.grpc`.
#[derive(Debug, Clone, PartialEq, Default, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct GrpcCheck {
    /// The service that must be SERVING; empty: the whole server.
    pub service: String,
}

impl Default for UpstreamSettings {
    fn default() -> Self {
        Self {
            balance: Balance::default(),
            hash: None,
            ewma: None,
            protocol: Protocol::default(),
            tls: None,
            send_proxy: None,
            keep_alive: Period::from_secs(50),
            backends: Vec::new(),
            discover: None,
            health_check: None,
            tier_min_up: Percent::new(0.0),
            slow_start: Period::ZERO,
            panic_threshold: Percent::new(0.0),
            fail_open: true,
            outlier: OutlierDetection::default(),
            max_in_flight: 0,
            queue: None,
            sticky: None,
        }
    }
}

impl Default for Ewma {
    fn default() -> Self {
        Self { decay: Period::from_secs(10) }
    }
}

impl Default for Discover {
    fn default() -> Self {
        Self {
            dns: None,
            port: None,
            srv: None,
            file: None,
            resolver: None,
            min_ttl: Period::from_secs(1),
            max_ttl: Period::from_secs(60),
        }
    }
}

impl Default for HealthCheck {
    fn default() -> Self {
        Self {
            http: None,
            tcp: None,
            grpc: None,
            port: None,
            interval: Period::from_secs(2),
            timeout: Period::from_secs(1),
            rise: 2,
            fall: 3,
            jitter: Percent::new(10.0),
        }
    }
}

impl Default for QueueSettings {
    fn default() -> Self {
        Self { size: 1000, timeout: Period::from_secs(2) }
    }
}

impl Default for HttpCheck {
    fn default() -> Self {
        Self {
            path: "/healthz".into(),
            host: None,
            method: Method::get(),
            headers: BTreeMap::new(),
            status: vec![StatusRange::new(200, 299)],
            body: None,
        }
    }
}

fn one() -> u16 {
    1
}
