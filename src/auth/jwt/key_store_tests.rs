//! Tests of the fetches against an issuer on a loopback socket.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use http::HeaderMap;
use parking_lot::Mutex;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::runtime::Handle;

use super::fetch::FetchedSet;
use super::key_location::KeySource;
use super::test_issuer::{NOW, SigningKey, claims, document, verifier, with};
use super::{
    ClaimFields, FetchError, FetchedKeys, JwksLocation, JwtAlgorithm, JwtFailure, JwtPolicy, KeySet, KeyStore,
    TokenKeys, TokenRefusal, TokenSource,
};

/// An HTTP server with a response for each path.
#[derive(Clone)]
struct ScriptedServer {
    url: String,
    responses: Arc<Mutex<BTreeMap<String, String>>>,
    requests: Arc<Mutex<Vec<String>>>,
}

impl ScriptedServer {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let server = Self { url, responses: Arc::default(), requests: Arc::default() };
        let serving = server.clone();
        tokio::spawn(async move {
            while let Ok((mut socket, _)) = listener.accept().await {
                let mut head = vec![0; 4096];
                let length = socket.read(&mut head).await.unwrap_or(0);
                let head = String::from_utf8_lossy(&head[..length]).into_owned();
                let path = head.split(' ').nth(1).unwrap_or_default().to_owned();
                serving.requests.lock().push(path.clone());
                let response = serving.responses.lock().get(&path).cloned().unwrap_or_default();
                let _ = socket.write_all(response.as_bytes()).await;
            }
        });
        server
    }

    /// A response of this path. An empty one closes the connection.
    fn answer(&self, path: &str, head: &str, body: &str) {
        let length = body.len();
        let response = format!("HTTP/1.1 {head}\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}");
        self.responses.lock().insert(path.to_owned(), response);
    }

    fn publish(&self, keys: &[(&str, &SigningKey)]) {
        let keys: Vec<_> = keys.iter().map(|(kid, key)| with(key.jwk(), json!({ "kid": kid }))).collect();
        self.answer("/keys", "200 OK\r\ncache-control: max-age=300", &document(&keys));
    }

    fn location(&self, path: &str) -> JwksLocation {
        JwksLocation { source: KeySource::Url(format!("{}{path}", self.url)), ca: None }
    }
}

/// Waits until the condition holds.
async fn until(condition: impl Fn() -> bool) {
    let wait = async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), wait).await.expect("the condition holds in time");
}

fn started(location: &JwksLocation) -> (KeyStore, Arc<FetchedKeys>) {
    let store = KeyStore::default();
    let keys = store.keys(location);
    store.start(&Handle::current());
    (store, keys)
}

fn policy(keys: Arc<FetchedKeys>) -> JwtPolicy {
    JwtPolicy {
        source: TokenSource::Authorization,
        verifier: verifier(&[JwtAlgorithm::ES256]),
        keys: TokenKeys::Fetched(keys),
        fields: ClaimFields::default(),
        forwards_token: false,
    }
}

async fn send(policy: &JwtPolicy, token: &str) -> Result<String, JwtFailure> {
    let value = format!("Bearer {token}").parse().unwrap();
    let headers = HeaderMap::from_iter([(http::header::AUTHORIZATION, value)]);
    policy.authenticate(policy.token(&headers, None)?, NOW).await.map(|identity| identity.name.to_string())
}

#[tokio::test]
async fn keys_are_fetched_without_a_request_and_verify_tokens() {
    let (server, key) = (ScriptedServer::start().await, SigningKey::p256());
    server.publish(&[("a", &key)]);
    let (_store, keys) = started(&server.location("/keys"));
    let policy = policy(Arc::clone(&keys));
    until(|| keys.current().is_some()).await;
    assert_eq!(send(&policy, &key.token("ES256", "a", &claims())).await.as_deref(), Ok("ann"));
    assert_eq!(policy.token(&HeaderMap::new(), None), Err(JwtFailure::NoToken));
    let status = keys.status();
    assert_eq!((status.keys, status.failures, status.last_error), (1, 0, None));
}

