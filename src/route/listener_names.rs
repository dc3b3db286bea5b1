//! What listeners are called in one configuration, by the socket that they own.
//!
//! A connection outlives reloads. Its socket identifies the listener, so a reload that renames the listener also renames it
//! for the connections that are open.

use crate::config::listener_key::{ListenerKey, keyed};
use crate::config::schema::ListenerConfig;

/// The names of a configuration's listeners, in the order of their keys.
#[derive(Debug, Default)]
pub struct ListenerNames(Box<[(ListenerKey, Box<str>)]>);

impl ListenerNames {
    /// Of these listeners.
    pub fn new(listeners: &[ListenerConfig]) -> Self {
        let named = |(key, listener): (ListenerKey, &ListenerConfig)| (key, listener.label().into());
        let mut names: Vec<_> = keyed(listeners).into_iter().map(named).collect();
        names.sort_unstable();
        Self(names.into())
    }

    /// What the listener with this socket is called; nothing where there is none any more.
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
    fn a_listener_is_told_by_its_socket() {
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
