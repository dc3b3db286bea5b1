//! Keeps the certificates that the configuration wants to have issued: looks at what is kept, orders what is due, and puts
//! in what has come, from whichever process.
//!
//! It never takes away what is served.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::{Mutex, MutexGuard};
use tokio::sync::Semaphore;

use super::backoff::{self, FailureKind};
use super::issuance::{IssuanceOutcome, ask, attempt, now, term};
use super::pending_writes::{self, PendingWrites};
use super::schedule::{OrderOutcome, Schedule, Tries};
use super::status::AcmeStatus;
use super::storage;
use crate::config::Disk;
use crate::config::file_watch::{FileStamp, stamp};
use crate::telemetry::Metrics;
use crate::telemetry::acme::OrderResult;
use crate::telemetry::meters::CertificateMeters;
use crate::tls::{AcmeCerts, CertStore, Unusable, remove_stale};

/// How often it looks.
const POLL_INTERVAL: Duration = Duration::from_secs(1);
/// Orders under way at once.
const MAX_CONCURRENT_ORDERS: usize = 4;
/// How old a challenge is that nobody waits for any more.
const STALE_AFTER: Duration = Duration::from_secs(3600);

/// Keeps the certificates that are issued.
#[derive(Debug)]
pub struct AcmeManager {
    store: Arc<CertStore>,
    metrics: Arc<Metrics>,
    inner: Mutex<Inner>,
    orders: Arc<Semaphore>,
}

#[derive(Debug, Default)]
struct Inner {
    /// Of the configuration in force.
    managed: Arc<[AcmeCerts]>,
    schedule: Schedule,
    /// What was last seen of each file.
    seen: BTreeMap<PathBuf, FileStamp>,
    pending_writes: PendingWrites,
    meters: CertificateMetersByName,
}

/// By name.
type CertificateMetersByName = BTreeMap<Arc<str>, Arc<CertificateMeters>>;

impl AcmeManager {
    /// For the certificates of this store.
    pub fn new(store: Arc<CertStore>, metrics: Arc<Metrics>) -> Arc<Self> {
        Arc::new(Self {
            store,
            metrics,
            inner: Mutex::default(),
            orders: Arc::new(Semaphore::new(MAX_CONCURRENT_ORDERS)),
        })
    }

    /// Goes on for as long as the process lives.
    pub async fn run(self: Arc<Self>) {
        loop {
            let same = Arc::clone(&self);
            let turn = move || {
                same.discover();
                same.write_again();
            };
            if tokio::task::spawn_blocking(turn).await.is_err() {
                tracing::error!("looking after issued certificates broke off; it is tried again");
            }
            self.order_what_is_due();
            self.ask_for_advice();
            tokio::time::sleep(POLL_INTERVAL).await;
        }
    }

    /// All names, in their order; of one that is new nothing is known yet.
    pub fn status(&self) -> Vec<AcmeStatus> {
        let wanted = self.store.managed();
        let inner = self.lock();
        let status = |managed: &AcmeCerts| AcmeStatus::of(&managed.name, inner.schedule.of(&managed.name));
        wanted.iter().map(status).collect()
    }

    /// Takes up what is new in the configuration and on disk. It reads files without the lock, which the control thread takes
    /// too. One at a time.
    fn discover(&self) {
        self.adopt(&self.store.managed());
        let managed = Arc::clone(&self.lock().managed);
        let disk = Disk::default();
        for managed in managed.iter() {
            let file = managed.file.clone();
            // A file system that does not answer changes nothing: the next look asks again.
            let Ok(stamp) = disk.run(&managed.file, move || stamp(&file)) else { continue };
            let now = stamp.flatten();
            let before = self.lock().seen.insert(managed.file.clone(), now);
            if before != Some(now) {
                self.take_up(managed, now);
            }
        }
    }

