//! A policy of the kind `basic`: decides whether a request has the user and the password of a file.

use std::future::Future;
use std::sync::Arc;
use std::time::Instant;

use http::{HeaderMap, HeaderValue};

use super::credentials::Credentials;
use super::htpasswd::{FoundUser, Users};
use super::password_hashing::HashResult;
use super::realm::Realm;
use super::verified::CredentialDigest;
use super::verifier::PasswordVerifier;
use crate::auth::{Identity, Refusal};

/// A policy, compiled. `Debug` shows no user and no hash.
#[derive(Debug)]
pub struct BasicPolicy {
    name: Box<str>,
    realm: Realm,
    users: Users,
    verifier: Arc<PasswordVerifier>,
}

/// A request before its password is hashed.
struct Claim<'a> {
    credentials: Credentials,
    found: FoundUser<'a>,
    digest: CredentialDigest,
}

impl BasicPolicy {
    /// A policy with these users.
    pub fn new(name: &str, realm: Realm, users: Users, verifier: Arc<PasswordVerifier>) -> Self {
        Self { name: name.into(), realm, users, verifier }
    }

    /// The value of WWW-Authenticate for a refused request.
    pub fn challenge(&self) -> HeaderValue {
        self.realm.challenge()
    }

    /// The identity, if these credentials were verified some minutes ago. It hashes no password.
    pub fn cached(&self, headers: &HeaderMap, now: Instant) -> Option<Identity> {
        self.verified(&self.claim(headers).ok()?, now)
    }

    /// The identity of the request. The future owns all that it needs. Drop it if the client disconnects: the password
    /// is then hashed only if another request with the same credentials waits for it.
    pub fn verify(
        &self,
        headers: &HeaderMap,
        now: Instant,
    ) -> impl Future<Output = Result<Identity, Refusal>> + Send + 'static + use<> {
        let begun = self.begin(headers, now);
        // The threads must not end while the request waits.
        let verifier = Arc::clone(&self.verifier);
        async move {
            let (identity, result) = match begun? {
                Begun::Verified(identity) => return Ok(identity),
                Begun::Hashing(identity, result) => (identity, result),
            };
            let result = result.wait().await;
            drop(verifier);
            match result {
                Some(true) => Ok(identity),
                Some(false) => Err(Refusal::Wrong),
                None => Err(Refusal::Busy),
            }
        }
    }

    fn begin(&self, headers: &HeaderMap, now: Instant) -> Result<Begun, Refusal> {
        let claim = self.claim(headers)?;
        if let Some(identity) = self.verified(&claim, now) {
            return Ok(Begun::Verified(identity));
        }
        let (user, user_exists) = match claim.found {
            FoundUser::Known(user) => (user, true),
            FoundUser::Unknown(other) => (other, false),
        };
        let result = self.verifier.hash(claim.digest, claim.credentials.password, &user.hash, user_exists, now);
        Ok(Begun::Hashing(user.identity.clone(), result.map_err(|_full| Refusal::Busy)?))
    }

    fn claim(&self, headers: &HeaderMap) -> Result<Claim<'_>, Refusal> {
        let credentials = Credentials::of(headers)?;
        let found = self.users.find(&credentials.user).ok_or(Refusal::Wrong)?;
        let (FoundUser::Known(user) | FoundUser::Unknown(user)) = &found;
        let digest = self.verifier.digest(&self.name, &credentials.user, &credentials.password, &user.hash);
        Ok(Claim { credentials, found, digest })
    }

    fn verified(&self, claim: &Claim<'_>, now: Instant) -> Option<Identity> {
        match claim.found {
            FoundUser::Known(user) if self.verifier.is_verified(&claim.digest, now) => Some(user.identity.clone()),
            _ => None,
        }
    }
}

/// A verification that began.
enum Begun {
    Verified(Identity),
    Hashing(Identity, HashResult),
}

#[cfg(test)]
#[path = "policy_tests.rs"]
mod tests;
