//! Connections that Pingora's own connector cannot open: with a PROXY header at their front, and for requests that ask to
//! switch protocols (see `tunnel`).
//!
//! The header is sent before anything else, so before a TLS handshake. What it says is the caller's; nobody else may use
//! such a connection afterwards.

use std::io;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use pingora_core::connectors::L4Connect;
use pingora_core::protocols::TcpKeepalive;
use pingora_core::protocols::l4::socket::SocketAddr as PeerAddress;
use pingora_core::protocols::l4::stream::Stream;
use pingora_core::protocols::l4::virt::VirtualSockOpt;
use pingora_core::upstreams::peer::HttpPeer;
use pingora_core::{Error, ErrorType, Result};
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpStream, UnixStream};
use tokio_util::either::Either;

use super::kept::Socket;
use super::tunnel;
use crate::proxy_protocol::{Ends, encode_v2};

/// How to open a connection.
#[derive(Debug, Default)]
pub struct Connect {
    header: Vec<u8>,
    tunnel: bool,
}

impl Connect {
    /// For a request that asks to switch protocols.
    pub(super) fn tunnel() -> Self {
        Self { header: Vec::new(), tunnel: true }
    }

    /// Sets how a peer is connected to: with a PROXY header of version 2 that names these ends, or that says LOCAL.
    /// `tunnel`: the request asks to switch protocols.
    pub fn announce(peer: &mut HttpPeer, ends: Option<Ends>, tunnel: bool) {
        peer.options.custom_l4 = Some(Arc::new(Self { header: encode_v2(ends), tunnel }));
    }
}

#[async_trait]
impl L4Connect for Connect {
    async fn connect(&self, address: &PeerAddress) -> Result<Stream> {
        match self.open(address).await {
            Ok(stream) => Ok(stream),
            Err(error) => Err(Error::because(kind(&error), format!("connecting to {address}"), error)),
        }
    }
}

impl Connect {
    async fn open(&self, address: &PeerAddress) -> io::Result<Stream> {
        match address {
            PeerAddress::Inet(address) => {
                let mut tcp = TcpStream::connect(address).await?;
                tcp.set_nodelay(true)?;
                tcp.write_all(&self.header).await?;
                Ok(if self.tunnel { tunnel::tcp(tcp) } else { tcp.into() })
            }
            PeerAddress::Unix(address) => {
                let path = address.as_pathname().ok_or(io::ErrorKind::AddrNotAvailable)?;
                let mut unix = UnixStream::connect(path).await?;
                unix.write_all(&self.header).await?;
                Ok(if self.tunnel { tunnel::unix(unix) } else { unix.into() })
            }
        }
    }
}

/// A socket for HTTP/1 in plain, opened within this time, kept alive by the kernel so.
pub(super) async fn open(
    address: &PeerAddress,
    within: Option<Duration>,
    alive: Option<&TcpKeepalive>,
) -> Result<Socket> {
    let opening = dial(address, alive);
    let opened = match within {
        Some(within) => tokio::time::timeout(within, opening).await.unwrap_or(Err(io::ErrorKind::TimedOut.into())),
        None => opening.await,
    };
    opened.map_err(|error| Error::because(kind(&error), format!("connecting to {address}"), error))
}

async fn dial(address: &PeerAddress, alive: Option<&TcpKeepalive>) -> io::Result<Socket> {
    match address {
        PeerAddress::Inet(address) => {
            let tcp = TcpStream::connect(address).await?;
            tcp.set_nodelay(true)?;
            if let Some(times) = alive {
                keep_alive(&tcp, times)?;
            }
            Ok(Either::Left(tcp))
        }
        PeerAddress::Unix(address) => {
            let path = address.as_pathname().ok_or(io::ErrorKind::AddrNotAvailable)?;
            Ok(Either::Right(UnixStream::connect(path).await?))
        }
    }
}

/// Sets what Pingora wants of a socket that it does not know.
pub(super) fn set_option(socket: &impl AsFd, option: VirtualSockOpt) -> io::Result<()> {
    match option {
        VirtualSockOpt::NoDelay => socket2::SockRef::from(socket).set_tcp_nodelay(true),
        VirtualSockOpt::KeepAlive(times) => keep_alive(socket, &times),
        _ => Ok(()),
    }
}

fn keep_alive(socket: &impl AsFd, times: &TcpKeepalive) -> io::Result<()> {
    let keepalive = socket2::TcpKeepalive::new().with_time(times.idle).with_interval(times.interval);
    let keepalive = keepalive.with_retries(u32::try_from(times.count).unwrap_or(u32::MAX));
    socket2::SockRef::from(socket).set_tcp_keepalive(&keepalive)
}

/// As Pingora's own connector has them.
pub(super) fn kind(error: &io::Error) -> ErrorType {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => ErrorType::ConnectRefused,
        io::ErrorKind::HostUnreachable | io::ErrorKind::NetworkUnreachable => ErrorType::ConnectNoRoute,
        io::ErrorKind::TimedOut => ErrorType::ConnectTimedout,
        _ => ErrorType::ConnectError,
    }
}
