//! The place of the keys of an issuer on the network.

use std::sync::Arc;

/// Where keys are fetched. Policies with the same location share the keys.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct JwksLocation {
    /// The issuer or the URL of its key set.
    pub source: KeySource,
    /// The PEM of the CA certificates for the server. `None`: those of the operating system.
    pub ca: Option<Arc<[u8]>>,
}

/// How the key set is found.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum KeySource {
    /// The key set is at this URL.
    Url(String),
    /// The discovery document of this issuer names the URL.
    Issuer(String),
}

impl KeySource {
    /// The first URL to fetch. An issuer may end with `/` (OpenID Connect Discovery 1.0 section 4.1).
    pub(super) fn first_url(&self) -> String {
        match self {
            Self::Url(url) => url.clone(),
            Self::Issuer(issuer) => format!("{}/.well-known/openid-configuration", issuer.trim_end_matches('/')),
        }
    }

    /// The text for logs and the admin API.
    pub fn as_str(&self) -> &str {
        match self {
            Self::Url(text) | Self::Issuer(text) => text,
        }
    }
}
