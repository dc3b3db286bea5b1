//! Verifies a token: form, algorithm, signature, then claims. `now` is an argument.
//!
//! The library verifies the signature. The claims are checked here, because the library reads the clock itself, takes
//! an array for `iss`, accepts a token without `aud`, and checks `nbf` only on request.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Map, Value};

use super::claims::has_scope;
use super::{JwtAlgorithm, KeySet, RequiredClaim, TokenRefusal, json};
use crate::auth::Identity;

/// Maximum size of a token, in bytes.
pub const MAX_TOKEN_BYTES: usize = 16 << 10;
/// Maximum size of a signature in base64url: RSA with 8192 bits.
const MAX_SIGNATURE_BYTES: usize = 1366;
/// Maximum size of a name that is kept, in bytes.
const MAX_NAME_BYTES: usize = 256;

/// The requirements on a token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verifier {
    /// The accepted algorithms.
    pub algorithms: Vec<JwtAlgorithm>,
    /// The value of `iss`. `None`: any.
    pub issuer: Option<String>,
    /// `aud` must name one of these. `None`: any, or none.
    pub audience: Option<Vec<String>>,
    /// Tolerance for `exp` and `nbf`, in seconds.
    pub leeway: u64,
    /// Whether `exp` is required.
    pub requires_expiry: bool,
    /// The required claims.
    pub claims: Vec<RequiredClaim>,
    /// The required scopes.
    pub scopes: Vec<String>,
}

/// The three parts of a token, in base64url.
struct Parts<'a> {
    header: &'a [u8],
    payload: &'a [u8],
    signature: &'a str,
    /// The header and the payload, which the signature covers.
    signed: &'a [u8],
}

impl Verifier {
    /// Verifies a token with these keys. `now`: Unix time in seconds.
    ///
    /// # Errors
    /// The token does not fulfil the requirements.
    pub fn verify(&self, token: &[u8], keys: &KeySet, now: u64) -> Result<Identity, TokenRefusal> {
        let parts = split(token)?;
        let header = object(parts.header)?;
        let algorithm = self.algorithm(&header)?;
        let kid = match header.get("kid") {
            None => None,
            Some(Value::String(kid)) => Some(kid.as_str()),
            Some(_) => return Err(TokenRefusal::Malformed),
        };
        verify_signature(&parts, algorithm, kid, keys)?;
        let claims = object(parts.payload)?;
        self.check_times(&claims, now)?;
        self.check_parties(&claims)?;
        self.check_permissions(&claims)?;
        Ok(Identity { name: name_of(&claims), claims: Arc::new(claims) })
    }

    fn algorithm(&self, header: &Map<String, Value>) -> Result<JwtAlgorithm, TokenRefusal> {
        // `b64: false` is only valid with `crit` (RFC 7797 section 6), but some libraries accept it alone.
        if header.contains_key("crit") || header.get("b64").is_some_and(|encoded| *encoded != Value::Bool(true)) {
            return Err(TokenRefusal::Critical);
        }
        let name = header.get("alg").and_then(Value::as_str).ok_or(TokenRefusal::Malformed)?;
        JwtAlgorithm::from_name(name).filter(|named| self.algorithms.contains(named)).ok_or(TokenRefusal::Algorithm)
    }

    fn check_times(&self, claims: &Map<String, Value>, now: u64) -> Result<(), TokenRefusal> {
        match time(claims, "exp")? {
            // A token is not valid on or after this time (RFC 7519 section 4.1.4).
            Some(expiry) if expiry.floor().saturating_add(self.leeway) <= now => return Err(TokenRefusal::Expired),
            None if self.requires_expiry => return Err(TokenRefusal::NoExpiry),
            _ => {}
        }
        time(claims, "iat")?;
        match time(claims, "nbf")? {
            Some(begin) if begin.ceil() > now.saturating_add(self.leeway) => Err(TokenRefusal::NotYetValid),
            _ => Ok(()),
        }
    }

    fn check_parties(&self, claims: &Map<String, Value>) -> Result<(), TokenRefusal> {
        if let Some(issuer) = &self.issuer
            && claims.get("iss").and_then(Value::as_str) != Some(issuer)
        {
            return Err(TokenRefusal::Issuer);
        }
        let Some(accepted) = &self.audience else { return Ok(()) };
        let is_accepted = |value: &Value| value.as_str().is_some_and(|name| accepted.iter().any(|one| one == name));
        let fits = match claims.get("aud") {
            Some(Value::Array(names)) => names.iter().any(is_accepted),
            Some(name) => is_accepted(name),
            None => false,
        };
        if fits { Ok(()) } else { Err(TokenRefusal::Audience) }
    }

