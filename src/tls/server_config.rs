//! The TLS configuration of one listener: its settings, and the state that handshakes use now.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use arc_swap::ArcSwap;
use http::HeaderValue;
use rustls::ServerConfig;
use rustls::crypto::CryptoProvider;
use rustls::version::{TLS12, TLS13};

use super::acme_certs::AcmeCerts;
use super::acme_challenges::Challenges;
use super::cert_resolver::CertResolver;
use super::certificate::Certificate;
use super::client_auth::ClientAuthorities;
use super::resumption::Resumption;
use crate::config::schema::{CertificatePair, ClientAuth, Hsts};
use crate::config::values::TlsVersion;

/// The TLS configuration of one listener. A handshake uses the state at its start. A reload swaps the state.
#[derive(Debug)]
pub struct TlsEndpoint {
    pub(super) terms: TlsSettings,
    served: ArcSwap<ServerState>,
    /// When a missing certificate was last logged: seconds since the first check, plus `LOG_INTERVAL`.
    last_logged: AtomicU64,
}

/// Minimum time between two log lines of a listener about missing certificates, in seconds.
const LOG_INTERVAL: u64 = 60;

/// The settings that only a configuration reload changes.
#[derive(Debug)]
pub(super) struct TlsSettings {
    pub(super) provider: Arc<CryptoProvider>,
    pub(super) min_version: TlsVersion,
    pub(super) http2: bool,
    pub(super) resumption: Resumption,
    pub(super) hsts: Option<HeaderValue>,
    /// The files of `ServerState::certificates`, in the same order.
    pub(super) pairs: Vec<CertificatePair>,
    /// The ACME certificates in `ServerState::issued`, in the same order.
    pub(super) managed: Vec<AcmeCerts>,
    /// The pending ACME challenges of the process.
    pub(super) challenges: Arc<Challenges>,
    /// The settings of `ServerState::clients`.
    pub(super) client_auth: Option<ClientAuth>,
}

/// The state that a handshake uses.
#[derive(Debug)]
pub(super) struct ServerState {
    pub(super) config: Arc<ServerConfig>,
    pub(super) certificates: Vec<Arc<Certificate>>,
    /// `None` if the certificate is not issued yet.
    pub(super) issued: Vec<Option<Arc<Certificate>>>,
    pub(super) clients: Option<ClientAuthorities>,
}

impl TlsEndpoint {
    /// # Errors
    /// rustls refuses settings that leave no usable protocol version or suite.
    pub(super) fn new(
        terms: TlsSettings,
        certificates: Vec<Arc<Certificate>>,
        issued: Vec<Option<Arc<Certificate>>>,
        clients: Option<ClientAuthorities>,
    ) -> Result<Self, rustls::Error> {
        let served = ArcSwap::from_pointee(terms.serve(certificates, issued, clients)?);
        Ok(Self { terms, served, last_logged: AtomicU64::new(0) })
    }

    /// The current state.
    pub(super) fn served(&self) -> Arc<ServerState> {
        self.served.load_full()
    }

    /// Replaces the certificates and the client CAs, and keeps the issued certificates. Never call it concurrently.
    ///
    /// # Errors
    /// As `new`. Nothing changes then.
    pub(super) fn serve(
        &self,
        certificates: Vec<Arc<Certificate>>,
        clients: Option<ClientAuthorities>,
    ) -> Result<(), rustls::Error> {
        let issued = self.served().issued.clone();
        self.served.store(Arc::new(self.terms.serve(certificates, issued, clients)?));
        Ok(())
    }

    /// Adds an issued certificate if this listener asks for it. Never call it concurrently.
    ///
    /// # Errors
    /// As `new`. Nothing changes then.
    pub(super) fn put(&self, managed: &AcmeCerts, certificate: &Arc<Certificate>) -> Result<(), rustls::Error> {
        let Some(at) = self.terms.managed.iter().position(|own| own.file == managed.file) else { return Ok(()) };
        let served = self.served();
        let mut issued = served.issued.clone();
        issued[at] = Some(Arc::clone(certificate));
        let next = self.terms.serve(served.certificates.clone(), issued, served.clients.clone())?;
        self.served.store(Arc::new(next));
        Ok(())
    }
}

impl TlsEndpoint {
    /// Whether to log a client's request for a name without a certificate. True at most once per `LOG_INTERVAL`,
    /// because such clients are frequent.
    pub fn says_lacking(&self) -> bool {
        static START: OnceLock<Instant> = OnceLock::new();
        let now = START.get_or_init(Instant::now).elapsed().as_secs() + LOG_INTERVAL;
        let last = self.last_logged.load(Ordering::Relaxed);
        let due = now.saturating_sub(last) >= LOG_INTERVAL;
        due && self.last_logged.compare_exchange(last, now, Ordering::Relaxed, Ordering::Relaxed).is_ok()
    }

    /// The SNI name, `-` without SNI, if the listener has no certificate for this client. Either it has no certificate
    /// at all, or the one of this name is not issued yet.
    pub(super) fn lacks<'a>(&self, served: &ServerState, name: Option<&'a str>) -> Option<&'a str> {
        let issued = || served.issued.iter().flatten();
        if served.certificates.is_empty() && issued().next().is_none() {
            return Some(name.unwrap_or("-"));
        }
        let name = name.map(|name| name.strip_suffix('.').unwrap_or(name))?;
        let at = self.terms.managed.iter().position(|own| *own.name == *name)?;
        let covered = || served.certificates.iter().chain(issued()).any(|certificate| certificate.covers(name));
        (served.issued[at].is_none() && !covered()).then_some(name)
    }
}

impl TlsSettings {
    fn serve(
        &self,
        certificates: Vec<Arc<Certificate>>,
        issued: Vec<Option<Arc<Certificate>>>,
        clients: Option<ClientAuthorities>,
    ) -> Result<ServerState, rustls::Error> {
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
        let mut config =
            builder.with_cert_resolver(Arc::new(CertResolver::new(&certificates, issued.iter().flatten())));
        let protocols: &[&[u8]] = if self.http2 { &[b"h2", b"http/1.1"] } else { &[b"http/1.1"] };
        config.alpn_protocols = protocols.iter().map(|protocol| protocol.to_vec()).collect();
        // The server's order is AES-256, AES-128, ChaCha20. Security scanners report it as a fault if the client's
        // order counts.
        config.ignore_client_order = true;
        config.ticketer = Arc::clone(&self.resumption.tickets);
        config.session_storage = Arc::clone(&self.resumption.sessions);
        Ok(ServerState { config: Arc::new(config), certificates, issued, clients })
    }
}

/// The field value of Strict-Transport-Security (RFC 6797 section 6.1).
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
