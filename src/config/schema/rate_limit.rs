//! `rate_limits` and `stores`: limits by name, and the stores that several processes share.

use std::borrow::Cow;
use std::fmt;
use std::path::PathBuf;

use schemars::generate::SchemaGenerator;
use schemars::{JsonSchema, Schema, json_schema};
use serde::de::value::MapAccessDeserializer;
use serde::de::{Error, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::super::values::{LimitRate, Name, Period, RedisUrl};
use super::{CertificatePair, Whole};

/// One of `rate_limits`: how many requests or tokens a key may use.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct RateLimitSettings {
    /// Requests, or tokens of `cost`, in a time: `100/1m`. Default: no rate, only `concurrent`.
    pub rate: Option<LimitRate>,
    /// Requests or tokens that a key may use at once. Default: the number of `rate`.
    #[schemars(range(min = 1, max = 1000000000))]
    pub burst: Option<u64>,
    /// The part of a request that is counted by. Each value has its own bucket. `client` is the same as
    /// `{ client: {} }`; `host`, `route` and `identity` have this short form too.
    pub key: LimitKey,
    /// Length of the IPv6 networks that count as one client. IPv4 addresses count as themselves, also IPv4-mapped ones.
    #[schemars(range(min = 0, max = 128))]
    pub ipv6_prefix: u8,
    /// Maximum requests in flight for a key, in this process. Streams and tunnels count until they end. 0: no limit.
    #[schemars(range(min = 0, max = 1000000))]
    pub concurrent: u32,
    /// Maximum number of buckets in memory. If more keys have a debt, those with the least debt share a bucket.
    #[schemars(range(min = 1, max = 10000000))]
    pub keys: usize,
    /// A request without a value for `key`: `skip` does not limit it, `client` counts it by the client's address,
    /// `reject` answers 403.
    pub missing: MissingKey,
    /// With `false` the limit only counts and logs the requests that it would refuse.
    pub enforce: bool,
    /// The tokens of a request: a number, or a section that names its place in the response.
    pub cost: LimitCost,
    /// Tokens that a request takes until the response states its cost. Default: 1. Only for a cost from the response.
    #[schemars(range(min = 1, max = 1000000000))]
    pub reserve: Option<u64>,
    /// Share the buckets with other processes. Default: they are in the memory of this process.
    pub shared: Option<SharedBuckets>,
}

/// `rate_limits.*.missing`: the treatment of a request without a value for the key.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum MissingKey {
    /// It is not limited.
    #[default]
    Skip,
    /// It counts by the client's address.
    Client,
    /// It is answered with 403.
    Reject,
}

/// `rate_limits.*.shared`: the store of the buckets.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SharedBuckets {
    /// The name of the store, one of `stores`.
    pub store: Name,
    /// While the store does not answer: `local` limits in this process alone, `open` limits nothing, `closed` answers
    /// 503.
    #[serde(default)]
    pub on_failure: StoreFailure,
}

/// `rate_limits.*.shared.on_failure`: the decision while a store does not answer.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum StoreFailure {
    /// The same limit, in this process alone.
    #[default]
    Local,
    /// Nothing is limited.
    Open,
    /// The request is answered with 503.
    Closed,
}

/// One of `stores`: a server that several processes share.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct StoreSettings {
    /// The URL of a Redis or Valkey server: `redis://USER@HOST:PORT/DATABASE`, `rediss://…` for TLS, or
    /// `unix:/PATH?user=USER&db=DATABASE`. All but the host and the path may be left out.
    pub redis: RedisUrl,
    /// How long a request waits for the store, 1 ms to 10 s.
    #[serde(default = "store_timeout")]
    pub timeout: Period,
    /// A file with the password in its first line.
    #[serde(default)]
    pub password_file: Option<PathBuf>,
    /// Settings of TLS; only for `rediss://`.
    #[serde(default)]
    pub tls: Option<StoreTls>,
}

/// `stores.*.tls`: TLS to a store. Its certificate is always verified.
#[derive(Debug, Clone, PartialEq, Default, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct StoreTls {
    /// The name that the certificate must be valid for. Default: the host of the URL.
    pub server_name: Option<String>,
    /// A PEM file of CA certificates that replace those of the system.
    pub ca: Option<PathBuf>,
    /// The client certificate, if the store requests one.
    pub certificate: Option<CertificatePair>,
}

