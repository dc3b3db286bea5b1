//! The ACME manager: checks the stored certificates, orders those that are due, and serves new ones.
//!
//! It never removes a certificate that is served. It also serves certificates that another process has stored.

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

/// Interval of the checks.
const POLL_INTERVAL: Duration = Duration::from_secs(1);
/// Maximum number of concurrent orders.
const MAX_CONCURRENT_ORDERS: usize = 4;
/// Age after which a challenge file is removed.
const STALE_AFTER: Duration = Duration::from_secs(3600);

/// The ACME manager.
#[derive(Debug)]
pub struct AcmeManager {
    store: Arc<CertStore>,
    metrics: Arc<Metrics>,
    inner: Mutex<Inner>,
    orders: Arc<Semaphore>,
}

#[derive(Debug, Default)]
struct Inner {
    /// The ACME certificates of the active configuration.
    managed: Arc<[AcmeCerts]>,
    schedule: Schedule,
    /// The stamp of each file at the last check.
    seen: BTreeMap<PathBuf, FileStamp>,
    pending_writes: PendingWrites,
    meters: CertificateMetersByName,
}

/// Certificate metrics by DNS name.
type CertificateMetersByName = BTreeMap<Arc<str>, Arc<CertificateMeters>>;

impl AcmeManager {
    /// The manager for the certificates of `store`.
    pub fn new(store: Arc<CertStore>, metrics: Arc<Metrics>) -> Arc<Self> {
        Arc::new(Self {
            store,
            metrics,
            inner: Mutex::default(),
            orders: Arc::new(Semaphore::new(MAX_CONCURRENT_ORDERS)),
        })
    }

    /// Runs for the lifetime of the process.
    pub async fn run(self: Arc<Self>) {
        loop {
            let same = Arc::clone(&self);
            let work = move || {
                same.discover();
                same.write_again();
            };
            if tokio::task::spawn_blocking(work).await.is_err() {
                tracing::error!("looking after issued certificates broke off; it is tried again");
            }
            self.order_what_is_due();
            self.ask_for_advice();
            tokio::time::sleep(POLL_INTERVAL).await;
        }
    }

    /// The status of all names, in the order of the configuration. A new name has a default status.
    pub fn status(&self) -> Vec<AcmeStatus> {
        let wanted = self.store.managed();
        let inner = self.lock();
        let status = |managed: &AcmeCerts| AcmeStatus::of(&managed.name, inner.schedule.of(&managed.name));
        wanted.iter().map(status).collect()
    }

    /// Applies changes of the configuration and of the certificate files. It reads files without the lock, because the
    /// control thread takes the lock too. Never call it concurrently.
    fn discover(&self) {
        self.adopt(&self.store.managed());
        let managed = Arc::clone(&self.lock().managed);
        let disk = Disk::default();
        for managed in managed.iter() {
            let file = managed.file.clone();
            // If the file system does not answer, the file is checked again in the next round.
            let Ok(stamp) = disk.run(&managed.file, move || stamp(&file)) else { continue };
            let now = stamp.flatten();
            let before = self.lock().seen.insert(managed.file.clone(), now);
            if before != Some(now) {
                self.take_up(managed, now);
            }
        }
    }

    /// Adopts the configuration's certificates if they have changed.
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
            // Makes the order counters visible before the first order ends.
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

    /// Serves the stored certificate of a name. `seen`: the file's stamp before it is read.
    fn take_up(&self, managed: &AcmeCerts, seen: FileStamp) {
        let stored = managed.read();
        match &stored {
            Ok(_) => {}
            Err(Unusable::NoAnswer(error)) => {
                tracing::warn!(certificate = &*managed.label, "the stored certificate cannot be read: {error}");
                self.lock().seen.remove(&managed.file);
                return;
            }
            Err(Unusable::Bad(what)) => self.set_aside(managed, what),
        }
        let (failed, stored) = (stored.is_err(), stored.ok().flatten());
        let mut inner = self.lock();
        if inner.seen.get(&managed.file) != Some(&seen) {
            // An order has ended meanwhile, so the next check reads the file again.
            return;
        }
        let newest = inner.pending_writes.newest(managed, stored);
        inner.schedule.hold(&managed.name, newest.as_ref().map(term));
        let Some(certificate) = newest.filter(|_| !failed) else { return };
        inner.show_failures(&managed.name);
        drop(inner);
        self.store.put(managed, certificate);
    }

