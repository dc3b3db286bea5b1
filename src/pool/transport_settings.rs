//! The transport settings of an upstream: protocol, TLS, keep-alive and PROXY header. They make the `HttpPeer`
//! templates.
//!
//! They never open a connection. Certificates are always verified; no setting turns that off.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use pingora_core::protocols::TcpKeepalive;
use pingora_core::protocols::l4::socket::SocketAddr as PeerAddress;
use pingora_core::protocols::tls::CaType;
use pingora_core::tls::RootCertStore;
use pingora_core::upstreams::peer::{ALPN, HttpPeer};
use pingora_core::utils::tls::{CertKey, WrappedX509, parse_x509};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer;

use super::addresses::Destination;
use super::dial::Dialer;
use crate::config::pem;
use crate::config::schema::{self, Protocol};

/// The placeholder address of a host name, whose real address the connector chooses.
const NO_ADDRESS: std::net::SocketAddr =
    std::net::SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED), 1);

pub(super) fn any_address() -> PeerAddress {
    PeerAddress::Inet(NO_ADDRESS)
}

/// The settings and file contents that define the connections to the backends of an upstream.
#[derive(Clone)]
pub struct TransportSettings {
    pub(super) protocol: Protocol,
    server_name: Option<String>,
    pub(super) keep_alive: Duration,
    pub(super) send_proxy: bool,
    ca_pem: Option<Arc<[u8]>>,
    ca: Option<Arc<CaType>>,
    /// The client certificate and key, and their PEM text.
    shown: Option<(Arc<CertKey>, Arc<[u8]>)>,
}

impl TransportSettings {
    /// `file` returns the bytes of the files that `tls` names. If `ca` is invalid, no certificate is trusted. If
    /// `certificate` is invalid, no client certificate is sent. The configuration check rejects both cases earlier.
    pub fn new(settings: &schema::UpstreamSettings, file: &dyn Fn(&Path) -> Option<Vec<u8>>) -> Self {
        let tls = settings.tls.as_ref();
        let ca_pem = tls.and_then(|tls| tls.ca.as_deref()).and_then(file);
        let ca_pem = ca_pem.as_deref();
        let pair = tls.and_then(|tls| tls.certificate.as_ref());
        let written = tls.is_some_and(|tls| tls.ca.is_some());
        let ca = written.then(|| ca_pem.and_then(|pem| parse_ca(pem).ok()).unwrap_or_else(|| Arc::from(Vec::new())));
        Self {
            protocol: settings.protocol,
            server_name: tls.map(|tls| tls.server_name.clone()),
            keep_alive: settings.keep_alive.get(),
            send_proxy: settings.send_proxy.is_some(),
            ca_pem: ca_pem.filter(|_| written).map(Arc::from),
            ca,
            shown: pair.and_then(|pair| parse_pair(&file(&pair.cert)?, &file(&pair.key)?)),
        }
    }

    /// The name that the certificate of a backend must contain. `None` without TLS.
    pub fn server_name(&self) -> Option<&str> {
        self.server_name.as_deref()
    }

    /// The HTTP version of the backends.
    pub fn protocol(&self) -> Protocol {
        self.protocol
    }

    /// Whether connections begin with a PROXY header.
    pub fn announces(&self) -> bool {
        self.send_proxy
    }

    /// Whether connections are HTTP/1 without TLS and without a PROXY header.
    pub(crate) fn is_plain(&self) -> bool {
        self.protocol == Protocol::Http1 && self.server_name.is_none() && !self.send_proxy
    }

    /// A hash of all settings that Pingora's `reuse_hash` leaves out. A connection opened under other settings is never
    /// reused.
    pub(super) fn group_key(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        (self.protocol, &self.server_name, self.keep_alive, &self.ca_pem, self.shown_pem()).hash(&mut hasher);
        hasher.finish()
    }

    fn shown_pem(&self) -> Option<&[u8]> {
        self.shown.as_ref().map(|(_, pem)| &**pem)
    }

