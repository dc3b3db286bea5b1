//! Which certificate a client is shown: by the name it asks for, and by the signatures it can check.

use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::Arc;

use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{SignatureAlgorithm, SignatureScheme};

use super::certificate::Certificate;

thread_local! {
    /// What the last choice on this thread was.
    static CHOSEN: RefCell<Option<Arc<Certificate>>> = const { RefCell::new(None) };
}

/// Certificates by name. Immutable: another set is another table.
#[derive(Debug)]
pub(super) struct CertResolver {
    exact: HashMap<Box<str>, Choice>,
    /// By what stands after `*.`.
    wild: HashMap<Box<str>, Choice>,
    default: Choice,
}

/// At most one certificate of each kind of key, those that cost us least first.
#[derive(Debug, Clone, Default)]
struct Choice(Vec<Arc<Certificate>>);

impl CertResolver {
    /// Of certificates in the order of the configuration: of two for one name with one kind of key the first counts, what
    /// was issued for the name before others; the default is the first of those that are listed, or the first that was
    /// issued where none is.
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

    /// The first, and those that share a name with it.
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

    /// For a client that asks for this name, in lower case, and can check these signatures. Where it can check none that
    /// are there, rustls says so in the right words once it has one of them.
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

/// An RSA signature costs us some twenty times that of ECDSA.
fn cost(algorithm: SignatureAlgorithm) -> u8 {
    match algorithm {
        SignatureAlgorithm::ECDSA => 0,
        SignatureAlgorithm::ED25519 | SignatureAlgorithm::ED448 => 1,
        _ => 2,
    }
}

/// What was chosen on this thread since this was last asked. rustls tells nobody which certificate it showed; but it asks
/// for one in the same call that takes in the client's first message, so that is the place to pick it up.
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
