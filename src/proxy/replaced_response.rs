//! A response of a backend that an error page replaces, as a part of the context of its request.

use http::{HeaderName, HeaderValue};

/// The parts of the response that the client still gets.
#[derive(Debug)]
pub(super) struct ReplacedResponse {
    pub(super) status: u16,
    pub(super) fields: Vec<(HeaderName, HeaderValue)>,
}
