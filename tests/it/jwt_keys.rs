//! The keys of an issuer: found by discovery, rotated under load, kept in an outage.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use http::HeaderMap;
use http::header::AUTHORIZATION;
use serde_json::json;
use tokio::runtime::Handle;
use weir::auth::jwt::{JwtFailure, JwtPolicy, KeyStore, TokenRefusal};
use weir::snapshot::jwt_policy::compile;

use crate::support::issuer::{AUDIENCE, Issuer};
use crate::support::{Config, delayed, wait_until};

/// A policy of these settings, and the store of its keys.
fn policy(jwt: &str, key_set: &str) -> (KeyStore, JwtPolicy) {
    let yaml = Config::to("127.0.0.1:1").set("auth.api.jwt", format!("audience: {AUDIENCE}, {jwt}")).to_string();
    let read = |_: &std::path::Path| Ok(key_set.as_bytes().to_vec());
    let config = weir::config::parse(std::path::Path::new("weir.yaml"), &yaml, &|_| None, &read).unwrap();
    let settings = config.document().auth.values().next().unwrap().jwt().unwrap().clone();
    let store = KeyStore::default();
    let policy = compile(&settings, &config, &store).unwrap();
    store.start(&Handle::current());
    (store, policy)
}

async fn send(policy: &JwtPolicy, token: &str) -> Result<String, JwtFailure> {
    let headers = HeaderMap::from_iter([(AUTHORIZATION, format!("Bearer {token}").parse().unwrap())]);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    policy.authenticate(policy.token(&headers, None)?, now).await.map(|identity| identity.name.to_string())
}

async fn until_loaded(store: &KeyStore) {
    wait_until("the keys are loaded", || store.status().iter().all(|status| status.keys > 0)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_keys_of_an_issuer_are_found_by_its_discovery_document() {
    let issuer = Issuer::start();
    let (store, policy) = policy(&format!("issuer: \"{}\"", issuer.url()), "");
    until_loaded(&store).await;
    assert_eq!(send(&policy, &issuer.token(&json!({}))).await.as_deref(), Ok("ann"));
    let expired = issuer.token(&json!({"exp": 1}));
    assert_eq!(send(&policy, &expired).await, Err(JwtFailure::Refused(TokenRefusal::Expired)));
    assert_eq!((issuer.requests("/.well-known/openid-configuration"), issuer.requests("/keys")), (1, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_of_a_file_verify_tokens_without_a_fetch() {
    let issuer = Issuer::start();
    let jwt = format!("issuer: \"{}\", jwks: {{file: keys.json}}", issuer.url());
    let (_store, policy) = policy(&jwt, &issuer.key_set());
    assert_eq!(send(&policy, &issuer.token(&json!({}))).await.as_deref(), Ok("ann"));
    assert_eq!(issuer.requests("/keys"), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn no_request_is_refused_when_keys_are_rotated_under_load() {
    let issuer = Arc::new(Issuer::start());
    let (store, policy) = policy(&format!("jwks: \"{}\"", issuer.key_set_url()), "");
    until_loaded(&store).await;
    let (policy, stop, passed) = (Arc::new(policy), Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let clients: Vec<_> = (0..8)
        .map(|_| {
            let (issuer, policy) = (Arc::clone(&issuer), Arc::clone(&policy));
            let (stop, passed) = (Arc::clone(&stop), Arc::clone(&passed));
            tokio::spawn(async move {
                while !stop.load(Ordering::Acquire) {
                    let token = issuer.token(&json!({}));
                    assert_eq!(send(&policy, &token).await.as_deref(), Ok("ann"));
                    passed.fetch_add(1, Ordering::AcqRel);
                    tokio::task::yield_now().await;
                }
            })
        })
        .collect();
    wait_until("requests pass with the old key", || passed.load(Ordering::Acquire) > 100).await;
    // Clients have tokens of the new key before Weir can know it, and the answer is slow.
    issuer.delay(Duration::from_millis(300));
    issuer.rotate();
    let before = passed.load(Ordering::Acquire);
    wait_until("requests pass with the new key", || passed.load(Ordering::Acquire) > before + 100).await;
    stop.store(true, Ordering::Release);
    for client in clients {
        client.await.unwrap();
    }
    assert_eq!(issuer.requests("/keys"), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_of_known_keys_pass_while_the_issuer_is_down() {
    let issuer = Issuer::start();
    let (store, policy) = policy(&format!("jwks: \"{}\"", issuer.key_set_url()), "");
    until_loaded(&store).await;
    let old = issuer.token(&json!({}));
    issuer.fail(true);
    issuer.rotate();
    let new = issuer.token(&json!({}));
    let refusal = send(&policy, &new).await.unwrap_err();
    assert!(matches!(refusal, JwtFailure::Refused(TokenRefusal::UnknownKey { .. })), "{refusal:?}");
    wait_until("the fetch failed", || store.status()[0].failures > 0).await;
    assert_eq!(send(&policy, &old).await.as_deref(), Ok("ann"));
    issuer.fail(false);
    issuer.retire_old_keys();
    wait_until("the issuer is asked again", || store.status()[0].failures == 0).await;
    assert_eq!(send(&policy, &new).await.as_deref(), Ok("ann"));
    assert!(send(&policy, &old).await.is_err(), "its key was retired");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_waiting_request_can_be_cancelled() {
    let issuer = Issuer::start();
    let (store, policy) = policy(&format!("jwks: \"{}\"", issuer.key_set_url()), "");
    until_loaded(&store).await;
    issuer.delay(Duration::from_secs(2));
    issuer.rotate();
    let token = issuer.token(&json!({}));
    let cancelled = tokio::select! {
        _ = send(&policy, &token) => false,
        () = delayed(Duration::from_millis(50)) => true,
    };
    assert!(cancelled);
    assert_eq!(send(&policy, &token).await.as_deref(), Ok("ann"), "the fetch goes on for others");
}
