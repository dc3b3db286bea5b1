//! An issuer of tokens: serves its discovery document and its key set over loopback HTTP. It can rotate its keys, fail and
//! be slow.

use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

use super::{Origin, Reply};

/// The audience of its tokens.
pub const AUDIENCE: &str = "api";

/// An issuer with keys on P-256 (ES256). It signs with the newest key.
pub struct Issuer {
    origin: Origin,
    state: Arc<Mutex<State>>,
}

struct State {
    /// The published keys with their ids, oldest first.
    keys: Vec<(String, EcdsaKeyPair)>,
    /// The number of keys that were ever made.
    made: usize,
    delay: Duration,
    fails: bool,
}

impl State {
    fn add_key(&mut self) {
        self.made += 1;
        let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap();
        self.keys.push((format!("key-{}", self.made), pair));
    }

    fn key_set(&self) -> Value {
        let jwk = |(id, pair): &(String, EcdsaKeyPair)| {
            let (x, y) = pair.public_key().as_ref()[1..].split_at(32);
            json!({"kty": "EC", "crv": "P-256", "use": "sig", "kid": id, "x": base64url(x), "y": base64url(y)})
        };
        json!({ "keys": self.keys.iter().map(jwk).collect::<Vec<_>>() })
    }
}

impl Issuer {
    /// Starts with one key.
    pub fn start() -> Self {
        let mut state = State { keys: Vec::new(), made: 0, delay: Duration::ZERO, fails: false };
        state.add_key();
        let state = Arc::new(Mutex::new(state));
        let served = Arc::clone(&state);
        let origin = Origin::start(move |request| {
            let state = served.lock().unwrap();
            let url = format!("http://{}", request.header("host").unwrap_or_default());
            let reply = match request.target.as_str() {
                _ if state.fails => Reply::new(503, "down"),
                "/.well-known/openid-configuration" => {
                    Reply::new(200, json!({"issuer": url, "jwks_uri": format!("{url}/keys")}).to_string())
                }
                "/keys" => Reply::with(200, &[("Cache-Control", "max-age=300")], state.key_set().to_string()),
                _ => Reply::new(404, ""),
            };
            reply.after(state.delay)
        });
        Self { origin, state }
    }

    /// The issuer: `iss` of its tokens, and where its discovery document is.
    pub fn url(&self) -> String {
        format!("http://{}", self.origin.address())
    }

    /// The URL of its key set.
    pub fn key_set_url(&self) -> String {
        format!("{}/keys", self.url())
    }

    /// The document of its key set, for a file.
    pub fn key_set(&self) -> String {
        self.state.lock().unwrap().key_set().to_string()
    }

    /// Makes a key and signs with it from now on. The old ones stay published.
    pub fn rotate(&self) {
        self.state.lock().unwrap().add_key();
    }

    /// Removes all keys but the newest from the key set.
    pub fn retire_old_keys(&self) {
        let mut state = self.state.lock().unwrap();
        let newest = state.keys.pop();
        state.keys = newest.into_iter().collect();
    }

    /// Whether it answers 503.
    pub fn fail(&self, fails: bool) {
        self.state.lock().unwrap().fails = fails;
    }

    /// How long each answer takes.
    pub fn delay(&self, delay: Duration) {
        self.state.lock().unwrap().delay = delay;
    }

    /// The number of requests for this path.
    pub fn requests(&self, path: &str) -> usize {
        self.origin.requests().iter().filter(|request| request.target == path).count()
    }

    /// A token that is valid for an hour, with more claims or other values.
    pub fn token(&self, claims: &Value) -> String {
        let expiry = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs() + 3_600;
        let mut all = json!({"iss": self.url(), "aud": AUDIENCE, "sub": "ann", "exp": expiry});
        all.as_object_mut().unwrap().extend(claims.as_object().unwrap().clone());
        let state = self.state.lock().unwrap();
        let (id, pair) = state.keys.last().unwrap();
        let header = json!({"alg": "ES256", "typ": "JWT", "kid": id});
        let signed = format!("{}.{}", base64url(header.to_string()), base64url(all.to_string()));
        let signature = pair.sign(&SystemRandom::new(), signed.as_bytes()).unwrap();
        format!("{signed}.{}", base64url(signature))
    }
}

fn base64url(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}
