//! The facts about a TLS connection after its handshake, for the modules that handle requests.

use std::sync::Arc;

use http::{HeaderName, HeaderValue};

use super::certificate::Certificate;
use super::client_cert_headers::ClientIdentity;
use super::san::host_address;
use crate::auth::client_certificate::VerifiedCertificate;

/// The facts about a TLS connection after its handshake.
#[derive(Debug)]
pub struct ConnectionInfo {
    /// The SNI name in lower case.
    pub(super) server_name: Option<Box<str>>,
    /// The certificate that the client got.
    pub(super) certificate: Arc<Certificate>,
    /// The version, such as `TLSv1.3`.
    pub(super) version: Option<&'static str>,
    /// Whether ALPN chose HTTP/2.
    pub(super) http2: bool,
    /// The client's identity. `None` without client authentication.
    pub(super) client: Option<Arc<ClientIdentity>>,
    /// The value of Strict-Transport-Security in responses.
    pub(super) hsts: Option<HeaderValue>,
}

impl ConnectionInfo {
    /// Whether ALPN chose HTTP/2.
    pub fn is_http2(&self) -> bool {
        self.http2
    }

    /// The version, such as `TLSv1.3`.
    pub fn version(&self) -> Option<&'static str> {
        self.version
    }

    /// The SNI name in lower case. `None` if the client sent none.
    pub fn server_name(&self) -> Option<&str> {
        self.server_name.as_deref()
    }

    /// The value of Strict-Transport-Security in responses.
    pub fn hsts(&self) -> Option<&HeaderValue> {
        self.hsts.as_ref()
    }

    /// The header fields that backends get about the client. Empty without client authentication.
    pub fn client(&self) -> &[(HeaderName, HeaderValue)] {
        self.client.as_deref().map_or(&[], ClientIdentity::fields)
    }

    /// The client's verified certificate.
    pub fn client_certificate(&self) -> Option<&VerifiedCertificate> {
        self.client.as_deref()?.certificate()
    }

    /// Whether a request for this host is allowed on this connection (RFC 9110 section 15.5.20). The host must be
    /// normalised as for routes.
    ///
    /// The certificate must cover the host. An IP address is also allowed if the client sent no SNI. SNI cannot contain
    /// an address (RFC 6066 section 3), so another connection would get the same certificate.
    pub fn covers(&self, host: &str) -> bool {
        self.certificate.covers(host) || (self.server_name.is_none() && host_address(host).is_some())
    }
}
