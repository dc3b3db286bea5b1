//! Describes why an attempt failed, in a few words for the logs.
//!
//! The text is bounded and has no bytes of a request or of a response in it: errors of Pingora can quote header fields.

use std::fmt::Display;
use std::io;

use pingora::{Error, ErrorType};

use crate::backend::error_cause::ErrorCause;
use crate::backend::labels::Outcome;

/// The longest text, in bytes.
const MAX_BYTES: usize = 160;

/// How far an attempt came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum AttemptStage {
    /// There is no connection yet.
    Connect,
    /// The connection is there, the response header is not complete.
    Header,
    /// The response header is there, but no byte of the body.
    FirstByte,
    /// The first byte of the response body is there.
    Body,
    /// The connection has switched protocols.
    Tunnel,
}

/// The text for an attempt that ended because `timeouts.request` was over.
pub(super) const REQUEST_TIMEOUT: &str = "timed out: timeouts.request is over";

/// The text for an attempt at a backend without an address.
pub(super) const UNRESOLVED: &str = "its name does not resolve";

const REFUSED: &str = "refused";
const NOT_VALID_FOR: &str = "certificate not valid for ";
const UNKNOWN_AUTHORITY: &str = "certificate of an unknown authority";
const EXPIRED: &str = "certificate expired";
const CONNECT_TIMEOUT: &str = "timed out: timeouts.connect";
const TLS_TIMEOUT: &str = "timed out in the TLS handshake: timeouts.connect";

/// The bounded form of a text of `describe`, for metrics.
pub(super) fn cause(outcome: Outcome, text: &str) -> ErrorCause {
    match outcome {
        _ if text == UNRESOLVED => ErrorCause::Unresolved,
        Outcome::ConnectError if text == REFUSED => ErrorCause::Refused,
        Outcome::ConnectError => ErrorCause::Connect,
        Outcome::TlsError if text.starts_with(NOT_VALID_FOR) => ErrorCause::TlsName,
        Outcome::TlsError if text == UNKNOWN_AUTHORITY => ErrorCause::TlsAuthority,
        Outcome::TlsError if text == EXPIRED => ErrorCause::TlsExpired,
        Outcome::TlsError => ErrorCause::Tls,
        Outcome::Timeout if [CONNECT_TIMEOUT, TLS_TIMEOUT].contains(&text) => ErrorCause::ConnectTimeout,
        Outcome::Timeout => ErrorCause::Timeout,
        Outcome::ProtocolError => ErrorCause::Protocol,
        Outcome::Reset | Outcome::ClientAbort | Outcome::Ok => ErrorCause::Reset,
    }
}

/// The cause of a failed attempt, in words.
pub(super) fn describe(error: &Error, stage: AttemptStage) -> Box<str> {
    bounded(&text(error, stage))
}

fn text(error: &Error, stage: AttemptStage) -> String {
    use ErrorType as E;
    let cause = error.root_cause();
    match error.etype() {
        E::ConnectRefused => return REFUSED.to_owned(),
        E::ConnectNoRoute => return "no route to host".to_owned(),
        E::ConnectTimedout | E::TLSHandshakeTimedout => return connect_timeout(error),
        E::TLSHandshakeFailure | E::InvalidCert | E::TLSWantX509Lookup => return tls(context(error)),
        _ => {}
    }
    if let Some(error) = cause.downcast_ref::<h2::Error>() {
        return http2(error, stage);
    }
    if let Some(cause) = cause.downcast_ref::<io::Error>() {
        return io_error(cause, is_write(error), stage);
    }
    match error.etype() {
        E::ReadTimedout | E::WriteTimedout => timeout(is_write(error), stage),
        E::ConnectionClosed | E::ReadError => closed(stage),
        E::InvalidHTTPHeader | E::H1Error => format!("invalid response: {}", parse_error(error)),
        E::Custom(name) | E::CustomCode(name, _) => format!("invalid response: {name}"),
        other => other.as_str().to_owned(),
    }
}

fn context(error: &Error) -> &str {
    error.context.as_ref().map_or("", |context| context.as_str())
}

fn is_write(error: &Error) -> bool {
    matches!(error.etype(), ErrorType::WriteError | ErrorType::WriteTimedout)
}

/// Pingora has one error type for TCP and TLS; the context says which of them took too long.
fn connect_timeout(error: &Error) -> String {
    let context = context(error);
    let in_tls = context.starts_with("connecting to server") && !context.contains("total-connection");
    if in_tls || *error.etype() == ErrorType::TLSHandshakeTimedout {
        return TLS_TIMEOUT.to_owned();
    }
    CONNECT_TIMEOUT.to_owned()
}

fn timeout(write: bool, stage: AttemptStage) -> String {
    match (write, stage) {
        (_, AttemptStage::Connect) => CONNECT_TIMEOUT,
        (_, AttemptStage::Tunnel) => "timed out: no bytes for timeouts.tunnel",
        (true, _) => "timed out: took no bytes for timeouts.write",
        (false, AttemptStage::Header) => "timed out: no response for timeouts.first_byte",
        (false, AttemptStage::FirstByte) => "timed out: no byte of the body for timeouts.first_byte",
        (false, AttemptStage::Body) => "timed out: no bytes for timeouts.read",
    }
    .to_owned()
}

