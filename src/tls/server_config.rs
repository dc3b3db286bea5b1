//! A listener's TLS: its terms, and what it serves at the moment.

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

/// A listener's TLS. Handshakes take what it serves at their moment; others put in what it serves next.
#[derive(Debug)]
pub struct TlsEndpoint {
    pub(super) terms: TlsSettings,
    served: ArcSwap<ServerState>,
    /// When it was last said that a certificate is lacking, in seconds since 1970.
    last_logged: AtomicU64,
}

/// How long a listener keeps silent about clients that ask for names without a certificate, in seconds.
const LOG_INTERVAL: u64 = 60;

/// What only a reload changes.
#[derive(Debug)]
pub(super) struct TlsSettings {
    pub(super) provider: Arc<CryptoProvider>,
    pub(super) min_version: TlsVersion,
    pub(super) http2: bool,
    pub(super) resumption: Resumption,
    pub(super) hsts: Option<HeaderValue>,
    /// The files of `ServerState::certificates`, one for one.
    pub(super) pairs: Vec<CertificatePair>,
    /// The names whose issued certificates are in `ServerState::issued`, in the same order.
    pub(super) managed: Vec<AcmeCerts>,
    /// Those of the process.
    pub(super) challenges: Arc<Challenges>,
    /// Those of `ServerState::clients`.
    pub(super) client_auth: Option<ClientAuth>,
}

/// What a handshake goes by.
#[derive(Debug)]
pub(super) struct ServerState {
    pub(super) config: Arc<ServerConfig>,
    pub(super) certificates: Vec<Arc<Certificate>>,
    /// Nothing where none has been issued yet.
    pub(super) issued: Vec<Option<Arc<Certificate>>>,
    pub(super) clients: Option<ClientAuthorities>,
}

impl TlsEndpoint {
    /// # Errors
    /// rustls', where the terms leave nothing to speak.
    pub(super) fn new(
        terms: TlsSettings,
        certificates: Vec<Arc<Certificate>>,
        issued: Vec<Option<Arc<Certificate>>>,
        clients: Option<ClientAuthorities>,
    ) -> Result<Self, rustls::Error> {
        let served = ArcSwap::from_pointee(terms.serve(certificates, issued, clients)?);
        Ok(Self { terms, served, last_logged: AtomicU64::new(0) })
    }

    /// What is served now.
    pub(super) fn served(&self) -> Arc<ServerState> {
        self.served.load_full()
    }

    /// Serves these from here on, and what is issued as before. One at a time.
    ///
    /// # Errors
    /// As `new`; then nothing changes.
    pub(super) fn serve(
        &self,
        certificates: Vec<Arc<Certificate>>,
        clients: Option<ClientAuthorities>,
    ) -> Result<(), rustls::Error> {
        let issued = self.served().issued.clone();
        self.served.store(Arc::new(self.terms.serve(certificates, issued, clients)?));
        Ok(())
    }

    /// Serves a certificate that was issued from here on, if it is one of its own. One at a time.
    ///
    /// # Errors
    /// As `new`; then nothing changes.
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
    /// Whether it is to be said that a client asked for a name that has no certificate: once a minute, as clients ask often.
    pub fn says_lacking(&self) -> bool {
        static START: OnceLock<Instant> = OnceLock::new();
        let now = START.get_or_init(Instant::now).elapsed().as_secs() + LOG_INTERVAL;
        let last = self.last_logged.load(Ordering::Relaxed);
        let due = now.saturating_sub(last) >= LOG_INTERVAL;
        due && self.last_logged.compare_exchange(last, now, Ordering::Relaxed, Ordering::Relaxed).is_ok()
    }

    /// The name that a client asks for, if there is no certificate to show it: none at all, or one that is yet to be issued.
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
        // Ours is AES-256 before AES-128 before ChaCha20; scanners count a client's choice as a fault.
        config.ignore_client_order = true;
        config.ticketer = Arc::clone(&self.resumption.tickets);
        config.session_storage = Arc::clone(&self.resumption.sessions);
        Ok(ServerState { config: Arc::new(config), certificates, issued, clients })
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
