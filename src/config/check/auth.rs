//! `auth` and `routes[].auth`: validation of policies and references.

use super::super::node::DocumentPath;
use super::super::schema::{
    AuthSettings, ClientCertificateSettings, ForwardAuthSettings, ListenerConfig, RouteAuth, RouteSettings,
};
use super::super::values::{Name, Period};
use super::rate_limits::{header_name, references, refers_to};
use super::{Check, credential_policies, jwt};
use crate::auth::client_certificate::CertificateRule;

pub(super) fn check(check: &mut Check<'_>) {
    for (name, policy) in &check.document.auth {
        let at = DocumentPath::of("auth").key(name.as_str()).key(policy.kind());
        match policy {
            AuthSettings::ApiKeys(settings) => credential_policies::api_keys(check, &at, settings),
            AuthSettings::Basic(settings) => credential_policies::basic(check, &at, settings),
            AuthSettings::ClientCertificate(settings) => certificate(check, &at, settings),
            AuthSettings::Forward(settings) => forward(check, &at, settings),
            AuthSettings::Jwt(settings) => jwt::check(check, &at, settings),
        }
    }
    for (index, route) in check.document.routes.iter().enumerate() {
        let at = DocumentPath::of("routes").index(index).key("auth");
        references(check, &policies_of(check, &at, &route.auth), &route.auth.policies, "auth", "access policy");
        certificates_are_verified(check, &at, route);
    }
}

/// The warnings about policies of a valid document.
pub(super) fn warn(check: &mut Check<'_>) {
    for (name, policy) in &check.document.auth {
        if let AuthSettings::Jwt(settings) = policy {
            jwt::warn(check, &DocumentPath::of("auth").key(name.as_str()).key("jwt"), settings);
        }
    }
}

/// The path of the list of policies.
fn policies_of(check: &Check<'_>, at: &DocumentPath, auth: &RouteAuth) -> DocumentPath {
    let key = at.key(if auth.any { "any" } else { "all" });
    if check.is_written(&key) { key } else { at.clone() }
}

fn certificate(check: &mut Check<'_>, at: &DocumentPath, settings: &ClientCertificateSettings) {
    let ClientCertificateSettings { san, issuer, fingerprint } = settings;
    if let Err(bad) = CertificateRule::compile(san, issuer, fingerprint) {
        check.say(&at.key(bad.list).index(bad.index), bad.what, "Correct this entry");
    }
}

fn forward(check: &mut Check<'_>, at: &DocumentPath, settings: &ForwardAuthSettings) {
    refers_to(check, &at.key("upstream"), &settings.upstream, "upstreams", "upstream");
    let path = at.key("path");
    if !settings.path.starts_with('/') || settings.path.parse::<http::uri::PathAndQuery>().is_err() {
        let what = format!("{} is not a path", check.quote(&path, &settings.path));
        check.say(&path, what, "Write a path such as `/oauth2/auth`");
    }
    if settings.timeout == Period::ZERO {
        check.say(&at.key("timeout"), "an authorization request needs a deadline", "Write a time such as `2s`");
    }
    for (key, names) in
        [("request_headers", &settings.request_headers), ("response_headers", &settings.response_headers)]
    {
        for (index, name) in names.iter().enumerate() {
            header_name(check, &at.key(key).index(index), name);
        }
    }
}

/// `client_certificate` needs listeners that verify certificates.
fn certificates_are_verified(check: &mut Check<'_>, at: &DocumentPath, route: &RouteSettings) {
    let document = check.document;
    let needs = |name: &&Name| matches!(document.auth.get(*name), Some(AuthSettings::ClientCertificate(_)));
    let Some(policy) = route.auth.policies.iter().find(needs) else { return };
    let verifies = |listener: &ListenerConfig| listener.tls.as_ref().is_some_and(|tls| tls.client_auth.is_some());
    let serves = |listener: &ListenerConfig| match route.matches.listeners.as_slice() {
        [] => listener.redirect_https.0.is_none(),
        names => names.contains(&listener.label()),
    };
    let Some(index) = document.listeners.iter().position(|listener| serves(listener) && !verifies(listener)) else {
        return;
    };
    let place = DocumentPath::of("listeners").index(index);
    let listener = check.quote(&place.key("name"), &document.listeners[index].label());
    let what = format!("the policy `{policy}` needs client certificates, and the listener {listener} asks for none");
    let hint = "Write `tls: { client_auth: { mode: optional, ca: ca.pem } }` on the listener, or `match: { listeners: […] }` on the route";
    check.say_given(at, &[place], what, hint);
}
