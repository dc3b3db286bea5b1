//! The configuration for the admin API: defaults filled in, secrets masked.

use std::collections::BTreeMap;

use serde_json::Value;

use super::schema::{Document, RouteDefaults, RouteSettings};

/// Replaces a secret.
const MASK: &str = "***";

/// Parts of names of header fields that carry credentials.
const SECRET: [&str; 8] = ["authorization", "cookie", "token", "secret", "password", "api-key", "apikey", "signature"];

/// The document as JSON. The values of header fields that carry credentials are masked.
///
/// # Errors
/// None in practice: every type of the document has a JSON form.
pub fn masked(document: &Document) -> Result<Value, serde_json::Error> {
    let mut value = serde_json::to_value(effective(document))?;
    mask(&mut value, false);
    Ok(value)
}

/// The keys of a route that can have a default, with their effective values; without those that Weir itself would choose.
///
/// # Errors
/// None in practice, as for `masked`.
pub fn effective_settings(route: &RouteSettings) -> Result<BTreeMap<String, Value>, serde_json::Error> {
    let document = Document { routes: vec![route.clone(), RouteSettings::default()], ..Document::default() };
    let mut routes = masked(&document)?;
    let keys = serde_json::to_value(RouteDefaults::default())?;
    let mut settings = BTreeMap::new();
    for key in keys.as_object().into_iter().flat_map(|keys| keys.keys()) {
        let (usual, value) = (routes["routes"][1][key].take(), routes["routes"][0][key].take());
        if value != usual {
            settings.insert(key.clone(), value);
        }
    }
    Ok(settings)
}

/// The document with the values that depend on other keys.
fn effective(document: &Document) -> Document {
    let mut document = document.clone();
    for timeouts in document.routes.iter_mut().map(|route| &mut route.timeouts) {
        timeouts.first_byte.get_or_insert(timeouts.read);
    }
    document
}

/// Masks the values below a value. `fields` tells whether its keys are names of header fields.
fn mask(value: &mut Value, fields: bool) {
    match value {
        Value::Object(map) => {
            for (key, inner) in map {
                if fields && inner.is_string() && is_secret(key) {
                    *inner = MASK.into();
                } else {
                    mask(inner, matches!(key.as_str(), "headers" | "set" | "add"));
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(|item| mask(item, false)),
        _ => {}
    }
}

/// Whether a header field of that name carries a credential.
pub(super) fn is_secret(header: &str) -> bool {
    let header = header.to_ascii_lowercase();
    SECRET.iter().any(|part| header.contains(part))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests {
    use super::super::tests::parsed;
    use super::*;

    #[test]
    fn masks_credentials_and_nothing_else() {
        let document = parsed(
            "listeners: [{ address: '127.0.0.1:0' }]
routes:
  - upstream: cookie
    match: { headers: { X-Api-Key: hunter2, x-canary: '1' } }
    request_headers: { set: { Authorization: Bearer hunter2 }, add: { cookie: a=hunter2 } }
upstreams:
  cookie:
    backends: [{ address: 'a:1' }]
    health_check: { http: { headers: { authorization: hunter2, accept: '*/*' } } }
",
        );
        let text = masked(&document).unwrap().to_string();
        assert!(!text.contains("hunter2"), "{text}");
        assert!(text.contains(r#""x-canary":"1""#) && text.contains(r#""accept":"*/*""#));
        assert!(text.contains(r#""upstream":"cookie""#));
    }
}
