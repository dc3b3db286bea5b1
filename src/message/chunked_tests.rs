//! Tests of the chunked scanner, with whole bodies and with bodies in pieces.
#![allow(clippy::unwrap_used, clippy::panic)]

use proptest::prelude::*;

use super::*;

fn scan(body: &[u8]) -> Result<Progress, MalformedChunk> {
    ChunkScanner::new().feed(body)
}

#[test]
fn the_end_of_a_valid_body_is_found() {
    for body in [
        "0\r\n\r\n",
        "5\r\nhello\r\n0\r\n\r\n",
        "A;a=b;c=\"d;e\"\r\n0123456789\r\n0000\r\n\r\n",
        "a \t;x\r\n0123456789\r\n0;y\r\n\r\n",
        "1\r\n\r\r\n1\r\n\n\r\n0\r\n\r\n",
        "0\r\nX-Sum: 1\r\nY:\r\n\r\n",
        "0000000000000001\r\na\r\n0\r\n\r\n",
    ] {
        assert_eq!(scan(body.as_bytes()), Ok(Progress::Done { used: body.len() }), "{body:?}");
        let followed = format!("{body}GET / HTTP/1.1\r\n");
        assert_eq!(scan(followed.as_bytes()), Ok(Progress::Done { used: body.len() }), "{body:?}");
        for cut in 0..body.len() {
            assert_eq!(scan(&body.as_bytes()[..cut]), Ok(Progress::Need), "{body:?} {cut}");
        }
    }
}

#[test]
fn an_invalid_body_is_refused() {
    for body in [
        "\r\n",
        "x\r\n",
        "-1\r\n",
        "0x1\r\n",
        "+1\r\n",
        " 1\r\n",
        "1 \r\n",
        "1 x\r\n",
        "1\n",
        "1\r\r",
        "1;a\n",
        "1;a\rb",
        "1;\0\r\n",
        "1\r\nab",
        "1\r\na\n",
        "1\r\na\rb",
        "11111111111111111\r\n",
        "00000000000000000\r\n",
        "0\n\n",
        "0\r\n\n",
        "0\r\n\rx",
        "0\r\nX: a\n",
        "0\r\nX: a\rb",
        "0\r\n fold\r\n",
        "0\r\n: a\r\n",
        "0\r\nX: \0\r\n",
        ";a\r\n",
    ] {
        assert!(scan(body.as_bytes()).is_err(), "{body:?}");
    }
}

#[test]
fn the_largest_chunk_size_does_not_overflow() {
    let mut scanner = ChunkScanner::new();
    assert_eq!(scanner.feed(b"FFFFFFFFFFFFFFFF\r\n"), Ok(Progress::Need));
    assert_eq!(scanner.feed(&[0; 1000]), Ok(Progress::Need));
    assert!(!scanner.is_done());
}

#[test]
fn extensions_and_trailers_are_bounded() {
    let mut scanner = ChunkScanner::new();
    let chunk = format!("1;{}\r\na\r\n", "x".repeat(1023));
    for _ in 0..8 {
        assert_eq!(scanner.feed(chunk.as_bytes()), Ok(Progress::Need));
    }
    assert!(scanner.feed(b"1;").is_err());
    let mut scanner = ChunkScanner::new();
    scanner.feed(b"0\r\n").unwrap();
    let line = format!("X: {}\r\n", "y".repeat(1021));
    for _ in 0..64 {
        assert_eq!(scanner.feed(line.as_bytes()), Ok(Progress::Need));
    }
    assert!(scanner.feed(b"X").is_err());
}

#[test]
fn no_bytes_are_used_after_the_end() {
    let mut scanner = ChunkScanner::new();
    scanner.feed(b"0\r\n\r\n").unwrap();
    assert!(scanner.is_done());
    assert_eq!(scanner.feed(b"1\r\n"), Ok(Progress::Done { used: 0 }));
}

fn bodies() -> impl Strategy<Value = Vec<u8>> {
    let chunk = (prop::collection::vec(any::<u8>(), 1..40), "(;[a-z]{0,3}(=[a-z]{1,3})?)?", any::<bool>());
    let trailers = "([A-Za-z]{1,4}: [ -~]{0,6}\r\n){0,3}";
    (prop::collection::vec(chunk, 0..6), trailers).prop_map(|(chunks, trailers)| {
        let mut body = Vec::new();
        for (data, extension, upper) in chunks {
            let size = if upper { format!("{:X}", data.len()) } else { format!("0{:x}", data.len()) };
            body.extend_from_slice(format!("{size}{extension}\r\n").as_bytes());
            body.extend_from_slice(&data);
            body.extend_from_slice(b"\r\n");
        }
        body.extend_from_slice(format!("0\r\n{trailers}\r\n").as_bytes());
        body
    })
}

proptest! {
    #[test]
    fn any_split_ends_at_the_same_byte(
        body in bodies(),
        next in prop::collection::vec(any::<u8>(), 0..20),
        steps in prop::collection::vec(1usize..30, 1..50),
    ) {
        let bytes = [body.as_slice(), &next].concat();
        prop_assert_eq!(scan(&bytes), Ok(Progress::Done { used: body.len() }));
        let (mut scanner, mut at, mut steps) = (ChunkScanner::new(), 0, steps.into_iter().cycle());
        let end = loop {
            let piece = &bytes[at..(at + steps.next().unwrap()).min(bytes.len())];
            match scanner.feed(piece).unwrap() {
                Progress::Need => at += piece.len(),
                Progress::Done { used } => break at + used,
            }
        };
        prop_assert_eq!(end, body.len());
    }

    #[test]
    fn random_bytes_give_the_same_result_in_any_pieces(
        bytes in prop::collection::vec(prop::sample::select(b"01aF;\r\n x:\0".to_vec()), 0..60),
    ) {
        let whole = scan(&bytes);
        let mut scanner = ChunkScanner::new();
        let mut single = Ok(Progress::Need);
        for (at, byte) in bytes.iter().enumerate() {
            match scanner.feed(std::slice::from_ref(byte)) {
                Ok(Progress::Need) => {}
                Ok(Progress::Done { used }) => { single = Ok(Progress::Done { used: at + used }); break }
                Err(error) => { single = Err(error); break }
            }
        }
        prop_assert_eq!(whole, single);
    }
}
