//! The ACME client: obtains one certificate, from the account to the certificate chain (RFC 8555 section 7.1).
//!
//! It never decides when to order and never stores or serves the certificate.

use std::error::Error as StdError;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use instant_acme::{
    AccountCredentials, AuthorizationHandle, AuthorizationStatus, CertificateIdentifier, ChallengeType, Error,
    Identifier, NewAccount, NewOrder, Order, OrderStatus, RetryPolicy,
};
use rcgen::{CertificateParams, DistinguishedName, KeyPair};
use rustls_pki_types::Der;
use tokio::runtime::Handle;

use super::backoff::FailureKind;
use super::http::{Http, LastRefusal};
use super::storage;
use crate::config::schema::AcmeChallenge;
use crate::tls::{AcmeCerts, Certificate, Challenges, Issuer, PendingChallenge};

/// Polling of an order: the server has 60 s to validate the challenges, and again 60 s to issue.
const ORDER_TIMEOUT: RetryPolicy =
    RetryPolicy::new().initial_delay(Duration::from_millis(100)).backoff(1.5).timeout(Duration::from_secs(60));

/// Why no certificate was issued.
#[derive(Debug)]
pub(super) struct IssuanceFailure {
    pub(super) trouble: FailureKind,
    pub(super) error: String,
}

impl IssuanceFailure {
    pub(super) fn local(what: &str, error: &io::Error) -> Self {
        Self { trouble: FailureKind::Local, error: format!("{what}: {error}") }
    }

    fn refused(error: impl Into<String>) -> Self {
        Self { trouble: FailureKind::Refused, error: error.into() }
    }
}

/// Orders a certificate. Returns the private key and the certificate chain, PEM.
///
/// # Errors
/// No certificate was issued.
pub(super) async fn obtain(managed: &AcmeCerts, challenges: &Arc<Challenges>) -> Result<Vec<u8>, IssuanceFailure> {
    let last = LastRefusal::default();
    let dialogue = Dialogue { managed, challenges, last: Arc::clone(&last) };
    let judge = |error: OrderError| match error {
        OrderError::Here(failure) => failure,
        OrderError::There(error) => judged(&error, &last, &managed.issuer),
    };
    let (account, other_address) = dialogue.account().await.map_err(judge)?;
    let result = dialogue.run(&account, other_address).await;
    if let Err(OrderError::There(Error::Api(problem))) = &result
        && problem.r#type.as_deref() == Some(NO_ACCOUNT)
    {
        let (issuer, id) = (Arc::clone(&managed.issuer), account.id().to_owned());
        let dropped = blocking(move || storage::drop_account(&issuer, &id)).await;
        dropped.map_err(|error| IssuanceFailure::local("the account cannot be put away", &error))?;
    }
    result.map_err(judge)
}

/// Renewal information of a certificate (RFC 9773 section 4.2).
#[derive(Debug)]
pub(super) struct Advice {
    /// The suggested renewal window, in Unix seconds.
    pub(super) window: (i64, i64),
    /// Seconds until the information should be requested again.
    pub(super) wait: i64,
}

/// Requests the renewal information of a certificate.
///
/// # Errors
/// The server has no renewal information, or the request failed.
pub(super) async fn advice(
    managed: &AcmeCerts,
    challenges: &Arc<Challenges>,
    certificate: &Certificate,
) -> Result<Advice, IssuanceFailure> {
    let unknown = || IssuanceFailure::refused("the certificate does not say whose it is");
    let (authority, serial) = certificate.issued_as().ok_or_else(unknown)?;
    let last = LastRefusal::default();
    let dialogue = Dialogue { managed, challenges, last: Arc::clone(&last) };
    let result = async {
        let (account, _) = dialogue.account().await?;
        let name = CertificateIdentifier::new(Der::from_slice(&authority), Der::from_slice(&serial));
        Ok(account.renewal_info(&name).await?)
    };
    let (info, wait) = result.await.map_err(|error: OrderError| match error {
        OrderError::Here(failure) => failure,
        OrderError::There(error) => judged(&error, &last, &managed.issuer),
    })?;
    let window = (info.suggested_window.start.unix_timestamp(), info.suggested_window.end.unix_timestamp());
    Ok(Advice { window, wait: i64::try_from(wait.as_secs()).unwrap_or(i64::MAX) })
}

