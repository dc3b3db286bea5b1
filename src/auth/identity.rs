//! The identity that an access policy found for a request.

use std::sync::Arc;

/// Maximum length of a name, in bytes. A longer one is cut.
const MAX_NAME_BYTES: usize = 256;

/// The verified sender of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// The user, the name of an API key, the `sub` of a token, or the name of a certificate.
    pub name: Arc<str>,
    /// The verified claims of a token. Empty for other policies.
    pub claims: Arc<serde_json::Map<String, serde_json::Value>>,
}

impl Identity {
    /// An identity without claims.
    pub fn named(name: &str) -> Self {
        Self { name: name[..name.floor_char_boundary(MAX_NAME_BYTES)].into(), claims: Arc::default() }
    }

    /// The text of a claim: a string, a number or a boolean. `a.b` names the member `b` of the claim `a`, unless there
    /// is a claim with that whole name.
    pub fn claim(&self, path: &str) -> Option<String> {
        let whole = self.claims.get(path);
        let mut steps = path.split('.');
        let first = steps.next().and_then(|step| self.claims.get(step));
        match whole.or_else(|| steps.try_fold(first?, |value, step| value.get(step)))? {
            serde_json::Value::String(text) => Some(text.clone()),
            value @ (serde_json::Value::Number(_) | serde_json::Value::Bool(_)) => Some(value.to_string()),
            _ => None,
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_claim_is_found_by_its_whole_name_or_by_its_path() {
        let claims =
            serde_json::json!({ "sub": "ann", "n": 7, "a.b": "whole", "a": { "b": "path", "c": true }, "l": [] });
        let serde_json::Value::Object(claims) = claims else { unreachable!() };
        let identity = Identity { claims: Arc::new(claims), ..Identity::named("ann") };
        let claims = ["sub", "n", "a.b", "a.c", "a", "l", "x", "a.x", "sub.x", ""].map(|path| identity.claim(path));
        let expected = [Some("ann"), Some("7"), Some("whole"), Some("true"), None, None, None, None, None, None];
        assert_eq!(claims, expected.map(|text| text.map(str::to_owned)));
    }

    #[test]
    fn a_long_name_is_cut_between_characters() {
        let name = Identity::named(&"é".repeat(300)).name;
        assert_eq!(name.len(), MAX_NAME_BYTES);
    }
}
