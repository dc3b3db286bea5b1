//! Maps errors of h2 to Pingora's error types. `proxy::classify` finds the fault from the type and from the h2 error.

use std::io::ErrorKind;

use h2::Reason;
use pingora_core::{Error, ErrorType, RetryType};

/// The context of an error that occurred before the request was sent.
pub const BEFORE_SENT: &str = "before the HTTP/2 request was sent";

/// An error of `send_request`.
pub(super) fn of_request(error: h2::Error) -> Box<Error> {
    Error::because(ErrorType::H2Error, BEFORE_SENT, error)
}

/// An error before the response header was complete.
pub(super) fn of_header(error: h2::Error) -> Box<Error> {
    let (kind, retry) = match error.reason() {
        Some(Reason::HTTP_1_1_REQUIRED) if error.is_remote() => (ErrorType::H2Downgrade, RetryType::Decided(false)),
        Some(Reason::PROTOCOL_ERROR) if error.is_go_away() && error.is_library() => {
            (ErrorType::InvalidH2, RetryType::Decided(false))
        }
        _ if is_broken(&error) => (ErrorType::ReadError, RetryType::ReusedOnly),
        _ if error.is_io() => (ErrorType::ReadError, RetryType::Decided(false)),
        _ => (ErrorType::H2Error, RetryType::Decided(false)),
    };
    let mut mapped = Error::because(kind, "while reading the HTTP/2 response header", error);
    mapped.retry = retry;
    mapped
}

/// An error after the response header.
pub(super) fn of_body(error: h2::Error) -> Box<Error> {
    Error::because(ErrorType::ReadError, "while reading the HTTP/2 response body", error)
}

/// Whether the socket failed, not TLS. A reused connection may have been closed by the backend before.
fn is_broken(error: &h2::Error) -> bool {
    error.get_io().is_some_and(|error| {
        let kinds = [ErrorKind::ConnectionReset, ErrorKind::TimedOut, ErrorKind::BrokenPipe];
        error.raw_os_error().is_some() || kinds.contains(&error.kind())
    })
}

/// Whether this reset follows a response that is complete (RFC 9113 section 8.1). Then there are no trailers.
pub(super) fn is_no_error(error: &h2::Error) -> bool {
    (error.is_go_away() || error.is_reset()) && error.is_remote() && error.reason() == Some(Reason::NO_ERROR)
}
