//! `X-Request-Id`: the identifier of a request in logs, error responses and at backends. A valid id from the client is
//! kept.
//!
//! The allowed characters cannot break a log line, a header field or JSON.

use std::cell::Cell;
use std::hash::{BuildHasher, RandomState};

use http::{HeaderMap, HeaderName, HeaderValue};

/// The field name.
pub static NAME: HeaderName = HeaderName::from_static("x-request-id");

const MAX_ID_BYTES: usize = 128;

/// The identifier of a request: `[A-Za-z0-9._-]{1,128}`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestId(HeaderValue);

impl RequestId {
    /// The client's own id if it sent exactly one valid value. Otherwise a new UUIDv7 (RFC 9562 section 5.7) with the
    /// given time, in milliseconds since the Unix epoch.
    pub fn assign(headers: &HeaderMap, unix_millis: u64) -> Self {
        Self::brought(headers).unwrap_or_else(|| Self::fresh(unix_millis))
    }

    /// The client's own id, if it sent exactly one valid value.
    pub fn brought(headers: &HeaderMap) -> Option<Self> {
        // Cheaper than a look-up, which hashes the name: most requests have few fields and not this one.
        if !headers.keys().any(|name| *name == NAME) {
            return None;
        }
        let mut values = headers.get_all(&NAME).iter();
        let (value, None) = (values.next()?.as_bytes(), values.next()) else { return None };
        let fits = |b: &u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
        ((1..=MAX_ID_BYTES).contains(&value.len()) && value.iter().all(fits)).then(|| Self::of(value))
    }

    /// A new UUIDv7 with the given time, in milliseconds since the Unix epoch.
    pub fn fresh(unix_millis: u64) -> Self {
        let uuid = uuid::Builder::from_unix_timestamp_millis(unix_millis, &random_bytes()).into_uuid();
        let mut text = [0; uuid::fmt::Hyphenated::LENGTH];
        Self::of(uuid.hyphenated().encode_lower(&mut text).as_bytes())
    }

    fn of(text: &[u8]) -> Self {
        let mut value = HeaderValue::from_bytes(text).unwrap_or_else(|_| HeaderValue::from_static("-"));
        // The value is never repeated. In the HPACK dynamic table (RFC 7541 section 2.3.2) it would only displace
        // values that are repeated.
        value.set_sensitive(true);
        Self(value)
    }

    /// The text of the id.
    pub fn as_str(&self) -> &str {
        // Both constructors allow ASCII only.
        std::str::from_utf8(self.0.as_bytes()).unwrap_or_default()
    }

    /// The id as a field value. It shares the text.
    pub fn value(&self) -> HeaderValue {
        self.0.clone()
    }

    /// Writes the field to a message.
    pub fn apply(&self, headers: &mut HeaderMap) {
        headers.insert(&NAME, self.value());
    }
}

/// Returns ten bytes, of which eight cannot be predicted. These are the SipHash of a counter under the thread's own
/// key, so no system call and no lock is needed. The other two are the low bytes of the counter, so that the ids of one
/// thread differ.
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
    fn a_valid_id_of_the_client_is_kept() {
        assert_eq!(assign(&["Az09._-"]).as_str(), "Az09._-");
        assert_eq!(assign(&[&"a".repeat(128)]).as_str().len(), 128);
    }

    #[test]
    fn an_invalid_id_is_replaced() {
        for values in [&[][..], &[""], &["a b"], &["a\"b"], &["a", "b"], &["a".repeat(129).as_str()], &["{}"]] {
            let id = assign(values);
            let uuid = uuid::Uuid::parse_str(id.as_str()).unwrap();
            assert_eq!(uuid.get_version_num(), 7, "{values:?}");
            assert_eq!(uuid.get_timestamp().unwrap().to_unix(), (1_700_000_000, 0));
        }
    }

    #[test]
    fn the_id_is_not_added_to_the_hpack_table() {
        let mut headers = HeaderMap::new();
        for values in [&["brought"][..], &[]] {
            assign(values).apply(&mut headers);
            assert!(headers[&NAME].is_sensitive());
        }
    }

    #[test]
    fn all_ids_are_unique() {
        let make = || (0..2_000).map(|_| assign(&[]).as_str().to_owned()).collect::<Vec<_>>();
        let other = std::thread::spawn(make);
        let all: std::collections::HashSet<_> = make().into_iter().chain(other.join().unwrap()).collect();
        assert_eq!(all.len(), 4_000);
    }
}
