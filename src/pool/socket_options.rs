//! The socket options that Pingora sets on a connection. Pingora cannot set them on a custom socket type.

use std::io;
use std::os::fd::AsFd;

use pingora_core::protocols::TcpKeepalive;
use pingora_core::protocols::l4::virt::VirtualSockOpt;

/// Sets an option that Pingora asks for. Unknown options are ignored.
pub(super) fn set_option(socket: &impl AsFd, option: VirtualSockOpt) -> io::Result<()> {
    match option {
        VirtualSockOpt::NoDelay => socket2::SockRef::from(socket).set_tcp_nodelay(true),
        VirtualSockOpt::KeepAlive(times) => keep_alive(socket, &times),
        _ => Ok(()),
    }
}

/// Sets the TCP keepalive times of a socket.
pub(super) fn keep_alive(socket: &impl AsFd, times: &TcpKeepalive) -> io::Result<()> {
    let keepalive = socket2::TcpKeepalive::new().with_time(times.idle).with_interval(times.interval);
    let keepalive = keepalive.with_retries(u32::try_from(times.count).unwrap_or(u32::MAX));
    socket2::SockRef::from(socket).set_tcp_keepalive(&keepalive)
}
