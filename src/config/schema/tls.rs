//! `listeners[].tls` and `redirect_https`: server certificates, client authentication and TLS parameters.

use std::borrow::Cow;
use std::fmt;
use std::path::PathBuf;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::Visitor;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::super::values::{Period, TlsVersion};
use super::AcmeSettings;

/// `listeners[].tls`: TLS towards clients.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ListenerTls {
    /// Server certificates, chosen by SNI: an exact name before a wildcard; otherwise the first one, which is the
    /// default. One name may have several with different key types (ECDSA, RSA); the client's capabilities decide.
    #[serde(default)]
    pub certificates: Vec<CertificatePair>,
    /// Certificates that Weir orders and renews by ACME (RFC 8555).
    #[serde(default)]
    pub acme: Option<AcmeSettings>,
    /// The oldest allowed version: "1.2" or "1.3".
    #[serde(default)]
    pub min_version: TlsVersion,
    /// The allowed cipher suites; default: all that are considered secure.
    #[serde(default)]
    pub suites: Option<Vec<Suite>>,
    /// Client certificates; default: they are not requested.
    #[serde(default)]
    pub client_auth: Option<ClientAuth>,
    /// Strict-Transport-Security field of every response (RFC 6797); default: none.
    #[serde(default)]
    pub hsts: Option<Hsts>,
}

/// A certificate and its private key, for clients or for backends. The files are read again when they change.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CertificatePair {
    /// A PEM file: the certificate, followed by the intermediate certificates.
    pub cert: PathBuf,
    /// A PEM file: its private key, not encrypted.
    pub key: PathBuf,
}

/// `listeners[].tls.client_auth`: client certificates.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ClientAuth {
    /// Whether a client certificate is mandatory. A certificate that fails verification is always rejected.
    pub mode: ClientAuthMode,
    /// A PEM file of the CA certificates that verify client certificates.
    pub ca: PathBuf,
    /// A PEM file of revocation lists. Every certificate of a chain needs a list from its issuer.
    #[serde(default)]
    pub crl: Option<PathBuf>,
}

/// Whether clients must present a certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ClientAuthMode {
    /// Clients may present a certificate.
    Optional,
    /// Clients must present a certificate.
    Required,
}

/// `listeners[].tls.hsts`: browsers use only https for this host (RFC 6797).
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Hsts {
    /// How long browsers remember it; 0s: browsers forget it.
    pub max_age: Period,
    /// Apply to all subdomains as well.
    pub include_subdomains: bool,
    /// Consent to the preload lists of browsers. Needs `include_subdomains` and a `max_age` of at least a year.
    pub preload: bool,
}

impl Default for Hsts {
    fn default() -> Self {
        Self { max_age: Period::from_secs(365 * 24 * 3600), include_subdomains: false, preload: false }
    }
}

/// A cipher suite by its registered name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[allow(missing_docs, non_camel_case_types, reason = "the names are the registry's, and so are the meanings")]
pub enum Suite {
    TLS_AES_256_GCM_SHA384,
    TLS_AES_128_GCM_SHA256,
    TLS_CHACHA20_POLY1305_SHA256,
    TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
    TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
    TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256,
    TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
    TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
    TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
}

impl Suite {
    /// Whether it belongs to TLS 1.3; otherwise it belongs to TLS 1.2.
    pub fn is_13(self) -> bool {
        use Suite::{TLS_AES_128_GCM_SHA256, TLS_AES_256_GCM_SHA384, TLS_CHACHA20_POLY1305_SHA256};
        matches!(self, TLS_AES_256_GCM_SHA384 | TLS_AES_128_GCM_SHA256 | TLS_CHACHA20_POLY1305_SHA256)
    }
}

/// `listeners[].redirect_https`: `true`, `false`, or the https port if it is not 443.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RedirectHttps(pub Option<u16>);

impl<'de> Deserialize<'de> for RedirectHttps {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Answer;
        impl Visitor<'_> for Answer {
            type Value = RedirectHttps;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("`true`, `false` or a port")
            }
            fn visit_bool<E: serde::de::Error>(self, yes: bool) -> Result<RedirectHttps, E> {
                Ok(RedirectHttps(yes.then_some(443)))
            }
            fn visit_u64<E: serde::de::Error>(self, port: u64) -> Result<RedirectHttps, E> {
                match u16::try_from(port) {
                    Ok(port) if port > 0 => Ok(RedirectHttps(Some(port))),
                    _ => Err(E::custom(format!("`{port}` is not a port; write `true`, or 1 to 65535"))),
                }
            }
            /// Only a value from an environment variable arrives as text.
            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<RedirectHttps, E> {
                match (text.parse(), text.parse()) {
                    (Ok(yes), _) => self.visit_bool(yes),
                    (_, Ok(port)) => self.visit_u64(port),
                    _ => Err(E::custom(format!("`{text}` is not a port; write `true`, `false` or a port"))),
                }
            }
        }
        deserializer.deserialize_any(Answer)
    }
}

impl Serialize for RedirectHttps {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            None => serializer.serialize_bool(false),
            Some(443) => serializer.serialize_bool(true),
            Some(port) => serializer.serialize_u16(port),
        }
    }
}

impl JsonSchema for RedirectHttps {
    fn schema_name() -> Cow<'static, str> {
        "RedirectHttps".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "anyOf": [{ "type": "boolean" }, { "type": "integer", "minimum": 1, "maximum": 65535 }] })
    }
}