/// The part of a request that a limit counts by.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum LimitKey {
    /// The client's address.
    #[default]
    Client,
    /// The value of a header field.
    Header(String),
    /// The value of a cookie.
    Cookie(String),
    /// The host.
    Host,
    /// The route.
    Route,
    /// The authenticated identity.
    Identity,
    /// A claim of the token.
    Claim(String),
}

/// `rate_limits.*.key`: exactly one of these keys.
#[derive(Debug, Clone, Default, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
struct LimitKeySection {
    /// The client's address: `{}`.
    #[serde(skip_serializing_if = "Option::is_none")]
    client: Option<Whole>,
    /// The value of this header field.
    #[serde(skip_serializing_if = "Option::is_none")]
    header: Option<String>,
    /// The value of this cookie.
    #[serde(skip_serializing_if = "Option::is_none")]
    cookie: Option<String>,
    /// The host, without the port: `{}`.
    #[serde(skip_serializing_if = "Option::is_none")]
    host: Option<Whole>,
    /// The route: `{}`. All its requests count together.
    #[serde(skip_serializing_if = "Option::is_none")]
    route: Option<Whole>,
    /// The identity that an access policy of the route has verified: `{}`. Such limits are asked after the access
    /// policies.
    #[serde(skip_serializing_if = "Option::is_none")]
    identity: Option<Whole>,
    /// This claim of the token that a `jwt` policy has verified.
    #[serde(skip_serializing_if = "Option::is_none")]
    claim: Option<String>,
}

/// The tokens of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LimitCost {
    /// The same for each request.
    Fixed(u64),
    /// The number in a header field of the response.
    ResponseHeader(String),
    /// The number at a JSON pointer in the body of the response.
    ResponseJson(String),
}

/// `rate_limits.*.cost`: exactly one of these keys, or a number of tokens.
#[derive(Debug, Clone, Default, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
struct LimitCostSection {
    /// The number in this header field of the response.
    #[serde(skip_serializing_if = "Option::is_none")]
    response_header: Option<String>,
    /// The number at this JSON pointer (RFC 6901) in a response of JSON, or in the last event of an event stream that
    /// has it: `/usage/total_tokens`.
    #[serde(skip_serializing_if = "Option::is_none")]
    response_json: Option<String>,
}

impl Default for RateLimitSettings {
    fn default() -> Self {
        Self {
            rate: None,
            burst: None,
            key: LimitKey::default(),
            ipv6_prefix: 64,
            concurrent: 0,
            keys: 100_000,
            missing: MissingKey::default(),
            enforce: true,
            cost: LimitCost::Fixed(1),
            reserve: None,
            shared: None,
        }
    }
}

impl RateLimitSettings {
    /// The burst: `burst`, or the number of `rate`.
    pub fn burst(&self) -> u64 {
        self.burst.or(self.rate.map(LimitRate::tokens)).unwrap_or(1)
    }

    /// The tokens that a request takes at admission.
    pub fn reserve(&self) -> u64 {
        match self.cost {
            LimitCost::Fixed(tokens) => tokens,
            _ => self.reserve.unwrap_or(1),
        }
    }
}

const ONE_KEY: &str = "write exactly one of `client`, `header`, `cookie`, `host`, `route`, `identity` and `claim`";

impl LimitKey {
    fn of(section: LimitKeySection) -> Result<Self, String> {
        let whole = |value: Option<Whole>, key: Self| value.map(|_| key);
        let written = [
            whole(section.client, Self::Client),
            section.header.map(Self::Header),
            section.cookie.map(Self::Cookie),
            whole(section.host, Self::Host),
            whole(section.route, Self::Route),
            whole(section.identity, Self::Identity),
            section.claim.map(Self::Claim),
        ];
        let mut written = written.into_iter().flatten();
        match (written.next(), written.next()) {
            (Some(key), None) => Ok(key),
            (None, _) => Err(format!("nothing to count by; {ONE_KEY}")),
            _ => Err(format!("two things to count by; {ONE_KEY}")),
        }
    }

