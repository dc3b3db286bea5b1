//! Tests of the verifier with tokens of an honest issuer: times, parties, permissions and key selection.

use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED, ParsedPublicKey, UnparsedPublicKey};
use serde_json::{Value, json};

use super::test_issuer::{NOW, SigningKey, claims, claims_with, claims_without, document, key_set, verifier, with};
use super::{ClaimPath, JwtAlgorithm, KeySet, KeySetError, RequiredClaim, TokenRefusal, Verifier};
use crate::auth::Identity;

/// Verifies claims that are signed with a known key.
fn check_with(verifier: &Verifier, claims: &Value) -> Result<Identity, TokenRefusal> {
    let key = SigningKey::ed25519();
    let keys = key_set(&[with(key.jwk(), json!({"kid": "k"}))]);
    verifier.verify(key.token("EdDSA", "k", claims).as_bytes(), &keys, NOW)
}

fn check(claims: &Value) -> Result<Identity, TokenRefusal> {
    check_with(&verifier(&[JwtAlgorithm::EdDSA]), claims)
}

#[test]
fn a_token_of_each_algorithm_is_verified() {
    for (name, key) in [
        ("ES256", SigningKey::p256()),
        ("ES384", SigningKey::p384()),
        ("EdDSA", SigningKey::ed25519()),
        ("RS256", SigningKey::rsa()),
        ("PS256", SigningKey::rsa()),
    ] {
        let algorithm = JwtAlgorithm::from_name(name).unwrap();
        let keys = key_set(&[with(key.jwk(), json!({"kid": "k", "use": "sig", "alg": name}))]);
        let token = key.token(name, "k", &claims());
        let identity = verifier(&[algorithm]).verify(token.as_bytes(), &keys, NOW).unwrap();
        assert_eq!((&*identity.name, identity.claims["aud"].as_str()), ("ann", Some("api")), "{name}");
        let other = key_set(&[with(SigningKey::p256().jwk(), json!({"kid": "k"}))]);
        assert!(verifier(&[algorithm]).verify(token.as_bytes(), &other, NOW).is_err(), "{name}");
    }
}

#[test]
fn expiry_has_a_leeway_of_thirty_seconds() {
    let expires = |at: Value| check(&claims_with(json!({ "exp": at }))).map(drop);
    assert_eq!(expires(json!(NOW - 29)), Ok(()));
    assert_eq!(expires(json!(NOW - 30)), Err(TokenRefusal::Expired), "not valid on or after this time");
    assert_eq!(expires(json!(NOW as f64 - 29.5)), Err(TokenRefusal::Expired), "a fraction is rounded down");
    assert_eq!(expires(json!(NOW as f64 + 0.5)), Ok(()));
    assert_eq!(expires(json!(u64::MAX)), Ok(()));
    assert_eq!(expires(json!(1e300)), Ok(()));
    for past in [json!(0), json!(-1), json!(-1e300), json!(i64::MIN)] {
        assert_eq!(expires(past.clone()), Err(TokenRefusal::Expired), "{past}");
    }
    assert_eq!(check(&claims_without("exp")).unwrap_err(), TokenRefusal::NoExpiry);
    let without = Verifier { requires_expiry: false, ..verifier(&[JwtAlgorithm::EdDSA]) };
    assert!(check_with(&without, &claims_without("exp")).is_ok());
    assert_eq!(check_with(&without, &claims_with(json!({"exp": 1}))).unwrap_err(), TokenRefusal::Expired);
}

#[test]
fn a_token_before_its_time_is_refused_with_the_same_leeway() {
    let begins = |at: Value| check(&claims_with(json!({ "nbf": at }))).map(drop);
    assert_eq!(begins(json!(NOW + 30)), Ok(()));
    assert_eq!(begins(json!(NOW + 31)), Err(TokenRefusal::NotYetValid));
    assert_eq!(begins(json!(NOW as f64 + 30.5)), Err(TokenRefusal::NotYetValid), "a fraction is rounded up");
    assert_eq!(begins(json!(u64::MAX)), Err(TokenRefusal::NotYetValid));
    assert_eq!(begins(json!(1e300)), Err(TokenRefusal::NotYetValid));
    assert_eq!(begins(json!(-5)), Ok(()));
}

#[test]
fn a_time_of_another_type_is_refused() {
    for name in ["exp", "nbf", "iat"] {
        for value in [json!("1900000000"), json!(null), json!([NOW + 60]), json!({}), json!(true)] {
            let refusal = check(&claims_with(json!({ name: value.clone() }))).unwrap_err();
            assert_eq!(refusal, TokenRefusal::Malformed, "{name}: {value}");
        }
    }
}