    /// Goes by this configuration, if it is another one than before.
    fn adopt(&self, wanted: &Arc<[AcmeCerts]>) {
        let before = Arc::clone(&self.lock().managed);
        if Arc::ptr_eq(wanted, &before) {
            return;
        }
        let new = wanted.iter().filter(|each| !before.contains(each));
        let tries: Vec<_> = new.map(|each| (Arc::clone(&each.name), tries(each))).collect();
        let meters = wanted.iter().map(|each| (Arc::clone(&each.name), self.metrics.certificate(&each.label)));
        let meters: BTreeMap<_, _> = meters.collect();
        for meters in meters.values() {
            // Shown from here on, before the first order has ended.
            meters.orders();
        }
        self.lock().adopt(wanted, tries, meters);
        let folder = wanted.first().and_then(|each| Some(each.issuer.folder.parent()?.join("challenges")));
        if let Some(Err(error)) =
            folder.filter(|folder| folder.exists()).map(|folder| remove_stale(&folder, STALE_AFTER))
        {
            tracing::warn!(%error, "old challenges could not be removed");
        }
    }

    /// Puts in what is kept of a name. `seen`: what the file was like before it is read.
    fn take_up(&self, managed: &AcmeCerts, seen: FileStamp) {
        let kept = managed.read();
        match &kept {
            Ok(_) => {}
            Err(Unusable::NoAnswer(error)) => {
                tracing::warn!(certificate = &*managed.label, "the stored certificate cannot be read: {error}");
                self.lock().seen.remove(&managed.file);
                return;
            }
            Err(Unusable::Bad(what)) => self.set_aside(managed, what),
        }
        let (failed, kept) = (kept.is_err(), kept.ok().flatten());
        let mut inner = self.lock();
        if inner.seen.get(&managed.file) != Some(&seen) {
            // An order has ended meanwhile: the file is looked at again.
            return;
        }
        let newest = inner.pending_writes.newest(managed, kept);
        inner.schedule.hold(&managed.name, newest.as_ref().map(term));
        let Some(certificate) = newest.filter(|_| !failed) else { return };
        inner.show_failures(&managed.name);
        drop(inner);
        self.store.put(managed, certificate);
    }

    /// Moves a file that cannot be used out of the way.
    fn set_aside(&self, managed: &AcmeCerts, what: &str) {
        if let Some(meters) = self.lock().meters.get(&managed.name) {
            meters.count_reload(false);
        }
        let aside = storage::set_aside(&managed.file);
        let aside = aside.map_or_else(|error| format!("not moved aside: {error}"), |p| p.display().to_string());
        let certificate = &*managed.label;
        tracing::error!(certificate, aside, "what is kept of it cannot be used; another is ordered: {what}");
    }

    /// Writes what could not be written when it was issued. That it cannot be was said then.
    fn write_again(&self) {
        let managed = Arc::clone(&self.lock().managed);
        for each in managed.iter() {
            let Some(pem) = self.lock().pending_writes.of(each) else { continue };
            let Ok(Some(())) = pending_writes::write(each, &pem) else { continue };
            tracing::info!(certificate = &*each.label, "what was issued is written now");
            let mut inner = self.lock();
            // Unless there is another by now.
            if inner.pending_writes.of(each).is_some_and(|now| Arc::ptr_eq(&now, &pem)) {
                inner.pending_writes.remove(each);
            }
            let tries = inner.schedule.of(&each.name).map(|standing| standing.tries.clone());
            drop(inner);
            keep(each, &tries.unwrap_or_default());
        }
    }

    fn order_what_is_due(self: &Arc<Self>) {
        let mut inner = self.lock();
        for name in inner.schedule.due(now()) {
            let Ok(slot) = Arc::clone(&self.orders).try_acquire_owned() else { return };
            let Some(managed) = inner.managed.iter().find(|managed| managed.name == name).cloned() else { continue };
            let standing = inner.schedule.of(&name).cloned().unwrap_or_default();
            inner.schedule.started(&name);
            let same = Arc::clone(self);
            tokio::spawn(async move {
                let _slot = slot;
                let order = tokio::spawn(attempt(Arc::clone(&same.store), managed.clone(), standing));
                let broken = |_| {
                    (
                        OrderOutcome::Failed(FailureKind::Local, "the order broke off".to_owned()),
                        IssuanceOutcome::Untouched,
                    )
                };
                let (ended, fate) = order.await.unwrap_or_else(broken);
                let _ = tokio::task::spawn_blocking(move || same.note(&managed, ended, fate)).await;
            });
        }
    }

