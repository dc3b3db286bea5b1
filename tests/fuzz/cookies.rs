//! Cookies against a slow reference: their values, and their removal.

use http::header::COOKIE;
use http::{HeaderMap, HeaderValue};
use pingora::http::RequestHeader;
use weir::message::cookie;

const TOKENS: &[&str] =
    &["a=1", "a=", "b=2", "; ", ";", "=", "a", " ", "\t", "\n", "ab=3", "\"q\"", "a=b=c", "A=1", ",", "a =1"];

/// The pairs of all fields, in their order.
fn pairs(headers: &HeaderMap) -> Vec<Vec<u8>> {
    let mut found = Vec::new();
    for field in headers.get_all(COOKIE) {
        found.extend(field.as_bytes().split(|byte| *byte == b';').map(|pair| pair.trim_ascii().to_vec()));
    }
    found.retain(|pair| !pair.is_empty());
    found
}

fn check(bytes: &[u8]) {
    let mut request = RequestHeader::build("GET", b"/", None).unwrap();
    for field in bytes.split(|byte| *byte == b'\n') {
        if let Ok(value) = HeaderValue::from_bytes(field) {
            request.append_header(COOKIE, value).unwrap();
        }
    }
    let before = pairs(&request.headers);
    let wanted: Vec<Vec<u8>> = before.iter().filter_map(|pair| pair.strip_prefix(b"a=").map(<[u8]>::to_vec)).collect();
    let values: Vec<Vec<u8>> = cookie::values(&request.headers, b"a").map(<[u8]>::to_vec).collect();
    assert_eq!(values, wanted);
    cookie::remove(&mut request, b"a").unwrap();
    assert_eq!(cookie::values(&request.headers, b"a").count(), 0);
    let others: Vec<_> = before.into_iter().filter(|pair| !pair.starts_with(b"a=")).collect();
    assert_eq!(pairs(&request.headers), others, "other cookies stay as they are");
}

crate::fuzz_target!(cookies, TOKENS, check);
