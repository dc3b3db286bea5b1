//! Decoder of a chunked response body (RFC 9112 section 7.1). It takes bytes and returns the data of the chunks.
//!
//! It does no I/O, and never takes a byte beyond the end of the body.

use bytes::{Buf, Bytes, BytesMut};
use http::{HeaderMap, HeaderName, HeaderValue};

use crate::pool::outstanding_pieces::split;

/// Maximum length of the line with a chunk size, extensions included.
const MAX_SIZE_LINE_BYTES: usize = 4096;
/// Maximum length of the trailer section.
const MAX_TRAILER_BYTES: usize = 16 * 1024;
/// Maximum number of trailer fields.
const MAX_TRAILERS: usize = 64;

/// The progress of a body.
#[derive(Debug, Default)]
pub(in crate::pool) struct ChunkDecoder(State);

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum State {
    #[default]
    Size,
    /// So many bytes of the chunk are missing.
    Data(u64),
    DataEnd,
    Trailers,
    Done,
}

/// The result of a step.
#[derive(Debug)]
pub(in crate::pool) enum Decoded {
    /// More bytes are needed.
    Need,
    Data(Bytes),
    /// The body has ended, with these trailers.
    End(Option<Box<HeaderMap>>),
}

impl ChunkDecoder {
    /// Decodes the next piece of data and removes its bytes from `buf`.
    ///
    /// # Errors
    /// The bytes are not valid chunked coding. Their connection must be closed.
    pub(in crate::pool) fn decode(&mut self, buf: &mut BytesMut) -> Result<Decoded, &'static str> {
        loop {
            match self.0 {
                State::Size => {
                    let Some((line, size)) = size(buf)? else { return Ok(Decoded::Need) };
                    buf.advance(line);
                    self.0 = if size == 0 { State::Trailers } else { State::Data(size) };
                }
                State::Data(_) if buf.is_empty() => return Ok(Decoded::Need),
                State::Data(left) => {
                    let here = usize::try_from(left).unwrap_or(usize::MAX).min(buf.len());
                    let left = left - here as u64;
                    self.0 = if left == 0 { State::DataEnd } else { State::Data(left) };
                    return Ok(Decoded::Data(split(buf, here)));
                }
                State::DataEnd => {
                    let Some(end) = buf.get(..2) else { return Ok(Decoded::Need) };
                    if end != b"\r\n" {
                        return Err("a chunk that is longer than its size");
                    }
                    buf.advance(2);
                    self.0 = State::Size;
                }
                State::Trailers => {
                    let Some((length, fields)) = trailers(buf)? else { return Ok(Decoded::Need) };
                    buf.advance(length);
                    self.0 = State::Done;
                    return Ok(Decoded::End(fields));
                }
                State::Done => return Ok(Decoded::End(None)),
            }
        }
    }

    /// Whether the body has ended.
    pub(in crate::pool) fn is_done(&self) -> bool {
        self.0 == State::Done
    }
}

/// The length of the line with the chunk size, and the size.
fn size(buf: &[u8]) -> Result<Option<(usize, u64)>, &'static str> {
    match httparse::parse_chunk_size(buf) {
        Ok(httparse::Status::Complete(found)) => Ok(Some(found)),
        Ok(httparse::Status::Partial) if buf.len() <= MAX_SIZE_LINE_BYTES => Ok(None),
        Ok(httparse::Status::Partial) => Err("a chunk size that is too long"),
        Err(_) => Err("an invalid chunk size"),
    }
}

/// The length of the trailer section with its empty line, and its fields.
#[allow(clippy::type_complexity, reason = "used once")]
fn trailers(buf: &[u8]) -> Result<Option<(usize, Option<Box<HeaderMap>>)>, &'static str> {
    if buf.starts_with(b"\r\n") {
        return Ok(Some((2, None)));
    }
    let mut fields = [httparse::EMPTY_HEADER; MAX_TRAILERS];
    match httparse::parse_headers(buf, &mut fields) {
        Ok(httparse::Status::Complete((length, _))) if has_bare_lf(&buf[..length]) => Err("an invalid trailer"),
        Ok(httparse::Status::Complete((length, fields))) => {
            let mut all = HeaderMap::with_capacity(fields.len());
            for field in fields {
                let name = HeaderName::from_bytes(field.name.as_bytes()).map_err(|_| "an invalid trailer")?;
                if may_trail(&name) {
                    all.append(name, HeaderValue::from_bytes(field.value).map_err(|_| "an invalid trailer")?);
                }
            }
            Ok(Some((length, (!all.is_empty()).then(|| Box::new(all)))))
        }
        Ok(httparse::Status::Partial) if buf.len() <= MAX_TRAILER_BYTES => Ok(None),
        Ok(httparse::Status::Partial) => Err("trailers that are too long"),
        Err(_) => Err("an invalid trailer"),
    }
}

/// Whether a line ends without a carriage return, which some parsers accept.
fn has_bare_lf(lines: &[u8]) -> bool {
    lines.iter().enumerate().any(|(at, byte)| *byte == b'\n' && (at == 0 || lines[at - 1] != b'\r'))
}

