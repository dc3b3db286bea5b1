//! What a cookie says to bring a client back to its backend, without saying which one that is.
//!
//! A cookie's value is a list of entries, one an upstream, so that upstreams on one host can share a name:
//!
//! ```text
//! weir=TTTTBBBBBBBBBBBBBBBBBBBBSSSSSSSS.TTTT…     T the upstream, B the backend, S when it was written, in seconds (hex)
//! ```
//!
//! T and B are cut from HMAC-SHA-256 (RFC 2104) of names under a secret, so they are the same in every process that has the
//! secret and tell nothing to who has it not. When it was written is the client's to change: it would only stay longer. Pure; who
//! is picked is decided by `members`.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit, Mac};
use http::HeaderValue;
use sha2::Sha256;

use crate::config::schema;
use crate::config::values::BackendAddress;

/// Letters that stand for an upstream: 3 bytes. Two of a kind would only overwrite each other's entries.
const TAG_BYTES: usize = 4;

/// Letters that stand for a backend: 15 bytes.
const TOKEN_BYTES: usize = 20;

/// Letters of a time.
const TIME_BYTES: usize = 8;

const ENTRY_BYTES: usize = TAG_BYTES + TOKEN_BYTES + TIME_BYTES;

/// Entries that one cookie holds; those written before give way.
const MAX_ENTRIES: usize = 4;

/// What stands for a backend in a cookie.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct BackendToken([u8; TOKEN_BYTES]);

/// What a client's cookie says of one upstream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CookieValue {
    /// The backend.
    pub token: BackendToken,
    /// It was written so short a time ago that it need not be written again.
    pub fresh: bool,
}

/// `upstreams.*.sticky`, compiled with its secret.
pub struct Sticky {
    cookie: Box<str>,
    /// In seconds; 0: for the client's session.
    ttl: u64,
    upstream: Box<str>,
    tag: [u8; TAG_BYTES],
    mac: Hmac<Sha256>,
    secure: Option<bool>,
    attributes: Box<str>,
}

impl Sticky {
    /// `secret`: of any length, but it is what keeps backends unknown.
    pub fn new(upstream: &str, settings: &schema::StickySettings, secret: &[u8]) -> Self {
        let mac = Hmac::<Sha256>::new_from_slice(secret).expect("HMAC takes a key of any length");
        let mut sticky = Self {
            cookie: settings.cookie.as_str().into(),
            ttl: settings.ttl.get().as_millis().div_ceil(1_000) as u64,
            upstream: upstream.into(),
            tag: [0; TAG_BYTES],
            mac,
            secure: settings.attributes.secure,
            attributes: "".into(),
        };
        sticky.attributes = attributes(&settings.attributes, sticky.ttl).into();
        sticky.tag = sticky.letters("upstream", "");
        sticky
    }

    /// The cookie's name.
    pub fn cookie(&self) -> &str {
        &self.cookie
    }

    /// Whether the two would write the same of the same backend.
    pub fn has_secret_of(&self, other: &Self) -> bool {
        let proof = |sticky: &Self| sticky.letters::<43>("proof", "");
        proof(self) == proof(other)
    }

    /// What stands for a backend: the same as long as its address, the upstream's name and the secret are.
    pub fn token(&self, address: &BackendAddress) -> BackendToken {
        BackendToken(self.letters("backend", &address.to_string()))
    }

