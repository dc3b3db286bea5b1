//! The key sets that `auth.*.jwt.jwks` names: their paths and their check.

use std::path::Path;

use super::node::DocumentPath;
use super::pem::FileFault;
use super::schema::{AuthPolicy, Document};
use super::values::Name;
use crate::auth::jwt::KeySet;

/// All files of key sets, with the paths of their keys in the document.
pub(super) fn key_set_files(document: &Document) -> Vec<(DocumentPath, &Path)> {
    document.auth.iter().filter_map(|(name, policy)| key_set_file(name, policy)).collect()
}

fn key_set_file<'a>(name: &Name, policy: &'a AuthPolicy) -> Option<(DocumentPath, &'a Path)> {
    let at = DocumentPath::of("auth").key(name.as_str()).key("jwt").key("jwks").key("file");
    Some((at, policy.jwt.as_ref()?.jwks.as_ref()?.file()?))
}

/// The problem of a key set. A sound key for another purpose, such as encryption, is left out without a problem.
pub(super) fn bad_key_set(bytes: &[u8]) -> Option<FileFault> {
    let hint = "It is a JSON Web Key Set: `{\"keys\": [...]}` with public keys";
    match KeySet::parse(bytes) {
        Ok(parsed) => {
            let broken = parsed.skipped.iter().find(|key| key.broken)?;
            Some((format!("keys[{}]: {}", broken.index, broken.reason), hint))
        }
        Err(error) => Some((error.to_string(), hint)),
    }
}
