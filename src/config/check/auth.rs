//! `auth`: validation of policies.

use super::super::node::DocumentPath;
use super::super::schema::AuthSettings;
use super::{Check, credential_policies};

pub(super) fn check(check: &mut Check<'_>) {
    for (name, policy) in &check.document.auth {
        let at = DocumentPath::of("auth").key(name.as_str()).key(policy.kind());
        match policy {
            AuthSettings::ApiKeys(settings) => credential_policies::api_keys(check, &at, settings),
            AuthSettings::Basic(settings) => credential_policies::basic(check, &at, settings),
        }
    }
}
