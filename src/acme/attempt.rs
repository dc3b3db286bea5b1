//! One order from the lock to the file, and one question for advice. What is due, and what comes of it, is the agent's.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::home;
use super::order::{self, Failure, blocking};
use super::schedule::{Ended, Standing};
use super::waits::{Term, Trouble};
use crate::tls::{Certificate, Managed, Store};

/// How long an order may take.
const LONGEST: Duration = Duration::from_secs(180);

/// One order, unless another process has it in work or has just done it. Also says whether something new is kept.
pub(super) async fn attempt(store: Arc<Store>, managed: Managed, standing: Standing) -> (Ended, bool) {
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
    let latest = if theirs.last > standing.tries.last { theirs } else { standing.tries.clone() };
    if standing.as_kept(kept, latest.clone()).due() > now() {
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

/// What a server wants of the certificate that is kept: which it is, the window in which it is to be renewed; and for how
/// many seconds that holds. Nothing where it does not say.
pub(super) async fn ask(store: &Store, managed: &Managed) -> Option<(Option<(Term, (i64, i64))>, Option<i64>)> {
    let same = managed.clone();
    let kept = blocking(move || Ok(same.read().ok().flatten())).await.ok()??;
    let asked = tokio::time::timeout(LONGEST, order::advice(managed, store.challenges(), &kept)).await;
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
