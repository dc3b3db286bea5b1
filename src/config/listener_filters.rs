//! The client filters of a configuration's listeners, by their socket.
//!
//! A connection survives reloads. Its socket identifies the listener, so its next request is checked by the filter of
//! the current configuration.

use std::path::Path;
use std::sync::Arc;

use super::client_filter::ClientFilter;
use super::listener_key::{ListenerKey, keyed};
use super::schema::ListenerConfig;

/// The filters, sorted by the keys of their listeners. A listener without `allow` and `deny` has none.
#[derive(Debug, Clone, Default)]
pub struct ListenerFilters(Box<[(ListenerKey, Arc<ClientFilter>)]>);

impl ListenerFilters {
    /// Compiles `allow` and `deny` of these listeners. `file` returns the content of a file.
    ///
    /// # Errors
    /// As for `ClientFilter::compile`.
    pub fn compile(listeners: &[ListenerConfig], file: &dyn Fn(&Path) -> Option<Vec<u8>>) -> Result<Self, String> {
        let mut filters = Vec::new();
        for (key, listener) in keyed(listeners) {
            let filter = ClientFilter::compile(&listener.allow, &listener.deny, file)?;
            filters.extend(filter.map(|filter| (key, Arc::new(filter))));
        }
        filters.sort_unstable_by_key(|(key, _)| *key);
        Ok(Self(filters.into()))
    }

    /// The filter of the listener with this socket.
    pub fn get(&self, key: &ListenerKey) -> Option<&Arc<ClientFilter>> {
        if self.0.is_empty() {
            return None;
        }
        let found = self.0.binary_search_by(|(known, _)| known.cmp(key)).ok()?;
        Some(&self.0[found].1)
    }
}
