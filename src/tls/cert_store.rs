//! The certificate store of the process: reads certificates for a configuration, shares them among listeners and
//! reloads them.
//!
//! An invalid certificate never replaces the served one. The lock is never held while a file is read, because the
//! control thread takes it too. Certificates of ACME servers are read from the state directory when a configuration is
//! prepared. Later ones are added by the ACME manager with `put`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::{Mutex, MutexGuard};

use super::acme_certs::{self, AcmeCerts};
use super::acme_challenges::Challenges;
use super::certificate::{Certificate, Digest};
use super::client_auth::ClientAuthorities;
use super::crypto::provider;
use super::resumption::{Resumption, ResumptionKey};
use super::server_config::{TlsEndpoint, TlsSettings, strict_transport_security};
use crate::config::file_watch::Watch;
use crate::config::schema::{CertificatePair, ListenerConfig, ListenerTls};
use crate::config::{Disk, ValidatedConfig};
use crate::telemetry::meters::CertificateMeters;
use crate::telemetry::registry::Metrics;

/// The certificate store of the process.
#[derive(Debug)]
pub struct CertStore {
    metrics: Arc<Metrics>,
    challenges: Arc<Challenges>,
    pub(super) inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
pub(super) struct Inner {
    /// The directory that relative paths begin at.
    pub(super) folder: PathBuf,
    /// The endpoints of the active configuration. The `Arc` changes only when another configuration becomes active.
    pub(super) endpoints: Arc<[Arc<TlsEndpoint>]>,
    pub(super) meters: Arc<MetersByName>,
    /// Empty while a refresh uses it.
    pub(super) watch: Watch,
    resumption: BTreeMap<ResumptionKey, Resumption>,
    /// The ACME certificates that the active configuration asks for.
    managed: Arc<[AcmeCerts]>,
    /// Those that were issued, by file.
    issued: Issued,
}

/// Certificate metrics by label.
pub(super) type MetersByName = BTreeMap<Arc<str>, Arc<CertificateMeters>>;

/// Certificates of ACME servers, by file.
type Issued = BTreeMap<PathBuf, Arc<Certificate>>;

/// The endpoints of a configuration that is not active yet. Dropping this value changes nothing.
#[derive(Debug)]
pub struct Prepared {
    folder: PathBuf,
    watch: Watch,
    endpoints: Vec<Option<Arc<TlsEndpoint>>>,
    resumption: BTreeMap<ResumptionKey, Resumption>,
    managed: Arc<[AcmeCerts]>,
    issued: Issued,
    challenges: Option<PathBuf>,
}

/// TLS setup failed for a configuration that passed validation. It shows a gap in the checks of `config`.
#[derive(Debug, thiserror::Error)]
#[error("{path}: {what}")]
pub struct StoreError {
    /// The path in the configuration document.
    pub path: String,
    /// The error.
    pub what: String,
}

/// The status of a certificate that is served.
#[derive(Debug, Clone)]
pub struct CertificateStatus {
    /// The path of its file as configured, or its ACME label.
    pub name: String,
    /// The names that it is for.
    pub names: Vec<String>,
    /// End of validity, in Unix seconds.
    pub not_after: i64,
}

impl Prepared {
    /// One per listener of the document. `None` for a listener without TLS.
    pub fn endpoints(&self) -> &[Option<Arc<TlsEndpoint>>] {
        &self.endpoints
    }
}

impl CertStore {
    /// An empty store. It registers the certificate metrics in `metrics`.
    pub fn new(metrics: Arc<Metrics>) -> Self {
        Self { metrics, challenges: Arc::default(), inner: Mutex::default() }
    }

    /// The pending ACME challenges.
    pub fn challenges(&self) -> &Arc<Challenges> {
        &self.challenges
    }

    /// The ACME certificates that the active configuration asks for. The `Arc` changes only when another configuration
    /// becomes active.
    pub fn managed(&self) -> Arc<[AcmeCerts]> {
        Arc::clone(&self.lock().managed)
    }

