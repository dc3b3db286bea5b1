//! Why a token is refused, and the challenge that tells the client (RFC 6750 section 3).

use std::fmt::Write as _;

/// Why a token is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TokenRefusal {
    /// It is not a signed token in compact form, or one of its claims has the wrong type.
    #[error("the token is malformed")]
    Malformed,
    /// It has more than 16 KiB.
    #[error("the token is too long")]
    TooLong,
    /// Its `alg` is not one of the configured algorithms, or no key of that id may be used with it.
    #[error("the algorithm of the token is not accepted")]
    Algorithm,
    /// It requires an extension (`crit`).
    #[error("the token requires an extension that is not supported")]
    Critical,
    /// No key has its key id, or it has no key id and no key verifies it.
    #[error("the key of the token is not known")]
    UnknownKey {
        /// The key id of the token. It is the client's own text.
        kid: Option<Box<str>>,
    },
    /// The signature does not belong to the token.
    #[error("the signature of the token is wrong")]
    Signature,
    /// `exp` has passed.
    #[error("the token has expired")]
    Expired,
    /// `nbf` is in the future.
    #[error("the token is not valid yet")]
    NotYetValid,
    /// It has no `exp`.
    #[error("the token has no expiry")]
    NoExpiry,
    /// `iss` is another issuer.
    #[error("the token is from another issuer")]
    Issuer,
    /// `aud` names other audiences.
    #[error("the token is for another audience")]
    Audience,
    /// A required claim is missing, or it has another value.
    #[error("the token lacks the required claim {0}")]
    MissingClaim(Box<str>),
    /// A required scope is missing.
    #[error("the token lacks the required scope {0}")]
    Scope(Box<str>),
}

impl TokenRefusal {
    /// Whether the token is authentic, but does not permit the request. That is 403; all other refusals are 401.
    pub fn is_forbidden(&self) -> bool {
        matches!(self, Self::MissingClaim(_) | Self::Scope(_))
    }

    /// The `error` of the challenge.
    pub fn error(&self) -> &'static str {
        if self.is_forbidden() { "insufficient_scope" } else { "invalid_token" }
    }

    /// The `error_description` of the challenge. It has no text of the client.
    pub fn error_description(&self) -> String {
        quotable(&self.to_string())
    }

    /// The value of WWW-Authenticate. `scopes`: all that the policy requires.
    pub fn challenge(&self, realm: &str, scopes: &[String]) -> String {
        let mut challenge = challenge(realm);
        let _ = write!(challenge, ", error=\"{}\", error_description=\"{}\"", self.error(), self.error_description());
        if matches!(self, Self::Scope(_)) {
            let _ = write!(challenge, ", scope=\"{}\"", quotable(&scopes.join(" ")));
        }
        challenge
    }
}

/// The value of WWW-Authenticate for a request without a token. It has no error (RFC 6750 section 3.1).
pub fn challenge(realm: &str) -> String {
    format!("Bearer realm=\"{}\"", quotable(realm))
}

/// Keeps the characters that RFC 6750 section 3 permits in a quoted string.
fn quotable(text: &str) -> String {
    text.chars().filter(|c| matches!(c, ' '..='~') && !matches!(c, '"' | '\\')).collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests {
    use super::*;

    #[test]
    fn a_challenge_names_the_error_and_the_scopes() {
        assert_eq!(challenge("api"), "Bearer realm=\"api\"");
        assert_eq!(
            TokenRefusal::Expired.challenge("api", &[]),
            "Bearer realm=\"api\", error=\"invalid_token\", error_description=\"the token has expired\""
        );
        let refusal = TokenRefusal::Scope("write".into());
        let challenge = refusal.challenge("api", &["read".to_owned(), "write".to_owned()]);
        assert!(challenge.starts_with("Bearer realm=\"api\", error=\"insufficient_scope\", "), "{challenge}");
        assert!(challenge.ends_with(", scope=\"read write\""), "{challenge}");
    }

    #[test]
    fn a_challenge_has_no_text_of_the_client() {
        let refusal = TokenRefusal::UnknownKey { kid: Some("\", evil=\"1\r\nset-cookie: a=b".into()) };
        assert_eq!(refusal.error_description(), "the key of the token is not known");
        let refusal = TokenRefusal::MissingClaim("a\"\\\r\né".into());
        assert_eq!(refusal.error_description(), "the token lacks the required claim a");
        assert!(http::HeaderValue::from_str(&refusal.challenge("r\n\"", &[])).is_ok());
    }

    #[test]
    fn only_scopes_and_claims_are_forbidden() {
        assert!(
            TokenRefusal::Scope("a".into()).is_forbidden() && TokenRefusal::MissingClaim("a".into()).is_forbidden()
        );
        let unauthorized = [
            TokenRefusal::Malformed,
            TokenRefusal::TooLong,
            TokenRefusal::Algorithm,
            TokenRefusal::Critical,
            TokenRefusal::UnknownKey { kid: None },
            TokenRefusal::Signature,
            TokenRefusal::Expired,
            TokenRefusal::NotYetValid,
            TokenRefusal::NoExpiry,
            TokenRefusal::Issuer,
            TokenRefusal::Audience,
        ];
        assert!(unauthorized.iter().all(|refusal| !refusal.is_forbidden() && refusal.error() == "invalid_token"));
    }
}
