//! Claims of a token: a path finds one, and a requirement compares it.

use serde_json::{Map, Value};

/// The place of a claim: a name such as `sub`, or names of nested objects such as `realm_access.roles`.
///
/// A member whose name is the whole path comes first, because names such as `https://example.com/roles` have dots too.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClaimPath(Box<str>);

impl ClaimPath {
    /// The path with this text.
    pub fn new(path: &str) -> Self {
        Self(path.into())
    }

    /// The text of the path.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The claim at this path.
    pub fn find<'a>(&self, claims: &'a Map<String, Value>) -> Option<&'a Value> {
        find(claims, &self.0)
    }
}

fn find<'a>(claims: &'a Map<String, Value>, path: &str) -> Option<&'a Value> {
    if let Some(value) = claims.get(path) {
        return Some(value);
    }
    let dots = path.match_indices('.').map(|(at, _)| at);
    dots.filter_map(|at| find(claims.get(&path[..at])?.as_object()?, &path[at + 1..])).next()
}

/// A claim that a token must have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequiredClaim {
    /// Its place.
    pub path: ClaimPath,
    /// The claim, or an element of it, must be one of these. Empty: any value except `null`.
    pub values: Vec<String>,
}

impl RequiredClaim {
    /// Whether the claims fulfil it.
    pub fn is_fulfilled(&self, claims: &Map<String, Value>) -> bool {
        match self.path.find(claims) {
            None | Some(Value::Null) => false,
            Some(_) if self.values.is_empty() => true,
            Some(Value::Array(elements)) => elements.iter().any(|element| self.accepts(element)),
            Some(value) => self.accepts(value),
        }
    }

    fn accepts(&self, value: &Value) -> bool {
        match value {
            Value::String(text) => self.values.iter().any(|accepted| accepted == text),
            Value::Bool(_) | Value::Number(_) => {
                let text = value.to_string();
                self.values.contains(&text)
            }
            _ => false,
        }
    }
}

/// Whether a token has a scope. `scope` is a list separated by spaces (RFC 8693 section 4.2). Some issuers write `scp`,
/// and some write an array.
pub(super) fn has_scope(claims: &Map<String, Value>, scope: &str) -> bool {
    ["scope", "scp"].into_iter().filter_map(|name| claims.get(name)).any(|value| match value {
        Value::String(list) => list.split(' ').any(|one| one == scope),
        Value::Array(list) => list.iter().any(|one| one == scope),
        _ => false,
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests {
    use serde_json::json;

    use super::*;

    fn claims(value: Value) -> Map<String, Value> {
        value.as_object().unwrap().clone()
    }

    #[test]
    fn a_path_finds_nested_claims_and_names_with_dots() {
        let claims = claims(json!({
            "sub": "u", "realm_access": {"roles": ["a"]}, "https://x.example/roles": ["b"],
            "resource": {"my.app": {"roles": ["c"]}}, "a": {"b": 1}, "a.b": 2, "flat": "x",
        }));
        let find = |path: &str| ClaimPath::new(path).find(&claims).cloned();
        assert_eq!(find("sub"), Some(json!("u")));
        assert_eq!(find("realm_access.roles"), Some(json!(["a"])));
        assert_eq!(find("https://x.example/roles"), Some(json!(["b"])));
        assert_eq!(find("resource.my.app.roles"), Some(json!(["c"])));
        assert_eq!(find("a.b"), Some(json!(2)), "the whole name comes first");
        for absent in ["", ".", "sub.x", "flat.", "realm_access.", "realm_access.none", "none", "..."] {
            assert_eq!(find(absent), None, "{absent}");
        }
    }

    #[test]
    fn a_required_claim_has_one_of_the_values() {
        let claims = claims(json!({
            "roles": ["user", "admin"], "verified": true, "level": 3, "none": null, "empty": [], "object": {"a": 1},
        }));
        let fulfilled = |path: &str, values: &[&str]| {
            let values = values.iter().map(|value| (*value).to_owned()).collect();
            RequiredClaim { path: ClaimPath::new(path), values }.is_fulfilled(&claims)
        };
        assert!(fulfilled("roles", &["admin"]) && fulfilled("roles", &["x", "user"]));
        assert!(!fulfilled("roles", &["adm"]) && !fulfilled("roles", &["user,admin"]));
        assert!(fulfilled("verified", &["true"]) && !fulfilled("verified", &["false"]));
        assert!(fulfilled("level", &["3"]) && !fulfilled("level", &["03"]));
        assert!(fulfilled("object", &[]) && !fulfilled("object", &["a"]) && !fulfilled("empty", &["a"]));
        assert!(!fulfilled("none", &[]) && !fulfilled("absent", &[]));
    }

    #[test]
    fn a_scope_is_a_whole_word_of_the_list() {
        let both = claims(json!({"scope": "read:x write", "scp": ["mail"]}));
        assert!(["read:x", "write", "mail"].iter().all(|scope| has_scope(&both, scope)));
        assert!(!["read", "rite", "", "read:x write", "Mail"].iter().any(|scope| has_scope(&both, scope)));
        assert!(!has_scope(&Map::new(), "read"));
        assert!(!has_scope(&claims(json!({"scope": {"read": true}, "scp": 1})), "read"));
    }
}
