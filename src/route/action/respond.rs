//! A fixed response. Its header and body are built once.
//!
//! The framing follows the status: 204 and 304 have no body and no Content-Length.

use bytes::Bytes;
use http::{HeaderValue, StatusCode, header};
use pingora::http::ResponseHeader;

use crate::config::schema;
use crate::message::header_edits;

/// `routes[].respond`, compiled.
#[derive(Debug, Clone)]
pub struct Respond {
    header: ResponseHeader,
    body: Bytes,
}

impl Respond {
    /// Compiles the response.
    ///
    /// # Errors
    /// The status or a header field is not valid, or the status allows no body.
    pub fn compile(respond: &schema::RespondSettings) -> Result<Self, String> {
        let status = StatusCode::from_u16(respond.status).ok().filter(|status| (200..600).contains(&status.as_u16()));
        let status = status.ok_or_else(|| format!("{} is not a status from 200 to 599", respond.status))?;
        // RFC 9110 sections 15.3.5, 15.3.6 and 15.4.5.
        if matches!(respond.status, 204 | 205 | 304) && !respond.body.is_empty() {
            return Err(format!("a response with status {status} has no body"));
        }
        let written = |error: Box<pingora::Error>| error.to_string();
        let mut header = ResponseHeader::build(status, Some(respond.headers.len() + 2)).map_err(written)?;
        for (name, value) in &respond.headers {
            header_edits::name(name)?;
            let value = HeaderValue::from_str(value).map_err(|_| format!("`{value}` cannot be the value of {name}"))?;
            header.insert_header(name.clone(), value).map_err(written)?;
        }
        if !respond.body.is_empty() && !header.headers.contains_key(header::CONTENT_TYPE) {
            header.insert_header("Content-Type", "text/plain; charset=utf-8").map_err(written)?;
        }
        // RFC 9110 section 8.6: a 204 has no Content-Length. In a 304 it would be the length of another response.
        if !matches!(respond.status, 204 | 304) {
            header.insert_header("Content-Length", respond.body.len()).map_err(written)?;
        }
        Ok(Self { header, body: Bytes::copy_from_slice(respond.body.as_bytes()) })
    }

    /// The status.
    pub fn status(&self) -> StatusCode {
        self.header.status
    }

    /// A copy of the header, which the route's policies may edit.
    pub fn header(&self) -> ResponseHeader {
        self.header.clone()
    }

    /// The body. It is shared and not copied.
    pub fn body(&self) -> Bytes {
        self.body.clone()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests {
    use super::*;

    fn respond(status: u16, body: &str, headers: &[(&str, &str)]) -> Result<Respond, String> {
        let headers = headers.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect();
        Respond::compile(&schema::RespondSettings { status, body: body.into(), headers })
    }

    #[test]
    fn framing_follows_the_status() {
        for (status, body, length) in
            [(200, "hello", Some("5")), (204, "", None), (304, "", None), (404, "", Some("0"))]
        {
            let made = respond(status, body, &[]).unwrap();
            assert_eq!(made.header().headers.get("content-length").map(|v| v.to_str().unwrap()), length, "{status}");
            assert_eq!(made.header().headers.contains_key("content-type"), !body.is_empty());
            assert_eq!((made.status().as_u16(), &made.body()[..]), (status, body.as_bytes()));
        }
    }

    #[test]
    fn configured_headers_are_sent() {
        let made = respond(200, "{}", &[("Content-Type", "application/json"), ("x-a", "b")]).unwrap().header();
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