    /// Serves an issued certificate on all listeners that ask for it. Ignored if the active configuration does not ask
    /// for it.
    pub fn put(&self, managed: &AcmeCerts, certificate: Certificate) {
        let mut inner = self.lock();
        if !inner.managed.contains(managed) {
            return;
        }
        let certificate = Arc::new(certificate);
        for endpoint in inner.endpoints.iter() {
            if let Err(error) = endpoint.put(managed, &certificate) {
                tracing::error!(certificate = &*managed.label, %error, "an issued certificate could not be put in");
            }
        }
        show(&inner.meters, &certificate);
        inner.issued.insert(managed.file.clone(), certificate);
    }

    /// Builds the endpoints of a configuration. TLS sessions stay resumable if listener and client authentication stay
    /// the same.
    ///
    /// # Errors
    /// A gap in the checks of `config`.
    pub fn prepare(&self, checked: &ValidatedConfig) -> Result<Prepared, StoreError> {
        let folder = checked.path().parent().unwrap_or(Path::new("")).to_owned();
        let mut preparing = Preparing::new(checked, &self.challenges);
        let issued = {
            let inner = self.lock();
            preparing.before.clone_from(&inner.resumption);
            inner.issued.clone()
        };
        preparing.take_issued(&issued);
        let listeners = checked.document().listeners.iter().enumerate();
        let endpoints = listeners.map(|(index, listener)| {
            let error = |what| StoreError { path: format!("listeners[{index}].tls"), what };
            let endpoint = listener.tls.as_ref().map(|tls| preparing.endpoint(listener, tls));
            endpoint.transpose().map(|endpoint| endpoint.map(Arc::new)).map_err(error)
        });
        let endpoints = endpoints.collect::<Result<_, _>>()?;
        let managed = preparing.managed.into_values().collect();
        let challenges = acme_certs::acme_dir(checked).map(|home| home.join("challenges"));
        let Preparing { resumption, issued, .. } = preparing;
        Ok(Prepared { folder, watch: checked.watch(), endpoints, resumption, managed, issued, challenges })
    }

    /// Makes a prepared configuration the active one.
    pub fn adopt(&self, prepared: Prepared) {
        let mut inner = self.lock();
        let meters = |name: &Arc<str>| (Arc::clone(name), self.metrics.certificate(name));
        inner.folder = prepared.folder;
        inner.endpoints = prepared.endpoints.into_iter().flatten().collect();
        inner.resumption = prepared.resumption;
        // Always a new `Arc`: it signals a new configuration even if the list is equal.
        inner.managed = prepared.managed;
        inner.issued = prepared.issued;
        self.challenges.set_folder(prepared.challenges);
        let served: Vec<_> = inner.endpoints.iter().flat_map(|endpoint| all(endpoint)).collect();
        let authorities = inner.endpoints.iter().filter_map(|endpoint| endpoint.terms.client_auth.as_ref());
        let mut names: Vec<Arc<str>> = authorities.map(|auth| label(&auth.ca)).collect();
        names.extend(served.iter().map(|certificate| Arc::clone(&certificate.label)));
        names.extend(inner.managed.iter().map(|managed| Arc::clone(&managed.label)));
        inner.meters = Arc::new(names.iter().map(meters).collect());
        inner.watch = prepared.watch;
        served.iter().for_each(|certificate| show(&inner.meters, certificate));
    }

    /// The served certificates, each once.
    pub fn status(&self) -> Vec<CertificateStatus> {
        let inner = self.lock();
        let served = inner.endpoints.iter().flat_map(|endpoint| all(endpoint));
        let status = |certificate: Arc<Certificate>| {
            let (name, names) = (certificate.label.to_string(), certificate.names.shown());
            (name.clone(), CertificateStatus { name, names, not_after: certificate.not_after })
        };
        served.map(status).collect::<BTreeMap<_, _>>().into_values().collect()
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock()
    }
}

/// Updates the expiry metric of a certificate that becomes served, and warns if it has expired.
pub(super) fn show(meters: &MetersByName, certificate: &Certificate) {
    if let Some(meters) = meters.get(&certificate.label) {
        meters.set_expiry(certificate.not_after);
    }
    let ends = time::OffsetDateTime::from_unix_timestamp(certificate.not_after).map(|at| at.date().to_string());
    if certificate.not_after < time::OffsetDateTime::now_utc().unix_timestamp() {
        let ended = ends.unwrap_or_default();
        tracing::warn!(certificate = &*certificate.label, ended, "this certificate has expired");
    }
}

/// All certificates of an endpoint, listed and issued.
fn all(endpoint: &TlsEndpoint) -> Vec<Arc<Certificate>> {
    let served = endpoint.served();
    served.certificates.iter().chain(served.issued.iter().flatten()).cloned().collect()
}

/// The label of a certificate file.
pub(super) fn label(path: &Path) -> Arc<str> {
    path.display().to_string().into()
}

/// The state while a configuration is prepared.
struct Preparing<'a> {
    checked: &'a ValidatedConfig,
    /// The resumption state of the active configuration.
    before: BTreeMap<ResumptionKey, Resumption>,
    resumption: BTreeMap<ResumptionKey, Resumption>,
    read: BTreeMap<CertificatePair, Arc<Certificate>>,
    challenges: &'a Arc<Challenges>,
    /// By DNS name.
    managed: BTreeMap<Arc<str>, AcmeCerts>,
    issued: Issued,
}

