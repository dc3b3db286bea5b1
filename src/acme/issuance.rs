//! One issuance, from the file lock to the stored certificate, and one renewal information request.
//!
//! It never decides when an order is due; the manager does.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::backoff::{FailureKind, Term};
use super::client::{self, IssuanceFailure, blocking};
use super::schedule::{NameState, OrderOutcome};
use super::storage;
use crate::tls::{AcmeCerts, CertStore, Certificate};

/// Maximum duration of an order.
const MAX_ISSUANCE_TIME: Duration = Duration::from_secs(180);

/// The effect of an issuance on the certificate file.
pub(super) enum IssuanceOutcome {
    /// The file is unchanged.
    Untouched,
    /// The file was written.
    Written,
    /// The file could not be written. These bytes are its new content.
    Unwritten(Vec<u8>),
}

/// Runs one order, unless another process has an order for the name in progress or has just finished one.
pub(super) async fn attempt(
    store: Arc<CertStore>,
    managed: AcmeCerts,
    name_state: NameState,
) -> (OrderOutcome, IssuanceOutcome) {
    let failed =
        |failure: IssuanceFailure| (OrderOutcome::Failed(failure.trouble, failure.error), IssuanceOutcome::Untouched);
    let local = |error| failed(IssuanceFailure::local("nothing can be kept in the state directory", &error));
    let same = managed.clone();
    let taken = blocking(move || {
        let Some(lock) = storage::take(&same)? else { return Ok(None) };
        let stored = same.read().ok().flatten().map(|certificate| term(&certificate));
        Ok(Some((lock, stored, storage::tries(&same)?)))
    });
    let (_lock, stored, theirs) = match taken.await {
        Ok(Some(taken)) => taken,
        Ok(None) => return (OrderOutcome::Busy, IssuanceOutcome::Untouched),
        Err(error) => return local(error),
    };
    // The stored history counts only if it is newer. Otherwise the local one counts, because a reload may have moved
    // its next order forward.
    let latest = if theirs.last > name_state.tries.last { theirs } else { name_state.tries.clone() };
    if name_state.as_kept(stored, latest.clone()).due() > now() {
        return (OrderOutcome::Stands(stored, latest), IssuanceOutcome::Untouched);
    }
    // Checks for free disk space first: an issued certificate counts for the server's rate limit even if it cannot be
    // stored.
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

/// Stores and serves an issued certificate. It is served even if it cannot be stored.
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

/// Requests the renewal information of the stored certificate. Returns its validity period with the suggested window,
/// and the seconds until the next request. `None` if there is no information.
pub(super) async fn ask(store: &CertStore, managed: &AcmeCerts) -> Option<(Option<(Term, (i64, i64))>, Option<i64>)> {
    let same = managed.clone();
    let stored = blocking(move || Ok(same.read().ok().flatten())).await.ok()??;
    let response = tokio::time::timeout(MAX_ISSUANCE_TIME, client::advice(managed, store.challenges(), &stored)).await;
    match response.ok()? {
        Ok(advice) => Some((Some((term(&stored), advice.window)), Some(advice.wait))),
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

/// The current time in Unix seconds.
pub(super) fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}
