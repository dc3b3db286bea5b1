//! What is known of a connection once its handshake is done: for the rooms above.

use std::sync::Arc;

use http::{HeaderName, HeaderValue};

use super::certificate::Certificate;
use super::client_cert_headers::ClientIdentity;
use super::san::host_address;

/// What is known of a connection once its handshake is done.
#[derive(Debug)]
pub struct ConnectionInfo {
    /// The name that the client asked for, in lower case.
    pub(super) server_name: Option<Box<str>>,
    /// The one it was shown.
    pub(super) certificate: Arc<Certificate>,
    /// Whether HTTP/2 was agreed on.
    pub(super) http2: bool,
    /// Who it is; nothing where it was not asked.
    pub(super) client: Option<Arc<ClientIdentity>>,
    /// What responses say of the time to come.
    pub(super) hsts: Option<HeaderValue>,
}

impl ConnectionInfo {
    /// Whether HTTP/2 was agreed on.
    pub fn is_http2(&self) -> bool {
        self.http2
    }

    /// Strict-Transport-Security for its responses.
    pub fn hsts(&self) -> Option<&HeaderValue> {
        self.hsts.as_ref()
    }

    /// What backends are told of the client: names and values; nothing where it was not asked who it is.
    pub fn client(&self) -> &[(HeaderName, HeaderValue)] {
        self.client.as_deref().map_or(&[], ClientIdentity::fields)
    }

    /// Whether a request for this host, normalised as routes have it, may come by this connection (RFC 9110 section
    /// 15.5.20): its certificate must cover it. A client that goes by an address cannot ask for a name (RFC 6066
    /// section 3), so no other connection would serve it better; where it asked for none, an address passes.
    pub fn covers(&self, host: &str) -> bool {
        self.certificate.covers(host) || (self.server_name.is_none() && host_address(host).is_some())
    }
}
