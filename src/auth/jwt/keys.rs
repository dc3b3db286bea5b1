//! A JSON Web Key Set: the public keys of an issuer (RFC 7517).
//!
//! A key serves only the algorithms of its type, and only its own `alg` if it has one. So the header of a token cannot
//! choose how a key is used.

use serde_json::Value;

use super::public_key::{PublicKey, broken};
use super::{JwtAlgorithm, json};

/// Maximum number of keys in a set.
pub const MAX_KEYS: usize = 256;
/// Maximum size of a document, in bytes.
pub const MAX_KEY_SET_BYTES: usize = 1 << 20;
/// Maximum number of keys that are tried for a token without a key id. Each costs a signature verification.
const MAX_TRIED_KEYS: usize = 8;

/// Public keys for the signatures of tokens.
#[derive(Debug)]
pub struct KeySet {
    keys: Vec<PublicKey>,
}

/// A key set, and the keys of the document that it leaves out.
#[derive(Debug)]
pub struct ParsedKeys {
    /// The usable keys.
    pub keys: KeySet,
    /// The other keys.
    pub skipped: Vec<SkippedKey>,
}

/// A key that is left out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SkippedKey {
    /// Its place in `keys`.
    pub index: usize,
    /// The reason, for messages.
    pub reason: &'static str,
    /// The key is broken. Otherwise it is a sound key for another purpose, such as encryption.
    pub broken: bool,
}

/// Why a document has no keys.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeySetError {
    /// The document is too large.
    #[error("it is larger than 1 MiB")]
    TooLarge,
    /// The document is not a JSON object, or it has a repeated member.
    #[error("it is not a JSON Web Key Set: {0}")]
    NotJson(String),
    /// There is no list of keys.
    #[error("it is not a JSON Web Key Set: it has no list `keys`")]
    NoList,
    /// No key of the list is usable.
    #[error("it has no key that can verify a token{}", first_reason(.0))]
    NoUsableKey(Vec<SkippedKey>),
}

fn first_reason(skipped: &[SkippedKey]) -> String {
    skipped.first().map(|key| format!(": keys[{}]: {}", key.index, key.reason)).unwrap_or_default()
}

impl KeySet {
    /// Parses a document. A key that cannot be used is left out.
    ///
    /// # Errors
    /// The document is not a key set, or it has no usable key.
    pub fn parse(document: &[u8]) -> Result<ParsedKeys, KeySetError> {
        if document.len() > MAX_KEY_SET_BYTES {
            return Err(KeySetError::TooLarge);
        }
        let document = json::object(document).map_err(|error| KeySetError::NotJson(error.to_string()))?;
        let list = document.get("keys").and_then(Value::as_array).ok_or(KeySetError::NoList)?;
        let (mut keys, mut skipped) = (Vec::new(), Vec::new());
        // One more than the maximum, so that the first key that is left out is reported.
        for (index, value) in list.iter().enumerate().take(MAX_KEYS + 1) {
            let parsed = match value.as_object() {
                Some(_) if index == MAX_KEYS => {
                    Err(broken("it and all after it are left out: a set has at most 256 keys"))
                }
                Some(members) => PublicKey::parse(members),
                None => Err(broken("it is not an object")),
            };
            match parsed {
                Ok(key) => keys.push(key),
                Err(unfit) => skipped.push(SkippedKey { index, reason: unfit.reason, broken: unfit.broken }),
            }
        }
        match keys.is_empty() {
            true => Err(KeySetError::NoUsableKey(skipped)),
            false => Ok(ParsedKeys { keys: Self { keys }, skipped }),
        }
    }

    /// The number of keys.
    pub fn len(&self) -> usize {
        self.keys.len()
    }

    /// Whether there is no key.
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// Whether a key has this id.
    pub(super) fn has(&self, id: &str) -> bool {
        self.keys.iter().any(|key| key.id.as_deref() == Some(id))
    }

    /// The keys that may have signed a token with this key id and algorithm.
    pub(super) fn candidates<'a>(
        &'a self,
        id: Option<&'a str>,
        algorithm: JwtAlgorithm,
    ) -> impl Iterator<Item = &'a PublicKey> {
        self.keys.iter().filter(move |key| key.fits(id, algorithm)).take(MAX_TRIED_KEYS)
    }
}
