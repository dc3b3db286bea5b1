//! `routes[].match`: the conditions that a request must meet.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::path::Path;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::super::values::{Cidr, HostPattern, Method, Pattern};
use super::ValueMatch;

/// `routes[].match`: every condition that is set must hold.
#[derive(Debug, Clone, PartialEq, Default, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Match {
    /// Names of listeners. The route exists only on these; empty: on all listeners.
    pub listeners: Vec<String>,
    /// Host names without a port; `*.example.org` matches subdomains of any depth.
    pub hosts: Vec<HostPattern>,
    /// Exactly this path. `*` matches `OPTIONS *`.
    pub path: Option<String>,
    /// This path and all paths below it, by whole segments.
    pub path_prefix: Option<String>,
    /// A regular expression that is searched for in the path (not anchored).
    pub path_regex: Option<Pattern>,
    /// Any of these methods.
    pub methods: Vec<Method>,
    /// Conditions on header fields: a value, `{ regex: … }`, `{ present: true }` or `{ not: … }`. If a field occurs
    /// several times, one of its values must fulfil the condition.
    pub headers: BTreeMap<String, ValueMatch>,
    /// The same for query parameters, by their decoded names and values.
    pub query: BTreeMap<String, ValueMatch>,
    /// The same for cookies.
    pub cookies: BTreeMap<String, ValueMatch>,
    /// Any of these networks contains the client's address.
    pub client: Vec<Cidr>,
}

impl Match {
    /// The match with the texts of the files that its conditions name.
    ///
    /// # Errors
    /// A file was not read, or a line is not valid.
    pub fn loaded(&self, file: &dyn Fn(&Path) -> Option<Vec<u8>>) -> Result<Cow<'_, Self>, String> {
        let mut conditions = self.headers.values().chain(self.query.values()).chain(self.cookies.values());
        if conditions.all(|condition| condition.file().is_none()) {
            return Ok(Cow::Borrowed(self));
        }
        let mut loaded = self.clone();
        for conditions in [&mut loaded.headers, &mut loaded.query, &mut loaded.cookies] {
            for condition in conditions.values_mut() {
                *condition = condition.clone().loaded(file)?;
            }
        }
        Ok(Cow::Owned(loaded))
    }
}
