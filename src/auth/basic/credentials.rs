//! The user and the password in an Authorization field (RFC 7617 section 2).

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderMap, header};

use crate::auth::Refusal;

/// Maximum length of the field, in bytes.
const MAX_FIELD_BYTES: usize = 4096;
/// Maximum length of a password, in bytes. The time of SHA-crypt grows with it.
const MAX_PASSWORD_BYTES: usize = 1024;

/// What a client claims. It has no `Debug`, because it holds a password.
pub(super) struct Credentials {
    pub(super) user: String,
    pub(super) password: String,
}

impl Credentials {
    /// Decodes the credentials of a request.
    ///
    /// # Errors
    /// There are none, or they are malformed.
    pub(super) fn of(headers: &HeaderMap) -> Result<Self, Refusal> {
        let mut fields = headers.get_all(header::AUTHORIZATION).iter();
        let value = fields.next().ok_or(Refusal::NoCredentials)?.as_bytes();
        if fields.next().is_some() || value.len() > MAX_FIELD_BYTES {
            return Err(Refusal::Malformed);
        }
        let (scheme, encoded) = match value.iter().position(|byte| *byte == b' ') {
            Some(end) => (&value[..end], value[end..].trim_ascii()),
            None => (value, &[][..]),
        };
        if !scheme.eq_ignore_ascii_case(b"Basic") {
            return Err(Refusal::NoCredentials);
        }
        decode(encoded).ok_or(Refusal::Malformed)
    }
}

fn decode(encoded: &[u8]) -> Option<Credentials> {
    let text = String::from_utf8(STANDARD.decode(encoded).ok()?).ok()?;
    // RFC 7617: neither part contains a control character, and a user contains no colon.
    let (user, password) = text.split_once(':').filter(|_| !text.chars().any(char::is_control))?;
    let fits = password.len() <= MAX_PASSWORD_BYTES;
    fits.then(|| Credentials { user: user.to_owned(), password: password.to_owned() })
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn headers(values: &[&[u8]]) -> HeaderMap {
        let values = values.iter().map(|value| (header::AUTHORIZATION, http::HeaderValue::from_bytes(value).unwrap()));
        values.collect()
    }

    fn decoded(value: &str) -> Result<(String, String), Refusal> {
        Credentials::of(&headers(&[value.as_bytes()])).map(|credentials| (credentials.user, credentials.password))
    }

    fn encoded(text: impl AsRef<[u8]>) -> String {
        format!("Basic {}", STANDARD.encode(text))
    }

    #[test]
    fn the_first_colon_ends_the_user() {
        let is = |user: &str, password: &str| Ok((user.to_owned(), password.to_owned()));
        assert_eq!(decoded("Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ=="), is("Aladdin", "open sesame"));
        assert_eq!(decoded("bASIC   dGVzdDoxMjPCow=="), is("test", "123\u{a3}"));
        assert_eq!(decoded(&encoded("a:b:c")), is("a", "b:c"));
        assert_eq!(decoded(&encoded(":")), is("", ""));
    }

    #[test]
    fn missing_credentials_and_other_schemes_are_no_credentials() {
        assert!(matches!(Credentials::of(&HeaderMap::new()), Err(Refusal::NoCredentials)));
        for value in ["Bearer QWxhZGRpbjpvcGVuIHNlc2FtZQ==", "Basic2 YTpi", "", "BasicYTpi", "Digest a=b"] {
            assert_eq!(decoded(value), Err(Refusal::NoCredentials), "{value}");
        }
    }

    #[test]
    fn malformed_credentials_are_refused() {
        let long = encoded(format!("a:{}", "b".repeat(1025)));
        let longer = encoded(format!("{}:b", "a".repeat(4096)));
        let control = [encoded("a:b\0c"), encoded("a\nb:c"), encoded("a:\u{7f}"), encoded("a:\u{85}")];
        let broken = ["Basic", "Basic ", "Basic YTpi YTpi", "Basic YTpi,", "Basic YTp", "Basic YQ==", "Basic _-8="];
        let latin = encoded(b"caf\xe9:b");
        let all = control.iter().map(String::as_str).chain(broken).chain([long.as_str(), &longer, &latin]);
        for value in all {
            assert_eq!(decoded(value), Err(Refusal::Malformed), "{value}");
        }
        assert!(decoded(&encoded(format!("a:{}", "b".repeat(1024)))).is_ok());
    }

    #[test]
    fn two_fields_are_refused_also_if_they_are_equal() {
        for second in ["Basic YTpi", "Bearer x"] {
            let two = headers(&[b"Basic YTpi", second.as_bytes()]);
            assert!(matches!(Credentials::of(&two), Err(Refusal::Malformed)), "{second}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn any_user_and_password_without_control_characters_are_decoded(user in r"[^:\pC]{0,20}", password in r"[^\pC]{0,20}") {
            prop_assert_eq!(decoded(&encoded(format!("{user}:{password}"))), Ok((user, password)));
        }

        #[test]
        fn arbitrary_bytes_cause_no_panic(bytes in proptest::collection::vec(any::<u8>(), 0..60)) {
            let value = [b"Basic ".as_slice(), &bytes].concat();
            if let Ok(value) = http::HeaderValue::from_bytes(&value) {
                let _ = Credentials::of(&HeaderMap::from_iter([(header::AUTHORIZATION, value)]));
            }
            let value = encoded(&bytes);
            let _ = decoded(&value);
        }
    }
}