    fn of_word(word: &str) -> Result<Self, String> {
        match word {
            "client" => Ok(Self::Client),
            "host" => Ok(Self::Host),
            "route" => Ok(Self::Route),
            "identity" => Ok(Self::Identity),
            _ => Err(format!("`{word}` is not a key; write `client`, `host`, `route` or `{{ header: x-api-key }}`")),
        }
    }
}

impl<'de> Deserialize<'de> for LimitKey {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct SectionOrWord;
        impl<'de> Visitor<'de> for SectionOrWord {
            type Value = LimitKey;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a key such as `client` or `{ header: x-api-key }`")
            }
            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<LimitKey, A::Error> {
                let section = LimitKeySection::deserialize(MapAccessDeserializer::new(map))?;
                LimitKey::of(section).map_err(A::Error::custom)
            }
            fn visit_unit<E: Error>(self) -> Result<LimitKey, E> {
                Ok(LimitKey::default())
            }
            fn visit_str<E: Error>(self, text: &str) -> Result<LimitKey, E> {
                LimitKey::of_word(text).map_err(E::custom)
            }
        }
        deserializer.deserialize_any(SectionOrWord)
    }
}

impl Serialize for LimitKey {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let (mut section, whole) = (LimitKeySection::default(), Some(Whole {}));
        match self.clone() {
            Self::Client => section.client = whole,
            Self::Header(name) => section.header = Some(name),
            Self::Cookie(name) => section.cookie = Some(name),
            Self::Host => section.host = whole,
            Self::Route => section.route = whole,
            Self::Identity => section.identity = whole,
            Self::Claim(name) => section.claim = Some(name),
        }
        section.serialize(serializer)
    }
}

impl JsonSchema for LimitKey {
    fn schema_name() -> Cow<'static, str> {
        "LimitKey".into()
    }
    fn inline_schema() -> bool {
        true
    }
    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        json_schema!({ "anyOf": [
            generator.subschema_for::<LimitKeySection>(),
            { "const": "client" }, { "const": "host" }, { "const": "route" }, { "const": "identity" }
        ] })
    }
}

impl LimitCost {
    fn of(section: LimitCostSection) -> Result<Self, String> {
        match (section.response_header, section.response_json) {
            (Some(name), None) => Ok(Self::ResponseHeader(name)),
            (None, Some(pointer)) => Ok(Self::ResponseJson(pointer)),
            _ => Err("a cost has one source; write a number, `response_header` or `response_json`".into()),
        }
    }
}

impl<'de> Deserialize<'de> for LimitCost {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct SectionOrNumber;
        impl<'de> Visitor<'de> for SectionOrNumber {
            type Value = LimitCost;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a number of tokens, or a mapping such as `{ response_header: x-tokens }`")
            }
            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<LimitCost, A::Error> {
                let section = LimitCostSection::deserialize(MapAccessDeserializer::new(map))?;
                LimitCost::of(section).map_err(A::Error::custom)
            }
            fn visit_unit<E: Error>(self) -> Result<LimitCost, E> {
                Ok(LimitCost::Fixed(1))
            }
            fn visit_u64<E: Error>(self, tokens: u64) -> Result<LimitCost, E> {
                Ok(LimitCost::Fixed(tokens))
            }
            /// A value from the environment.
            fn visit_str<E: Error>(self, text: &str) -> Result<LimitCost, E> {
                text.parse().map(LimitCost::Fixed).map_err(|_| E::custom(format!("`{text}` is not a number of tokens")))
            }
        }
        deserializer.deserialize_any(SectionOrNumber)
    }
}

impl Serialize for LimitCost {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut section = LimitCostSection::default();
        match self.clone() {
            Self::Fixed(tokens) => return serializer.serialize_u64(tokens),
            Self::ResponseHeader(name) => section.response_header = Some(name),
            Self::ResponseJson(pointer) => section.response_json = Some(pointer),
        }
        section.serialize(serializer)
    }
}

impl JsonSchema for LimitCost {
    fn schema_name() -> Cow<'static, str> {
        "LimitCost".into()
    }
    fn inline_schema() -> bool {
        true
    }
    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let section = generator.subschema_for::<LimitCostSection>();
        json_schema!({ "anyOf": [section, { "type": "integer", "minimum": 1, "maximum": 1_000_000_000 }] })
    }
}

fn store_timeout() -> Period {
    Period::from_millis(20)
}
