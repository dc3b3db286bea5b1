//! The realm of a policy: the name that a browser shows when it asks for a password.

use http::HeaderValue;

/// Maximum length of a realm, in bytes.
const MAX_BYTES: usize = 128;

/// A realm, with the challenge that names it (RFC 7617 section 2).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Realm {
    challenge: HeaderValue,
}

/// The text is not a realm.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a realm is 1 to {MAX_BYTES} printable ASCII characters")]
pub struct BadRealm;

impl std::str::FromStr for Realm {
    type Err = BadRealm;

    fn from_str(text: &str) -> Result<Self, BadRealm> {
        let is_printable = |byte: u8| byte == b' ' || byte.is_ascii_graphic();
        if text.is_empty() || text.len() > MAX_BYTES || !text.bytes().all(is_printable) {
            return Err(BadRealm);
        }
        let escaped = text.replace('\\', "\\\\").replace('"', "\\\"");
        let challenge = HeaderValue::try_from(format!("Basic realm=\"{escaped}\", charset=\"UTF-8\""));
        Ok(Self { challenge: challenge.map_err(|_| BadRealm)? })
    }
}

impl Realm {
    /// The value of WWW-Authenticate.
    pub fn challenge(&self) -> HeaderValue {
        self.challenge.clone()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn the_challenge_quotes_the_realm() {
        let realm: Realm = r#"the "staff" \ only"#.parse().unwrap();
        assert_eq!(realm.challenge(), r#"Basic realm="the \"staff\" \\ only", charset="UTF-8""#);
    }

    #[test]
    fn a_realm_is_short_and_printable() {
        for text in ["", "a\nb", "caf\u{e9}", "a\0", &"x".repeat(129)] {
            assert_eq!(text.parse::<Realm>(), Err(BadRealm), "{text:?}");
        }
        assert!("x".repeat(128).parse::<Realm>().is_ok());
    }
}
