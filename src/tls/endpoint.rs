//! A listener's TLS: its terms, and what it serves at the moment.

use std::sync::Arc;

use arc_swap::ArcSwap;
use http::HeaderValue;
use rustls::ServerConfig;
use rustls::crypto::CryptoProvider;
use rustls::version::{TLS12, TLS13};

use super::certificate::Certificate;
use super::client::Clients;
use super::table::Table;
use super::tickets::Resumption;
use crate::config::schema::{CertificatePair, ClientAuth, Hsts};
use crate::config::values::TlsVersion;

/// A listener's TLS. Handshakes take what it serves at their moment; others put in what it serves next.
#[derive(Debug)]
pub struct Endpoint {
    pub(super) terms: Terms,
    served: ArcSwap<Served>,
}

/// What only a reload changes.
#[derive(Debug)]
pub(super) struct Terms {
    pub(super) provider: Arc<CryptoProvider>,
    pub(super) min_version: TlsVersion,
    pub(super) http2: bool,
    pub(super) resumption: Resumption,
    pub(super) hsts: Option<HeaderValue>,
    /// The files of `Served::certificates`, one for one.
    pub(super) pairs: Vec<CertificatePair>,
    /// Those of `Served::clients`.
    pub(super) client_auth: Option<ClientAuth>,
}

/// What a handshake goes by.
#[derive(Debug)]
pub(super) struct Served {
    pub(super) config: Arc<ServerConfig>,
    pub(super) certificates: Vec<Arc<Certificate>>,
    pub(super) clients: Option<Clients>,
}

impl Endpoint {
    /// # Errors
    /// rustls', where the terms leave nothing to speak.
    pub(super) fn new(
        terms: Terms,
        certificates: Vec<Arc<Certificate>>,
        clients: Option<Clients>,
    ) -> Result<Self, rustls::Error> {
        let served = ArcSwap::from_pointee(terms.serve(certificates, clients)?);
        Ok(Self { terms, served })
    }

    /// What is served now.
    pub(super) fn served(&self) -> Arc<Served> {
        self.served.load_full()
    }

    /// Serves these from here on.
    ///
    /// # Errors
    /// As `new`; then nothing changes.
    pub(super) fn serve(
        &self,
        certificates: Vec<Arc<Certificate>>,
        clients: Option<Clients>,
    ) -> Result<(), rustls::Error> {
        self.served.store(Arc::new(self.terms.serve(certificates, clients)?));
        Ok(())
    }
}

impl Terms {
    fn serve(&self, certificates: Vec<Arc<Certificate>>, clients: Option<Clients>) -> Result<Served, rustls::Error> {
        let versions = match self.min_version {
            TlsVersion::V12 => &[&TLS13, &TLS12][..],
            TlsVersion::V13 => &[&TLS13],
        };
        let builder =
            ServerConfig::builder_with_provider(Arc::clone(&self.provider)).with_protocol_versions(versions)?;
        let builder = match &clients {
            Some(clients) => builder.with_client_cert_verifier(Arc::clone(&clients.verifier)),
            None => builder.with_no_client_auth(),
        };
        let mut config = builder.with_cert_resolver(Arc::new(Table::new(&certificates)));
        let protocols: &[&[u8]] = if self.http2 { &[b"h2", b"http/1.1"] } else { &[b"http/1.1"] };
        config.alpn_protocols = protocols.iter().map(|protocol| protocol.to_vec()).collect();
        // Ours is AES-256 before AES-128 before ChaCha20; scanners count a client's choice as a fault.
        config.ignore_client_order = true;
        config.ticketer = Arc::clone(&self.resumption.tickets);
        config.session_storage = Arc::clone(&self.resumption.sessions);
        Ok(Served { config: Arc::new(config), certificates, clients })
    }
}

/// The field's value (RFC 6797 section 6.1).
pub(super) fn strict_transport_security(hsts: &Hsts) -> Option<HeaderValue> {
    let mut text = format!("max-age={}", hsts.max_age.get().as_secs());
    if hsts.include_subdomains {
        text.push_str("; includeSubDomains");
    }
    if hsts.preload {
        text.push_str("; preload");
    }
    HeaderValue::try_from(text).ok()
}
