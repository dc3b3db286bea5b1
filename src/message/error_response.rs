//! Error responses of Weir for faults: a page in HTML, JSON or plain text as the client prefers, or a gRPC status.
//!
//! It never reveals a backend, an address or a system error. The log has the details under the request id of the
//! response.

use std::time::SystemTime;

use bytes::Bytes;
use http::StatusCode;
use pingora::http::ResponseHeader;

use super::accept;
use super::default_page;
use super::error_page::ErrorPage;
use super::variables::RequestValues;
use crate::config::PageFormat;
use crate::fault::Fault;
use crate::message::request_id;

/// The value of Allow, which a 405 must have (RFC 9110 section 15.5.6). It lists the methods that Weir forwards.
/// Backends may allow fewer or more.
pub const ALLOWED: &str = "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS";

/// The data of an error response.
#[derive(Debug, Clone, Copy)]
pub struct ErrorResponse<'a> {
    /// The cause.
    pub fault: Fault,
    /// The label of the cause in JSON, if it is no fault.
    pub label: Option<&'static str>,
    /// `fault.status()`, or the status that a policy or the check of the head has chosen.
    pub status: u16,
    /// The text for the client; `None`: that of the fault.
    pub message: Option<&'static str>,
    /// The id of the request in the log.
    pub request_id: &'a str,
    /// The request's Accept field, if it has one.
    pub accept: Option<&'a [u8]>,
    /// The value of Retry-After, in seconds.
    pub retry_after: Option<u64>,
    /// Whether the request is a gRPC call. gRPC clients read only `grpc-status`.
    pub grpc: bool,
    /// The page of the operator for this status, and the values of its variables.
    pub page: Option<(&'a ErrorPage, RequestValues<'a>)>,
}

