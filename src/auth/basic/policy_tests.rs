//! Tests of the policy with real hashes of a low cost. They count hashes and measure no time.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use futures_util::future::join_all;
use proptest::prelude::*;

use super::*;

/// `alice` has the password `pass`, hashed with bcrypt, cost 4.
const ALICE: &str = "alice:$2y$04$9gaZ0gdgvIbMab3QSVlMMO88m/BDD/0vcHv/Y.KCfThKSR13T6FmO\n";
/// `bob` has the same password, hashed with Argon2id and 64 KiB.
const BOB: &str =
    "bob:$argon2id$v=19$m=64,t=1,p=1$c29tZXNhbHQxNmJ5dGVzIQ$mspl2/xnSQYuDAorWHsq3aqT2CIpUOzhhz13FtuMy2k\n";
/// `carol` has the same password, hashed with SHA-512-crypt and 1,000 rounds.
const CAROL: &str = "carol:$6$rounds=1000$5xIzMM.YsDP7OKOA$dadff8q2YFMl148wcq7Pyr9kzYElwLVcSpGB/mPRCxB5UTf5XdZYpFwW4YnTfYcm/3dA7rnIGfbtC5edzNUat.\n";

fn verifier() -> Arc<PasswordVerifier> {
    Arc::new(PasswordVerifier::start(2).unwrap())
}

fn policy(file: &str, verifier: &Arc<PasswordVerifier>) -> BasicPolicy {
    let users = Users::parse(file.as_bytes()).unwrap();
    BasicPolicy::new("staff", "staff".parse().unwrap(), users, Arc::clone(verifier))
}

fn with(user: &str, password: &str) -> HeaderMap {
    let value = format!("Basic {}", STANDARD.encode(format!("{user}:{password}")));
    HeaderMap::from_iter([(http::header::AUTHORIZATION, value.parse().unwrap())])
}

fn name(result: Result<Identity, Refusal>) -> Result<String, Refusal> {
    result.map(|identity| identity.name.to_string())
}

#[tokio::test]
async fn each_format_lets_its_user_pass_with_the_right_password_alone() {
    let (verifier, now) = (verifier(), Instant::now());
    let policy = policy(&[ALICE, BOB, CAROL].concat(), &verifier);
    for user in ["alice", "bob", "carol"] {
        assert_eq!(name(policy.verify(&with(user, "pass"), now).await), Ok(user.to_owned()));
        for wrong in ["", "Pass", "pass ", "passs"] {
            assert_eq!(name(policy.verify(&with(user, wrong), now).await), Err(Refusal::Wrong), "{user}: {wrong:?}");
        }
    }
    assert_eq!(name(policy.verify(&with("Alice", "pass"), now).await), Err(Refusal::Wrong));
    assert_eq!(name(policy.verify(&HeaderMap::new(), now).await), Err(Refusal::NoCredentials));
    assert_eq!(policy.challenge(), "Basic realm=\"staff\", charset=\"UTF-8\"");
}

#[tokio::test]
async fn verified_credentials_cost_one_hash_in_five_minutes() {
    let (verifier, start) = (verifier(), Instant::now());
    let policy = policy(ALICE, &verifier);
    let headers = with("alice", "pass");
    assert_eq!(policy.cached(&headers, start), None);
    for second in [0, 1, 299] {
        let now = start + Duration::from_secs(second);
        assert_eq!(name(policy.verify(&headers, now).await), Ok("alice".to_owned()));
        assert!(policy.cached(&headers, now).is_some());
    }
    assert_eq!(verifier.hashed(), 1);
    let later = start + Duration::from_secs(300);
    assert_eq!(policy.cached(&headers, later), None);
    assert_eq!(name(policy.verify(&headers, later).await), Ok("alice".to_owned()));
    assert_eq!(verifier.hashed(), 2);
}

#[tokio::test]
async fn fifty_requests_at_once_with_the_same_credentials_cost_one_hash() {
    let (verifier, now) = (verifier(), Instant::now());
    let policy = policy(ALICE, &verifier);
    // All are begun before the first one is polled.
    let requests: Vec<_> = (0..50).map(|_| policy.verify(&with("alice", "pass"), now)).collect();
    assert!(join_all(requests).await.into_iter().all(|result| name(result) == Ok("alice".to_owned())));
    assert_eq!(verifier.hashed(), 1);
}

