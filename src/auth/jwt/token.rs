//! Finds the token in a request. A request with two tokens is refused, because Weir and the backend might choose
//! different ones.

use http::header::{AUTHORIZATION, COOKIE};
use http::{HeaderMap, HeaderName};

/// Where a request has its token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TokenSource {
    /// `Authorization: Bearer TOKEN`.
    Authorization,
    /// A header field, with or without `Bearer`.
    Header(HeaderName),
    /// A cookie.
    Cookie(String),
    /// A query parameter.
    Query(String),
}

/// Why a request has no usable token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// There is none.
    #[error("no token")]
    Absent,
    /// There are several.
    #[error("several tokens")]
    Repeated,
}

impl TokenSource {
    /// The token of a request.
    ///
    /// # Errors
    /// There is none, or there are several.
    pub fn token<'a>(&self, headers: &'a HeaderMap, query: Option<&'a str>) -> Result<&'a [u8], TokenError> {
        match self {
            Self::Authorization => bearer(field(headers, &AUTHORIZATION)?).ok_or(TokenError::Absent),
            Self::Header(name) => {
                let value = field(headers, name)?;
                Some(bearer(value).unwrap_or(value)).filter(|token| !token.is_empty()).ok_or(TokenError::Absent)
            }
            Self::Cookie(name) => {
                let fields = headers.get_all(COOKIE).into_iter();
                let pairs = fields.flat_map(|field| field.as_bytes().split(|byte| *byte == b';'));
                one(pairs.map(<[u8]>::trim_ascii), name)
            }
            Self::Query(name) => one(query.unwrap_or_default().as_bytes().split(|byte| *byte == b'&'), name),
        }
    }
}

fn field<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Result<&'a [u8], TokenError> {
    let mut values = headers.get_all(name).into_iter();
    match (values.next(), values.next()) {
        (Some(value), None) => Ok(value.as_bytes().trim_ascii()),
        (None, _) => Err(TokenError::Absent),
        (Some(_), Some(_)) => Err(TokenError::Repeated),
    }
}

/// The credentials of the scheme `Bearer`, in any case (RFC 9110 section 11.1).
fn bearer(value: &[u8]) -> Option<&[u8]> {
    let (scheme, rest) = value.split_at_checked(6)?;
    let token = rest.strip_prefix(b" ")?.trim_ascii();
    (scheme.eq_ignore_ascii_case(b"bearer") && !token.is_empty()).then_some(token)
}

/// The value of the only pair with this name.
fn one<'a>(pairs: impl Iterator<Item = &'a [u8]>, name: &str) -> Result<&'a [u8], TokenError> {
    let mut values = pairs.filter_map(|pair| pair.strip_prefix(name.as_bytes())?.strip_prefix(b"="));
    match (values.next(), values.next()) {
        (Some(value), None) if !value.is_empty() => Ok(value),
        (Some(_), Some(_)) => Err(TokenError::Repeated),
        _ => Err(TokenError::Absent),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests {
    use super::*;

    fn headers(fields: &[(&str, &str)]) -> HeaderMap {
        let pair = |(name, value): &(&str, &str)| (name.parse::<HeaderName>().unwrap(), value.parse().unwrap());
        fields.iter().map(pair).collect()
    }

    fn text(result: Result<&[u8], TokenError>) -> Result<&str, TokenError> {
        result.map(|token| std::str::from_utf8(token).unwrap())
    }

    #[test]
    fn the_scheme_bearer_is_read_in_any_case() {
        let of = |value: &str| {
            let headers = headers(&[("authorization", value)]);
            text(TokenSource::Authorization.token(&headers, None)).map(str::to_owned)
        };
        for value in ["Bearer a.b.c", "bearer a.b.c", "BEARER  a.b.c", "bEaReR a.b.c  "] {
            assert_eq!(of(value).as_deref(), Ok("a.b.c"), "{value}");
        }
        for value in ["", "Bearer", "Bearer ", "Bearera.b.c", "Basic a.b.c", "a.b.c", "Bearer\ta.b.c", "Beare a.b.c"] {
            assert_eq!(of(value), Err(TokenError::Absent), "{value}");
        }
    }

    #[test]
    fn two_tokens_are_refused() {
        let twice = headers(&[("authorization", "Bearer a"), ("authorization", "Bearer b")]);
        assert_eq!(TokenSource::Authorization.token(&twice, None), Err(TokenError::Repeated));
        let basic = headers(&[("authorization", "Basic a"), ("authorization", "Bearer b")]);
        assert_eq!(TokenSource::Authorization.token(&basic, None), Err(TokenError::Repeated));
        let cookie = TokenSource::Cookie("t".into());
        assert_eq!(cookie.token(&headers(&[("cookie", "t=a; t=b")]), None), Err(TokenError::Repeated));
        assert_eq!(cookie.token(&headers(&[("cookie", "t=a"), ("cookie", "t=b")]), None), Err(TokenError::Repeated));
        let query = TokenSource::Query("t".into());
        assert_eq!(query.token(&HeaderMap::new(), Some("t=a&t=b")), Err(TokenError::Repeated));
    }

    #[test]
    fn a_field_a_cookie_or_a_parameter_carries_the_token() {
        let field = TokenSource::Header("x-token".parse().unwrap());
        assert_eq!(text(field.token(&headers(&[("x-token", "a.b.c")]), None)), Ok("a.b.c"));
        assert_eq!(text(field.token(&headers(&[("x-token", "bearer a.b.c")]), None)), Ok("a.b.c"));
        assert_eq!(field.token(&headers(&[("x-token", "")]), None), Err(TokenError::Absent));
        assert_eq!(field.token(&headers(&[("authorization", "Bearer a")]), None), Err(TokenError::Absent));
        let cookie = TokenSource::Cookie("t".into());
        assert_eq!(text(cookie.token(&headers(&[("cookie", "a=1;t=a.b.c ; tt=2")]), None)), Ok("a.b.c"));
        assert_eq!(cookie.token(&headers(&[("cookie", "tt=1; T=2; t")]), None), Err(TokenError::Absent));
        let query = TokenSource::Query("t".into());
        assert_eq!(text(query.token(&HeaderMap::new(), Some("a=1&t=a.b.c&tt=2"))), Ok("a.b.c"));
        assert_eq!(query.token(&HeaderMap::new(), Some("tt=1&%74=a&t=")), Err(TokenError::Absent));
        assert_eq!(query.token(&HeaderMap::new(), None), Err(TokenError::Absent));
    }
}
