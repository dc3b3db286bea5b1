//! The opening handshake of a WebSocket (RFC 6455 section 4), for a WebSocket that Weir itself asks a backend for.
//!
//! An HTTP/1 client checks the response to its own handshake. An HTTP/2 client cannot (RFC 8441 section 5), so Weir
//! does it. It never reads the frames of a WebSocket.

use aws_lc_rs::digest;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderMap, HeaderValue, header};

use super::hop_by_hop;

/// The text that the backend appends to the key (RFC 6455 section 1.3).
const GUID: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// A Sec-WebSocket-Key: 16 random bytes in base64.
pub fn new_key() -> HeaderValue {
    let random = fastrand::u128(..).to_ne_bytes();
    HeaderValue::try_from(STANDARD.encode(random)).unwrap_or(HeaderValue::from_static("AAAAAAAAAAAAAAAAAAAAAA=="))
}

/// Checks a response 101 to a handshake with this key (RFC 6455 section 4.1).
///
/// # Errors
/// Why the response opens no WebSocket.
pub fn check_accepted(response: &HeaderMap, key: Option<&HeaderValue>) -> Result<(), &'static str> {
    let upgrades =
        response.get(header::UPGRADE).is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"websocket"));
    if !upgrades || !hop_by_hop::connection_names(response, b"upgrade") {
        return Err("101 without an upgrade to websocket");
    }
    let mut accepted = response.get_all(header::SEC_WEBSOCKET_ACCEPT).iter();
    let expected = key.map(|key| accept_of(key.as_bytes()));
    match (accepted.next(), accepted.next(), expected) {
        (Some(accepted), None, Some(expected)) if accepted.as_bytes() == expected.as_bytes() => Ok(()),
        _ => Err("101 without the right Sec-WebSocket-Accept"),
    }
}

/// The Sec-WebSocket-Accept for a key.
fn accept_of(key: &[u8]) -> String {
    let hash = digest::digest(&digest::SHA1_FOR_LEGACY_USE_ONLY, &[key, GUID].concat());
    STANDARD.encode(hash)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    /// The example of RFC 6455 section 1.3.
    const KEY: HeaderValue = HeaderValue::from_static("dGhlIHNhbXBsZSBub25jZQ==");
    const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

    fn checked(fields: &[(&'static str, &str)]) -> Result<(), &'static str> {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.append(*name, value.parse().unwrap());
        }
        check_accepted(&headers, Some(&KEY))
    }

    #[test]
    fn a_response_needs_the_accept_of_the_key_once_and_the_upgrade() {
        let upgrade = [("upgrade", "WebSocket"), ("connection", "keep-alive, Upgrade")];
        let with = |more: &[(&'static str, &'static str)]| checked(&[&upgrade, more].concat());
        assert_eq!(with(&[("sec-websocket-accept", ACCEPT)]), Ok(()));
        assert!(with(&[]).is_err());
        assert!(with(&[("sec-websocket-accept", "s3pPLMBiTxaQ9kYGzzhZRbK+xOo")]).is_err());
        assert!(with(&[("sec-websocket-accept", ACCEPT), ("sec-websocket-accept", ACCEPT)]).is_err());
        assert!(checked(&[("sec-websocket-accept", ACCEPT), ("upgrade", "websocket")]).is_err());
        assert!(checked(&[("sec-websocket-accept", ACCEPT), ("upgrade", "h2c"), ("connection", "upgrade")]).is_err());
    }

    #[test]
    fn keys_differ_and_are_16_bytes() {
        let [one, two] = [new_key(), new_key()];
        assert_ne!(one, two);
        assert_eq!(STANDARD.decode(one.as_bytes()).unwrap().len(), 16);
    }
}
