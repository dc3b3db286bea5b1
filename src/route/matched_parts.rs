//! The parts of a request that conditions besides host, path and method look at.

use std::borrow::Cow;
use std::net::IpAddr;

use http::HeaderMap;
use percent_encoding::percent_decode;

/// The parts of a request.
#[derive(Debug, Clone, Copy)]
pub struct MatchedParts<'a> {
    /// The header fields.
    pub headers: &'a HeaderMap,
    /// The raw query.
    pub query: Option<&'a str>,
    /// The client's address; `None` if it is not known.
    pub client: Option<IpAddr>,
}

impl<'a> From<&'a HeaderMap> for MatchedParts<'a> {
    fn from(headers: &'a HeaderMap) -> Self {
        Self { headers, query: None, client: None }
    }
}

/// The decoded values of all query parameters with that name. A parameter without `=` has an empty value.
pub(super) fn query_values<'a>(query: Option<&'a str>, name: &'a str) -> impl Iterator<Item = Cow<'a, [u8]>> {
    let pairs = query.unwrap_or_default().split('&').filter(|pair| !pair.is_empty());
    pairs.filter_map(move |pair| {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        (*decoded(key) == *name.as_bytes()).then(|| decoded(value))
    })
}

/// Decodes as forms are encoded: `+` is a space.
fn decoded(text: &str) -> Cow<'_, [u8]> {
    if !text.contains('+') {
        return percent_decode(text.as_bytes()).into();
    }
    let spaced = text.replace('+', " ");
    Cow::Owned(percent_decode(spaced.as_bytes()).collect())
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests {
    use super::*;

    #[test]
    fn query_parameters_are_compared_decoded() {
        let values = |query| query_values(Some(query), "a b").map(|v| String::from_utf8(v.into()).unwrap());
        assert_eq!(values("x=1&a+b=2&a%20b=%33+4&a%20b&&a=5").collect::<Vec<_>>(), ["2", "3 4", ""]);
        assert_eq!(query_values(None, "a").count(), 0);
    }
}
