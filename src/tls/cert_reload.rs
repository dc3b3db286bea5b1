//! Reload of changed certificate files: certificates, keys, client CAs and certificate revocation lists.
//!
//! An invalid file never replaces what is served: the error is logged and counted once, and the old content stays.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::cert_store::{CertStore, MetersByName, label, show};
use super::certificate::Certificate;
use super::client_auth::ClientAuthorities;
use super::server_config::TlsEndpoint;
use crate::config::Disk;
use crate::config::file_watch::Watch;
use crate::config::pem::{self, BadPair};
use crate::config::schema::{CertificatePair, ClientAuth};
use crate::resource_exhaustion::{self, LimitedWarning};

static CANNOT_READ: LimitedWarning = LimitedWarning::new();
const CANNOT_LOOK: &str = "certificates cannot be looked into; that is tried again";

/// Reloaded certificates by their files.
type Renewed = BTreeMap<CertificatePair, Arc<Certificate>>;

/// Reloaded client CAs by their configuration.
type RenewedClients = Vec<(ClientAuth, ClientAuthorities)>;

impl CertStore {
    /// Checks all files of the active configuration and serves those that changed. Blocks on the file system, without
    /// the store's lock. Call it periodically, never concurrently: a change is applied when two successive checks see
    /// it.
    pub fn refresh(&self) {
        let mut scan = self.begin_scan();
        let groups = scan.groups();
        let changed = scan.watch.look_on_disk(&groups).unwrap_or_else(|error| {
            CANNOT_READ.say(CANNOT_LOOK, error);
            BTreeSet::new()
        });
        let result = (!changed.is_empty()).then(|| scan.read(&changed));
        if result.as_ref().is_some_and(|result| result.lacks) {
            scan.watch.again(&changed);
        }
        self.end_scan(scan, result);
    }

    /// Copies what the file check needs, so that it runs without the lock.
    fn begin_scan(&self) -> FileScan {
        let mut inner = self.lock();
        FileScan {
            folder: inner.folder.clone(),
            endpoints: Arc::clone(&inner.endpoints),
            meters: Arc::clone(&inner.meters),
            watch: std::mem::take(&mut inner.watch),
        }
    }

    /// Serves the reloaded files. If another configuration has become active meanwhile, the result is dropped, because
    /// that configuration has read its files itself.
    fn end_scan(&self, scan: FileScan, result: Option<ScanResult>) {
        let mut inner = self.lock();
        if !Arc::ptr_eq(&inner.endpoints, &scan.endpoints) {
            return;
        }
        let FileScan { endpoints, meters, watch, .. } = scan;
        inner.watch = watch;
        let Some(result) = result else { return };
        endpoints.iter().for_each(|endpoint| result.bring(endpoint));
        drop(inner);
        result.log_and_count(&meters);
    }
}

/// One check of the files of the active configuration.
struct FileScan {
    /// The directory that relative paths begin at.
    folder: PathBuf,
    endpoints: Arc<[Arc<TlsEndpoint>]>,
    meters: Arc<MetersByName>,
    watch: Watch,
}

/// The result of a file check.
struct ScanResult {
    reloaded: Renewed,
    clients: RenewedClients,
    /// A file could not be read for lack of a resource, for example file descriptors.
    lacks: bool,
}

impl FileScan {
    /// The files to check, as absolute or joined paths. Files that belong together form one group.
    fn groups(&self) -> Vec<Vec<PathBuf>> {
        let mut groups: Vec<Vec<PathBuf>> = Vec::new();
        for endpoint in self.endpoints.iter() {
            let terms = &endpoint.terms;
            groups.extend(terms.pairs.iter().map(|pair| vec![self.whole(&pair.cert), self.whole(&pair.key)]));
            groups.extend(terms.client_auth.iter().map(|auth| {
                let crl = auth.crl.iter().map(|crl| self.whole(crl));
                std::iter::once(self.whole(&auth.ca)).chain(crl).collect()
            }));
        }
        groups
    }

