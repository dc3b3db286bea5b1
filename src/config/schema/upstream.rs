//! The document's `upstreams`: balancing, connections, checks, ejection and waiting, and the backends themselves.
//!
//! Like all of the schema it judges nothing that needs two keys: that is `check`'s.

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
    /// The algorithm that picks a backend.
    pub balance: Balance,
    /// What of a request `consistent_hash` goes by, and how evenly.
    pub hash: Option<Hash>,
    /// How `peak_ewma` forgets.
    pub ewma: Option<Ewma>,
    /// What backends speak.
    pub protocol: Protocol,
    /// TLS to backends.
    pub tls: Option<UpstreamTls>,
    /// Begin each connection to a backend with a PROXY header that names the client; no connection is kept then.
    pub send_proxy: Option<SendProxy>,
    /// How long an idle connection to a backend is kept; shorter where the backend says so (`Keep-Alive: timeout=n`, minus 1 s).
    pub keep_alive: Period,
    /// The members.
    pub backends: Vec<BackendSettings>,
    /// Where more members are found, while it runs.
    pub discover: Option<Discover>,
    /// How backends are probed; without it a backend is up.
    pub health_check: Option<HealthCheck>,
    /// The share of a tier, by weight, below which the next tier takes part of its requests: with half of this share up,
    /// half of them. 0%: only when nothing of a tier is up.
    pub tier_min_up: Percent,
    /// How long a backend that comes up later than others takes to reach its weight, from a tenth of it on. 0s: none.
    pub slow_start: Period,
    /// Below this share of healthy backends in a tier, requests go to those that are down as well, rather than flood the
    /// few that are left. 0%: never.
    pub panic_threshold: Percent,
    /// With none healthy, try them anyway.
    pub fail_open: bool,
    /// Ejects backends that fail their traffic; on by default.
    pub outlier: OutlierDetection,
    /// Requests that one backend may have in flight at once; 0: no limit.
    #[schemars(range(min = 0, max = 1000000))]
    pub max_in_flight: u32,
    /// Where requests wait while all backends have `max_in_flight`; without it they are answered 503 at once.
    pub queue: Option<QueueSettings>,
    /// Keeps a client with the backend that served it first; without it the balancer decides each request anew.
    pub sticky: Option<StickySettings>,
}

/// The algorithm that picks a backend.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Balance {
    /// Equal turns in order.
    #[default]
    RoundRobin,
    /// Turns by weight, spread smoothly.
    WeightedRoundRobin,
    /// The fewest requests in flight for its weight.
    LeastConnections,
    /// Of two by chance, the one with fewer requests in flight for its weight: for hundreds of backends.
    P2c,
    /// Of two by chance, the one that answers sooner: by latency, requests in flight and weight.
    PeakEwma,
    /// The same one for the same `hash`, as long as it is there.
    ConsistentHash,
    /// By chance, by weight.
    Random,
}

/// `upstreams.*.hash`: what of a request `consistent_hash` goes by, exactly one of `header`, `cookie`, `query`, `path`,
/// `host` and `client`; a request without it goes to a backend by chance.
#[derive(Debug, Clone, PartialEq, Default, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Hash {
    /// The value of this header field.
    pub header: Option<String>,
    /// The value of this cookie.
    pub cookie: Option<String>,
    /// The value of this parameter of the query, as the client wrote it.
    pub query: Option<String>,
    /// The path, without the query: `{}`.
    pub path: Option<Whole>,
    /// The host, without the port: `{}`.
    pub host: Option<Whole>,
    /// The client's address: `{}`.
    pub client: Option<Whole>,
    /// How many times an even load, by weight, a backend may carry; what is beyond goes to others. 1 to 10; none: no bound.
    #[schemars(range(min = 1, max = 10))]
    pub load_factor: Option<f64>,
}

/// Something of a request that needs no name: has no keys.
#[derive(Debug, Clone, PartialEq, Default, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Whole {}

/// `upstreams.*.ewma`: how `peak_ewma` forgets.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Ewma {
    /// In which time an observed latency loses 63 % of its weight (the mean's time constant), 100 ms to 1 h.
    pub decay: Period,
}

/// What backends speak.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Protocol {
    /// HTTP/1.1, over TLS when `tls` is written.
    #[default]
    Http1,
    /// HTTP/2 over TLS; needs `tls`.
    H2,
    /// HTTP/2 by prior knowledge, without TLS.
    H2c,
}

/// The version of the PROXY header that backends get.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum SendProxy {
    /// Binary.
    V2,
}

