//! Entity tags: that of a file, and the comparison with `If-None-Match` (RFC 9110 sections 8.8.3 and 13.1.2).

use aws_lc_rs::digest::{SHA256, digest};
use http::header::IF_NONE_MATCH;
use http::{HeaderMap, HeaderValue};

/// How many bytes of the hash are in a tag.
const TAG_BYTES: usize = 16;

/// The strong entity tag of this content.
pub(super) fn of(content: &[u8]) -> String {
    let hash = digest(&SHA256, content);
    let hex: String = hash.as_ref().iter().take(TAG_BYTES).map(|byte| format!("{byte:02x}")).collect();
    format!("\"{hex}\"")
}

/// Whether the request names this tag, by the weak comparison.
pub(super) fn matches(request: &HeaderMap, tag: &HeaderValue) -> bool {
    let tag = opaque(tag.as_bytes());
    // A comma within a tag splits it. Such parts never equal a whole tag.
    let mut parts =
        request.get_all(IF_NONE_MATCH).iter().flat_map(|field| field.as_bytes().split(|byte| *byte == b','));
    parts.any(|part| {
        let part = part.trim_ascii();
        part == b"*" || opaque(part) == tag
    })
}

fn opaque(tag: &[u8]) -> &[u8] {
    tag.strip_prefix(b"W/").unwrap_or(tag)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests {
    use super::*;

    #[test]
    fn if_none_match_is_a_list_that_is_compared_weakly() {
        let tag = HeaderValue::from_static("\"a\"");
        for (fields, known) in [
            (&["\"a\""][..], true),
            (&["W/\"a\""], true),
            (&["\"b\" , \"a\""], true),
            (&["\"b\"", "\"a\""], true),
            (&["*"], true),
            (&["\"b\""], false),
            (&["a"], false),
            (&["\"x,y\""], false),
            (&[""], false),
            (&[], false),
        ] {
            let mut request = HeaderMap::new();
            for field in fields {
                request.append(IF_NONE_MATCH, HeaderValue::from_static(field));
            }
            assert_eq!(matches(&request, &tag), known, "{fields:?}");
        }
    }

    #[test]
    fn the_tag_follows_the_content() {
        assert!(of(b"a") == of(b"a") && of(b"a") != of(b"b"));
        assert!(HeaderValue::try_from(of(b"a")).is_ok());
    }
}
