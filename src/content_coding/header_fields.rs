//! Header fields of a response whose body is coded here.

use http::{HeaderValue, header};
use pingora::Result;
use pingora::http::ResponseHeader;

use crate::config::schema::ContentCoding;

/// Fields that do not hold for the new form of the body: its length, digests (RFC 9530, RFC 3230, RFC 1864) and ranges.
const STALE: [&str; 6] = ["content-length", "accept-ranges", "content-digest", "repr-digest", "digest", "content-md5"];

/// Edits the fields of a response that is compressed with this coding.
///
/// # Errors
/// A field is not valid, which cannot happen.
pub fn compressed(response: &mut ResponseHeader, coding: ContentCoding) -> Result<()> {
    changed(response)?;
    response.insert_header(header::CONTENT_ENCODING, HeaderValue::from_static(coding.name()))
}

/// Edits the fields of a response whose coding is removed.
///
/// # Errors
/// As `compressed`.
pub fn decompressed(response: &mut ResponseHeader) -> Result<()> {
    response.remove_header(&header::CONTENT_ENCODING);
    changed(response)
}

fn changed(response: &mut ResponseHeader) -> Result<()> {
    for name in STALE {
        response.remove_header(name);
    }
    weaken_etag(response)?;
    varies(response)
}

/// Makes the ETag weak: both forms of the body have the same one (RFC 9110 section 8.8.3.3).
///
/// # Errors
/// As `compressed`.
pub fn weaken_etag(response: &mut ResponseHeader) -> Result<()> {
    let Some(etag) = response.headers.get(header::ETAG).map(HeaderValue::as_bytes) else { return Ok(()) };
    match etag {
        weak if weak.starts_with(b"W/") => Ok(()),
        strong if strong.starts_with(b"\"") => {
            let weak = HeaderValue::from_bytes(&[b"W/", strong].concat());
            response.insert_header(header::ETAG, weak.unwrap_or_else(|_| HeaderValue::from_static("W/\"\"")))
        }
        // It is no entity tag. A cache must not compare it with one.
        _ => {
            response.remove_header(&header::ETAG);
            Ok(())
        }
    }
}

/// Adds `Vary: Accept-Encoding`, so that a cache keeps the forms apart.
///
/// # Errors
/// As `compressed`.
pub fn varies(response: &mut ResponseHeader) -> Result<()> {
    let listed = response.headers.get_all(header::VARY).iter().any(|value| {
        value.as_bytes().split(|byte| *byte == b',').any(|name| {
            let name = name.trim_ascii();
            name == b"*" || name.eq_ignore_ascii_case(b"accept-encoding")
        })
    });
    if listed {
        return Ok(());
    }
    response.append_header(header::VARY, HeaderValue::from_static("Accept-Encoding")).map(|_| ())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn response(fields: &[(&'static str, &'static str)]) -> ResponseHeader {
        let mut response = ResponseHeader::build(200, None).unwrap();
        for (name, value) in fields {
            response.append_header(*name, *value).unwrap();
        }
        response
    }

    fn field(response: &ResponseHeader, name: &str) -> String {
        let values = response.headers.get_all(name).iter();
        values.map(|value| value.to_str().unwrap()).collect::<Vec<_>>().join(" | ")
    }

    #[test]
    fn fields_of_the_other_form_are_removed_and_the_etag_is_weak() {
        let mut response = response(&[
            ("content-length", "100"),
            ("accept-ranges", "bytes"),
            ("content-digest", "sha-256=:AAAA:"),
            ("repr-digest", "sha-256=:AAAA:"),
            ("digest", "sha-256=AAAA"),
            ("content-md5", "AAAA"),
            ("etag", "\"v1\""),
            ("vary", "Origin"),
        ]);
        compressed(&mut response, ContentCoding::Br).unwrap();
        assert!(STALE.iter().all(|name| !response.headers.contains_key(*name)), "{response:?}");
        assert_eq!(field(&response, "etag"), "W/\"v1\"");
        assert_eq!(field(&response, "vary"), "Origin | Accept-Encoding");
        assert_eq!(field(&response, "content-encoding"), "br");
        decompressed(&mut response).unwrap();
        assert!(!response.headers.contains_key("content-encoding"));
        assert_eq!(field(&response, "etag"), "W/\"v1\"");
        assert_eq!(field(&response, "vary"), "Origin | Accept-Encoding", "it is added once");
    }

    #[test]
    fn a_vary_that_covers_the_field_stays() {
        for vary in ["*", "accept-encoding", "Origin, Accept-Encoding"] {
            let mut response = response(&[("vary", vary)]);
            varies(&mut response).unwrap();
            assert_eq!(field(&response, "vary"), vary);
        }
    }

    #[test]
    fn an_etag_that_is_no_entity_tag_is_removed() {
        let mut response = response(&[("etag", "v1")]);
        compressed(&mut response, ContentCoding::Gzip).unwrap();
        assert!(!response.headers.contains_key("etag"));
    }
}
