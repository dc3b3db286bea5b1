//! `listeners[].tls` and `redirect_https`: what Weir shows to clients, and what it wants to see of them.

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
    /// Chosen by the name that the client asks for: exact before wildcard before the first, which is the default. Several
    /// for one name may differ in the kind of their key (ECDSA, RSA): the client's abilities choose.
    #[serde(default)]
    pub certificates: Vec<CertificatePair>,
    /// Certificates that Weir has issued for itself, and renews (RFC 8555).
    #[serde(default)]
    pub acme: Option<AcmeSettings>,
    /// The oldest version that is spoken: "1.2" or "1.3".
    #[serde(default)]
    pub min_version: TlsVersion,
    /// The cipher suites that are spoken; without it all that are thought safe today.
    #[serde(default)]
    pub suites: Option<Vec<Suite>>,
    /// What clients must show of themselves; without it they are not asked.
    #[serde(default)]
    pub client_auth: Option<ClientAuth>,
    /// Strict-Transport-Security on every response (RFC 6797); without it none.
    #[serde(default)]
    pub hsts: Option<Hsts>,
}

/// A certificate and its key: one of `listeners[].tls.certificates`, or what backends are shown. Read again when the files
/// change.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CertificatePair {
    /// A PEM file: the certificate, then those that lead to the authority.
    pub cert: PathBuf,
    /// A PEM file: its private key, not encrypted.
    pub key: PathBuf,
}

/// `listeners[].tls.client_auth`: certificates of clients.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ClientAuth {
    /// Whether a client without a certificate gets in. One that does not verify never does.
    pub mode: ClientAuthMode,
    /// A PEM file of the authorities that clients' certificates come from.
    pub ca: PathBuf,
    /// A PEM file of their revocation lists. Every certificate of a chain must be on a list's issuer's books.
    #[serde(default)]
    pub crl: Option<PathBuf>,
}

/// Whether clients must show a certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ClientAuthMode {
    /// They may.
    Optional,
    /// They must.
    Required,
}

/// `listeners[].tls.hsts`: browsers come back by TLS only (RFC 6797).
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Hsts {
    /// For how long they remember; 0s: forget.
    pub max_age: Period,
    /// For all names below the host's, too.
    pub include_subdomains: bool,
    /// Agrees to be on the lists that browsers ship; wants `include_subdomains` and a year.
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
    /// Whether it belongs to TLS 1.3; else to 1.2.
    pub fn is_13(self) -> bool {
        use Suite::{TLS_AES_128_GCM_SHA256, TLS_AES_256_GCM_SHA384, TLS_CHACHA20_POLY1305_SHA256};
        matches!(self, TLS_AES_256_GCM_SHA384 | TLS_AES_128_GCM_SHA256 | TLS_CHACHA20_POLY1305_SHA256)
    }
}

/// `listeners[].redirect_https`: `true`, `false`, or the port that TLS is spoken on where it is not 443.
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
            /// Only a variable of the environment comes as text.
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
