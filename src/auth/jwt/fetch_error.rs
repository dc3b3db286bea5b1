//! Why a fetch of keys failed. The messages are for the log and the admin API.

use http::StatusCode;

use super::KeySetError;

/// Why a fetch failed.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// There is no usable CA certificate.
    #[error("there is no CA certificate to verify the server with: {0}")]
    Authorities(String),
    /// It is not an absolute URL with `http` or `https`.
    #[error("`{0}` is not a URL with `http` or `https`")]
    Url(String),
    /// The connection, TLS or the response failed.
    #[error("{url} cannot be fetched: {reason}")]
    Transport {
        /// The document.
        url: String,
        /// The errors, from the outermost to the innermost.
        reason: String,
    },
    /// The response took too long.
    #[error("{0} did not answer within 5 s")]
    Timeout(String),
    /// The response has another status than 200.
    #[error("{url} answered {status}")]
    Status {
        /// The document.
        url: String,
        /// The status of the response.
        status: StatusCode,
    },
    /// The response is too large.
    #[error("{0} is larger than 1 MiB")]
    TooLarge(String),
    /// A redirect that is not followed.
    #[error("{0} redirects too often, to another scheme, or to no URL")]
    Redirect(String),
    /// The discovery document is not usable.
    #[error("{url} is not the discovery document of the issuer: {reason}")]
    Discovery {
        /// The document.
        url: String,
        /// Why it is not usable.
        reason: &'static str,
    },
    /// The key set is not usable.
    #[error("{url}: {source}")]
    Keys {
        /// The document.
        url: String,
        /// Why it is not usable.
        source: KeySetError,
    },
}
