//! The chunk scanner against a decoder that reads the whole body at once, with httparse for the chunk sizes.

use weir::message::chunked::{ChunkScanner, Progress};

const TOKENS: &[&str] = &[
    "0\r\n\r\n",
    "1\r\n.\r\n",
    "5\r\nhello\r\n",
    "A\r\n0123456789\r\n",
    "\r\n",
    "\n",
    "\r",
    ";ext=\"a;b\"\r\n",
    " ;x\r\n",
    "\t",
    "ffffffffffffffff\r\n",
    "10000000000000000\r\n",
    "0\r\nA: b\r\n\r\n",
    "A: b\r\n",
    "00005",
    ";",
    "=",
    " ",
    "-1\r\n",
    "+1\r\n",
    "0x1\r\n",
    "g\r\n",
];

/// The length of the body; `None` if it is not complete or not valid.
fn reference(bytes: &[u8]) -> Option<usize> {
    let mut at = 0;
    loop {
        let Ok(httparse::Status::Complete((line, size))) = httparse::parse_chunk_size(&bytes[at..]) else {
            return None;
        };
        at += line;
        if size == 0 {
            return trailers(bytes, at);
        }
        at = at.checked_add(usize::try_from(size).ok()?)?;
        if bytes.get(at..at.checked_add(2)?)? != b"\r\n" {
            return None;
        }
        at += 2;
    }
}

/// The end of the trailer section: an empty line.
fn trailers(bytes: &[u8], mut at: usize) -> Option<usize> {
    loop {
        let end = bytes.get(at..)?.windows(2).position(|two| two == b"\r\n")?;
        at += end + 2;
        if end == 0 {
            return Some(at);
        }
    }
}

/// Scans the bytes in pieces of this size; the number of bytes that belong to the body.
fn scan(bytes: &[u8], piece: usize) -> Result<Option<usize>, ()> {
    let mut scanner = ChunkScanner::new();
    let mut before = 0;
    for part in bytes.chunks(piece) {
        match scanner.feed(part).map_err(|_| ())? {
            Progress::Need => before += part.len(),
            Progress::Done { used } => {
                assert!(scanner.is_done() && used <= part.len());
                return Ok(Some(before + used));
            }
        }
    }
    Ok(None)
}

fn check(bytes: &[u8]) {
    let whole = scan(bytes, bytes.len().max(1));
    for piece in [1, 2, 3, 7] {
        assert_eq!(scan(bytes, piece), whole, "in pieces of {piece}");
    }
    if let Ok(Some(end)) = whole {
        assert_eq!(reference(bytes), Some(end), "{:?}", String::from_utf8_lossy(bytes));
    }
}

crate::fuzz_target!(chunks, TOKENS, check);
