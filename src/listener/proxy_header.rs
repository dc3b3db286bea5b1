//! The PROXY header at the front of a connection: read to its last byte and no further, so that what follows, TLS or
//! HTTP, finds the stream as the client began it.
//!
//! It trusts nobody and knows no deadline: both are the accept loop's.

use std::io;

use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;

use crate::proxy_protocol::{self as proxy, AddressPair, V2, Version};

/// What stood at the front.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ProxyHeader {
    /// The client's connection has these ends.
    Ends(AddressPair),
    /// Nothing of the kind: the socket's own ends count.
    Nothing,
    /// The other end left before it said anything, as those do who only look whether the port is open.
    Left,
}

/// Reads the header.
///
/// # Errors
/// The stream's; `InvalidData` where it is no header.
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

/// The end of a line can only be looked for: bytes are taken once it is known that they belong to it.
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
    let mut bin = [0; 512];
    while bytes > 0 {
        let some = bytes.min(bin.len());
        stream.read_exact(&mut bin[..some]).await?;
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

    /// What is read of these bytes, sent in pieces of this size, and what is left of the stream.
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
        let said = read(&mut server).await;
        sending.await.unwrap();
        let mut rest = Vec::new();
        if said.is_ok() {
            server.read_to_end(&mut rest).await.unwrap();
        }
        (said, rest)
    }

    #[tokio::test]
    async fn not_a_byte_more_than_the_header_is_taken_however_it_comes() {
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
                let (said, rest) = read_of(&[&header[..], b"GET / HTTP/1.1\r\n\r\n"].concat(), piece).await;
                assert_eq!((said.unwrap(), rest), (want, b"GET / HTTP/1.1\r\n\r\n".to_vec()), "{piece}");
            }
        }
    }

    #[tokio::test]
    async fn what_is_none_and_what_breaks_off_are_errors() {
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
