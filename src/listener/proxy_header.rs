//! Reads the PROXY header at the start of a connection. It reads exactly the header, so TLS or HTTP finds the rest of
//! the stream complete.
//!
//! It checks no trusted networks and has no timeout: the accept loop does both.

use std::io;

use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;

use crate::proxy_protocol::{self as proxy, AddressPair, V2, Version};

/// The content of the PROXY header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ProxyHeader {
    /// The addresses of the client's connection.
    Ends(AddressPair),
    /// The header has no addresses (UNKNOWN or LOCAL), so the socket's own addresses count.
    Nothing,
    /// The peer closed before it sent a byte. TCP health checks do that.
    Left,
}

/// Reads the header.
///
/// # Errors
/// Errors of the stream; `InvalidData` if the bytes are not a valid header.
pub(super) async fn read(stream: &mut TcpStream) -> io::Result<ProxyHeader> {
    let mut line = [0; proxy::V1_MAX_LEN];
    match stream.read(&mut line[..proxy::MIN_PREFIX_LEN]).await {
        Ok(0) => return Ok(ProxyHeader::Left),
        Err(error) if error.kind() == io::ErrorKind::ConnectionReset => return Ok(ProxyHeader::Left),
        Ok(some) => stream.read_exact(&mut line[some..proxy::MIN_PREFIX_LEN]).await?,
        Err(error) => return Err(error),
    };
    let start = line.first_chunk().ok_or(io::ErrorKind::InvalidData)?;
    let ends = match proxy::version(start).map_err(invalid)? {
        Version::One => read_line(stream, &mut line).await?,
        Version::Two => read_binary(stream, start).await?,
    };
    Ok(ends.map_or(ProxyHeader::Nothing, ProxyHeader::Ends))
}

/// Reads a version 1 line. Its length is not known in advance. So the bytes are peeked, and consumed only when they are
/// known to belong to the line.
async fn read_line(stream: &mut TcpStream, line: &mut [u8; proxy::V1_MAX_LEN]) -> io::Result<Option<AddressPair>> {
    let mut have = proxy::MIN_PREFIX_LEN;
    while have < line.len() {
        let seen = stream.peek(&mut line[have..]).await?;
        let end = line[have..have + seen].iter().position(|byte| *byte == b'\n');
        let mine = end.map_or(seen, |at| at + 1);
        if mine == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        stream.read_exact(&mut line[have..have + mine]).await?;
        have += mine;
        if end.is_some() {
            return proxy::parse_v1(&line[..have]).map_err(invalid);
        }
    }
    Err(invalid(proxy::MalformedHeader::Endless))
}

async fn read_binary(stream: &mut TcpStream, start: &[u8; proxy::MIN_PREFIX_LEN]) -> io::Result<Option<AddressPair>> {
    let mut fixed = [0; proxy::V2_FIXED];
    fixed[..proxy::MIN_PREFIX_LEN].copy_from_slice(start);
    stream.read_exact(&mut fixed[proxy::MIN_PREFIX_LEN..]).await?;
    let header = V2::parse(&fixed).map_err(invalid)?;
    let mut addresses = [0; proxy::V2_ADDRESSES];
    let addresses = &mut addresses[..header.addresses()];
    stream.read_exact(addresses).await?;
    skip(stream, header.length - addresses.len()).await?;
    Ok(header.ends(addresses))
}

async fn skip(stream: &mut TcpStream, mut bytes: usize) -> io::Result<()> {
    let mut discarded = [0; 512];
    while bytes > 0 {
        let some = bytes.min(discarded.len());
        stream.read_exact(&mut discarded[..some]).await?;
        bytes -= some;
    }
    Ok(())
}

fn invalid(why: proxy::MalformedHeader) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests {
    use tokio::io::AsyncWriteExt;
    use tokio::net::TcpListener;

    use super::*;

    async fn pair() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        (client, listener.accept().await.unwrap().0)
    }

    /// Sends these bytes in pieces of this size. Returns the result of `read` and the rest of the stream.
    async fn read_of(bytes: &[u8], piece: usize) -> (io::Result<ProxyHeader>, Vec<u8>) {
        let (mut client, mut server) = pair().await;
        let bytes = bytes.to_vec();
        let sending = tokio::spawn(async move {
            client.set_nodelay(true).unwrap();
            for piece in bytes.chunks(piece) {
                if client.write_all(piece).await.is_err() {
                    return;
                }
                tokio::task::yield_now().await;
            }
        });
        let header = read(&mut server).await;
        sending.await.unwrap();
        let mut rest = Vec::new();
        if header.is_ok() {
            server.read_to_end(&mut rest).await.unwrap();
        }
        (header, rest)
    }

    #[tokio::test]
    async fn exactly_the_header_is_consumed_for_any_segmentation() {
        let ends =
            AddressPair { source: "192.0.2.1:5".parse().unwrap(), destination: "198.51.100.2:6".parse().unwrap() };
        let mut with_tlv = proxy::encode_v2(Some(ends));
        with_tlv[14..16].copy_from_slice(&1500_u16.to_be_bytes());
        with_tlv.extend([0x04; 1500 - 12]);
        let headers = [
            (b"PROXY TCP4 192.0.2.1 198.51.100.2 5 6\r\n".to_vec(), ProxyHeader::Ends(ends)),
            (b"PROXY UNKNOWN\r\n".to_vec(), ProxyHeader::Nothing),
            (proxy::encode_v2(Some(ends)), ProxyHeader::Ends(ends)),
            (proxy::encode_v2(None), ProxyHeader::Nothing),
            (with_tlv, ProxyHeader::Ends(ends)),
        ];
        for (header, want) in headers {
            for piece in [1, 7, 10_000] {
                let (header_read, rest) = read_of(&[&header[..], b"GET / HTTP/1.1\r\n\r\n"].concat(), piece).await;
                assert_eq!((header_read.unwrap(), rest), (want, b"GET / HTTP/1.1\r\n\r\n".to_vec()), "{piece}");
            }
        }
    }

    #[tokio::test]
    async fn a_malformed_or_truncated_header_is_an_error() {
        let kind = async |bytes: &[u8]| read_of(bytes, 10_000).await.0.unwrap_err().kind();
        assert_eq!(kind(b"GET / HTTP/1.1\r\n\r\n").await, io::ErrorKind::InvalidData);
        assert_eq!(kind(b"PROXY TCP4 1.1.1.1 2.2.2.2 1 2\n").await, io::ErrorKind::InvalidData);
        let endless = format!("PROXY UNKNOWN {}\r\n", "x".repeat(100));
        assert_eq!(kind(endless.as_bytes()).await, io::ErrorKind::InvalidData);
        for broken in [&b"PROXY"[..], b"PROXY TCP4 1.1.1.1 2.2.2.2 1", &proxy::encode_v2(None)[..14]] {
            assert_eq!(kind(broken).await, io::ErrorKind::UnexpectedEof);
        }
        assert_eq!(read_of(b"", 1).await.0.unwrap(), ProxyHeader::Left);
    }
}
