//! The reasons why a policy refuses a request.

/// The reason of a refusal. It never contains a part of the credentials.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
pub enum Refusal {
    /// The request has no credentials for this policy. Credentials of another scheme do not count.
    #[error("no credentials")]
    NoCredentials,
    /// The credentials cannot be decoded, are too long, or occur twice.
    #[error("malformed credentials")]
    Malformed,
    /// The credentials are not those of a user or a key of the policy.
    #[error("wrong credentials")]
    Wrong,
    /// Too many passwords wait to be verified. The client may try again later.
    #[error("too many passwords wait to be verified")]
    Busy,
}