    fn whole(&self, path: &Path) -> PathBuf {
        self.folder.join(path)
    }

    /// Reads the changed files.
    fn read(&self, changed: &BTreeSet<PathBuf>) -> ScanResult {
        let files = ReadCache::new(&self.folder);
        let (renewed, clients) = (self.reload_changed(changed, &files), self.renewed_clients(changed, &files));
        ScanResult { reloaded: renewed, clients, lacks: files.lacks.get() }
    }

    /// Reads the changed certificate pairs, each once.
    fn reload_changed(&self, changed: &BTreeSet<PathBuf>, files: &ReadCache<'_>) -> Renewed {
        let served = self.endpoints.iter().map(|endpoint| endpoint.served()).collect::<Vec<_>>();
        let pairs = self.endpoints.iter().map(|endpoint| &endpoint.terms.pairs);
        let mut renewed = Renewed::new();
        let mut seen = BTreeSet::new();
        for (pair, before) in pairs.zip(&served).flat_map(|(pairs, served)| pairs.iter().zip(&served.certificates)) {
            if !changed.contains(&self.whole(&pair.cert)) || !seen.insert(pair) {
                continue;
            }
            let name = &before.label;
            match certificate(files, name, pair) {
                Ok(same) if same.digest == before.digest => {}
                Ok(certificate) => {
                    renewed.insert(pair.clone(), Arc::new(certificate));
                }
                Err(what) if files.lacks.get() => CANNOT_READ.say(CANNOT_LOOK, what),
                Err(what) => {
                    count(&self.meters, name, false);
                    let name = &**name;
                    tracing::error!(
                        certificate = name,
                        "changed on disk, but cannot be used; the old one goes on: {what}"
                    );
                }
            }
        }
        renewed
    }

    /// Reads the client CAs whose content has changed. An invalid file is logged and counted once, also if several
    /// listeners share it.
    fn renewed_clients(&self, changed: &BTreeSet<PathBuf>, files: &ReadCache<'_>) -> RenewedClients {
        let mut renewed = RenewedClients::new();
        let mut logged = BTreeSet::new();
        for endpoint in self.endpoints.iter() {
            let auth = endpoint.terms.client_auth.as_ref().filter(|auth| changed.contains(&self.whole(&auth.ca)));
            let Some(auth) = auth.filter(|auth| renewed.iter().all(|(done, _)| done != *auth)) else { continue };
            let (name, first) = (label(&auth.ca), logged.insert((&auth.ca, &auth.crl)));
            match clients(files, auth) {
                Ok(same) if endpoint.served().clients.as_ref().is_some_and(|before| before.digest == same.digest) => {}
                Ok(clients) => renewed.push((auth.clone(), clients)),
                Err((_, what)) if files.lacks.get() => CANNOT_READ.say(CANNOT_LOOK, what),
                Err((file, what)) if first => {
                    count(&self.meters, &name, false);
                    let file = &*label(file);
                    tracing::error!(file, "changed on disk, but cannot be used; the old one goes on: {what}");
                }
                Err(_) => {}
            }
        }
        renewed
    }
}

impl ScanResult {
    /// Applies the reloaded files to an endpoint.
    fn bring(&self, endpoint: &TlsEndpoint) {
        let served = endpoint.served();
        let current = endpoint.terms.pairs.iter().zip(&served.certificates);
        let certificates: Vec<_> =
            current.map(|(pair, before)| Arc::clone(self.reloaded.get(pair).unwrap_or(before))).collect();
        let same = certificates.iter().zip(&served.certificates).all(|(new, old)| Arc::ptr_eq(new, old));
        let client_auth = endpoint.terms.client_auth.as_ref();
        let clients =
            self.clients.iter().find(|(auth, _)| Some(auth) == client_auth).map(|(_, clients)| clients.clone());
        if same && clients.is_none() {
            return;
        }
        if let Err(error) = endpoint.serve(certificates, clients.or_else(|| served.clients.clone())) {
            tracing::error!(%error, "renewed certificates could not be put in; the old ones go on");
        }
    }

