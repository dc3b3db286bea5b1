//! Strict checks of an HTTP/1 request head before Pingora parses it, so that no two parsers can read it differently.
//!
//! A head that RFC 9112 calls invalid is refused and never repaired. Another parser on the path may have read it in
//! another way, so it is an attack or a bug. There is one exception. Many clients send bytes in a path or query that no
//! URI can contain. These bytes are percent-encoded.
//!
//! It never reads a body and never interprets the request.

mod fields;
mod target;
mod version;

use std::mem::MaybeUninit;

use bytes::BytesMut;
use http::Version;

use crate::fault::Fault;
use fields::Fields;
pub use target::check_path_and_query;
pub use version::lower_minor;

/// The maximum of `listeners[].limits.headers`.
const MAX_FIELDS: usize = 250;

/// The longest target that the http crate supports, in bytes.
const MAX_TARGET_BYTES: usize = 65_534;

/// The `listeners[].limits` for a request head.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HeadLimits {
    /// Maximum length of a request target, in bytes.
    pub target: usize,
    /// Maximum number of header fields. More than 250 count as 250.
    pub fields: usize,
}

/// The facts that the listener needs about a valid head.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HeadFacts {
    /// The length of the head in bytes, including the empty line that ends it and one that may precede it.
    pub head_len: usize,
    /// HTTP/1.0 or HTTP/1.1.
    pub version: Version,
    /// How the request body is framed.
    pub body: BodyFraming,
    /// Whether the connection persists after this request (RFC 9112 section 9.3).
    pub keep_alive: bool,
    /// The client expects 100 (Continue) before it sends the body (RFC 9110 section 10.1.1).
    pub expect_continue: bool,
    /// The client requests another protocol (RFC 9110 section 7.8). After a 101 the bytes are no longer HTTP requests.
    pub connection_upgrade: bool,
    /// The method is CONNECT. The bytes after the head are meant for a tunnel.
    pub method_is_connect: bool,
    /// The method is HEAD. The response has no body, whatever its fields are.
    pub method_is_head: bool,
}

/// How a request body is framed (RFC 9112 section 6.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BodyFraming {
    /// The request has no body.
    None,
    /// This many bytes follow. Never 0.
    Length(u64),
    /// Chunks follow. `message::chunked` finds their end.
    Chunked,
}

/// Why a head is refused. The connection must be closed after the response, because the start of the next request is
/// unknown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{status}: {reason}")]
pub struct BadHead {
    /// The response status: 400, 408, 414, 431, 501 or 505.
    pub status: u16,
    /// The fault for the metrics and the log.
    pub fault: Fault,
    /// The reason for the log. The client does not get it.
    pub reason: &'static str,
}

impl BadHead {
    /// A client speaks plain HTTP on a port of TLS. It is told so, as it cannot understand a TLS alert.
    pub const PLAIN_HTTP_ON_TLS: Self = Self::bad("plain HTTP on a port of TLS");

    const fn bad(reason: &'static str) -> Self {
        Self { status: 400, fault: Fault::BadRequest, reason }
    }

    const fn with_status(status: u16, reason: &'static str) -> Self {
        Self { status, fault: Fault::BadRequest, reason }
    }

    const fn target_too_long() -> Self {
        Self { status: 414, fault: Fault::HeaderTooLarge, reason: "request target longer than limits.uri_bytes" }
    }

    /// The error for a head that does not end within `limits.header_bytes`. The status is 414 if the target is over its
    /// limit, otherwise 431.
    pub fn too_large(partial: &[u8], limits: &HeadLimits) -> Self {
        let first = partial.split(|b| *b == b'\n').find(|line| !line.trim_ascii().is_empty()).unwrap_or_default();
        let target = first.split(|b| *b == b' ').nth(1).unwrap_or_default();
        if target.len() > limits.target {
            return Self::target_too_long();
        }
        Self { status: 431, fault: Fault::HeaderTooLarge, reason: "header larger than limits.header_bytes" }
    }

    const fn too_many_fields() -> Self {
        Self { status: 431, fault: Fault::HeaderTooLarge, reason: "more header fields than limits.headers" }
    }
}

/// Finds the end of a head in the received bytes. Returns its length, or `None` if more bytes are needed.
///
/// An earlier call has searched the first `seen` bytes. A bare LF is an error at once: a client that sends such lines
/// would otherwise wait without a response.
///
/// # Errors
/// A bare LF, or more than one empty line before the request. RFC 9112 section 2.2 allows a recipient to accept a bare
/// LF, but such differences between parsers enable request smuggling.
pub fn head_end(bytes: &[u8], seen: usize) -> Result<Option<usize>, BadHead> {
    let start = if bytes.starts_with(b"\r\n") { 2 } else { 0 };
    let mut at = seen.saturating_sub(1).max(start);
    while let Some(lf) = bytes.get(at..).and_then(|rest| rest.iter().position(|b| *b == b'\n')).map(|i| at + i) {
        if lf == 0 || bytes[lf - 1] != b'\r' {
            return Err(BadHead::bad("bare LF"));
        }
        if lf == start + 1 {
            return Err(BadHead::bad("empty lines before the request line"));
        }
        if bytes[..lf - 1].ends_with(b"\r\n") {
            return Ok(Some(lf + 1));
        }
        at = lf + 1;
    }
    Ok(None)
}

