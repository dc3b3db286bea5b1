//! All certificates of a process: read for a configuration, shared among listeners, put in anew when their files change.
//!
//! What is refused leaves what is served as it is. Whoever has a certificate from elsewhere than a file puts it in by the
//! same door, `Endpoint::serve`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use super::certificate::{Certificate, Digest};
use super::client::Clients;
use super::endpoint::{Endpoint, Terms, strict_transport_security};
use super::provider::provider;
use super::tickets::{Resumption, Under};
use crate::config::Checked;
use crate::config::schema::{CertificatePair, Listener, ListenerTls};
use crate::config::watch::Watch;
use crate::telemetry::meters::CertificateMeters;
use crate::telemetry::metrics::Metrics;

/// All certificates of a process.
#[derive(Debug)]
pub struct Store {
    metrics: Arc<Metrics>,
    pub(super) inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
pub(super) struct Inner {
    /// What the paths of files are relative to.
    pub(super) folder: PathBuf,
    /// Those of the configuration in force.
    pub(super) endpoints: Vec<Arc<Endpoint>>,
    pub(super) meters: BTreeMap<Arc<str>, Arc<CertificateMeters>>,
    pub(super) watch: Watch,
    resumption: BTreeMap<Under, Resumption>,
}

/// A configuration's endpoints, not in force yet: dropping them leaves no trace.
#[derive(Debug)]
pub struct Prepared {
    folder: PathBuf,
    endpoints: Vec<Option<Arc<Endpoint>>>,
    resumption: BTreeMap<Under, Resumption>,
}

/// A checked document whose TLS cannot be set up all the same: a gap in the checks.
#[derive(Debug, thiserror::Error)]
#[error("{path}: {what}")]
pub struct StoreError {
    /// Where in the document.
    pub path: String,
    /// What is wrong.
    pub what: String,
}

/// What is known of a certificate that is served.
#[derive(Debug, Clone)]
pub struct CertificateStatus {
    /// The path of its file as configured.
    pub name: String,
    /// The names it is for.
    pub names: Vec<String>,
    /// When it ends, in seconds since 1970.
    pub not_after: i64,
}

impl Prepared {
    /// One for each listener of the document, nothing for plain ones.
    pub fn endpoints(&self) -> &[Option<Arc<Endpoint>>] {
        &self.endpoints
    }
}

impl Store {
    /// Empty; what it reads is told here.
    pub fn new(metrics: Arc<Metrics>) -> Self {
        Self { metrics, inner: Mutex::default() }
    }

    /// Sets up the endpoints of a configuration. Sessions of the ones in force go on where they mean the same.
    ///
    /// # Errors
    /// A gap in the checks of `config`.
    pub fn prepare(&self, checked: &Checked) -> Result<Prepared, StoreError> {
        let folder = checked.path().parent().unwrap_or(Path::new("")).to_owned();
        let mut preparing = Preparing { checked, before: self.lock().resumption.clone(), ..Preparing::new(checked) };
        let listeners = checked.document().listeners.iter().enumerate();
        let endpoints = listeners.map(|(index, listener)| {
            let error = |what| StoreError { path: format!("listeners[{index}].tls"), what };
            let endpoint = listener.tls.as_ref().map(|tls| preparing.endpoint(listener, tls));
            endpoint.transpose().map(|endpoint| endpoint.map(Arc::new)).map_err(error)
        });
        let endpoints = endpoints.collect::<Result<_, _>>()?;
        Ok(Prepared { folder, endpoints, resumption: preparing.resumption })
    }

