//! Listening sockets that another process has opened: the process before an upgrade, or systemd.
//!
//! A listener takes the socket of its name and address, then the one of its name, then the one of its address. After
//! an upgrade the name alone is not enough: a listener that has got another address in the file is bound anew.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::path::Path;

use socket2::{Domain, SockRef, Type};

use super::Bound;
use crate::config::schema;

/// A socket that is not in use yet.
#[derive(Debug)]
pub struct InheritedSocket {
    /// Its name: that of the listener, or `FileDescriptorName=` of the socket unit.
    pub name: String,
    /// The address in the configuration of the process before the upgrade. `None`: it comes from systemd.
    pub configured: Option<String>,
    /// The descriptor.
    pub fd: OwnedFd,
}

/// The sockets that no listener has taken yet.
#[derive(Debug, Default)]
pub struct InheritedSockets {
    free: Vec<InheritedSocket>,
    /// The names of descriptors that are not usable, and why. The log does not exist yet when they are found.
    unusable: Vec<(String, io::Error)>,
}

impl InheritedSockets {
    /// Keeps the sockets that listen. The others are closed.
    pub fn new(sockets: Vec<InheritedSocket>) -> Self {
        let mut this = Self::default();
        for socket in sockets {
            match check(&socket.fd) {
                Ok(()) => this.free.push(socket),
                Err(error) => this.unusable.push((socket.name, error)),
            }
        }
        this
    }

    /// Takes the socket of a listener.
    pub(super) fn take(&mut self, listener: &schema::ListenerConfig) -> Option<Bound> {
        let fd = self.take_fd(listener.label().as_ref(), &listener.address.to_string(), &|fd| {
            local(fd).is_some_and(|local| local == listener.address)
        })?;
        let socket = TcpListener::from(fd);
        let actual = socket.local_addr().ok()?;
        Some(Bound { configured: listener.address, actual, socket })
    }

    /// Takes the TCP socket of the admin listener.
    pub fn take_admin(&mut self, address: SocketAddr) -> Option<TcpListener> {
        let is_at = |fd: &OwnedFd| local(fd).is_some_and(|local| local == address);
        let fd = self.take_fd("admin", &address.to_string(), &is_at);
        fd.filter(|fd| local(fd).is_some()).map(TcpListener::from)
    }

    /// Takes the Unix socket of the admin listener.
    pub fn take_unix_admin(&mut self, path: &Path) -> Option<UnixListener> {
        let is_at = |fd: &OwnedFd| {
            let address = SockRef::from(fd).local_addr().ok();
            address.is_some_and(|address| address.as_pathname() == Some(path))
        };
        // The name alone is not enough: clients find the socket by its path.
        let at = self.free.iter().position(|socket| is_at(&socket.fd))?;
        Some(UnixListener::from(self.free.remove(at).fd))
    }

    /// Closes the sockets that are left, and logs them.
    pub fn close_rest(self) {
        for (name, error) in self.unusable {
            tracing::warn!(name, %error, "an inherited descriptor is closed");
        }
        for socket in self.free {
            let address = local(&socket.fd).map(|address| address.to_string());
            let address = address.unwrap_or_else(|| "a Unix socket".to_owned());
            tracing::warn!(name = socket.name, address, "no listener has this inherited socket: it is closed");
        }
    }

    fn take_fd(&mut self, name: &str, configured: &str, is_at: &dyn Fn(&OwnedFd) -> bool) -> Option<OwnedFd> {
        let named = |socket: &InheritedSocket| socket.name == name;
        let at_address = |socket: &InheritedSocket| match &socket.configured {
            Some(before) => before == configured,
            None => is_at(&socket.fd),
        };
        let tcp = |socket: &InheritedSocket| local(&socket.fd).is_some();
        let find =
            |wanted: &dyn Fn(&InheritedSocket) -> bool| self.free.iter().position(|each| tcp(each) && wanted(each));
        let at = find(&|socket| named(socket) && at_address(socket))
            .or_else(|| find(&|socket| named(socket) && socket.configured.is_none()))
            .or_else(|| find(&at_address))?;
        Some(self.free.remove(at).fd)
    }
}

