//! Pending writes: certificates that were issued and served, but could not be stored yet.
//!
//! They are written when the file system allows it. They are never ordered again for that reason, because ACME servers
//! limit the number of certificates.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use super::storage;
use crate::secure_file;
use crate::tls::{AcmeCerts, Certificate};

/// Private keys and certificate chains (PEM), by the file to write.
#[derive(Default)]
pub(super) struct PendingWrites {
    files: BTreeMap<PathBuf, Arc<[u8]>>,
}

impl fmt::Debug for PendingWrites {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Only the paths: the contents include private keys.
        f.debug_set().entries(self.files.keys()).finish()
    }
}

impl PendingWrites {
    /// Drops the pending writes of names that are no longer configured.
    pub(super) fn want(&mut self, managed: &[AcmeCerts]) {
        self.files.retain(|file, _| managed.iter().any(|each| each.file == *file));
    }

    /// Adds a certificate that could not be written.
    pub(super) fn add(&mut self, managed: &AcmeCerts, pem: Vec<u8>) {
        self.files.insert(managed.file.clone(), pem.into());
    }

    /// Drops the pending write of this name.
    pub(super) fn remove(&mut self, managed: &AcmeCerts) {
        self.files.remove(&managed.file);
    }

    /// The pending content of this name.
    pub(super) fn of(&self, managed: &AcmeCerts) -> Option<Arc<[u8]>> {
        self.files.get(&managed.file).cloned()
    }

    /// The newer of the stored and the pending certificate. A pending one that is not newer is dropped.
    pub(super) fn newest(&mut self, managed: &AcmeCerts, stored: Option<Certificate>) -> Option<Certificate> {
        match self.files.get(&managed.file).and_then(|pem| newer(managed, pem, stored.as_ref())) {
            Some(ours) => Some(ours),
            None => {
                self.remove(managed);
                stored
            }
        }
    }
}

/// Writes the pending content, unless the stored certificate is newer. `None` if another process has the lock of the
/// name.
///
/// # Errors
/// The file still cannot be written.
pub(super) fn write(managed: &AcmeCerts, pem: &[u8]) -> io::Result<Option<()>> {
    let Some(_lock) = storage::take(managed)? else { return Ok(None) };
    let stored = managed.read().ok().flatten();
    if newer(managed, pem, stored.as_ref()).is_some() {
        secure_file::write(&managed.file, pem)?;
    }
    Ok(Some(()))
}

/// The pending certificate, if it is newer than the stored one.
fn newer(managed: &AcmeCerts, pem: &[u8], stored: Option<&Certificate>) -> Option<Certificate> {
    let ours = managed.parse(pem).ok()?;
    stored.is_none_or(|stored| stored.not_before() < ours.not_before()).then_some(ours)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests {
    use rcgen::{CertificateParams, KeyPair};

    use super::*;
    use crate::config::schema::AcmeChallenge;
    use crate::tls::Issuer;

    fn managed(folder: &std::path::Path) -> AcmeCerts {
        let (file, folder) = (folder.join("a.example.pem"), folder.to_owned());
        let issuer = Issuer { directory: "https://ca/dir".into(), email: None, authorities: None, folder };
        let (name, label) = ("a.example".into(), "acme:a.example".into());
        AcmeCerts { name, label, issuer: Arc::new(issuer), challenge: AcmeChallenge::Http01, file }
    }

    fn issued(year: i32) -> Vec<u8> {
        let mut params = CertificateParams::new(["a.example".to_owned()]).unwrap();
        params.not_before = rcgen::date_time_ymd(year, 1, 1);
        let key = KeyPair::generate().unwrap();
        format!("{}{}", key.serialize_pem(), params.self_signed(&key).unwrap().pem()).into_bytes()
    }

    #[test]
    fn an_older_stored_certificate_does_not_replace_a_pending_one() {
        let folder = tempfile::tempdir().unwrap();
        let managed = managed(folder.path());
        let (old, new) = (issued(2020), issued(2021));
        secure_file::write(&managed.file, &old).unwrap();
        let mut pending = PendingWrites::default();
        pending.add(&managed, new.clone());
        pending.want(std::slice::from_ref(&managed));
        let newest = pending.newest(&managed, managed.read().unwrap()).unwrap();
        assert_eq!(newest.not_before(), managed.parse(&new).unwrap().not_before());
        let lock = storage::take(&managed).unwrap().unwrap();
        assert_eq!(write(&managed, &new).unwrap(), None, "another has it in work");
        drop(lock);
        assert_eq!(write(&managed, &new).unwrap(), Some(()));
        assert_eq!(std::fs::read(&managed.file).unwrap(), new);
    }

    #[test]
    fn a_newer_stored_certificate_ends_the_pending_write() {
        let folder = tempfile::tempdir().unwrap();
        let managed = managed(folder.path());
        let (ours, theirs) = (issued(2020), issued(2021));
        secure_file::write(&managed.file, &theirs).unwrap();
        assert_eq!(write(&managed, &ours).unwrap(), Some(()));
        assert_eq!(std::fs::read(&managed.file).unwrap(), theirs);
        let mut pending = PendingWrites::default();
        pending.add(&managed, ours);
        assert!(pending.newest(&managed, managed.read().unwrap()).is_some());
        assert!(pending.of(&managed).is_none());
    }

    #[test]
    fn debug_hides_keys_and_removed_names_are_dropped() {
        let folder = tempfile::tempdir().unwrap();
        let managed = managed(folder.path());
        let mut pending = PendingWrites::default();
        pending.add(&managed, issued(2020));
        assert!(!format!("{pending:?}").contains("PRIVATE"));
        pending.want(&[]);
        assert!(pending.of(&managed).is_none());
    }
}
