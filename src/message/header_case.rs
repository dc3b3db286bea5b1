//! Heads without the second map that Pingora keeps beside the fields, for the writing of their names.
//!
//! With it every field is copied, put in and taken out twice. Without it names go out in lower case, as HTTP/2 has them
//! and HAProxy and Envoy write them (RFC 9110 section 5.1: names are case-insensitive), apart from a few that Pingora
//! capitalises. It never touches values, order, target or status.

use http::{HeaderMap, Request, Response};
use pingora::http::{RequestHeader, ResponseHeader};

/// Lets go of the names' own writing.
pub fn request(header: &mut RequestHeader) {
    // The whole target of an absolute form is kept beside the fields too, and would be lost.
    if matches!(header.raw_path().first(), Some(b'/' | b'*')) {
        edit_request(header, 0, |_| ());
    }
}

/// The same, and edits the fields, with room for so many more. The target is in origin form.
pub fn edit_request(header: &mut RequestHeader, more: usize, edit: impl FnOnce(&mut HeaderMap)) {
    let empty = RequestHeader::from(Request::new(()).into_parts().0);
    let mut parts = http::request::Parts::from(std::mem::replace(header, empty));
    parts.headers.reserve(more);
    edit(&mut parts.headers);
    *header = RequestHeader::from(parts);
}

/// The same for a response. What the backend says beside the status is kept if it is not the usual.
pub fn edit_response(header: &mut ResponseHeader, more: usize, edit: impl FnOnce(&mut HeaderMap)) {
    let usual = header.get_reason_phrase() == header.status.canonical_reason();
    let reason = if usual { None } else { header.get_reason_phrase().map(str::to_owned) };
    let empty = ResponseHeader::from(Response::new(()).into_parts().0);
    let mut parts = http::response::Parts::from(std::mem::replace(header, empty));
    parts.headers.reserve(more);
    edit(&mut parts.headers);
    *header = ResponseHeader::from(parts);
    if let Some(reason) = reason {
        // Only what is no reason phrase is refused, and this was one.
        let _ = header.set_reason_phrase(Some(&reason));
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests {
    use super::*;

    #[test]
    fn all_but_the_writing_of_names_stays() {
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
