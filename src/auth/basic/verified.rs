//! A bounded cache of credentials that were verified, so that only the first request of a client costs a hash.
//!
//! It holds no credentials, only their keyed digests. The digest contains the stored hash: when the password of a user
//! changes, the cached result is not found any more.

use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

use hmac::{Hmac, KeyInit, Mac};
use parking_lot::Mutex;
use sha2::Sha256;

/// Maximum number of entries. A new entry replaces the oldest one.
const MAX_ENTRIES: usize = 10_000;
/// Lifetime of an entry. Use does not extend it.
const LIFETIME: Duration = Duration::from_secs(5 * 60);
/// Length of the key, in bytes: the output length of HMAC-SHA-256 (RFC 2104 section 3).
const KEY_BYTES: usize = 32;

/// The keyed digest of credentials. A client cannot choose it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct CredentialDigest([u8; 32]);

/// Computes digests with a random key of the process.
pub(super) struct DigestKey(Hmac<Sha256>);

impl DigestKey {
    /// A random key.
    ///
    /// # Errors
    /// The operating system provides no random bytes.
    pub(super) fn random() -> Result<Self, getrandom::Error> {
        let mut key = [0; KEY_BYTES];
        getrandom::fill(&mut key)?;
        Hmac::new_from_slice(&key).map(Self).map_err(|_| getrandom::Error::UNEXPECTED)
    }

    /// The digest of credentials, for one policy and one stored hash.
    pub(super) fn digest(&self, policy: &str, user: &str, password: &str, hash: &[u8]) -> CredentialDigest {
        let mut mac = self.0.clone();
        for part in [policy.as_bytes(), user.as_bytes(), password.as_bytes(), hash] {
            // The length keeps the parts apart.
            mac.update(&part.len().to_le_bytes());
            mac.update(part);
        }
        CredentialDigest(mac.finalize().into_bytes().into())
    }
}

/// The cache. Requests take its lock for one look-up.
#[derive(Default)]
pub(super) struct VerifiedCredentials(Mutex<VerifiedEntries>);

#[derive(Default)]
struct VerifiedEntries {
    until: HashMap<CredentialDigest, Instant>,
    /// The oldest first. All entries live equally long, so it is also the order in which they expire.
    order: VecDeque<(Instant, CredentialDigest)>,
}

impl VerifiedCredentials {
    /// Whether these credentials were verified within the lifetime.
    pub(super) fn contains(&self, digest: &CredentialDigest, now: Instant) -> bool {
        self.0.lock().until.get(digest).is_some_and(|until| now < *until)
    }

    /// Stores that these credentials were verified.
    pub(super) fn insert(&self, digest: CredentialDigest, now: Instant) {
        let mut entries = self.0.lock();
        entries.evict(now);
        let until = now + LIFETIME;
        entries.until.insert(digest, until);
        entries.order.push_back((until, digest));
    }

    #[cfg(test)]
    fn lengths(&self) -> (usize, usize) {
        let entries = self.0.lock();
        (entries.until.len(), entries.order.len())
    }
}

impl VerifiedEntries {
    /// Removes expired entries, and the oldest one if there is no place for another.
    fn evict(&mut self, now: Instant) {
        while let Some((until, digest)) = self.order.front().copied() {
            if now < until && self.order.len() < MAX_ENTRIES {
                return;
            }
            self.order.pop_front();
            // An entry that was stored again has a later time, and stays.
            if self.until.get(&digest) == Some(&until) {
                self.until.remove(&digest);
            }
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn numbered(number: usize) -> CredentialDigest {
        let mut bytes = [0; 32];
        bytes[..8].copy_from_slice(&number.to_le_bytes());
        CredentialDigest(bytes)
    }

    #[test]
    fn an_entry_lives_five_minutes_and_use_does_not_extend_it() {
        let (cache, start) = (VerifiedCredentials::default(), Instant::now());
        cache.insert(numbered(1), start);
        assert!(cache.contains(&numbered(1), start + Duration::from_secs(299)));
        assert!(!cache.contains(&numbered(1), start + Duration::from_secs(300)));
        assert!(!cache.contains(&numbered(2), start));
    }

    #[test]
    fn the_cache_is_bounded_and_the_oldest_entry_is_replaced() {
        let (cache, now) = (VerifiedCredentials::default(), Instant::now());
        (0..MAX_ENTRIES + 5).for_each(|number| cache.insert(numbered(number), now));
        assert_eq!(cache.lengths(), (MAX_ENTRIES, MAX_ENTRIES));
        assert!(!cache.contains(&numbered(4), now) && cache.contains(&numbered(5), now));
    }

    #[test]
    fn storing_the_same_credentials_again_extends_them_and_takes_bounded_memory() {
        let (cache, start) = (VerifiedCredentials::default(), Instant::now());
        for step in 0..3 * MAX_ENTRIES as u64 {
            cache.insert(numbered(1), start + Duration::from_millis(step));
        }
        let (live, order) = cache.lengths();
        assert!(live == 1 && order <= MAX_ENTRIES, "{live} {order}");
        assert!(cache.contains(&numbered(1), start + LIFETIME));
    }

    #[test]
    fn expired_entries_are_removed() {
        let (cache, start) = (VerifiedCredentials::default(), Instant::now());
        (0..100).for_each(|number| cache.insert(numbered(number), start));
        cache.insert(numbered(100), start + LIFETIME);
        assert_eq!(cache.lengths(), (1, 1));
    }

    #[test]
    fn a_digest_depends_on_each_part_and_on_the_key() {
        let (key, other) = (DigestKey::random().unwrap(), DigestKey::random().unwrap());
        let digest = key.digest("p", "u", "w", b"h");
        assert_eq!(digest, key.digest("p", "u", "w", b"h"));
        let others = [
            key.digest("q", "u", "w", b"h"),
            key.digest("p", "v", "w", b"h"),
            key.digest("p", "u", "x", b"h"),
            key.digest("p", "u", "w", b"i"),
            key.digest("pu", "", "w", b"h"),
            key.digest("p", "uw", "", b"h"),
            other.digest("p", "u", "w", b"h"),
        ];
        assert!(others.iter().all(|other| *other != digest));
    }
}
