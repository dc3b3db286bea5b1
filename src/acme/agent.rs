//! Keeps the certificates that the configuration wants to have issued: looks at what is kept, orders what is due, and puts
//! in what has come, from whichever process.
//!
//! It never takes away what is served.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::sync::Semaphore;

use super::home;
use super::order::{self, Failure, blocking};
use super::schedule::{Ended, Schedule, Tries};
use super::waits::{Term, Trouble};
use crate::telemetry::Metrics;
use crate::telemetry::meters::CertificateMeters;
use crate::telemetry::orders::OrderResult;
use crate::tls::{Certificate, Managed, Stamp, Store, stamp, sweep};

/// How often it looks.
const TURN: Duration = Duration::from_secs(1);
/// Orders under way at once.
const ORDERS: usize = 4;
/// How long an order may take.
const LONGEST: Duration = Duration::from_secs(180);
/// How old a challenge is that nobody waits for any more.
const LEFT_BEHIND: Duration = Duration::from_secs(3600);

/// Keeps the certificates that are issued.
#[derive(Debug)]
pub struct Agent {
    store: Arc<Store>,
    metrics: Arc<Metrics>,
    inner: Mutex<Inner>,
    orders: Arc<Semaphore>,
}

#[derive(Debug, Default)]
struct Inner {
    /// Of the configuration in force.
    managed: Arc<[Managed]>,
    schedule: Schedule,
    /// What was last seen of each file.
    seen: BTreeMap<PathBuf, Stamp>,
    meters: BTreeMap<Arc<str>, Arc<CertificateMeters>>,
}

/// How a name stands, for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Status {
    /// The name.
    pub name: String,
    /// `issued`, `pending` while there is none yet, `failing` where the last order failed.
    pub state: &'static str,
    /// Orders that have failed since the last that went well.
    pub failures: u32,
    /// What went wrong the last time.
    pub error: Option<String>,
    /// When the next order is due, in seconds since 1970; nothing: now.
    pub next: Option<i64>,
}

impl Agent {
    /// For the certificates of this store.
    pub fn new(store: Arc<Store>, metrics: Arc<Metrics>) -> Arc<Self> {
        Arc::new(Self { store, metrics, inner: Mutex::default(), orders: Arc::new(Semaphore::new(ORDERS)) })
    }

    /// Goes on for as long as the process lives.
    pub async fn run(self: Arc<Self>) {
        loop {
            let same = Arc::clone(&self);
            if tokio::task::spawn_blocking(move || same.look()).await.is_err() {
                tracing::error!("looking after issued certificates broke off; it is tried again");
            }
            self.order_what_is_due();
            tokio::time::sleep(TURN).await;
        }
    }

    /// All names, in their order.
    pub fn status(&self) -> Vec<Status> {
        let inner = self.lock();
        let status = |managed: &Managed| {
            let standing = inner.schedule.of(&managed.name)?;
            let state = match (standing.held, standing.tries.failures) {
                (_, 1..) => "failing",
                (Some(_), 0) => "issued",
                (None, 0) => "pending",
            };
            let next = Some(standing.tries.due(standing.held)).filter(|next| *next > 0);
            let (failures, error) = (standing.tries.failures, standing.tries.error.clone());
            Some(Status { name: managed.name.to_string(), state, failures, error, next })
        };
        inner.managed.iter().filter_map(status).collect()
    }

    /// Takes up what is new in the configuration and on disk.
    fn look(&self) {
        let wanted = self.store.managed();
        let mut inner = self.lock();
        if !Arc::ptr_eq(&wanted, &inner.managed) {
            self.adopt(&mut inner, wanted);
        }
        for managed in Arc::clone(&inner.managed).iter() {
            let now = stamp(&managed.file);
            if inner.seen.insert(managed.file.clone(), now) != Some(now) {
                self.take_up(&mut inner, managed);
            }
        }
    }

