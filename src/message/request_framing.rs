//! A strict look at an HTTP/1 request head's bytes before Pingora parses them, so that nobody can read it in two ways.
//!
//! What RFC 9112 calls invalid is refused, never repaired: a request that another parser on the way may have read
//! otherwise is an attack or a bug, and both are better told. One thing is changed: bytes in a path or query that many
//! clients send although no URI contains them are percent-encoded. It never looks at a body and never decides what a
//! request is for.

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

/// As many fields as the largest `listeners[].limits.headers` allows.
const MAX_FIELDS: usize = 250;

/// The longest target the http crate can hold.
const MAX_TARGET_BYTES: usize = 65_534;

/// `listeners[].limits`, as far as a head is concerned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HeadLimits {
    /// Bytes of a request target.
    pub target: usize,
    /// Header fields; more than 250 count as 250.
    pub fields: usize,
}

/// What the listener has to know of a head that passed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HeadFacts {
    /// Bytes of the head, with the empty line that ends it and one that may precede it.
    pub head_len: usize,
    /// HTTP/1.0 or HTTP/1.1.
    pub version: Version,
    /// How the request's body is framed.
    pub body: BodyFraming,
    /// Whether the client means to send another request on this connection (RFC 9112 section 9.3).
    pub keep_alive: bool,
    /// The client waits for 100 (Continue) before it sends the body (RFC 9110 section 10.1.1).
    pub expect_continue: bool,
    /// The client asks to leave HTTP (RFC 9110 section 7.8): after a 101 the bytes are no requests any more.
    pub connection_upgrade: bool,
    /// CONNECT: the bytes after the head would be a tunnel's, if there was one.
    pub method_is_connect: bool,
    /// HEAD: the response has no body, whatever its fields say.
    pub method_is_head: bool,
}

/// How a request's body is framed (RFC 9112 section 6.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BodyFraming {
    /// There is none.
    None,
    /// So many bytes follow; never 0.
    Length(u64),
    /// Chunks follow: `message::chunked` finds their end.
    Chunked,
}

/// Why a head is refused. The connection has to be closed after the reply: where the next request begins is unknown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{status}: {reason}")]
pub struct BadHead {
    /// 400, 414, 431, 501 or 505.
    pub status: u16,
    /// For the metrics and the log.
    pub fault: Fault,
    /// For the log, not for the client.
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

    /// For a head whose end is not in sight within `limits.header_bytes`: 414 where not even the target has ended.
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

/// Looks for the end of a head in the bytes that have come so far: its length, or `None` for more to come.
///
/// `seen` bytes were looked at by an earlier call. Reports a bare LF at once, as a client that sends such lines would
/// wait for an answer that never came.
///
/// # Errors
/// A bare LF (RFC 9112 section 2.2 lets a recipient take it; parsers that differ there are how requests get smuggled),
/// or more than one empty line before the request.
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

/// Checks the head that `bytes` begin with; what follows it is not looked at.
///
/// # Errors
/// Says what is wrong with it, a head without its end included.
pub fn check_head(bytes: &[u8], limits: &HeadLimits) -> Result<HeadFacts, BadHead> {
    let Some(head_len) = head_end(bytes, 0)? else { return Err(BadHead::bad("no end of the header")) };
    read_whole_head(&bytes[..head_len], limits).map(|(facts, _)| facts)
}

/// The same for bytes that end where `head_end` says, so that they are not searched again. Where the target has bytes
/// that have to be percent-encoded, it comes with the head to read instead of the client's.
///
/// # Errors
/// As `check_head`.
pub fn read_whole_head(head: &[u8], limits: &HeadLimits) -> Result<(HeadFacts, Option<BytesMut>), BadHead> {
    match check_whole_head(head, limits) {
        Ok(facts) => Ok((facts, None)),
        Err(bad) => encode_and_check(head, limits, bad),
    }
}

/// Apart from the way of usual requests.
#[cold]
fn encode_and_check(head: &[u8], limits: &HeadLimits, bad: BadHead) -> Result<(HeadFacts, Option<BytesMut>), BadHead> {
    let Some(encoded) = target::encode(head) else { return Err(bad) };
    // The limit is on the bytes that the client sent.
    let target = limits.target.saturating_add(encoded.len() - head.len());
    let facts = check_whole_head(&encoded, &HeadLimits { target, ..*limits })?;
    Ok((facts, Some(encoded)))
}

fn check_whole_head(head: &[u8], limits: &HeadLimits) -> Result<HeadFacts, BadHead> {
    let head_len = head.len();
    let mut storage = [const { MaybeUninit::uninit() }; MAX_FIELDS];
    let room = limits.fields.min(MAX_FIELDS);
    let mut request = httparse::Request::new(&mut []);
    match request.parse_with_uninit_headers(head, &mut storage[..room]) {
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

/// What the parser's error means, for the log and for the status.
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

/// `method SP target SP HTTP/DIGIT.DIGIT`, with one space each.
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
