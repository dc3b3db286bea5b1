//! The settings of one listener. A reload swaps them for connections to come.

use std::sync::Arc;

use crate::config::listener_key::ListenerKey;
use crate::config::schema::{self, ListenerPaths, ListenerTimeouts};
use crate::config::values::Cidr;
use crate::tls;

/// What a listener goes by; a reload swaps it for connections to come.
#[derive(Debug, Clone)]
pub struct ListenerSettings {
    /// Which socket it is; a reload never changes it.
    pub key: ListenerKey,
    /// What it is called.
    pub name: Arc<str>,
    /// HTTP/2 by prior knowledge beside HTTP/1.1; under TLS the handshake decides.
    pub http2: bool,
    /// TLS; nothing: the port is plain.
    pub tls: Option<Arc<tls::TlsEndpoint>>,
    /// What ACME servers are answered on a plain port.
    pub challenges: Arc<tls::Challenges>,
    /// The port of https where every request is sent there.
    pub redirect_https: Option<u16>,
    /// Whose PROXY header every connection must begin with; nothing: there is none.
    pub proxied_by: Option<Arc<[Cidr]>>,
    /// How paths are read before routes are matched.
    pub paths: ListenerPaths,
    /// Deadlines.
    pub timeouts: ListenerTimeouts,
    /// Connections open at once; 0: no limit.
    pub connections: usize,
    /// The same for each client's address.
    pub connections_per_ip: usize,
    /// Requests that a connection may bring; 0: no limit.
    pub requests_per_connection: usize,
    /// HTTP/2 streams open at once on a connection.
    pub streams: u32,
    /// Bytes of a request line and its header together.
    pub header_bytes: usize,
    /// Header fields of a request.
    pub headers: usize,
    /// Bytes of a request target.
    pub uri_bytes: usize,
}

impl ListenerSettings {
    /// From the document, with what was prepared for its `tls`; `trusted`: its `trusted_proxies`.
    pub fn new(
        key: ListenerKey,
        listener: &schema::ListenerConfig,
        tls: Option<Arc<tls::TlsEndpoint>>,
        challenges: &Arc<tls::Challenges>,
        trusted: &[Cidr],
    ) -> Self {
        let bytes = |size: crate::config::values::Size| usize::try_from(size.get()).unwrap_or(usize::MAX);
        Self {
            key,
            name: listener.label().into(),
            http2: listener.http2,
            tls,
            challenges: Arc::clone(challenges),
            redirect_https: listener.redirect_https.0,
            proxied_by: listener.proxy_protocol.then(|| trusted.into()),
            paths: listener.paths,
            timeouts: listener.timeouts.clone(),
            connections: listener.limits.connections,
            connections_per_ip: listener.limits.connections_per_ip,
            requests_per_connection: listener.limits.requests_per_connection,
            streams: listener.limits.streams,
            header_bytes: bytes(listener.limits.header_bytes),
            headers: listener.limits.headers,
            uri_bytes: bytes(listener.limits.uri_bytes),
        }
    }
}
