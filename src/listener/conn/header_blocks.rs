//! Scanner of the HTTP/2 header blocks (RFC 9113 section 4.1) that a client sends.
//!
//! It decodes nothing and rejects nothing: h2 rejects malformed frames. It finds the ends of the blocks that open a
//! stream, and whether a block contains `100-continue`.

const HEADERS: u8 = 1;
const SETTINGS: u8 = 4;
const CONTINUATION: u8 = 9;
const ACK: u8 = 1;
const END_HEADERS: u8 = 4;
const HEADER_TABLE_SIZE: u16 = 1;
/// The initial size of the HPACK dynamic table, in bytes. SETTINGS may change it.
const DEFAULT_TABLE: u32 = 4096;

/// The length of the client's preface, which precedes all frames (RFC 9113 section 3.4).
const PREFACE: usize = 24;

const PLAIN: &[u8] = b"100-continue";
/// The value `100-continue` in Huffman code (RFC 7541 appendix B). The first block with the value contains it in one of
/// these two forms. Later blocks may refer to the table entry.
const CODED: &[u8] = &[0x08, 0x00, 0xb1, 0x0f, 0x52, 0x4d, 0x55, 0xa5];

/// The next step after the scanned bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::listener) enum ScanStep {
    /// The next byte ends a block that opens a stream. Before it may pass, h2 must have processed all earlier blocks.
    Drain,
    /// The last scanned byte ended a block that opens this stream.
    Open(u32),
}

/// The scanner of one connection.
#[derive(Debug)]
pub(in crate::listener) struct Blocks {
    head: [u8; 9],
    /// How many bytes of `head` have arrived.
    filled: usize,
    /// How many payload bytes of the frame are still missing. Before the first frame: bytes of the preface.
    left: usize,
    kind: u8,
    ends: bool,
    /// The stream that the current block opens. 0: none.
    opens: u32,
    highest: u32,
    /// The last bytes of a block or of SETTINGS, which may be the start of a value that continues in the next piece.
    tail: Vec<u8>,
    /// A block has contained `100-continue`.
    expects: bool,
    drained: bool,
    small_table: bool,
    /// The streams that the last bytes have opened. The reader takes them out.
    pub(in crate::listener) opened: Vec<u32>,
}

impl Blocks {
    pub(in crate::listener) fn new() -> Self {
        Self {
            head: [0; 9],
            filled: 0,
            left: PREFACE,
            kind: u8::MAX,
            ends: false,
            opens: 0,
            highest: 0,
            tail: Vec::new(),
            expects: false,
            drained: false,
            small_table: false,
            opened: Vec::new(),
        }
    }

    /// Whether the client has requested a smaller HPACK table. Then the next header block must begin with a size update
    /// (RFC 7541 section 4.2). Only the encoder in h2 knows whether it has sent one, so no frame may be inserted.
    pub(in crate::listener) fn has_small_table(&self) -> bool {
        self.small_table
    }

    /// Scans the next bytes up to the next step. Returns how many of them may pass.
    pub(in crate::listener) fn feed(&mut self, bytes: &[u8]) -> (usize, Option<ScanStep>) {
        let mut at = 0;
        while at < bytes.len() {
            if self.left == 0 {
                at += self.fill_head(&bytes[at..]);
                if self.left > 0 || self.filled < self.head.len() {
                    continue;
                }
            }
            let piece = &bytes[at..][..self.left.min(bytes.len() - at)];
            let last = piece.len() == self.left;
            self.scan(piece);
            if last && self.ends && self.opens > 0 && self.expects {
                if !std::mem::replace(&mut self.drained, true) {
                    return (self.hold_last(at, piece.len()), Some(ScanStep::Drain));
                }
                let opens = self.opens;
                self.end_frame();
                return (at + piece.len(), Some(ScanStep::Open(opens)));
            }
            at += piece.len();
            self.left -= piece.len();
            if last {
                self.end_frame();
            }
        }
        (at, None)
    }

    /// Takes the bytes that belong to the header of the next frame.
    fn fill_head(&mut self, bytes: &[u8]) -> usize {
        let some = bytes.len().min(self.head.len() - self.filled);
        self.head[self.filled..][..some].copy_from_slice(&bytes[..some]);
        self.filled += some;
        if self.filled == self.head.len() {
            self.begin_frame();
        }
        some
    }

    fn begin_frame(&mut self) {
        let [a, b, c, kind, flags, d, e, f, g] = self.head;
        let stream = u32::from_be_bytes([d, e, f, g]) & (u32::MAX >> 1);
        self.left = u32::from_be_bytes([0, a, b, c]) as usize;
        self.kind = if kind == SETTINGS && flags & ACK != 0 { u8::MAX } else { kind };
        self.ends = matches!(kind, HEADERS | CONTINUATION) && flags & END_HEADERS != 0;
        if kind == HEADERS {
            // A second HEADERS on the same stream contains its trailers.
            self.opens = if stream > self.highest { stream } else { 0 };
            self.highest = self.highest.max(stream);
        }
        if kind != CONTINUATION {
            self.tail.clear();
        }
    }

