//! The access policies of a route, compiled.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use http::{HeaderName, Method, header};
use pingora::http::RequestHeader;

use super::Targets;
use super::forward_auth::ForwardAuth;
use super::jwt_policy;
use crate::auth::BadAuthLine;
use crate::auth::api_keys::{ApiKeyPolicy, ApiKeys};
use crate::auth::basic::{BadRealm, BasicPolicy, PasswordVerifier, htpasswd::Users};
use crate::auth::client_certificate::CertificateRule;
use crate::auth::jwt::{JwtPolicy, KeyStore};
use crate::config::ValidatedConfig;
use crate::config::schema::{AuthException, AuthSettings, ClientCertificateSettings, RouteAuth, RouteTimeouts};
use crate::config::values::Name;
use crate::telemetry::access_meters::AccessMeters;

/// One of `auth`, compiled.
#[derive(Debug)]
pub struct AccessPolicy {
    /// Its name.
    pub name: Name,
    /// How it decides.
    pub kind: AccessPolicyKind,
    /// Whether the backend gets the credentials.
    pub forwards_credentials: bool,
    /// Its meters.
    pub meters: Arc<AccessMeters>,
}

impl AccessPolicy {
    /// The fields of the request that only this policy may set.
    pub fn own_fields(&self) -> &[HeaderName] {
        match &self.kind {
            AccessPolicyKind::ApiKeys(_) | AccessPolicyKind::Basic(_) | AccessPolicyKind::ClientCertificate(_) => &[],
            AccessPolicyKind::Forward(forward) => forward.fields.own_fields(),
            AccessPolicyKind::Jwt(jwt) => jwt.fields.names(),
        }
    }
}

/// How a policy decides.
#[derive(Debug)]
pub enum AccessPolicyKind {
    /// By a key.
    ApiKeys(ApiKeyPolicy),
    /// By a user and a password.
    Basic(BasicPolicy),
    /// By the client's certificate.
    ClientCertificate(CertificateRule),
    /// By a request to an authorization server.
    Forward(ForwardAuth),
    /// By a token.
    Jwt(Box<JwtPolicy>),
}

/// `routes[].auth`, compiled.
#[derive(Debug)]
pub struct RouteAccess {
    /// The policies, in the order in which they are applied.
    pub policies: Box<[Arc<AccessPolicy>]>,
    /// Whether one policy is enough.
    pub any: bool,
    /// Whether CORS preflight requests pass.
    passes_preflight: bool,
}

/// All policies of a document.
pub(super) type AccessPolicies = BTreeMap<Name, Arc<AccessPolicy>>;

/// Compiles `auth`.
///
/// # Errors
/// A gap in the checks: the path of the policy, and the problem.
pub(super) fn compile(
    checked: &ValidatedConfig,
    targets: &mut Targets<'_>,
    key_store: &KeyStore,
) -> Result<AccessPolicies, (String, String)> {
    let mut policies = AccessPolicies::new();
    for (name, settings) in &checked.document().auth {
        let kind =
            policy(name, settings, targets, (checked, key_store)).map_err(|what| (format!("auth.{name}"), what))?;
        let meters = targets.metrics.access_policy(name.as_str());
        policies.insert(
            name.clone(),
            Arc::new(AccessPolicy {
                name: name.clone(),
                kind,
                forwards_credentials: forwards_credentials(settings),
                meters,
            }),
        );
    }
    Ok(policies)
}

fn forwards_credentials(settings: &AuthSettings) -> bool {
    match settings {
        AuthSettings::ApiKeys(settings) => settings.forward,
        AuthSettings::Basic(settings) => settings.forward,
        AuthSettings::ClientCertificate(_) | AuthSettings::Forward(_) => true,
        AuthSettings::Jwt(settings) => settings.forward_token,
    }
}

fn policy(
    name: &Name,
    settings: &AuthSettings,
    targets: &mut Targets<'_>,
    (checked, key_store): (&ValidatedConfig, &KeyStore),
) -> Result<AccessPolicyKind, String> {
    let content = |path: &Path| checked.file(path).ok_or_else(|| format!("no content of {}", path.display()));
    let bad = |lines: Vec<BadAuthLine>| lines.first().map(BadAuthLine::to_string).unwrap_or_default();
    Ok(match settings {
        AuthSettings::ApiKeys(settings) => {
            let keys = ApiKeys::parse(content(&settings.file)?).map_err(bad)?;
            let location = settings.location().ok_or("no place of the key")?;
            AccessPolicyKind::ApiKeys(ApiKeyPolicy::new(keys, location))
        }
        AuthSettings::Basic(settings) => {
            let users = Users::parse(content(&settings.file)?).map_err(bad)?;
            let realm = settings.realm(name).parse().map_err(|bad: BadRealm| bad.to_string())?;
            let verifier = PasswordVerifier::shared().map_err(|error| error.to_string())?;
            AccessPolicyKind::Basic(BasicPolicy::new(name.as_str(), realm, users, verifier))
        }
        AuthSettings::ClientCertificate(ClientCertificateSettings { san, issuer, fingerprint }) => {
            let rule = CertificateRule::compile(san, issuer, fingerprint).map_err(|bad| bad.what)?;
            AccessPolicyKind::ClientCertificate(rule)
        }
        AuthSettings::Forward(settings) => {
            let target = targets.find(&settings.upstream, &RouteTimeouts::default())?;
            AccessPolicyKind::Forward(ForwardAuth::compile(settings, target)?)
        }
        AuthSettings::Jwt(settings) => {
            AccessPolicyKind::Jwt(Box::new(jwt_policy::compile(settings, checked, key_store)?))
        }
    })
}

impl RouteAccess {
    /// Whether the request needs no policy: a CORS preflight request (Fetch Standard, "CORS-preflight request").
    pub fn passes(&self, request: &RequestHeader) -> bool {
        self.passes_preflight
            && request.method == Method::OPTIONS
            && request.headers.contains_key(header::ACCESS_CONTROL_REQUEST_METHOD)
    }

    /// Compiles `routes[].auth`. `None` if no policy applies.
    ///
    /// # Errors
    /// There is no such policy: a gap in the checks.
    pub(super) fn compile(auth: &RouteAuth, policies: &AccessPolicies) -> Result<Option<Self>, String> {
        if auth.is_empty() {
            return Ok(None);
        }
        let find = |name: &Name| policies.get(name).cloned().ok_or_else(|| format!("no access policy `{name}`"));
        Ok(Some(Self {
            policies: auth.policies.iter().map(find).collect::<Result<_, _>>()?,
            any: auth.any,
            passes_preflight: auth.except.contains(&AuthException::Preflight),
        }))
    }
}