    fn adopt(&self, inner: &mut Inner, wanted: Arc<[Managed]>) {
        let before = std::mem::replace(&mut inner.managed, wanted);
        let managed = Arc::clone(&inner.managed);
        inner.schedule.want(&managed.iter().map(|each| Arc::clone(&each.name)).collect::<Vec<_>>());
        inner.schedule.reloaded(now());
        // The store has prepared anew: what it has not seen is put in again.
        inner.seen.clear();
        inner.meters.clear();
        for each in managed.iter() {
            if !before.contains(each) {
                let tries = home::tries(each).unwrap_or_else(|error| {
                    tracing::warn!(certificate = &*each.label, %error, "how its orders went cannot be read");
                    Tries::default()
                });
                inner.schedule.found(&each.name, tries);
            }
            let meters = self.metrics.certificate(&each.label);
            meters.orders();
            inner.meters.insert(Arc::clone(&each.name), meters);
        }
        let folder = managed.first().and_then(|each| Some(each.issuer.folder.parent()?.join("challenges")));
        if let Some(Err(error)) = folder.filter(|folder| folder.exists()).map(|folder| sweep(&folder, LEFT_BEHIND)) {
            tracing::warn!(%error, "old challenges could not be removed");
        }
    }

    /// Puts in what is kept of a name.
    fn take_up(&self, inner: &mut Inner, managed: &Managed) {
        match managed.read() {
            Ok(Some(certificate)) => {
                inner.schedule.hold(&managed.name, Some(term(&certificate)));
                inner.show_failures(&managed.name);
                self.store.put(managed, certificate);
            }
            Ok(None) => inner.schedule.hold(&managed.name, None),
            Err(what) => {
                if let Some(meters) = inner.meters.get(&managed.name) {
                    meters.count_reload(false);
                }
                let aside = home::set_aside(&managed.file);
                let aside = aside.map_or_else(|error| format!("not moved aside: {error}"), |p| p.display().to_string());
                let certificate = &*managed.label;
                tracing::error!(certificate, aside, "what is kept of it cannot be used; another is ordered: {what}");
                inner.schedule.hold(&managed.name, None);
            }
        }
    }

    fn order_what_is_due(self: &Arc<Self>) {
        let mut inner = self.lock();
        for name in inner.schedule.due(now()) {
            let Ok(slot) = Arc::clone(&self.orders).try_acquire_owned() else { return };
            let Some(managed) = inner.managed.iter().find(|managed| managed.name == name).cloned() else { continue };
            let tries = inner.schedule.of(&name).map(|standing| standing.tries.clone()).unwrap_or_default();
            inner.schedule.started(&name);
            let same = Arc::clone(self);
            tokio::spawn(async move {
                let _slot = slot;
                let order = tokio::spawn(attempt(Arc::clone(&same.store), managed.clone(), tries));
                let broken = |_| (Ended::Failed(Trouble::Local, "the order broke off".to_owned()), false);
                let (ended, kept) = order.await.unwrap_or_else(broken);
                let _ = tokio::task::spawn_blocking(move || same.note(&managed, ended, kept)).await;
            });
        }
    }

