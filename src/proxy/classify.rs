//! What an error of Pingora's means: whose it is, which fault, how the attempt ended.
//!
//! The only place that looks at Pingora's error types. What follows from a fault is `fault`'s and `retry`'s to say.

use pingora::{Error, ErrorSource, ErrorType};

use crate::fault::Fault;
use crate::lack;
use crate::telemetry::vitals::Outcome;

/// How an attempt failed, when it was not the client's doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Failure {
    pub(super) outcome: Outcome,
    pub(super) fault: Fault,
}

impl Failure {
    const fn new(outcome: Outcome, fault: Fault) -> Self {
        Self { outcome, fault }
    }
}

/// For an error before a connection was there.
pub(super) fn connecting(error: &Error) -> Failure {
    use ErrorType as E;
    match error.etype() {
        _ if is_ours(error) => Failure::new(Outcome::ConnectError, Fault::Internal),
        E::ConnectTimedout | E::TLSHandshakeTimedout => Failure::new(Outcome::Timeout, Fault::Timeout),
        E::TLSHandshakeFailure | E::InvalidCert | E::TLSWantX509Lookup | E::HandshakeError => {
            Failure::new(Outcome::TlsError, Fault::Tls)
        }
        _ => Failure::new(Outcome::ConnectError, Fault::Connect),
    }
}

/// For an error on a connection that was there.
pub(super) fn proxying(error: &Error) -> Failure {
    use ErrorType as E;
    match error.etype() {
        _ if is_ours(error) => Failure::new(Outcome::Reset, Fault::Internal),
        _ if is_timeout(error) => Failure::new(Outcome::Timeout, Fault::Timeout),
        E::InvalidHTTPHeader | E::H1Error | E::InvalidH2 | E::H2Downgrade | E::Custom(_) => {
            Failure::new(Outcome::ProtocolError, Fault::Protocol)
        }
        _ => Failure::new(Outcome::Reset, Fault::Reset),
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
    io(error).is_some_and(|error| lack::of(error).is_some())
}

fn io_kind(error: &Error) -> Option<std::io::ErrorKind> {
    io(error).map(std::io::Error::kind)
}

fn io(error: &Error) -> Option<&std::io::Error> {
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