    /// Logs and counts the reload after the new files are served. So an operator who sees it logged can rely on it.
    fn log_and_count(&self, meters: &MetersByName) {
        for certificate in self.reloaded.values() {
            count(meters, &certificate.label, true);
            show(meters, certificate);
            tracing::info!(certificate = &*certificate.label, "renewed from its files");
        }
        let files: BTreeSet<_> = self.clients.iter().map(|(auth, _)| (&auth.ca, &auth.crl)).collect();
        for (ca, _) in files {
            let name = label(ca);
            count(meters, &name, true);
            tracing::info!(authorities = &*name, "authorities of clients renewed from their files");
        }
    }
}

fn count(meters: &MetersByName, name: &str, applied: bool) {
    if let Some(meters) = meters.get(name) {
        meters.count_reload(applied);
    }
}

/// The content of a file, or why it cannot be read.
type Contents = Result<Arc<[u8]>, String>;

/// The files of one check. Each is read once, so that all listeners see the same content even if the file changes
/// meanwhile.
struct ReadCache<'a> {
    /// The directory that relative paths begin at.
    folder: &'a Path,
    /// A file could not be read for lack of a resource, for example file descriptors.
    lacks: Cell<bool>,
    disk: Disk,
    read: RefCell<BTreeMap<PathBuf, Contents>>,
}

impl<'a> ReadCache<'a> {
    fn new(folder: &'a Path) -> Self {
        Self { folder, lacks: Cell::default(), disk: Disk::default(), read: RefCell::default() }
    }

    fn read(&self, path: &Path) -> Contents {
        self.read.borrow_mut().entry(path.to_owned()).or_insert_with(|| self.fetch(path)).clone()
    }

    fn fetch(&self, path: &Path) -> Contents {
        self.disk.read_named(&self.folder.join(path)).map(Arc::from).map_err(|error| {
            self.lacks.set(self.lacks.get() || resource_exhaustion::is_passing(&error));
            format!("{} cannot be read: {error}", path.display())
        })
    }
}

fn certificate(files: &ReadCache<'_>, name: &str, pair: &CertificatePair) -> Result<Certificate, String> {
    let (cert, key) = (files.read(&pair.cert)?, files.read(&pair.key)?);
    Certificate::read(name, &cert, &key).map_err(|what| match pem::pair(&cert, &key) {
        Err(BadPair::Key(..)) => format!("{}: {what}", pair.key.display()),
        _ => what,
    })
}

/// Reads the files of `client_auth`. The error names the file that is invalid.
fn clients<'a>(files: &ReadCache<'_>, auth: &'a ClientAuth) -> Result<ClientAuthorities, (&'a Path, String)> {
    let read = |path: &'a Path| files.read(path).map_err(|what| (path, what));
    let (ca, list) = (read(&auth.ca)?, auth.crl.as_deref());
    let crl = list.map(read).transpose()?;
    ClientAuthorities::read(auth.mode, &ca, crl.as_deref()).map_err(|what| match list {
        Some(list) if ClientAuthorities::read(auth.mode, &ca, None).is_ok() => (list, what),
        _ => (&*auth.ca, what),
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_read_once_per_check_even_if_it_changes() {
        let folder = tempfile::tempdir().unwrap();
        let put = |text: &str| std::fs::write(folder.path().join("ca.crl"), text).unwrap();
        let read = |files: &ReadCache<'_>| files.read(Path::new("ca.crl")).map(|bytes| bytes.to_vec());
        let missing = ReadCache::new(folder.path());
        assert!(read(&missing).is_err());
        put("bad");
        assert!(read(&missing).is_err_and(|what| what.contains("ca.crl cannot be read")));
        let files = ReadCache::new(folder.path());
        assert_eq!(read(&files).unwrap(), b"bad");
        put("good");
        assert_eq!(read(&files).unwrap(), b"bad");
        assert_eq!(read(&ReadCache::new(folder.path())).unwrap(), b"good");
    }
}
