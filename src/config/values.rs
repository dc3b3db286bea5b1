//! Scalar types of the document. Each parses its own text, and its error message describes the accepted form.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::Visitor;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Implements serde and the JSON Schema for a type that is written as text. It needs `FromStr` with a message, and
/// `Display`.
macro_rules! text_value {
    ($type:ty, $title:literal, $pattern:expr, $expected:literal) => {
        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                struct Text;
                impl Visitor<'_> for Text {
                    type Value = $type;
                    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                        f.write_str($expected)
                    }
                    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<$type, E> {
                        text.parse().map_err(E::custom)
                    }
                }
                deserializer.deserialize_str(Text)
            }
        }
        impl Serialize for $type {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }
        impl JsonSchema for $type {
            fn schema_name() -> Cow<'static, str> {
                $title.into()
            }
            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!({ "type": "string", "pattern": $pattern })
            }
        }
    };
}

mod admin_address;
mod claim_value;
mod dns;
mod http_url;
mod limit_rate;
mod media_pattern;
mod redis_url;
mod retry_when;
mod unicast;

pub use admin_address::AdminAddress;
pub use claim_value::ClaimValue;
pub use dns::{DnsName, NameServer};
pub use http_url::HttpUrl;
pub use limit_rate::{LimitRate, MAX_TOKENS};
pub use media_pattern::MediaPattern;
pub use redis_url::{RedisTarget, RedisUrl};
pub use retry_when::RetryWhen;
pub use unicast::is_unicast;

/// A duration: `250ms`, `2s`, `5m`, `1h`. At most a year.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Period(Duration);

impl Period {
    /// Zero; for most keys it means "no limit".
    pub const ZERO: Self = Self(Duration::ZERO);

    /// A number of seconds.
    pub const fn from_secs(secs: u64) -> Self {
        Self(Duration::from_secs(secs))
    }

    /// A number of milliseconds.
    pub const fn from_millis(millis: u64) -> Self {
        Self(Duration::from_millis(millis))
    }

    /// The duration.
    pub const fn get(self) -> Duration {
        self.0
    }

    /// The duration as a limit; `None` if it is zero.
    pub fn limit(self) -> Option<Duration> {
        (!self.0.is_zero()).then_some(self.0)
    }
}

impl FromStr for Period {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
        let (number, unit) = text.split_at(digits);
        let number: u64 =
            number.parse().map_err(|_| format!("`{text}` is not a duration; write `250ms`, `2s`, `5m` or `1h`"))?;
        let millis = match unit {
            "ms" => Some(number),
            "s" => number.checked_mul(1_000),
            "m" => number.checked_mul(60_000),
            "h" => number.checked_mul(3_600_000),
            _ => return Err(format!("`{text}` is not a duration; write `250ms`, `2s`, `5m` or `1h`")),
        };
        match millis {
            Some(millis) if millis <= 365 * 24 * 3_600_000 => Ok(Self(Duration::from_millis(millis))),
            _ => Err(format!("`{text}` is longer than a year; write at most `8760h`")),
        }
    }
}

impl fmt::Display for Period {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let millis = self.0.as_millis();
        match millis {
            0 => write!(f, "0s"),
            m if m % 3_600_000 == 0 => write!(f, "{}h", m / 3_600_000),
            m if m % 60_000 == 0 => write!(f, "{}m", m / 60_000),
            m if m % 1_000 == 0 => write!(f, "{}s", m / 1_000),
            m => write!(f, "{m}ms"),
        }
    }
}

text_value!(Period, "Period", r"^\d+(ms|s|m|h)$", "a duration such as `10s`");

/// A version of TLS.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum TlsVersion {
    /// RFC 5246.
    #[default]
    V12,
    /// RFC 8446.
    V13,
}

impl FromStr for TlsVersion {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "1.2" => Ok(Self::V12),
            "1.3" => Ok(Self::V13),
            "1.0" | "1.1" => Err(format!("TLS `{text}` is broken and not spoken; write `\"1.2\"` or `\"1.3\"`")),
            _ => Err(format!("`{text}` is not a version of TLS; write `\"1.2\"` or `\"1.3\"`")),
        }
    }
}

impl fmt::Display for TlsVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::V12 => "1.2",
            Self::V13 => "1.3",
        })
    }
}

text_value!(TlsVersion, "TlsVersion", r"^1\.[23]$", "text");

/// A number of bytes: `64KiB`, `10MiB`, `1GiB`, `512B` or a bare number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Size(u64);

