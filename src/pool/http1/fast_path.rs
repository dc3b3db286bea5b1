//! The conditions of the HTTP/1 fast path: which responses `session` reads itself.
//!
//! It never rejects a response. Pingora's session reads every response that does not qualify.

use std::mem::MaybeUninit;

use bytes::{Buf, Bytes, BytesMut};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use pingora::http::ResponseHeader;

/// Maximum number of header fields in a response. A head with more is left to Pingora.
const MAX_FIELDS: usize = 64;

/// Spare capacity for header fields that Weir adds to a response.
const EXTRA_FIELDS: usize = 6;

/// The result of parsing the first bytes of a response.
#[derive(Debug)]
pub(in crate::pool) enum ParsedHead {
    Partial,
    Plain(FramedResponse),
    /// A response that does not qualify. No bytes were consumed.
    Other,
}

/// The framing of a response body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::pool) enum ResponseFraming {
    /// Length of the body in bytes.
    Length(usize),
    Chunked,
}

/// A response that qualifies for the fast path.
#[derive(Debug)]
pub(in crate::pool) struct FramedResponse {
    pub(in crate::pool) response: Box<ResponseHeader>,
    pub(in crate::pool) framing: ResponseFraming,
    /// Whether the backend keeps the connection open.
    pub(in crate::pool) keeps: bool,
}

/// The value of Content-Length. `None` unless there is exactly one field, of 1 to 15 digits.
pub(in crate::pool) fn length(headers: &HeaderMap) -> Option<usize> {
    let mut all = headers.get_all(header::CONTENT_LENGTH).iter();
    let (Some(one), None) = (all.next(), all.next()) else { return None };
    number(one.as_bytes())
}

fn number(digits: &[u8]) -> Option<usize> {
    let plain = (1..=15).contains(&digits.len()) && digits.iter().all(u8::is_ascii_digit);
    plain.then(|| digits.iter().fold(0, |sum, digit| sum * 10 + usize::from(digit - b'0')))
}

/// The byte range of a field in the head.
#[derive(Clone, Copy, Default)]
struct Span {
    name: (usize, usize),
    value: (usize, usize),
}

/// The fields that decide framing and persistence.
#[derive(Default)]
struct FramingHeaders {
    framing: Option<ResponseFraming>,
    closes: bool,
}

impl FramingHeaders {
    /// Returns `None` if the field excludes the response from the fast path.
    fn note(&mut self, name: &str, value: &[u8]) -> Option<()> {
        match name.len() {
            10 if name.eq_ignore_ascii_case("connection") => {
                self.closes |= value.eq_ignore_ascii_case(b"close");
                (self.closes || value.eq_ignore_ascii_case(b"keep-alive")).then_some(())
            }
            14 if name.eq_ignore_ascii_case("content-length") => {
                let first = self.framing.is_none();
                self.framing = number(value).map(ResponseFraming::Length);
                (first && self.framing.is_some()).then_some(())
            }
            17 if name.eq_ignore_ascii_case("transfer-encoding") => {
                let first = self.framing.replace(ResponseFraming::Chunked).is_none();
                (first && value.eq_ignore_ascii_case(b"chunked")).then_some(())
            }
            _ => Some(()),
        }
    }
}

