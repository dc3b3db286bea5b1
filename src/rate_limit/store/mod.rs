//! A store of buckets that several processes share: a Redis or Valkey server.
//!
//! One script decides in one round trip, by the clock of the server. Each traffic thread has one pipelined connection.

mod bucket_script;
mod dial;
mod link;

use std::cell::RefCell;
use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

use self::bucket_script::BucketCall;
use self::dial::{StoreDialer, StoreFiles};
use self::link::Link;
use super::key::KeyValue;
use crate::config::schema::StoreSettings;
use crate::config::values::{LimitRate, Name};
use crate::telemetry::limit_meters::StoreMeters;

pub use self::link::NoAnswer;

/// A store. Its connections are opened when requests need them.
pub struct Store {
    name: Name,
    settings: StoreSettings,
    files: StoreFiles,
    dialer: StoreDialer,
    meters: Arc<StoreMeters>,
    /// For the log: the store does not answer.
    is_lost: AtomicBool,
}

/// A bucket in a store.
#[derive(Debug, Clone)]
pub struct StoreBucket {
    store: Arc<Store>,
    key: String,
    rate: LimitRate,
    burst: u64,
}

/// Tokens that were taken from a bucket in a store.
#[derive(Debug, Clone)]
pub struct StoreTaken {
    bucket: StoreBucket,
    tokens: u64,
    debt: f64,
    at_ns: u64,
}

impl Store {
    /// Compiles the settings. `file` returns the content of a file that they name.
    ///
    /// # Errors
    /// The files of TLS cannot be used.
    pub(super) fn new(
        name: Name,
        settings: &StoreSettings,
        file: &dyn Fn(&Path) -> Option<Vec<u8>>,
        meters: Arc<StoreMeters>,
    ) -> Result<Self, String> {
        let files = files_of(settings, file);
        let dialer = StoreDialer::new(settings, &files)?;
        Ok(Self { name, settings: settings.clone(), files, dialer, meters, is_lost: AtomicBool::new(false) })
    }

    /// Whether a store with these settings and files would be the same.
    pub(super) fn is_same(&self, settings: &StoreSettings, file: &dyn Fn(&Path) -> Option<Vec<u8>>) -> bool {
        self.settings == *settings && self.files == files_of(settings, file)
    }

    /// The bucket of a limit for a key. The name of the limit and the key identify it; the rate is a part of the name,
    /// because another rate gives the debt another meaning.
    pub(super) fn bucket(
        self: &Arc<Self>,
        limit: &Name,
        key: KeyValue<'_>,
        rate: LimitRate,
        burst: u64,
    ) -> StoreBucket {
        let key = format!("weir:{limit}:{rate}:{burst}:{}", key_text(limit, key));
        StoreBucket { store: Arc::clone(self), key, rate, burst }
    }

    fn timeout(&self) -> Duration {
        self.settings.timeout.get()
    }

    /// The connection of this thread.
    fn link(self: &Arc<Self>) -> Arc<Link> {
        thread_local! {
            static LINKS: RefCell<Vec<Arc<Link>>> = const { RefCell::new(Vec::new()) };
        }
        let find = |links: &RefCell<Vec<Arc<Link>>>| {
            let mut links = links.borrow_mut();
            if let Some(link) = links.iter().find(|link| link.is_of(self)) {
                return Arc::clone(link);
            }
            let link = Link::new(self);
            links.push(Arc::clone(&link));
            link.when_abandoned(|abandoned| {
                // The list is gone if the task ends with its thread.
                let _ = LINKS.try_with(|links| links.borrow_mut().retain(|link| !Arc::ptr_eq(link, abandoned)));
            });
            link
        };
        // The list is gone if a request ends with its thread.
        LINKS.try_with(find).unwrap_or_else(|_| Link::new(self))
    }

    /// Logs once that the store does not answer.
    fn lost(&self, error: &str) {
        if !self.is_lost.swap(true, Ordering::Relaxed) {
            tracing::warn!(store = %self.name, error, "the store does not answer; limits use `on_failure`");
        }
    }

    fn found(&self) {
        // Each answer comes here, so the usual case only reads.
        if self.is_lost.load(Ordering::Relaxed) && self.is_lost.swap(false, Ordering::Relaxed) {
            tracing::info!(store = %self.name, "the store answers again");
        }
    }
}

