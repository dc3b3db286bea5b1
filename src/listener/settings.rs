//! The settings of one listener. They stay the same for the life of a connection.

use std::net::IpAddr;
use std::sync::Arc;

use crate::config::ClientFilter;
use crate::config::listener_key::ListenerKey;
use crate::config::schema::{self, ListenerPaths, ListenerTimeouts};
use crate::config::values::Cidr;
use crate::tls;

/// The settings of one listener. A reload replaces them for new connections.
#[derive(Debug, Clone)]
pub struct ListenerSettings {
    /// Identifies the socket. A reload never changes it.
    pub key: ListenerKey,
    /// The name or address from the configuration.
    pub name: Arc<str>,
    /// Accept HTTP/2 by prior knowledge beside HTTP/1.1. Under TLS, ALPN decides.
    pub http2: bool,
    /// The TLS endpoint. `None` for a plain port.
    pub tls: Option<Arc<tls::TlsEndpoint>>,
    /// The responses to ACME HTTP-01 validation on a plain port.
    pub challenges: Arc<tls::Challenges>,
    /// The https port for redirects, if the listener redirects all requests to https.
    pub redirect_https: Option<u16>,
    /// The networks whose connections must begin with a PROXY header. `None`: the listener expects no header.
    pub proxied_by: Option<Arc<[Cidr]>>,
    /// `allow` and `deny`. `None`: all clients may connect.
    pub clients: Option<Arc<ClientFilter>>,
    /// The proxies that may connect although `allow` does not list them.
    pub trusted: Arc<[Cidr]>,
    /// How paths are normalised before routes are matched.
    pub paths: ListenerPaths,
    /// Timeouts.
    pub timeouts: ListenerTimeouts,
    /// Maximum of open connections. 0: no limit.
    pub connections: usize,
    /// Maximum of open connections for each client address. 0: no limit.
    pub connections_per_ip: usize,
    /// Maximum of requests on one connection. 0: no limit.
    pub requests_per_connection: usize,
    /// Maximum of concurrent HTTP/2 streams on one connection.
    pub streams: u32,
    /// Maximum size of the request line and the header together, in bytes.
    pub header_bytes: usize,
    /// Maximum number of header fields of a request.
    pub headers: usize,
    /// Maximum length of a request target, in bytes.
    pub uri_bytes: usize,
}

impl ListenerSettings {
    /// Creates the settings from the document. `tls` was prepared for its `tls` block; `trusted` is its
    /// `trusted_proxies`.
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
            clients: None,
            trusted: trusted.into(),
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

    /// The same settings with this client filter.
    pub fn with_clients(self, clients: Option<&Arc<ClientFilter>>) -> Self {
        Self { clients: clients.cloned(), ..self }
    }

    /// Whether `allow` or `deny` refuses a connection from this address.
    pub fn refuses(&self, peer: IpAddr) -> bool {
        self.clients.as_ref().is_some_and(|clients| clients.refuses_peer(peer, &self.trusted))
    }
}
