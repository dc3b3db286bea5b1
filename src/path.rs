//! Normalization of paths, and percent-encoding of unusual bytes in request targets. It never changes the request
//! itself.
//!
//! Routes are matched on the normalized path. Otherwise `/%61dmin` and `/x/../admin` would bypass a route for `/admin`,
//! and a backend that resolves them would serve `/admin`.

use std::borrow::Cow;

use percent_encoding::{AsciiSet, percent_encode};

/// ASCII bytes that no URI contains (RFC 3986 section 2) but that clients send. `|` and `^` are not included: most
/// servers accept them unencoded.
const UNUSUAL: &AsciiSet = &AsciiSet::EMPTY.add(b'"').add(b'<').add(b'>').add(b'{').add(b'}').add(b'\\').add(b'`');

/// Normalization rules beyond RFC 3986 (`listeners[].paths`).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Rules {
    /// `%2F` separates segments, like a slash.
    pub decode_slash: bool,
    /// Several consecutive slashes count as one.
    pub merge_slashes: bool,
}

/// Percent-encodes bytes from 0x80 on and `" < > { } \` and backtick. All other bytes stay as they are.
pub fn encode_unusual(text: &[u8]) -> Cow<'_, [u8]> {
    match Cow::from(percent_encode(text, UNUSUAL)) {
        Cow::Borrowed(same) => Cow::Borrowed(same.as_bytes()),
        Cow::Owned(encoded) => Cow::Owned(encoded.into_bytes()),
    }
}

/// The normalized path (RFC 3986 sections 6.2.2.1 to 6.2.2.3). Percent-encoded unreserved characters are decoded, other
/// percent-encodings are in upper case, dot segments are removed. `rules` apply before the dot segments are removed.
/// Borrows the input if it has no `%`, no `/.`, and no `//` that is merged.
pub fn normalise(path: &str, rules: Rules) -> Cow<'_, str> {
    let decoded = if path.contains('%') { decode(path, rules.decode_slash).into() } else { Cow::Borrowed(path) };
    let merged = if rules.merge_slashes && decoded.contains("//") { merge(&decoded).into() } else { decoded };
    if merged.contains("/.") { remove_dots(&merged).into() } else { merged }
}

/// The normalized form of a path from the configuration, which may contain unusual bytes.
pub fn configured(path: &str) -> String {
    let encoded = percent_encode(path.as_bytes(), UNUSUAL).to_string();
    normalise(&encoded, Rules::default()).into_owned()
}

/// The normalized form of a path prefix. It has no slash at its end, because whole segments are compared.
pub fn configured_prefix(path: &str) -> String {
    let mut prefix = configured(path);
    prefix.truncate(prefix.trim_end_matches('/').len());
    prefix
}

/// Whether the path contains a percent-encoded slash.
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
            Ok(byte) if is_unreserved(byte) && !completes_encoding(&decoded, byte) => decoded.push(char::from(byte)),
            _ => decoded.extend(["%", &digits.to_ascii_uppercase()]),
        }
        rest = &rest[at + 3..];
    }
    decoded.push_str(rest);
    decoded
}

fn is_unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~".contains(&byte)
}

/// Whether this byte would form a new percent-encoding with a `%` that begins none: `%%32e` must not become `%2e`. A backend that gets
/// the normalized path would decode it once more.
fn completes_encoding(decoded: &str, byte: u8) -> bool {
    let is_open = match decoded.as_bytes() {
        [.., b'%'] => true,
        [.., b'%', digit] => digit.is_ascii_hexdigit(),
        _ => false,
    };
    is_open && byte.is_ascii_hexdigit()
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
    let mut output = String::with_capacity(path.len());
    let mut segments = path.split('/').skip(1).peekable();
    while let Some(segment) = segments.next() {
        let last = segments.peek().is_none();
        match segment {
            "." | ".." => {
                if segment == ".." {
                    output.truncate(output.rfind('/').unwrap_or(0));
                }
                if last {
                    output.push('/');
                }
            }
            _ => output.extend(["/", segment]),
        }
    }
    output
}

#[cfg(test)]
#[path = "path_tests.rs"]
mod tests;
