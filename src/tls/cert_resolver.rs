//! The certificate resolver: chooses a certificate by SNI and by the signature schemes of the client.
//!
//! It never changes: another set of certificates makes a new resolver.

use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::Arc;

use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{SignatureAlgorithm, SignatureScheme};

use super::certificate::Certificate;

thread_local! {
    /// The last choice on this thread.
    static CHOSEN: RefCell<Option<Arc<Certificate>>> = const { RefCell::new(None) };
}

/// Certificates by DNS name. Immutable.
#[derive(Debug)]
pub(super) struct CertResolver {
    exact: HashMap<Box<str>, Choice>,
    /// Wildcard names, without `*.`.
    wild: HashMap<Box<str>, Choice>,
    default: Choice,
}

/// At most one certificate per key algorithm, the cheapest signature first.
#[derive(Debug, Clone, Default)]
struct Choice(Vec<Arc<Certificate>>);

impl CertResolver {
    /// `listed`: the configured certificates, in the order of the configuration. `issued`: those of ACME servers.
    ///
    /// For one name and key algorithm, the first certificate counts, and issued ones come before listed ones. The
    /// default is the first listed certificate, or the first issued one if none is listed.
    pub(super) fn new<'a>(
        listed: &'a [Arc<Certificate>],
        issued: impl Iterator<Item = &'a Arc<Certificate>> + Clone,
    ) -> Self {
        let (mut exact, mut wild): (HashMap<_, Choice>, HashMap<_, Choice>) = Default::default();
        for certificate in issued.clone().chain(listed) {
            for name in &certificate.names.exact {
                exact.entry(name.clone()).or_default().add(certificate);
            }
            for name in &certificate.names.wild {
                wild.entry(name.clone()).or_default().add(certificate);
            }
        }
        Self { exact, wild, default: Self::default(listed.iter().chain(issued)) }
    }

    /// The first certificate, and all that share a name with it.
    fn default<'a>(mut certificates: impl Iterator<Item = &'a Arc<Certificate>>) -> Choice {
        let mut default = Choice::default();
        let Some(first) = certificates.next() else { return default };
        default.add(first);
        for certificate in certificates {
            let twin = || certificate.names.exact.iter().any(|name| first.names.exact.contains(name));
            let wild_twin = || certificate.names.wild.iter().any(|name| first.names.wild.contains(name));
            if twin() || wild_twin() {
                default.add(certificate);
            }
        }
        default
    }

    /// Chooses for an SNI name in lower case and the client's signature schemes. If no certificate fits the schemes,
    /// the first is returned, and rustls reports the correct error.
    fn choose(&self, name: Option<&str>, schemes: &[SignatureScheme]) -> Option<&Arc<Certificate>> {
        let name = name.map(|name| name.strip_suffix('.').unwrap_or(name));
        let exact = name.and_then(|name| self.exact.get(name));
        let wild = || name.and_then(|name| self.wild.get(name.split_once('.')?.1));
        let choice = exact.or_else(wild).unwrap_or(&self.default);
        let fits = |certificate: &&Arc<Certificate>| certificate.key.key.choose_scheme(schemes).is_some();
        choice.0.iter().find(fits).or(choice.0.first())
    }
}

impl Choice {
    fn add(&mut self, certificate: &Arc<Certificate>) {
        let kind = certificate.algorithm();
        if self.0.iter().all(|other| other.algorithm() != kind) {
            self.0.push(Arc::clone(certificate));
            self.0.sort_by_key(|certificate| cost(certificate.algorithm()));
        }
    }
}

/// An RSA signature costs about 20 times as much CPU as an ECDSA signature.
fn cost(algorithm: SignatureAlgorithm) -> u8 {
    match algorithm {
        SignatureAlgorithm::ECDSA => 0,
        SignatureAlgorithm::ED25519 | SignatureAlgorithm::ED448 => 1,
        _ => 2,
    }
}

/// Takes the certificate that was chosen on this thread since the last call. rustls does not report which certificate
/// it used. But it calls the resolver synchronously while it processes the ClientHello, so the caller finds the choice
/// here.
pub(super) fn take_chosen() -> Option<Arc<Certificate>> {
    CHOSEN.take()
}

impl ResolvesServerCert for CertResolver {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let chosen = self.choose(hello.server_name(), hello.signature_schemes())?;
        CHOSEN.set(Some(Arc::clone(chosen)));
        Some(Arc::clone(&chosen.key))
    }
}
