//! Addresses that stay free until a test uses them: the system gives ports of its own range to every socket that asks for
//! none, so one that was free a moment ago may be another test's by now.

use std::net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::sync::atomic::{AtomicU32, Ordering};

/// Below them are ports of well-known services.
const LOWEST: u32 = 10_000;

/// An address on loopback where nobody listens, and that nobody is given by chance.
pub fn spare() -> SocketAddr {
    static TAKEN: AtomicU32 = AtomicU32::new(0);
    let (ports, mine) = (lowest_of_the_system() - LOWEST, std::process::id().wrapping_mul(997));
    let free = |_| {
        let port = LOWEST + mine.wrapping_add(TAKEN.fetch_add(1, Ordering::Relaxed)) % ports;
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, u16::try_from(port).unwrap()));
        (TcpListener::bind(address).is_ok() && UdpSocket::bind(address).is_ok()).then_some(address)
    };
    (0..ports).find_map(free).expect("a free port below those of the system")
}

/// Where its range begins (`ip_local_port_range`, ip(7)).
fn lowest_of_the_system() -> u32 {
    let range = std::fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").unwrap();
    range.split_whitespace().next().unwrap().parse().unwrap()
}
