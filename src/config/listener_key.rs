//! Identity of a listener's socket across reloads. It does not depend on the name of the listener.

use std::net::SocketAddr;

use super::schema::ListenerConfig;

/// The configured address of a listener, and its index among the listeners with the same address (port 0 may repeat).
pub type ListenerKey = (SocketAddr, usize);

/// Each listener with its key.
pub fn keyed(listeners: &[ListenerConfig]) -> Vec<(ListenerKey, &ListenerConfig)> {
    let place = |i: usize| listeners[..i].iter().filter(|other| other.address == listeners[i].address).count();
    listeners.iter().enumerate().map(|(i, listener)| ((listener.address, place(i)), listener)).collect()
}
