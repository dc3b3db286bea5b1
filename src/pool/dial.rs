//! Opens connections to backends, to one address or to the first address of a host name that answers.
//!
//! Pingora's own connector supports one address only and sends no PROXY header. It does the TLS handshakes. A PROXY
//! header is sent before anything else, also before a TLS handshake. It names one client, so a connection with a PROXY
//! header is never reused for another request.

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use async_trait::async_trait;
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use pingora_core::connectors::{L4Connect, TransportConnector};
use pingora_core::protocols::TcpKeepalive;
use pingora_core::protocols::l4::socket::SocketAddr as PeerAddress;
use pingora_core::protocols::l4::stream::Stream;
use pingora_core::upstreams::peer::{ALPN, HttpPeer};
use pingora_core::{Error, ErrorType, Result};
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpStream, UnixStream};
use tokio_util::either::Either;

use crate::pool::addresses::{Addresses, Destination};
use crate::pool::connection_pool::{BackendSocket, PlainSocket};
use crate::pool::socket_options::keep_alive;
use crate::proxy_protocol::{AddressPair, encode_v2};
use crate::resource_exhaustion;

/// Delay before the next address of a host name is tried, while none has answered (RFC 8305 section 5).
const ATTEMPT_DELAY: Duration = Duration::from_millis(250);

/// Settings of a connection that Pingora opens through `L4Connect`.
#[derive(Debug, Default)]
pub struct Dialer {
    header: Vec<u8>,
    /// The addresses of a host name. `None`: the address of the peer is used.
    addresses: Option<Arc<Addresses>>,
}

impl Dialer {
    /// Connects to the addresses of a host name.
    pub(super) fn to(addresses: Option<Arc<Addresses>>) -> Self {
        Self { header: Vec::new(), addresses }
    }

    /// Makes connections to this peer begin with a PROXY header, version 2. `ends`: the addresses in it; `None` sends
    /// the LOCAL command. `addresses`: those of a host name, if the backend has one.
    pub fn announce(peer: &mut HttpPeer, ends: Option<AddressPair>, addresses: Option<Arc<Addresses>>) {
        peer.options.custom_l4 = Some(Arc::new(Self { header: encode_v2(ends), addresses }));
    }
}

#[async_trait]
impl L4Connect for Dialer {
    async fn connect(&self, address: &PeerAddress) -> Result<Stream> {
        let to = match &self.addresses {
            Some(all) => Destination::Any(Arc::clone(all)),
            None => Destination::One(address.clone()),
        };
        self.open(&to).await.map_err(|error| failed(&to, error))
    }
}

impl Dialer {
    async fn open(&self, to: &Destination) -> io::Result<Stream> {
        match dial(to).await? {
            Either::Left(mut tcp) => {
                tcp.write_all(&self.header).await?;
                Ok(tcp.into())
            }
            Either::Right(mut unix) => {
                unix.write_all(&self.header).await?;
                Ok(unix.into())
            }
        }
    }
}

/// Does the TLS handshakes of all threads. It keeps no connections.
static TLS: LazyLock<TransportConnector> = LazyLock::new(|| TransportConnector::new(None));

/// Loads the system's certificates. Otherwise the first TLS connection would have to wait for it.
pub(super) fn load_certificates() {
    LazyLock::force(&TLS);
}

/// Opens a connection to this peer, or to the first of the addresses that answers. `alpn`: the protocol that a TLS
/// handshake offers.
pub(super) async fn connect(peer: &HttpPeer, addresses: Option<&Arc<Addresses>>, alpn: ALPN) -> Result<BackendSocket> {
    if !peer.is_tls() && peer.options.custom_l4.is_none() {
        let to = match addresses {
            Some(all) => Destination::Any(Arc::clone(all)),
            None => Destination::One(peer._address.clone()),
        };
        let (within, alive) = (peer.options.total_connection_timeout, peer.options.tcp_keepalive.as_ref());
        return open(&to, within, alive).await.map(Either::Left);
    }
    let mut peer = peer.clone();
    peer.options.alpn = alpn;
    if let (Some(all), None) = (addresses, &peer.options.custom_l4) {
        peer.options.custom_l4 = Some(Arc::new(Dialer::to(Some(Arc::clone(all)))));
    }
    TLS.new_stream(&peer).await.map(Either::Right)
}

