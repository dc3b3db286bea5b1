//! HTTP Basic authentication (RFC 7617) with the users of an htpasswd file.
//!
//! A password is hashed on threads of its own. Credentials that were verified pass without a hash for some minutes.

pub mod htpasswd;

mod credentials;
mod password_hash;
mod password_hashing;
mod policy;
mod realm;
mod verified;
mod verifier;

pub use policy::BasicPolicy;
pub use realm::{BadRealm, Realm};
pub use verifier::PasswordVerifier;
