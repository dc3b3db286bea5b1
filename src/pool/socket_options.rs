//! Socket options of connections to backends.

use std::io;
use std::os::fd::AsFd;

use pingora_core::protocols::TcpKeepalive;

/// Sets the TCP keepalive times of a socket.
pub(super) fn keep_alive(socket: &impl AsFd, times: &TcpKeepalive) -> io::Result<()> {
    let keepalive = socket2::TcpKeepalive::new().with_time(times.idle).with_interval(times.interval);
    let keepalive = keepalive.with_retries(u32::try_from(times.count).unwrap_or(u32::MAX));
    socket2::SockRef::from(socket).set_tcp_keepalive(&keepalive)
}