impl Size {
    /// A number of KiB.
    pub const fn kib(kib: u64) -> Self {
        Self(kib * 1024)
    }

    /// The number of bytes.
    pub const fn get(self) -> u64 {
        self.0
    }
}

impl FromStr for Size {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("`{text}` is not a size; write `512B`, `64KiB`, `10MiB` or `1GiB`");
        let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
        let (number, unit) = text.split_at(digits);
        let shift = match unit {
            "" | "B" => 0,
            "KiB" => 10,
            "MiB" => 20,
            "GiB" => 30,
            _ => return Err(wrong()),
        };
        let number: u64 = number.parse().map_err(|_| wrong())?;
        number.checked_mul(1 << shift).map(Self).ok_or_else(wrong)
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            0 => write!(f, "0"),
            n if n % (1 << 30) == 0 => write!(f, "{}GiB", n >> 30),
            n if n % (1 << 20) == 0 => write!(f, "{}MiB", n >> 20),
            n if n % (1 << 10) == 0 => write!(f, "{}KiB", n >> 10),
            n => write!(f, "{n}B"),
        }
    }
}

/// A share: `20%`, `0.5%`.
#[derive(Debug, Clone, Copy, PartialEq, PartialOrd, Default)]
pub struct Percent(f64);

impl Percent {
    /// A percentage, 0 to 100.
    pub const fn new(hundredths: f64) -> Self {
        Self(hundredths)
    }

    /// The share as a fraction, 0 to 1.
    pub fn fraction(self) -> f64 {
        self.0 / 100.0
    }
}

impl FromStr for Percent {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let number: Option<f64> = text.strip_suffix('%').and_then(|n| n.parse().ok());
        match number {
            Some(n) if (0.0..=100.0).contains(&n) => Ok(Self(n)),
            _ => Err(format!("`{text}` is not a share; write `0%` to `100%`")),
        }
    }
}

impl fmt::Display for Percent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}%", self.0)
    }
}

text_value!(Percent, "Percent", r"^\d+(\.\d+)?%$", "a share such as `20%`");

/// A name of a listener, route, upstream or backend: `[A-Za-z0-9_.:-]+`, at most 128 bytes.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name(String);

impl Name {
    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Name {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let fits = |b: u8| b.is_ascii_alphanumeric() || b"_.:-".contains(&b);
        if text.is_empty() || text.len() > 128 || !text.bytes().all(fits) {
            return Err(format!("`{text}` is not a name; use 1 to 128 of A-Z a-z 0-9 _ . : -"));
        }
        Ok(Self(text.to_owned()))
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

text_value!(Name, "Name", r"^[A-Za-z0-9_.:-]{1,128}$", "a name");

/// The address of a backend.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum BackendAddress {
    /// `ip:port` or `[v6]:port`.
    Socket(SocketAddr),
    /// `name:port`, resolved in the background.
    Dns(String, u16),
    /// `unix:/path`.
    Unix(PathBuf),
}

impl FromStr for BackendAddress {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Some(path) = text.strip_prefix("unix:") {
            return if path.starts_with('/') && path.len() < 108 {
                Ok(Self::Unix(path.into()))
            } else {
                Err(format!("`{text}` is not a socket; write `unix:` and an absolute path shorter than 108 bytes"))
            };
        }
        let wrong = || format!("`{text}` is not an address; write `ip:port`, `[v6]:port`, `unix:/path` or `name:port`");
        if let Ok(socket) = text.parse::<SocketAddr>() {
            return if socket.port() == 0 {
                Err(format!("`{text}`: port 0 is nowhere; write a port from 1 to 65535"))
            } else if !is_unicast(socket.ip()) {
                Err(format!(
                    "`{text}` is not the address of one host; write the backend's own, such as `127.0.0.1:3001`"
                ))
            } else {
                Ok(Self::Socket(socket))
            };
        }
        let (name, port) = text.rsplit_once(':').ok_or_else(wrong)?;
        let port: u16 = port.parse().map_err(|_| wrong())?;
        let label = |l: &str| {
            !l.is_empty() && l.len() <= 63 && l.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
        };
        let looks_like_ip = name.bytes().all(|b| b.is_ascii_digit() || b == b'.');
        if port == 0 || name.len() > 253 || looks_like_ip || !name.trim_end_matches('.').split('.').all(label) {
            return Err(wrong());
        }
        Ok(Self::Dns(name.to_ascii_lowercase(), port))
    }
}

