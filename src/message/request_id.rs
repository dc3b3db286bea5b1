//! `X-Request-Id`: the name of a request in logs, replies and at backends. Kept when the client brought a sane one.
//!
//! It never trusts the text further than that: the alphabet cannot break a log line, a header or JSON.

use std::cell::Cell;
use std::hash::{BuildHasher, RandomState};

use http::{HeaderMap, HeaderName, HeaderValue};

/// The field's name.
pub static NAME: HeaderName = HeaderName::from_static("x-request-id");

const LONGEST: usize = 128;

/// The identifier of a request: `[A-Za-z0-9._-]{1,128}`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestId(HeaderValue);

impl RequestId {
    /// The client's own where it sent exactly one that fits, else a new UUIDv7 (RFC 9562 section 5.7) of the time
    /// given.
    pub fn assign(headers: &HeaderMap, unix_millis: u64) -> Self {
        Self::brought(headers).unwrap_or_else(|| Self::fresh(unix_millis))
    }

    /// What the client brought, if it fits.
    pub fn brought(headers: &HeaderMap) -> Option<Self> {
        // Cheaper than a look-up, which hashes the name: most requests have few fields and not this one.
        if !headers.keys().any(|name| *name == NAME) {
            return None;
        }
        let mut values = headers.get_all(&NAME).iter();
        let (value, None) = (values.next()?.as_bytes(), values.next()) else { return None };
        let fits = |b: &u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
        ((1..=LONGEST).contains(&value.len()) && value.iter().all(fits)).then(|| Self::of(value))
    }

    /// A new one.
    pub fn fresh(unix_millis: u64) -> Self {
        let uuid = uuid::Builder::from_unix_timestamp_millis(unix_millis, &random_bytes()).into_uuid();
        let mut text = [0; uuid::fmt::Hyphenated::LENGTH];
        Self::of(uuid.hyphenated().encode_lower(&mut text).as_bytes())
    }

    fn of(text: &[u8]) -> Self {
        let mut value = HeaderValue::from_bytes(text).unwrap_or_else(|_| HeaderValue::from_static("-"));
        // It does not come again: in HPACK's table (RFC 7541 section 2.3.2) it would displace what does.
        value.set_sensitive(true);
        Self(value)
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        // Both ways to make one leave ASCII only.
        std::str::from_utf8(self.0.as_bytes()).unwrap_or_default()
    }

    /// As a field's value; shares the text.
    pub fn value(&self) -> HeaderValue {
        self.0.clone()
    }

    /// Writes it to a message.
    pub fn apply(&self, headers: &mut HeaderMap) {
        headers.insert(&NAME, self.value());
    }
}

/// Ten bytes of which nobody outside can guess eight, without a system call or a lock: SipHash of a counter under the
/// thread's own key, and the counter's end, so that no two of a thread are equal.
fn random_bytes() -> [u8; 10] {
    thread_local! {
        static KEY: RandomState = RandomState::new();
        static COUNT: Cell<u64> = const { Cell::new(0) };
    }
    let count = COUNT.get();
    COUNT.set(count.wrapping_add(1));
    let hash = KEY.with(|key| key.hash_one(count));
    let mut bytes = [0; 10];
    bytes[..8].copy_from_slice(&hash.to_ne_bytes());
    bytes[8..].copy_from_slice(&count.to_le_bytes()[..2]);
    bytes
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests {
    use super::*;

    fn assign(values: &[&str]) -> RequestId {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append("x-request-id", value.parse().unwrap());
        }
        RequestId::assign(&headers, 1_700_000_000_000)
    }

    #[test]
    fn keeps_a_sane_one() {
        assert_eq!(assign(&["Az09._-"]).as_str(), "Az09._-");
        assert_eq!(assign(&[&"a".repeat(128)]).as_str().len(), 128);
    }

    #[test]
    fn replaces_the_rest() {
        for values in [&[][..], &[""], &["a b"], &["a\"b"], &["a", "b"], &["a".repeat(129).as_str()], &["{}"]] {
            let id = assign(values);
            let uuid = uuid::Uuid::parse_str(id.as_str()).unwrap();
            assert_eq!(uuid.get_version_num(), 7, "{values:?}");
            assert_eq!(uuid.get_timestamp().unwrap().to_unix(), (1_700_000_000, 0));
        }
    }

    #[test]
    fn stays_out_of_the_table_of_http2() {
        let mut headers = HeaderMap::new();
        for values in [&["brought"][..], &[]] {
            assign(values).apply(&mut headers);
            assert!(headers[&NAME].is_sensitive());
        }
    }

    #[test]
    fn never_the_same_twice() {
        let make = || (0..2_000).map(|_| assign(&[]).as_str().to_owned()).collect::<Vec<_>>();
        let other = std::thread::spawn(make);
        let all: std::collections::HashSet<_> = make().into_iter().chain(other.join().unwrap()).collect();
        assert_eq!(all.len(), 4_000);
    }
}
