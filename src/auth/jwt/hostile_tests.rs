//! Tests of the verifier with hostile tokens. None may pass, and none may cause a panic.

use aws_lc_rs::hmac;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::test_issuer::{NOW, SigningKey, base64url, claims, claims_with, key_set, verifier, with};
use super::{JwtAlgorithm, KeySet, TokenRefusal, Verifier};

const ALL: [JwtAlgorithm; 9] = [
    JwtAlgorithm::RS256,
    JwtAlgorithm::RS384,
    JwtAlgorithm::RS512,
    JwtAlgorithm::PS256,
    JwtAlgorithm::PS384,
    JwtAlgorithm::PS512,
    JwtAlgorithm::ES256,
    JwtAlgorithm::ES384,
    JwtAlgorithm::EdDSA,
];

/// An issuer with a key on P-256, id `k`, and a verifier that accepts every algorithm.
struct Target {
    key: SigningKey,
    keys: KeySet,
    verifier: Verifier,
}

impl Target {
    fn new() -> Self {
        Self::of(SigningKey::p256())
    }

    fn of(key: SigningKey) -> Self {
        let keys = key_set(&[with(key.jwk(), json!({"kid": "k"}))]);
        Self { key, keys, verifier: verifier(&ALL) }
    }

    fn refusal(&self, token: impl AsRef<[u8]>) -> TokenRefusal {
        self.verifier.verify(token.as_ref(), &self.keys, NOW).unwrap_err()
    }

    /// The refusal of a token with this header and a signature that is right.
    fn refusal_of_header(&self, header: &str) -> TokenRefusal {
        self.refusal(self.key.token_of(header, claims().to_string()))
    }