fn closed(stage: AttemptStage) -> String {
    match stage {
        AttemptStage::Connect => "closed while connecting",
        AttemptStage::Header => "closed before the response header was complete",
        AttemptStage::FirstByte | AttemptStage::Body => "closed before the response body was complete",
        AttemptStage::Tunnel => "closed",
    }
    .to_owned()
}

fn io_error(error: &io::Error, write: bool, stage: AttemptStage) -> String {
    use io::ErrorKind as K;
    match error.kind() {
        K::ConnectionRefused => REFUSED.to_owned(),
        K::ConnectionReset => "reset by peer".to_owned(),
        K::BrokenPipe => "closed by peer while the request was sent".to_owned(),
        K::TimedOut => timeout(write, stage),
        K::UnexpectedEof => closed(stage),
        K::NotFound if stage == AttemptStage::Connect => "there is no such socket".to_owned(),
        K::PermissionDenied if stage == AttemptStage::Connect => "permission denied".to_owned(),
        K::HostUnreachable | K::NetworkUnreachable => "no route to host".to_owned(),
        _ => tls_alert(&error.to_string()).unwrap_or_else(|| error.to_string()),
    }
}

fn http2(error: &h2::Error, stage: AttemptStage) -> String {
    if let Some(error) = error.get_io() {
        return io_error(error, false, stage);
    }
    let reason = error.reason().map_or_else(|| "no reason".to_owned(), |reason| format!("{reason:?}"));
    match () {
        () if error.is_remote() && error.is_go_away() => format!("GOAWAY from the backend: {reason}"),
        () if error.is_remote() && error.is_reset() => format!("stream reset by the backend: {reason}"),
        () => format!("HTTP/2 error: {reason}"),
    }
}

/// Never the context of an error with a cause: Pingora quotes the bytes of the header there.
fn parse_error(error: &Error) -> String {
    match error.root_cause().downcast_ref::<httparse::Error>() {
        Some(error) => error.to_string(),
        None if error.cause.is_none() && !context(error).starts_with("buf:") => context(error).to_owned(),
        None => "its header cannot be parsed".to_owned(),
    }
}

/// Pingora turns the error of a handshake into a text: `TLS connect() failed: …: ERROR, SNI: NAME`.
fn tls(context: &str) -> String {
    let (text, name) = context.rsplit_once(", SNI: ").unwrap_or((context, ""));
    let has = |part: &str| text.contains(part);
    const CERTIFICATE: &str = "invalid peer certificate: ";
    if let Some(text) = tls_alert(text) {
        text
    } else if has("not valid for name") || has("NotValidForName") {
        format!("{NOT_VALID_FOR}{name}")
    } else if has("UnknownIssuer") {
        UNKNOWN_AUTHORITY.to_owned()
    } else if has("certificate expired") || has("peer certificate: Expired") {
        EXPIRED.to_owned()
    } else if has("not valid yet") || has("NotValidYet") {
        "certificate not valid yet".to_owned()
    } else if has("Revoked") {
        "certificate revoked".to_owned()
    } else if has("CaUsedAsEndEntity") {
        "certificate of an authority used as the server's".to_owned()
    } else if let Some((_, text)) = text.split_once(CERTIFICATE) {
        format!("certificate not valid: {text}")
    } else if has("corrupt message") {
        "the backend does not speak TLS".to_owned()
    } else if has("eof") {
        "closed in the TLS handshake".to_owned()
    } else if has("reset by peer") {
        "reset by peer in the TLS handshake".to_owned()
    } else {
        let last = text.rsplit_once(": ").map_or(text, |(_, last)| last);
        format!("TLS handshake failed: {last}")
    }
}

/// An alert is the backend's own word for what it did not like (RFC 8446 section 6.2).
fn tls_alert(text: &str) -> Option<String> {
    let (_, alert) = text.split_once("received fatal alert: ")?;
    if alert.starts_with("CertificateRequired") {
        return Some("the backend requires a client certificate".to_owned());
    }
    Some(format!("TLS alert from the backend: {alert}"))
}