/// Whether a field may be passed on as a trailer. Fields of framing, routing and the connection may not (RFC 9110 section
/// 6.5.1).
fn may_trail(name: &HeaderName) -> bool {
    !matches!(
        name.as_str(),
        "connection"
            | "content-encoding"
            | "content-length"
            | "content-range"
            | "content-type"
            | "host"
            | "keep-alive"
            | "proxy-connection"
            | "set-cookie"
            | "te"
            | "trailer"
            | "transfer-encoding"
            | "upgrade"
    )
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use pingora::http::RequestHeader;
    use pingora_core::protocols::http::v1::client::HttpSession;
    use proptest::prelude::*;
    use tokio::io::AsyncWriteExt;

    use super::*;

    /// The data, the trailers and the bytes after the end; `None` if the end is missing.
    type Body = Option<(Vec<u8>, Option<Box<HeaderMap>>, Vec<u8>)>;

    /// Decodes the pieces as they arrive.
    fn decode(pieces: &[&[u8]]) -> Result<Body, &'static str> {
        let (mut decoder, mut buf, mut data) = (ChunkDecoder::default(), BytesMut::new(), Vec::new());
        let mut ended = None;
        for piece in pieces {
            buf.extend_from_slice(piece);
            while ended.is_none() {
                match decoder.decode(&mut buf)? {
                    Decoded::Need => break,
                    Decoded::Data(some) => data.extend_from_slice(&some),
                    Decoded::End(trailers) => ended = Some(trailers),
                }
            }
        }
        assert_eq!(decoder.is_done(), ended.is_some());
        Ok(ended.map(|trailers| (data, trailers, buf.to_vec())))
    }

    /// Decodes by Pingora's session.
    fn by_pingora(body: &[u8]) -> Option<Vec<u8>> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let (near, mut far) = tokio::io::duplex(1 << 20);
            let mut session = HttpSession::new(Box::new(near));
            let mut request = RequestHeader::build("GET", b"/", None).unwrap();
            request.insert_header("host", "a").unwrap();
            session.write_request_header(Box::new(request)).await.unwrap();
            far.write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n").await.unwrap();
            far.write_all(body).await.unwrap();
            far.shutdown().await.unwrap();
            session.read_response().await.ok()?;
            let mut all = Vec::new();
            while !session.is_body_done() {
                all.extend_from_slice(&session.read_body_bytes().await.ok()?.unwrap_or_default());
            }
            Some(all)
        })
    }

    #[test]
    fn trailers_are_returned_without_fields_of_framing() {
        let body = b"3;a=b\r\nabc\r\n0\r\nGrpc-Status: 0\r\nContent-Length: 9\r\n\r\nHTTP/1.1";
        let (data, trailers, rest) = decode(&[body]).unwrap().unwrap();
        let trailers = trailers.unwrap();
        assert_eq!((&data[..], &rest[..], trailers.len()), (&b"abc"[..], &b"HTTP/1.1"[..], 1));
        assert_eq!(trailers["grpc-status"], "0");
    }

    #[test]
    fn invalid_chunked_coding_is_refused() {
        for body in
            ["x\r\n", "-1\r\n", "3\r\nabcd\r\n", "3\r\nabc\n\n", "0\r\nno colon\r\n\r\n", "11111111111111111\r\n"]
        {
            assert!(decode(&[body.as_bytes()]).is_err(), "{body:?}");
        }
        assert!(decode(&[&b"1;".repeat(4096)]).is_err());
        assert!(decode(&[b"3\r\nab"]).unwrap().is_none());
    }

    prop_compose! {
        fn chunked()(
            chunks in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..40), 0..6),
            extension in prop::sample::select(vec!["", ";a", ";a=b", " "]),
            trailer in prop::sample::select(vec!["", "X-A: 1\r\n", "X-A: 1\r\nX-B: 2\r\n"]),
        ) -> (Vec<u8>, Vec<u8>) {
            let mut wire = Vec::new();
            for chunk in &chunks {
                wire.extend(format!("{:x}{extension}\r\n", chunk.len()).into_bytes());
                wire.extend_from_slice(chunk);
                wire.extend_from_slice(b"\r\n");
            }
            wire.extend(format!("0\r\n{trailer}\r\n").into_bytes());
            (chunks.concat(), wire)
        }
    }

    proptest! {
        #[test]
        fn each_split_gives_the_same_body_and_leaves_the_bytes_after_it(
            (data, wire) in chunked(),
            rest in prop::collection::vec(any::<u8>(), 0..10),
        ) {
            let all = [&wire[..], &rest].concat();
            for cut in 0..=all.len() {
                let (decoded, _, left) = decode(&[&all[..cut], &all[cut..]]).unwrap().unwrap();
                prop_assert_eq!((&decoded, &left), (&data, &rest), "{}", cut);
            }
            let bytes: Vec<&[u8]> = all.chunks(1).collect();
            prop_assert_eq!(decode(&bytes).unwrap().unwrap().0, data);
        }

        #[test]
        fn a_body_that_is_accepted_is_the_same_for_the_parser_of_pingora(
            (_, wire) in chunked(),
            at in any::<prop::sample::Index>(),
            byte in prop::sample::select(b"\r\n0123456789abcdefx; :".to_vec()),
            changes in 0..2,
        ) {
            let mut wire = wire;
            if changes > 0 {
                let at = at.index(wire.len());
                wire[at] = byte;
            }
            if let Ok(Some((data, _, _))) = decode(&[&wire]) {
                prop_assert_eq!(by_pingora(&wire), Some(data));
            }
        }
    }
}
