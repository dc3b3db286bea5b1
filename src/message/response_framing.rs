//! Checks the framing of a backend's response, so that the client finds the same end of it as Weir.
//!
//! An ambiguous framing is refused or normalised. It never reads the body: Pingora does.

use http::{HeaderMap, HeaderValue, StatusCode, header};
use pingora::http::ResponseHeader;

/// Checks the header of a response, and reduces repeated Content-Length values to one.
///
/// `asked_to_switch`: the client's request has requested another protocol (RFC 9110 section 7.8).
///
/// # Errors
/// Why the response cannot be passed on.
pub fn check(response: &mut ResponseHeader, asked_to_switch: bool) -> Result<(), &'static str> {
    if response.status == StatusCode::SWITCHING_PROTOCOLS && !asked_to_switch {
        return Err("101 to a request that did not ask for it");
    }
    one_coding(response)?;
    one_length(response)
}

/// Removes body framing from a response without a body. 1xx and 204 never have Content-Length or Transfer-Encoding (RFC
/// 9110 section 8.6, RFC 9112 section 6.1). A 304 may have the length that a 200 would have, but its transfer coding
/// belongs to the backend's connection.
pub fn bare(headers: &mut HeaderMap, status: StatusCode) {
    if status.is_informational() || status == StatusCode::NO_CONTENT {
        headers.remove(header::CONTENT_LENGTH);
        headers.remove(header::TRANSFER_ENCODING);
    } else if status == StatusCode::NOT_MODIFIED {
        headers.remove(header::TRANSFER_ENCODING);
    }
}

/// Refuses transfer codings other than chunked. Weir would have to decode them, because the client was not asked
/// whether it supports them (RFC 9112 section 6.1).
fn one_coding(response: &ResponseHeader) -> Result<(), &'static str> {
    let mut codings = response.headers.get_all(header::TRANSFER_ENCODING).iter();
    match (codings.next(), codings.next()) {
        (None, _) => Ok(()),
        (Some(coding), None) if coding.as_bytes().trim_ascii().eq_ignore_ascii_case(b"chunked") => Ok(()),
        _ => Err("a Transfer-Encoding other than chunked"),
    }
}

/// Reduces equal repeated lengths to one (RFC 9110 section 8.6). Different lengths in several fields are refused by
/// Pingora already.
fn one_length(response: &mut ResponseHeader) -> Result<(), &'static str> {
    let mut lengths = response.headers.get_all(header::CONTENT_LENGTH).iter();
    let Some(first) = lengths.next() else { return Ok(()) };
    if lengths.next().is_none() && first.as_bytes().iter().all(u8::is_ascii_digit) {
        return Ok(());
    }
    let all = response.headers.get_all(header::CONTENT_LENGTH).iter().flat_map(|v| v.as_bytes().split(|b| *b == b','));
    let mut all = all.map(<[u8]>::trim_ascii);
    let Some(one) = all.next() else { return Ok(()) };
    let digits = !one.is_empty() && one.iter().all(u8::is_ascii_digit);
    if !digits || all.any(|other| other != one) {
        return Err("lengths that differ or are none");
    }
    let one = HeaderValue::from_bytes(one).map_err(|_| "a length that is none")?;
    response.insert_header(header::CONTENT_LENGTH, one).map_err(|_| "a header that takes no other field")
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn checked(status: u16, fields: &[(&'static str, &str)], switch: bool) -> Result<Vec<String>, &'static str> {
        let mut response = ResponseHeader::build(status, None).unwrap();
        for (name, value) in fields {
            response.append_header(*name, *value).unwrap();
        }
        check(&mut response, switch)?;
        Ok(response.headers.iter().map(|(name, value)| format!("{name}: {}", value.to_str().unwrap())).collect())
    }

    #[test]
    fn equal_repeated_lengths_are_merged() {
        for lengths in [&["2"][..], &["2", "2"], &["2, 2"], &["2,2", " 2"]] {
            let fields: Vec<_> = lengths.iter().map(|length| ("content-length", *length)).collect();
            assert_eq!(checked(200, &fields, false).unwrap(), ["content-length: 2"], "{lengths:?}");
        }
        for lengths in [&["2", "3"][..], &["2, 3"], &["+2"], &["2,"], &["a"]] {
            let fields: Vec<_> = lengths.iter().map(|length| ("content-length", *length)).collect();
            assert!(checked(200, &fields, false).is_err(), "{lengths:?}");
        }
    }

    #[test]
    fn only_chunked_is_accepted() {
        assert!(checked(200, &[("transfer-encoding", "Chunked ")], false).is_ok());
        for codings in [&["identity"][..], &["xchunked"], &["gzip, chunked"], &["chunked", "chunked"], &[""]] {
            let fields: Vec<_> = codings.iter().map(|coding| ("transfer-encoding", *coding)).collect();
            assert!(checked(200, &fields, false).is_err(), "{codings:?}");
        }
    }

    #[test]
    fn a_101_needs_an_upgrade_request() {
        assert!(checked(101, &[("upgrade", "websocket")], true).is_ok());
        assert!(checked(101, &[("upgrade", "websocket")], false).is_err());
    }
}
