//! The JWT policy: verifies the token of a request with the keys of its issuer (RFC 7519, RFC 7515, RFC 6750).
//!
//! ```text
//! TokenSource → token → Verifier (KeySet) → Identity → ClaimFields → fields for the backend
//! FetchSchedule → fetch → FetchedKeys → KeySet
//! ```
//!
//! `fetch` and `key_store` do I/O on the control runtime. All other modules are pure.

pub mod algorithm;
pub mod claims;
pub mod fetch;
pub mod forwarded;
pub mod key_location;
pub mod key_store;
pub mod keys;
pub mod policy;
pub mod refusal;
pub mod schedule;
pub mod token;
pub mod verifier;

mod fetch_error;
mod json;
mod public_key;

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod hostile_tests;
#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod key_store_tests;
#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod test_issuer;
#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod verifier_tests;

pub use algorithm::JwtAlgorithm;
pub use claims::{ClaimPath, RequiredClaim};
pub use fetch_error::FetchError;
pub use forwarded::ClaimFields;
pub use key_location::{JwksLocation, KeySource};
pub use key_store::{FetchStatus, FetchedKeys, KeyStore};
pub use keys::{KeySet, KeySetError, ParsedKeys, SkippedKey};
pub use policy::{JwtFailure, JwtPolicy, TokenKeys};
pub use refusal::TokenRefusal;
pub use schedule::FetchSchedule;
pub use token::{TokenError, TokenSource};
pub use verifier::{MAX_TOKEN_BYTES, Verifier};
