//! `auth`: validation of access policies.

use super::super::node::DocumentPath;
use super::{Check, jwt};

pub(super) fn check(check: &mut Check<'_>) {
    for (name, policy) in &check.document.auth {
        let at = DocumentPath::of("auth").key(name.as_str());
        if let Some(settings) = &policy.jwt {
            jwt::check(check, &at.key("jwt"), settings);
        }
    }
}

/// The warnings about a valid document.
pub(super) fn warn(check: &mut Check<'_>) {
    for (name, policy) in &check.document.auth {
        let at = DocumentPath::of("auth").key(name.as_str());
        if let Some(settings) = &policy.jwt {
            jwt::warn(check, &at.key("jwt"), settings);
        }
    }
}
