//! Claims that are forwarded to the backend in header fields.
//!
//! The proxy removes every field of [`ClaimFields::names`] from the client's request, whether or not the token has the
//! claim. CGI maps names such as `x_user` and `x-user` to one name, so it compares them as `message::cgi_name::same`
//! does.

use http::{HeaderName, HeaderValue};
use serde_json::Value;

use super::ClaimPath;
use crate::auth::Identity;

/// Maximum size of a field value, in bytes. A field with a longer value is left out.
const MAX_VALUE_BYTES: usize = 4 << 10;

/// The header fields that carry claims.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ClaimFields {
    names: Vec<HeaderName>,
    claims: Vec<ClaimPath>,
}

impl ClaimFields {
    /// The fields with these names, each with the place of its claim.
    pub fn new(fields: impl IntoIterator<Item = (HeaderName, ClaimPath)>) -> Self {
        let (names, claims) = fields.into_iter().unzip();
        Self { names, claims }
    }

    /// The names that only Weir may set.
    pub fn names(&self) -> &[HeaderName] {
        &self.names
    }

    /// The fields of an identity. A claim that no field can carry unchanged is left out.
    pub fn of<'a>(&'a self, identity: &'a Identity) -> impl Iterator<Item = (&'a HeaderName, HeaderValue)> {
        let value = |path: &ClaimPath| value(path.find(&identity.claims)?);
        self.names.iter().zip(&self.claims).filter_map(move |(name, path)| Some((name, value(path)?)))
    }
}

fn value(claim: &Value) -> Option<HeaderValue> {
    let text = match claim {
        Value::Array(elements) => {
            // An element with a comma would look like two.
            let text = |element: &Value| scalar(element).filter(|text| !text.contains(','));
            let elements: Vec<String> = elements.iter().filter_map(text).collect();
            elements.join(",")
        }
        one => scalar(one)?,
    };
    (1..=MAX_VALUE_BYTES).contains(&text.len()).then(|| HeaderValue::from_str(&text).ok())?
}

/// Text of visible characters, with spaces only inside. Removing other characters would change one name into another.
fn scalar(claim: &Value) -> Option<String> {
    let text = match claim {
        Value::String(text) => text.clone(),
        Value::Bool(_) | Value::Number(_) => claim.to_string(),
        Value::Null | Value::Array(_) | Value::Object(_) => return None,
    };
    let is_visible = text.bytes().all(|byte| matches!(byte, b' '..=b'~'));
    (is_visible && !text.is_empty() && text.trim_ascii().len() == text.len()).then_some(text)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests {
    use std::sync::Arc;

    use serde_json::json;

    use super::*;

    fn field(claim: Value) -> Option<String> {
        let fields = ClaimFields::new([("x-user".parse().unwrap(), ClaimPath::new("c"))]);
        let claims = json!({ "c": claim }).as_object().unwrap().clone();
        let identity = Identity { name: "".into(), claims: Arc::new(claims) };
        fields.of(&identity).next().map(|(_, value)| value.to_str().unwrap().to_owned())
    }

    #[test]
    fn strings_numbers_booleans_and_arrays_are_forwarded() {
        assert_eq!(field(json!("Ann Lee")).as_deref(), Some("Ann Lee"));
        assert_eq!(field(json!(42)).as_deref(), Some("42"));
        assert_eq!(field(json!(true)).as_deref(), Some("true"));
        assert_eq!(field(json!(["a", 1, false])).as_deref(), Some("a,1,false"));
        for other in [json!(null), json!({"a": 1}), json!([]), json!([[1]]), json!("")] {
            assert_eq!(field(other.clone()), None, "{other}");
        }
    }

    #[test]
    fn a_value_that_a_backend_could_read_differently_is_left_out() {
        for text in ["a\r\nx-admin: 1", "a\0", "a\tb", "J\u{fc}rgen", "\u{7f}", " admin", "admin "] {
            assert_eq!(field(json!(text)), None, "{text:?}");
        }
        assert_eq!(field(json!(["user,admin", "x"])).as_deref(), Some("x"), "an element cannot become two");
        assert_eq!(field(json!(["user\n", " y", "z"])).as_deref(), Some("z"));
        assert_eq!(field(json!("CN=a,OU=b")).as_deref(), Some("CN=a,OU=b"), "a string is one value");
    }

    #[test]
    fn a_field_has_at_most_4_kib() {
        assert!(field(json!("a".repeat(4096))).is_some());
        assert_eq!(field(json!("a".repeat(4097))), None);
        assert_eq!(field(json!(vec!["aaaaaaaa"; 512])), None);
    }

    #[test]
    fn a_missing_claim_yields_no_field_but_its_name_is_reserved() {
        let fields = ClaimFields::new([("x-user".parse().unwrap(), ClaimPath::new("none"))]);
        let identity = Identity { name: "".into(), claims: Arc::default() };
        assert_eq!(fields.of(&identity).count(), 0);
        assert_eq!(fields.names(), ["x-user"]);
    }
}