    /// Goes back by one byte. That byte belongs to the payload, or to the frame header if the payload is empty.
    fn hold_last(&mut self, at: usize, payload: usize) -> usize {
        if payload == 0 {
            self.filled -= 1;
            return at - 1;
        }
        self.left = 1;
        at + payload - 1
    }

    fn end_frame(&mut self) {
        (self.filled, self.left) = (0, 0);
        if self.ends {
            if self.opens != 0 {
                self.opened.push(self.opens);
            }
            (self.ends, self.drained, self.opens) = (false, false, 0);
            self.tail.clear();
        }
    }

    fn scan(&mut self, piece: &[u8]) {
        match self.kind {
            HEADERS | CONTINUATION if !self.expects => {
                self.tail.extend_from_slice(piece);
                let plain = |bytes: &[u8]| bytes.eq_ignore_ascii_case(PLAIN);
                self.expects = self.tail.windows(CODED.len()).any(|bytes| bytes == CODED)
                    || self.tail.windows(PLAIN.len()).any(plain);
                self.tail.drain(..self.tail.len().saturating_sub(PLAIN.len() - 1));
            }
            SETTINGS => {
                self.tail.extend_from_slice(piece);
                let whole = self.tail.len() / 6 * 6;
                for setting in self.tail[..whole].chunks_exact(6) {
                    let [a, b, c, d, e, f] = setting else { continue };
                    let size = u32::from_be_bytes([*c, *d, *e, *f]);
                    self.small_table |= u16::from_be_bytes([*a, *b]) == HEADER_TABLE_SIZE && size < DEFAULT_TABLE;
                }
                self.tail.drain(..whole);
            }
            _ => {}
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
        let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
        [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
    }

    /// The steps of a byte sequence that arrives in pieces of this size, with their positions.
    fn steps(bytes: &[u8], piece: usize) -> Vec<(usize, ScanStep)> {
        let (mut blocks, mut at, mut steps) = (Blocks::new(), 0, Vec::new());
        while at < bytes.len() {
            let (used, step) = blocks.feed(&bytes[at..bytes.len().min(at + piece)]);
            at += used;
            assert!(used > 0 || step.is_some());
            steps.extend(step.map(|step| (at, step)));
        }
        steps
    }

    #[test]
    fn streams_are_reported_from_the_first_block_with_100_continue() {
        let coded = [&[0x88][..], CODED].concat();
        for text in [&b"\x0c100-Continue"[..], &coded] {
            let mut bytes = vec![b'p'; PREFACE];
            let mut ends = Vec::new();
            bytes.extend(frame(SETTINGS, 0, 0, &[0, 3, 0, 0, 0, 100]));
            bytes.extend(frame(HEADERS, END_HEADERS, 1, b"a block without it"));
            bytes.extend(frame(0, 0, 1, b"100-continue in a body"));
            let (first, rest) = text.split_at(5);
            bytes.extend(frame(HEADERS, 0, 3, first));
            bytes.extend(frame(CONTINUATION, END_HEADERS, 3, rest));
            ends.push((bytes.len(), 3));
            bytes.extend(frame(HEADERS, END_HEADERS | 1, 3, b"trailers"));
            bytes.extend(frame(HEADERS, 0, 5, b"another"));
            bytes.extend(frame(CONTINUATION, END_HEADERS, 5, b""));
            ends.push((bytes.len(), 5));
            bytes.extend(frame(HEADERS, END_HEADERS, 7, b"x"));
            ends.push((bytes.len(), 7));
            let wanted: Vec<_> = ends
                .iter()
                .flat_map(|(at, stream)| [(at - 1, ScanStep::Drain), (*at, ScanStep::Open(*stream))])
                .collect();
            for piece in 1..=bytes.len() {
                assert_eq!(steps(&bytes, piece), wanted, "in pieces of {piece}");
            }
        }
    }

    #[test]
    fn a_smaller_header_table_is_detected() {
        for (setting, small) in [([0, 1, 0, 0, 0, 0], true), ([0, 1, 0, 0, 16, 0], false), ([0, 2, 0, 0, 0, 0], false)]
        {
            let mut blocks = Blocks::new();
            blocks.feed(&[b'p'; PREFACE]);
            for byte in frame(SETTINGS, 0, 0, &[&[0, 3, 0, 0, 0, 1], &setting[..]].concat()) {
                blocks.feed(&[byte]);
            }
            assert_eq!(blocks.has_small_table(), small);
        }
    }

    proptest! {
        #[test]
        fn all_bytes_pass(bytes in proptest::collection::vec(any::<u8>(), 0..400), piece in 1_usize..50) {
            let bytes = [&[b'p'; PREFACE][..], &frame(HEADERS, END_HEADERS, 1, PLAIN), &bytes].concat();
            let steps = steps(&bytes, piece);
            prop_assert_eq!(steps[1].1, ScanStep::Open(1));
        }
    }
}