    /// Asks servers when they want what they issued to be renewed: at once where it is revoked (RFC 9773).
    fn ask_for_advice(self: &Arc<Self>) {
        let mut inner = self.lock();
        for name in inner.schedule.to_ask(now()) {
            let Ok(slot) = Arc::clone(&self.orders).try_acquire_owned() else { return };
            let Some(managed) = inner.managed.iter().find(|managed| managed.name == name).cloned() else { continue };
            // Whatever becomes of it.
            inner.schedule.advise(&name, now().saturating_add(backoff::until_asked(None)), None, 0.0);
            let same = Arc::clone(self);
            tokio::spawn(async move {
                let _slot = slot;
                let Some((advice, wait)) = ask(&same.store, &managed).await else { return };
                let again = now().saturating_add(backoff::until_asked(wait));
                same.lock().schedule.advise(&managed.name, again, advice, random());
            });
        }
    }

    /// Takes note of how an order ended, and what became of the file.
    fn note(&self, managed: &AcmeCerts, ended: OrderOutcome, fate: IssuanceOutcome) {
        let mut inner = self.lock();
        inner.note(managed, fate);
        let meters = inner.meters.get(&managed.name).cloned();
        let count = |result| meters.iter().for_each(|meters| meters.orders().count(result));
        let certificate = &*managed.label;
        match &ended {
            OrderOutcome::Issued(_) => {
                count(OrderResult::Issued);
                tracing::info!(certificate, "issued");
            }
            OrderOutcome::Failed(trouble, error) => {
                count(trouble.into());
                let serves = inner.schedule.of(&managed.name).is_some_and(|standing| standing.held.is_some());
                let rest = if serves { "what is served goes on" } else { "until there is one its handshakes end" };
                tracing::warn!(certificate, error, "no certificate could be had; {rest}");
            }
            OrderOutcome::Stands(..) | OrderOutcome::Busy => {}
        }
        let keeps = matches!(ended, OrderOutcome::Issued(_) | OrderOutcome::Failed(..));
        inner.schedule.ended(&managed.name, ended, now(), random());
        inner.show_failures(&managed.name);
        let Some(tries) = inner.schedule.of(&managed.name).map(|standing| standing.tries.clone()) else { return };
        drop(inner);
        if keeps {
            keep(managed, &tries);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock()
    }
}

impl Inner {
    /// Goes by this configuration. `tries`: how the orders of names went that are new.
    fn adopt(&mut self, wanted: &Arc<[AcmeCerts]>, tries: Vec<(Arc<str>, Tries)>, meters: CertificateMetersByName) {
        self.managed = Arc::clone(wanted);
        self.schedule.want(&wanted.iter().map(|each| Arc::clone(&each.name)).collect::<Vec<_>>());
        self.schedule.reloaded(now());
        // The store has prepared anew: what it has not seen is put in again.
        self.seen.clear();
        self.pending_writes.want(wanted);
        self.meters = meters;
        tries.into_iter().for_each(|(name, tries)| self.schedule.restore(&name, tries));
    }

    fn note(&mut self, managed: &AcmeCerts, fate: IssuanceOutcome) {
        match fate {
            IssuanceOutcome::Untouched => return,
            IssuanceOutcome::Written => self.pending_writes.remove(managed),
            IssuanceOutcome::Unwritten(pem) => self.pending_writes.add(managed, pem),
        }
        // It is looked at again: since then somebody may have taken it away, or put in what was kept before.
        self.seen.insert(managed.file.clone(), Some(Default::default()));
    }

    fn show_failures(&self, name: &str) {
        if let (Some(meters), Some(standing)) = (self.meters.get(name), self.schedule.of(name)) {
            meters.orders().set_failures(standing.tries.failures.into());
        }
    }
}

/// How the orders of a name went.
fn tries(managed: &AcmeCerts) -> Tries {
    storage::tries(managed).unwrap_or_else(|error| {
        tracing::warn!(certificate = &*managed.label, %error, "how its orders went cannot be read");
        Tries::default()
    })
}

fn keep(managed: &AcmeCerts, tries: &Tries) {
    if let Err(error) = storage::keep_tries(managed, tries) {
        tracing::error!(certificate = &*managed.label, %error, "how its order went cannot be kept");
    }
}

/// 0 to 1; without randomness nothing is spread.
fn random() -> f64 {
    f64::from(getrandom::u32().unwrap_or(u32::MAX)) / f64::from(u32::MAX)
}
