//! The result of access control, as a part of a request's context: the identity, and fields of the response.

use http::{HeaderValue, header};
use pingora::Result;
use pingora::http::ResponseHeader;

use crate::auth::Identity;
use crate::fault::Fault;

/// The facts that access control found about a request. It has no `Debug`, because cookies and challenges may be
/// secrets.
#[derive(Default)]
pub(super) struct AccessState {
    /// The verified sender.
    pub(super) identity: Option<Identity>,
    /// Set-Cookie fields of authorization responses. The final response gets them.
    pub(super) cookies: Vec<HeaderValue>,
    /// The values of WWW-Authenticate in a 401 (RFC 9110 section 11.6.1).
    pub(super) challenges: Vec<HeaderValue>,
}

impl AccessState {
    /// Adds the fields of Weir's own error response: the cookies, and the challenges of a 401.
    ///
    /// # Errors
    /// A field cannot be stored.
    pub(super) fn add_fields(&self, fault: Fault, response: &mut ResponseHeader) -> Result<()> {
        for challenge in self.challenges.iter().filter(|_| fault == Fault::Unauthorized) {
            response.append_header(header::WWW_AUTHENTICATE, challenge.clone())?;
        }
        self.add_cookies(response)
    }

    /// Adds the cookies of authorization responses to a response.
    ///
    /// # Errors
    /// The field cannot be stored.
    pub(super) fn add_cookies(&self, response: &mut ResponseHeader) -> Result<()> {
        for cookie in &self.cookies {
            response.append_header(header::SET_COOKIE, cookie.clone())?;
        }
        Ok(())
    }
}