impl StoreBucket {
    /// Takes tokens. `Ok(Err)`: the time after which they would be there.
    pub(super) async fn take(self, tokens: u64, now_ns: u64) -> Result<Result<StoreTaken, Duration>, NoAnswer> {
        let reply = self.store.link().call(&self.call(tokens as f64, true)).await?;
        if reply.admitted {
            Ok(Ok(StoreTaken { bucket: self, tokens, debt: reply.debt, at_ns: now_ns }))
        } else {
            Ok(Err(reply.wait))
        }
    }

    fn call(&self, tokens: f64, may_refuse: bool) -> BucketCall {
        BucketCall { key: self.key.clone(), rate: self.rate, burst: self.burst, tokens, may_refuse }
    }
}

impl StoreTaken {
    /// The tokens that were taken.
    pub(super) fn tokens(&self) -> u64 {
        self.tokens
    }

    /// Replaces the tokens that were taken by those that were used, in the background. Tokens that time has replaced
    /// since then are not given back a second time.
    pub(super) fn settle(self, used: u64, now_ns: u64) {
        let change = self.change(used, now_ns);
        // Without a runtime the process ends.
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        if change != 0.0 {
            runtime.spawn(async move {
                let link = self.bucket.store.link();
                // Without an answer the reservation stays.
                let _ = link.call(&self.bucket.call(change, false)).await;
            });
        }
    }

    fn change(&self, used: u64, now_ns: u64) -> f64 {
        let rate = self.bucket.rate;
        let elapsed = now_ns.saturating_sub(self.at_ns) as f64 / rate.period().as_nanos().max(1) as f64;
        let open = (self.debt - elapsed * rate.tokens() as f64).max(0.0);
        (used as f64 - self.tokens as f64).max(-open)
    }
}

fn files_of(settings: &StoreSettings, file: &dyn Fn(&Path) -> Option<Vec<u8>>) -> StoreFiles {
    let tls = settings.tls.as_ref();
    let line = |bytes: Vec<u8>| {
        let text = String::from_utf8_lossy(&bytes).into_owned();
        text.lines().next().unwrap_or_default().trim().to_owned()
    };
    StoreFiles {
        password: settings.password_file.as_deref().and_then(file).map(line),
        ca: tls.and_then(|tls| tls.ca.as_deref()).and_then(file),
        certificate: tls.and_then(|tls| {
            let pair = tls.certificate.as_ref()?;
            Some((file(&pair.cert)?, file(&pair.key)?))
        }),
    }
}

/// A key as a part of a name in the store. A value that may be a secret never leaves the process.
fn key_text(limit: &Name, key: KeyValue<'_>) -> String {
    match key {
        KeyValue::Address(address) => format!("a:{address}"),
        KeyValue::Host(host) => format!("h:{host}"),
        KeyValue::Route(route) => format!("r:{route}"),
        KeyValue::Identity(name) => format!("i:{name}"),
        KeyValue::Secret(value) => {
            let mut mac =
                Hmac::<Sha256>::new_from_slice(limit.as_str().as_bytes()).expect("HMAC takes a key of any length");
            mac.update(value);
            format!("s:{}", URL_SAFE_NO_PAD.encode(mac.finalize().into_bytes()))
        }
    }
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Store({})", self.name)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_never_a_part_of_a_key_in_the_store() {
        let limit: Name = "api".parse().unwrap();
        let text = key_text(&limit, KeyValue::Secret(b"hunter2"));
        assert!(text.starts_with("s:") && text.len() == 45 && !text.contains("hunter2"), "{text}");
        assert_ne!(text, key_text(&"other".parse().unwrap(), KeyValue::Secret(b"hunter2")));
        assert_eq!(key_text(&limit, KeyValue::Address("192.0.2.1".parse().unwrap())), "a:192.0.2.1");
    }

    #[test]
    fn tokens_that_time_has_replaced_are_not_given_back() {
        let settings: StoreSettings = serde_yaml::from_str("{ redis: 'redis://127.0.0.1:1' }").unwrap();
        let store = Store::new("s".parse().unwrap(), &settings, &|_| None, Arc::new(StoreMeters::new("s"))).unwrap();
        let bucket = Arc::new(store).bucket(&"l".parse().unwrap(), KeyValue::Host("h"), "10/1s".parse().unwrap(), 100);
        let taken = StoreTaken { bucket, tokens: 100, debt: 100.0, at_ns: 0 };
        assert_eq!(taken.change(30, 0), -70.0);
        assert_eq!(taken.change(30, 9_000_000_000), -10.0);
        assert_eq!(taken.change(130, 9_000_000_000), 30.0);
        assert_eq!(taken.change(0, 60_000_000_000), 0.0);
    }
}
