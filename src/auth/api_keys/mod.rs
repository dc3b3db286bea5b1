//! API keys: a file with names and hashes of keys, and a header field or a query parameter that carries the key.
//!
//! A plain SHA-256 is enough for a key: it has at least 128 random bits, so an attacker cannot try all
//! keys, however fast the hash is. A password has far fewer, and needs the slow hashes of `basic`.
//!
//! A key is found by its digest. A client cannot choose the digest of a key that it does not know, so the time of the
//! look-up tells nothing about the keys.

mod key_digest;
mod key_file;
mod key_location;
mod query;

pub use key_digest::{KeyDigest, MIN_KEY_BYTES, generate_key};
pub use key_file::{ApiKeys, is_key_name, key_line};
pub use key_location::KeyLocation;
pub use query::without_parameter;

use http::{HeaderMap, HeaderValue};

use super::{Identity, Refusal};

/// A policy of the kind `api_keys`, compiled.
#[derive(Debug)]
pub struct ApiKeyPolicy {
    keys: ApiKeys,
    location: KeyLocation,
}

impl ApiKeyPolicy {
    /// A policy with these keys.
    pub fn new(keys: ApiKeys, location: KeyLocation) -> Self {
        Self { keys, location }
    }

    /// The identity of a request: the name of its key.
    ///
    /// # Errors
    /// The request has no key, several keys, or an unknown one.
    pub fn check(&self, headers: &HeaderMap, query: Option<&str>) -> Result<Identity, Refusal> {
        let key = self.location.key_in(headers, query)?;
        self.keys.find(&KeyDigest::of(&key)).cloned().ok_or(Refusal::Wrong)
    }

    /// Where the key stands. It must be removed there before the request reaches the backend and the log.
    pub fn location(&self) -> &KeyLocation {
        &self.location
    }

    /// The value of WWW-Authenticate for a refused request.
    pub fn challenge(&self) -> HeaderValue {
        self.location.challenge()
    }
}

#[cfg(test)]
mod tests;
