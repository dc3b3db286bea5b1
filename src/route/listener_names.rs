//! The names of listeners in one configuration, by their socket.
//!
//! A connection survives reloads. Its socket identifies the listener, so a reload that renames the listener also
//! renames it for open connections.

use crate::config::listener_key::{ListenerKey, keyed};
use crate::config::schema::ListenerConfig;

/// The names of a configuration's listeners, sorted by their keys.
#[derive(Debug, Default)]
pub struct ListenerNames(Box<[(ListenerKey, Box<str>)]>);

impl ListenerNames {
    /// Collects the names of these listeners.
    pub fn new(listeners: &[ListenerConfig]) -> Self {
        let named = |(key, listener): (ListenerKey, &ListenerConfig)| (key, listener.label().into());
        let mut names: Vec<_> = keyed(listeners).into_iter().map(named).collect();
        names.sort_unstable();
        Self(names.into())
    }

    /// The name of the listener with this socket. `None` if the listener no longer exists.
    pub fn get(&self, key: &ListenerKey) -> Option<&str> {
        let found = self.0.binary_search_by(|(known, _)| known.cmp(key)).ok()?;
        Some(&self.0[found].1)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_listener_is_identified_by_its_socket() {
        let yaml =
            "[{ name: b, address: '127.0.0.1:0' }, { address: '[::1]:80' }, { name: a, address: '127.0.0.1:0' }]";
        let listeners: Vec<ListenerConfig> = serde_yaml::from_str(yaml).unwrap();
        let names = ListenerNames::new(&listeners);
        let key = |address: &str, place| (address.parse().unwrap(), place);
        assert_eq!(names.get(&key("127.0.0.1:0", 0)), Some("b"));
        assert_eq!(names.get(&key("127.0.0.1:0", 1)), Some("a"));
        assert_eq!(names.get(&key("[::1]:80", 0)), Some("[::1]:80"));
        assert_eq!(names.get(&key("127.0.0.1:80", 0)), None);
    }
}
