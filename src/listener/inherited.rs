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
    /// Its use in the process before the upgrade. `None`: it comes from systemd.
    pub handed: Option<Handed>,
    /// The descriptor.
    pub fd: OwnedFd,
}

/// The use of a socket in the process before the upgrade.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Handed {
    /// The address in the configuration.
    pub configured: String,
    /// Whether it is the socket of the admin listener.
    pub admin: bool,
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

    /// Takes the sockets of these listeners; `None` for a listener without one. The better matches come first: no
    /// listener takes the socket that has the name and the address of another one.
    pub(super) fn take(&mut self, listeners: &[schema::ListenerConfig]) -> Vec<Option<Bound>> {
        let mut taken: Vec<_> = listeners.iter().map(|_| None).collect();
        for rule in MatchRule::ALL {
            for (listener, taken) in listeners.iter().zip(&mut taken).filter(|(_, taken)| taken.is_none()) {
                let wanted = Wanted { name: listener.label(), address: listener.address, admin: false };
                *taken = self.take_tcp(&wanted, rule).and_then(|socket| {
                    let actual = socket.local_addr().ok()?;
                    Some(Bound { configured: listener.address, actual, socket })
                });
            }
        }
        taken
    }

    /// Takes the TCP socket of the admin listener.
    pub fn take_admin(&mut self, address: SocketAddr) -> Option<TcpListener> {
        let wanted = Wanted { name: "admin".to_owned(), address, admin: true };
        MatchRule::ALL.into_iter().find_map(|rule| self.take_tcp(&wanted, rule))
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

    fn take_tcp(&mut self, wanted: &Wanted, rule: MatchRule) -> Option<TcpListener> {
        let at = self.free.iter().position(|socket| rule.matches(socket, wanted))?;
        Some(TcpListener::from(self.free.remove(at).fd))
    }
}

/// A listener that needs a socket.
struct Wanted {
    name: String,
    address: SocketAddr,
    admin: bool,
}

/// What a socket and a listener have in common.
#[derive(Debug, Clone, Copy)]
enum MatchRule {
    NameAndAddress,
    Name,
    Address,
}

impl MatchRule {
    /// The best one first.
    const ALL: [Self; 3] = [Self::NameAndAddress, Self::Name, Self::Address];

    fn matches(self, socket: &InheritedSocket, wanted: &Wanted) -> bool {
        let Some(local) = local(&socket.fd) else { return false };
        let is_named = socket.name == wanted.name;
        match (&socket.handed, self) {
            (Some(handed), _) if handed.admin != wanted.admin => false,
            (Some(handed), Self::NameAndAddress) => is_named && handed.configured == wanted.address.to_string(),
            // A listener that has got another address in the file is bound anew.
            (Some(_), Self::Name) => false,
            (Some(handed), Self::Address) => handed.configured == wanted.address.to_string(),
            (None, Self::NameAndAddress) => is_named && local == wanted.address,
            (None, Self::Name) => is_named,
            (None, Self::Address) => local == wanted.address,
        }
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
        let handed = configured.map(|configured| Handed { configured: configured.to_owned(), admin: name == "admin" });
        (InheritedSocket { name: name.to_owned(), handed, fd: socket.into() }, address)
    }

    fn take(sockets: &mut InheritedSockets, listener: schema::ListenerConfig) -> Option<SocketAddr> {
        sockets.take(&[listener]).remove(0).map(|bound| bound.actual)
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
        assert_eq!(take(&mut sockets, listener("web", far)).unwrap(), named_at, "the unit decides about the address");
        assert_eq!(take(&mut sockets, listener("tls", other_at)).unwrap(), other_at);
        assert_eq!(take(&mut sockets, listener("web", far)), None);
        assert_eq!(sockets.take_admin(spare_at).unwrap().local_addr().unwrap(), spare_at);
    }

    #[test]
    fn of_two_sockets_with_one_name_the_one_with_the_address_is_taken() {
        let (first, first_at) = socket("weir.socket", None);
        let (second, second_at) = socket("weir.socket", None);
        let mut sockets = InheritedSockets::new(vec![first, second]);
        assert_eq!(take(&mut sockets, listener("weir.socket", second_at)).unwrap(), second_at);
        assert_eq!(take(&mut sockets, listener("weir.socket", first_at)).unwrap(), first_at);
    }

    #[test]
    fn after_an_upgrade_a_listener_with_another_address_is_bound_anew() {
        let (old, old_at) = socket("web", Some("127.0.0.1:0"));
        let mut sockets = InheritedSockets::new(vec![old]);
        assert_eq!(take(&mut sockets, listener("web", "127.0.0.1:9".parse().unwrap())), None);
        let renamed = take(&mut sockets, listener("public", "127.0.0.1:0".parse().unwrap()));
        assert_eq!(renamed, Some(old_at), "another name, but the same address as configured");
    }

    #[test]
    fn a_listener_never_takes_the_socket_that_fits_another_one_better() {
        let any: SocketAddr = "127.0.0.1:0".parse().unwrap();
        let (admin, admin_at) = socket("admin", Some("127.0.0.1:0"));
        let (web, web_at) = socket("web", Some("127.0.0.1:0"));
        let mut sockets = InheritedSockets::new(vec![admin, web]);
        let bound = sockets.take(&[listener("more", any), listener("web", any)]);
        assert_eq!(
            bound.iter().map(|bound| bound.as_ref().map(|bound| bound.actual)).collect::<Vec<_>>(),
            [None, Some(web_at)]
        );
        assert_eq!(sockets.take_admin(any).unwrap().local_addr().unwrap(), admin_at);
    }

    #[test]
    fn what_does_not_listen_is_closed() {
        let connected = std::os::unix::net::UnixStream::pair().unwrap().0;
        let (udp, file) = (std::net::UdpSocket::bind("127.0.0.1:0").unwrap(), tempfile::tempfile().unwrap());
        let fds: [OwnedFd; 3] = [connected.into(), udp.into(), file.into()];
        let of = |fd| InheritedSocket { name: "web".into(), handed: None, fd };
        assert!(InheritedSockets::new(fds.into_iter().map(of).collect()).free.is_empty());
    }
}