/// Checks the head at the start of `bytes`. The bytes after it are ignored.
///
/// # Errors
/// The head is not valid or not complete.
pub fn check_head(bytes: &[u8], limits: &HeadLimits) -> Result<HeadFacts, BadHead> {
    let Some(head_len) = head_end(bytes, 0)? else { return Err(BadHead::bad("no end of the header")) };
    read_whole_head(&bytes[..head_len], limits).map(|(facts, _)| facts)
}

/// Like `check_head`, for bytes that end exactly at the end of the head. `head_end` has found this end, so it is not
/// searched again. If the target must be percent-encoded, the function also returns the new head. The caller must use
/// that head in place of the client's.
///
/// # Errors
/// As `check_head`.
pub fn read_whole_head(head: &[u8], limits: &HeadLimits) -> Result<(HeadFacts, Option<BytesMut>), BadHead> {
    match check_whole_head(head, limits) {
        Ok(facts) => Ok((facts, None)),
        Err(bad) => encode_and_check(head, limits, bad),
    }
}

/// Marked as cold, because most requests do not need it.
#[cold]
fn encode_and_check(head: &[u8], limits: &HeadLimits, bad: BadHead) -> Result<(HeadFacts, Option<BytesMut>), BadHead> {
    let Some(encoded) = target::encode(head) else { return Err(bad) };
    // The limit applies to the bytes that the client sent.
    let target = limits.target.saturating_add(encoded.len() - head.len());
    let facts = check_whole_head(&encoded, &HeadLimits { target, ..*limits })?;
    Ok((facts, Some(encoded)))
}

fn check_whole_head(head: &[u8], limits: &HeadLimits) -> Result<HeadFacts, BadHead> {
    let head_len = head.len();
    let mut storage = [const { MaybeUninit::uninit() }; MAX_FIELDS];
    let max_fields = limits.fields.min(MAX_FIELDS);
    let mut request = httparse::Request::new(&mut []);
    match request.parse_with_uninit_headers(head, &mut storage[..max_fields]) {
        Ok(httparse::Status::Complete(len)) if len == head_len => {}
        Ok(_) => return Err(BadHead::bad("header ends before its empty line")),
        Err(error) => return Err(refusal(error, head, limits)),
    }
    let (Some(method), Some(target), Some(minor)) = (request.method, request.path, request.version) else {
        return Err(BadHead::bad("incomplete request line"));
    };
    if target.len() > limits.target.min(MAX_TARGET_BYTES) {
        return Err(BadHead::target_too_long());
    }
    let version = if minor == 0 { Version::HTTP_10 } else { Version::HTTP_11 };
    let fields = Fields::read(request.headers, version)?;
    target::check(method, target.as_bytes(), fields.host)?;
    Ok(fields.facts(head_len, version, method))
}

/// Whether this is a `token` (RFC 9110 section 5.6.2).
pub fn is_token(text: &[u8]) -> bool {
    let tchar = |b: &u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(b);
    !text.is_empty() && text.iter().all(tchar)
}

/// Maps httparse's error to a status and a reason.
fn refusal(error: httparse::Error, head: &[u8], limits: &HeadLimits) -> BadHead {
    let line = head.strip_prefix(b"\r\n").unwrap_or(head).split(|b| *b == b'\r').next().unwrap_or_default();
    match error {
        httparse::Error::TooManyHeaders => BadHead::too_many_fields(),
        httparse::Error::Version if is_version(line) => BadHead::with_status(505, "neither HTTP/1.0 nor HTTP/1.1"),
        httparse::Error::Version => BadHead::bad("no HTTP version, or a space in the target"),
        httparse::Error::Token if line.len() > limits.target.saturating_add(1024) => BadHead::target_too_long(),
        httparse::Error::Token => BadHead::bad("invalid byte in the request line"),
        httparse::Error::HeaderName => BadHead::bad("invalid field name, space before the colon, or folded line"),
        httparse::Error::HeaderValue => BadHead::bad("invalid byte in a field value"),
        httparse::Error::NewLine | httparse::Error::Status => BadHead::bad("bare CR"),
    }
}

/// Whether the line is `method SP target SP HTTP/DIGIT.DIGIT`, with one space each.
fn is_version(line: &[u8]) -> bool {
    let mut words = line.split(|b| *b == b' ').skip(2);
    match (words.next(), words.next()) {
        (Some([b'H', b'T', b'T', b'P', b'/', major, b'.', minor]), None) => {
            major.is_ascii_digit() && minor.is_ascii_digit()
        }
        _ => false,
    }
}

#[cfg(test)]
mod properties;
#[cfg(test)]
mod tests;