/// Why an order failed: a local error or an error of the ACME server.
enum OrderError {
    Here(IssuanceFailure),
    There(Error),
}

impl From<IssuanceFailure> for OrderError {
    fn from(failure: IssuanceFailure) -> Self {
        Self::Here(failure)
    }
}

impl From<Error> for OrderError {
    fn from(error: Error) -> Self {
        Self::There(error)
    }
}

/// Error types of RFC 8555 section 6.7.
const BAD_NONCE: &str = "urn:ietf:params:acme:error:badNonce";
const NO_ACCOUNT: &str = "urn:ietf:params:acme:error:accountDoesNotExist";
const RATE_LIMITED: &str = "urn:ietf:params:acme:error:rateLimited";
const SERVER_INTERNAL: &str = "urn:ietf:params:acme:error:serverInternal";

fn judged(error: &Error, last: &LastRefusal, issuer: &Issuer) -> IssuanceFailure {
    let refusal = *last.lock();
    let trouble = match (error, refusal) {
        (_, Some(refusal)) if refusal.limited || refusal.wait.is_some() => FailureKind::Limited(refusal.wait),
        (Error::Api(problem), _) => match problem.r#type.as_deref() {
            Some(RATE_LIMITED) => FailureKind::Limited(None),
            // None of these is a refusal of this order, so the retry is quick. NO_ACCOUNT: the server has lost the
            // account, as test servers do, and the next order makes a new one. BAD_NONCE: the client has already
            // retried with a new nonce (RFC 8555 section 6.5).
            Some(NO_ACCOUNT | BAD_NONCE | SERVER_INTERNAL) => FailureKind::Unreachable,
            _ => FailureKind::Refused,
        },
        _ => FailureKind::Unreachable,
    };
    let error = with_causes(error);
    let error = if trouble == FailureKind::Unreachable { at_directory(&error, issuer) } else { error };
    IssuanceFailure { trouble, error }
}

/// Adds the directory URL, and a hint if the server's certificate is not trusted.
fn at_directory(error: &str, issuer: &Issuer) -> String {
    let hint = match &issuer.authorities {
        _ if !["UnknownIssuer", "BadSignature"].iter().any(|kind| error.contains(kind)) => "",
        Some(_) => "; its certificate does not come from `directory_ca`",
        None => "; the system does not know who issued its certificate: write that authority as `directory_ca`",
    };
    format!("{}: {error}{hint}", issuer.directory)
}

/// An error and its causes, without repetitions.
fn with_causes(error: &dyn StdError) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let more = error.to_string();
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        cause = error.source();
    }
    text
}

/// Runs a function that blocks on the file system.
pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(io::Error::other)?
}

/// A challenge that is answered until this value is dropped. Its file is removed on a blocking thread, because orders
/// run on the control thread.
struct Answered(Option<PendingChallenge>);

impl Drop for Answered {
    fn drop(&mut self) {
        let pending = self.0.take();
        match Handle::try_current() {
            Ok(runtime) => drop(runtime.spawn_blocking(move || drop(pending))),
            Err(_) => drop(pending),
        }
    }
}

struct Dialogue<'a> {
    managed: &'a AcmeCerts,
    challenges: &'a Arc<Challenges>,
    last: LastRefusal,
}