/// Whether this is a stream socket that listens. Then it is set to not block.
fn check(fd: &OwnedFd) -> io::Result<()> {
    let socket = SockRef::from(fd);
    let is_known = [Domain::IPV4, Domain::IPV6, Domain::UNIX].contains(&socket.domain()?);
    if !is_known || socket.r#type()? != Type::STREAM || !socket.is_listener()? {
        let what = "it is not a listening TCP or Unix socket (a socket unit needs Accept=no)";
        return Err(io::Error::new(io::ErrorKind::InvalidInput, what));
    }
    socket.set_nonblocking(true)
}

/// The local address of a TCP socket.
fn local(fd: impl AsFd) -> Option<SocketAddr> {
    SockRef::from(&fd.as_fd()).local_addr().ok()?.as_socket()
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests {
    use super::*;

    fn socket(name: &str, configured: Option<&str>) -> (InheritedSocket, SocketAddr) {
        let socket = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = socket.local_addr().unwrap();
        let (name, configured) = (name.to_owned(), configured.map(str::to_owned));
        (InheritedSocket { name, configured, fd: socket.into() }, address)
    }

    fn listener(name: &str, address: SocketAddr) -> schema::ListenerConfig {
        serde_json::from_value(serde_json::json!({ "name": name, "address": address.to_string() })).unwrap()
    }

    #[test]
    fn a_socket_of_systemd_is_matched_by_name_and_then_by_address() {
        let (named, named_at) = socket("web", None);
        let (other, other_at) = socket("weir.socket", None);
        let (spare, spare_at) = socket("spare", None);
        let mut sockets = InheritedSockets::new(vec![other, named, spare]);
        let far = SocketAddr::from(([127, 0, 0, 1], 1));
        assert_eq!(sockets.take(&listener("web", far)).unwrap().actual, named_at, "the unit decides about the address");
        assert_eq!(sockets.take(&listener("tls", other_at)).unwrap().actual, other_at);
        assert!(sockets.take(&listener("web", far)).is_none());
        assert_eq!(sockets.take_admin(spare_at).unwrap().local_addr().unwrap(), spare_at);
    }

    #[test]
    fn of_two_sockets_with_one_name_the_one_with_the_address_is_taken() {
        let (first, first_at) = socket("weir.socket", None);
        let (second, second_at) = socket("weir.socket", None);
        let mut sockets = InheritedSockets::new(vec![first, second]);
        assert_eq!(sockets.take(&listener("weir.socket", second_at)).unwrap().actual, second_at);
        assert_eq!(sockets.take(&listener("weir.socket", first_at)).unwrap().actual, first_at);
    }

    #[test]
    fn after_an_upgrade_a_listener_with_another_address_is_bound_anew() {
        let (old, old_at) = socket("web", Some("127.0.0.1:0"));
        let mut sockets = InheritedSockets::new(vec![old]);
        assert!(sockets.take(&listener("web", "127.0.0.1:9".parse().unwrap())).is_none());
        let renamed = sockets.take(&listener("public", "127.0.0.1:0".parse().unwrap()));
        assert_eq!(renamed.unwrap().actual, old_at, "another name, but the same address as configured");
    }

    #[test]
    fn what_does_not_listen_is_closed() {
        let connected = std::os::unix::net::UnixStream::pair().unwrap().0;
        let (udp, file) = (std::net::UdpSocket::bind("127.0.0.1:0").unwrap(), tempfile::tempfile().unwrap());
        let fds: [OwnedFd; 3] = [connected.into(), udp.into(), file.into()];
        let of = |fd| InheritedSocket { name: "web".into(), configured: None, fd };
        assert!(InheritedSockets::new(fds.into_iter().map(of).collect()).free.is_empty());
    }
}