/// Parses the response head and removes it from `bytes` if the response qualifies. `bodiless`: the request method was
/// HEAD.
pub(in crate::pool) fn head(bytes: &mut BytesMut, bodiless: bool) -> ParsedHead {
    let mut fields = [const { MaybeUninit::uninit() }; MAX_FIELDS];
    let mut parsed = httparse::Response::new(&mut []);
    let strict = httparse::ParserConfig::default();
    let end = match strict.parse_response_with_uninit_headers(&mut parsed, bytes, &mut fields) {
        Ok(httparse::Status::Complete(end)) => end,
        Ok(httparse::Status::Partial) => return ParsedHead::Partial,
        Err(_) => return ParsedHead::Other,
    };
    let status = parsed.code.and_then(|code| StatusCode::from_u16(code).ok());
    let (Some(1), Some(status)) = (parsed.version, status.filter(|status| !status.is_informational())) else {
        return ParsedHead::Other;
    };
    let base = bytes.as_ptr() as usize;
    let span = |part: &[u8]| (part.as_ptr() as usize - base, part.as_ptr() as usize - base + part.len());
    let mut spans = [Span::default(); MAX_FIELDS];
    let mut seen = FramingHeaders::default();
    for (field, at) in parsed.headers.iter().zip(&mut spans) {
        if seen.note(field.name, field.value).is_none() {
            return ParsedHead::Other;
        }
        *at = Span { name: span(field.name.as_bytes()), value: span(field.value) };
    }
    let bodiless = bodiless || matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
    let framing = if bodiless { Some(ResponseFraming::Length(0)) } else { seen.framing };
    let Some(framing) = framing else { return ParsedHead::Other };
    let reason = parsed.reason.filter(|reason| Some(*reason) != status.canonical_reason()).map(str::to_owned);
    let spans = &spans[..parsed.headers.len()];
    let Some(headers) = map(&bytes[..end], spans) else { return ParsedHead::Other };
    let (mut parts, ()) = http::Response::new(()).into_parts();
    (parts.status, parts.headers) = (status, headers);
    let mut response = Box::new(ResponseHeader::from(parts));
    if let Some(reason) = reason
        && response.set_reason_phrase(Some(&reason)).is_err()
    {
        return ParsedHead::Other;
    }
    bytes.advance(end);
    ParsedHead::Plain(FramedResponse { response, framing, keeps: !seen.closes })
}

/// Builds the header map. `None` if a field name is invalid.
fn map(head: &[u8], spans: &[Span]) -> Option<HeaderMap> {
    let shared = Bytes::copy_from_slice(head);
    let mut headers = HeaderMap::with_capacity(spans.len() + EXTRA_FIELDS);
    for Span { name, value } in spans {
        let name = HeaderName::from_bytes(&head[name.0..name.1]).ok()?;
        headers.append(name, parsed_value(shared.slice(value.0..value.1)));
    }
    Some(headers)
}