impl fmt::Display for BackendAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Socket(socket) => socket.fmt(f),
            Self::Dns(name, port) => write!(f, "{name}:{port}"),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

text_value!(
    BackendAddress,
    "BackendAddress",
    r"^(unix:/.+|\[[0-9A-Fa-f:.]+\]:\d+|[A-Za-z0-9._-]+:\d+)$",
    "an address such as `10.0.0.1:3001`"
);

/// A network: `10.0.0.0/8`, `fd00::/8`, or a single address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cidr(ipnet::IpNet);

impl Cidr {
    /// Whether the network contains the address. IPv4-mapped IPv6 addresses are treated as IPv4.
    pub fn contains(&self, ip: std::net::IpAddr) -> bool {
        self.0.contains(&ip.to_canonical())
    }

    /// The first and the last address of the network.
    pub fn range(&self) -> (std::net::IpAddr, std::net::IpAddr) {
        (self.0.network(), self.0.broadcast())
    }
}

impl FromStr for Cidr {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let single = || text.parse::<std::net::IpAddr>().map(ipnet::IpNet::from).ok();
        let net = text.parse::<ipnet::IpNet>().ok().or_else(single);
        net.map(Self).ok_or_else(|| format!("`{text}` is not a network; write `10.0.0.0/8` or `fd00::/8`"))
    }
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

text_value!(Cidr, "Cidr", r"^[0-9A-Fa-f:.]+(/\d{1,3})?$", "a network such as `10.0.0.0/8`");

/// A host pattern: a name, or `*.` and a name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum HostPattern {
    /// Exactly this name, in lower case, without a final dot.
    Exact(String),
    /// All subdomains of this name, of any depth. The name is in lower case, without the `*.`.
    Below(String),
}

impl FromStr for HostPattern {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let lower = text.to_ascii_lowercase();
        let (below, name) = match lower.strip_prefix("*.") {
            Some(name) => (true, name),
            None => (false, lower.as_str()),
        };
        let name = name.strip_suffix('.').unwrap_or(name);
        let plain = |b: u8| b.is_ascii_alphanumeric() || b"-._".contains(&b);
        let v6 = name.strip_prefix('[').and_then(|n| n.strip_suffix(']'));
        let is_v6 = v6.is_some_and(|n| n.parse::<std::net::Ipv6Addr>().is_ok());
        if name.is_empty()
            || name.len() > 253
            || !(is_v6 || (name.bytes().all(plain) && !name.split('.').any(str::is_empty)))
        {
            if !text.is_ascii() {
                return Err(format!("`{text}` is not a host; write it as DNS has it, such as `xn--bcher-kva.example`"));
            }
            return Err(format!("`{text}` is not a host; write `api.example.com` or `*.example.com`, without a port"));
        }
        Ok(if below { Self::Below(name.to_owned()) } else { Self::Exact(name.to_owned()) })
    }
}

impl fmt::Display for HostPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exact(name) => f.write_str(name),
            Self::Below(name) => write!(f, "*.{name}"),
        }
    }
}

text_value!(
    HostPattern,
    "HostPattern",
    r"^(\*\.)?(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)$",
    "a host such as `api.example.com`"
);

/// A request method: a token, case-sensitive, without lower-case letters (RFC 9110 section 9.1).
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Method(http::Method);

impl Method {
    /// GET.
    pub fn get() -> Self {
        Self(http::Method::GET)
    }

    /// The method as a type of the `http` crate.
    pub fn as_http(&self) -> &http::Method {
        &self.0
    }
}

impl FromStr for Method {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let method = http::Method::from_bytes(text.as_bytes());
        match method {
            Ok(method) if !text.bytes().any(|b| b.is_ascii_lowercase()) => Ok(Self(method)),
            Ok(_) => Err(format!("`{text}` is not upper case; write `{}`", text.to_ascii_uppercase())),
            Err(_) => Err(format!("`{text}` is not a method")),
        }
    }
}

impl fmt::Display for Method {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.as_str())
    }
}

text_value!(Method, "Method", r"^[!#$%&'*+.^_`|~0-9A-Z-]+$", "a method such as `GET`");

/// A regular expression (syntax of the `regex` crate: linear time, no look-around).
#[derive(Debug, Clone)]
pub struct Pattern(regex::Regex);

impl Pattern {
    /// The compiled expression.
    pub fn regex(&self) -> &regex::Regex {
        &self.0
    }
}

impl PartialEq for Pattern {
    fn eq(&self, other: &Self) -> bool {
        self.0.as_str() == other.0.as_str()
    }
}

