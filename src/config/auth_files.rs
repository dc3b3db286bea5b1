//! The files that `auth` names: their paths and their check.

use std::path::Path;

use super::node::DocumentPath;
use super::schema::{AuthSettings, Document};
use crate::auth::BadAuthLine;
use crate::auth::api_keys::ApiKeys;
use crate::auth::basic::htpasswd::Users;

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
}

impl AuthFileFormat {
    /// The problems of a file, each with its line.
    pub(super) fn bad_lines(self, bytes: &[u8]) -> Vec<BadAuthLine> {
        match self {
            Self::Users => Users::parse(bytes).err(),
            Self::Keys => ApiKeys::parse(bytes).err(),
        }
        .unwrap_or_default()
    }
}

/// All files of `auth`.
pub(super) fn auth_files(document: &Document) -> Vec<AuthFile<'_>> {
    let policies = document.auth.iter().filter_map(|(name, policy)| {
        let place = DocumentPath::of("auth").key(name.as_str()).key(policy.kind()).key("file");
        match policy {
            AuthSettings::Basic(settings) => {
                Some(AuthFile { place, path: &settings.file, format: AuthFileFormat::Users })
            }
            AuthSettings::ApiKeys(settings) => {
                Some(AuthFile { place, path: &settings.file, format: AuthFileFormat::Keys })
            }
            AuthSettings::ClientCertificate(_) | AuthSettings::Forward(_) => None,
        }
    });
    policies.collect()
}
