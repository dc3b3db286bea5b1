//! Where a request carries its API key: in a header field or in a query parameter.

use std::borrow::Cow;

use http::{HeaderMap, HeaderName, HeaderValue, header};

use super::query::values_of;
use crate::auth::Refusal;

/// Maximum length of a key, in bytes.
const MAX_KEY_BYTES: usize = 4096;

/// The place of the key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeyLocation {
    /// This field. Its value is the key, with or without the scheme `Bearer`.
    Header(HeaderName),
    /// The query parameter with this name.
    Query(Box<str>),
}

impl KeyLocation {
    /// The key of a request.
    ///
    /// # Errors
    /// There is no key, it is too long, or there are several.
    pub(super) fn key_in<'a>(
        &'a self,
        headers: &'a HeaderMap,
        query: Option<&'a str>,
    ) -> Result<Cow<'a, [u8]>, Refusal> {
        let key = match self {
            Self::Header(name) => {
                let values = headers.get_all(name).iter().map(|value| Cow::Borrowed(value.as_bytes()));
                only(values)?.map(|value| in_field(value, name))
            }
            Self::Query(name) => only(values_of(query.unwrap_or_default(), name))?,
        };
        match key {
            Some(key) if key.len() > MAX_KEY_BYTES => Err(Refusal::Malformed),
            Some(key) if !key.is_empty() => Ok(key),
            _ => Err(Refusal::NoCredentials),
        }
    }

    /// The challenge for a refused request. Only `Bearer` is a registered scheme; other places are named in its realm.
    pub(super) fn challenge(&self) -> HeaderValue {
        match self {
            Self::Header(name) if *name == header::AUTHORIZATION => HeaderValue::from_static("Bearer"),
            Self::Header(name) => challenge_of(&format!("header {name}")),
            Self::Query(name) => challenge_of(&format!("query parameter {name}")),
        }
    }
}

/// The only value; two keys are never guessed between.
fn only<T>(mut values: impl Iterator<Item = T>) -> Result<Option<T>, Refusal> {
    let first = values.next();
    if values.next().is_some() { Err(Refusal::Malformed) } else { Ok(first) }
}

/// The key in a field: without `Bearer`. Credentials of another scheme in Authorization are no key.
fn in_field<'a>(value: Cow<'a, [u8]>, name: &HeaderName) -> Cow<'a, [u8]> {
    let Cow::Borrowed(value) = value else { return value };
    let value = value.trim_ascii();
    let (scheme, rest) = match value.iter().position(|byte| *byte == b' ') {
        Some(end) => (&value[..end], value[end..].trim_ascii()),
        None => (&value[..0], value),
    };
    let is_key = scheme.eq_ignore_ascii_case(b"Bearer") || scheme.is_empty();
    match is_key {
        true => Cow::Borrowed(rest),
        false if *name == header::AUTHORIZATION => Cow::Borrowed(&[]),
        false => Cow::Borrowed(value),
    }
}

/// A name that needs quotes or is not ASCII is left out.
fn challenge_of(place: &str) -> HeaderValue {
    let is_plain = place.bytes().all(|byte| (byte == b' ' || byte.is_ascii_graphic()) && !b"\"\\".contains(&byte));
    let text = if is_plain { format!("Bearer realm=\"API key in the {place}\"") } else { "Bearer".to_owned() };
    HeaderValue::try_from(text).unwrap_or(HeaderValue::from_static("Bearer"))
}