    /// Takes note of how an order ended; `kept`: there is a new file.
    fn note(&self, managed: &Managed, ended: Ended, kept: bool) {
        let mut inner = self.lock();
        if kept {
            // It is looked at again: somebody may have taken it away since.
            inner.seen.insert(managed.file.clone(), Some(Default::default()));
        }
        let meters = inner.meters.get(&managed.name).cloned();
        let count = |result| meters.iter().for_each(|meters| meters.orders().count(result));
        let certificate = &*managed.label;
        match &ended {
            Ended::Issued(_) => {
                count(OrderResult::Issued);
                tracing::info!(certificate, "issued");
            }
            Ended::Failed(trouble, error) => {
                count(result_of(*trouble));
                tracing::warn!(certificate, error, "no certificate could be had; what is served goes on");
            }
            Ended::Stands(..) | Ended::Busy => {}
        }
        let keep = matches!(ended, Ended::Issued(_) | Ended::Failed(..));
        inner.schedule.ended(&managed.name, ended, now(), chance());
        inner.show_failures(&managed.name);
        let Some(tries) = inner.schedule.of(&managed.name).map(|standing| standing.tries.clone()) else { return };
        drop(inner);
        if keep && let Err(error) = home::keep_tries(managed, &tries) {
            tracing::error!(certificate, %error, "how its order went cannot be kept");
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn show_failures(&self, name: &str) {
        if let (Some(meters), Some(standing)) = (self.meters.get(name), self.schedule.of(name)) {
            meters.orders().set_failures(standing.tries.failures.into());
        }
    }
}

/// One order, unless another process has it in work or has just done it. Also says whether something new is kept.
async fn attempt(store: Arc<Store>, managed: Managed, tries: Tries) -> (Ended, bool) {
    let failed = |failure: Failure| (Ended::Failed(failure.trouble, failure.error), false);
    let same = managed.clone();
    let taken = blocking(move || {
        let Some(lock) = home::take(&same)? else { return Ok(None) };
        let kept = same.read().ok().flatten().map(|certificate| term(&certificate));
        Ok(Some((lock, kept, home::tries(&same)?)))
    });
    let (_lock, kept, theirs) = match taken.await {
        Ok(Some(taken)) => taken,
        Ok(None) => return (Ended::Busy, false),
        Err(error) => return failed(Failure::local("nothing can be kept in the state directory", &error)),
    };
    // What was brought forward here, by a reload, is older than that: ours counts.
    let latest = if theirs.last > tries.last { theirs } else { tries };
    if latest.due(kept) > now() {
        return (Ended::Stands(kept, latest), false);
    }
    let obtained = tokio::time::timeout(LONGEST, order::obtain(&managed, store.challenges())).await;
    let late = || Failure { trouble: Trouble::Unreachable, error: "the order took too long".to_owned() };
    match obtained.unwrap_or_else(|_| Err(late())) {
        Ok(pem) => match blocking(move || Ok(put(&store, &managed, &pem))).await {
            Ok(put) => put,
            Err(error) => failed(Failure::local("it cannot be kept", &error)),
        },
        Err(failure) => failed(failure),
    }
}

/// Keeps what was issued, and serves it; also where it cannot be kept.
fn put(store: &Store, managed: &Managed, pem: &[u8]) -> (Ended, bool) {
    let refused = |what| (Ended::Failed(Trouble::Refused, what), false);
    let certificate = match managed.parse(pem) {
        Ok(certificate) if certificate.not_after() > now() => certificate,
        Ok(_) => return refused("what the server issued has expired already".to_owned()),
        Err(what) => return refused(format!("what the server issued cannot be used: {what}")),
    };
    let written = crate::tls::private::write(&managed.file, pem);
    if let Err(error) = &written {
        let path = managed.file.display();
        tracing::error!(certificate = &*managed.label, %path, %error, "issued, but it cannot be kept; it is served until the end");
    }
    let term = term(&certificate);
    store.put(managed, certificate);
    (Ended::Issued(term), written.is_ok())
}

fn result_of(trouble: Trouble) -> OrderResult {
    match trouble {
        Trouble::Unreachable => OrderResult::Unreachable,
        Trouble::Refused => OrderResult::Refused,
        Trouble::Limited(_) => OrderResult::RateLimited,
        Trouble::Local => OrderResult::Error,
    }
}

fn term(certificate: &Certificate) -> Term {
    Term { not_before: certificate.not_before(), not_after: certificate.not_after() }
}

/// Seconds since 1970.
fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}

/// 0 to 1; without randomness nothing is spread.
fn chance() -> f64 {
    f64::from(getrandom::u32().unwrap_or(u32::MAX)) / f64::from(u32::MAX)
}
