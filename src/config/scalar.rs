//! What a plain YAML scalar stands for: the core schema of YAML 1.2, so `no` and `on` are text.
//!
//! A number with leading zeros is text too: an octal of old and a decimal of now would be two readings of one line.

use super::node::Kind;

/// The kind of a plain scalar.
pub(super) fn resolve(text: &str) -> Kind {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => Kind::Null,
        "true" | "True" | "TRUE" => Kind::Bool(true),
        "false" | "False" | "FALSE" => Kind::Bool(false),
        _ => whole(text).or_else(|| real(text)).unwrap_or_else(|| Kind::Text(text.to_owned())),
    }
}

fn whole(text: &str) -> Option<Kind> {
    let radix = |digits: &str, radix| {
        let fits = !digits.is_empty() && digits.len() <= 24 && digits.chars().all(|c| c.is_digit(radix));
        fits.then(|| i128::from_str_radix(digits, radix).ok()).flatten()
    };
    if let Some(digits) = text.strip_prefix("0x") {
        return radix(digits, 16).map(Kind::Int);
    }
    if let Some(digits) = text.strip_prefix("0o") {
        return radix(digits, 8).map(Kind::Int);
    }
    let digits = text.strip_prefix(['-', '+']).unwrap_or(text);
    if digits.len() > 1 && digits.starts_with('0') {
        return None;
    }
    let number = radix(digits, 10)?;
    Some(Kind::Int(if text.starts_with('-') { -number } else { number }))
}

fn real(text: &str) -> Option<Kind> {
    match text.strip_prefix(['-', '+']).unwrap_or(text) {
        ".inf" | ".Inf" | ".INF" => {
            return Some(Kind::Float(if text.starts_with('-') { f64::NEG_INFINITY } else { f64::INFINITY }));
        }
        digits if !digits.starts_with(|c: char| c.is_ascii_digit() || c == '.') => return None,
        digits if digits.len() > 1 && digits.starts_with('0') && !digits.starts_with("0.") => return None,
        _ => {}
    }
    if text == ".nan" || text == ".NaN" || text == ".NAN" {
        return Some(Kind::Float(f64::NAN));
    }
    let shape = text.chars().all(|c| c.is_ascii_digit() || "+-.eE".contains(c));
    shape.then(|| text.parse().ok()).flatten().map(Kind::Float)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn follows_the_core_schema() {
        assert!(matches!(resolve(""), Kind::Null));
        assert!(matches!(resolve("True"), Kind::Bool(true)));
        assert!(matches!(resolve("0x1f"), Kind::Int(31)));
        assert!(matches!(resolve("-12"), Kind::Int(-12)));
        assert!(matches!(resolve("1.5e3"), Kind::Float(_)));
        assert!(matches!(resolve(".nan"), Kind::Float(_)));
        for text in
            ["no", "on", "010", "1_000", "20%", "200-299", "10s", "0x", "-", "1.2.3.4", "127.0.0.1:80", "infinity"]
        {
            assert!(matches!(resolve(text), Kind::Text(_)), "{text}");
        }
    }
}
