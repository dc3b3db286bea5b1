//! Patterns of media types: `text/html`, `text/*`, `*+json`.

use std::fmt;
use std::str::FromStr;

/// A pattern of one or more media types, in lower case.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum MediaPattern {
    /// This type: `application/json`.
    Exact(Box<str>),
    /// All subtypes of a type: `text/*`.
    Type(Box<str>),
    /// All types with a structured syntax suffix (RFC 6839): `*+json`.
    Suffix(Box<str>),
}

impl MediaPattern {
    /// Whether a Content-Type without its parameters matches. The case does not matter.
    pub fn matches(&self, media_type: &str) -> bool {
        let bytes = media_type.as_bytes();
        match self {
            Self::Exact(exact) => media_type.eq_ignore_ascii_case(exact),
            Self::Type(start) => {
                bytes.get(..start.len()).is_some_and(|found| found.eq_ignore_ascii_case(start.as_bytes()))
            }
            Self::Suffix(end) => bytes
                .len()
                .checked_sub(end.len())
                .is_some_and(|at| at > 0 && bytes[at..].eq_ignore_ascii_case(end.as_bytes())),
        }
    }
}

impl FromStr for MediaPattern {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("`{text}` is not a media type; write `text/html`, `text/*` or `*+json`");
        let token = |part: &str| {
            !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"!#$&-^_.+".contains(&byte))
        };
        let lower = text.to_ascii_lowercase();
        if let Some(suffix) = lower.strip_prefix("*+") {
            return if token(suffix) { Ok(Self::Suffix(format!("+{suffix}").into())) } else { Err(wrong()) };
        }
        match lower.split_once('/') {
            Some((kind, "*")) if token(kind) => Ok(Self::Type(format!("{kind}/").into())),
            Some((kind, subtype)) if token(kind) && token(subtype) => Ok(Self::Exact(lower.into())),
            _ => Err(wrong()),
        }
    }
}

impl fmt::Display for MediaPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exact(exact) => f.write_str(exact),
            Self::Type(start) => write!(f, "{start}*"),
            Self::Suffix(end) => write!(f, "*{end}"),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_matches_types_without_regard_to_case() {
        for (pattern, media_type, expected) in [
            ("text/*", "text/html", true),
            ("text/*", "TEXT/CSS", true),
            ("text/*", "texts/html", false),
            ("text/*", "text", false),
            ("*+json", "application/problem+json", true),
            ("*+json", "application/json", false),
            ("*+json", "+json", false),
            ("Application/JSON", "application/json", true),
            ("application/json", "application/json5", false),
        ] {
            let pattern: MediaPattern = pattern.parse().unwrap();
            assert_eq!(pattern.matches(media_type), expected, "{pattern} {media_type}");
        }
    }

    #[test]
    fn a_bad_pattern_is_refused() {
        for text in
            ["", "text", "text/", "/html", "*/*", "*", "*+", "text/html; charset=utf-8", "te xt/html", "text/h*"]
        {
            assert!(text.parse::<MediaPattern>().is_err(), "{text}");
        }
    }
}
