//! Which socket a listener owns: what identifies it over reloads, whatever it is called.

use std::net::SocketAddr;

use super::schema::ListenerConfig;

/// A listener's configured address, and its place among those with an equal one (port 0 may repeat).
pub type ListenerKey = (SocketAddr, usize);

/// Each listener with its key.
pub fn keyed(listeners: &[ListenerConfig]) -> Vec<(ListenerKey, &ListenerConfig)> {
    let place = |i: usize| listeners[..i].iter().filter(|other| other.address == listeners[i].address).count();
    listeners.iter().enumerate().map(|(i, listener)| ((listener.address, place(i)), listener)).collect()
}
