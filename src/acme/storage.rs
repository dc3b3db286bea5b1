//! What is kept in `server.state_dir`: accounts, certificates with their keys, how orders went; and the locks that keep
//! processes that share it apart.
//!
//! ```text
//! acme/DIRECTORY/account.json   the account's key and address       acme/challenges/…   what is pending now
//! acme/DIRECTORY/NAME.pem       key, certificate, those above it
//! acme/DIRECTORY/NAME.json      the tries since the last that went well
//! acme/DIRECTORY/NAME.lock      held while an order is under way
//! ```
//!
//! What cannot be read is moved aside and said; it stops nothing. Everything here blocks on the file system.

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

/// A key and a chain of certificates have some 10 KiB.
const ROOM: usize = 16 << 10;

/// An account, as it is kept.
#[derive(Serialize, Deserialize)]
pub(super) struct Account {
    /// What the server was told.
    pub(super) email: Option<String>,
    pub(super) credentials: AccountCredentials,
}

/// Whether files can be made in `server.state_dir` by who the process is now.
///
/// # Errors
/// They cannot.
pub fn prove(state_dir: &Path) -> io::Result<()> {
    let home = state_dir.join("acme");
    secure_file::make_folder(&home)?;
    tempfile::tempfile_in(&home).map(drop)
}

/// Whether a file of a certificate's size can be made where all of a server is kept.
pub(super) fn prove_room(issuer: &Issuer) -> io::Result<()> {
    let mut file = tempfile::tempfile_in(&issuer.folder)?;
    file.write_all(&[0; ROOM])?;
    file.sync_all()
}

/// Takes a name for an order, and makes the folder it is kept in; nothing if another process has it. The lock ends with the
/// file, and with the process.
pub(super) fn take(managed: &AcmeCerts) -> io::Result<Option<File>> {
    secure_file::make_folder(&managed.issuer.folder)?;
    let file = open(&managed.file.with_extension("lock"))?;
    match file.try_lock() {
        Ok(()) => Ok(Some(file)),
        Err(TryLockError::WouldBlock) => Ok(None),
        Err(TryLockError::Error(error)) => Err(error),
    }
}

/// Waits for a server's account.
pub(super) fn take_account(issuer: &Issuer) -> io::Result<File> {
    let file = open(&issuer.folder.join("account.lock"))?;
    file.lock()?;
    Ok(file)
}

/// A server's account; nothing if there is none.
pub(super) fn account(issuer: &Issuer) -> io::Result<Option<Account>> {
    read_json(&account_file(issuer))
}

pub(super) fn keep_account(issuer: &Issuer, account: &Account) -> io::Result<()> {
    secure_file::write(&account_file(issuer), &serde_json::to_vec_pretty(account)?)
}

/// Puts an account away that the server does not know any more, unless there is another by now.
pub(super) fn drop_account(issuer: &Issuer, id: &str) -> io::Result<()> {
    let _lock = take_account(issuer)?;
    let kept = account(issuer)?.map(|kept| serde_json::to_value(kept.credentials)).transpose()?;
    let same = kept.is_some_and(|kept| kept.get("id").and_then(serde_json::Value::as_str) == Some(id));
    if same { set_aside(&account_file(issuer)).map(drop) } else { Ok(()) }
}

/// How the orders of a name went.
pub(super) fn tries(managed: &AcmeCerts) -> io::Result<Tries> {
    read_json(&tries_file(managed)).map(Option::unwrap_or_default)
}

pub(super) fn keep_tries(managed: &AcmeCerts, tries: &Tries) -> io::Result<()> {
    secure_file::write(&tries_file(managed), &serde_json::to_vec_pretty(tries)?)
}

/// Moves a file out of the way; gives where it is now.
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

/// Nothing where there is no such file, and none that can be read: that one is moved aside.
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
    fn a_name_belongs_to_one_at_a_time() {
        let folder = tempfile::tempdir().unwrap();
        let managed = managed(folder.path());
        let first = take(&managed).unwrap();
        assert!(first.is_some() && take(&managed).unwrap().is_none());
        drop(first);
        assert!(take(&managed).unwrap().is_some());
    }

    #[test]
    fn what_cannot_be_read_is_moved_aside() {
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