/// One line of printable text, cut to `MAX_BYTES`.
pub(super) fn bounded(text: &(impl Display + ?Sized)) -> Box<str> {
    let mut line: String = text.to_string();
    if line.len() > MAX_BYTES {
        line.truncate(line.floor_char_boundary(MAX_BYTES - '…'.len_utf8()));
        line.push('…');
    }
    line.chars().map(|c| if c.is_control() { ' ' } else { c }).collect::<String>().into_boxed_str()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn explained(etype: ErrorType, context: &'static str) -> String {
        describe(&Error::explain(etype, context), AttemptStage::Header).into()
    }

    #[test]
    fn a_failed_handshake_is_described_by_the_certificate_or_the_alert() {
        for (error, said) in [
            (
                "invalid peer certificate: certificate not valid for name \"a.test\"; certificate is only valid for \
                 DnsName(\"b.test\")",
                "certificate not valid for a.test",
            ),
            ("invalid peer certificate: UnknownIssuer", "certificate of an unknown authority"),
            ("invalid peer certificate: certificate expired: verification time 1 (UNIX)", "certificate expired"),
            ("invalid peer certificate: BadSignature", "certificate not valid: BadSignature"),
            (
                "invalid peer certificate: Other(OtherError(CaUsedAsEndEntity))",
                "certificate of an authority used as the server's",
            ),
            ("received corrupt message of type InvalidContentType", "the backend does not speak TLS"),
            ("received fatal alert: HandshakeFailure", "TLS alert from the backend: HandshakeFailure"),
            ("received fatal alert: CertificateRequired", "the backend requires a client certificate"),
            ("tls handshake eof", "closed in the TLS handshake"),
            ("peer is incompatible: ServerNameDifferedOnRetry", "TLS handshake failed: ServerNameDifferedOnRetry"),
        ] {
            let context =
                format!("TLS connect() failed:  TLSHandshakeFailure context: tls connect error: {error}, SNI: a.test");
            let error = Error::explain(ErrorType::TLSHandshakeFailure, context);
            assert_eq!(&*describe(&error, AttemptStage::Connect), said);
        }
    }

    #[test]
    fn a_timeout_names_the_setting_that_was_exceeded() {
        let connect = |context: &'static str| explained(ErrorType::ConnectTimedout, context);
        assert_eq!(connect("timeout 3s connecting to server a"), "timed out: timeouts.connect");
        assert_eq!(connect("connecting to server a, total-connection timeout 3s"), "timed out: timeouts.connect");
        assert_eq!(connect("connecting to server a, timeout 3s"), "timed out in the TLS handshake: timeouts.connect");
        assert_eq!(explained(ErrorType::ReadTimedout, ""), "timed out: no response for timeouts.first_byte");
        assert_eq!(explained(ErrorType::WriteTimedout, ""), "timed out: took no bytes for timeouts.write");
        let kernel = Error::because(ErrorType::ReadError, "", io::Error::from(io::ErrorKind::TimedOut));
        assert_eq!(&*describe(&kernel, AttemptStage::Body), "timed out: no bytes for timeouts.read");
        assert_eq!(&*describe(&kernel, AttemptStage::Tunnel), "timed out: no bytes for timeouts.tunnel");
    }

    #[test]
    fn each_text_has_a_cause_for_metrics() {
        let tls = |error: &str| tls(&format!("tls connect error: invalid peer certificate: {error}, SNI: a.test"));
        for (outcome, text, label) in [
            (Outcome::ConnectError, REFUSED, "refused"),
            (Outcome::Reset, UNRESOLVED, "unresolved"),
            (Outcome::ConnectError, "no route to host", "connect"),
            (Outcome::TlsError, &tls("certificate not valid for name \"a.test\""), "tls_name"),
            (Outcome::TlsError, &tls("UnknownIssuer"), "tls_authority"),
            (Outcome::TlsError, &tls("Expired"), "tls_expired"),
            (Outcome::TlsError, &tls("BadSignature"), "tls"),
            (Outcome::Timeout, &explained(ErrorType::ConnectTimedout, ""), "connect_timeout"),
            (Outcome::Timeout, &explained(ErrorType::TLSHandshakeTimedout, ""), "connect_timeout"),
            (Outcome::Timeout, REQUEST_TIMEOUT, "timeout"),
            (Outcome::Reset, "reset by peer", "reset"),
            (Outcome::ProtocolError, "invalid response: header", "protocol"),
        ] {
            assert_eq!(cause(outcome, text).label(), label, "{text}");
        }
    }

    #[test]
    fn a_broken_connection_is_reset_or_closed() {
        let of = |number, stage| {
            let error = Error::because(ErrorType::ReadError, "", io::Error::from_raw_os_error(number));
            describe(&error, stage)
        };
        assert_eq!(&*of(libc::ECONNRESET, AttemptStage::Header), "reset by peer");
        assert_eq!(&*of(libc::EPIPE, AttemptStage::Header), "closed by peer while the request was sent");
        assert_eq!(&*of(libc::ENOENT, AttemptStage::Connect), "there is no such socket");
        assert_eq!(explained(ErrorType::ConnectionClosed, ""), "closed before the response header was complete");
    }

    #[test]
    fn no_bytes_of_a_response_and_no_long_text_get_into_the_description() {
        let error = Error::because(ErrorType::InvalidHTTPHeader, "buf: Set-Cookie: secret", httparse::Error::Version);
        assert_eq!(&*describe(&error, AttemptStage::Header), "invalid response: invalid HTTP version");
        assert!(!explained(ErrorType::InvalidHTTPHeader, "buf: Set-Cookie: secret").contains("secret"));
        let long = bounded(&"ä\n".repeat(500));
        assert!(long.len() <= MAX_BYTES && long.ends_with('…') && !long.contains('\n'), "{long}");
    }
}
