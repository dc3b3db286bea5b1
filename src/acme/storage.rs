//! The ACME storage in `server.state_dir`: accounts, certificates with keys, order histories and file locks.
//!
//! ```text
//! acme/DIRECTORY/account.json   account key and contact address     acme/challenges/…   pending challenges
//! acme/DIRECTORY/NAME.pem       private key, certificate, intermediate certificates
//! acme/DIRECTORY/NAME.json      order history since the last success
//! acme/DIRECTORY/NAME.lock      locked while an order is in progress
//! ```
//!
//! The locks coordinate processes that share the directory. An unreadable file is renamed and logged, and never stops
//! the manager. All functions block on the file system.

use std::fs::{File, TryLockError};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use instant_acme::AccountCredentials;
use serde::{Deserialize, Serialize};

use super::schedule::Tries;
use crate::config::read_named;
use crate::secure_file;
use crate::tls::{AcmeCerts, Issuer};

/// Upper bound of the size of a key and certificate chain, in bytes. About 10 KiB are usual.
const ROOM: usize = 16 << 10;

/// A stored account.
#[derive(Serialize, Deserialize)]
pub(super) struct Account {
    /// The contact address that the server knows.
    pub(super) email: Option<String>,
    pub(super) credentials: AccountCredentials,
}

/// The folder of ACME in `server.state_dir`.
pub fn folder(state_dir: &Path) -> PathBuf {
    state_dir.join("acme")
}

/// Checks that the process can create files in `server.state_dir`.
///
/// # Errors
/// It cannot create files there.
pub fn prove(state_dir: &Path) -> io::Result<()> {
    let dir = folder(state_dir);
    secure_file::make_folder(&dir)?;
    tempfile::tempfile_in(&dir).map(drop)
}

/// Checks that a file of a certificate's size can be written to the server's directory.
pub(super) fn prove_room(issuer: &Issuer) -> io::Result<()> {
    let mut file = tempfile::tempfile_in(&issuer.folder)?;
    file.write_all(&[0; ROOM])?;
    file.sync_all()
}

/// Creates the server's directory and takes the lock of a name. `None` if another process has the lock. The lock is
/// released when the file is closed or the process ends.
pub(super) fn take(managed: &AcmeCerts) -> io::Result<Option<File>> {
    secure_file::make_folder(&managed.issuer.folder)?;
    let file = open(&managed.file.with_extension("lock"))?;
    match file.try_lock() {
        Ok(()) => Ok(Some(file)),
        Err(TryLockError::WouldBlock) => Ok(None),
        Err(TryLockError::Error(error)) => Err(error),
    }
}

/// Takes the lock of a server's account. Waits until it is free.
pub(super) fn take_account(issuer: &Issuer) -> io::Result<File> {
    let file = open(&issuer.folder.join("account.lock"))?;
    file.lock()?;
    Ok(file)
}

/// Loads a server's account. `None` if there is none.
pub(super) fn account(issuer: &Issuer) -> io::Result<Option<Account>> {
    read_json(&account_file(issuer))
}

pub(super) fn keep_account(issuer: &Issuer, account: &Account) -> io::Result<()> {
    secure_file::write(&account_file(issuer), &serde_json::to_vec_pretty(account)?)
}

/// Renames the stored account that the server no longer knows. Does nothing if another account was stored meanwhile.
pub(super) fn drop_account(issuer: &Issuer, id: &str) -> io::Result<()> {
    let _lock = take_account(issuer)?;
    let stored = account(issuer)?.map(|stored| serde_json::to_value(stored.credentials)).transpose()?;
    let same = stored.is_some_and(|stored| stored.get("id").and_then(serde_json::Value::as_str) == Some(id));
    if same { set_aside(&account_file(issuer)).map(drop) } else { Ok(()) }
}

/// Loads the order history of a name.
pub(super) fn tries(managed: &AcmeCerts) -> io::Result<Tries> {
    read_json(&tries_file(managed)).map(Option::unwrap_or_default)
}

pub(super) fn keep_tries(managed: &AcmeCerts, tries: &Tries) -> io::Result<()> {
    secure_file::write(&tries_file(managed), &serde_json::to_vec_pretty(tries)?)
}

/// Renames a file and returns its new path.
pub(super) fn set_aside(path: &Path) -> io::Result<PathBuf> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".bad-{now}"));
    let aside = path.with_file_name(name);
    std::fs::rename(path, &aside).map(|()| aside)
}

fn account_file(issuer: &Issuer) -> PathBuf {
    issuer.folder.join("account.json")
}

fn tries_file(managed: &AcmeCerts) -> PathBuf {
    managed.file.with_extension("json")
}

fn open(path: &Path) -> io::Result<File> {
    use std::os::unix::fs::OpenOptionsExt;
    std::fs::OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(path)
}

/// Reads a JSON file. `None` if it does not exist, or is invalid. An invalid file is renamed.
fn read_json<T: serde::de::DeserializeOwned>(path: &Path) -> io::Result<Option<T>> {
    let bytes = match read_named(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    match serde_json::from_slice(&bytes) {
        Ok(value) => Ok(Some(value)),
        Err(_) => {
            let aside = set_aside(path)?;
            let (path, aside) = (path.display(), aside.display());
            tracing::error!(%path, %aside, "a file of the state directory cannot be read; it was moved aside");
            Ok(None)
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::config::schema::AcmeChallenge;

    fn managed(folder: &Path) -> AcmeCerts {
        let folder = folder.join("acme/ca");
        let file = folder.join("a.example.pem");
        let issuer = Issuer { directory: "https://ca/dir".into(), email: None, authorities: None, folder };
        let (name, label) = ("a.example".into(), "acme:a.example".into());
        AcmeCerts { name, label, issuer: Arc::new(issuer), challenge: AcmeChallenge::Http01, file }
    }

    #[test]
    fn a_name_is_locked_by_one_process_at_a_time() {
        let folder = tempfile::tempdir().unwrap();
        let managed = managed(folder.path());
        let first = take(&managed).unwrap();
        assert!(first.is_some() && take(&managed).unwrap().is_none());
        drop(first);
        assert!(take(&managed).unwrap().is_some());
    }

    #[test]
    fn unreadable_files_are_moved_aside() {
        let folder = tempfile::tempdir().unwrap();
        let managed = managed(folder.path());
        drop(take(&managed).unwrap());
        let tries = Tries { failures: 3, next: 7, ..Tries::default() };
        keep_tries(&managed, &tries).unwrap();
        assert_eq!(super::tries(&managed).unwrap(), tries);
        for path in [account_file(&managed.issuer), tries_file(&managed)] {
            std::fs::write(&path, "{ \"broken").unwrap();
        }
        assert!(account(&managed.issuer).unwrap().is_none());
        assert_eq!(super::tries(&managed).unwrap(), Tries::default());
        let names = managed.issuer.folder.read_dir().unwrap().map(|entry| entry.unwrap().file_name());
        assert_eq!(names.filter(|name| name.to_string_lossy().contains(".bad-")).count(), 2);
    }
}
