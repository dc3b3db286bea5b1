//! `Via`: records that Weir forwarded the message (RFC 9110 section 7.6.3).
//!
//! It detects no loops. A gateway need not detect them, and the limits of the first hop end a loop.

use http::{HeaderMap, HeaderValue, Version, header};

/// Appends Weir's entry after those of earlier proxies (RFC 9110 section 7.6.3).
///
/// `received` is the version in which Weir received the message, not the version in which it is forwarded.
pub fn add(headers: &mut HeaderMap, received: Version) {
    headers.append(header::VIA, entry(received));
}

fn entry(received: Version) -> HeaderValue {
    HeaderValue::from_static(match received {
        Version::HTTP_2 => "2 weir",
        Version::HTTP_10 => "1.0 weir",
        _ => "1.1 weir",
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests {
    use super::*;

    #[test]
    fn appends_and_keeps_order() {
        let mut headers = HeaderMap::new();
        headers.append("via", "1.0 fred".parse().unwrap());
        for received in [Version::HTTP_2, Version::HTTP_11] {
            add(&mut headers, received);
        }
        let values: Vec<_> = headers.get_all("via").iter().map(|v| v.to_str().unwrap()).collect();
        assert_eq!(values, ["1.0 fred", "2 weir", "1.1 weir"]);
    }
}