impl<'a> Preparing<'a> {
    fn new(checked: &'a ValidatedConfig, challenges: &'a Arc<Challenges>) -> Self {
        let (before, resumption, read) = Default::default();
        let managed = acme_certs::wanted(checked);
        Self { checked, before, resumption, read, challenges, managed, issued: Issued::new() }
    }

    /// Collects the issued certificates. The served one comes first, then the stored file, then one of another ACME
    /// server for the same name. The last is served until the configured server has issued. Unreadable files are
    /// ignored here; the ACME manager reports them.
    fn take_issued(&mut self, now: &Issued) {
        let disk = Disk::default();
        for managed in self.managed.values() {
            let stored = || managed.read_by(&disk).ok().flatten().map(Arc::new);
            let others = || now.values().find(|certificate| certificate.label == managed.label).cloned();
            if let Some(certificate) = now.get(&managed.file).cloned().or_else(stored).or_else(others) {
                self.issued.insert(managed.file.clone(), certificate);
            }
        }
    }

    fn endpoint(&mut self, listener: &ListenerConfig, tls: &ListenerTls) -> Result<TlsEndpoint, String> {
        let certificates = tls.certificates.iter().map(|pair| self.certificate(pair)).collect::<Result<_, _>>()?;
        let file = |path: &Path| self.checked.file(path).ok_or("a file was not read");
        let clients = match &tls.client_auth {
            Some(auth) => {
                let crl = auth.crl.as_deref().map(file).transpose()?;
                Some(ClientAuthorities::read(auth.mode, file(&auth.ca)?, crl)?)
            }
            None => None,
        };
        let names = tls.acme.iter().flat_map(|acme| &acme.names);
        let managed: Vec<_> = names.filter_map(|name| self.managed.get(&*name.to_string()).cloned()).collect();
        let issued = managed.iter().map(|managed| self.issued.get(&managed.file).cloned()).collect();
        let demands = clients.as_ref().map(|clients| clients.terms).unwrap_or_default();
        let terms = TlsSettings {
            provider: provider(tls.suites.as_deref()),
            min_version: tls.min_version,
            http2: listener.http2,
            resumption: self.resumption(listener, demands)?,
            hsts: tls.hsts.as_ref().and_then(strict_transport_security),
            pairs: tls.certificates.clone(),
            managed,
            challenges: Arc::clone(self.challenges),
            client_auth: tls.client_auth.clone(),
        };
        TlsEndpoint::new(terms, certificates, issued, clients).map_err(|error| error.to_string())
    }

    fn certificate(&mut self, pair: &CertificatePair) -> Result<Arc<Certificate>, String> {
        if let Some(read) = self.read.get(pair) {
            return Ok(Arc::clone(read));
        }
        let file = |path: &Path| self.checked.file(path).ok_or("a file was not read");
        let certificate = Certificate::read(&label(&pair.cert), file(&pair.cert)?, file(&pair.key)?)?;
        let certificate = Arc::new(certificate);
        self.read.insert(pair.clone(), Arc::clone(&certificate));
        Ok(certificate)
    }

    fn resumption(&mut self, listener: &ListenerConfig, clients: Digest) -> Result<Resumption, String> {
        let under = ResumptionKey { listener: listener.label().into(), clients };
        let resumption = match self.before.get(&under) {
            Some(before) => before.clone(),
            None => Resumption::new().map_err(|error| error.to_string())?,
        };
        self.resumption.insert(under, resumption.clone());
        Ok(resumption)
    }
}
