//! The cause of a failed attempt in a few words, such as `connection refused`. It has a bound and no line feed.
//!
//! It decides nothing: `classify` maps an error to an outcome and a fault.

use std::borrow::Cow;
use std::io;

use pingora::{Error, ErrorType};

use super::classify;
use crate::backend::labels::Outcome;

/// The longest text, in characters. Texts of TLS libraries list all names of a certificate.
const MAX_CHARS: usize = 160;

/// The prefix of rustls before the reason why a certificate was refused.
const INVALID_CERTIFICATE: &str = "invalid peer certificate: ";

/// The cause of this error, for an attempt that ends so.
pub(super) fn of(outcome: Outcome, error: &Error) -> Cow<'static, str> {
    use ErrorType as E;
    match (error.etype(), outcome) {
        (E::ConnectTimedout, _) => "connect timed out".into(),
        (E::TLSHandshakeTimedout, _) => "TLS handshake timed out".into(),
        (E::WriteTimedout, _) => "the request was not read in time".into(),
        (_, Outcome::Timeout) => "no response in time".into(),
        (_, Outcome::TlsError) => tls(&error.to_string()),
        (E::ConnectRefused, _) => "connection refused".into(),
        (E::ConnectionClosed, _) => CLOSED.into(),
        (_, Outcome::ProtocolError) => {
            bounded("invalid response: ", error.context.as_ref().map_or("not HTTP", |context| context.as_str()))
        }
        _ => system(error).unwrap_or_else(|| outcome.label().into()),
    }
}

const CLOSED: &str = "connection closed by the backend";

fn tls(text: &str) -> Cow<'static, str> {
    match text.split_once(INVALID_CERTIFICATE) {
        Some((_, why)) => bounded("certificate: ", why.trim_start_matches("Other(OtherError(").trim_end_matches("))")),
        None => bounded("TLS: ", text.rsplit("cause: ").next().unwrap_or(text)),
    }
}

/// The cause as the socket or HTTP/2 reports it.
fn system(error: &Error) -> Option<Cow<'static, str>> {
    if let Some(error) = error.root_cause().downcast_ref::<h2::Error>() {
        let reason = error.reason().map(|reason| format!("{reason:?}"));
        return Some(bounded("HTTP/2: ", &reason.unwrap_or_else(|| error.to_string())));
    }
    let error = classify::io(error)?;
    Some(match error.kind() {
        io::ErrorKind::ConnectionRefused => "connection refused".into(),
        io::ErrorKind::ConnectionReset => "reset by the backend".into(),
        io::ErrorKind::BrokenPipe | io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionAborted => CLOSED.into(),
        io::ErrorKind::HostUnreachable => "host unreachable".into(),
        io::ErrorKind::NetworkUnreachable => "network unreachable".into(),
        _ => bounded("", error.to_string().split(" (os error").next().unwrap_or_default()),
    })
}

/// The text of one line, without control characters, cut off at the bound.
fn bounded(prefix: &str, text: &str) -> Cow<'static, str> {
    let plain = text.chars().map(|char| if char.is_control() { ' ' } else { char });
    prefix.chars().chain(plain).take(MAX_CHARS).collect::<String>().trim_end().to_owned().into()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_cause_is_short_and_names_what_went_wrong() {
        let io = |kind: io::ErrorKind| Error::because(ErrorType::ReadError, "reading", io::Error::from(kind));
        let tls = |text: String| Error::explain(ErrorType::TLSHandshakeFailure, text);
        let name = "TLS connect() failed: invalid peer certificate: certificate not valid for name \"b.test\"";
        for (outcome, error, cause) in [
            (Outcome::ConnectError, Error::new(ErrorType::ConnectRefused), "connection refused"),
            (Outcome::Timeout, Error::new(ErrorType::ConnectTimedout), "connect timed out"),
            (Outcome::Timeout, Error::new(ErrorType::ReadTimedout), "no response in time"),
            (Outcome::Reset, io(io::ErrorKind::ConnectionReset), "reset by the backend"),
            (Outcome::Reset, io(io::ErrorKind::UnexpectedEof), "connection closed by the backend"),
            (Outcome::Reset, Error::new(ErrorType::ConnectionClosed), "connection closed by the backend"),
            (Outcome::TlsError, tls(name.into()), "certificate: certificate not valid for name \"b.test\""),
            (
                Outcome::ProtocolError,
                Error::explain(ErrorType::InvalidHTTPHeader, "two\nlengths"),
                "invalid response: two lengths",
            ),
        ] {
            assert_eq!(of(outcome, &error), cause, "{error}");
        }
        let long = of(Outcome::TlsError, &tls(format!("{INVALID_CERTIFICATE}{}", "é".repeat(900))));
        assert_eq!(long.chars().count(), MAX_CHARS);
    }
}
