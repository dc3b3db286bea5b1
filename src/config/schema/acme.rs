//! `listeners[].tls.acme`: certificates that Weir has issued for itself (RFC 8555).

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::super::values::HostPattern;

/// `listeners[].tls.acme`: certificates that an ACME server issues, and that are renewed at two thirds of their time. Who
/// writes it agrees to the terms of service of that server.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AcmeSettings {
    /// The names, each with a certificate of its own: one that cannot be had stops no other.
    pub names: Vec<HostPattern>,
    /// Where the server's operator may write to; it goes with the account.
    #[serde(default)]
    pub email: Option<String>,
    /// The server's directory; Let's Encrypt unless written.
    #[serde(default = "lets_encrypt")]
    pub directory: String,
    /// A PEM file of the authorities that the directory's own certificate comes from; the system's unless written.
    #[serde(default)]
    pub directory_ca: Option<PathBuf>,
    /// How the server sees that the names lead here: `http-01` at a plain listener (port 80 from outside), `tls-alpn-01` at
    /// one with TLS (port 443).
    #[serde(default)]
    pub challenge: AcmeChallenge,
}

/// How an ACME server sees that a name leads here.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize, Serialize, JsonSchema)]
pub enum AcmeChallenge {
    /// By a file on port 80 (RFC 8555 section 8.3).
    #[default]
    #[serde(rename = "http-01")]
    Http01,
    /// By a handshake on port 443 (RFC 8737).
    #[serde(rename = "tls-alpn-01")]
    TlsAlpn01,
}

fn lets_encrypt() -> String {
    "https://acme-v02.api.letsencrypt.org/directory".to_owned()
}
