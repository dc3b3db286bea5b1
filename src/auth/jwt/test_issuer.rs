//! An issuer for unit tests: makes keys, signs tokens of any content, and publishes its key set.

use aws_lc_rs::encoding::AsDer;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair,
    RSA_PKCS1_SHA256, RSA_PSS_SHA256, RsaKeyPair, RsaPublicKeyComponents,
};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

use super::{JwtAlgorithm, KeySet, Verifier};

/// The time of all tests, in Unix seconds.
pub const NOW: u64 = 1_700_000_000;

pub fn base64url(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

/// A key pair.
pub enum SigningKey {
    P256(EcdsaKeyPair),
    P384(EcdsaKeyPair),
    Ed25519(Ed25519KeyPair),
    Rsa(RsaKeyPair),
}

impl SigningKey {
    pub fn p256() -> Self {
        Self::P256(EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap())
    }

    pub fn p384() -> Self {
        Self::P384(EcdsaKeyPair::generate(&ECDSA_P384_SHA384_FIXED_SIGNING).unwrap())
    }

    pub fn ed25519() -> Self {
        Self::Ed25519(Ed25519KeyPair::generate().unwrap())
    }

    pub fn rsa() -> Self {
        Self::Rsa(RsaKeyPair::generate(KeySize::Rsa2048).unwrap())
    }

    /// The public key as a JWK without `kid`, `use` and `alg`.
    pub fn jwk(&self) -> Value {
        match self {
            Self::P256(pair) => curve("P-256", pair.public_key().as_ref()),
            Self::P384(pair) => curve("P-384", pair.public_key().as_ref()),
            Self::Ed25519(pair) => json!({"kty": "OKP", "crv": "Ed25519", "x": base64url(pair.public_key())}),
            Self::Rsa(pair) => {
                let public: RsaPublicKeyComponents<Vec<u8>> = pair.public_key().into();
                json!({"kty": "RSA", "n": base64url(public.n), "e": base64url(public.e)})
            }
        }
    }

    /// The DER of the public key: an attacker's favourite HMAC secret.
    pub fn public_der(&self) -> Vec<u8> {
        match self {
            Self::Rsa(pair) => AsDer::as_der(pair.public_key()).unwrap().as_ref().to_vec(),
            Self::P256(pair) | Self::P384(pair) => pair.public_key().as_ref().to_vec(),
            Self::Ed25519(pair) => pair.public_key().as_ref().to_vec(),
        }
    }

    fn sign(&self, message: &[u8], is_pss: bool) -> Vec<u8> {
        let random = SystemRandom::new();
        match self {
            Self::P256(pair) | Self::P384(pair) => pair.sign(&random, message).unwrap().as_ref().to_vec(),
            Self::Ed25519(pair) => pair.sign(message).as_ref().to_vec(),
            Self::Rsa(pair) => {
                let mut signature = vec![0; pair.public_modulus_len()];
                let algorithm = if is_pss { &RSA_PSS_SHA256 } else { &RSA_PKCS1_SHA256 };
                pair.sign(
                    algorithm as &'static dyn aws_lc_rs::signature::RsaEncoding,
                    &random,
                    message,
                    &mut signature,
                )
                .unwrap();
                signature
            }
        }
    }

    /// A token with these texts as header and payload.
    pub fn token_of(&self, header: &str, payload: impl AsRef<[u8]>) -> String {
        let signed = format!("{}.{}", base64url(header), base64url(payload));
        let signature = self.sign(signed.as_bytes(), header.contains("PS256"));
        format!("{signed}.{}", base64url(signature))
    }

    /// A token with these claims.
    pub fn token(&self, algorithm: &str, kid: &str, claims: &Value) -> String {
        self.token_of(&json!({"alg": algorithm, "typ": "JWT", "kid": kid}).to_string(), claims.to_string())
    }
}

fn curve(name: &str, point: &[u8]) -> Value {
    let (x, y) = point[1..].split_at(point.len() / 2);
    json!({"kty": "EC", "crv": name, "x": base64url(x), "y": base64url(y)})
}

/// A JWK with more members.
pub fn with(mut jwk: Value, members: Value) -> Value {
    jwk.as_object_mut().unwrap().extend(members.as_object().unwrap().clone());
    jwk
}

/// The document of a key set.
pub fn document(keys: &[Value]) -> String {
    json!({ "keys": keys }).to_string()
}

pub fn key_set(keys: &[Value]) -> KeySet {
    KeySet::parse(document(keys).as_bytes()).unwrap().keys
}

/// Claims that [`verifier`] accepts.
pub fn claims() -> Value {
    json!({"iss": "https://id.example", "aud": "api", "sub": "ann", "exp": NOW + 60})
}

pub fn claims_with(members: Value) -> Value {
    with(claims(), members)
}

/// [`claims`] without one of them.
pub fn claims_without(name: &str) -> Value {
    let mut claims = claims();
    claims.as_object_mut().unwrap().remove(name);
    claims
}

/// Requires the issuer, the audience and an expiry.
pub fn verifier(algorithms: &[JwtAlgorithm]) -> Verifier {
    Verifier {
        algorithms: algorithms.to_vec(),
        issuer: Some("https://id.example".into()),
        audience: Some(vec!["api".into(), "api2".into()]),
        leeway: 30,
        requires_expiry: true,
        claims: Vec::new(),
        scopes: Vec::new(),
    }
}
