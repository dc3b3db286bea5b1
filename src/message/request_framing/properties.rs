//! Property tests with generated heads: nothing panics, and the checks are at least as strict as Pingora's parser.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::io::Cursor;

use pingora::protocols::http::v1::server::HttpSession;
use proptest::prelude::*;

use super::tests::{LIMITS, status};
use super::*;

/// Whether Pingora's own server accepts the head.
fn pingora_accepts(head: &[u8]) -> bool {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let mut session = HttpSession::new(Box::new(Cursor::new(head.to_vec())));
    runtime.block_on(async { matches!(session.read_request().await, Ok(Some(_))) })
}

/// Heads that are nearly valid: parts from a table, sometimes with a random byte.
fn heads() -> impl Strategy<Value = Vec<u8>> {
    let method = prop::sample::select(vec!["GET", "GET", "GET", "POST", "POST", "OPTIONS", "CONNECT", "x!", "G T"]);
    let target = prop::sample::select(vec![
        "/",
        "/a?b",
        "*",
        "http://a/b",
        "http://a",
        "a:80",
        "http://[::1]:80/",
        "/%41",
        "/a|b^",
        "/?`{}\\",
        "/`",
        "/é<>",
        "http://a/\"?é",
        "//a",
        "?a",
        "http://a%41/",
        "http://a:/",
        "http://a;b/",
        "https:/\\a",
    ]);
    let line = prop::sample::select(vec![
        "Host: a",
        "Host: b",
        "Host: [::1]:80",
        "host:a:80",
        "Content-Length: 3",
        "Content-Length: 4",
        "Content-Length: x",
        "Transfer-Encoding: chunked",
        "Transfer-Encoding: gzip, chunked",
        "Connection: close",
        "X: y",
        "X : y",
        " fold",
        "Host: a:",
        "Host: a;b",
        "Expect: 100-continue",
    ]);
    let version = prop::sample::select(vec!["HTTP/1.1", "HTTP/1.0", "HTTP/1.1", "HTTP/2.0"]);
    let lines = prop::collection::vec(line, 0..4);
    let noise = prop::option::weighted(0.3, (any::<prop::sample::Index>(), any::<u8>(), any::<bool>()));
    (method, target, version, lines, noise).prop_map(|(method, target, version, lines, noise)| {
        let mut head = format!("{method} {target} {version}\r\nHost: a\r\n").into_bytes();
        if lines.iter().any(|line| line.starts_with("Host")) {
            head.truncate(head.len() - 9);
        }
        for line in lines {
            head.extend_from_slice(line.as_bytes());
            head.extend_from_slice(b"\r\n");
        }
        head.extend_from_slice(b"\r\n");
        if let Some((index, byte, insert)) = noise {
            let at = index.index(head.len());
            if insert { head.insert(at, byte) } else { head[at] = byte }
        }
        head
    })
}

/// The property below checks only accepted heads, so enough of the generated heads must be accepted.
#[test]
fn many_generated_heads_are_valid() {
    use proptest::strategy::ValueTree as _;
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let valid = (0..1_000).filter(|_| status(&heads().new_tree(&mut runner).unwrap().current()) == 200).count();
    assert!((100..900).contains(&valid), "{valid}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn accepted_heads_are_accepted_by_pingora_too(head in heads()) {
        let Ok(Some(end)) = head_end(&head, 0) else { return Ok(()) };
        if let Ok((facts, encoded)) = read_whole_head(&head[..end], &LIMITS) {
            let passed = encoded.as_deref().unwrap_or(&head[..end]);
            prop_assert_eq!(facts.head_len, passed.len());
            prop_assert!(pingora_accepts(passed), "{:?}", String::from_utf8_lossy(&head));
        }
    }

    #[test]
    fn never_panics(bytes in prop::collection::vec(any::<u8>(), 0..200), seen in 0usize..200) {
        let _ = check_head(&bytes, &LIMITS);
        let _ = head_end(&bytes, seen);
        let _ = BadHead::too_large(&bytes, &LIMITS);
    }

    #[test]
    fn a_path_or_query_is_never_refused_for_unusual_bytes(
        path in prop::collection::vec(prop::sample::select(UNUSUAL.to_vec()), 0..12),
        query in prop::option::of(prop::collection::vec(prop::sample::select(UNUSUAL.to_vec()), 0..12)),
        absolute: bool,
    ) {
        let query = query.map_or_else(Vec::new, |query| [b"?", &query[..]].concat());
        let start: &[u8] = if absolute { b"GET http://a/" } else { b"GET /" };
        let head = [start, &path, &query, b" HTTP/1.1\r\nHost: a\r\n\r\n"].concat();
        let (_, encoded) = read_whole_head(&head, &LIMITS).unwrap();
        let passed = encoded.as_deref().unwrap_or(&head);
        let decode = |bytes: &[u8]| percent_encoding::percent_decode(bytes).collect::<Vec<_>>();
        prop_assert!(passed.is_ascii());
        prop_assert_eq!(decode(passed), decode(&head), "no byte means anything else");
        let separators = |bytes: &[u8]| bytes.iter().filter(|b| b"/?".contains(b)).count();
        prop_assert_eq!(separators(passed), separators(&head));
    }
}

/// Bytes of paths: some that are percent-encoded, and some that are not.
const UNUSUAL: &[u8] = b"\"<>{}\\`\x80\xc3\xa9\xff|^a/.;";
