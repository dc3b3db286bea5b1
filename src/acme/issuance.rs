//! One order from the lock to the file, and one question for advice. What is due, and what comes of it, is the agent's.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::backoff::{FailureKind, Term};
use super::client::{self, IssuanceFailure, blocking};
use super::schedule::{NameState, OrderOutcome};
use super::storage;
use crate::tls::{AcmeCerts, CertStore, Certificate};

/// How long an order may take.
const MAX_ISSUANCE_TIME: Duration = Duration::from_secs(180);

/// What became of the file of a name.
pub(super) enum IssuanceOutcome {
    /// It is as it was.
    Untouched,
    /// It is new.
    Written,
    /// It could not be written; this belongs into it.
    Unwritten(Vec<u8>),
}

/// One order, unless another process has it in work or has just done it.
pub(super) async fn attempt(
    store: Arc<CertStore>,
    managed: AcmeCerts,
    standing: NameState,
) -> (OrderOutcome, IssuanceOutcome) {
    let failed =
        |failure: IssuanceFailure| (OrderOutcome::Failed(failure.trouble, failure.error), IssuanceOutcome::Untouched);
    let local = |error| failed(IssuanceFailure::local("nothing can be kept in the state directory", &error));
    let same = managed.clone();
    let taken = blocking(move || {
        let Some(lock) = storage::take(&same)? else { return Ok(None) };
        let kept = same.read().ok().flatten().map(|certificate| term(&certificate));
        Ok(Some((lock, kept, storage::tries(&same)?)))
    });
    let (_lock, kept, theirs) = match taken.await {
        Ok(Some(taken)) => taken,
        Ok(None) => return (OrderOutcome::Busy, IssuanceOutcome::Untouched),
        Err(error) => return local(error),
    };
    // What was brought forward here, by a reload, is older than that: ours counts.
    let latest = if theirs.last > standing.tries.last { theirs } else { standing.tries.clone() };
    if standing.as_kept(kept, latest.clone()).due() > now() {
        return (OrderOutcome::Stands(kept, latest), IssuanceOutcome::Untouched);
    }
    // What is issued counts with the server whether it can be kept or not.
    let issuer = Arc::clone(&managed.issuer);
    if let Err(error) = blocking(move || storage::prove_room(&issuer)).await {
        return local(error);
    }
    let obtained = tokio::time::timeout(MAX_ISSUANCE_TIME, client::obtain(&managed, store.challenges())).await;
    let late = || IssuanceFailure { trouble: FailureKind::Unreachable, error: "the order took too long".to_owned() };
    match obtained.unwrap_or_else(|_| Err(late())) {
        Ok(pem) => match blocking(move || Ok(put(&store, &managed, pem))).await {
            Ok(put) => put,
            Err(error) => failed(IssuanceFailure::local("it cannot be kept", &error)),
        },
        Err(failure) => failed(failure),
    }
}

/// Keeps what was issued, and serves it; also where it cannot be kept.
fn put(store: &CertStore, managed: &AcmeCerts, pem: Vec<u8>) -> (OrderOutcome, IssuanceOutcome) {
    let refused = |what| (OrderOutcome::Failed(FailureKind::Refused, what), IssuanceOutcome::Untouched);
    let certificate = match managed.parse(&pem) {
        Ok(certificate) if certificate.not_after() > now() => certificate,
        Ok(_) => return refused("what the server issued has expired already".to_owned()),
        Err(what) => return refused(format!("what the server issued cannot be used: {what}")),
    };
    let fate = match crate::secure_file::write(&managed.file, &pem) {
        Ok(()) => IssuanceOutcome::Written,
        Err(error) => {
            let (certificate, path) = (&*managed.label, managed.file.display());
            tracing::error!(certificate, %path, %error, "issued, but it cannot be written; it is served, and that is tried again");
            IssuanceOutcome::Unwritten(pem)
        }
    };
    let term = term(&certificate);
    store.put(managed, certificate);
    (OrderOutcome::Issued(term), fate)
}

/// What a server wants of the certificate that is kept: which it is, the window in which it is to be renewed; and for how
/// many seconds that holds. Nothing where it does not say.
pub(super) async fn ask(store: &CertStore, managed: &AcmeCerts) -> Option<(Option<(Term, (i64, i64))>, Option<i64>)> {
    let same = managed.clone();
    let kept = blocking(move || Ok(same.read().ok().flatten())).await.ok()??;
    let asked = tokio::time::timeout(MAX_ISSUANCE_TIME, client::advice(managed, store.challenges(), &kept)).await;
    match asked.ok()? {
        Ok(advice) => Some((Some((term(&kept), advice.window)), Some(advice.wait))),
        Err(failure) => {
            let (certificate, error) = (&*managed.label, failure.error);
            tracing::debug!(certificate, error, "its server does not say when it wants it to be renewed");
            None
        }
    }
}

pub(super) fn term(certificate: &Certificate) -> Term {
    Term { not_before: certificate.not_before(), not_after: certificate.not_after() }
}

/// Seconds since 1970.
pub(super) fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}