    /// Reads the values of all cookies of its name. The first entry of this upstream counts; one that is older than the
    /// `ttl` counts as none.
    pub fn read<'a>(&self, values: impl Iterator<Item = &'a [u8]>, now_s: u64) -> Option<CookieValue> {
        let mut entries = values.flat_map(entries).filter(|entry| entry.starts_with(&self.tag));
        let (token, written) = entries.find_map(|entry| Some((token(entry)?, time(entry)?)))?;
        if self.ttl == 0 {
            return Some(CookieValue { token, fresh: true });
        }
        // Of a Weir whose clock is ahead: written anew, so that both agree.
        let age = now_s.checked_sub(written);
        let fresh = age.is_some_and(|age| age < self.ttl.div_ceil(2));
        age.is_none_or(|age| age <= self.ttl).then_some(CookieValue { token, fresh })
    }

    /// A Set-Cookie for a backend (RFC 6265 section 4.1). `values`: the cookies that the client has, of which entries of other
    /// upstreams stay. `by_tls`: the client came over TLS.
    ///
    /// # Errors
    /// None in practice: the checks of the configuration let nothing through that a header cannot carry.
    pub fn write<'a>(
        &self,
        token: BackendToken,
        values: impl Iterator<Item = &'a [u8]>,
        now_s: u64,
        by_tls: bool,
    ) -> Result<HeaderValue, http::header::InvalidHeaderValue> {
        let mut kept: Vec<&[u8]> = Vec::with_capacity(MAX_ENTRIES);
        for entry in values.flat_map(entries) {
            let known =
                entry.starts_with(&self.tag) || kept.iter().any(|other| other[..TAG_BYTES] == entry[..TAG_BYTES]);
            if !known && kept.len() < MAX_ENTRIES - 1 {
                kept.push(entry);
            }
        }
        let length = self.cookie.len() + (kept.len() + 1) * (ENTRY_BYTES + 1) + self.attributes.len() + 16;
        let mut text = Vec::with_capacity(length);
        text.extend_from_slice(self.cookie.as_bytes());
        text.push(b'=');
        text.extend_from_slice(&self.tag);
        text.extend_from_slice(&token.0);
        text.extend_from_slice(format!("{:08x}", now_s as u32).as_bytes());
        for entry in kept {
            text.push(b'.');
            text.extend_from_slice(entry);
        }
        text.extend_from_slice(self.attributes.as_bytes());
        if self.secure.unwrap_or(by_tls) {
            text.extend_from_slice(b"; Secure");
        }
        HeaderValue::from_maybe_shared(bytes::Bytes::from(text))
    }

    /// The first letters of the MAC of some words.
    fn letters<const N: usize>(&self, what: &str, of: &str) -> [u8; N] {
        let mut mac = self.mac.clone();
        for part in [what, &self.upstream, of] {
            mac.update(part.as_bytes());
            // No name has it, so no two lists of words are the same text.
            mac.update(b"\0");
        }
        let text = URL_SAFE_NO_PAD.encode(mac.finalize().into_bytes());
        let mut letters = [0; N];
        letters.copy_from_slice(&text.as_bytes()[..N]);
        letters
    }
}

/// Never its secret.
impl std::fmt::Debug for Sticky {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sticky").field("cookie", &self.cookie).field("ttl", &self.ttl).finish_non_exhaustive()
    }
}

fn attributes(attributes: &schema::CookieAttributes, ttl: u64) -> String {
    let mut text = format!("; Path={}", attributes.path);
    if let Some(domain) = &attributes.domain {
        text += &format!("; Domain={domain}");
    }
    if ttl > 0 {
        text += &format!("; Max-Age={ttl}");
    }
    if attributes.http_only {
        text += "; HttpOnly";
    }
    text += match attributes.same_site {
        schema::SameSite::Strict => "; SameSite=Strict",
        schema::SameSite::Lax => "; SameSite=Lax",
        schema::SameSite::None => "; SameSite=None",
    };
    text
}

/// What of a value can be an entry of some Weir's.
fn entries(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    let letter = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    // Nobody makes us look at more than what fits by writing a long one.
    let parts = value.split(|byte| *byte == b'.').take(MAX_ENTRIES);
    parts.filter(move |entry| entry.len() == ENTRY_BYTES && entry.iter().all(letter))
}

fn token(entry: &[u8]) -> Option<BackendToken> {
    entry.get(TAG_BYTES..TAG_BYTES + TOKEN_BYTES)?.try_into().ok().map(BackendToken)
}

fn time(entry: &[u8]) -> Option<u64> {
    let digits = std::str::from_utf8(entry.get(TAG_BYTES + TOKEN_BYTES..)?).ok()?;
    u32::from_str_radix(digits, 16).ok().map(u64::from)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
#[path = "sticky_tests.rs"]
mod tests;
