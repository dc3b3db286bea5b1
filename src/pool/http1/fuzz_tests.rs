//! Fuzz targets of the response parser: response heads against httparse, and the chunk decoder against the chunk scanner.
#![allow(clippy::unwrap_used, clippy::panic)]

use bytes::BytesMut;

use super::chunk_decoder::{ChunkDecoder, Decoded};
use super::fast_path::{ParsedHead, ResponseFraming, head};

const RESPONSE_TOKENS: &[&str] = &[
    "HTTP/1.1 200 OK\r\n",
    "HTTP/1.1 204 No Content\r\n",
    "HTTP/1.0 200 OK\r\n",
    "HTTP/1.1 304 Not Modified\r\n",
    "HTTP/1.1 101 Switching Protocols\r\n",
    "Content-Length: 5\r\n",
    "Transfer-Encoding: chunked\r\n",
    "Connection: close\r\n",
    "Content-Length:",
    "Set-Cookie: a=b\r\n",
    ": ",
    "\r\n",
    "\r\n\r\n",
    "\n",
    " ",
    "\u{e9}",
    "\0",
];
const CHUNK_TOKENS: &[&str] = &[
    "0\r\n\r\n",
    "5\r\nhello\r\n",
    "1\r\n.\r\n",
    "\r\n",
    "\n",
    ";a=b\r\n",
    "0\r\nA: b\r\n\r\n",
    "ffffffff\r\n",
    "A: b\r\n",
];

/// Replaces each byte below the number of tokens by its token. After a first byte of 0xff, the rest stays as it is.
fn expand(input: &[u8], tokens: &[&str]) -> Vec<u8> {
    if let Some((0xff, rest)) = input.split_first() {
        return rest.to_vec();
    }
    let token = |byte: &u8| tokens.get(usize::from(*byte)).map_or(vec![*byte], |token| token.as_bytes().to_vec());
    input.iter().flat_map(token).collect()
}

fn check_response(bytes: &[u8]) {
    for bodiless in [false, true] {
        let mut rest = BytesMut::from(bytes);
        let mut storage = [httparse::EMPTY_HEADER; 64];
        let mut second = httparse::Response::new(&mut storage);
        let parsed = second.parse(bytes);
        match head(&mut rest, bodiless) {
            ParsedHead::Plain(plain) => {
                assert_eq!(parsed, Ok(httparse::Status::Complete(bytes.len() - rest.len())));
                assert_eq!(second.code, Some(plain.response.status.as_u16()));
                let of =
                    |name: &str| second.headers.iter().filter(|field| field.name.eq_ignore_ascii_case(name)).count();
                assert!(of("content-length") + of("transfer-encoding") <= 1, "ambiguous framing");
                if let ResponseFraming::Length(length) = plain.framing
                    && of("content-length") == 1
                    && !bodiless
                    && ![204, 304].contains(&plain.response.status.as_u16())
                {
                    assert_eq!(plain.response.headers["content-length"].to_str().unwrap().parse(), Ok(length));
                }
                assert_eq!(plain.response.headers.len(), second.headers.len());
            }
            ParsedHead::Partial => assert_eq!((parsed, rest.len()), (Ok(httparse::Status::Partial), bytes.len())),
            ParsedHead::Other => assert_eq!(rest.len(), bytes.len(), "Pingora must find all bytes"),
        }
    }
}

/// The data of a body that arrives in pieces of this size, and the bytes that it takes.
fn decode(bytes: &[u8], piece: usize) -> Result<Option<(Vec<u8>, usize)>, &'static str> {
    let (mut decoder, mut buffer, mut data) = (ChunkDecoder::default(), BytesMut::new(), Vec::new());
    let mut fed = 0;
    for part in bytes.chunks(piece) {
        buffer.extend_from_slice(part);
        fed += part.len();
        loop {
            match decoder.decode(&mut buffer)? {
                Decoded::Need => break,
                Decoded::Data(more) => data.extend_from_slice(&more),
                Decoded::End(_) => return Ok(Some((data, fed - buffer.len()))),
            }
        }
    }
    Ok(None)
}

fn check_chunks(bytes: &[u8]) {
    let whole = decode(bytes, bytes.len().max(1));
    for piece in [1, 3] {
        let pieces = decode(bytes, piece);
        // An error may come before or after the byte at which the other stops.
        if let (Ok(whole), Ok(pieces)) = (&whole, &pieces) {
            assert_eq!(pieces, whole, "in pieces of {piece}");
        }
    }
    let mut scanner = crate::message::chunked::ChunkScanner::new();
    if let Ok(crate::message::chunked::Progress::Done { used }) = scanner.feed(bytes)
        && let Ok(decoded) = whole
    {
        assert_eq!(decoded.map(|(_, taken)| taken), Some(used), "the strict scanner finds another end");
    }
}

#[test]
fn response_head() {
    for seed in [
        &b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"[..],
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"HTTP/1.1 200 \r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\n",
        b"HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n",
        b"HTTP/1.0 200 OK\r\n\r\n",
        b"HTTP/1.1 200 OK\nContent-Length: 5\n\n",
    ] {
        check_response(seed);
    }
    bolero::check!().with_max_len(2048).for_each(|input: &[u8]| check_response(&expand(input, RESPONSE_TOKENS)));
}

#[test]
fn response_chunks() {
    for seed in [
        &b"5\r\nhello\r\n0\r\n\r\nrest"[..],
        b"5;a=b\r\nhello\r\n0\r\nX: y\r\n\r\n",
        b"ffffffffffffffff\r\n",
        b"5\nhello\r\n",
    ] {
        check_chunks(seed);
    }
    bolero::check!().with_max_len(2048).for_each(|input: &[u8]| check_chunks(&expand(input, CHUNK_TOKENS)));
}