impl Dialogue<'_> {
    /// `other_address`: the account credentials, if the configured contact address has changed.
    async fn run(
        &self,
        account: &instant_acme::Account,
        other_address: Option<AccountCredentials>,
    ) -> Result<Vec<u8>, OrderError> {
        if let Some(credentials) = other_address {
            let contact = contact(&self.managed.issuer);
            account.update_contacts(&contact.iter().map(String::as_str).collect::<Vec<_>>()).await?;
            keep(&self.managed.issuer, credentials).await?;
        }
        let identifiers = [Identifier::Dns(self.managed.name.to_string())];
        let mut order = account.new_order(&NewOrder::new(&identifiers)).await?;
        // The challenges are answered until the server has validated them.
        let pending = self.prove(&mut order).await?;
        let ready = order.poll_ready(&ORDER_TIMEOUT).await;
        drop(pending);
        match ready {
            Ok(OrderStatus::Ready) => {}
            Ok(_) => return Err(self.why_not(&mut order).await.unwrap_or_else(unsaid).into()),
            Err(error @ Error::Api(_)) => return Err(self.why_not(&mut order).await.map_or(error.into(), Into::into)),
            Err(error) => return Err(error.into()),
        }
        let (key, request) = request(&self.managed.name)?;
        order.finalize_csr(&request).await?;
        let chain = order.poll_certificate(&ORDER_TIMEOUT).await?;
        Ok(format!("{key}{chain}").into_bytes())
    }

    /// Loads the stored account or creates one. A file lock serializes this, so that processes that start together
    /// create one account.
    async fn account(&self) -> Result<(instant_acme::Account, Option<AccountCredentials>), OrderError> {
        let issuer = Arc::clone(&self.managed.issuer);
        let stored = blocking(move || Ok((storage::take_account(&issuer)?, storage::account(&issuer)?))).await;
        let (_lock, stored) = stored.map_err(|error| IssuanceFailure::local("the account cannot be read", &error))?;
        let issuer = &self.managed.issuer;
        if let Some(stored) = stored {
            // The builder consumes the credentials. The copy is written again only if the contact address has changed.
            let copy =
                serde_json::to_value(&stored.credentials).and_then(serde_json::from_value).map_err(Error::from)?;
            let account = self.builder()?.from_credentials(stored.credentials).await?;
            return Ok((account, (stored.email != issuer.email).then_some(copy)));
        }
        let contact = contact(issuer);
        let contact: Vec<&str> = contact.iter().map(String::as_str).collect();
        let new = NewAccount { contact: &contact, terms_of_service_agreed: true, only_return_existing: false };
        let (account, credentials) = self.builder()?.create(&new, issuer.directory.clone(), None).await?;
        keep(issuer, credentials).await?;
        tracing::info!(directory = issuer.directory, "an account was made with this ACME server");
        Ok((account, None))
    }

    fn builder(&self) -> Result<instant_acme::AccountBuilder, IssuanceFailure> {
        let http = Http::new(self.managed.issuer.authorities.as_deref(), Arc::clone(&self.last));
        let http = http.map_err(|error| IssuanceFailure { trouble: FailureKind::Local, error })?;
        Ok(instant_acme::Account::builder_with_http(Box::new(http)))
    }

    /// Answers the challenges of all authorizations and tells the server to validate them.
    async fn prove(&self, order: &mut Order) -> Result<Vec<Answered>, OrderError> {
        let mut pending = Vec::new();
        let mut authorizations = order.authorizations();
        while let Some(authorization) = authorizations.next().await {
            let mut authorization = authorization?;
            match authorization.status {
                AuthorizationStatus::Valid => {}
                AuthorizationStatus::Pending => pending.push(self.answer(&mut authorization).await?),
                status => return Err(IssuanceFailure::refused(format!("the authorization is {status:?}")).into()),
            }
        }
        Ok(pending)
    }

    async fn answer<'a>(&self, authorization: &'a mut AuthorizationHandle<'a>) -> Result<Answered, OrderError> {
        let (kind, what) = self.wanted();
        let Some(mut challenge) = authorization.challenge(kind) else {
            return Err(IssuanceFailure::refused(format!("the server has no challenge {what} for this name")).into());
        };
        let key = match self.managed.challenge {
            AcmeChallenge::Http01 => challenge.token.clone(),
            AcmeChallenge::TlsAlpn01 => self.managed.name.to_string(),
        };
        let (challenges, kind) = (Arc::clone(self.challenges), self.managed.challenge);
        let answer = challenge.key_authorization().as_str().to_owned();
        let pending = blocking(move || challenges.answer(kind, &key, &answer)).await;
        let pending = pending.map_err(|error| IssuanceFailure::local("the challenge cannot be answered", &error))?;
        let pending = Answered(Some(pending));
        challenge.set_ready().await?;
        Ok(pending)
    }

    fn wanted(&self) -> (ChallengeType, &'static str) {
        match self.managed.challenge {
            AcmeChallenge::Http01 => (ChallengeType::Http01, "http-01"),
            AcmeChallenge::TlsAlpn01 => (ChallengeType::TlsAlpn01, "tls-alpn-01"),
        }
    }

    /// The reason of a failed validation, which the server stores in the challenge object.
    async fn why_not(&self, order: &mut Order) -> Option<IssuanceFailure> {
        let mut authorizations = order.authorizations();
        while let Some(Ok(mut authorization)) = authorizations.next().await {
            let Ok(state) = authorization.refresh().await else { continue };
            if let Some(problem) = state.challenges.iter().find_map(|challenge| challenge.error.as_ref()) {
                return Some(IssuanceFailure::refused(problem.to_string()));
            }
        }
        None
    }
}

