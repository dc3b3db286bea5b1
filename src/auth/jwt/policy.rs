//! The JWT policy of one name: where the token is, the requirements on it, and the keys.

use std::sync::Arc;
use std::time::Duration;

use http::HeaderMap;

use super::refusal::challenge;
use super::{ClaimFields, FetchedKeys, KeySet, TokenError, TokenRefusal, TokenSource, Verifier};
use crate::auth::Identity;

/// A policy that accepts requests with a valid token.
#[derive(Debug)]
pub struct JwtPolicy {
    /// Where the token is.
    pub source: TokenSource,
    /// The requirements on the token.
    pub verifier: Verifier,
    /// The keys.
    pub keys: TokenKeys,
    /// The fields for the backend.
    pub fields: ClaimFields,
    /// Whether the backend gets the token. A token in the query is always removed.
    pub forwards_token: bool,
}

/// The keys of a policy.
#[derive(Debug, Clone)]
pub enum TokenKeys {
    /// From a file of the configuration.
    File(Arc<KeySet>),
    /// From the network.
    Fetched(Arc<FetchedKeys>),
}

/// Why a request is not let through.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum JwtFailure {
    /// It has no token.
    NoToken,
    /// It has several tokens.
    SeveralTokens,
    /// Its token is refused.
    Refused(TokenRefusal),
    /// No keys were loaded yet. The client may try again after this time.
    NoKeys(Duration),
}

impl JwtPolicy {
    /// The token of a request.
    ///
    /// # Errors
    /// It has none, or several.
    pub fn token<'a>(&self, headers: &'a HeaderMap, query: Option<&'a str>) -> Result<&'a [u8], JwtFailure> {
        self.source.token(headers, query).map_err(|error| match error {
            TokenError::Absent => JwtFailure::NoToken,
            TokenError::Repeated => JwtFailure::SeveralTokens,
        })
    }

    /// Verifies a token. `now`: Unix time in seconds. It waits only if the key of the token is unknown and the keys are
    /// fetched again.
    ///
    /// # Errors
    /// The request is not let through.
    pub async fn authenticate(&self, token: &[u8], now: u64) -> Result<Identity, JwtFailure> {
        let keys = match &self.keys {
            TokenKeys::File(keys) => return self.verifier.verify(token, keys, now).map_err(JwtFailure::Refused),
            TokenKeys::Fetched(keys) => keys,
        };
        let mut seen = keys.current().ok_or_else(|| JwtFailure::NoKeys(keys.retry_after()))?;
        let mut result = self.verifier.verify(token, &seen, now);
        // A fetch that was in flight may have begun before the key was published. The second one has not.
        for _ in 0..2 {
            if !matches!(result, Err(TokenRefusal::UnknownKey { .. })) {
                break;
            }
            let Some(newer) = keys.newer_than(&seen).await else { break };
            result = self.verifier.verify(token, &newer, now);
            seen = newer;
        }
        result.map_err(JwtFailure::Refused)
    }

    /// The value of WWW-Authenticate for a failure with 401 or 403. `None`: the failure is 503.
    pub fn challenge(&self, failure: &JwtFailure, realm: &str) -> Option<String> {
        match failure {
            JwtFailure::NoToken => Some(challenge(realm)),
            JwtFailure::SeveralTokens => Some(TokenRefusal::Malformed.challenge(realm, &[])),
            JwtFailure::Refused(refusal) => Some(refusal.challenge(realm, &self.verifier.scopes)),
            JwtFailure::NoKeys(_) => None,
        }
    }
}