#[tokio::test]
async fn no_token_passes_before_keys_are_loaded() {
    let (server, key) = (ScriptedServer::start().await, SigningKey::p256());
    server.answer("/keys", "500 Oops", "");
    let (_store, keys) = started(&server.location("/keys"));
    let policy = policy(Arc::clone(&keys));
    until(|| keys.status().failures > 0).await;
    let failure = send(&policy, &key.token("ES256", "a", &claims())).await.unwrap_err();
    assert!(matches!(failure, JwtFailure::NoKeys(wait) if wait >= Duration::from_secs(1)), "{failure:?}");
    assert_eq!(policy.challenge(&failure, "api"), None);
    let error = keys.status().last_error.unwrap();
    assert!(error.ends_with("/keys answered 500 Internal Server Error"), "{error}");
    server.publish(&[("a", &key)]);
    until(|| keys.current().is_some()).await;
    assert!(send(&policy, &key.token("ES256", "a", &claims())).await.is_ok());
}

#[tokio::test]
async fn the_first_token_of_a_new_key_waits_for_the_key() {
    let (server, old, new) = (ScriptedServer::start().await, SigningKey::p256(), SigningKey::p256());
    server.publish(&[("old", &old)]);
    let (_store, keys) = started(&server.location("/keys"));
    let policy = Arc::new(policy(Arc::clone(&keys)));
    until(|| keys.current().is_some()).await;
    server.publish(&[("old", &old), ("new", &new)]);
    let token = new.token("ES256", "new", &claims());
    let requests: Vec<_> = (0..20)
        .map(|_| {
            let (policy, token) = (Arc::clone(&policy), token.clone());
            tokio::spawn(async move { send(&policy, &token).await })
        })
        .collect();
    for request in requests {
        assert_eq!(request.await.unwrap().as_deref(), Ok("ann"));
    }
    assert_eq!(server.requests.lock().len(), 2, "all requests wait for the same fetch");
}

#[tokio::test]
async fn unknown_key_ids_cause_one_fetch() {
    let (server, key) = (ScriptedServer::start().await, SigningKey::p256());
    server.publish(&[("a", &key)]);
    let (_store, keys) = started(&server.location("/keys"));
    let policy = policy(Arc::clone(&keys));
    until(|| keys.current().is_some()).await;
    for at in 0..100 {
        let kid = format!("guess-{at}");
        let refusal = TokenRefusal::UnknownKey { kid: Some(kid.as_str().into()) };
        assert_eq!(send(&policy, &key.token("ES256", &kid, &claims())).await, Err(JwtFailure::Refused(refusal)));
    }
    assert_eq!(server.requests.lock().len(), 2);
    assert!(send(&policy, &key.token("ES256", "a", &claims())).await.is_ok());
}

#[tokio::test]
async fn the_last_keys_stay_when_a_fetch_fails() {
    let (server, key) = (ScriptedServer::start().await, SigningKey::p256());
    server.publish(&[("a", &key)]);
    let (_store, keys) = started(&server.location("/keys"));
    let policy = policy(Arc::clone(&keys));
    until(|| keys.current().is_some()).await;
    for body in ["<html>maintenance</html>", "{\"keys\":[]}", "{}"] {
        server.answer("/keys", "200 OK", body);
        let loaded = keys.current().unwrap();
        let failures = keys.status().failures;
        let _ = send(&policy, &key.token("ES256", &format!("x{failures}"), &claims())).await;
        until(|| keys.status().failures > failures).await;
        assert!(Arc::ptr_eq(&loaded, &keys.current().unwrap()), "{body}");
        assert!(send(&policy, &key.token("ES256", "a", &claims())).await.is_ok());
    }
}

#[tokio::test]
async fn the_discovery_document_of_the_issuer_names_the_key_set() {
    let (server, key) = (ScriptedServer::start().await, SigningKey::p256());
    server.publish(&[("a", &key)]);
    let issuer = format!("{}/realms/x/", server.url);
    let found = json!({"issuer": issuer, "jwks_uri": format!("{}/keys", server.url)}).to_string();
    server.answer("/realms/x/.well-known/openid-configuration", "200 OK", &found);
    let (_store, keys) = started(&JwksLocation { source: KeySource::Issuer(issuer), ca: None });
    until(|| keys.current().is_some()).await;
    let other = JwksLocation { source: KeySource::Issuer(format!("{}/realms/x", server.url)), ca: None };
    let (_store, keys) = started(&other);
    until(|| keys.status().failures > 0).await;
    assert!(keys.status().last_error.unwrap().contains("`issuer` is not the configured one"));
}

