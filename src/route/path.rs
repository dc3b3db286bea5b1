//! The path that routes are matched on: of all writings that mean the same, one.
//!
//! Without it `/%61dmin` and `/x/../admin` would walk past a route for `/admin` and reach it at a backend that resolves
//! them. It never changes what is sent: the backend gets the client's own bytes.

use std::borrow::Cow;

/// RFC 3986 sections 6.2.2.1 to 6.2.2.3: percent-encoded unreserved characters decoded, the digits of others in upper
/// case, dot segments removed. An encoded slash stays one that separates nothing. Copies only what has to change.
pub fn normalise(path: &str) -> Cow<'_, str> {
    let dots = |path: &str| path.contains("/.");
    if !path.contains('%') {
        return if dots(path) { remove_dots(path).into() } else { path.into() };
    }
    let decoded = decode(path);
    if dots(&decoded) { remove_dots(&decoded).into() } else { decoded.into() }
}

fn decode(path: &str) -> String {
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
            Ok(byte) if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) => decoded.push(char::from(byte)),
            _ => decoded.extend(["%", &digits.to_ascii_uppercase()]),
        }
        rest = &rest[at + 3..];
    }
    decoded.push_str(rest);
    decoded
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
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn one_writing_for_a_path() {
        for (path, want) in [
            ("/", "/"),
            ("*", "*"),
            ("/a/b", "/a/b"),
            ("/%61dmin", "/admin"),
            ("/%7e%2f%c3", "/~%2F%C3"),
            ("/x/../admin", "/admin"),
            ("/x/%2e%2E/admin", "/admin"),
            ("/../../a", "/a"),
            ("/a/.", "/a/"),
            ("/a/..", "/"),
            ("/a/./b/", "/a/b/"),
            ("/a//../b", "/a/b"),
            ("/.well-known/x", "/.well-known/x"),
            ("/a/...", "/a/..."),
            ("/%", "/%"),
            ("/%é", "/%é"),
        ] {
            assert_eq!(normalise(path), want, "{path}");
        }
        assert!(matches!(normalise("/a/b"), Cow::Borrowed(_)));
    }

    proptest! {
        #[test]
        fn leaves_no_dot_segments(path in "(/|\\.|%2e|%2E|%41|a|é){0,12}") {
            let path = format!("/{path}");
            let made = normalise(&path);
            prop_assert!(made.starts_with('/'));
            prop_assert!(!made.split('/').any(|segment| segment == "." || segment == ".."), "{} -> {}", path, made);
            prop_assert_eq!(normalise(&made), made.as_ref());
        }
    }
}
