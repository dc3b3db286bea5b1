//! Paths and queries of request targets as text: percent-encoding of unusual bytes, and the normal form of a path.
//!
//! Routes are matched on the normal form. Without it `/%61dmin` and `/x/../admin` would pass by a route for `/admin` and
//! reach it at a backend that resolves them. It changes no request itself.

use std::borrow::Cow;

use percent_encoding::{AsciiSet, percent_encode};

/// ASCII that no URI contains (RFC 3986 section 2) but that clients send. `|` and `^` are not among them: most servers
/// take these as they are.
const UNUSUAL: &AsciiSet = &AsciiSet::EMPTY.add(b'"').add(b'<').add(b'>').add(b'{').add(b'}').add(b'\\').add(b'`');

/// How to read a path beyond RFC 3986 (`listeners[].paths`).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Rules {
    /// `%2F` separates segments, like a slash.
    pub decode_slash: bool,
    /// Slashes in a row count as one.
    pub merge_slashes: bool,
}

/// Percent-encodes bytes from 0x80 on and `" < > { } \` and backtick. All other bytes stay as they are.
pub fn encode_unusual(text: &[u8]) -> Cow<'_, [u8]> {
    match Cow::from(percent_encode(text, UNUSUAL)) {
        Cow::Borrowed(same) => Cow::Borrowed(same.as_bytes()),
        Cow::Owned(encoded) => Cow::Owned(encoded.into_bytes()),
    }
}

/// The normal form of a path (RFC 3986 sections 6.2.2.1 to 6.2.2.3): percent-encoded unreserved characters are decoded,
/// other percent-encodings are in upper case, dot segments are removed. The rules come before the dot segments. Copies
/// only if something changes.
pub fn normalise(path: &str, rules: Rules) -> Cow<'_, str> {
    let decoded = if path.contains('%') { decode(path, rules.decode_slash).into() } else { Cow::Borrowed(path) };
    let merged = if rules.merge_slashes && decoded.contains("//") { merge(&decoded).into() } else { decoded };
    if merged.contains("/.") { remove_dots(&merged).into() } else { merged }
}

/// The normal form of a path that stands in the configuration, where it may contain unusual bytes.
pub fn configured(path: &str) -> String {
    let encoded = percent_encode(path.as_bytes(), UNUSUAL).to_string();
    normalise(&encoded, Rules::default()).into_owned()
}

/// The same for a prefix, which has no slash at its end: whole segments are compared.
pub fn configured_prefix(path: &str) -> String {
    let mut prefix = configured(path);
    prefix.truncate(prefix.trim_end_matches('/').len());
    prefix
}

/// Whether a slash is percent-encoded in the path.
pub fn has_encoded_slash(path: &str) -> bool {
    path.as_bytes().windows(3).any(|three| three.eq_ignore_ascii_case(b"%2f"))
}

fn decode(path: &str, decode_slash: bool) -> String {
    let mut decoded = String::with_capacity(path.len());
    let mut rest = path;
    while let Some(at) = rest.find('%') {
        decoded.push_str(&rest[..at]);
        let digits = rest.get(at + 1..at + 3).filter(|digits| digits.bytes().all(|b| b.is_ascii_hexdigit()));
        let Some(digits) = digits else {
            decoded.push('%');
            rest = &rest[at + 1..];
            continue;
        };
        match u8::from_str_radix(digits, 16) {
            Ok(b'/') if decode_slash => decoded.push('/'),
            Ok(byte) if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) => decoded.push(char::from(byte)),
            _ => decoded.extend(["%", &digits.to_ascii_uppercase()]),
        }
        rest = &rest[at + 3..];
    }
    decoded.push_str(rest);
    decoded
}

fn merge(path: &str) -> String {
    let mut merged = String::with_capacity(path.len());
    for c in path.chars() {
        if c != '/' || !merged.ends_with('/') {
            merged.push(c);
        }
    }
    merged
}

/// RFC 3986 section 5.2.4.
fn remove_dots(path: &str) -> String {
    let mut kept = String::with_capacity(path.len());
    let mut segments = path.split('/').skip(1).peekable();
    while let Some(segment) = segments.next() {
        let last = segments.peek().is_none();
        match segment {
            "." | ".." => {
                if segment == ".." {
                    kept.truncate(kept.rfind('/').unwrap_or(0));
                }
                if last {
                    kept.push('/');
                }
            }
            _ => kept.extend(["/", segment]),
        }
    }
    kept
}

#[cfg(test)]
#[path = "path_tests.rs"]
mod tests;