/// `upstreams.*.tls`: TLS to backends. Certificates are always verified.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct UpstreamTls {
    /// The name that is sent (SNI) and that the certificate must carry.
    pub server_name: String,
    /// A PEM file of the authorities to trust instead of the system's. Read again when it changes.
    #[serde(default)]
    pub ca: Option<PathBuf>,
    /// What Weir shows of itself where backends ask.
    #[serde(default)]
    pub certificate: Option<CertificatePair>,
}

/// One of `upstreams.*.backends`.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct BackendSettings {
    /// What it is called in metrics and logs; the address when left out.
    #[serde(default)]
    pub name: Option<Name>,
    /// `ip:port`, `[v6]:port`, `unix:/path` or `name:port`.
    pub address: BackendAddress,
    /// Its share; 0 takes no new requests.
    #[serde(default = "one")]
    #[schemars(range(min = 0, max = 256))]
    pub weight: u16,
    /// Tier 0 serves first; a higher one when those before it cannot.
    #[serde(default)]
    pub tier: u8,
}

/// `upstreams.*.discover`: exactly one of `dns`, `srv` and `file`. What is found is kept until something else is.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Discover {
    /// A name: each of its addresses (A and AAAA) is a backend at `port`.
    pub dns: Option<DnsName>,
    /// The port of what `dns` finds.
    #[schemars(range(min = 1, max = 65535))]
    pub port: Option<u16>,
    /// A service (`_http._tcp.api.internal`): each address of its targets is a backend, with the record's port, weight and,
    /// as its tier, priority.
    pub srv: Option<DnsName>,
    /// A file with a list like that of `backends`, as YAML or JSON; it is read again when it changes.
    pub file: Option<PathBuf>,
    /// The DNS server that is asked, `ip` or `ip:port`; the system's when left out.
    pub resolver: Option<NameServer>,
    /// A name is not asked for again sooner, whatever its TTL; 100 ms to 24 h.
    pub min_ttl: Period,
    /// A name is asked for again after this long, whatever its TTL; 100 ms to 24 h.
    pub max_ttl: Period,
}

/// `upstreams.*.health_check`: exactly one of `http`, `tcp` and `grpc`.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct HealthCheck {
    /// An HTTP request.
    pub http: Option<HttpCheck>,
    /// A connection, nothing more.
    pub tcp: Option<TcpCheck>,
    /// A call of gRPC's own health check (grpc.health.v1.Health/Check); needs `protocol: h2` or `h2c`.
    pub grpc: Option<GrpcCheck>,
    /// Probe this port instead of the backend's own.
    #[schemars(range(min = 1, max = 65535))]
    pub port: Option<u16>,
    /// From one probe to the next.
    pub interval: Period,
    /// How long a whole probe may take.
    pub timeout: Period,
    /// Successes in a row that bring a backend up.
    #[schemars(range(min = 1, max = 1000))]
    pub rise: u32,
    /// Failures in a row that take it down.
    #[schemars(range(min = 1, max = 1000))]
    pub fall: u32,
    /// The share of the interval by which each wait is varied, to spread probes.
    pub jitter: Percent,
}

/// `upstreams.*.queue`: first come, first served.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct QueueSettings {
    /// Requests that may wait at once; 503 beyond.
    #[schemars(range(min = 1, max = 1000000))]
    pub size: u32,
    /// How long one may wait, over all its tries; then 503, or a backend that it has tried.
    pub timeout: Period,
}

/// `upstreams.*.health_check.http`.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct HttpCheck {
    /// The request target.
    pub path: String,
    /// The Host header; the backend's address when left out.
    pub host: Option<String>,
    /// GET, HEAD, OPTIONS or POST (without a body).
    pub method: Method,
    /// Header fields to send.
    pub headers: BTreeMap<String, String>,
    /// The statuses that pass: `200` or `200-299`.
    pub status: Vec<StatusRange>,
    /// What the first 64 KiB of the body must show.
    pub body: Option<BodyCheck>,
}

/// `upstreams.*.health_check.http.body`: exactly one of the two.
#[derive(Debug, Clone, PartialEq, Default, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct BodyCheck {
    /// A text that must occur.
    pub contains: Option<String>,
    /// A regular expression that must match somewhere.
    pub regex: Option<Pattern>,
}

/// `upstreams.*.health_check.tcp`: has no keys.
#[derive(Debug, Clone, PartialEq, Default, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TcpCheck {}

/// `upstreams.*.health_check.grpc`.
#[derive(Debug, Clone, PartialEq, Default, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct GrpcCheck {
    /// The service that must be SERVING; empty: the server as a whole.
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
