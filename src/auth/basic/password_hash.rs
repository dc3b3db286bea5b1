//! A stored password hash: bcrypt, Argon2 or SHA-crypt. Weak formats are rejected by name.
//!
//! The cost is bounded, so that no line of a file can keep a thread busy for minutes or take all memory.

use std::fmt;
use std::str::FromStr;

use argon2::Argon2;
use argon2::password_hash::phc;
use sha_crypt::{PasswordVerifier as _, ShaCrypt};

/// Largest cost of bcrypt. Each step doubles the time; 16 takes several seconds.
const MAX_BCRYPT_COST: u32 = 16;
/// Smallest cost of bcrypt that the algorithm has.
const MIN_BCRYPT_COST: u32 = 4;
/// Most memory of an Argon2 hash, in KiB. Two hashes may be computed at the same time.
const MAX_ARGON2_KIB: u32 = 256 << 10;
/// Most passes of an Argon2 hash.
const MAX_ARGON2_PASSES: u32 = 16;
/// Most lanes of an Argon2 hash.
const MAX_ARGON2_LANES: u32 = 16;
/// Most rounds of a SHA-crypt hash; 1,000,000 take about a second.
const MAX_SHA_CRYPT_ROUNDS: u32 = 1_000_000;
/// Fewest rounds that SHA-crypt has.
const MIN_SHA_CRYPT_ROUNDS: u32 = 1_000;
/// Longest salt of SHA-crypt.
const MAX_SHA_CRYPT_SALT: usize = 16;

/// A hash as it stands in the file. `Debug` shows only its algorithm.
pub(super) struct PasswordHash {
    algorithm: HashAlgorithm,
    text: Box<str>,
}

/// The algorithms that are accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum HashAlgorithm {
    Bcrypt,
    Argon2,
    ShaCrypt,
}

/// A hash that is not accepted. It contains no part of the hash, because that may be a password in clear.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum BadHash {
    #[error("no hash after the user")]
    Missing,
    #[error("{0}, which is too weak")]
    Weak(&'static str),
    #[error("{0}, which is not supported")]
    Unsupported(&'static str),
    #[error("the {0} hash is malformed")]
    Malformed(&'static str),
    #[error("{what} {value} is out of bounds: {min} to {max}")]
    OutOfBounds { what: &'static str, value: u32, min: u32, max: u32 },
    #[error("no known hash: a password in clear or an unknown format")]
    Unknown,
}

impl fmt::Debug for PasswordHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PasswordHash").field("algorithm", &self.algorithm).finish_non_exhaustive()
    }
}

impl FromStr for PasswordHash {
    type Err = BadHash;

    fn from_str(text: &str) -> Result<Self, BadHash> {
        let algorithm = match prefix(text) {
            "$2a$" | "$2b$" | "$2y$" => check_bcrypt(text).map(|()| HashAlgorithm::Bcrypt),
            "$argon2id$" | "$argon2i$" => check_argon2(text).map(|()| HashAlgorithm::Argon2),
            "$5$" => check_sha_crypt("SHA-256-crypt", text, 43, "./0123456789ABCD").map(|()| HashAlgorithm::ShaCrypt),
            "$6$" => check_sha_crypt("SHA-512-crypt", text, 86, "./01").map(|()| HashAlgorithm::ShaCrypt),
            other => Err(rejected(other, text)),
        }?;
        Ok(Self { algorithm, text: text.into() })
    }
}

impl PasswordHash {
    /// Hashes the password and compares. It takes as long for a wrong password as for the right one.
    pub(super) fn verify(&self, password: &[u8]) -> bool {
        match self.algorithm {
            HashAlgorithm::Bcrypt => bcrypt::verify(password, &self.text).unwrap_or(false),
            HashAlgorithm::Argon2 => Argon2::default().verify_password(password, &*self.text).is_ok(),
            HashAlgorithm::ShaCrypt => ShaCrypt::default().verify_password(password, &*self.text).is_ok(),
        }
    }

    /// The text of the file.
    pub(super) fn as_bytes(&self) -> &[u8] {
        self.text.as_bytes()
    }
}

/// `$id$` of a hash, or an empty text.
fn prefix(text: &str) -> &str {
    let end = text.strip_prefix('$').and_then(|rest| rest.find('$'));
    end.map_or("", |end| &text[..end + 2])
}

fn rejected(prefix: &str, text: &str) -> BadHash {
    let is_crypt = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'/');
    match prefix {
        "$apr1$" | "$1$" => BadHash::Weak("MD5"),
        "$2x$" | "$2$" => BadHash::Weak("bcrypt of a faulty version"),
        "$argon2d$" => BadHash::Unsupported("Argon2d"),
        "$y$" | "$gy$" => BadHash::Unsupported("yescrypt"),
        "$7$" => BadHash::Unsupported("scrypt"),
        _ if text.is_empty() => BadHash::Missing,
        _ if text.starts_with("{SHA}") => BadHash::Weak("{SHA}, SHA-1 without a salt"),
        _ if text.starts_with("{SSHA}") => BadHash::Weak("{SSHA}, a single SHA-1"),
        _ if text.len() == 13 && text.bytes().all(is_crypt) => BadHash::Weak("DES crypt or a password in clear"),
        _ => BadHash::Unknown,
    }
}

