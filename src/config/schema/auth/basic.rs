//! `auth.*.basic`: users and passwords of an htpasswd file.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::config::values::Name;

/// `auth.*.basic`: users and passwords by HTTP Basic authentication (RFC 7617). Passwords are hashed on threads of their
/// own. At most 64 passwords wait; further requests get 503. Verified credentials pass without a hash for 5 minutes.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct BasicAuthSettings {
    /// An htpasswd file: one `USER:HASH` per line, with hashes of bcrypt, Argon2 or SHA-crypt. `htpasswd -nB USER` makes a
    /// line. A change of the file is applied without a reload.
    pub file: PathBuf,
    /// The name that a browser shows when it asks for a password: printable ASCII. Default: the name of the policy.
    #[serde(default)]
    pub realm: Option<String>,
    /// Forward the field Authorization to the backend. By default it is removed.
    #[serde(default)]
    pub forward: bool,
}

impl BasicAuthSettings {
    /// The realm of the policy with this name.
    pub fn realm<'a>(&'a self, name: &'a Name) -> &'a str {
        self.realm.as_deref().unwrap_or(name.as_str())
    }
}
