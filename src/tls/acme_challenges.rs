//! Pending ACME challenges: the responses for `http-01` (RFC 8555 section 8.3) and `tls-alpn-01` (RFC 8737).
//!
//! It never answers a challenge that is not pending. Each challenge is also written to a directory, because the ACME
//! server may connect to another process that shares it. That process reads the directory on demand.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arc_swap::ArcSwapOption;
use parking_lot::{Mutex, MutexGuard};
use tokio::sync::Semaphore;

use crate::config::read_named;
use crate::config::schema::AcmeChallenge;
use crate::secure_file;

/// The URL path prefix of `http-01`. The token follows.
pub const WELL_KNOWN: &str = "/.well-known/acme-challenge/";

/// Maximum number of concurrent directory reads. Any client can cause one.
const MAX_CONCURRENT_READS: usize = 8;

/// Maximum length of a token, in bytes. ACME servers use about 43.
const MAX_TOKEN_BYTES: usize = 200;

/// The pending challenges.
#[derive(Debug)]
pub struct Challenges {
    /// Responses to the challenges of this process, by file name.
    pending: Mutex<BTreeMap<String, String>>,
    /// The directory that all processes share. `None` without ACME.
    folder: ArcSwapOption<PathBuf>,
    reads: Semaphore,
}

/// A pending challenge of this process. Dropping it ends the challenge.
#[derive(Debug)]
pub struct PendingChallenge {
    challenges: Arc<Challenges>,
    file: String,
    path: PathBuf,
}

impl Default for Challenges {
    fn default() -> Self {
        Self { pending: Mutex::default(), folder: ArcSwapOption::empty(), reads: Semaphore::new(MAX_CONCURRENT_READS) }
    }
}

impl Challenges {
    /// Sets the directory for new challenges.
    pub(super) fn set_folder(&self, folder: Option<PathBuf>) {
        self.folder.store(folder.map(Arc::new));
    }

    /// Answers a challenge until the result is dropped. `what`: the token of `http-01` or the DNS name of
    /// `tls-alpn-01`. Blocks on the file system.
    ///
    /// # Errors
    /// The directory cannot be written, or the token is invalid.
    pub fn answer(self: &Arc<Self>, kind: AcmeChallenge, what: &str, answer: &str) -> io::Result<PendingChallenge> {
        let folder = self.folder.load_full().ok_or_else(|| io::Error::other("there is no folder for challenges"))?;
        let file = file_of(kind, what).ok_or_else(|| io::Error::other("the server's token is none"))?;
        secure_file::make_folder(&folder)?;
        let path = folder.join(&file);
        secure_file::write(&path, answer.as_bytes())?;
        self.lock().insert(file.clone(), answer.to_owned());
        Ok(PendingChallenge { challenges: Arc::clone(self), file, path })
    }

    /// The `http-01` response for a URL path. `None` if no such challenge is pending.
    pub async fn at_path(&self, path: &str) -> Option<String> {
        self.find(&file_of(AcmeChallenge::Http01, path.strip_prefix(WELL_KNOWN)?)?).await
    }

    /// The `tls-alpn-01` response for a name in lower case. `None` if no such challenge is pending.
    pub(super) async fn for_name(&self, name: &str) -> Option<String> {
        self.find(&file_of(AcmeChallenge::TlsAlpn01, name)?).await
    }

    async fn find(&self, file: &str) -> Option<String> {
        if let Some(ours) = self.lock().get(file) {
            return Some(ours.clone());
        }
        let path = self.folder.load_full()?.join(file);
        let _permit = self.reads.acquire().await.ok()?;
        // The file system may be slow, so a traffic thread never waits for it.
        let read = tokio::task::spawn_blocking(move || read_named(&path)).await.ok()?;
        String::from_utf8(read.ok()?).ok().filter(|text| !text.is_empty())
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, String>> {
        self.pending.lock()
    }
}

impl Drop for PendingChallenge {
    fn drop(&mut self) {
        self.challenges.lock().remove(&self.file);
        // A file that stays is harmless: its challenge is over. `remove_stale` removes it later.
        let _ = std::fs::remove_file(&self.path);
    }
}

/// Removes files that have not changed for longer than `older`. Processes that were killed during a challenge leave
/// such files.
///
/// # Errors
/// The directory cannot be read, or a file in it cannot be removed.
pub fn remove_stale(folder: &Path, older: std::time::Duration) -> io::Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        let age = entry.metadata()?.modified()?.elapsed().unwrap_or_default();
        if age > older {
            std::fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

/// The file name of a challenge. `None` if `what` is not a valid token or name.
fn file_of(kind: AcmeChallenge, what: &str) -> Option<String> {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"-_".contains(&byte) || byte == b'.';
    let fit = !what.is_empty() && what.len() <= MAX_TOKEN_BYTES && what.bytes().all(fits) && !what.starts_with('.');
    let kind = match kind {
        AcmeChallenge::Http01 => "http",
        AcmeChallenge::TlsAlpn01 => "alpn",
    };
    fit.then(|| format!("{kind}-{what}"))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests {
    use super::*;

    fn in_folder(folder: &Path) -> Arc<Challenges> {
        let challenges = Challenges::default();
        challenges.set_folder(Some(folder.join("challenges")));
        Arc::new(challenges)
    }

    #[tokio::test]
    async fn every_process_that_shares_the_folder_answers_a_pending_challenge() {
        let folder = tempfile::tempdir().unwrap();
        let (ours, others) = (in_folder(folder.path()), in_folder(folder.path()));
        let path = "/.well-known/acme-challenge/tok-EN_1";
        let pending = ours.answer(AcmeChallenge::Http01, "tok-EN_1", "tok-EN_1.thumb").unwrap();
        for each in [&ours, &others] {
            assert_eq!(each.at_path(path).await.as_deref(), Some("tok-EN_1.thumb"));
            assert_eq!(each.at_path("/.well-known/acme-challenge/other").await, None);
            assert_eq!(each.for_name("tok-EN_1").await, None, "the kinds do not mix");
        }
        drop(pending);
        for each in [ours, others] {
            assert_eq!(each.at_path(path).await, None);
        }
    }

    #[tokio::test]
    async fn no_path_leads_out_of_the_folder() {
        let folder = tempfile::tempdir().unwrap();
        let challenges = in_folder(folder.path());
        std::fs::write(folder.path().join("secret"), "secret").unwrap();
        std::fs::create_dir(folder.path().join("challenges")).unwrap();
        for token in ["", "../secret", "..%2fsecret", "./../secret", "..", "a/b", "a\0b", &"a".repeat(201)] {
            assert_eq!(challenges.at_path(&format!("{WELL_KNOWN}{token}")).await, None, "{token}");
        }
        assert!(challenges.answer(AcmeChallenge::Http01, "../secret", "x").is_err());
    }

    #[test]
    fn stale_challenge_files_are_removed() {
        let folder = tempfile::tempdir().unwrap();
        let challenges = in_folder(folder.path());
        std::mem::forget(challenges.answer(AcmeChallenge::TlsAlpn01, "a.example", "x").unwrap());
        let dir = folder.path().join("challenges");
        remove_stale(&dir, std::time::Duration::from_secs(3600)).unwrap();
        assert_eq!(dir.read_dir().unwrap().count(), 1);
        remove_stale(&dir, std::time::Duration::ZERO).unwrap();
        assert_eq!(dir.read_dir().unwrap().count(), 0);
    }
}