    /// A peer for this destination, without timeouts.
    pub(crate) fn peer_at(&self, destination: Destination) -> HttpPeer {
        match destination {
            Destination::One(address) => self.peer(address),
            Destination::Any(addresses) => {
                let mut peer = self.peer(any_address());
                peer.options.custom_l4 = Some(Arc::new(Dialer::to(Some(addresses))));
                peer
            }
        }
    }

    /// A peer for this address, without timeouts.
    pub(super) fn peer(&self, address: PeerAddress) -> HttpPeer {
        let tls = self.server_name.is_some();
        let mut peer = HttpPeer::new(NO_ADDRESS, tls, self.server_name.clone().unwrap_or_default());
        peer._address = address;
        peer.client_cert_key = self.shown.as_ref().map(|(pair, _)| Arc::clone(pair));
        peer.group_key = self.group_key();
        let options = &mut peer.options;
        options.alpn = match self.protocol {
            Protocol::Http1 => ALPN::H1,
            // HTTP/2 only, without fallback. Pingora remembers fallbacks in a map that never shrinks.
            Protocol::H2 | Protocol::H2c => ALPN::H2,
        };
        options.ca.clone_from(&self.ca);
        options.idle_timeout = Some(self.keep_alive);
        options.tcp_keepalive = Some(TcpKeepalive {
            idle: Duration::from_secs(60),
            interval: Duration::from_secs(10),
            count: 3,
            user_timeout: Duration::ZERO,
        });
        peer
    }
}

impl PartialEq for TransportSettings {
    fn eq(&self, other: &Self) -> bool {
        self.protocol == other.protocol
            && self.server_name == other.server_name
            && self.keep_alive == other.keep_alive
            && self.send_proxy == other.send_proxy
            && self.ca_pem == other.ca_pem
            && self.ca.is_some() == other.ca.is_some()
            && self.shown_pem() == other.shown_pem()
    }
}

impl std::fmt::Debug for TransportSettings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TransportSettings")
            .field("protocol", &self.protocol)
            .field("server_name", &self.server_name)
            .finish()
    }
}

/// Parses a certificate chain and its key for Pingora. Also returns their PEM text.
fn parse_pair(cert: &[u8], key: &[u8]) -> Option<(Arc<CertKey>, Arc<[u8]>)> {
    let pair = pem::pair(cert, key).ok()?;
    let der = PrivateKeyDer::from_pem_slice(key).ok()?;
    // Pingora panics on a certificate that it cannot parse.
    let parses = |der: &CertificateDer<'_>| X509Certificate::from_der(der).is_ok();
    let chain: Vec<Vec<u8>> = pair.cert.iter().filter(|der| parses(der)).map(|der| der.to_vec()).collect();
    let whole = chain.len() == pair.cert.len();
    whole.then(|| (Arc::new(CertKey::new(chain, der.secret_der().to_vec())), [cert, key].concat().into()))
}

/// Parses the CA certificates of a PEM file. Errors: invalid PEM, invalid certificate, or no certificate.
pub fn parse_ca(pem: &[u8]) -> Result<Arc<CaType>, String> {
    let mut store = RootCertStore::empty();
    let mut all = Vec::new();
    for der in CertificateDer::pem_slice_iter(pem) {
        let der = der.map_err(|error| format!("is not PEM: {error}"))?;
        // Checked first, because Pingora's wrapper panics on a certificate that it cannot parse.
        store.add(der.clone()).map_err(|error| format!("holds a certificate that is none: {error}"))?;
        all.push(WrappedX509::new(der.to_vec(), parse_x509));
    }
    if all.is_empty() { Err("holds no certificate".into()) } else { Ok(all.into()) }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests {
    use super::*;

    fn settings(yaml: &str) -> schema::UpstreamSettings {
        serde_yaml::from_str(yaml).unwrap()
    }

    #[test]
    fn an_invalid_ca_is_refused_and_trusts_nothing() {
        assert_eq!(parse_ca(b"").unwrap_err(), "holds no certificate");
        let broken = b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        assert!(parse_ca(broken).unwrap_err().contains("certificate that is none"));
        let transport =
            TransportSettings::new(&settings("tls: {server_name: a, ca: x.pem}"), &|_| Some(broken.to_vec()));
        assert!(transport.ca.is_some_and(|ca| ca.is_empty()));
    }
}
