//! The files that `auth` names: their paths and their check.

use std::path::Path;

use super::node::DocumentPath;
use super::schema::{AuthSettings, Document};
use crate::auth::BadAuthLine;
use crate::auth::api_keys::ApiKeys;
use crate::auth::basic::htpasswd::Users;
use crate::auth::jwt::KeySet;

/// A file that a policy names.
pub(super) struct AuthFile<'a> {
    /// The path of the key in the document.
    pub(super) place: DocumentPath,
    pub(super) path: &'a Path,
    pub(super) format: AuthFileFormat,
}

/// The content of a file of a policy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum AuthFileFormat {
    /// An htpasswd file.
    Users,
    /// Names and hashes of API keys.
    Keys,
    /// A JSON Web Key Set (RFC 7517).
    KeySet,
}

impl AuthFileFormat {
    /// The problems of a file, each with its line.
    pub(super) fn bad_lines(self, bytes: &[u8]) -> Vec<BadAuthLine> {
        match self {
            Self::Users => Users::parse(bytes).err(),
            Self::Keys => ApiKeys::parse(bytes).err(),
            Self::KeySet => bad_key_set(bytes).map(|what| vec![BadAuthLine { line: 1, what, hint: A_KEY_SET }]),
        }
        .unwrap_or_default()
    }
}

const A_KEY_SET: &str = "The file is a JSON Web Key Set: `{\"keys\": [...]}` with public keys";

/// The problem of a key set. A sound key for another purpose, such as encryption, is left out without a problem.
fn bad_key_set(bytes: &[u8]) -> Option<String> {
    match KeySet::parse(bytes) {
        Ok(parsed) => {
            let broken = parsed.skipped.iter().find(|key| key.broken)?;
            Some(format!("keys[{}]: {}", broken.index, broken.reason))
        }
        Err(error) => Some(error.to_string()),
    }
}

/// All files of `auth`.
pub(super) fn auth_files(document: &Document) -> Vec<AuthFile<'_>> {
    let policies = document.auth.iter().filter_map(|(name, policy)| {
        let place = DocumentPath::of("auth").key(name.as_str()).key(policy.kind());
        let file = |path, format| Some(AuthFile { place: place.key("file"), path, format });
        match policy {
            AuthSettings::Basic(settings) => file(settings.file.as_path(), AuthFileFormat::Users),
            AuthSettings::ApiKeys(settings) => file(settings.file.as_path(), AuthFileFormat::Keys),
            AuthSettings::Jwt(settings) => {
                let path = settings.jwks.as_ref()?.file()?;
                Some(AuthFile { place: place.key("jwks").key("file"), path, format: AuthFileFormat::KeySet })
            }
            AuthSettings::ClientCertificate(_) | AuthSettings::Forward(_) => None,
        }
    });
    policies.collect()
}