fn unsaid() -> IssuanceFailure {
    IssuanceFailure::refused("the server refused the order and does not say why")
}

/// The account's contact URL (RFC 8555 section 7.1.2).
fn contact(issuer: &Issuer) -> Option<String> {
    issuer.email.as_ref().map(|email| format!("mailto:{email}"))
}

async fn keep(issuer: &Arc<Issuer>, credentials: AccountCredentials) -> Result<(), IssuanceFailure> {
    let (issuer, account) = (Arc::clone(issuer), storage::Account { email: issuer.email.clone(), credentials });
    let stored = blocking(move || storage::keep_account(&issuer, &account)).await;
    stored.map_err(|error| IssuanceFailure::local("the account cannot be kept", &error))
}

/// A new private key (PEM) and a certificate signing request (DER) for it.
fn request(name: &str) -> Result<(String, Vec<u8>), IssuanceFailure> {
    let made = || {
        let mut params = CertificateParams::new([name.to_owned()])?;
        params.distinguished_name = DistinguishedName::new();
        let key = KeyPair::generate()?;
        let request = params.serialize_request(&key)?.der().to_vec();
        Ok::<_, rcgen::Error>((key.serialize_pem(), request))
    };
    made().map_err(|error| IssuanceFailure {
        trouble: FailureKind::Local,
        error: format!("no key could be made: {error}"),
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests {
    use super::super::http::RetryAfter;
    use super::*;

    #[test]
    fn errors_of_the_server_are_classified_by_type() {
        let (directory, folder) = ("https://ca.test/dir".to_owned(), "".into());
        let issuer = Issuer { directory, email: None, authorities: None, folder };
        let weighed = |kind: &str, refusal| {
            let kind = format!("urn:ietf:params:acme:error:{kind}");
            let problem = serde_json::from_value(serde_json::json!({ "type": kind, "detail": "so it is" })).unwrap();
            let last = LastRefusal::default();
            *last.lock() = refusal;
            judged(&Error::Api(problem), &last, &issuer).trouble
        };
        for (kind, trouble) in [
            ("badNonce", FailureKind::Unreachable),
            ("accountDoesNotExist", FailureKind::Unreachable),
            ("serverInternal", FailureKind::Unreachable),
            ("rateLimited", FailureKind::Limited(None)),
            ("rejectedIdentifier", FailureKind::Refused),
        ] {
            assert_eq!(weighed(kind, None), trouble, "{kind}");
        }
        let busy = Some(RetryAfter { limited: false, wait: Some(60) });
        assert_eq!(weighed("serverInternal", busy), FailureKind::Limited(Some(60)));
    }
}
