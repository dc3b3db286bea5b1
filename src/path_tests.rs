//! Examples of normalized paths, and properties of all normalized paths.
#![allow(clippy::unwrap_used, clippy::panic)]

use proptest::prelude::*;

use super::*;

const KEEP: Rules = Rules { decode_slash: false, merge_slashes: false };
const DECODE: Rules = Rules { decode_slash: true, merge_slashes: false };
const MERGE: Rules = Rules { decode_slash: false, merge_slashes: true };
const BOTH: Rules = Rules { decode_slash: true, merge_slashes: true };

#[test]
fn equivalent_paths_have_one_normal_form() {
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
        ("//admin", "//admin"),
        ("/admin;x", "/admin;x"),
        ("/admin%2fx", "/admin%2Fx"),
        ("/a/..%2fb", "/a/..%2Fb"),
        ("/a/..;/b", "/a/..;/b"),
        ("/a/..%5Cb", "/a/..%5Cb"),
        ("/%252e%252e/a", "/%252e%252e/a"),
    ] {
        assert_eq!(normalise(path, KEEP), want, "{path}");
    }
    assert!(matches!(normalise("/a/b", KEEP), Cow::Borrowed(_)));
    assert!(matches!(normalise("//a/b", BOTH), Cow::Owned(_)));
    assert!(matches!(normalise("/a/b", BOTH), Cow::Borrowed(_)));
}

#[test]
fn decoding_never_forms_a_new_percent_encoding() {
    for path in ["/%%32e%%32e/admin", "/%2%65%2%65/admin", "/%%36%31", "/%4%31"] {
        let once = normalise(path, BOTH).into_owned();
        assert_eq!(normalise(&once, BOTH), once, "{path}: a second decoding changes nothing");
        assert!(!once.contains("%2e") && !once.contains("%61") && !once.contains("%41"), "{path}: {once}");
    }
    assert_eq!(normalise("/%%7a", KEEP), "/%z", "z is no digit");
    assert_eq!(normalise("/%C3%61", KEEP), "/%C3a");
}

#[test]
fn the_rules_decide_on_slashes_before_dot_segments_are_removed() {
    for (rules, path, want) in [
        (DECODE, "/admin%2Fx", "/admin/x"),
        (DECODE, "/a/..%2fb", "/b"),
        (DECODE, "/a%2f%2e%2e%2Fb", "/b"),
        (DECODE, "/a%252Fb", "/a%252Fb"),
        (DECODE, "/a%2F%2Fb", "/a//b"),
        (DECODE, "//a", "//a"),
        (MERGE, "//admin", "/admin"),
        (MERGE, "/a///b//", "/a/b/"),
        (MERGE, "/a//../b", "/b"),
        (MERGE, "/a%2F/b", "/a%2F/b"),
        (MERGE, "/a/.//b", "/a/b"),
        (BOTH, "/a%2F/b", "/a/b"),
        (BOTH, "/a/%2f../b", "/b"),
    ] {
        assert_eq!(normalise(path, rules), want, "{path} {rules:?}");
    }
}

#[test]
fn unusual_bytes_are_percent_encoded_in_upper_case_and_others_stay() {
    let all: Vec<u8> = (0..=255).collect();
    let encoded = encode_unusual(&all).into_owned();
    let mut rest = encoded.as_slice();
    for byte in 0..=255_u8 {
        let unusual = byte >= 0x80 || b"\"<>{}\\`".contains(&byte);
        let wanted = if unusual { format!("%{byte:02X}").into_bytes() } else { vec![byte] };
        rest = rest.strip_prefix(wanted.as_slice()).unwrap_or_else(|| panic!("{byte:#x}"));
    }
    assert!(matches!(encode_unusual(b"/a|b^%zz#?"), Cow::Borrowed(b"/a|b^%zz#?")));
    assert_eq!(encode_unusual("/é\\..\\".as_bytes()).as_ref(), b"/%C3%A9%5C..%5C");
}

#[test]
fn paths_of_the_configuration_have_the_form_that_requests_have() {
    assert_eq!(configured("/caf%c3%a9"), "/caf%C3%A9");
    assert_eq!(configured("/café"), "/caf%C3%A9");
    assert_eq!(configured("/%61/../b/./{c}/"), "/b/%7Bc%7D/");
    assert_eq!(configured("*"), "*");
    assert_eq!(configured_prefix("/%61//"), "/a");
    assert_eq!(configured_prefix("/a/.."), "");
}

#[test]
fn an_encoded_slash_is_found_in_either_case() {
    assert!(has_encoded_slash("/a%2Fb") && has_encoded_slash("/%2f"));
    assert!(!has_encoded_slash("/a/b%2") && !has_encoded_slash("/%252F") && !has_encoded_slash(""));
}

fn rules() -> impl Strategy<Value = Rules> {
    (any::<bool>(), any::<bool>()).prop_map(|(decode_slash, merge_slashes)| Rules { decode_slash, merge_slashes })
}

proptest! {
    #[test]
    fn a_normal_form_has_no_dot_segments_and_is_its_own_normal_form(
        path in "(/|\\.|%2e|%2E|%2F|%2f|%25|%41|;|a|é){0,14}",
        rules in rules(),
    ) {
        let path = format!("/{path}");
        let made = normalise(&path, rules);
        prop_assert!(made.starts_with('/'));
        prop_assert!(!made.split('/').any(|segment| segment == "." || segment == ".."), "{} -> {}", path, made);
        prop_assert!(!rules.decode_slash || !has_encoded_slash(&made), "{} -> {}", path, made);
        prop_assert!(!rules.merge_slashes || !made.contains("//"), "{} -> {}", path, made);
        prop_assert_eq!(normalise(&made, rules), made.as_ref());
        prop_assert_eq!(normalise(&made, KEEP), made.as_ref());
    }

    #[test]
    fn encoding_twice_changes_nothing(bytes in prop::collection::vec(any::<u8>(), 0..40)) {
        let once = encode_unusual(&bytes).into_owned();
        let twice = encode_unusual(&once);
        prop_assert_eq!(twice.as_ref(), once.as_slice());
        prop_assert!(once.is_ascii());
        let decoded: Vec<u8> = percent_encoding::percent_decode(&once).collect();
        let raw: Vec<u8> = percent_encoding::percent_decode(&bytes).collect();
        prop_assert_eq!(decoded, raw);
    }
}