#[test]
fn the_issuer_must_be_exactly_the_configured_one() {
    for issuer in [
        json!("https://id.example/"),
        json!("https://id.example.evil"),
        json!("HTTPS://id.example"),
        json!(["https://id.example"]),
        json!({"https://id.example": 1}),
        json!(null),
    ] {
        let refusal = check(&claims_with(json!({ "iss": issuer.clone() }))).unwrap_err();
        assert_eq!(refusal, TokenRefusal::Issuer, "{issuer}");
    }
    assert_eq!(check(&claims_without("iss")).unwrap_err(), TokenRefusal::Issuer);
    let any = Verifier { issuer: None, ..verifier(&[JwtAlgorithm::EdDSA]) };
    assert!(check_with(&any, &claims_without("iss")).is_ok());
}

#[test]
fn one_audience_must_be_configured() {
    let audience = |audience: Value| check(&claims_with(json!({ "aud": audience }))).map(drop);
    assert_eq!(audience(json!("api2")), Ok(()));
    assert_eq!(audience(json!(["other", "api"])), Ok(()));
    for other in [json!("other"), json!("API"), json!(""), json!([]), json!(["other"]), json!([["api"]]), json!(null)] {
        assert_eq!(audience(other.clone()), Err(TokenRefusal::Audience), "{other}");
    }
    assert_eq!(audience(json!({"api": true})), Err(TokenRefusal::Audience));
    assert_eq!(check(&claims_without("aud")).unwrap_err(), TokenRefusal::Audience);
    let any = Verifier { audience: None, ..verifier(&[JwtAlgorithm::EdDSA]) };
    assert!(check_with(&any, &claims_without("aud")).is_ok());
    assert!(check_with(&any, &claims_with(json!({"aud": "other"}))).is_ok());
}

#[test]
fn required_scopes_and_claims_are_forbidden_when_missing() {
    let strict = Verifier {
        claims: vec![RequiredClaim { path: ClaimPath::new("realm.roles"), values: vec!["admin".into()] }],
        scopes: vec!["read".into(), "write".into()],
        ..verifier(&[JwtAlgorithm::EdDSA])
    };
    let check = |members: Value| check_with(&strict, &claims_with(members)).map(drop);
    let roles = json!({"roles": ["admin"]});
    assert_eq!(check(json!({"realm": roles, "scope": "write read x"})), Ok(()));
    assert_eq!(check(json!({"realm": roles, "scope": "read"})), Err(TokenRefusal::Scope("write".into())));
    assert_eq!(check(json!({"scope": "read write"})), Err(TokenRefusal::MissingClaim("realm.roles".into())));
    let expired = json!({"realm": roles, "exp": 1});
    assert_eq!(check(expired), Err(TokenRefusal::Expired), "an invalid token is 401, whatever it lacks");
}

#[test]
fn the_name_is_the_subject_or_the_client() {
    let name = |claims: &Value| check(claims).unwrap().name.to_string();
    assert_eq!(name(&claims()), "ann");
    assert_eq!(name(&claims_with(json!({"sub": 42}))), "42");
    assert_eq!(name(&with(claims_without("sub"), json!({"client_id": "job"}))), "job");
    assert_eq!(name(&with(claims_without("sub"), json!({"azp": "job"}))), "job");
    assert_eq!(name(&claims_without("sub")), "");
    assert_eq!(name(&claims_with(json!({"sub": "\u{e9}".repeat(300)}))).len(), 256);
    assert_eq!(name(&claims_with(json!({"sub": format!("a{}", "\u{e9}".repeat(300))}))).len(), 255);
}

