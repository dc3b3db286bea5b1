//! Binds the socket of the admin API at start. The file of a Unix socket is removed at the end.

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use socket2::{Domain, SockAddr, Type};

use super::StartError;
use super::writable::can_create;
use crate::admin::BoundSocket;
use crate::config::values::AdminAddress;
use crate::listener::InheritedSockets;

/// Mode of a Unix socket: owner and group may connect.
const MODE: u32 = 0o660;
/// Length of the kernel's accept queue.
const BACKLOG: i32 = 128;

/// The file of a Unix socket. It is removed on drop.
#[derive(Debug)]
pub(super) struct SocketFile {
    path: PathBuf,
    /// Device and inode, so that the file of another process is not removed.
    id: (u64, u64),
}

/// A bound socket with its address and file.
#[derive(Debug)]
pub(super) struct AdminSocket {
    pub(super) socket: BoundSocket,
    /// The address as bound, with the real port if 0 was configured.
    pub(super) address: AdminAddress,
    /// `None` for a TCP socket.
    pub(super) file: Option<SocketFile>,
}

impl AdminSocket {
    /// Takes the inherited socket of this address, or binds it. `owns_file`: this process removes the file of an
    /// inherited Unix socket at its end.
    pub(super) fn open(
        address: &AdminAddress,
        inherited: &mut InheritedSockets,
        owns_file: bool,
    ) -> Result<Self, StartError> {
        let adopted = match address {
            AdminAddress::Socket(configured) => inherited.take_admin(*configured).map(|socket| {
                let address = AdminAddress::Socket(socket.local_addr().unwrap_or(*configured));
                Self { socket: BoundSocket::Tcp(socket), address, file: None }
            }),
            AdminAddress::Unix(path) => inherited.take_unix_admin(path).map(|socket| {
                let data = fs::symlink_metadata(path).ok().filter(|_| owns_file);
                let file = data.map(|data| SocketFile { path: path.clone(), id: id(&data) });
                Self { socket: BoundSocket::Unix(socket), address: address.clone(), file }
            }),
        };
        adopted.map_or_else(|| Self::bind(address), Ok)
    }

    pub(super) fn bind(address: &AdminAddress) -> Result<Self, StartError> {
        let bound = match address {
            AdminAddress::Socket(address) => std::net::TcpListener::bind(address).and_then(|socket| {
                let address = AdminAddress::Socket(socket.local_addr()?);
                Ok(Self { socket: BoundSocket::Tcp(socket), address, file: None })
            }),
            AdminAddress::Unix(path) => bind_unix(path),
        };
        bound.map_err(|source| StartError::Admin { address: address.clone(), source })
    }
}

impl SocketFile {
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Leaves the file to another process.
    pub(super) fn leave(mut self) {
        // No file has this id.
        self.id = (0, 0);
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        let ours = fs::symlink_metadata(&self.path).is_ok_and(|data| id(&data) == self.id);
        if ours && let Err(error) = fs::remove_file(&self.path) {
            tracing::debug!(%error, path = %self.path.display(), "the admin socket could not be removed");
        }
    }
}

/// The advice that an error message adds if an admin address cannot be bound.
pub(super) fn advice(address: &AdminAddress, error: &io::Error) -> &'static str {
    match (address, error.kind()) {
        (AdminAddress::Socket(_), _) => crate::listener::advice(error),
        (_, io::ErrorKind::AddrInUse) => "; another process listens there (`ss -lxp` says which)",
        (_, io::ErrorKind::NotFound) => "; its folder does not exist",
        (_, io::ErrorKind::PermissionDenied) => {
            "; the user that starts Weir may not make it, or not connect to what is there"
        }
        _ => "",
    }
}

/// Whether a Unix socket can be bound, for `weir check`. A socket that is in use passes. Nothing is removed.
pub(super) fn check_unix(path: &Path) -> io::Result<()> {
    match is_stale(path) {
        Ok(_) => can_create(path),
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => Ok(()),
        Err(error) => Err(error),
    }
}

fn bind_unix(path: &Path) -> io::Result<AdminSocket> {
    if is_stale(path)? {
        fs::remove_file(path)?;
    }
    let socket = socket2::Socket::new(Domain::UNIX, Type::STREAM, None)?;
    socket.bind(&SockAddr::unix(path)?)?;
    let file = SocketFile { path: path.to_owned(), id: id(&fs::symlink_metadata(path)?) };
    // The mode is set before the socket accepts, so that no other user can connect in between.
    fs::set_permissions(path, Permissions::from_mode(MODE))?;
    socket.listen(BACKLOG)?;
    let address = AdminAddress::Unix(path.to_owned());
    Ok(AdminSocket { socket: BoundSocket::Unix(socket.into()), address, file: Some(file) })
}

/// Whether there is the socket file of a process that has ended. A refused connection shows that no process listens
/// there.
fn is_stale(path: &Path) -> io::Result<bool> {
    match fs::symlink_metadata(path) {
        Ok(data) if data.file_type().is_socket() => {}
        Ok(_) => return Err(io::Error::new(io::ErrorKind::AlreadyExists, "there is a file that is not a socket")),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(error),
    }
    let probe = socket2::Socket::new(Domain::UNIX, Type::STREAM, None)?;
    // Without it, a process whose accept queue is full would block the start.
    probe.set_nonblocking(true)?;
    match probe.connect(&SockAddr::unix(path)?) {
        Ok(()) => Err(io::ErrorKind::AddrInUse.into()),
        Err(error) => match error.kind() {
            io::ErrorKind::ConnectionRefused => Ok(true),
            io::ErrorKind::NotFound => Ok(false),
            io::ErrorKind::WouldBlock => Err(io::ErrorKind::AddrInUse.into()),
            _ => Err(error),
        },
    }
}

fn id(data: &fs::Metadata) -> (u64, u64) {
    (data.dev(), data.ino())
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests {
    use std::os::unix::net::UnixListener;

    use super::*;

    fn bind(path: &Path) -> Result<AdminSocket, String> {
        AdminSocket::bind(&AdminAddress::Unix(path.to_owned())).map_err(|error| error.to_string())
    }

    #[test]
    fn a_socket_has_mode_0660_and_is_removed_on_drop() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("admin.sock");
        let bound = bind(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o660);
        let error = bind(&path).unwrap_err();
        assert!(error.contains("in use") && error.contains("admin.address") && error.contains("ss -lxp"), "{error}");
        assert!(path.exists(), "a live socket stays");
        drop(bound);
        assert!(!path.exists());
    }

    #[test]
    fn the_socket_of_a_process_that_has_ended_is_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("admin.sock");
        drop(UnixListener::bind(&path).unwrap());
        assert!(path.exists(), "left behind");
        assert!(bind(&path).is_ok());
    }

    #[test]
    fn a_file_that_is_not_a_socket_is_never_removed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("admin.sock");
        fs::write(&path, "precious").unwrap();
        let error = bind(&path).unwrap_err();
        assert!(error.contains("not a socket"), "{error}");
        assert_eq!(fs::read_to_string(&path).unwrap(), "precious");
        let error = bind(&folder.path().join("no/admin.sock")).unwrap_err();
        assert!(error.contains("folder does not exist"), "{error}");
    }

    #[test]
    fn the_socket_of_a_successor_is_not_removed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("admin.sock");
        let bound = bind(&path).unwrap();
        fs::remove_file(&path).unwrap();
        let successor = UnixListener::bind(&path).unwrap();
        drop(bound);
        assert!(path.exists());
        drop(successor);
    }
}
