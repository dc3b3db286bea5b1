//! `listeners[].tls.acme`: certificates that Weir orders from an ACME server (RFC 8555).

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::super::values::HostPattern;

/// `listeners[].tls.acme`: certificates from an ACME server. They are renewed after two thirds of their lifetime. By
/// setting this key you agree to the terms of service of that server.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AcmeSettings {
    /// Host names. Each gets its own certificate, so that a failure for one name does not affect the others.
    pub names: Vec<HostPattern>,
    /// Contact address that is registered with the account.
    #[serde(default)]
    pub email: Option<String>,
    /// URL of the ACME directory; default: Let's Encrypt.
    #[serde(default = "lets_encrypt")]
    pub directory: String,
    /// A PEM file of CA certificates that verify the directory's own certificate; default: those of the system.
    #[serde(default)]
    pub directory_ca: Option<PathBuf>,
    /// How the server verifies control of the names: `http-01` on a listener without TLS (port 80 from outside),
    /// `tls-alpn-01` on one with TLS (port 443).
    #[serde(default)]
    pub challenge: AcmeChallenge,
}

/// How an ACME server verifies control of a name.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize, Serialize, JsonSchema)]
pub enum AcmeChallenge {
    /// By an HTTP request to port 80 (RFC 8555 section 8.3).
    #[default]
    #[serde(rename = "http-01")]
    Http01,
    /// By a TLS handshake on port 443 (RFC 8737).
    #[serde(rename = "tls-alpn-01")]
    TlsAlpn01,
}

fn lets_encrypt() -> String {
    "https://acme-v02.api.letsencrypt.org/directory".to_owned()
}
