//! The normal form of paths against a slow reference: it follows RFC 3986 step by step.

use weir::path::{Rules, configured, configured_prefix, normalise};

const TOKENS: &[&str] = &[
    "/", "//", ".", "..", "/./", "/../", "%2e", "%2E%2e", "%2f", "%2F", "%5c", "%25", "%", "%4", "%41", "a", "b",
    "%c3%a9", "\u{e9}", ";", "?", "%7e", "%00",
];

/// Section 6.2.2.2: decodes unreserved characters, and writes other percent-encodings in upper case.
fn decode(path: &str, decode_slash: bool) -> String {
    let characters: Vec<char> = path.chars().collect();
    let (mut out, mut at) = (String::new(), 0);
    while at < characters.len() {
        let digits: String = characters[at + 1..].iter().take(2).collect();
        let is_encoded = characters[at] == '%' && digits.len() == 2 && digits.chars().all(|c| c.is_ascii_hexdigit());
        if !is_encoded {
            out.push(characters[at]);
            at += 1;
            continue;
        }
        let byte = char::from(u8::from_str_radix(&digits, 16).unwrap());
        // A `%` that begins no encoding, and a decoded digit, would form a new one.
        let open = out.strip_suffix(|c: char| c.is_ascii_hexdigit()).unwrap_or(&out);
        let forms_encoding = byte.is_ascii_hexdigit() && (out.ends_with('%') || open.ends_with('%'));
        if forms_encoding {
            out += &format!("%{}", digits.to_uppercase());
        } else if byte.is_ascii_alphanumeric() || "-._~".contains(byte) || (byte == '/' && decode_slash) {
            out.push(byte);
        } else {
            out += &format!("%{}", digits.to_uppercase());
        }
        at += 3;
    }
    out
}

/// Section 5.2.4, with its input and output buffers.
fn remove_dot_segments(path: &str) -> String {
    let (mut input, mut output) = (path.to_owned(), String::new());
    while !input.is_empty() {
        if let Some(rest) = input.strip_prefix("/./") {
            input = format!("/{rest}");
        } else if input == "/." {
            input = "/".into();
        } else if input.starts_with("/../") || input == "/.." {
            input = format!("/{}", input.strip_prefix("/../").unwrap_or(""));
            output.truncate(output.rfind('/').unwrap_or(0));
        } else {
            let end = input[1..].find('/').map_or(input.len(), |at| at + 1);
            output += &input[..end];
            input = input[end..].to_owned();
        }
    }
    output
}

fn check(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let path = format!("/{text}");
    for (decode_slash, merge_slashes) in [(false, false), (true, false), (false, true), (true, true)] {
        let rules = Rules { decode_slash, merge_slashes };
        let mut slow = decode(&path, decode_slash);
        while merge_slashes && slow.contains("//") {
            slow = slow.replace("//", "/");
        }
        let slow = remove_dot_segments(&slow);
        let fast = normalise(&path, rules);
        assert_eq!(fast, slow, "{path} {rules:?}");
        assert_eq!(normalise(&fast, rules), fast, "{path} {rules:?}: a second decoding changes the path");
        assert!(
            fast.starts_with('/') && !fast.split('/').any(|segment| segment == "." || segment == ".."),
            "{path}: {fast}"
        );
    }
    assert_eq!(configured(&configured(&path)), configured(&path), "a second decoding changes the path");
    assert!(!configured_prefix(&path).ends_with('/'));
}

crate::fuzz_target!(path_form, TOKENS, check);
