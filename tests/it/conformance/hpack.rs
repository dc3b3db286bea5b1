//! Header blocks that do not decode (RFC 7541).

use super::Case;
use super::peer::{COMPRESSION_ERROR, HEADER_TABLE_SIZE, Peer, Verdict};

pub const CASES: &[Case] = &[
    ("hpack/2.3.3/1", "an index beyond both tables", |p| behind(p, b"\xfe")),
    ("hpack/2.3.3/2", "a name's index beyond both tables", |p| behind(p, b"\x7e\x05value")),
    ("hpack/4.2/1", "a new size at the end of a block", |p| behind(p, b"\x21")),
    ("hpack/5.2/1", "Huffman padding of more than 7 bits", |p| {
        behind(p, b"\x00\x85\xf2\xb2\x4a\x84\xff\x84\x49\x50\x9f\xff")
    }),
    ("hpack/5.2/2", "Huffman padding of zeros", |p| behind(p, b"\x00\x85\xf2\xb2\x4a\x84\xff\x83\x49\x50\x90")),
    ("hpack/5.2/3", "Huffman's end of the string within it", |p| {
        behind(p, b"\x00\x85\xf2\xb2\x4a\x87\xff\xff\xff\xfd\x25\x42\x7f")
    }),
    ("hpack/6.1/1", "index 0", |p| behind(p, b"\x80")),
    ("hpack/6.3/1", "a new size above the limit", |p| {
        let most = p.open().setting(HEADER_TABLE_SIZE).unwrap_or(4096);
        let mut left = most + 1 - 31;
        let mut size = vec![0x3f];
        while left >= 128 {
            size.push(0x80 | (left % 128) as u8);
            left /= 128;
        }
        size.push(left as u8);
        let block = [&size, &p.request("GET", &[])[..]].concat();
        p.get_by(&block).connection_error(&[COMPRESSION_ERROR])
    }),
];

fn behind(p: &mut Peer, bytes: &[u8]) -> Verdict {
    let block = [&p.request("GET", &[]), bytes].concat();
    p.open().get_by(&block).connection_error(&[COMPRESSION_ERROR])
}
