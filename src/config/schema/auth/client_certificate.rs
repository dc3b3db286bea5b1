//! `client_certificate`: the client certificates that may pass.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// `client_certificate`: which of the certificates that `client_auth` verified may pass. A certificate must fulfil each
/// key that is set. One entry of a list is enough.
#[derive(Debug, Clone, PartialEq, Default, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ClientCertificateSettings {
    /// Subject alternative names: DNS names, addresses, mail addresses or URIs. `*.a.example` stands for any one label.
    pub san: Vec<String>,
    /// Distinguished names of the issuer in the form of RFC 4514, such as `CN=Devices,O=Example`.
    pub issuer: Vec<String>,
    /// SHA-256 of the certificate in hexadecimal, with or without colons.
    pub fingerprint: Vec<String>,
}