impl ErrorResponse<'_> {
    /// Builds the response for a Pingora session.
    ///
    /// # Errors
    /// Pingora's, for a status outside 100 to 999.
    pub fn build(&self) -> pingora::Result<(ResponseHeader, Bytes)> {
        if self.grpc {
            return self.trailers_only();
        }
        let (content_type, body) = self.body();
        let mut header = ResponseHeader::build(self.status, Some(7))?;
        header.insert_header("Content-Type", content_type)?;
        header.insert_header("Content-Length", body.len())?;
        header.insert_header("Cache-Control", "no-store")?;
        header.insert_header(&request_id::NAME, self.request_id)?;
        if let Some(seconds) = self.retry_after {
            header.insert_header("Retry-After", seconds)?;
        }
        if self.status == 405 {
            header.insert_header("Allow", ALLOWED)?;
        }
        Ok((header, body))
    }

    /// Header and end of stream in one frame, as gRPC requires for a response without a message (PROTOCOL-HTTP2.md,
    /// "Trailers-Only").
    fn trailers_only(&self) -> pingora::Result<(ResponseHeader, Bytes)> {
        let mut header = ResponseHeader::build(200, Some(5))?;
        header.insert_header("Content-Type", "application/grpc")?;
        header.insert_header("grpc-status", u16::from(self.fault.grpc_status_with(self.status)))?;
        // The message is ASCII without a percent sign, so it needs no encoding.
        header.insert_header("grpc-message", self.message())?;
        header.insert_header(&request_id::NAME, self.request_id)?;
        Ok((header, Bytes::new()))
    }

    /// The raw HTTP/1.1 response for a connection without a session. It is the last on the connection (RFC 9112 section
    /// 9.6). `head`: the request was HEAD, so the response has no body (RFC 9110 section 9.3.2).
    pub fn raw(&self, now: SystemTime, head: bool) -> Vec<u8> {
        let (content_type, body) = self.body();
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::BAD_REQUEST);
        let retry_after = self.retry_after.map(|seconds| format!("Retry-After: {seconds}\r\n")).unwrap_or_default();
        let fields = format!(
            "HTTP/1.1 {} {}\r\nDate: {}\r\nContent-Type: {content_type}\r\nContent-Length: {}\r\n\
             Cache-Control: no-store\r\nX-Request-Id: {}\r\n{retry_after}Connection: close\r\n\r\n",
            status.as_u16(),
            status.canonical_reason().unwrap_or_default(),
            httpdate::fmt_http_date(now),
            body.len(),
            self.request_id,
        );
        if head { fields.into_bytes() } else { [fields.as_bytes(), &body].concat() }
    }

    fn body(&self) -> (&'static str, Bytes) {
        let (status, message, id) = (self.status, self.message(), self.request_id);
        let configured = self.page.as_ref().map_or(&[][..], |(page, _)| page.formats());
        let format = accept::choose(self.accept.unwrap_or_default(), configured);
        let own = || match format {
            PageFormat::Html => default_page::html(status, message, self.retry_after, id),
            PageFormat::Json => self.problem_details(),
            PageFormat::Text => format!("{status} {message}\nrequest id: {id}\n"),
        };
        let page = self.page.as_ref().and_then(|(page, values)| page.body(format, values));
        (format.content_type(), page.unwrap_or_else(|| own().into()))
    }

    /// RFC 9457. `error`, `message` and `request_id` are extension members.
    fn problem_details(&self) -> String {
        let title = StatusCode::from_u16(self.status).ok().and_then(|status| status.canonical_reason());
        let body = serde_json::json!({
            "type": "about:blank", "title": title.unwrap_or("Error"), "status": self.status, "detail": self.message(),
            "error": self.label.unwrap_or(self.fault.label()), "message": self.message(), "request_id": self.request_id,
        });
        format!("{body}\n")
    }

    /// The message for a person who does not know the system behind Weir. If the status is more specific than the
    /// fault, the status decides.
    fn message(&self) -> &'static str {
        if let Some(message) = self.message {
            return message;
        }
        match (self.status, self.fault) {
            (414, _) => "The request target is too long.",
            (501, Fault::BadRequest) => "The transfer coding is not implemented.",
            (501, Fault::RefusedPolicy) => {
                "The requested protocol is not supported here: a WebSocket needs an upstream that speaks HTTP/1."
            }
            (505, Fault::BadRequest) => "The HTTP version is not supported.",
            (405, _) => "The method is not allowed.",
            (421, _) => "This connection does not serve that host.",
            (408, _) => "The request took too long to arrive.",
            (_, Fault::BadRequest) => "The request is malformed.",
            (_, Fault::NoRoute) => "Nothing is served here.",
            (_, Fault::RefusedPolicy) => "The request was refused.",
            (403, Fault::Unauthorized) => "You may not use this.",
            (_, Fault::Unauthorized) => "This needs valid credentials.",
            (_, Fault::AuthUnavailable) => "Your credentials cannot be checked now. Please try again later.",
            (_, Fault::RateLimited) => "Too many requests. Please try again later.",
            (_, Fault::StoreUnavailable) => "The request cannot be counted now. Please try again later.",
            (_, Fault::BodyTooLarge) => "The request's body is too large.",
            (_, Fault::HeaderTooLarge) => "The request's header is too large.",
            (_, Fault::Maintenance) => "This service is under maintenance.",
            (_, Fault::NoBackend) => "No server is available.",
            (_, Fault::QueueFull | Fault::QueueTimeout) => "Too many requests are waiting.",
            (_, Fault::Connect | Fault::Tls) => "The server could not be reached.",
            (_, Fault::Timeout) => "The server took too long to answer.",
            (_, Fault::Reset) => "The server broke off its answer.",
            (_, Fault::Protocol) => "The server's answer was not understood.",
            (_, Fault::Loop) => "The request goes round in a loop.",
            (_, Fault::Shutdown) => "The server is shutting down.",
            (_, Fault::ClientAbort) => "The request was given up.",
            (_, Fault::Internal) => "Something went wrong.",
        }
    }
}

