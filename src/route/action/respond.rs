//! A fixed response. Its header and body are built once.
//!
//! The framing follows the status: 204 and 304 have no body and no Content-Length.

mod content_type;
mod entity_tag;

use std::path::Path;

use bytes::Bytes;
use http::{HeaderValue, Method, StatusCode, header};
use pingora::http::{RequestHeader, ResponseHeader};

use crate::config::schema;
use crate::message::header_edits;

const TEXT: &str = "text/plain; charset=utf-8";

/// `routes[].respond`, compiled.
#[derive(Debug, Clone)]
pub struct Respond {
    header: ResponseHeader,
    body: Bytes,
}

impl Respond {
    /// Compiles the response. `file` returns the content of `body_file`.
    ///
    /// # Errors
    /// The status or a header field is not valid, the status allows no body, or the file was not read.
    pub fn compile(respond: &schema::RespondSettings, file: &dyn Fn(&Path) -> Option<Vec<u8>>) -> Result<Self, String> {
        let status = StatusCode::from_u16(respond.status).ok().filter(|status| (200..600).contains(&status.as_u16()));
        let status = status.ok_or_else(|| format!("{} is not a status from 200 to 599", respond.status))?;
        let path = respond.body_file.as_deref();
        let body = match path {
            Some(path) => file(path).ok_or_else(|| format!("{} was not read", path.display()))?.into(),
            None => Bytes::copy_from_slice(respond.body.as_bytes()),
        };
        // RFC 9110 sections 15.3.5, 15.3.6 and 15.4.5.
        if matches!(respond.status, 204 | 205 | 304) && !body.is_empty() {
            return Err(format!("a response with status {status} has no body"));
        }
        let written = |error: Box<pingora::Error>| error.to_string();
        let mut header = ResponseHeader::build(status, Some(respond.headers.len() + 2)).map_err(written)?;
        for (name, value) in &respond.headers {
            header_edits::name(name)?;
            let value = HeaderValue::from_str(value).map_err(|_| format!("`{value}` cannot be the value of {name}"))?;
            header.insert_header(name.clone(), value).map_err(written)?;
        }
        if !body.is_empty() && !header.headers.contains_key(header::CONTENT_TYPE) {
            header.insert_header("Content-Type", path.map_or(TEXT, content_type::of)).map_err(written)?;
        }
        if path.is_some() && status.is_success() && !header.headers.contains_key(header::ETAG) {
            header.insert_header("ETag", entity_tag::of(&body)).map_err(written)?;
        }
        // RFC 9110 section 8.6: a 204 has no Content-Length. In a 304 it would be the length of another response.
        if !matches!(respond.status, 204 | 304) {
            header.insert_header("Content-Length", body.len()).map_err(written)?;
        }
        Ok(Self { header, body })
    }

    /// The status.
    pub fn status(&self) -> StatusCode {
        self.header.status
    }

    /// The response to a request: a copy of the header, which the route's policies may edit, and the body, which is
    /// shared. If the client has the current content of the file already, the response is 304 (RFC 9110 section 13.1.2).
    pub fn answer(&self, request: &RequestHeader) -> (ResponseHeader, Bytes) {
        let mut header = self.header.clone();
        let reads = matches!(request.method, Method::GET | Method::HEAD);
        let tag = header.headers.get(header::ETAG).filter(|_| reads && header.status == StatusCode::OK);
        let is_known = tag.is_some_and(|tag| entity_tag::matches(&request.headers, tag));
        if is_known && header.set_status(StatusCode::NOT_MODIFIED).is_ok() {
            // A 304 has no content that these could describe.
            header.remove_header(&header::CONTENT_LENGTH);
            header.remove_header(&header::CONTENT_TYPE);
            return (header, Bytes::new());
        }
        (header, self.body.clone())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests {
    use super::*;

    fn respond(status: u16, body: &str, headers: &[(&str, &str)]) -> Result<Respond, String> {
        let headers = headers.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect();
        Respond::compile(&schema::RespondSettings { status, body: body.into(), body_file: None, headers }, &|_| None)
    }

    #[test]
    fn framing_follows_the_status() {
        for (status, body, length) in
            [(200, "hello", Some("5")), (204, "", None), (304, "", None), (404, "", Some("0"))]
        {
            let made = respond(status, body, &[]).unwrap();
            assert_eq!(made.header.headers.get("content-length").map(|v| v.to_str().unwrap()), length, "{status}");
            assert_eq!(made.header.headers.contains_key("content-type"), !body.is_empty());
            assert_eq!((made.status().as_u16(), &made.body[..]), (status, body.as_bytes()));
        }
    }

    #[test]
    fn configured_headers_are_sent() {
        let made = respond(200, "{}", &[("Content-Type", "application/json"), ("x-a", "b")]).unwrap().header;
        assert_eq!(
            (&made.headers["content-type"], &made.headers["x-a"]),
            (&"application/json".parse().unwrap(), &"b".parse().unwrap())
        );
        assert_eq!(made.headers.get_all("content-type").iter().count(), 1);
    }

    #[test]
    fn an_invalid_response_is_refused() {
        for (status, body, headers) in [
            (100, "", &[][..]),
            (600, "", &[]),
            (204, "x", &[]),
            (304, "x", &[]),
            (200, "", &[("Content-Length", "1")]),
            (200, "", &[("transfer-encoding", "chunked")]),
            (200, "", &[("a b", "1")]),
            (200, "", &[("a", "1\r\n2")]),
        ] {
            assert!(respond(status, body, headers).is_err(), "{status} {headers:?}");
        }
    }
}
