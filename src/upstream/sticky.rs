//! Affinity cookie: names the backend of a client by an opaque token.
//!
//! Pure. `members` decides about the pick.
//!
//! The value of a cookie is a list of entries, one per upstream, so that upstreams on one host can share a cookie name:
//!
//! ```text
//! weir=TTTTBBBBBBBBBBBBBBBBBBBBSSSSSSSS.TTTT…     T: upstream, B: backend, S: time of writing in seconds (hex)
//! ```
//!
//! T and B are parts of HMAC-SHA-256 (RFC 2104) of names under a secret. So they are the same in every process with the
//! secret, and mean nothing to others. A client can change the time of writing, but gains only a longer affinity.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit, Mac};
use http::HeaderValue;
use sha2::Sha256;

use crate::config::schema;
use crate::config::values::BackendAddress;

/// Characters that identify an upstream: 3 bytes. A collision of two upstreams would only make them overwrite each
/// other's entries.
const TAG_BYTES: usize = 4;

/// Characters that identify a backend: 15 bytes.
const TOKEN_BYTES: usize = 20;

/// Characters of a time.
const TIME_BYTES: usize = 8;

const ENTRY_BYTES: usize = TAG_BYTES + TOKEN_BYTES + TIME_BYTES;

/// Maximum number of entries in one cookie; the oldest are dropped.
const MAX_ENTRIES: usize = 4;

/// Identifies a backend in a cookie.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct BackendToken([u8; TOKEN_BYTES]);

/// The entry of one upstream in the cookie of a client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CookieValue {
    /// The backend.
    pub token: BackendToken,
    /// Whether the entry is so recent that it need not be renewed.
    pub fresh: bool,
}

/// `upstreams.*.sticky`, compiled with its secret.
pub struct Sticky {
    cookie: Box<str>,
    /// In seconds; 0: a session cookie.
    ttl: u64,
    upstream: Box<str>,
    tag: [u8; TAG_BYTES],
    mac: Hmac<Sha256>,
    secure: Option<bool>,
    attributes: Box<str>,
}

impl Sticky {
    /// Compiles the settings. `secret`: of any length; without it, tokens cannot be matched to backends.
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

    /// The name of the cookie.
    pub fn cookie(&self) -> &str {
        &self.cookie
    }

    /// Whether both have the same secret and upstream, so that they make equal tokens.
    pub fn has_secret_of(&self, other: &Self) -> bool {
        let proof = |sticky: &Self| sticky.letters::<43>("proof", "");
        proof(self) == proof(other)
    }

    /// The token of a backend. It depends only on the address, the name of the upstream and the secret.
    pub fn token(&self, address: &BackendAddress) -> BackendToken {
        BackendToken(self.letters("backend", &address.to_string()))
    }

    /// Reads the values of all cookies of its name. The first valid entry of this upstream counts. An entry older than
    /// `ttl` is ignored.
    pub fn read<'a>(&self, values: impl Iterator<Item = &'a [u8]>, now_s: u64) -> Option<CookieValue> {
        let mut entries = values.flat_map(entries).filter(|entry| entry.starts_with(&self.tag));
        let (token, written) = entries.find_map(|entry| Some((token(entry)?, time(entry)?)))?;
        if self.ttl == 0 {
            return Some(CookieValue { token, fresh: true });
        }
        // Written by a Weir with a clock that is ahead: renewed, so that both agree.
        let age = now_s.checked_sub(written);
        let fresh = age.is_some_and(|age| age < self.ttl.div_ceil(2));
        age.is_none_or(|age| age <= self.ttl).then_some(CookieValue { token, fresh })
    }

    /// A `Set-Cookie` value for a backend (RFC 6265 section 4.1). `values`: the cookies of the client, whose entries of
    /// other upstreams are retained. `by_tls`: whether the client connection uses TLS.
    ///
    /// # Errors
    /// None in practice: the configuration checks refuse everything that a header field cannot contain.
    pub fn write<'a>(
        &self,
        token: BackendToken,
        values: impl Iterator<Item = &'a [u8]>,
        now_s: u64,
        by_tls: bool,
    ) -> Result<HeaderValue, http::header::InvalidHeaderValue> {
        let mut retained: Vec<&[u8]> = Vec::with_capacity(MAX_ENTRIES);
        for entry in values.flat_map(entries) {
            let known =
                entry.starts_with(&self.tag) || retained.iter().any(|other| other[..TAG_BYTES] == entry[..TAG_BYTES]);
            if !known && retained.len() < MAX_ENTRIES - 1 {
                retained.push(entry);
            }
        }
        let length = self.cookie.len() + (retained.len() + 1) * (ENTRY_BYTES + 1) + self.attributes.len() + 16;
        let mut text = Vec::with_capacity(length);
        text.extend_from_slice(self.cookie.as_bytes());
        text.push(b'=');
        text.extend_from_slice(&self.tag);
        text.extend_from_slice(&token.0);
        text.extend_from_slice(format!("{:08x}", now_s as u32).as_bytes());
        for entry in retained {
            text.push(b'.');
            text.extend_from_slice(entry);
        }
        text.extend_from_slice(self.attributes.as_bytes());
        if self.secure.unwrap_or(by_tls) {
            text.extend_from_slice(b"; Secure");
        }
        HeaderValue::from_maybe_shared(bytes::Bytes::from(text))
    }

    /// The first characters of the MAC of these texts.
    fn letters<const N: usize>(&self, what: &str, of: &str) -> [u8; N] {
        let mut mac = self.mac.clone();
        for part in [what, &self.upstream, of] {
            mac.update(part.as_bytes());
            // A separator that no name contains, so that different lists never give the same input.
            mac.update(b"\0");
        }
        let text = URL_SAFE_NO_PAD.encode(mac.finalize().into_bytes());
        let mut letters = [0; N];
        letters.copy_from_slice(&text.as_bytes()[..N]);
        letters
    }
}

/// Omits the secret.
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

/// The parts of a value that have the form of an entry.
fn entries(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    let letter = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    // Bounds the work for a long value from a client.
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
