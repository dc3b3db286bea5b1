//! One key of a key set (RFC 7517 section 4, RFC 7518 section 6).

use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED, ECDSA_P384_SHA384_FIXED, ParsedPublicKey};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::DecodingKey;
use serde_json::{Map, Value};

use super::JwtAlgorithm;
use super::algorithm::KeyType;

/// A public key for the signatures of tokens.
#[derive(Debug)]
pub(super) struct PublicKey {
    pub(super) id: Option<Box<str>>,
    key_type: KeyType,
    /// The only algorithm that the key may be used with.
    algorithm: Option<JwtAlgorithm>,
    pub(super) key: DecodingKey,
}

/// Why a key is left out.
pub(super) struct Unfit {
    pub(super) reason: &'static str,
    /// It is not a sound key for another purpose.
    pub(super) broken: bool,
}

pub(super) fn broken(reason: &'static str) -> Unfit {
    Unfit { reason, broken: true }
}

fn of_other_purpose(reason: &'static str) -> Unfit {
    Unfit { reason, broken: false }
}

impl PublicKey {
    /// Reads a JWK.
    ///
    /// # Errors
    /// It is broken, or it cannot verify a token.
    pub(super) fn parse(members: &Map<String, Value>) -> Result<Self, Unfit> {
        let kind = text(members, "kty")?.ok_or_else(|| broken("it has no key type `kty`"))?;
        if kind == "oct" {
            return Err(of_other_purpose("it is a symmetric key"));
        }
        if members.contains_key("d") {
            return Err(broken("it has private members, such as `d`; publish only the public ones"));
        }
        for_signatures(members)?;
        let algorithm = match text(members, "alg")? {
            Some(name) => {
                Some(JwtAlgorithm::from_name(name).ok_or_else(|| of_other_purpose("its `alg` is not supported"))?)
            }
            None => None,
        };
        let (key_type, key) = match kind {
            "RSA" => (KeyType::Rsa, rsa(members)?),
            "EC" => elliptic_curve(members)?,
            "OKP" => edwards_curve(members)?,
            _ => return Err(of_other_purpose("its key type `kty` is not supported")),
        };
        if algorithm.is_some_and(|algorithm| algorithm.key_type() != key_type) {
            return Err(broken("its `alg` does not suit its key type"));
        }
        Ok(PublicKey { id: text(members, "kid")?.map(Into::into), key_type, algorithm, key })
    }

    /// Whether it may have signed a token with this key id and algorithm.
    pub(super) fn fits(&self, id: Option<&str>, algorithm: JwtAlgorithm) -> bool {
        self.key_type == algorithm.key_type()
            && self.algorithm.is_none_or(|only| only == algorithm)
            && (id.is_none() || self.id.as_deref() == id)
    }
}

/// `use` and `key_ops` (RFC 7517 sections 4.2 and 4.3).
fn for_signatures(members: &Map<String, Value>) -> Result<(), Unfit> {
    if text(members, "use")?.is_some_and(|used| used != "sig") {
        return Err(of_other_purpose("its `use` is not `sig`"));
    }
    let Some(operations) = members.get("key_ops") else { return Ok(()) };
    let operations = operations.as_array().ok_or_else(|| broken("its `key_ops` is not a list"))?;
    match operations.iter().any(|operation| operation == "verify") {
        true => Ok(()),
        false => Err(of_other_purpose("its `key_ops` lacks `verify`")),
    }
}

fn rsa(members: &Map<String, Value>) -> Result<DecodingKey, Unfit> {
    let modulus = number(members, "n")?;
    let exponent = number(members, "e")?;
    let bits = modulus.len() * 8 - modulus.first().map_or(0, |byte| byte.leading_zeros() as usize);
    if !(2048..=8192).contains(&bits) {
        return Err(broken("its modulus has less than 2048 or more than 8192 bits"));
    }
    // aws-lc accepts at most 33 bits.
    let is_odd = |number: &[u8]| number.last().is_some_and(|byte| byte % 2 == 1);
    if !is_odd(&exponent) || exponent.len() > 4 || exponent == [1] || !is_odd(&modulus) {
        return Err(broken("its modulus or exponent is not that of an RSA key"));
    }
    Ok(DecodingKey::from_rsa_raw_components(&modulus, &exponent))
}

fn elliptic_curve(members: &Map<String, Value>) -> Result<(KeyType, DecodingKey), Unfit> {
    let (key_type, size, algorithm) = match text(members, "crv")? {
        Some("P-256") => (KeyType::P256, 32, &ECDSA_P256_SHA256_FIXED),
        Some("P-384") => (KeyType::P384, 48, &ECDSA_P384_SHA384_FIXED),
        Some(_) => return Err(of_other_purpose("its curve `crv` is not supported")),
        None => return Err(broken("it has no curve `crv`")),
    };
    let mut point = vec![4];
    for name in ["x", "y"] {
        let coordinate = decoded(members, name)?;
        if coordinate.len() != size {
            return Err(broken("a coordinate does not have the size of its curve"));
        }
        point.extend_from_slice(&coordinate);
    }
    ParsedPublicKey::new(algorithm, &point).map_err(|_| broken("its point is not on its curve"))?;
    Ok((key_type, DecodingKey::from_ec_der(&point)))
}

fn edwards_curve(members: &Map<String, Value>) -> Result<(KeyType, DecodingKey), Unfit> {
    match text(members, "crv")? {
        Some("Ed25519") => {}
        Some(_) => return Err(of_other_purpose("its curve `crv` is not supported")),
        None => return Err(broken("it has no curve `crv`")),
    }
    let point = decoded(members, "x")?;
    match point.len() {
        32 => Ok((KeyType::Ed25519, DecodingKey::from_ed_der(&point))),
        _ => Err(broken("a coordinate does not have the size of its curve")),
    }
}

fn text<'a>(members: &'a Map<String, Value>, name: &str) -> Result<Option<&'a str>, Unfit> {
    match members.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text)),
        Some(_) => Err(broken("one of `kty`, `kid`, `alg`, `use`, `crv` and the numbers is not a string")),
    }
}

/// A Base64urlUInt (RFC 7518 section 2), without leading zeros.
fn number(members: &Map<String, Value>, name: &str) -> Result<Vec<u8>, Unfit> {
    let bytes = decoded(members, name)?;
    Ok(bytes.into_iter().skip_while(|byte| *byte == 0).collect())
}

fn decoded(members: &Map<String, Value>, name: &str) -> Result<Vec<u8>, Unfit> {
    let encoded = text(members, name)?.ok_or_else(|| broken("a member of its key type is missing"))?;
    // Some issuers pad.
    let decoded = URL_SAFE_NO_PAD.decode(encoded.trim_end_matches('='));
    decoded.map_err(|_| broken("a number of it is not in base64url"))
}
