//! Whether an address can be bound on this host, for `weir check`. An address that is in use passes.

use std::fs;
use std::io;
use std::net::{IpAddr, SocketAddr};

use super::{BindError, try_bind};

/// Ports below this number need a privilege, unless the kernel says otherwise.
const PRIVILEGED_PORTS: u16 = 1024;

/// A socket on the IP of a checked address, and on a port that the kernel chose.
#[derive(Debug)]
pub struct CheckedAddress(std::net::TcpListener);

impl CheckedAddress {
    /// Registers the socket with the reactor of the current runtime, as a listener does.
    ///
    /// # Errors
    /// A limit of the kernel.
    pub fn register(self) -> io::Result<()> {
        tokio::net::TcpListener::from_std(self.0).map(drop)
    }
}

/// Checks an address.
///
/// # Errors
/// This host lacks the IP, or this process may not bind the port.
pub fn check_address(address: SocketAddr) -> Result<CheckedAddress, BindError> {
    let failed = |source| BindError { address, source };
    let mut elsewhere = address;
    elsewhere.set_port(0);
    let bound = try_bind(elsewhere).map_err(failed)?;
    if address.port() != 0 && address.port() < first_unprivileged_port() {
        may_bind(address).map_err(failed)?;
    }
    Ok(CheckedAddress(bound.socket))
}

/// Whether an interface of this host has the IP.
pub fn is_local(ip: IpAddr) -> bool {
    std::net::UdpSocket::bind((ip, 0)).is_ok()
}

/// Binds the address without listening. The kernel checks the privilege before it looks whether the address is in use.
fn may_bind(address: SocketAddr) -> io::Result<()> {
    use socket2::{Domain, Socket, Type};
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    socket.set_reuse_address(true)?;
    match socket.bind(&address.into()) {
        Err(error) if error.kind() != io::ErrorKind::AddrInUse => Err(error),
        _ => Ok(()),
    }
}

fn first_unprivileged_port() -> u16 {
    let text = fs::read_to_string("/proc/sys/net/ipv4/ip_unprivileged_port_start");
    text.ok().and_then(|text| text.trim().parse().ok()).unwrap_or(PRIVILEGED_PORTS)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests {
    use super::*;

    #[test]
    fn an_address_in_use_passes_and_one_that_this_host_lacks_does_not() {
        let used = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        assert!(check_address(used.local_addr().unwrap()).is_ok());
        // TEST-NET-1 (RFC 5737): no host has it.
        let error = check_address("192.0.2.1:80".parse().unwrap()).unwrap_err().to_string();
        assert!(error.contains("192.0.2.1:80") && error.contains("no interface of this machine"), "{error}");
        assert!(is_local("127.0.0.1".parse().unwrap()) && !is_local("192.0.2.1".parse().unwrap()));
    }
}
