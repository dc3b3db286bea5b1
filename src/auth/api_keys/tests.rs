//! Tests of API keys: the file, the places of a key, and the decision.
#![allow(clippy::unwrap_used, clippy::panic)]

use http::HeaderName;
use proptest::prelude::*;

use super::*;

const KEY: &str = "3q2-7wAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";

fn file() -> String {
    format!(
        "# partners\n\n{}  # since May\n{}\n",
        key_line("acme", KEY.as_bytes()),
        key_line("other", b"another key of 16")
    )
}

fn policy(location: KeyLocation) -> ApiKeyPolicy {
    ApiKeyPolicy::new(ApiKeys::parse(file().as_bytes()).unwrap(), location)
}

fn header(name: &str) -> KeyLocation {
    KeyLocation::Header(name.parse().unwrap())
}

fn headers(fields: &[(&str, &str)]) -> HeaderMap {
    let field = |(name, value): &(&str, &str)| (name.parse::<HeaderName>().unwrap(), value.parse().unwrap());
    fields.iter().map(field).collect()
}

fn check(policy: &ApiKeyPolicy, fields: &[(&str, &str)], query: Option<&str>) -> Result<String, Refusal> {
    policy.check(&headers(fields), query).map(|identity| identity.name.to_string())
}

#[test]
fn the_value_of_the_header_field_is_the_key_with_or_without_bearer() {
    let policy = policy(header("x-api-key"));
    let bearer = format!("bearer  {KEY}");
    for value in [KEY, &bearer, &format!(" {KEY} ")] {
        assert_eq!(check(&policy, &[("x-api-key", value)], None), Ok("acme".to_owned()), "{value}");
    }
    for value in [&KEY[1..], &format!("{KEY}x"), &format!("Basic {KEY}"), &KEY.to_lowercase(), "x"] {
        assert_eq!(check(&policy, &[("x-api-key", value)], None), Err(Refusal::Wrong), "{value}");
    }
    for fields in [&[][..], &[("x-api-key", "")], &[("x-api-key", "  ")], &[("authorization", KEY)]] {
        assert_eq!(check(&policy, fields, Some(&format!("x-api-key={KEY}"))), Err(Refusal::NoCredentials));
    }
    for second in [KEY, ""] {
        let two = [("x-api-key", KEY), ("X-Api-Key", second)];
        assert_eq!(check(&policy, &two, None), Err(Refusal::Malformed), "{second:?}");
    }
    assert_eq!(check(&policy, &[("x-api-key", &"k".repeat(4097))], None), Err(Refusal::Malformed));
}

#[test]
fn authorization_with_another_scheme_is_no_key() {
    let policy = policy(header("authorization"));
    for value in [format!("Bearer {KEY}"), format!("BEARER {KEY}"), KEY.to_owned()] {
        assert_eq!(check(&policy, &[("authorization", &value)], None), Ok("acme".to_owned()));
    }
    for value in ["Basic YTpi", "Digest a=b"] {
        assert_eq!(check(&policy, &[("authorization", value)], None), Err(Refusal::NoCredentials));
    }
    assert_eq!(policy.challenge(), "Bearer");
}

#[test]
fn a_query_parameter_is_the_key_in_every_spelling_and_only_once() {
    let policy = policy(KeyLocation::Query("key".into()));
    let encoded: String = KEY.bytes().map(|byte| format!("%{byte:02x}")).collect();
    for query in [format!("key={KEY}"), format!("a=1&k%65y={KEY}&b"), format!("key={encoded}")] {
        assert_eq!(check(&policy, &[], Some(&query)), Ok("acme".to_owned()), "{query}");
    }
    for query in [format!("key={KEY}&key={KEY}"), format!("key={KEY}&%6bey=x"), format!("key&key={KEY}")] {
        assert_eq!(check(&policy, &[], Some(&query)), Err(Refusal::Malformed), "{query}");
    }
    for query in [None, Some(""), Some("key"), Some("key="), Some("keys=1")] {
        assert_eq!(check(&policy, &[("key", KEY)], query), Err(Refusal::NoCredentials), "{query:?}");
    }
    assert_eq!(check(&policy, &[], Some("key=x")), Err(Refusal::Wrong));
    assert_eq!(policy.challenge(), "Bearer realm=\"API key in the query parameter key\"");
}