    /// Takes note that these are in force.
    pub fn adopt(&self, prepared: Prepared) {
        let mut inner = self.lock();
        let meters = |name: &Arc<str>| (Arc::clone(name), self.metrics.certificate(name));
        inner.folder = prepared.folder;
        inner.endpoints = prepared.endpoints.into_iter().flatten().collect();
        inner.resumption = prepared.resumption;
        let served: Vec<_> =
            inner.endpoints.iter().flat_map(|endpoint| endpoint.served().certificates.clone()).collect();
        let authorities = inner.endpoints.iter().filter_map(|endpoint| endpoint.terms.client_auth.as_ref());
        let mut names: Vec<Arc<str>> = authorities.map(|auth| label(&auth.ca)).collect();
        names.extend(served.iter().map(|certificate| Arc::clone(&certificate.label)));
        inner.meters = names.iter().map(meters).collect();
        inner.watch = Watch::default();
        served.iter().for_each(|certificate| inner.show(certificate));
    }

    /// The certificates that are served, each once.
    pub fn status(&self) -> Vec<CertificateStatus> {
        let inner = self.lock();
        let served = inner.endpoints.iter().flat_map(|endpoint| endpoint.served().certificates.clone());
        let status = |certificate: Arc<Certificate>| {
            let (name, names) = (certificate.label.to_string(), certificate.names.shown());
            (name.clone(), CertificateStatus { name, names, not_after: certificate.not_after })
        };
        served.map(status).collect::<BTreeMap<_, _>>().into_values().collect()
    }

    pub(super) fn lock(&self) -> std::sync::MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    /// Tells of a certificate that is served from here on.
    pub(super) fn show(&self, certificate: &Certificate) {
        if let Some(meters) = self.meters.get(&certificate.label) {
            meters.set_expiry(certificate.not_after);
        }
        let ends = time::OffsetDateTime::from_unix_timestamp(certificate.not_after).map(|at| at.date().to_string());
        if certificate.not_after < time::OffsetDateTime::now_utc().unix_timestamp() {
            let ended = ends.unwrap_or_default();
            tracing::warn!(certificate = &*certificate.label, ended, "this certificate has expired");
        }
    }
}

/// What a file is called.
pub(super) fn label(path: &Path) -> Arc<str> {
    path.display().to_string().into()
}

/// A configuration's endpoints in the making.
struct Preparing<'a> {
    checked: &'a Checked,
    /// Of the configuration in force.
    before: BTreeMap<Under, Resumption>,
    resumption: BTreeMap<Under, Resumption>,
    read: BTreeMap<CertificatePair, Arc<Certificate>>,
}

impl<'a> Preparing<'a> {
    fn new(checked: &'a Checked) -> Self {
        Self { checked, before: BTreeMap::new(), resumption: BTreeMap::new(), read: BTreeMap::new() }
    }

    fn endpoint(&mut self, listener: &Listener, tls: &ListenerTls) -> Result<Endpoint, String> {
        let certificates = tls.certificates.iter().map(|pair| self.certificate(pair)).collect::<Result<_, _>>()?;
        let file = |path: &Path| self.checked.file(path).ok_or("a file was not read");
        let clients = match &tls.client_auth {
            Some(auth) => {
                let crl = auth.crl.as_deref().map(file).transpose()?;
                Some(Clients::read(auth.mode, file(&auth.ca)?, crl)?)
            }
            None => None,
        };
        let demands = clients.as_ref().map(|clients| clients.terms).unwrap_or_default();
        let terms = Terms {
            provider: provider(tls.suites.as_deref()),
            min_version: tls.min_version,
            http2: listener.http2,
            resumption: self.resumption(listener, demands)?,
            hsts: tls.hsts.as_ref().and_then(strict_transport_security),
            pairs: tls.certificates.clone(),
            client_auth: tls.client_auth.clone(),
        };
        Endpoint::new(terms, certificates, clients).map_err(|error| error.to_string())
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

    fn resumption(&mut self, listener: &Listener, clients: Digest) -> Result<Resumption, String> {
        let under = Under { listener: listener.label().into(), clients };
        let resumption = match self.before.get(&under) {
            Some(before) => before.clone(),
            None => Resumption::new().map_err(|error| error.to_string())?,
        };
        self.resumption.insert(under, resumption.clone());
        Ok(resumption)
    }
}