/// Opens a connection without TLS. `within`: connect timeout. `alive`: TCP keepalive.
pub(crate) async fn open(
    to: &Destination,
    within: Option<Duration>,
    alive: Option<&TcpKeepalive>,
) -> Result<PlainSocket> {
    let opening = async {
        let socket = dial(to).await?;
        if let (Either::Left(tcp), Some(times)) = (&socket, alive) {
            keep_alive(tcp, times)?;
        }
        Ok(socket)
    };
    let opened = match within {
        Some(within) => tokio::time::timeout(within, opening).await.unwrap_or(Err(io::ErrorKind::TimedOut.into())),
        None => opening.await,
    };
    opened.map_err(|error| failed(to, error))
}

fn failed(to: &Destination, error: io::Error) -> Box<Error> {
    Error::because(kind(&error), format!("connecting to {to}"), error)
}

pub(crate) async fn dial(to: &Destination) -> io::Result<PlainSocket> {
    match to {
        Destination::One(PeerAddress::Inet(address)) => tcp(*address).await.map(Either::Left),
        Destination::One(PeerAddress::Unix(address)) => {
            let path = address.as_pathname().ok_or(io::ErrorKind::AddrNotAvailable)?;
            Ok(Either::Right(UnixStream::connect(path).await?))
        }
        Destination::Any(all) => any(all).await.map(Either::Left),
    }
}

async fn tcp(address: SocketAddr) -> io::Result<TcpStream> {
    let tcp = TcpStream::connect(address).await?;
    tcp.set_nodelay(true)?;
    Ok(tcp)
}

/// Connects to the first address that answers. The next address is tried when an attempt fails, or when none has
/// answered for `ATTEMPT_DELAY`. Attempts in progress continue (RFC 8305 section 5).
async fn any(addresses: &Addresses) -> io::Result<TcpStream> {
    let mut next = addresses.in_order().peekable();
    let given_up = next.peek().map(|first| GivenUp { addresses, first: *first });
    let mut under_way = FuturesUnordered::new();
    let mut worst = None;
    loop {
        under_way.extend(next.next().map(|address| async move { (address, tcp(address).await) }));
        let more = next.peek().is_some();
        let ended = tokio::select! {
            ended = under_way.next() => ended,
            () = tokio::time::sleep(ATTEMPT_DELAY), if more => continue,
        };
        match ended {
            Some((address, Ok(tcp))) => {
                std::mem::forget(given_up);
                addresses.set_good(address);
                return Ok(tcp);
            }
            Some((_, Err(error))) => worst = Some(telling(worst, error)),
            None => return Err(worst.unwrap_or_else(|| io::ErrorKind::NotFound.into())),
        }
    }
}

/// Its drop records that no address has answered, for example because the connect timeout has passed. On success `any`
/// forgets this guard, so that it is not dropped.
struct GivenUp<'a> {
    addresses: &'a Addresses,
    first: SocketAddr,
}

impl Drop for GivenUp<'_> {
    fn drop(&mut self) {
        self.addresses.set_silent(self.first);
    }
}

/// Chooses the error to report: the later one, unless only the later one is a shortage of resources on this host.
/// Example of such a shortage: a host without IPv6 has no source address for `::1`.
fn telling(before: Option<io::Error>, error: io::Error) -> io::Error {
    match before {
        Some(before) if resource_exhaustion::of(&error).is_some() && resource_exhaustion::of(&before).is_none() => {
            before
        }
        _ => error,
    }
}

/// Maps the error to a type in the same way as Pingora's own connector.
pub(super) fn kind(error: &io::Error) -> ErrorType {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => ErrorType::ConnectRefused,
        io::ErrorKind::HostUnreachable | io::ErrorKind::NetworkUnreachable => ErrorType::ConnectNoRoute,
        io::ErrorKind::TimedOut => ErrorType::ConnectTimedout,
        _ => ErrorType::ConnectError,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_of_the_backend_is_reported_before_a_local_shortage() {
        let error = io::Error::from_raw_os_error;
        for (before, later, expected) in [
            (Some(libc::EADDRNOTAVAIL), libc::ECONNREFUSED, libc::ECONNREFUSED),
            (Some(libc::ECONNREFUSED), libc::EADDRNOTAVAIL, libc::ECONNREFUSED),
            (Some(libc::ECONNREFUSED), libc::EHOSTUNREACH, libc::EHOSTUNREACH),
            (Some(libc::EMFILE), libc::EMFILE, libc::EMFILE),
            (None, libc::EADDRNOTAVAIL, libc::EADDRNOTAVAIL),
        ] {
            assert_eq!(telling(before.map(error), error(later)).raw_os_error(), Some(expected), "{before:?} {later}");
        }
    }
}