#[test]
fn the_hash_of_a_key_is_its_sha256() {
    let expected = "name sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
    assert_eq!(key_line("name", b"abc"), expected);
    let upper = expected.split(' ').nth(1).unwrap().to_uppercase().replace("SHA256", "sha256");
    assert_eq!(upper.parse::<KeyDigest>().unwrap(), KeyDigest::of(b"abc"));
}

#[test]
fn each_bad_line_of_the_file_is_reported_with_its_number_and_without_its_text() {
    let good = key_line("acme", KEY.as_bytes());
    let lines = [
        good.clone(),
        "# comment".to_owned(),
        "acme".to_owned(),
        format!("acme {KEY}"),
        format!("{good} more"),
        good.replace("acme", "another"),
        good.replace("sha256", "sha1"),
        good[..good.len() - 1].to_owned(),
        format!("{good}0"),
        good.replace("acme", "caf\u{e9}"),
        good.replace("acme", &"x".repeat(257)),
        "x".repeat(1025),
        key_line("acme", b"a second key of acme"),
    ];
    let bad = ApiKeys::parse(lines.join("\n").as_bytes()).unwrap_err();
    let no_hash = "no hash `sha256:…` with 64 hexadecimal digits after the name";
    let no_name = "a name is 1 to 256 visible ASCII characters";
    let expected = [
        (3, no_hash),
        (4, no_hash),
        (5, "more than a name and a hash"),
        (6, "the key has a line already: line 1"),
        (7, no_hash),
        (8, no_hash),
        (9, no_hash),
        (10, no_name),
        (11, no_name),
        (12, "the line is longer than 1024 bytes"),
    ];
    assert_eq!(bad.iter().map(|bad| (bad.line, bad.what.as_str())).collect::<Vec<_>>(), expected);
    for empty in ["", "# nothing\n"] {
        let bad = ApiKeys::parse(empty.as_bytes()).unwrap_err();
        assert_eq!(bad[0].to_string(), "line 1: no key in this file, so every request would be refused");
    }
}

#[test]
fn a_name_may_have_two_keys_while_one_replaces_the_other() {
    let file = [key_line("acme", b"the old key 1234"), key_line("acme", b"the new key 1234")].join("\n");
    let policy = ApiKeyPolicy::new(ApiKeys::parse(file.as_bytes()).unwrap(), header("x-api-key"));
    for key in ["the old key 1234", "the new key 1234"] {
        assert_eq!(check(&policy, &[("x-api-key", key)], None), Ok("acme".to_owned()));
    }
}

#[test]
fn generated_keys_are_random_and_need_no_escape() {
    let (one, two) = (generate_key().unwrap(), generate_key().unwrap());
    assert_ne!(one, two);
    let is_plain = |key: &str| key.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte));
    assert!(one.len() == 43 && is_plain(&one) && is_plain(&two), "{one}");
}

#[test]
fn debug_shows_no_key_and_no_digest() {
    let shown = format!("{:?}", policy(header("x-api-key")));
    assert!(!shown.contains("acme") && !shown.contains(&KeyDigest::of(KEY.as_bytes()).to_string()[7..]), "{shown}");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn arbitrary_keys_never_pass(bytes in proptest::collection::vec(any::<u8>(), 0..60), query in r"(key|%6b|=|&|%|\PC){0,30}") {
        if let Ok(value) = HeaderValue::from_bytes(&bytes) {
            let headers = HeaderMap::from_iter([(HeaderName::from_static("x-api-key"), value)]);
            prop_assert!(policy(header("x-api-key")).check(&headers, None).is_err());
        }
        prop_assert!(policy(KeyLocation::Query("key".into())).check(&HeaderMap::new(), Some(&query)).is_err());
    }

    #[test]
    fn arbitrary_bytes_are_no_keys_and_cause_no_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        prop_assert!(ApiKeys::parse(&bytes).is_err());
    }
}