/// Converts a value that httparse has accepted.
#[allow(unsafe_code, reason = "a second check takes eight instructions for each byte (docs/performance.md)")]
fn parsed_value(value: Bytes) -> HeaderValue {
    // SAFETY: `map` passes only values that httparse returned. For field values, httparse accepts exactly the bytes
    // that `HeaderValue` accepts (RFC 9110 section 5.5: no control character except the tab). This is also true of its
    // SIMD code. A test compares the two for each byte at each offset.
    unsafe { HeaderValue::from_maybe_shared_unchecked(value) }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests {
    use http::Version;
    use pingora::http::RequestHeader;
    use proptest::prelude::*;

    use super::*;

    fn request(fields: &[(&'static str, &'static str)]) -> RequestHeader {
        let mut request = RequestHeader::build("POST", b"/a", None).unwrap();
        request.set_version(Version::HTTP_11);
        for (name, value) in fields {
            request.append_header(*name, *value).unwrap();
        }
        request
    }

    #[test]
    fn a_content_length_is_one_field_of_digits() {
        let of = |text: &'static str| length(&request(&[("content-length", text)]).headers);
        assert_eq!((of("0"), of("007"), of("999999999999999")), (Some(0), Some(7), Some(999_999_999_999_999)));
        for none in ["", "+1", "-1", "1 ", "1,1", "0x1", "a", "1000000000000000"] {
            assert_eq!(of(none), None, "{none:?}");
        }
    }

    fn read(text: &str, bodiless: bool) -> (ParsedHead, BytesMut) {
        let mut bytes = BytesMut::from(text);
        (head(&mut bytes, bodiless), bytes)
    }

    #[test]
    fn the_head_is_removed_from_the_buffer_and_the_body_stays() {
        let text = "HTTP/1.1 200 OK\r\nContent-Length: 3\r\nX-A: 1\r\nx-a: \t2 \r\nConnection: keep-alive\r\n\r\nabc";
        let (ParsedHead::Plain(plain), rest) = read(text, false) else { panic!("not plain") };
        assert_eq!((plain.framing, plain.keeps, &rest[..]), (ResponseFraming::Length(3), true, &b"abc"[..]));
        let all: Vec<_> = plain.response.headers.get_all("x-a").iter().collect();
        assert_eq!(all, ["1", "2"]);
        assert_eq!((plain.response.status.as_u16(), plain.response.version), (200, Version::HTTP_11));
        let (ParsedHead::Plain(closes), _) =
            read("HTTP/1.1 200 Fine\r\nContent-Length: 0\r\nconnection: CLOSE\r\n\r\n", false)
        else {
            panic!("not plain")
        };
        assert_eq!((closes.keeps, closes.response.get_reason_phrase()), (false, Some("Fine")));
    }

    #[test]
    fn a_response_without_a_body_ignores_content_length() {
        for (text, bodiless) in [
            ("HTTP/1.1 204 No Content\r\n\r\n", false),
            ("HTTP/1.1 304 Not Modified\r\nContent-Length: 9\r\n\r\n", false),
            ("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n", true),
            ("HTTP/1.1 200 OK\r\n\r\n", true),
        ] {
            let (ParsedHead::Plain(plain), _) = read(text, bodiless) else { panic!("{text}") };
            assert_eq!(plain.framing, ResponseFraming::Length(0), "{text}");
        }
    }

    #[test]
    fn a_response_that_does_not_qualify_leaves_the_buffer_unchanged() {
        for text in [
            "HTTP/1.1 200 OK\r\n\r\n",
            "HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n",
            "HTTP/1.1 100 Continue\r\nContent-Length: 0\r\n\r\n",
            "HTTP/1.1 101 X\r\nContent-Length: 0\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: 1, 1\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: +1\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: 0\r\nTransfer-Encoding: chunked\r\n\r\n",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 0\r\n\r\n",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close, x-a\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: 0\r\nX-A: 1\r\n 2\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: 0\r\nX-A : 1\r\n\r\n",
            "220 ready\r\n\r\n",
        ] {
            let (head, rest) = read(text, false);
            assert!(matches!(head, ParsedHead::Other), "{text}");
            assert_eq!(rest, text.as_bytes());
        }
    }

    #[test]
    fn the_parser_and_the_type_accept_the_same_bytes_in_a_value_at_each_offset() {
        // Longer than twice the 32 bytes that the parser checks in one step.
        const LEN: usize = 80;
        for (byte, offset) in (0..=u8::MAX).flat_map(|byte| (1..LEN - 1).map(move |offset| (byte, offset))) {
            let mut value = [b'a'; LEN];
            value[offset] = byte;
            let text = [b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nX-A: ", &value[..], b"\r\n\r\n"].concat();
            let expected = HeaderValue::from_bytes(&value);
            match head(&mut BytesMut::from(&text[..]), false) {
                ParsedHead::Plain(plain) => assert_eq!(plain.response.headers["x-a"], expected.unwrap()),
                _ => assert!(expected.is_err(), "{byte} at {offset}"),
            }
        }
    }

    proptest! {
        #[test]
        fn a_head_is_consumed_completely_or_not_at_all(
            values in proptest::collection::vec("[!-~]{0,12}", 0..8),
            rest in proptest::collection::vec(any::<u8>(), 0..20),
            cut in any::<prop::sample::Index>(),
        ) {
            let fields: String = values.iter().enumerate().map(|(at, value)| format!("X-{at}: {value}\r\n")).collect();
            let text = format!("HTTP/1.1 200 OK\r\n{fields}Content-Length: {}\r\n\r\n", rest.len());
            let cut = cut.index(text.len());
            let mut part = BytesMut::from(&text.as_bytes()[..cut]);
            prop_assert!(matches!(head(&mut part, false), ParsedHead::Partial));
            prop_assert_eq!(&part[..], &text.as_bytes()[..cut]);
            let mut whole = BytesMut::from(text.as_bytes());
            whole.extend_from_slice(&rest);
            let ParsedHead::Plain(plain) = head(&mut whole, false) else { panic!("not plain: {text}") };
            prop_assert_eq!((plain.framing, &whole[..]), (ResponseFraming::Length(rest.len()), &rest[..]));
            for (at, value) in values.iter().enumerate() {
                prop_assert_eq!(plain.response.headers[format!("x-{at}")].as_bytes(), value.as_bytes());
            }
        }

        #[test]
        fn arbitrary_bytes_never_panic_and_stay_in_the_buffer(bytes in proptest::collection::vec(any::<u8>(), 0..200), bodiless: bool) {
            let mut whole = BytesMut::from(&bytes[..]);
            if !matches!(head(&mut whole, bodiless), ParsedHead::Plain(_)) {
                prop_assert_eq!(&whole[..], &bytes[..]);
            }
        }
    }
}
