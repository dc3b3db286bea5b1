//! What an error of Pingora's means: whose it is, which fault, how the attempt ended.
//!
//! The only place that looks at Pingora's error types. What follows from a fault is `fault`'s and `retry`'s to say.

use pingora::{Error, ErrorSource, ErrorType};

use crate::backend::labels::Outcome;
use crate::fault::Fault;
use crate::resource_exhaustion;

/// How an attempt failed, when it was not the client's doing.
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

/// For an error before a connection was there.
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

/// For an error on a connection that was there, before a response header came.
pub(super) fn unanswered(error: &Error) -> AttemptFailure {
    if is_unprocessed(error) { AttemptFailure::new(Outcome::ConnectError, Fault::Connect) } else { proxying(error) }
}

/// For an error on a connection that was there.
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

/// Whether the backend cannot have processed the request, so that any method may be sent again. Either the backend
/// declares it: GOAWAY with a lower last stream, which h2 reports to the streams above it only (RFC 9113 section 6.8),
/// or RST_STREAM with REFUSED_STREAM (section 8.7). Or the HTTP/2 connection failed before the request was sent on it.
/// Valid only while no response header has come.
pub(super) fn is_unprocessed(error: &Error) -> bool {
    let Some(cause) = error.root_cause().downcast_ref::<h2::Error>() else { return false };
    // A backend that wants HTTP/1.1 would refuse each stream.
    if cause.reason() == Some(h2::Reason::HTTP_1_1_REQUIRED) {
        return false;
    }
    let context = error.context.as_ref().map(|context| context.as_str());
    match context {
        // Pingora's words for the two steps before a request leaves (connectors/http/v2.rs, protocols/http/v2/client.rs).
        Some("while creating new stream") => true,
        // Not an error of the request itself, which the next connection would not take either.
        Some("while sending request") => cause.is_io() || cause.is_go_away() || cause.is_reset(),
        _ if !cause.is_remote() => false,
        _ => cause.is_go_away() || cause.reason() == Some(h2::Reason::REFUSED_STREAM),
    }
}

/// Whether the backend was silent for too long: by Pingora's timers, or by those of a leased socket.
pub(super) fn is_timeout(error: &Error) -> bool {
    use ErrorType as E;
    match error.etype() {
        E::ReadTimedout | E::WriteTimedout => true,
        E::ReadError | E::WriteError => io_kind(error) == Some(std::io::ErrorKind::TimedOut),
        _ => false,
    }
}

/// Whether the other end closed without TLS' goodbye (RFC 8446 section 6.1).
pub(super) fn is_bare_end(error: &Error) -> bool {
    io_kind(error) == Some(std::io::ErrorKind::UnexpectedEof)
}

/// Whether it is for want of something here, such as descriptors, which says nothing about the backend.
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

/// Whether the client, not a backend, is where it went wrong.
pub(super) fn is_the_clients(error: &Error) -> bool {
    *error.esource() == ErrorSource::Downstream
}

/// For an error on the client's side: the fault, and the status where the table's is not the one.
pub(super) fn client(error: &Error) -> (Fault, u16) {
    use ErrorType as E;
    match error.etype() {
        // RFC 9110 section 15.5.9: the body did not come in time.
        E::ReadTimedout => (Fault::RefusedPolicy, 408),
        E::InvalidHTTPHeader | E::H1Error | E::InvalidH2 | E::Custom(_) => (Fault::BadRequest, 400),
        _ if is_malformed(error) => (Fault::BadRequest, 400),
        _ => (Fault::ClientAbort, 499),
    }
}

/// The listener's own word for a body that is none; the connection is there to say so on.
fn is_malformed(error: &Error) -> bool {
    io_kind(error) == Some(std::io::ErrorKind::InvalidData)
}
