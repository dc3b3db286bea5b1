//! Type resolution of a plain YAML scalar by the core schema of YAML 1.2, so `no` and `on` are text.
//!
//! A number with leading zeros is text as well: YAML 1.1 reads it as octal, YAML 1.2 as decimal.

use super::node::NodeKind;

/// The type and value of a plain scalar.
pub(super) fn resolve(text: &str) -> NodeKind {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => NodeKind::Null,
        "true" | "True" | "TRUE" => NodeKind::Bool(true),
        "false" | "False" | "FALSE" => NodeKind::Bool(false),
        _ => whole(text).or_else(|| real(text)).unwrap_or_else(|| NodeKind::Text(text.to_owned())),
    }
}

fn whole(text: &str) -> Option<NodeKind> {
    let radix = |digits: &str, radix| {
        let fits = !digits.is_empty() && digits.len() <= 24 && digits.chars().all(|c| c.is_digit(radix));
        fits.then(|| i128::from_str_radix(digits, radix).ok()).flatten()
    };
    if let Some(digits) = text.strip_prefix("0x") {
        return radix(digits, 16).map(NodeKind::Int);
    }
    if let Some(digits) = text.strip_prefix("0o") {
        return radix(digits, 8).map(NodeKind::Int);
    }
    let digits = text.strip_prefix(['-', '+']).unwrap_or(text);
    if digits.len() > 1 && digits.starts_with('0') {
        return None;
    }
    let number = radix(digits, 10)?;
    Some(NodeKind::Int(if text.starts_with('-') { -number } else { number }))
}

fn real(text: &str) -> Option<NodeKind> {
    match text.strip_prefix(['-', '+']).unwrap_or(text) {
        ".inf" | ".Inf" | ".INF" => {
            return Some(NodeKind::Float(if text.starts_with('-') { f64::NEG_INFINITY } else { f64::INFINITY }));
        }
        digits if !digits.starts_with(|c: char| c.is_ascii_digit() || c == '.') => return None,
        digits if digits.len() > 1 && digits.starts_with('0') && !digits.starts_with("0.") => return None,
        _ => {}
    }
    if text == ".nan" || text == ".NaN" || text == ".NAN" {
        return Some(NodeKind::Float(f64::NAN));
    }
    let shape = text.chars().all(|c| c.is_ascii_digit() || "+-.eE".contains(c));
    shape.then(|| text.parse().ok()).flatten().map(NodeKind::Float)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn follows_the_core_schema() {
        assert!(matches!(resolve(""), NodeKind::Null));
        assert!(matches!(resolve("True"), NodeKind::Bool(true)));
        assert!(matches!(resolve("0x1f"), NodeKind::Int(31)));
        assert!(matches!(resolve("-12"), NodeKind::Int(-12)));
        assert!(matches!(resolve("1.5e3"), NodeKind::Float(_)));
        assert!(matches!(resolve(".nan"), NodeKind::Float(_)));
        for text in
            ["no", "on", "010", "1_000", "20%", "200-299", "10s", "0x", "-", "1.2.3.4", "127.0.0.1:80", "infinity"]
        {
            assert!(matches!(resolve(text), NodeKind::Text(_)), "{text}");
        }
    }
}
