//! The state that all policies of the kind `basic` share: the hashing threads and the cache of verified credentials.

use std::io;
use std::sync::{Arc, Weak};
use std::thread::available_parallelism;
use std::time::Instant;

use parking_lot::Mutex;

use super::password_hash::PasswordHash;
use super::password_hashing::{HashResult, HashingPool, QueueFull};
use super::verified::{CredentialDigest, DigestKey, VerifiedCredentials};

/// Maximum number of hashing threads.
const MAX_THREADS: usize = 2;

/// Verifies passwords off the traffic threads. `Debug` shows only counts.
pub struct PasswordVerifier {
    key: DigestKey,
    verified: Arc<VerifiedCredentials>,
    pool: HashingPool,
}

impl std::fmt::Debug for PasswordVerifier {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PasswordVerifier").field("hashed", &self.hashed()).finish_non_exhaustive()
    }
}

impl PasswordVerifier {
    /// The verifier of the process. The first policy starts it, and it ends with the last one. Hold it across a reload,
    /// so that credentials stay verified.
    ///
    /// # Errors
    /// A thread cannot be created, or the operating system provides no random bytes.
    pub fn shared() -> io::Result<Arc<Self>> {
        static SHARED: Mutex<Weak<PasswordVerifier>> = Mutex::new(Weak::new());
        let mut shared = SHARED.lock();
        if let Some(running) = shared.upgrade() {
            return Ok(running);
        }
        let threads = available_parallelism().map_or(1, |cores| cores.get() / 2);
        let verifier = Arc::new(Self::start(threads.clamp(1, MAX_THREADS))?);
        *shared = Arc::downgrade(&verifier);
        Ok(verifier)
    }

    /// A verifier with threads and a cache of its own.
    ///
    /// # Errors
    /// As for `shared`.
    pub(super) fn start(threads: usize) -> io::Result<Self> {
        let key = DigestKey::random().map_err(|error| io::Error::other(error.to_string()))?;
        Ok(Self { key, verified: Arc::default(), pool: HashingPool::start(threads)? })
    }

    /// Number of passwords that were hashed since the start.
    pub fn hashed(&self) -> u64 {
        self.pool.started()
    }

    /// The digest of credentials.
    pub(super) fn digest(&self, policy: &str, user: &str, password: &str, hash: &PasswordHash) -> CredentialDigest {
        self.key.digest(policy, user, password, hash.as_bytes())
    }

    /// Whether these credentials were verified some minutes ago.
    pub(super) fn is_verified(&self, digest: &CredentialDigest, now: Instant) -> bool {
        self.verified.contains(digest, now)
    }

    /// Hashes a password. The result is `true` if it is the right one and the user exists.
    ///
    /// # Errors
    /// The queue is full.
    pub(super) fn hash(
        &self,
        digest: CredentialDigest,
        password: String,
        hash: &Arc<PasswordHash>,
        user_exists: bool,
        now: Instant,
    ) -> Result<HashResult, QueueFull> {
        self.pool.submit(digest, || {
            let (hash, verified) = (Arc::clone(hash), Arc::clone(&self.verified));
            Box::new(move || {
                // Hashed first: the time must not depend on whether the user exists.
                let is_right = hash.verify(password.as_bytes()) && user_exists;
                if is_right {
                    verified.insert(digest, now);
                }
                is_right
            })
        })
    }
}