    fn check_permissions(&self, claims: &Map<String, Value>) -> Result<(), TokenRefusal> {
        if let Some(missing) = self.claims.iter().find(|required| !required.is_fulfilled(claims)) {
            return Err(TokenRefusal::MissingClaim(missing.path.as_str().into()));
        }
        match self.scopes.iter().find(|scope| !has_scope(claims, scope)) {
            Some(missing) => Err(TokenRefusal::Scope(missing.as_str().into())),
            None => Ok(()),
        }
    }
}

fn split(token: &[u8]) -> Result<Parts<'_>, TokenRefusal> {
    if token.len() > MAX_TOKEN_BYTES {
        return Err(TokenRefusal::TooLong);
    }
    let dot = |bytes: &[u8]| bytes.iter().position(|byte| *byte == b'.').ok_or(TokenRefusal::Malformed);
    let first = dot(token)?;
    let second = first + 1 + dot(&token[first + 1..])?;
    let signature = std::str::from_utf8(&token[second + 1..]).map_err(|_| TokenRefusal::Malformed)?;
    // An encrypted token has five parts.
    if signature.contains('.') || signature.len() > MAX_SIGNATURE_BYTES {
        return Err(TokenRefusal::Malformed);
    }
    Ok(Parts { header: &token[..first], payload: &token[first + 1..second], signature, signed: &token[..second] })
}

fn object(encoded: &[u8]) -> Result<Map<String, Value>, TokenRefusal> {
    let text = URL_SAFE_NO_PAD.decode(encoded).map_err(|_| TokenRefusal::Malformed)?;
    json::object(&text).map_err(|_| TokenRefusal::Malformed)
}

fn verify_signature(
    parts: &Parts<'_>,
    algorithm: JwtAlgorithm,
    kid: Option<&str>,
    keys: &KeySet,
) -> Result<(), TokenRefusal> {
    let unknown = || TokenRefusal::UnknownKey { kid: kid.map(Into::into) };
    let mut candidates = keys.candidates(kid, algorithm).peekable();
    if candidates.peek().is_none() {
        return Err(if kid.is_some_and(|kid| keys.has(kid)) { TokenRefusal::Algorithm } else { unknown() });
    }
    let verifies = |key: &jsonwebtoken::DecodingKey| {
        jsonwebtoken::crypto::verify(parts.signature, parts.signed, key, algorithm.library()).unwrap_or(false)
    };
    if candidates.any(|candidate| verifies(&candidate.key)) {
        return Ok(());
    }
    // Without a key id, a new key of the issuer looks like a wrong signature.
    Err(if kid.is_some() { TokenRefusal::Signature } else { unknown() })
}

/// A NumericDate (RFC 7519 section 2), which may have a fraction.
#[derive(Clone, Copy)]
enum Time {
    Whole(u64),
    Fraction(f64),
}

impl Time {
    // A conversion from a float saturates.
    fn floor(self) -> u64 {
        match self {
            Self::Whole(seconds) => seconds,
            Self::Fraction(seconds) => seconds.floor() as u64,
        }
    }

    fn ceil(self) -> u64 {
        match self {
            Self::Whole(seconds) => seconds,
            Self::Fraction(seconds) => seconds.ceil() as u64,
        }
    }
}

fn time(claims: &Map<String, Value>, name: &str) -> Result<Option<Time>, TokenRefusal> {
    match claims.get(name) {
        None => Ok(None),
        Some(Value::Number(number)) => match number.as_u64() {
            Some(seconds) => Ok(Some(Time::Whole(seconds))),
            None => number.as_f64().map(|seconds| Some(Time::Fraction(seconds))).ok_or(TokenRefusal::Malformed),
        },
        Some(_) => Err(TokenRefusal::Malformed),
    }
}

/// The subject. A token that stands for a client alone may have only a client id (RFC 9068 section 2.2).
fn name_of(claims: &Map<String, Value>) -> Arc<str> {
    let text = |name: &&str| match claims.get(*name)? {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    };
    let name = ["sub", "client_id", "azp"].iter().find_map(text).unwrap_or_default();
    name[..name.floor_char_boundary(MAX_NAME_BYTES)].into()
}
