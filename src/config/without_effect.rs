//! Settings that are valid and have no effect yet. The operator is told about them.

use super::schema::{Document, LimitKey};

/// One line for each such setting.
pub fn without_effect(document: &Document) -> Vec<String> {
    let without_identity = document.rate_limits.iter().filter_map(|(name, limit)| {
        let key = match limit.key {
            LimitKey::Identity => "identity",
            LimitKey::Claim(_) => "claim",
            _ => return None,
        };
        Some(format!(
            "rate_limits.{name}.key: no request has a value for `{key}` yet, so `missing` applies to all requests"
        ))
    });
    without_identity.collect()
}

#[cfg(test)]
mod tests {
    use super::super::tests::parsed;
    use super::*;

    #[test]
    fn keys_that_need_access_control_are_named() {
        let limits = "rate_limits: { a: { rate: 1/1s, key: identity }, b: { rate: 1/1s, key: { claim: sub } }, c: { rate: 1/1s } }\n";
        let lines = without_effect(&parsed(&format!("{limits}listeners: [{{ address: '127.0.0.1:1' }}]\n")));
        assert_eq!(lines.len(), 2, "{lines:?}");
        assert!(lines[0].starts_with("rate_limits.a.key: no request has a value for `identity`"));
    }
}