/// Whether a Content-Type is gRPC: `application/grpc`, with or without a suffix. Other types with that prefix, such as
/// `application/grpc-web`, are other protocols.
pub fn is_grpc(content_type: &[u8]) -> bool {
    const GRPC: &[u8] = b"application/grpc";
    let begins = content_type.get(..GRPC.len()).is_some_and(|start| start.eq_ignore_ascii_case(GRPC));
    begins && matches!(content_type.get(GRPC.len()), None | Some(b'+' | b';' | b' '))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests {
    use super::*;

    const REPLY: ErrorResponse<'static> = ErrorResponse {
        fault: Fault::NoBackend,
        label: None,
        status: 503,
        message: None,
        request_id: "r-1",
        accept: None,
        retry_after: Some(2),
        grpc: false,
        page: None,
    };

    #[test]
    fn text_contains_the_request_id() {
        let (header, body) = REPLY.build().unwrap();
        assert_eq!(body, "503 No server is available.\nrequest id: r-1\n");
        assert_eq!(header.headers["content-length"], body.len().to_string().as_str());
        assert_eq!(header.headers["cache-control"], "no-store");
        assert_eq!(header.headers["retry-after"], "2");
        assert_eq!(header.headers["x-request-id"], "r-1");
        assert_eq!(header.headers["content-type"], "text/plain; charset=utf-8");
    }

    #[test]
    fn json_contains_the_request_id() {
        let (header, body) = ErrorResponse { accept: Some(b"application/json"), ..REPLY }.build().unwrap();
        let json: serde_json::Value = serde_json::from_slice(&body).unwrap();
        assert_eq!(
            json,
            serde_json::json!({
                "type": "about:blank", "title": "Service Unavailable", "status": 503, "detail": "No server is available.",
                "error": "no_backend", "message": "No server is available.", "request_id": "r-1",
            })
        );
        assert_eq!(header.headers["content-type"], "application/problem+json");
    }

    #[test]
    fn grpc_is_detected_by_content_type_and_gets_a_trailers_only_response() {
        for (content_type, want) in [
            ("application/grpc", true),
            ("Application/GRPC+proto", true),
            ("application/grpc; charset=utf-8", true),
            ("application/grpc-web", false),
            ("application/grpc-web+proto", false),
            ("application/grp", false),
            ("text/plain", false),
        ] {
            assert_eq!(is_grpc(content_type.as_bytes()), want, "{content_type}");
        }
        let (header, body) = ErrorResponse { grpc: true, ..REPLY }.build().unwrap();
        assert_eq!((header.status.as_u16(), body.len()), (200, 0));
        assert_eq!(header.headers["content-type"], "application/grpc");
        assert_eq!(header.headers["grpc-status"], "14");
        assert_eq!(header.headers["grpc-message"], "No server is available.");
        for fault in Fault::ALL {
            let (header, _) = ErrorResponse { fault, grpc: true, ..REPLY }.build().unwrap();
            let message = header.headers["grpc-message"].to_str().unwrap();
            assert!(!message.contains('%') && (1..=16).contains(&fault.grpc_status()), "{fault:?}");
        }
    }

    #[test]
    fn a_raw_response_is_valid_and_closes_the_connection() {
        let raw = ErrorResponse { fault: Fault::BadRequest, status: 505, retry_after: None, ..REPLY }
            .raw(SystemTime::UNIX_EPOCH, false);
        let mut fields = [httparse::EMPTY_HEADER; 16];
        let mut response = httparse::Response::new(&mut fields);
        let httparse::Status::Complete(end) = response.parse(&raw).unwrap() else { panic!("incomplete") };
        assert_eq!((response.code, response.reason), (Some(505), Some("HTTP Version Not Supported")));
        let field = |name: &str| {
            response.headers.iter().find(|h| h.name == name).map(|h| std::str::from_utf8(h.value).unwrap())
        };
        assert_eq!(field("Connection"), Some("close"));
        assert_eq!(field("Date"), Some("Thu, 01 Jan 1970 00:00:00 GMT"));
        assert_eq!(field("Content-Length"), Some((raw.len() - end).to_string().as_str()));
    }

    #[test]
    fn a_raw_response_to_head_has_the_same_header_and_no_body() {
        let [whole, bare] = [false, true].map(|head| REPLY.raw(SystemTime::UNIX_EPOCH, head));
        assert!(whole.starts_with(&bare) && bare.ends_with(b"\r\n\r\n") && bare.len() < whole.len());
    }

    #[test]
    fn every_fault_has_a_message() {
        for fault in Fault::ALL {
            let (_, body) = ErrorResponse { fault, status: fault.status(), ..REPLY }.build().unwrap();
            assert!(body.len() > 30, "{fault:?}");
        }
    }
}
