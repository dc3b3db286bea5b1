//! Request heads against a second parser, which follows the grammar of RFC 9112 line by line.

use weir::message::request_framing::{BodyFraming, HeadLimits, check_head, head_end, is_token, read_whole_head};

const TOKENS: &[&str] = &[
    "GET / HTTP/1.1\r\n",
    "POST /a?b=c HTTP/1.1\r\n",
    "OPTIONS * HTTP/1.0\r\n",
    "CONNECT a.test:443 HTTP/1.1\r\n",
    "HEAD http://a.test/ HTTP/1.1\r\n",
    "Host: a.test\r\n",
    "Content-Length: 5\r\n",
    "Content-Length:",
    "Transfer-Encoding: chunked\r\n",
    "\n",
    "Transfer-Encoding: ",
    "gzip, chunked",
    "\r",
    "\r\n",
    "\r\n\r\n",
    ": ",
    " ",
    "\t",
    "Connection: close, upgrade\r\n",
    "Expect: 100-continue\r\n",
    "0",
    "18446744073709551616",
    "Host:",
    "HTTP/1.1",
    "X: y\r\n",
    " folded\r\n",
    "\u{e9}",
    "\0",
    "Upgrade: websocket\r\n",
    "/../%2e",
    "[::1]:80",
    ",",
];
const LIMITS: HeadLimits = HeadLimits { target: 1024, fields: 64 };

/// The framing that the second parser finds. `Err` is the rule that the head breaks.
fn second_parser(head: &[u8]) -> Result<BodyFraming, &'static str> {
    let head = head.strip_prefix(b"\r\n").unwrap_or(head);
    let text = head.strip_suffix(b"\r\n\r\n").ok_or("no end")?;
    let lines: Vec<&[u8]> = split_lines(text);
    let [start, fields @ ..] = &lines[..] else { return Err("no request line") };
    let words: Vec<&[u8]> = start.split(|byte| *byte == b' ').collect();
    let [method, target, version] = words[..] else { return Err("not three words") };
    if !is_token(method) || target.is_empty() || target.iter().any(|byte| *byte <= b' ' || *byte == 0x7f) {
        return Err("method or target");
    }
    if version != b"HTTP/1.1" && version != b"HTTP/1.0" {
        return Err("version");
    }
    let (mut hosts, mut lengths, mut codings) = (0, Vec::new(), Vec::new());
    for line in fields {
        let colon = line.iter().position(|byte| *byte == b':').ok_or("no colon")?;
        let (name, value) = (line[..colon].to_ascii_lowercase(), line[colon + 1..].trim_ascii());
        let is_value = |byte: &u8| *byte == b'\t' || (*byte >= b' ' && *byte != 0x7f);
        if !is_token(&name) || !value.iter().all(is_value) {
            return Err("a field");
        }
        match &name[..] {
            b"host" => hosts += 1,
            b"content-length" => lengths.push(value.to_vec()),
            b"transfer-encoding" => codings.push(value.to_ascii_lowercase()),
            _ => {}
        }
    }
    let is_11 = version == b"HTTP/1.1";
    if hosts > 1 || (is_11 && hosts == 0) {
        return Err("Host");
    }
    framing(&lengths, &codings, is_11)
}

/// Lines end with CR LF. No other CR or LF is in them.
fn split_lines(text: &[u8]) -> Vec<&[u8]> {
    let mut lines = Vec::new();
    let mut rest = text;
    while let Some(end) = rest.windows(2).position(|two| two == b"\r\n") {
        lines.push(&rest[..end]);
        rest = &rest[end + 2..];
    }
    lines.push(rest);
    lines
}

fn framing(lengths: &[Vec<u8>], codings: &[Vec<u8>], is_11: bool) -> Result<BodyFraming, &'static str> {
    match (lengths, codings) {
        ([], []) => Ok(BodyFraming::None),
        ([], [coding]) if is_11 && coding == b"chunked" => Ok(BodyFraming::Chunked),
        ([length], []) if !length.is_empty() && length.iter().all(u8::is_ascii_digit) => {
            let number: u64 = std::str::from_utf8(length).unwrap().parse().map_err(|_| "a length")?;
            Ok(if number == 0 { BodyFraming::None } else { BodyFraming::Length(number) })
        }
        _ => Err("ambiguous framing"),
    }
}

fn check(bytes: &[u8]) {
    let end = head_end(bytes, 0);
    // The end does not depend on how the bytes arrive.
    for cut in [bytes.len() / 3, bytes.len() / 2, bytes.len().saturating_sub(1)] {
        if let Ok(None) = head_end(&bytes[..cut], 0) {
            assert_eq!(head_end(bytes, cut), end, "cut at {cut}");
        }
    }
    let Ok(Some(len)) = end else {
        assert!(check_head(bytes, &LIMITS).is_err(), "a head without an end");
        return;
    };
    let Ok((facts, encoded)) = read_whole_head(&bytes[..len], &LIMITS) else { return };
    // Unusual bytes of the target are percent-encoded, and the facts are those of the new head.
    let head = encoded.as_deref().unwrap_or(&bytes[..len]);
    assert_eq!(facts.head_len, head.len());
    let second = second_parser(head);
    assert_eq!(second, Ok(facts.body), "{:?}", String::from_utf8_lossy(head));
    let mut storage = [httparse::EMPTY_HEADER; 64];
    let mut third = httparse::Request::new(&mut storage);
    if let Ok(parsed) = third.parse(head) {
        assert_eq!(parsed, httparse::Status::Complete(facts.head_len), "httparse finds another end");
        assert_eq!(
            (third.method == Some("HEAD"), third.method == Some("CONNECT")),
            (facts.method_is_head, facts.method_is_connect)
        );
    }
}

crate::fuzz_target!(request_head, TOKENS, check);