    /// Renames an unusable file.
    fn set_aside(&self, managed: &AcmeCerts, what: &str) {
        if let Some(meters) = self.lock().meters.get(&managed.name) {
            meters.count_reload(false);
        }
        let aside = storage::set_aside(&managed.file);
        let aside = aside.map_or_else(|error| format!("not moved aside: {error}"), |p| p.display().to_string());
        let certificate = &*managed.label;
        tracing::error!(certificate, aside, "what is kept of it cannot be used; another is ordered: {what}");
    }

    /// Retries pending writes. Failures are not logged, because the first one was.
    fn write_again(&self) {
        let managed = Arc::clone(&self.lock().managed);
        for each in managed.iter() {
            let Some(pem) = self.lock().pending_writes.of(each) else { continue };
            let Ok(Some(())) = pending_writes::write(each, &pem) else { continue };
            tracing::info!(certificate = &*each.label, "what was issued is written now");
            let mut inner = self.lock();
            // A newer certificate may be pending by now.
            if inner.pending_writes.of(each).is_some_and(|now| Arc::ptr_eq(&now, &pem)) {
                inner.pending_writes.remove(each);
            }
            let tries = inner.schedule.of(&each.name).map(|name_state| name_state.tries.clone());
            drop(inner);
            keep(each, &tries.unwrap_or_default());
        }
    }

    fn order_what_is_due(self: &Arc<Self>) {
        let mut inner = self.lock();
        for name in inner.schedule.due(now()) {
            let Ok(slot) = Arc::clone(&self.orders).try_acquire_owned() else { return };
            let Some(managed) = inner.managed.iter().find(|managed| managed.name == name).cloned() else { continue };
            let name_state = inner.schedule.of(&name).cloned().unwrap_or_default();
            inner.schedule.started(&name);
            let same = Arc::clone(self);
            tokio::spawn(async move {
                let _slot = slot;
                let order = tokio::spawn(attempt(Arc::clone(&same.store), managed.clone(), name_state));
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

    /// Requests renewal information. The server suggests immediate renewal if it has revoked the certificate (RFC
    /// 9773).
    fn ask_for_advice(self: &Arc<Self>) {
        let mut inner = self.lock();
        for name in inner.schedule.to_ask(now()) {
            let Ok(slot) = Arc::clone(&self.orders).try_acquire_owned() else { return };
            let Some(managed) = inner.managed.iter().find(|managed| managed.name == name).cloned() else { continue };
            // The next request time, also in case this request fails.
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

    /// Records the result of an order and its effect on the file.
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
                let serves = inner.schedule.of(&managed.name).is_some_and(|name_state| name_state.held.is_some());
                let rest = if serves { "what is served goes on" } else { "until there is one its handshakes end" };
                tracing::warn!(certificate, error, "no certificate could be had; {rest}");
            }
            OrderOutcome::Stands(..) | OrderOutcome::Busy => {}
        }
        let keeps = matches!(ended, OrderOutcome::Issued(_) | OrderOutcome::Failed(..));
        inner.schedule.ended(&managed.name, ended, now(), random());
        inner.show_failures(&managed.name);
        let Some(tries) = inner.schedule.of(&managed.name).map(|name_state| name_state.tries.clone()) else { return };
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
    /// Adopts the configuration's certificates. `tries`: the stored order history of new names.
    fn adopt(&mut self, wanted: &Arc<[AcmeCerts]>, tries: Vec<(Arc<str>, Tries)>, meters: CertificateMetersByName) {
        self.managed = Arc::clone(wanted);
        self.schedule.want(&wanted.iter().map(|each| Arc::clone(&each.name)).collect::<Vec<_>>());
        self.schedule.reloaded(now());
        // The store was prepared again from disk. Clearing the stamps makes the next check serve all files again.
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
        // The next check reads the file again: it may have been removed, or replaced by an older certificate, since the
        // order.
        self.seen.insert(managed.file.clone(), Some(Default::default()));
    }

    fn show_failures(&self, name: &str) {
        if let (Some(meters), Some(name_state)) = (self.meters.get(name), self.schedule.of(name)) {
            meters.orders().set_failures(name_state.tries.failures.into());
        }
    }
}

/// Loads the order history of a name.
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

/// A random number from 0 to 1. It is 1 if the operating system has no random bytes.
fn random() -> f64 {
    f64::from(getrandom::u32().unwrap_or(u32::MAX)) / f64::from(u32::MAX)
}