impl Eq for Pattern {}

impl FromStr for Pattern {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        regex::RegexBuilder::new(text).size_limit(1 << 20).build().map(Self).map_err(|error| {
            let reason = error.to_string();
            let last = reason.lines().last().unwrap_or_default().trim_start_matches("error: ").to_owned();
            format!("`{text}` is not a regular expression: {last}")
        })
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.as_str())
    }
}

text_value!(Pattern, "Pattern", ".*", "a regular expression");

/// A range of statuses: `200` or `200-299`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StatusRange {
    from: u16,
    to: u16,
}

impl StatusRange {
    /// A range that includes both ends.
    pub const fn new(from: u16, to: u16) -> Self {
        Self { from, to }
    }

    /// Whether the range contains the status.
    pub const fn contains(self, status: u16) -> bool {
        self.from <= status && status <= self.to
    }
}

impl FromStr for StatusRange {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("`{text}` is not a status or a range of them; write `200` or `200-299`");
        let (from, to) = text.split_once('-').unwrap_or((text, text));
        let parse = |t: &str| t.trim().parse::<u16>().ok().filter(|s| (100..=599).contains(s)).ok_or_else(wrong);
        let (from, to) = (parse(from)?, parse(to)?);
        if from > to { Err(wrong()) } else { Ok(Self { from, to }) }
    }
}

impl fmt::Display for StatusRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.from == self.to { write!(f, "{}", self.from) } else { write!(f, "{}-{}", self.from, self.to) }
    }
}

/// The target of a log: `stdout`, `off` or a file.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum LogTarget {
    /// Standard output.
    #[default]
    Stdout,
    /// No log.
    Off,
    /// A file; SIGUSR1 reopens it.
    File(PathBuf),
}

impl FromStr for LogTarget {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "stdout" => Ok(Self::Stdout),
            "off" => Ok(Self::Off),
            "" => Err("nothing is no place for lines; write `stdout`, `off` or a file's path".into()),
            path => Ok(Self::File(path.into())),
        }
    }
}

impl fmt::Display for LogTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Stdout => f.write_str("stdout"),
            Self::Off => f.write_str("off"),
            Self::File(path) => path.display().fmt(f),
        }
    }
}

text_value!(LogTarget, "Target", ".+", "`stdout`, `off` or a path");

/// Implements serde and the JSON Schema for a type that is written as text or as a bare number.
macro_rules! text_or_number {
    ($type:ty, $title:literal, $pattern:expr, $expected:literal) => {
        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                struct Written;
                impl Visitor<'_> for Written {
                    type Value = $type;
                    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                        f.write_str($expected)
                    }
                    fn visit_u64<E: serde::de::Error>(self, number: u64) -> Result<$type, E> {
                        self.visit_str(&number.to_string())
                    }
                    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<$type, E> {
                        text.parse().map_err(E::custom)
                    }
                }
                deserializer.deserialize_any(Written)
            }
        }
        impl Serialize for $type {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                let text = self.to_string();
                match text.parse::<u64>() {
                    Ok(number) => serializer.serialize_u64(number),
                    Err(_) => serializer.serialize_str(&text),
                }
            }
        }
        impl JsonSchema for $type {
            fn schema_name() -> Cow<'static, str> {
                $title.into()
            }
            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!({ "anyOf": [{ "type": "integer", "minimum": 0 }, { "type": "string", "pattern": $pattern }] })
            }
        }
    };
}

text_value!(
    MediaPattern,
    "MediaPattern",
    r"^(\*\+[^/*;\s]+|[^/*;\s]+/(\*|[^/*;\s]+))$",
    "a media type such as `text/html`"
);
text_or_number!(Size, "Size", r"^\d+(B|KiB|MiB|GiB)?$", "a size such as `64KiB`");
text_or_number!(StatusRange, "StatusRange", r"^\d{3}(-\d{3})?$", "a status or a range such as `200-299`");
text_or_number!(
    RetryWhen,
    "RetryWhen",
    r"^(connect|reset|timeout|[45]\d\d)$",
    "`connect`, `reset`, `timeout` or a status"
);

/// Edits of header fields, applied in the order remove, set, add.
#[derive(Debug, Clone, PartialEq, Default, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct HeaderEdits {
    /// Replaces all fields of that name.
    pub set: BTreeMap<String, String>,
    /// Adds a field.
    pub add: BTreeMap<String, String>,
    /// Removes all fields of that name.
    pub remove: Vec<String>,
}
