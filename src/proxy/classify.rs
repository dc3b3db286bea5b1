//! Classification of Pingora's errors: who caused the error, which fault it is, and how the attempt ended.
//!
//! No other module reads Pingora's error types. This module decides nothing about the response or a retry: see `fault`
//! and `upstream_error`.

use pingora::{Error, ErrorSource, ErrorType};

use crate::backend::labels::Outcome;
use crate::fault::Fault;
pub(super) use crate::pool::http1::is_bare_end;
use crate::pool::http2::BEFORE_SENT;
use crate::resource_exhaustion;

/// How an attempt failed, if the client did not cause it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct AttemptFailure {
    pub(super) outcome: Outcome,
    pub(super) fault: Fault,
}

impl AttemptFailure {
    const fn new(outcome: Outcome, fault: Fault) -> Self {
        Self { outcome, fault }
    }
}

/// Classifies an error that occurred before there was a connection.
pub(super) fn connecting(error: &Error) -> AttemptFailure {
    use ErrorType as E;
    match error.etype() {
        _ if is_ours(error) => AttemptFailure::new(Outcome::ConnectError, Fault::Internal),
        E::ConnectTimedout | E::TLSHandshakeTimedout => AttemptFailure::new(Outcome::Timeout, Fault::Timeout),
        E::TLSHandshakeFailure | E::InvalidCert | E::TLSWantX509Lookup | E::HandshakeError => {
            AttemptFailure::new(Outcome::TlsError, Fault::Tls)
        }
        _ => AttemptFailure::new(Outcome::ConnectError, Fault::Connect),
    }
}

/// Classifies an error on an established connection before a response header arrived.
pub(super) fn unanswered(error: &Error) -> AttemptFailure {
    if is_unprocessed(error) { AttemptFailure::new(Outcome::ConnectError, Fault::Connect) } else { proxying(error) }
}

/// Classifies an error on an established connection.
pub(super) fn proxying(error: &Error) -> AttemptFailure {
    use ErrorType as E;
    match error.etype() {
        _ if is_ours(error) => AttemptFailure::new(Outcome::Reset, Fault::Internal),
        _ if is_timeout(error) => AttemptFailure::new(Outcome::Timeout, Fault::Timeout),
        E::InvalidHTTPHeader | E::H1Error | E::InvalidH2 | E::H2Downgrade | E::Custom(_) => {
            AttemptFailure::new(Outcome::ProtocolError, Fault::Protocol)
        }
        _ => AttemptFailure::new(Outcome::Reset, Fault::Reset),
    }
}

/// Whether the backend cannot have processed the request, so that any method may be sent again.
///
/// There are three cases:
/// - The backend sends GOAWAY with a lower last stream id. h2 reports it only to the streams above that id (RFC 9113
///   section 6.8).
/// - The backend sends RST_STREAM with REFUSED_STREAM (section 8.7).
/// - The HTTP/2 connection failed before the request was sent on it.
///
/// Valid only before a response header has arrived.
pub(super) fn is_unprocessed(error: &Error) -> bool {
    let Some(cause) = error.root_cause().downcast_ref::<h2::Error>() else { return false };
    // A backend that requires HTTP/1.1 would refuse every stream.
    if cause.reason() == Some(h2::Reason::HTTP_1_1_REQUIRED) {
        return false;
    }
    let context = error.context.as_ref().map(|context| context.as_str());
    match context {
        // An error in the request itself does not count, because the next connection would refuse it too.
        Some(BEFORE_SENT) => cause.is_io() || cause.is_go_away() || cause.is_reset(),
        _ if !cause.is_remote() => false,
        _ => cause.is_go_away() || cause.reason() == Some(h2::Reason::REFUSED_STREAM),
    }
}

/// Whether the backend was silent for too long. Either Pingora's timers or the timeouts of a pooled stream report it.
pub(super) fn is_timeout(error: &Error) -> bool {
    use ErrorType as E;
    match error.etype() {
        E::ReadTimedout | E::WriteTimedout => true,
        E::ReadError | E::WriteError => io_kind(error) == Some(std::io::ErrorKind::TimedOut),
        _ => false,
    }
}

/// Whether a resource of this process was exhausted, such as file descriptors. That is not a failure of the backend.
fn is_ours(error: &Error) -> bool {
    io(error).is_some_and(|error| resource_exhaustion::of(error).is_some())
}

fn io_kind(error: &Error) -> Option<std::io::ErrorKind> {
    io(error).map(std::io::Error::kind)
}

/// The error of a socket or file, where that is the root.
pub(super) fn io(error: &Error) -> Option<&std::io::Error> {
    error.root_cause().downcast_ref()
}

/// Whether the error occurred on the client's connection.
pub(super) fn is_the_clients(error: &Error) -> bool {
    *error.esource() == ErrorSource::Downstream
}

/// Classifies an error on the client's connection. The status replaces the fault's own status.
pub(super) fn client(error: &Error) -> (Fault, u16) {
    use ErrorType as E;
    match error.etype() {
        // The body did not arrive in time (RFC 9110 section 15.5.9).
        E::ReadTimedout => (Fault::RefusedPolicy, 408),
        E::ReadError if io_kind(error) == Some(std::io::ErrorKind::TimedOut) => (Fault::RefusedPolicy, 408),
        E::InvalidHTTPHeader | E::H1Error | E::InvalidH2 | E::Custom(_) => (Fault::BadRequest, 400),
        _ if is_malformed(error) => (Fault::BadRequest, 400),
        _ => (Fault::ClientAbort, 499),
    }
}

/// Whether the listener found the request body malformed. The client's connection still works, so a response can be
/// sent.
fn is_malformed(error: &Error) -> bool {
    io_kind(error) == Some(std::io::ErrorKind::InvalidData)
}
