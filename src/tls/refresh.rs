//! Puts in what has changed on disk: certificates, keys, authorities of clients and their revocation lists.
//!
//! A file that cannot be used is told and counted once, and what was read before goes on.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::certificate::Certificate;
use super::client::Clients;
use super::endpoint::Endpoint;
use super::store::{Inner, Store, label};
use crate::config::read_named;
use crate::config::schema::{CertificatePair, ClientAuth};
use crate::config::watch::stamp;
use crate::lack::{self, Warning};

static CANNOT_READ: Warning = Warning::new();

/// New certificates by the files they are from.
type Renewed = BTreeMap<CertificatePair, Arc<Certificate>>;

impl Store {
    /// Looks at all files of the configuration in force, and serves what has changed. Blocks on the file system. To be
    /// called again and again: a change is taken up at the second look that sees it.
    pub fn refresh(&self) {
        let mut inner = self.lock();
        let changed = inner.look();
        if changed.is_empty() {
            return;
        }
        let renewed = inner.renewed(&changed);
        for endpoint in &inner.endpoints {
            inner.bring(endpoint, &renewed, &changed);
        }
        if inner.lacks.take() {
            inner.watch.again(&changed);
        }
    }
}

impl Inner {
    /// The files that have changed; paths are whole.
    fn look(&mut self) -> BTreeSet<PathBuf> {
        let mut groups: Vec<Vec<PathBuf>> = Vec::new();
        for endpoint in &self.endpoints {
            let terms = &endpoint.terms;
            groups.extend(terms.pairs.iter().map(|pair| vec![self.whole(&pair.cert), self.whole(&pair.key)]));
            groups.extend(terms.client_auth.iter().map(|auth| {
                let crl = auth.crl.iter().map(|crl| self.whole(crl));
                std::iter::once(self.whole(&auth.ca)).chain(crl).collect()
            }));
        }
        self.watch.look(&groups, &stamp)
    }

    fn whole(&self, path: &Path) -> PathBuf {
        self.folder.join(path)
    }

    fn read(&self, path: &Path) -> Result<Vec<u8>, String> {
        read_named(&self.whole(path)).map_err(|error| {
            self.lacks.set(self.lacks.get() || lack::of(&error).is_some());
            format!("{} cannot be read: {error}", path.display())
        })
    }

    /// Reads the pairs that have changed, each once.
    fn renewed(&self, changed: &BTreeSet<PathBuf>) -> Renewed {
        let served = self.endpoints.iter().map(|endpoint| endpoint.served()).collect::<Vec<_>>();
        let pairs = self.endpoints.iter().map(|endpoint| &endpoint.terms.pairs);
        let mut renewed = Renewed::new();
        let mut seen = BTreeSet::new();
        for (pair, before) in pairs.zip(&served).flat_map(|(pairs, served)| pairs.iter().zip(&served.certificates)) {
            if !changed.contains(&self.whole(&pair.cert)) || !seen.insert(pair) {
                continue;
            }
            let name = &before.label;
            let read = || Certificate::read(name, &self.read(&pair.cert)?, &self.read(&pair.key)?);
            match read() {
                Ok(same) if same.digest == before.digest => {}
                Ok(certificate) => {
                    self.count(name, true);
                    self.show(&certificate);
                    tracing::info!(certificate = &**name, "renewed from its files");
                    renewed.insert(pair.clone(), Arc::new(certificate));
                }
                Err(what) => self.reject(name, &what),
            }
        }
        renewed
    }

    /// Brings an endpoint to what its files say.
    fn bring(&self, endpoint: &Endpoint, renewed: &Renewed, changed: &BTreeSet<PathBuf>) {
        let served = endpoint.served();
        let current = endpoint.terms.pairs.iter().zip(&served.certificates);
        let certificates: Vec<_> =
            current.map(|(pair, before)| Arc::clone(renewed.get(pair).unwrap_or(before))).collect();
        let same = certificates.iter().zip(&served.certificates).all(|(new, old)| Arc::ptr_eq(new, old));
        let auth = endpoint.terms.client_auth.as_ref().filter(|auth| changed.contains(&self.whole(&auth.ca)));
        let clients = auth.and_then(|auth| self.clients(auth, served.clients.as_ref()));
        if same && clients.is_none() {
            return;
        }
        if let Err(error) = endpoint.serve(certificates, clients.or_else(|| served.clients.clone())) {
            tracing::error!(%error, "renewed certificates could not be put in; the old ones go on");
        }
    }

    /// The authorities of clients, if they are others than before.
    fn clients(&self, auth: &ClientAuth, before: Option<&Clients>) -> Option<Clients> {
        let name = label(&auth.ca);
        let read = || {
            let crl = auth.crl.as_deref().map(|crl| self.read(crl)).transpose()?;
            Clients::read(auth.mode, &self.read(&auth.ca)?, crl.as_deref())
        };
        match read() {
            Ok(same) if before.is_some_and(|before| before.digest == same.digest) => None,
            Ok(clients) => {
                self.count(&name, true);
                tracing::info!(authorities = &*name, "authorities of clients renewed from their files");
                Some(clients)
            }
            Err(what) => {
                self.reject(&name, &what);
                None
            }
        }
    }

    fn count(&self, name: &str, applied: bool) {
        if let Some(meters) = self.meters.get(name) {
            meters.count_reload(applied);
        }
    }

    fn reject(&self, name: &str, what: &str) {
        if self.lacks.get() {
            return CANNOT_READ.tell("certificates cannot be looked into; that is tried again", what);
        }
        self.count(name, false);
        tracing::error!(certificate = name, "changed on disk, but cannot be used; the old one goes on: {what}");
    }
}
