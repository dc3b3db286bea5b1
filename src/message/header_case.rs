//! Removes Pingora's map of header name cases, a second map beside the fields.
//!
//! With the map, every field is copied, inserted and removed twice. Without it, names are sent in lower case, as in
//! HTTP/2, HAProxy and Envoy, apart from a few that Pingora capitalises. Names are case-insensitive (RFC 9110 section
//! 5.1). It never changes values, order, target or status.

use http::{HeaderMap, Request, Response};
use pingora::http::{RequestHeader, ResponseHeader};

/// Removes the map from a request.
pub fn request(header: &mut RequestHeader) {
    // Pingora also stores the whole target of an absolute form outside of the fields. It would be lost here.
    if matches!(header.raw_path().first(), Some(b'/' | b'*')) {
        edit_request(header, 0, |_| ());
    }
}

/// Removes the map and edits the fields. It reserves space for `more` fields. The target must be in origin form.
pub fn edit_request(header: &mut RequestHeader, more: usize, edit: impl FnOnce(&mut HeaderMap)) {
    let empty = RequestHeader::from(Request::new(()).into_parts().0);
    let mut parts = http::request::Parts::from(std::mem::replace(header, empty));
    parts.headers.reserve(more);
    edit(&mut parts.headers);
    *header = RequestHeader::from(parts);
}

/// Removes the map from a response and edits the fields, like `edit_request`. A reason phrase is kept if it is not the
/// canonical one.
pub fn edit_response(header: &mut ResponseHeader, more: usize, edit: impl FnOnce(&mut HeaderMap)) {
    let usual = header.get_reason_phrase() == header.status.canonical_reason();
    let reason = if usual { None } else { header.get_reason_phrase().map(str::to_owned) };
    let empty = ResponseHeader::from(Response::new(()).into_parts().0);
    let mut parts = http::response::Parts::from(std::mem::replace(header, empty));
    parts.headers.reserve(more);
    edit(&mut parts.headers);
    *header = ResponseHeader::from(parts);
    if let Some(reason) = reason {
        // Only invalid reason phrases are refused, and this one was valid.
        let _ = header.set_reason_phrase(Some(&reason));
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests {
    use super::*;

    #[test]
    fn only_the_case_of_names_changes() {
        let mut header = RequestHeader::build("POST", b"/a?b", None).unwrap();
        for (name, value) in [("X-A", "1"), ("Host", "a"), ("X-A", "2")] {
            header.append_header(name, value).unwrap();
        }
        request(&mut header);
        let mut wire = Vec::new();
        header.header_to_h1_wire(&mut wire);
        assert_eq!(wire, b"x-a: 1\r\nx-a: 2\r\nHost: a\r\n");
        assert_eq!((header.method.as_str(), header.raw_path()), ("POST", &b"/a?b"[..]));
    }

    #[test]
    fn an_absolute_target_stays_whole() {
        let mut header = RequestHeader::build("GET", b"http://a.example/b", None).unwrap();
        request(&mut header);
        assert_eq!(header.raw_path(), b"http://a.example/b");
    }

    #[test]
    fn an_unusual_reason_stays() {
        for reason in ["OK", "Fine"] {
            let mut header = ResponseHeader::build(200, None).unwrap();
            header.set_reason_phrase(Some(reason)).unwrap();
            header.append_header("X-A", "1").unwrap();
            edit_response(&mut header, 2, |_| ());
            assert_eq!((header.get_reason_phrase(), header.status.as_u16()), (Some(reason), 200));
            assert_eq!(header.headers["x-a"], "1");
        }
    }
}