#[test]
fn the_key_id_chooses_the_key() {
    let (old, new) = (SigningKey::p256(), SigningKey::p256());
    let keys = key_set(&[with(old.jwk(), json!({"kid": "old"})), with(new.jwk(), json!({"kid": "new"}))]);
    let verifier = verifier(&[JwtAlgorithm::ES256]);
    let verify = |token: String| verifier.verify(token.as_bytes(), &keys, NOW).map(drop);
    assert_eq!(verify(old.token("ES256", "old", &claims())), Ok(()));
    assert_eq!(verify(new.token("ES256", "new", &claims())), Ok(()));
    assert_eq!(verify(new.token("ES256", "old", &claims())), Err(TokenRefusal::Signature));
    let unknown = TokenRefusal::UnknownKey { kid: Some("next".into()) };
    assert_eq!(verify(new.token("ES256", "next", &claims())), Err(unknown));
    assert_eq!(verify(new.token_of(r#"{"alg":"ES256"}"#, claims().to_string())), Ok(()), "without an id, all keys");
    let other = SigningKey::p256().token_of(r#"{"alg":"ES256"}"#, claims().to_string());
    assert_eq!(verify(other), Err(TokenRefusal::UnknownKey { kid: None }), "it may be a key that is not fetched yet");
}

#[test]
fn a_key_that_is_not_for_signatures_is_left_out() {
    let key = SigningKey::p256();
    for (members, broken) in [
        (json!({"use": "enc"}), false),
        (json!({"key_ops": ["encrypt"]}), false),
        (json!({"alg": "ECDH-ES"}), false),
        (json!({"alg": "HS256"}), false),
        (json!({"kty": "oct", "k": "c2VjcmV0"}), false),
        (json!({"kty": "AKP"}), false),
        (json!({"crv": "secp256k1"}), false),
        (json!({"d": "AQAB"}), true),
        (json!({"alg": "ES384"}), true),
        (json!({"alg": "RS256"}), true),
        (json!({"crv": "P-384"}), true),
        (json!({"x": "AQAB"}), true),
        (json!({"x": "!"}), true),
        (json!({"y": key.jwk()["x"]}), true),
        (json!({"kid": 1}), true),
        (json!({"kty": "RSA"}), true),
    ] {
        let text = document(&[with(key.jwk(), members.clone())]);
        let Err(KeySetError::NoUsableKey(skipped)) = KeySet::parse(text.as_bytes()) else { panic!("{members}") };
        assert_eq!((skipped.len(), skipped[0].index, skipped[0].broken), (1, 0, broken), "{members}: {skipped:?}");
        let both = document(&[with(key.jwk(), members), with(key.jwk(), json!({"use": "sig"}))]);
        let parsed = KeySet::parse(both.as_bytes()).unwrap();
        assert_eq!((parsed.keys.len(), parsed.skipped.len()), (1, 1), "the others stay usable");
    }
}

#[test]
fn weak_rsa_keys_are_left_out() {
    let jwk = SigningKey::rsa().jwk();
    let long = "_".repeat(1400);
    for members in [
        json!({"n": "AQAB"}),
        json!({"n": &jwk["n"].as_str().unwrap()[..170]}),
        json!({"n": long}),
        json!({"e": "AQ"}),
        json!({"e": "AAAC"}),
        json!({"e": "__________8"}),
        json!({"e": ""}),
        json!({"n": ""}),
    ] {
        assert!(KeySet::parse(document(&[with(jwk.clone(), members.clone())]).as_bytes()).is_err(), "{members}");
    }
}

#[test]
fn a_key_set_is_bounded() {
    let jwk = SigningKey::ed25519().jwk();
    let parsed = KeySet::parse(document(&vec![jwk.clone(); 300]).as_bytes()).unwrap();
    assert_eq!((parsed.keys.len(), parsed.skipped.len(), parsed.skipped[0].index), (256, 1, 256));
    let large = format!("{}{}", " ".repeat(1 << 20), document(&[jwk]));
    assert_eq!(KeySet::parse(large.as_bytes()).unwrap_err(), KeySetError::TooLarge);
    assert_eq!(KeySet::parse(b"{}").unwrap_err(), KeySetError::NoList);
    assert_eq!(KeySet::parse(br#"{"keys":{}}"#).unwrap_err(), KeySetError::NoList);
    assert!(matches!(KeySet::parse(b"<html>").unwrap_err(), KeySetError::NotJson(_)));
    assert!(
        matches!(KeySet::parse(br#"{"keys":[1,"a"]}"#).unwrap_err(), KeySetError::NoUsableKey(two) if two.len() == 2)
    );
}

/// Time on the CPU of this thread, in nanoseconds.
fn cpu_time() -> u64 {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    text.split(' ').next().unwrap().parse().unwrap()
}

/// The CPU time of one call, in microseconds: the best of ten rounds.
fn microseconds(mut call: impl FnMut()) -> f64 {
    const CALLS: u32 = 2_000;
    let round = |_| {
        let start = cpu_time();
        (0..CALLS).for_each(|_| call());
        (cpu_time() - start) as f64 / 1e3 / f64::from(CALLS)
    };
    (0..10).map(round).fold(f64::MAX, f64::min)
}

#[test]
#[ignore = "a measurement"]
fn the_cpu_time_of_a_verification() {
    for (name, key) in [("ES256", SigningKey::p256()), ("RS256", SigningKey::rsa()), ("EdDSA", SigningKey::ed25519())] {
        let keys = key_set(&[with(key.jwk(), json!({"kid": "k"}))]);
        let token = key.token(name, "k", &claims_with(json!({"scope": "read write", "jti": "0123456789abcdef"})));
        let verifier = verifier(&[JwtAlgorithm::from_name(name).unwrap()]);
        let verify = || assert!(verifier.verify(std::hint::black_box(token.as_bytes()), &keys, NOW).is_ok());
        println!("{name}: {:.1} µs, token of {} bytes", microseconds(verify), token.len());
    }
    let key = SigningKey::p256();
    let token = key.token("ES256", "k", &claims());
    let (signed, signature) = token.rsplit_once('.').unwrap();
    let signature = base64::Engine::decode(&base64::engine::general_purpose::URL_SAFE_NO_PAD, signature).unwrap();
    let parsed = ParsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, key.public_der()).unwrap();
    let unparsed = UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, key.public_der());
    println!("parsed: {:.1} µs", microseconds(|| parsed.verify_sig(signed.as_bytes(), &signature).unwrap()));
    println!("unparsed: {:.1} µs", microseconds(|| unparsed.verify(signed.as_bytes(), &signature).unwrap()));
}
