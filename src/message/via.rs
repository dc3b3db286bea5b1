//! `Via`: records that Weir forwarded the message, and finds requests that return to this process (RFC 9110 section
//! 7.6.3).
//!
//! In requests, each process has its own random pseudonym, so Weir behind Weir is no loop. Responses have a common name:
//! they cannot loop, and the pseudonym stays inside.

use std::sync::LazyLock;

use http::{HeaderMap, HeaderValue, Version, header};

/// The number of times that a request may pass this process. A configuration may send a request through a second
/// listener of the same process on purpose.
const MAX_PASSES: usize = 2;

static OWN: LazyLock<Entries> = LazyLock::new(|| Entries::new(random()));

/// The entries of one process.
struct Entries {
    pseudonym: &'static str,
    http10: HeaderValue,
    http11: HeaderValue,
    http2: HeaderValue,
}

impl Entries {
    /// The texts are leaked: there is one value per process, and a copy of a static `HeaderValue` costs nothing.
    fn new(random: u64) -> Self {
        let pseudonym: &'static str = format!("weir-{random:016x}").leak();
        let entry = |version: &str| HeaderValue::from_static(format!("{version} {pseudonym}").leak());
        Self { pseudonym, http10: entry("1.0"), http11: entry("1.1"), http2: entry("2") }
    }

    fn of(&self, received: Version) -> &HeaderValue {
        match received {
            Version::HTTP_2 => &self.http2,
            Version::HTTP_10 => &self.http10,
            _ => &self.http11,
        }
    }

    fn count(&self, headers: &HeaderMap) -> usize {
        let fields = headers.get_all(header::VIA).iter().filter_map(|field| field.to_str().ok());
        let entries = fields.flat_map(|field| field.split(','));
        // An entry is: protocol, received-by, optional comment.
        entries.filter(|entry| entry.split_ascii_whitespace().nth(1) == Some(self.pseudonym)).count()
    }
}

/// Appends this process's entry to a request, after those of earlier proxies.
///
/// `received` is the version in which Weir received the message, not the version in which it is forwarded.
pub fn add_to_request(headers: &mut HeaderMap, received: Version) {
    headers.append(header::VIA, OWN.of(received).clone());
}

/// Appends Weir's entry to a response, after those of earlier proxies.
pub fn add_to_response(headers: &mut HeaderMap, received: Version) {
    let entry = match received {
        Version::HTTP_2 => "2 weir",
        Version::HTTP_10 => "1.0 weir",
        _ => "1.1 weir",
    };
    headers.append(header::VIA, HeaderValue::from_static(entry));
}

/// Whether a request has passed this process more often than it may.
pub fn is_loop(headers: &HeaderMap) -> bool {
    headers.contains_key(header::VIA) && OWN.count(headers) > MAX_PASSES
}

/// A number that no other process has. Without random bytes of the system, the process id has to do.
fn random() -> u64 {
    getrandom::u64().unwrap_or_else(|_| std::process::id().into())
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests {
    use super::*;

    fn values(headers: &HeaderMap) -> Vec<&str> {
        headers.get_all("via").iter().map(|value| value.to_str().unwrap()).collect()
    }

    #[test]
    fn appends_and_keeps_order() {
        let mut headers = HeaderMap::new();
        headers.append("via", "1.0 fred".parse().unwrap());
        for received in [Version::HTTP_2, Version::HTTP_11] {
            add_to_response(&mut headers, received);
        }
        assert_eq!(values(&headers), ["1.0 fred", "2 weir", "1.1 weir"]);
        add_to_request(&mut headers, Version::HTTP_10);
        assert_eq!(values(&headers)[3], format!("1.0 {}", OWN.pseudonym));
    }

    #[test]
    fn only_the_own_pseudonym_seen_more_than_twice_is_a_loop() {
        let own = OWN.pseudonym;
        let other = Entries::new(1).pseudonym;
        let entries = |values: &[String]| {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append("via", value.parse().unwrap());
            }
            is_loop(&headers)
        };
        let one = |name: &str| format!("1.1 {name}");
        assert!(!entries(&[]));
        assert!(!entries(&[one(own), one(own)]));
        assert!(entries(&[one(own), one("x"), one(own), one(own)]));
        assert!(entries(&[format!("1.1 {own}, 2 {own} (a comment),1.0  {own}")]), "in one field");
        assert!(!entries(&[one(other), one(other), one(other), one("weir"), one("weir"), one("weir")]));
        assert!(!entries(&[format!("1.1 {own}"), format!("1.1 {own}x"), format!("{own} {own}x"), own.to_owned()]));
    }

    #[test]
    fn pseudonyms_of_processes_differ() {
        assert_ne!(Entries::new(random()).pseudonym, Entries::new(random()).pseudonym);
    }
}