#[tokio::test]
async fn a_redirect_is_followed_within_its_scheme_and_bounds() {
    let (server, key) = (ScriptedServer::start().await, SigningKey::p256());
    server.publish(&[("a", &key)]);
    server.answer("/moved", "302 Found\r\nlocation: /keys", "");
    server.answer("/loop", "302 Found\r\nlocation: /loop", "");
    server.answer("/secure", "302 Found\r\nlocation: https://127.0.0.1/keys", "");
    let (_store, keys) = started(&server.location("/moved"));
    until(|| keys.current().is_some()).await;
    for path in ["/loop", "/secure"] {
        let (_store, keys) = started(&server.location(path));
        until(|| keys.status().failures > 0).await;
        assert!(keys.status().last_error.unwrap().contains("redirects"), "{path}");
    }
}

#[tokio::test]
async fn a_response_of_more_than_1_mib_is_refused() {
    let server = ScriptedServer::start().await;
    server.answer("/keys", "200 OK", &"a".repeat((1 << 20) + 1));
    let (_store, keys) = started(&server.location("/keys"));
    until(|| keys.status().failures > 0).await;
    assert!(keys.status().last_error.unwrap().ends_with("is larger than 1 MiB"));
}

#[tokio::test]
async fn keys_outlive_a_reload_and_end_with_the_last_configuration() {
    let (server, key) = (ScriptedServer::start().await, SigningKey::p256());
    server.publish(&[("a", &key)]);
    let location = server.location("/keys");
    let (store, keys) = started(&location);
    until(|| keys.current().is_some()).await;
    let of_next = store.keys(&location);
    store.start(&Handle::current());
    assert!(Arc::ptr_eq(&keys, &of_next));
    drop(keys);
    assert_eq!(store.status().len(), 1);
    assert_eq!(server.requests.lock().len(), 1, "the reload fetched nothing");
    let task = Arc::downgrade(&of_next);
    drop(of_next);
    until(|| task.strong_count() == 0).await;
    assert!(store.status().is_empty());
}

#[test]
fn keys_stay_while_the_issuer_is_unreachable_for_an_hour() {
    let key = SigningKey::p256();
    let url = KeySource::Url("https://id.example/keys".into());
    let keys = FetchedKeys::new(JwksLocation { source: url, ca: None });
    let text = document(&[with(key.jwk(), json!({"kid": "a"}))]);
    let parsed = KeySet::parse(text.as_bytes()).unwrap();
    assert_eq!(keys.begin_or_wait(0), None);
    keys.finish(Ok(FetchedSet { parsed, max_age: Some(Duration::from_secs(60)) }), 0);
    let (verifier, token) = (verifier(&[JwtAlgorithm::ES256]), key.token("ES256", "a", &claims()));
    let mut fetches = 0;
    for second in 0..3_600 {
        let now = second * 1_000;
        if keys.begin_or_wait(now).is_none() {
            keys.finish(Err(FetchError::Timeout("https://id.example/keys".into())), now);
            fetches += 1;
        }
        if second % 60 == 0 {
            assert!(verifier.verify(token.as_bytes(), &keys.current().unwrap(), NOW).is_ok());
        }
    }
    assert!((50..=140).contains(&fetches), "{fetches}");
    let status = keys.status();
    assert_eq!((status.keys, status.loaded_at, status.failures), (1, Some(0), fetches));
}

#[tokio::test]
async fn an_unreachable_issuer_is_reported_with_its_reason() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/keys", listener.local_addr().unwrap());
    drop(listener);
    let (_store, keys) = started(&JwksLocation { source: KeySource::Url(url), ca: None });
    until(|| keys.status().failures > 0).await;
    let error = keys.status().last_error.unwrap();
    assert!(error.contains("Connection refused"), "{error}");
}