#[tokio::test]
async fn an_unknown_user_costs_as_many_hashes_as_a_known_one() {
    let (verifier, now) = (verifier(), Instant::now());
    let policy = policy(&[ALICE, BOB, CAROL].concat(), &verifier);
    for (user, password) in [("alice", "wrong"), ("nobody", "wrong"), ("nobody", "pass"), ("", "pass"), ("", "")] {
        for _ in 0..3 {
            let before = verifier.hashed();
            assert_eq!(name(policy.verify(&with(user, password), now).await), Err(Refusal::Wrong));
            assert_eq!(verifier.hashed() - before, 1, "{user}: nothing wrong is cached");
        }
    }
}

#[tokio::test]
async fn no_unknown_user_passes_with_the_password_of_another_user() {
    let (verifier, now) = (verifier(), Instant::now());
    let policy = policy(ALICE, &verifier);
    assert!(policy.verify(&with("alice", "pass"), now).await.is_ok());
    for number in 0..20 {
        let headers = with(&format!("nobody{number}"), "pass");
        assert_eq!(name(policy.verify(&headers, now).await), Err(Refusal::Wrong));
        assert_eq!(policy.cached(&headers, now), None);
    }
}

#[tokio::test]
async fn a_changed_password_and_a_removed_user_end_what_was_verified() {
    let (verifier, now) = (verifier(), Instant::now());
    let headers = with("alice", "pass");
    assert!(policy(ALICE, &verifier).verify(&headers, now).await.is_ok());
    assert!(policy(&[ALICE, BOB].concat(), &verifier).cached(&headers, now).is_some(), "another user changes nothing");
    let other = BOB.replace("bob:", "alice:");
    assert_eq!(policy(&other, &verifier).cached(&headers, now), None, "the same password, hashed again");
    assert_eq!(policy(CAROL, &verifier).cached(&headers, now), None);
    assert_eq!(name(policy(CAROL, &verifier).verify(&headers, now).await), Err(Refusal::Wrong));
}

#[tokio::test]
async fn credentials_verified_by_one_policy_are_not_verified_for_another() {
    let (verifier, now) = (verifier(), Instant::now());
    let headers = with("alice", "pass");
    assert!(policy(ALICE, &verifier).verify(&headers, now).await.is_ok());
    let users = Users::parse(ALICE.as_bytes()).unwrap();
    let other = BasicPolicy::new("admins", "staff".parse().unwrap(), users, Arc::clone(&verifier));
    assert_eq!(other.cached(&headers, now), None);
}

#[tokio::test]
async fn more_requests_than_the_queue_holds_are_refused_as_busy() {
    let (verifier, now) = (verifier(), Instant::now());
    // A cost of 10 takes so long that the queue fills before the first hashes end.
    let slow = "slow:$2y$10$O1YiZgaGgCH9vZs/1Si5J.0OxKXj/3VYgMPtBpPjWfDCBl5gsl.E2\n";
    let policy = policy(slow, &verifier);
    let mut requests: Vec<_> = (0..200).map(|n| Box::pin(policy.verify(&with("slow", &n.to_string()), now))).collect();
    let last = requests.pop().unwrap();
    assert_eq!(name(last.await), Err(Refusal::Busy));
    // The clients leave: their jobs give their places free.
    drop(requests);
    assert_eq!(name(policy.verify(&with("slow", "again"), now).await), Err(Refusal::Wrong));
    assert!(verifier.hashed() < 100, "{}", verifier.hashed());
}

#[test]
fn the_shared_verifier_is_the_same_while_it_is_held() {
    let first = PasswordVerifier::shared().unwrap();
    assert!(Arc::ptr_eq(&first, &PasswordVerifier::shared().unwrap()));
}

#[test]
fn debug_shows_no_user_and_no_hash() {
    let shown = format!("{:?}", policy(ALICE, &verifier()));
    assert!(!shown.contains("alice") && !shown.contains("$2y$"), "{shown}");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn arbitrary_fields_never_pass(bytes in proptest::collection::vec(any::<u8>(), 0..80), is_encoded in any::<bool>()) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let bytes = if is_encoded { STANDARD.encode(&bytes).into_bytes() } else { bytes };
        if let Ok(value) = HeaderValue::from_bytes(&[b"Basic ".as_slice(), &bytes].concat()) {
            let headers = HeaderMap::from_iter([(http::header::AUTHORIZATION, value)]);
            let policy = policy(BOB, &verifier());
            prop_assert!(runtime.block_on(policy.verify(&headers, Instant::now())).is_err());
        }
    }
}