fn within(what: &'static str, value: u32, min: u32, max: u32) -> Result<(), BadHash> {
    if (min..=max).contains(&value) { Ok(()) } else { Err(BadHash::OutOfBounds { what, value, min, max }) }
}

fn check_bcrypt(text: &str) -> Result<(), BadHash> {
    let parts: bcrypt::HashParts = text.parse().map_err(|_| BadHash::Malformed("bcrypt"))?;
    within("the cost of bcrypt", parts.get_cost(), MIN_BCRYPT_COST, MAX_BCRYPT_COST)
}

fn check_argon2(text: &str) -> Result<(), BadHash> {
    let malformed = || BadHash::Malformed("Argon2");
    let hash = phc::PasswordHash::new(text).map_err(|_| malformed())?;
    let params = argon2::Params::try_from(&hash).map_err(|_| malformed())?;
    let version = hash.version.and_then(|version| argon2::Version::try_from(version).ok());
    if hash.salt.is_none() || hash.hash.is_none() || version.is_none() {
        return Err(malformed());
    }
    within("the memory (`m`) of Argon2", params.m_cost(), argon2::Params::MIN_M_COST, MAX_ARGON2_KIB)?;
    within("the passes (`t`) of Argon2", params.t_cost(), 1, MAX_ARGON2_PASSES)?;
    within("the lanes (`p`) of Argon2", params.p_cost(), 1, MAX_ARGON2_LANES)
}

/// `$5$[rounds=N$]SALT$HASH`. The last character of the hash has unused bits: it is one of `last`.
fn check_sha_crypt(name: &'static str, text: &str, hash_chars: usize, last: &str) -> Result<(), BadHash> {
    let malformed = || BadHash::Malformed(name);
    let mut fields: Vec<&str> = text.split('$').skip(2).collect();
    if let Some(rounds) = fields.first().and_then(|field| field.strip_prefix("rounds=")) {
        let is_number = !rounds.is_empty() && rounds.bytes().all(|byte| byte.is_ascii_digit());
        let rounds = if is_number { rounds.parse().unwrap_or(u32::MAX) } else { return Err(malformed()) };
        within("the rounds of SHA-crypt", rounds, MIN_SHA_CRYPT_ROUNDS, MAX_SHA_CRYPT_ROUNDS)?;
        fields.remove(0);
    }
    let [salt, hash] = fields[..] else { return Err(malformed()) };
    let is_crypt = |text: &str| text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'/'));
    let fits = (1..=MAX_SHA_CRYPT_SALT).contains(&salt.len())
        && hash.len() == hash_chars
        && hash.ends_with(|c| last.contains(c));
    if fits && is_crypt(salt) && is_crypt(hash) { Ok(()) } else { Err(malformed()) }
}

#[cfg(test)]
#[path = "password_hash_tests.rs"]
mod tests;