    /// The refusal of a token with this payload and a signature that is right.
    fn refusal_of_payload(&self, payload: impl AsRef<[u8]>) -> TokenRefusal {
        self.refusal(self.key.token_of(r#"{"alg":"ES256","kid":"k"}"#, payload))
    }

    fn sound(&self) -> String {
        self.key.token("ES256", "k", &claims())
    }
}

#[test]
fn a_token_without_a_signature_is_refused() {
    let target = Target::new();
    let (sound, payload) = (target.sound(), base64url(claims().to_string()));
    for name in ["none", "None", "NONE", "nOnE", ""] {
        let header = base64url(json!({"alg": name, "kid": "k"}).to_string());
        assert_eq!(target.refusal(format!("{header}.{payload}.")), TokenRefusal::Algorithm, "{name}");
        let signature = sound.rsplit_once('.').unwrap().1;
        assert_eq!(target.refusal(format!("{header}.{payload}.{signature}")), TokenRefusal::Algorithm, "{name}");
    }
    let (signed, _) = sound.rsplit_once('.').unwrap();
    assert_eq!(target.refusal(signed), TokenRefusal::Malformed);
    assert_eq!(target.refusal(format!("{signed}.")), TokenRefusal::Signature);
}

#[test]
fn an_hmac_with_the_public_key_is_refused() {
    for target in [Target::of(SigningKey::rsa()), Target::new()] {
        let jwk = target.key.jwk().to_string();
        let der = target.key.public_der();
        let pem = format!("-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----\n", base64url(&der));
        for (name, algorithm) in
            [("HS256", hmac::HMAC_SHA256), ("HS384", hmac::HMAC_SHA384), ("HS512", hmac::HMAC_SHA512)]
        {
            for secret in [der.as_slice(), pem.as_bytes(), jwk.as_bytes(), b"x"] {
                let header = json!({"alg": name, "kid": "k"}).to_string();
                let signed = format!("{}.{}", base64url(header), base64url(claims().to_string()));
                let tag = hmac::sign(&hmac::Key::new(algorithm, secret), signed.as_bytes());
                assert_eq!(target.refusal(format!("{signed}.{}", base64url(tag))), TokenRefusal::Algorithm);
            }
        }
    }
}

#[test]
fn the_header_cannot_choose_an_algorithm_or_a_key() {
    let target = Target::new();
    for name in ["RS256", "PS256", "ES384", "EdDSA"] {
        let refusal = target.refusal_of_header(&json!({"alg": name, "kid": "k"}).to_string());
        assert_eq!(refusal, TokenRefusal::Algorithm, "{name} does not suit the key");
    }
    for name in [json!("es256"), json!("ES256 "), json!("ES256K"), json!("ES512"), json!("RSA-OAEP")] {
        assert_eq!(target.refusal_of_header(&json!({"alg": name, "kid": "k"}).to_string()), TokenRefusal::Algorithm);
    }
    for name in [json!(null), json!(["ES256"]), json!(256), json!({"ES256": 1})] {
        assert_eq!(target.refusal_of_header(&json!({"alg": name, "kid": "k"}).to_string()), TokenRefusal::Malformed);
    }
    let only_rsa = verifier(&[JwtAlgorithm::RS256]);
    assert_eq!(only_rsa.verify(target.sound().as_bytes(), &target.keys, NOW).unwrap_err(), TokenRefusal::Algorithm);
    // The attacker's own key in the header.
    let own = SigningKey::p256();
    for name in ["jwk", "jku", "x5c", "x5u"] {
        let header = json!({"alg": "ES256", "kid": "k", name: own.jwk()}).to_string();
        assert_eq!(target.refusal(own.token_of(&header, claims().to_string())), TokenRefusal::Signature, "{name}");
    }
}

#[test]
fn a_key_serves_only_its_own_algorithm() {
    let key = SigningKey::rsa();
    let keys = key_set(&[with(key.jwk(), json!({"kid": "k", "alg": "RS256"}))]);
    let token = key.token("PS256", "k", &claims());
    assert_eq!(verifier(&ALL).verify(token.as_bytes(), &keys, NOW).unwrap_err(), TokenRefusal::Algorithm);
}

#[test]
fn a_critical_extension_is_refused() {
    let target = Target::new();
    for header in [
        r#"{"alg":"ES256","kid":"k","crit":["exp"],"exp":1}"#,
        r#"{"alg":"ES256","kid":"k","crit":["b64"],"b64":true}"#,
        r#"{"alg":"ES256","kid":"k","crit":[]}"#,
        r#"{"alg":"ES256","kid":"k","crit":null}"#,
        r#"{"alg":"ES256","kid":"k","b64":false}"#,
    ] {
        assert_eq!(target.refusal_of_header(header), TokenRefusal::Critical, "{header}");
    }
}

#[test]
fn an_unknown_key_id_is_refused() {
    let target = Target::new();
    for kid in ["K", "k ", "", "../../dev/null", "' or 1=1", "\u{0}"] {
        let header = json!({"alg": "ES256", "kid": kid}).to_string();
        assert_eq!(target.refusal_of_header(&header), TokenRefusal::UnknownKey { kid: Some(kid.into()) });
    }
    for kid in [json!(null), json!(1), json!(["k"]), json!({"k": 1})] {
        let header = json!({"alg": "ES256", "kid": kid}).to_string();
        assert_eq!(target.refusal_of_header(&header), TokenRefusal::Malformed);
    }
}

#[test]
fn wrong_claims_are_refused() {
    let target = Target::new();
    let refusal = |members: Value| target.refusal_of_payload(claims_with(members).to_string());
    assert_eq!(refusal(json!({"aud": "other"})), TokenRefusal::Audience);
    assert_eq!(refusal(json!({"exp": NOW - 3_600})), TokenRefusal::Expired);
    assert_eq!(refusal(json!({"nbf": NOW + 3_600})), TokenRefusal::NotYetValid);
    assert_eq!(refusal(json!({"iss": "https://evil.example"})), TokenRefusal::Issuer);
    assert_eq!(refusal(json!({"exp": "9999999999"})), TokenRefusal::Malformed);
}

#[test]
fn a_payload_that_is_not_one_object_is_refused() {
    let target = Target::new();
    let sound = claims().to_string();
    let deep = format!("{{\"a\":{}{},{}", "[".repeat(4_000), "]".repeat(4_000), &sound[1..]);
    let mut payloads: Vec<Vec<u8>> = ["", "null", "1", "\"a\"", "[]", "{", "{}x"].map(|text| text.into()).to_vec();
    payloads.push(format!("[{sound}]").into());
    payloads.push(format!("{sound}{sound}").into());
    payloads.push(deep.into());
    payloads.push(format!("{},\"aud\":\"api\"}}", &sound[..sound.len() - 1]).into());
    payloads.push(format!("{{\"a\":{{\"b\":1,\"b\":2}},{}", &sound[1..]).into());
    payloads.push(b"{\"sub\":\"\xff\"}".to_vec());
    for payload in payloads {
        let shown = String::from_utf8_lossy(&payload[..payload.len().min(80)]).into_owned();
        assert_eq!(target.refusal_of_payload(&payload), TokenRefusal::Malformed, "{shown}");
    }
    let nested = format!("{}{}", "{\"alg\":".repeat(1_000), "}".repeat(1_000));
    assert_eq!(target.refusal_of_header(&nested), TokenRefusal::Malformed);
    assert_eq!(target.refusal_of_header(r#"{"alg":"none","alg":"ES256","kid":"k"}"#), TokenRefusal::Malformed);
}

#[test]
fn a_token_of_more_than_16_kib_is_refused_before_it_is_read() {
    let target = Target::new();
    for size in [(16 << 10) + 1, 1 << 20] {
        assert_eq!(target.refusal("a".repeat(size)), TokenRefusal::TooLong);
    }
    let long = claims_with(json!({"a": "a".repeat(1 << 20)}));
    assert_eq!(target.refusal(target.key.token("ES256", "k", &long)), TokenRefusal::TooLong);
    let fits = claims_with(json!({"a": "a".repeat(11_000)}));
    assert!(target.verifier.verify(target.key.token("ES256", "k", &fits).as_bytes(), &target.keys, NOW).is_ok());
    let long_signature = format!("{}{}", target.sound(), "A".repeat(2_000));
    assert_eq!(target.refusal(long_signature), TokenRefusal::Malformed);
}

#[test]
fn other_forms_of_a_token_are_refused() {
    let target = Target::new();
    let sound = target.sound();
    let [header, payload, signature]: [&str; 3] = sound.split('.').collect::<Vec<_>>().try_into().unwrap();
    for token in [
        String::new(),
        ".".into(),
        "..".into(),
        "...".into(),
        format!("{header}.{payload}"),
        format!("{sound}.x"),
        format!("{header}..{payload}.{signature}"),
        format!("{header}=.{payload}.{signature}"),
        format!(" {sound}"),
        format!("{}.{payload}.{signature}", header.replace('e', "+")),
        json!({"payload": payload, "signatures": [{"protected": header, "signature": signature}]}).to_string(),
    ] {
        assert_eq!(target.refusal(&token), TokenRefusal::Malformed, "{token}");
    }
    let changed = [format!("{header}.{payload}=.{signature}"), format!("{header}.{payload} .{signature}")];
    for token in changed {
        assert_eq!(target.refusal(&token), TokenRefusal::Signature, "{token}");
    }
    for token in [format!("{sound}="), format!("{sound} "), format!("{sound}A"), format!("{sound}\n")] {
        assert_eq!(target.refusal(&token), TokenRefusal::Signature, "{token:?}");
    }
}

#[test]
fn a_signature_of_the_wrong_length_is_refused() {
    let target = Target::new();
    let sound = target.sound();
    let (signed, signature) = sound.rsplit_once('.').unwrap();
    let signature = base64::Engine::decode(&base64::engine::general_purpose::URL_SAFE_NO_PAD, signature).unwrap();
    assert_eq!(signature.len(), 64);
    for length in [0, 1, 32, 63, 65, 66, 72, 96, 512] {
        let mut changed = signature.clone();
        changed.resize(length, 0);
        assert_eq!(target.refusal(format!("{signed}.{}", base64url(&changed))), TokenRefusal::Signature, "{length}");
    }
    // The zero signature, which some libraries accepted (CVE-2022-21449).
    assert_eq!(target.refusal(format!("{signed}.{}", base64url([0; 64]))), TokenRefusal::Signature);
}

#[test]
fn a_key_for_encryption_verifies_nothing() {
    let (key, other) = (SigningKey::p256(), SigningKey::p256());
    let keys = key_set(&[with(key.jwk(), json!({"kid": "k", "use": "enc"})), with(other.jwk(), json!({"kid": "o"}))]);
    let refusal = verifier(&ALL).verify(key.token("ES256", "k", &claims()).as_bytes(), &keys, NOW).unwrap_err();
    assert_eq!(refusal, TokenRefusal::UnknownKey { kid: Some("k".into()) });
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn random_bytes_never_pass(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        let target = Target::new();
        prop_assert!(target.verifier.verify(&bytes, &target.keys, NOW).is_err());
    }

    #[test]
    fn random_parts_never_pass(
        header in "\\{\"alg\":\"(ES256|RS256|EdDSA|none|HS256)\",\"kid\":\"k?\"\\}",
        payload in proptest::collection::vec(any::<u8>(), 0..200),
        signature in proptest::collection::vec(any::<u8>(), 0..100),
    ) {
        let target = Target::new();
        let token = format!("{}.{}.{}", base64url(header), base64url(payload), base64url(signature));
        prop_assert!(target.verifier.verify(token.as_bytes(), &target.keys, NOW).is_err());
    }

    #[test]
    fn a_changed_byte_makes_a_token_invalid(at in any::<prop::sample::Index>(), byte in any::<u8>()) {
        let target = Target::new();
        let mut token = target.sound().into_bytes();
        let at = at.index(token.len());
        prop_assume!(token[at] != byte);
        token[at] = byte;
        prop_assert!(target.verifier.verify(&token, &target.keys, NOW).is_err());
    }

    #[test]
    fn random_documents_never_cause_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let _ = KeySet::parse(&bytes);
        let _ = KeySet::parse(format!("{{\"keys\":[{{\"kty\":\"RSA\",\"n\":\"{}\",\"e\":\"AQAB\"}}]}}", base64url(&bytes)).as_bytes());
    }
}
